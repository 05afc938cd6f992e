package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab"
	"ocim/config"
	"ocim/internal/clock"
	"ocim/ops"
	"ocim/templates"
)

func checkCommand() *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "check the configuration and print what is in force", Args: noArgs}
	path := configFlag(c)
	connect := c.Flags().Bool("connect", false, "also try every connection; nothing is changed anywhere")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(*path)
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		if err := cfg.Print(out); err != nil {
			return err
		}
		for _, w := range cfg.Warnings {
			_, _ = fmt.Fprintln(out, "warning:", w)
		}
		if _, err := chat.LoadTemplates(templates.FS, cfg.Templates); err != nil {
			return fmt.Errorf("%w: templates: %w", errUsage, err)
		}
		if _, err := projects(cfg); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		s, m, err := buildChats(cfg)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if *connect {
			return tryConnections(c.Context(), cfg, chatTries(cfg, s, m), out)
		}
		return nil
	}
	return c
}

// connectTimeout bounds one try.
const connectTimeout = 10 * time.Second

// tryConnections asks every peer one harmless question and prints one line for each.
func tryConnections(ctx context.Context, cfg *config.Config, chats []connectionTry, out io.Writer) error {
	gl, err := gitlab.New(gitlab.Config{Projects: gitlabProjects(cfg), Rates: gitlabRates(cfg), Timeout: connectTimeout, Clock: clock.System{}})
	if err != nil {
		return err
	}
	failed := 0
	try := func(what string, f func(context.Context) (string, error)) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		said, err := f(ctx)
		if err == nil {
			_, _ = fmt.Fprintf(out, "ok      %s%s\n", what, said)
			return
		}
		failed++
		_, _ = fmt.Fprintf(out, "FAILED  %s: %s (%s)\n", what, ops.UserMsg(err), ops.ReasonOf(err))
		var e *ops.Error
		if errors.As(err, &e) && e.Next != "" {
			_, _ = fmt.Fprintf(out, "        %s\n", e.Next)
		}
	}
	for _, p := range cfg.Projects {
		try("gitlab project "+p.Name, func(ctx context.Context) (string, error) {
			at, err := gl.Probe(ctx, p.Name)
			return fmt.Sprintf(", clock %s apart", at.Sub(clock.System{}.Now()).Round(time.Second)), err
		})
	}
	for _, c := range cfg.Clusters {
		if c.InstancesFrom != "" {
			try("instances of "+c.Name, func(ctx context.Context) (string, error) {
				names, err := gl.Instances(ctx, c.Project, c.InstancesFrom)
				return fmt.Sprintf(": %d", len(names)), err
			})
		}
	}
	for _, t := range chats {
		try(t.what, t.ask)
	}
	if failed > 0 {
		return fmt.Errorf("%d of the connections failed", failed)
	}
	return nil
}

type connectionTry struct {
	what string
	ask  func(context.Context) (string, error)
}
