//go:build e2e

// Package mattermost holds the tests against a real Mattermost server.
package mattermost

import (
	"testing"

	"ocim/adapters/mattermost/mattermosttest"
	"ocim/e2e/mattermost/rig"
)

func TestRealServerKeepsTheContract(t *testing.T) {
	t.Parallel()
	server := rig.Start(t)
	mattermosttest.RunContract(t, server.Peer)
}
