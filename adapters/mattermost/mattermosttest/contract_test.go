package mattermosttest_test

import (
	"testing"
	"time"

	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/clock"
)

func TestFakeKeepsTheContract(t *testing.T) {
	t.Parallel()
	mattermosttest.RunContract(t, func(tb testing.TB) *mattermosttest.Peer {
		tb.Helper()
		c := clock.NewFake(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
		return mattermosttest.New(tb, mattermosttest.Options{Clock: c, Guarded: true, AllowedInternal: "127.0.0.1"}).Peer(tb)
	})
}
