//go:build e2e

package chaos

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLostDatabaseIsFilledAgainFromGitLab kills the program while a deploy runs and throws its
// database away. What the pipeline carries is enough to find operation, channel and card again: the
// same card tells the end, and nothing is started or posted twice.
func TestLostDatabaseIsFilledAgainFromGitLab(t *testing.T) {
	t.Parallel()
	w, err := newWorld(t, setup{seed: seed(t), instances: 1, findable: 1, grove: true, timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.bot.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := w.request()
	if err := w.ask(t.Context(), r, 0); err != nil || r.Said != Accepted {
		t.Fatalf("deploy: got %v, %v, want it accepted", r.Said, err)
	}
	if err := w.started(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	running := func() bool {
		return slices.ContainsFunc(w.history().Messages, func(m Message) bool { return strings.Contains(m.Summary, ": running") })
	}
	if err := w.chats[0].Until(ctx, running); err != nil {
		t.Fatalf("wait for the card: %v", err)
	}
	if err := w.bot.Kill(); err != nil {
		t.Fatal(err)
	}
	w.kills++
	files, err := filepath.Glob(w.bot.Database() + "*")
	if err != nil || len(files) == 0 {
		t.Fatalf("the database: got files %v, %v", files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.bot.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, took, err := w.finish(t.Context())
	if err != nil {
		t.Error(err)
	}
	w.report(t, v, took)
	if v.Duplicates > 0 {
		t.Errorf("got %d duplicates, want none", v.Duplicates)
	}
}
