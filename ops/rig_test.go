package ops_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ocim/internal/clock"
	"ocim/ops"
	"ocim/ops/opstest"
	"ocim/store"
)

// rights is a policy that a test can change.
type rights struct {
	mu    sync.Mutex
	taken map[string]bool // user ids and "user permission"
}

func (r *rights) Allowed(a ops.Actor, p ops.Permission) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return a.UserID != "" && a.UserID != "mallory" && !r.taken[a.UserID] && !r.taken[a.UserID+" "+string(p)]
}

func (r *rights) take(from string) { r.mu.Lock(); r.taken[from] = true; r.mu.Unlock() }

// rig is a Service on the real store, a fake clock and a GitLab in memory. Nothing runs by itself.
type rig struct {
	t       *testing.T
	clock   *clock.Fake
	lab     *opstest.Lab
	store   *store.Store
	rights  *rights
	service *ops.Service
	keys    int
}

func plainAction() ops.Action { return ops.Action{Verb: "deploy", Start: ops.StartTrigger} }

func newRig(t *testing.T, actions ...ops.Action) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewFake(noon), rights: &rights{taken: map[string]bool{}}}
	r.lab = opstest.NewLab(r.clock)
	r.lab.SetInstances("grove", "demo", "shop")
	var err error
	r.store, err = store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "ocim.db"), Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.store.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	signer, err := ops.NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	if len(actions) == 0 {
		actions = []ops.Action{plainAction()}
	}
	r.service = ops.NewService(ops.Config{
		Store: r.store, Pipelines: r.lab, Repos: r.lab, Fleet: r.fleet(actions...), Policy: r.rights, Signer: signer,
		Clock: r.clock, Log: slog.New(slog.DiscardHandler), Random: seeded(7),
	})
	return r
}

// seeded is a source of random bytes that a test can have again.
func seeded(seed uint64) io.Reader {
	return rand.NewChaCha8([32]byte{byte(seed)})
}

func (r *rig) fleet(actions ...ops.Action) *ops.Fleet {
	verbs := map[string]ops.Action{}
	for _, a := range actions {
		verbs[a.Verb] = a
	}
	return ops.NewFleet(
		[]ops.Project{{Name: "grove", GitRef: "main", Actions: verbs}},
		[]ops.Cluster{{Name: "eu", Project: "grove", Folder: "instances"}}, r.lab, r.clock)
}

func (r *rig) key() string { r.keys++; return fmt.Sprintf("key-%d", r.keys) }

func actor(user string) ops.Actor { return ops.Actor{Platform: "fake", Workspace: "W1", UserID: user} }

func (r *rig) request(instance string) ops.Request {
	return ops.Request{
		Key: r.key(), Actor: actor("alice"), ActorName: "Alice", Action: "deploy", Target: ops.Target{Cluster: "eu", Instance: instance},
		From: ops.Conversation{Platform: "fake", Workspace: "W1", Channel: "C1"},
	}
}

func (r *rig) submit(instance string) string {
	r.t.Helper()
	op, err := r.service.Submit(r.t.Context(), r.request(instance))
	if err != nil {
		r.t.Fatal(err)
	}
	return op.ID
}

func (r *rig) op(id string) ops.Operation {
	r.t.Helper()
	var op ops.Operation
	if err := r.store.View(r.t.Context(), func(rd ops.Reader) (err error) {
		op, err = rd.Operation(r.t.Context(), id)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return op
}

func (r *rig) all() []ops.Operation {
	r.t.Helper()
	var all []ops.Operation
	if err := r.store.View(r.t.Context(), func(rd ops.Reader) (err error) {
		all, err = rd.Operations(r.t.Context(), ops.Filter{})
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return all
}

func (r *rig) deliveries(id string) []ops.Delivery {
	r.t.Helper()
	var ds []ops.Delivery
	if err := r.store.View(r.t.Context(), func(rd ops.Reader) (err error) {
		ds, err = rd.Deliveries(r.t.Context(), id)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return ds
}

// settle does all that is due now.
func (r *rig) settle() {
	r.t.Helper()
	n, err := r.store.Drain(r.t.Context(), ops.JobAdvance, func(ctx context.Context, id string) (time.Time, error) {
		again, err := r.service.Advance(ctx, id)
		if err != nil {
			r.t.Errorf("advance %s: %v", id, err)
		}
		return again, err
	})
	if err != nil || n > 1000 {
		r.t.Fatalf("drained %d jobs: %v", n, err)
	}
}

// pass lets time go by and does what becomes due.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	r.settle()
	for ; d > 0; d -= time.Second {
		r.clock.Advance(min(time.Second, d))
		r.settle()
	}
}

// state checks where an operation stands.
func (r *rig) state(id string, want ops.State, reason ops.Reason) ops.Operation {
	r.t.Helper()
	op := r.op(id)
	if op.State != want || op.Reason != reason {
		r.t.Fatalf("operation %s: got %s (%s) %q, want %s (%s)", id, op.State, op.Reason, op.Detail, want, reason)
	}
	return op
}

// to brings a new operation on demo into a state.
func (r *rig) to(s ops.State) string {
	r.t.Helper()
	switch s { //nolint:exhaustive // the others need nothing beforehand
	case ops.Queued:
		r.lab.Fail("probe", opstest.Fault{Err: away()}, opstest.Fault{Err: away()}, opstest.Fault{Err: away()}, opstest.Fault{Err: away()})
	case ops.Starting:
		r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true})
		r.lab.Hide(true)
	case ops.Refused:
		r.lab.SetInstances("grove", "shop")
	case ops.Expired:
		r.lab.Fail("probe", opstest.Fault{Err: away()}, opstest.Fault{Err: away()}, opstest.Fault{Err: away()}, opstest.Fault{Err: away()})
	}
	id := r.submit("demo")
	if s == ops.Requested {
		return id
	}
	r.pass(3 * time.Second)
	if s == ops.Expired {
		r.clock.Advance(2 * time.Hour)
		r.settle()
	}
	if roots, _ := r.lab.Roots(); len(roots) == 1 {
		root := roots[0].Ref.ID
		if word, ok := map[ops.State]string{
			ops.Running: "running", ops.Blocked: "manual", ops.Succeeded: "success", ops.Failed: "failed", ops.Canceled: "canceled",
		}[s]; ok {
			r.lab.SetStatus(root, word)
		}
		if s == ops.Canceling {
			if _, err := r.service.Cancel(r.t.Context(), id, 0, actor("alice"), r.key()); err != nil {
				r.t.Fatal(err)
			}
		}
		if s != ops.Starting {
			r.pass(6 * time.Second)
		}
	}
	if got := r.op(id); got.State != s {
		r.t.Fatalf("got %s (%s) %q, want %s", got.State, got.Reason, got.Detail, s)
	}
	return id
}
