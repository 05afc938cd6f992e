package mattermost

import (
	"context"
	"errors"
	"fmt"
)

// Check asks every server once who the bot is there, and returns all that is wrong. It changes
// nothing.
func (a *Adapter) Check(ctx context.Context) error {
	var errs []error
	for _, s := range a.servers {
		if _, err := s.me(ctx); err != nil {
			errs = append(errs, fmt.Errorf("mattermost server %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}
