package notifier

import (
	"testing"
	"time"

	"ocim/ops"
)

func TestGateLetsOnePostIntoEachWorkspace(t *testing.T) {
	t.Parallel()
	var g gate
	in := func(workspace, channel string) ops.Conversation {
		return ops.Conversation{Platform: "slack", Workspace: workspace, Channel: channel}
	}
	leave, _, ok := g.enter(in("T1", "C1"))
	if !ok {
		t.Fatal("an open gate: got no entry")
	}
	var last time.Duration
	for range 100 { // each has a turn of its own, and none waits for ever
		_, wait, ok := g.enter(in("T1", "C2"))
		if ok || wait <= last && last < gateMost || wait > gateMost {
			t.Fatalf("another channel of the workspace: got entry %t and wait %s after %s while a post is on its way", ok, wait, last)
		}
		last = wait
	}
	other, _, ok := g.enter(in("T2", "C1"))
	if !ok {
		t.Error("another workspace: got no entry")
	}
	leave()
	if again, _, ok := g.enter(in("T1", "C2")); !ok {
		t.Error("after the post: got no entry")
	} else {
		again()
	}
	other()
	if len(g.waiting) != 0 {
		t.Errorf("got %d workspaces remembered when nothing is on its way, want none", len(g.waiting))
	}
}
