package notifier_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocim/internal/logtest"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/internal/clock"
	"ocim/notifier"
	"ocim/ops"
	"ocim/store"
	"ocim/templates"
)

// rig is a Notifier on the real store, a chat in memory and a clock that a test moves. Nothing runs
// by itself: the test writes what happens to operations and calls Deliver as the queue would.
type rig struct {
	t        *testing.T
	clock    *clock.Fake
	chat     *chattest.Platform
	store    *store.Store
	notifier *notifier.Notifier
	log      *logtest.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewFake(start()), chat: chattest.NewPlatform("fake"), log: &logtest.Buffer{}}
	var err error
	if r.store, err = store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "ocim.db"), Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.store.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	r.restart()
	return r
}

// restart makes a Notifier that knows nothing but what is on disk, as after a crash.
func (r *rig) restart() {
	r.t.Helper()
	text, err := chat.LoadTemplates(templates.FS, "")
	if err != nil {
		r.t.Fatal(err)
	}
	r.notifier = notifier.New(notifier.Config{
		Store: r.store, Platforms: map[string]chat.Platform{"fake": r.chat}, Templates: text, Signer: signer(r.t), Clock: r.clock,
		Log: slog.New(slog.NewTextHandler(r.log, nil)), Unverified: func(ops.Operation) bool { return false },
	})
}

func signer(t *testing.T) *ops.Signer {
	t.Helper()
	s, err := ops.NewSigner([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// begin records a new operation that owes a card.
func (r *rig) begin(id string) {
	r.t.Helper()
	who := ops.Actor{Platform: "fake", Workspace: "main", UserID: "U-ANN"}
	op := ops.Operation{
		ID: id, State: ops.Requested, Run: 1, RunBy: who, RunByName: "Ann", Key: strings.Repeat("0", 32-len(id)) + id, Number: int64(len(id)) + r.clock.Now().UnixNano(),
		Request: ops.Request{
			Key: "request-" + id, Actor: who, ActorName: "Ann", Action: "deploy", Target: ops.Target{Cluster: "eu", Instance: "demo-" + id},
			From: ops.Conversation{Platform: "fake", Workspace: "main", Channel: "ops"},
		},
		CreatedAt: r.clock.Now(), RunAt: r.clock.Now(), ChangedAt: r.clock.Now(),
	}
	r.update(func(tx ops.Tx) error {
		n, err := tx.NextNumber(r.t.Context(), 1)
		if err != nil {
			return err
		}
		op.Number = n
		if err := tx.Create(r.t.Context(), op, nil); err != nil {
			return err
		}
		return tx.PutDelivery(r.t.Context(), ops.Delivery{Operation: id, Kind: ops.DeliverCard, To: op.Request.From, Key: id + ".card.0"})
	})
}

func (r *rig) update(f func(ops.Tx) error) {
	r.t.Helper()
	if err := r.store.Update(r.t.Context(), f); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) owed(id string) (ds []ops.Delivery) {
	r.t.Helper()
	err := r.store.View(r.t.Context(), func(rd ops.Reader) (err error) {
		ds, err = rd.Deliveries(r.t.Context(), id)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return ds
}

// change writes what happened to an operation, and owes what the domain owes for it: at the end of
// a run a word in the thread, and the log if it failed.
func (r *rig) change(id string, f func(*ops.Operation)) {
	r.t.Helper()
	r.update(func(tx ops.Tx) error {
		op, err := tx.Operation(r.t.Context(), id)
		if err != nil {
			return err
		}
		was := op.State
		f(&op)
		op.ChangedAt = r.clock.Now()
		if op.State.Final() {
			op.FinishedAt = r.clock.Now()
		}
		if err := tx.Move(r.t.Context(), op, nil); err != nil {
			return err
		}
		if !op.State.Final() || was.Final() {
			return nil
		}
		kinds := []ops.DeliveryKind{ops.DeliverEnd}
		if op.Failure != nil {
			kinds = append(kinds, ops.DeliverLog)
		}
		for _, k := range kinds {
			d := ops.Delivery{Operation: id, Run: op.Run, Kind: k, To: op.Request.From, Key: id + "." + string(k), Snapshot: &op}
			if err := tx.PutDelivery(r.t.Context(), d); err != nil {
				return err
			}
		}
		return nil
	})
}

func running(done, total int) func(*ops.Operation) {
	return func(op *ops.Operation) {
		op.State, op.StartedAt, op.Project = ops.Running, op.RunAt, "grove"
		op.Pipelines = []ops.Pipeline{{
			Ref: ops.PipelineRef{Project: "grove", ID: 7}, Role: ops.RoleRoot, Status: "running", URL: "https://gitlab.example/p/7",
			Jobs: ops.Jobs{Done: done, Total: total, Running: "build", Stage: "build"},
		}}
	}
}

func ended(s ops.State) func(*ops.Operation) {
	return func(op *ops.Operation) {
		op.State = s
		for i := range op.Pipelines {
			op.Pipelines[i].Status = "success"
		}
		if s == ops.Failed {
			op.Reason = ops.ReasonJobFailed
			op.Failure = &ops.Failure{Job: "build", Stage: "build", Reason: "script_failure", URL: "https://gitlab.example/j/1", Tail: "one\ntwo", Last: "two"}
		}
	}
}

// deliver calls Deliver once.
func (r *rig) deliver(id string) time.Time {
	r.t.Helper()
	again, err := r.notifier.Deliver(r.t.Context(), id)
	if err != nil {
		r.t.Fatalf("deliver %s: %v", id, err)
	}
	return again
}

// settle calls Deliver as often as it asks for within d, and lets that time pass.
func (r *rig) settle(id string, d time.Duration) {
	r.t.Helper()
	end := r.clock.Now().Add(d)
	for range 1000 {
		again := r.deliver(id)
		if again.IsZero() || again.After(end) {
			r.clock.Advance(end.Sub(r.clock.Now()))
			return
		}
		r.clock.Advance(max(0, again.Sub(r.clock.Now())))
	}
	r.t.Fatalf("deliver %s is called again and again: %d posts, %d edits", id, r.chat.Calls("post"), r.chat.Calls("update"))
}

// cards are the messages that are no replies.
func (r *rig) cards() []chattest.Sent {
	var out []chattest.Sent
	for _, s := range r.chat.Sent() {
		if s.To.Thread == "" {
			out = append(out, s)
		}
	}
	return out
}

func (r *rig) card() chattest.Sent {
	r.t.Helper()
	cards := r.cards()
	if len(cards) != 1 {
		r.t.Fatalf("got %d cards, want 1", len(cards))
	}
	return cards[0]
}

func (r *rig) replies() []chattest.Sent {
	var out []chattest.Sent
	for _, s := range r.chat.Sent() {
		if s.To.Thread != "" {
			out = append(out, s)
		}
	}
	return out
}
