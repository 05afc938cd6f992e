package notifier

import (
	"testing"

	"ocim/ops"
)

func TestGateLetsOnePostIntoEachWorkspace(t *testing.T) {
	t.Parallel()
	var g gate
	in := func(workspace, channel string) ops.Conversation {
		return ops.Conversation{Platform: "slack", Workspace: workspace, Channel: channel}
	}
	leave, ok := g.enter(in("T1", "C1"))
	if !ok {
		t.Fatal("an open gate: got no entry")
	}
	if _, ok := g.enter(in("T1", "C2")); ok {
		t.Error("another channel of the workspace: got entry while a post is on its way")
	}
	other, ok := g.enter(in("T2", "C1"))
	if !ok {
		t.Error("another workspace: got no entry")
	}
	leave()
	if again, ok := g.enter(in("T1", "C2")); !ok {
		t.Error("after the post: got no entry")
	} else {
		again()
	}
	other()
	if len(g.busy) != 0 {
		t.Errorf("got %d workspaces remembered when nothing is on its way, want none", len(g.busy))
	}
}
