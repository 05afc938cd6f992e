package main

import (
	"context"

	"github.com/spf13/cobra"

	"ocim/config"
)

func setupCommand() *cobra.Command {
	return &cobra.Command{Use: "setup", Short: "print what to set up in Slack, Mattermost and GitLab", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return nil }}
}

func chatTries(*config.Config) []connectionTry { _ = context.Background; return nil }
