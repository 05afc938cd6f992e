package ops_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ocim/ops"
	"ocim/ops/opstest"
)

// unknown is an operation of which nobody knows whether it has a pipeline: it has one, which GitLab
// does not show.
func (r *rig) unknown() string {
	r.t.Helper()
	r.lab.Hide(true)
	r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true}, opstest.Fault{Err: away()})
	id := r.submit("demo")
	r.pass(4 * time.Minute)
	r.state(id, ops.Failed, ops.ReasonOutcomeUnknown)
	return id
}

func (r *rig) retry(id string) {
	r.t.Helper()
	if _, err := r.service.Retry(r.t.Context(), id, 0, actor("alice"), "Alice", r.key()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) cancel(id string) {
	r.t.Helper()
	if _, err := r.service.Cancel(r.t.Context(), id, 0, actor("alice"), r.key()); err != nil {
		r.t.Fatal(err)
	}
}

// A doubt lasts until GitLab has been asked, through however many runs.
func TestDoubtOutlivesARunThatEndsWithoutALook(t *testing.T) {
	t.Parallel()
	t.Run("canceled", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.unknown()
		r.clock.Advance(48 * time.Hour)
		r.retry(id)
		r.cancel(id)
		r.lab.Hide(false)
		r.retry(id)
		r.pass(10 * time.Second)
		r.roots(1)
		r.state(id, ops.Running, "")
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.unknown()
		for range 200 {
			r.lab.Fail("probe", opstest.Fault{Err: away()})
		}
		r.retry(id)
		for range 150 {
			r.clock.Advance(30 * time.Second)
			r.settle()
		}
		if op := r.op(id); op.State != ops.Expired {
			t.Fatalf("got %s, want expired", op.State)
		}
		r.lab.Heal("probe")
		r.lab.Hide(false)
		r.retry(id)
		r.pass(10 * time.Second)
		r.roots(1)
		r.state(id, ops.Running, "")
	})
	t.Run("canceled, and then it turns up", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.unknown()
		r.retry(id)
		r.cancel(id)
		r.lab.Hide(false)
		r.pass(2 * time.Minute)
		root := r.roots(1)[0].Ref.ID
		r.state(id, ops.Canceling, ops.ReasonCanceledByPerson)
		r.lab.SetStatus(root, "canceled")
		r.pass(time.Minute)
		r.state(id, ops.Canceled, ops.ReasonCanceledByPerson)
	})
}

// What was given up while GitLab was away is still canceled when it is back, and what GitLab says
// of it is what counts.
func TestGivenUpRunIsFollowedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	for range 4000 {
		r.lab.Fail("tree", opstest.Fault{Err: away()})
	}
	r.pass(10 * time.Second)
	r.cancel(id)
	r.pass(6 * time.Minute)
	r.cancel(id)
	r.state(id, ops.Failed, ops.ReasonOutcomeUnknown)
	r.lab.Heal("tree")
	n := r.lab.Calls("cancel")
	r.pass(3 * time.Minute)
	r.state(id, ops.Canceling, ops.ReasonCanceledByPerson)
	if r.lab.Calls("cancel") == n {
		t.Error("the pipeline still runs and is not canceled")
	}
	r.lab.SetStatus(r.roots(1)[0].Ref.ID, "success")
	r.pass(3 * time.Minute)
	r.state(id, ops.Succeeded, "")
}

func TestManualJobThatIsPlayedAfterACancel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Blocked)
	r.cancel(id)
	r.pass(10 * time.Second)
	r.state(id, ops.Canceled, ops.ReasonCanceledByPerson)
	root := r.roots(1)[0].Ref.ID
	r.lab.SetStatus(root, "running")
	r.pass(2 * time.Minute)
	r.state(id, ops.Running, "")
	r.lab.SetStatus(root, "success")
	r.pass(2 * time.Minute)
	r.state(id, ops.Succeeded, "")
}

// A bot that was switched off for a day has not tried for a day.
func TestPatienceIsMeasuredWhileTheBotRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	for range 50 {
		r.lab.Fail("tree", opstest.Fault{Err: away()})
	}
	r.pass(6 * time.Second)
	r.clock.Advance(25 * time.Hour)
	r.service = ops.NewService(r.service.Config)
	r.lab.Heal("tree")
	r.lab.Fail("tree", opstest.Fault{Err: away()})
	r.pass(2 * time.Minute)
	r.state(id, ops.Running, "")
}

// A panic below a request must not leave the operation waiting for the request's return.
func TestCreateThatPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := true
	r.lab.Before("create", func() {
		if first {
			first = false
			panic("boom")
		}
	})
	id := r.submit("demo")
	for range 40 {
		func() {
			defer func() { _ = recover() }()
			_, _ = r.service.Advance(t.Context(), id)
		}()
		r.clock.Advance(10 * time.Second)
	}
	if op := r.op(id); op.State != ops.Running {
		t.Errorf("got %s (%s), want it running after the second try", op.State, op.Reason)
	}
}

// The log's own redaction does not know what people have given as secret parameters.
func TestI08_SecretParameterIsNotLogged(t *testing.T) {
	t.Parallel()
	r := newRig(t, ops.Action{Verb: "deploy", Start: ops.StartTrigger, Params: []ops.ActionParam{{Name: "pw", Into: ops.IntoVariable, Field: "PW", Secret: true}}})
	var log bytes.Buffer
	r.service.Log = slog.New(slog.NewTextHandler(&log, nil))
	r.lab.Fail("create", opstest.Fault{Err: &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonGitLabRefused, Msg: "GitLab refused: PW canary-of-the-tests is bad"}})
	q := r.request("demo")
	q.Params = map[string]string{"pw": "canary-of-the-tests"}
	if _, err := r.service.Submit(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	r.pass(5 * time.Second)
	if !strings.Contains(log.String(), "GitLab refused") || strings.Contains(log.String(), "canary") {
		t.Errorf("got log %s, want the refusal without the secret", &log)
	}
}

var errUndo = errors.New("undo")

// twice is a store that runs every update twice, as it does when another one of the same commit fails.
type twice struct {
	ops.Store
	stale *int
}

func (s twice) Update(ctx context.Context, f func(ops.Tx) error) error {
	if err := s.Store.Update(ctx, func(tx ops.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return errUndo
	}); err != nil && !errors.Is(err, errUndo) {
		return err
	}
	err := s.Store.Update(ctx, f)
	if errors.Is(err, ops.ErrStale) {
		*s.stale++
	}
	return err
}

func TestUpdatesMayRunTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stale := 0
	r.service.Store = twice{r.store, &stale}
	id := r.submit("demo")
	r.pass(3 * time.Second)
	r.state(id, ops.Running, "")
	if stale > 0 {
		t.Errorf("got %d updates that took themselves for somebody else's", stale)
	}
}

// Of two pipelines with one key, the one that counts is found again, and not the one that was
// canceled as too many.
func TestRecoverTakesTheRightOneOfTwo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.lab.Hide(true)
	r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true}, opstest.Fault{Err: away(), Lost: true})
	id := r.submit("demo")
	r.pass(95 * time.Second)
	r.lab.Hide(false)
	r.pass(20 * time.Second)
	roots := r.roots(2)
	r.lab.SetStatus(roots[1].Ref.ID, "canceled")
	r.lab.SetStatus(roots[0].Ref.ID, "running")
	r.pass(20 * time.Second)

	lost := newRig(t)
	c := r.service.Config
	c.Store, c.Clock = lost.store, lost.clock
	lost.clock.Advance(r.clock.Now().Sub(lost.clock.Now()))
	lost.service = ops.NewService(c)
	if n, err := lost.service.Recover(t.Context()); err != nil || n != 1 {
		t.Fatalf("got %d recovered, %v, want 1", n, err)
	}
	lost.pass(30 * time.Second)
	op := lost.state(id, ops.Running, "")
	if root, _ := op.Root(); root.Ref != roots[0].Ref {
		t.Errorf("got root %d, want %d", root.Ref.ID, roots[0].Ref.ID)
	}
}
