package gitlabtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
)

// kept is a world at an instant that keeps its journal at path.
func kept(t *testing.T, path string, at time.Time, speed float64) *world {
	t.Helper()
	w := keepable(t, at, speed)
	if err := w.Keep(path); err != nil {
		t.Fatal(err)
	}
	return w
}

func keepable(t *testing.T, at time.Time, speed float64) *world {
	t.Helper()
	clk := clock.NewFake(at)
	w := newWorld(t, func(o *gitlabtest.Options) { o.Clock, o.Speed = clk, speed })
	w.clock = clk
	w.Override(42, gitlabtest.Override{Instance: "demo", Operations: 1, FailJob: "init"})
	return w
}

func TestPipelinesOutliveTheServer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gitlab.jsonl")
	w := kept(t, path, start(), 1)
	first := w.trigger("demo", "1", "key-1")
	w.pass(40 * time.Minute)
	w.want(201, "POST", "projects/42/pipelines/"+itoa(first+3)+"/retry", writeToken, nil, nil)
	campus := w.trigger("campus", "2", "key-2")
	plain := w.run43()
	w.pass(70 * time.Second)
	w.want(200, "POST", "projects/43/pipelines/"+itoa(plain)+"/cancel", writeToken, nil, nil)
	w.want(400, "POST", "projects/42/trigger/pipeline", "", map[string]any{"token": triggerToken}, nil)
	w.pass(time.Second)
	w.Close()
	if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), triggerToken) || strings.Contains(string(raw), writeToken) {
		t.Errorf("got journal %s (%v), want one without secrets", raw, err)
	}

	again := kept(t, path, w.clock.Now(), 1)
	for _, project := range []int64{42, 43} {
		if d := cmp.Diff(again.Pipelines(project), w.Pipelines(project)); d != "" {
			t.Errorf("pipelines of %d right after the start (-got +want):\n%s", project, d)
		}
	}
	if d := cmp.Diff(again.Keys(), w.Keys()); d != "" {
		t.Errorf("keys (-got +want):\n%s", d)
	}
	w.pass(time.Hour)
	again.pass(time.Hour)
	if d := cmp.Diff(again.Pipelines(42), w.Pipelines(42)); d != "" {
		t.Errorf("pipelines an hour later (-got +want):\n%s", d)
	}
	if got := again.status(campus); got != "success" {
		t.Errorf("got %s, want the deploy that was under way to end", got)
	}
	// What the second server is asked is kept as well, and no id is given out twice.
	next := again.trigger("demo", "3", "key-3")
	again.Close()
	third := kept(t, path, again.clock.Now().Add(time.Hour), 1)
	if p, err := third.Pipeline(next); err != nil || p.Instance != "demo" || p.Status != "success" {
		t.Errorf("got %+v, %v, want the pipeline of the second server, over", p, err)
	}
	if id := third.trigger("demo", "4", "key-4"); id <= next {
		t.Errorf("got pipeline %d after %d, want a higher id", id, next)
	}
}

// run43 starts a pipeline of project 43.
func (w *world) run43() int64 {
	w.t.Helper()
	var p struct{ ID int64 }
	w.want(201, "POST", "projects/43/trigger/pipeline", "", map[string]any{"ref": "main", "token": "glptt-plain"}, &p)
	return p.ID
}

func TestJournalFollowsTheSpeed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gitlab.jsonl")
	w := kept(t, path, start(), 60)
	slow := w.run43()
	w.pass(30 * time.Second)
	w.Close()
	again := kept(t, path, w.clock.Now(), 1)
	if d := cmp.Diff(again.Pipelines(43), w.Pipelines(43)); d != "" {
		t.Errorf("what ran at the old speed (-got +want):\n%s", d)
	}
	fresh := again.run43()
	again.pass(30 * time.Second)
	if a, b := again.status(slow), again.status(fresh); a != "manual" || b != "running" {
		t.Errorf("got %s and %s, want manual and, at the new speed, running", a, b)
	}
	again.Close()
	third := kept(t, path, again.clock.Now(), 1)
	if d := cmp.Diff(third.Pipelines(43), again.Pipelines(43)); d != "" {
		t.Errorf("after two speeds (-got +want):\n%s", d)
	}
}

func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	const head = `{"at":"2026-05-04T10:00:00Z","speed":1}` + "\n"
	const trigger = `{"at":"2026-05-04T10:00:01Z","method":"POST","path":"/api/v4/projects/43/trigger/pipeline","body":{"ref":"main","token":"***"}}`
	tests := []struct {
		name, text, err string
		pipelines       int
	}{
		{"none", "", "", 0},
		{"whole", head + trigger + "\n", "", 1},
		{"cut short", head + trigger + "\n" + trigger[:50], "", 1},
		{"not JSON", head + "what\n" + trigger + "\n", "line 2", 0},
		{"a request that is not kept", head + `{"at":"2026-05-04T10:00:01Z","method":"GET","path":"/api/v4/version"}` + "\n", "line 2: GET", 0},
		{"another project", head + strings.ReplaceAll(trigger, "43", "99") + "\n", "no such project", 0},
		{"a request that is refused", head + strings.ReplaceAll(trigger, "main", "gone") + "\n", "got status 400", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "gitlab.jsonl")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			w := keepable(t, start().Add(time.Minute), 1)
			err := w.Keep(path)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("got error %v, want %q", err, tt.err)
			}
			if tt.err != "" {
				return
			}
			w.run43()
			w.Close()
			if got := len(kept(t, path, w.clock.Now(), 1).Pipelines(43)); got != tt.pipelines+1 {
				t.Errorf("got %d pipelines, want %d and a new one", got, tt.pipelines)
			}
		})
	}
}
