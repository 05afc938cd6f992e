package mattermost

import "context"

// Check asks a server once who the bot is there. It changes nothing.
func (a *Adapter) Check(ctx context.Context, workspace string) error {
	s, err := a.server(workspace)
	if err != nil {
		return err
	}
	_, err = s.me(ctx)
	return err
}
