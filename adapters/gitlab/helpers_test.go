package gitlab_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ocim/internal/logtest"

	"ocim/adapters/gitlab"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

const (
	readToken    = "glpat-canary-read-token"
	writeToken   = "glpat-canary-write-token"
	triggerToken = "glptt-canary-trigger-token"
	key          = "0123456789abcdef0123456789abcdef"
)

// world is an Adapter over a simulated GitLab: the Grove project cluster (42) and the plain project
// plain (43), on a clock that stands still.
type world struct {
	*gitlab.Adapter

	server *gitlabtest.Server
	clock  *clock.Fake
	log    *logBuffer
	t      *testing.T
}

// Find returns the first of what the adapter finds.
func (w *world) Find(ctx context.Context, s ops.PipelineSpec) (ops.Pipeline, bool, error) {
	found, err := w.Adapter.Find(ctx, s, nothingKnown)
	if len(found) == 0 {
		return ops.Pipeline{}, false, err
	}
	return found[0], true, err
}

func start() time.Time { return time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC) }

func newWorld(t *testing.T, change ...func(*gitlab.Config)) *world {
	t.Helper()
	clk := clock.NewFake(start())
	s := gitlabtest.New(gitlabtest.Options{Clock: clk, Seed: 1})
	tokens := []gitlabtest.Token{
		{Value: readToken, User: "grove-bot", Role: gitlabtest.Developer, Scopes: []string{"read_api"}},
		{Value: writeToken, User: "grove-bot", Role: gitlabtest.Developer},
	}
	s.AddProject(gitlabtest.Project{
		ID: 42, Path: "opencraft/cluster", TriggerToken: triggerToken, TriggerOwner: "grove-bot",
		Instances: []string{"demo", "campus"}, Behaviour: gitlabtest.Grove(), Tokens: tokens,
	})
	s.AddProject(gitlabtest.Project{
		ID: 43, Path: "opencraft/plain", TriggerToken: "glptt-canary-plain", TriggerOwner: "grove-bot", Tokens: tokens,
		Inputs: []gitlabtest.Input{{Name: "ocim_key", Default: new(string)}},
		Behaviour: gitlabtest.Plain(gitlabtest.Script{
			Name: "deploy [$[[ inputs.ocim_key ]]]",
			Stages: []gitlabtest.Stage{
				{Name: "build", Jobs: []gitlabtest.Job{{Name: "build", Duration: time.Minute}}},
				{Name: "release", Jobs: []gitlabtest.Job{{Name: "release", Manual: true, Duration: time.Minute}}},
			},
		}),
	})
	if err := s.Start(""); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(s.Close)
	logs := &logBuffer{}
	cfg := gitlab.Config{
		Projects: map[string]gitlab.Project{
			"cluster": {
				BaseURL: s.URL(), ID: 42, Ref: "main", Token: secret.New(readToken),
				WriteToken: secret.New(writeToken), TriggerToken: secret.New(triggerToken),
			},
			"plain": {
				BaseURL: s.URL() + "/", ID: 43, Ref: "main", Token: secret.New(readToken),
				WriteToken: secret.New(writeToken),
			},
		},
		// The limiter waits on a clock that nobody moves.
		Clock: clk, Logger: slog.New(slog.NewTextHandler(logs, nil)), Rate: 1000, Burst: 10_000,
	}
	for _, c := range change {
		c(&cfg)
	}
	return &world{Adapter: newAdapter(t, cfg), server: s, clock: clk, log: logs, t: t}
}

func newAdapter(t *testing.T, cfg gitlab.Config) *gitlab.Adapter {
	t.Helper()
	a, err := gitlab.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return a
}

// spec is what a deploy of demo sends.
func spec() ops.PipelineSpec {
	return ops.PipelineSpec{
		Project: "cluster", Start: ops.StartTrigger, GitRef: "main",
		Variables:    map[string]string{"INSTANCE_NAME": "demo", "DEPLOYMENT_REQUEST_ID": "1731", "NEW_INSTANCE_TRIGGER": "1"},
		Payload:      map[string]string{"ocim_key": key, "ocim_ref": "sealed-reference"},
		Key:          key,
		CreatedAfter: start(),
	}
}

func tree(root ops.PipelineRef, known ...ops.Pipeline) ops.TreeSpec {
	return ops.TreeSpec{
		Root: root, Known: known, Follow: ops.FollowMergeRequest,
		Target: ops.Target{Cluster: "cluster", Instance: "demo"}, Number: 1731,
	}
}

func (w *world) create(s ops.PipelineSpec) ops.Pipeline {
	w.t.Helper()
	p, err := w.Create(w.t.Context(), s)
	if err != nil {
		w.t.Fatalf("Create: %v", err)
	}
	return p
}

func (w *world) tree(s ops.TreeSpec) ops.Snapshot {
	w.t.Helper()
	snap, err := w.Tree(w.t.Context(), s)
	if err != nil {
		w.t.Fatalf("Tree: %v", err)
	}
	return snap
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// opsError is err as the domain sees it.
func opsError(t *testing.T, err error) *ops.Error {
	t.Helper()
	var e *ops.Error
	if !errors.As(err, &e) {
		t.Fatalf("error: got %v, want an *ops.Error", err)
	}
	return e
}

// logBuffer collects log lines.
type logBuffer struct{ logtest.Buffer }

func (l *logBuffer) lines() int { return strings.Count(l.String(), "\n") }

// short is a context for a call that must end by itself long before.
func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
