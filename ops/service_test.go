package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/ops"
	"ocim/ops/opstest"
)

func TestSubmitOfTheSameKeyIsOneOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request("demo")
	var wg sync.WaitGroup
	ids := make([]string, 50)
	for i := range ids {
		wg.Go(func() {
			op, err := r.service.Submit(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			ids[i] = op.ID
		})
	}
	wg.Wait()
	if got := slices.Compact(slices.Sorted(slices.Values(ids))); len(got) != 1 || len(r.all()) != 1 {
		t.Fatalf("got operations %v, want one", got)
	}
	if ds := r.deliveries(ids[0]); len(ds) != 1 || ds[0].Kind != ops.DeliverCard || ds[0].To != req.From {
		t.Errorf("got %+v owed, want one card where the request came from", ds)
	}
	r.lab.SetStatus(101, "running")
	r.pass(3 * time.Second)
	again, err := r.service.Submit(t.Context(), req)
	if err != nil || again.ID != ids[0] || again.State != ops.Running {
		t.Errorf("repeated later: got %s %s, %v, want the first as it is now", again.ID, again.State, err)
	}
	if roots, _ := r.lab.Roots(); len(roots) != 1 {
		t.Errorf("got %d pipelines, want 1", len(roots))
	}
}

func TestSubmitIsRefusedWhileTheInstanceIsBusy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.submit("demo")
	_, err := r.service.Submit(t.Context(), r.request("demo"))
	var e *ops.Error
	if !errors.As(err, &e) || e.Reason != ops.ReasonInstanceBusy || e.Operation != first || !strings.Contains(e.Msg, first) {
		t.Fatalf("got %v, want busy with %s", err, first)
	}
	p, err := r.service.Plan(t.Context(), r.request("demo"))
	if err != nil || p.Busy != first {
		t.Errorf("plan: got busy %q, %v, want %s", p.Busy, err, first)
	}
	r.submit("shop") // another one is free
	r.pass(3 * time.Second)
	roots, _ := r.lab.Roots()
	for _, p := range roots {
		r.lab.SetStatus(p.Ref.ID, "success")
	}
	r.pass(6 * time.Second)
	r.submit("demo")
}

func TestSubmitRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, ops.Action{Verb: "deploy", Start: ops.StartTrigger, Params: []ops.ActionParam{{Name: "size", Type: ops.ParamInt}}})
	for _, tc := range []struct {
		name   string
		change func(*ops.Request)
		code   ops.Code
		reason ops.Reason
	}{
		{"no right", func(q *ops.Request) { q.Actor = actor("mallory") }, ops.CodeDenied, ops.ReasonNotAllowed},
		{"nobody", func(q *ops.Request) { q.Actor = ops.Actor{} }, ops.CodeDenied, ops.ReasonNotAllowed},
		{"unknown cluster", func(q *ops.Request) { q.Target.Cluster = "mars" }, ops.CodeNotFound, ops.ReasonUnknownCluster},
		{"unknown verb", func(q *ops.Request) { q.Action = "destroy" }, ops.CodeNotFound, ops.ReasonUnknownVerb},
		{"unknown parameter", func(q *ops.Request) { q.Params = map[string]string{"x": "1"} }, ops.CodeInvalid, ops.ReasonUnknownParam},
		{"wrong parameter", func(q *ops.Request) { q.Params = map[string]string{"size": "x"} }, ops.CodeInvalid, ops.ReasonInvalidParam},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := r.request("demo")
			tc.change(&req)
			if _, err := r.service.Submit(t.Context(), req); ops.CodeOf(err) != tc.code || ops.ReasonOf(err) != tc.reason {
				t.Errorf("submit: got %v, want %s", err, tc.reason)
			}
			if _, err := r.service.Plan(t.Context(), req); ops.CodeOf(err) != tc.code || ops.ReasonOf(err) != tc.reason {
				t.Errorf("plan: got %v, want %s", err, tc.reason)
			}
		})
	}
	if got := r.all(); len(got) != 0 {
		t.Errorf("got %d operations, want none", len(got))
	}
}

func TestPlanHasNoEffect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, err := r.service.Plan(t.Context(), r.request("demo"))
	if err != nil || p.Spec.Project != "grove" || p.Spec.GitRef != "main" || p.Spec.Payload["ocim_key"] == "" {
		t.Fatalf("got %+v, %v, want what would be sent", p, err)
	}
	r.pass(time.Minute)
	if roots, _ := r.lab.Roots(); len(roots)+len(r.all()) != 0 || r.lab.Calls("create")+r.lab.Calls("probe") != 0 {
		t.Error("a plan left something behind or asked GitLab to do something")
	}
}

// A takes B's name: nothing changes for either.
func TestT06_TakingANameChangesNoRights(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request("demo")
	req.Actor, req.ActorName = actor("mallory"), "Alice"
	if _, err := r.service.Submit(t.Context(), req); ops.ReasonOf(err) != ops.ReasonNotAllowed {
		t.Errorf("mallory as Alice: got %v, want %s", err, ops.ReasonNotAllowed)
	}
	req = r.request("demo")
	req.ActorName = "mallory"
	op, err := r.service.Submit(t.Context(), req)
	if err != nil {
		t.Fatalf("alice as mallory: %v", err)
	}
	if _, err := r.service.Cancel(t.Context(), op.ID, 0, actor("mallory"), r.key()); ops.ReasonOf(err) != ops.ReasonNotAllowed {
		t.Errorf("cancel: got %v, want %s", err, ops.ReasonNotAllowed)
	}
	if _, err := r.service.Retry(t.Context(), op.ID, 0, actor("mallory"), "Alice", r.key()); ops.ReasonOf(err) != ops.ReasonNotAllowed {
		t.Errorf("retry: got %v, want %s", err, ops.ReasonNotAllowed)
	}
}

func TestRightsAreAskedAgainAtTheStart(t *testing.T) {
	t.Parallel()
	t.Run("before the check", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.submit("demo")
		r.rights.take("alice")
		r.pass(3 * time.Second)
		if op := r.state(id, ops.Refused, ops.ReasonNotAllowed); !strings.Contains(op.Detail, "may not start operations here any more.") || strings.Contains(op.Detail, "You") {
			t.Errorf("got %q, want it to name the person: everybody reads the card", op.Detail)
		}
	})
	t.Run("while it is queued", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.to(ops.Queued)
		r.rights.take("alice start")
		r.pass(time.Minute)
		r.state(id, ops.Refused, ops.ReasonNotAllowed)
	})
	t.Run("between two POSTs", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited, Msg: "slow down", NotSent: true}})
		id := r.submit("demo")
		r.pass(2 * time.Second)
		r.state(id, ops.Starting, ops.ReasonRateLimited)
		r.rights.take("alice")
		r.pass(time.Minute)
		r.state(id, ops.Failed, ops.ReasonNotAllowed)
	})
	t.Run("of whoever retries", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.to(ops.Failed)
		if _, err := r.service.Retry(t.Context(), id, 0, actor("bob"), "Bob", r.key()); err != nil {
			t.Fatal(err)
		}
		r.rights.take("bob retry")
		r.pass(3 * time.Second)
		r.state(id, ops.Refused, ops.ReasonNotAllowed)
	})
}

func TestWhatChangedBeforeTheStartIsRefused(t *testing.T) {
	t.Parallel()
	t.Run("the instance is gone", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.submit("demo")
		r.lab.SetInstances("grove", "demo2")
		r.pass(3 * time.Second)
		if op := r.state(id, ops.Refused, ops.ReasonUnknownInstance); !strings.Contains(op.Detail, "demo2") {
			t.Errorf("got %q, want the near miss", op.Detail)
		}
	})
	t.Run("the verb is gone", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.submit("demo")
		r.service.Fleet = r.fleet()
		r.pass(3 * time.Second)
		r.state(id, ops.Refused, ops.ReasonUnknownVerb)
	})
	t.Run("a parameter became required", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.submit("demo")
		a := plainAction()
		a.Params = []ops.ActionParam{{Name: "ticket", Required: true}}
		r.service.Fleet = r.fleet(a)
		r.pass(3 * time.Second)
		r.state(id, ops.Refused, ops.ReasonMissingParam)
	})
	t.Run("the verb is gone between two POSTs", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: &ops.Error{Code: ops.CodeUnavailable, NotSent: true}})
		id := r.submit("demo")
		r.pass(2 * time.Second)
		r.service.Fleet = r.fleet()
		r.pass(time.Minute)
		r.state(id, ops.Failed, ops.ReasonUnknownVerb)
	})
	t.Run("the verb is gone while a POST is outstanding", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.to(ops.Starting)
		r.service.Fleet = r.fleet()
		r.pass(10 * time.Second)
		r.state(id, ops.Failed, ops.ReasonOutcomeUnknown)
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	t.Run("GitLab never came back", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("probe", slices.Repeat([]opstest.Fault{{Err: away()}}, 10_000)...)
		id := r.submit("demo")
		r.pass(59 * time.Minute)
		r.state(id, ops.Queued, ops.ReasonGitLabUnavailable)
		if n := r.lab.Calls("probe"); n > 130 {
			t.Errorf("got %d probes in an hour, want back-off to one each half minute", n)
		}
		r.pass(2 * time.Minute)
		r.state(id, ops.Expired, ops.ReasonNotStartedInTime)
	})
	t.Run("GitLab never took it", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", slices.Repeat([]opstest.Fault{{Err: &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited, Msg: "slow down", NotSent: true}}}, 10_000)...)
		id := r.submit("demo")
		r.pass(61 * time.Minute)
		if op := r.state(id, ops.Failed, ops.ReasonNotStartedInTime); !strings.Contains(op.Detail, "slow down") {
			t.Errorf("got %q, want the last answer", op.Detail)
		}
		if roots, _ := r.lab.Roots(); len(roots) != 0 {
			t.Errorf("got %d pipelines, want none", len(roots))
		}
	})
	t.Run("the bot was away", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.submit("demo")
		r.clock.Advance(61 * time.Minute)
		r.settle()
		r.state(id, ops.Expired, ops.ReasonNotStartedInTime)
	})
}

func TestCancelInEveryState(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		state  ops.State
		want   ops.State // of the answer
		reason ops.Reason
		refuse ops.Reason
	}{
		{ops.Requested, ops.Canceled, ops.ReasonCanceledByPerson, ""},
		{ops.Queued, ops.Canceled, ops.ReasonCanceledByPerson, ""},
		{ops.Starting, ops.Starting, "", ""}, // it is honoured as soon as the outcome is known
		{ops.Running, ops.Canceling, ops.ReasonCanceledByPerson, ""},
		{ops.Blocked, ops.Canceling, ops.ReasonCanceledByPerson, ""},
		{ops.Canceling, "", "", ops.ReasonAlreadyCanceling},
		{ops.Succeeded, "", "", ops.ReasonAlreadyFinal},
		{ops.Failed, "", "", ops.ReasonAlreadyFinal},
		{ops.Canceled, "", "", ops.ReasonAlreadyFinal},
		{ops.Refused, "", "", ops.ReasonAlreadyFinal},
		{ops.Expired, "", "", ops.ReasonAlreadyFinal},
	} {
		t.Run(string(tc.state), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := r.to(tc.state)
			key := r.key()
			op, err := r.service.Cancel(t.Context(), id, 1, actor("bob"), key)
			if tc.refuse != "" {
				if ops.ReasonOf(err) != tc.refuse || ops.CodeOf(err) != ops.CodeConflict {
					t.Fatalf("got %s, %v, want %s", op.State, err, tc.refuse)
				}
				r.pass(time.Second)
				if got := r.op(id); tc.state.Final() && got.State != tc.state {
					t.Errorf("got %s afterwards, want %s", got.State, tc.state)
				}
				return
			}
			if err != nil || op.State != tc.want || op.Reason != tc.reason || op.CancelBy != actor("bob") {
				t.Fatalf("got %s (%s) by %s, %v, want %s (%s) by bob", op.State, op.Reason, op.CancelBy, err, tc.want, tc.reason)
			}
			if again, err := r.service.Cancel(t.Context(), id, 1, actor("bob"), key); err != nil || again.State != op.State {
				t.Errorf("the same click again: got %s, %v, want the first answer", again.State, err)
			}
			r.lab.Hide(false)
			r.pass(10 * time.Second)
			if roots, _ := r.lab.Roots(); len(roots) == 1 {
				if !slices.Contains(r.lab.Canceled(), roots[0].Ref.ID) {
					t.Fatalf("got cancels of %v, want the pipeline asked to end", r.lab.Canceled())
				}
				r.lab.SetStatus(roots[0].Ref.ID, "canceled")
				r.pass(6 * time.Second)
			}
			r.state(id, ops.Canceled, ops.ReasonCanceledByPerson)
		})
	}
}

// The wish of somebody who cancels while a POST is under way is kept, whatever became of the POST.
func TestCancelDuringAPost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		fault []opstest.Fault
		posts int
	}{
		{"answered", nil, 1},
		{"answer lost", []opstest.Fault{{Err: away(), Lost: true}}, 1},
		{"request lost", []opstest.Fault{{Err: away()}}, 1},
		{"refused for now", []opstest.Fault{{Err: &ops.Error{Code: ops.CodeUnavailable, NotSent: true}}}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.lab.Fail("create", tc.fault...)
			id := r.submit("demo")
			r.lab.Before("create", func() {
				op, err := r.service.Cancel(t.Context(), id, 0, actor("bob"), "cancel-key")
				if err != nil || op.State != ops.Starting || !op.Outstanding {
					t.Errorf("got %s, outstanding %t, %v, want the wish noted", op.State, op.Outstanding, err)
				}
			})
			r.pass(100 * time.Second)
			if roots, _ := r.lab.Roots(); len(roots) == 1 {
				r.state(id, ops.Canceling, ops.ReasonCanceledByPerson)
				r.lab.SetStatus(roots[0].Ref.ID, "canceled")
				r.pass(6 * time.Second)
			}
			r.state(id, ops.Canceled, ops.ReasonCanceledByPerson)
			if got := r.lab.Calls("create"); got != tc.posts {
				t.Errorf("got %d POSTs, want %d", got, tc.posts)
			}
		})
	}
}

func TestCancelEndsChildrenFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	child := r.lab.AddPipeline(ops.Pipeline{Ref: ops.PipelineRef{Project: "grove"}, Role: ops.RoleChild, Parent: 101, Status: "running"})
	done := r.lab.AddPipeline(ops.Pipeline{Ref: ops.PipelineRef{Project: "grove"}, Role: ops.RoleChild, Parent: 101, Status: "success"})
	r.pass(6 * time.Second)
	if _, err := r.service.Cancel(t.Context(), id, 0, actor("alice"), r.key()); err != nil {
		t.Fatal(err)
	}
	r.settle()
	if got := r.lab.Canceled(); len(got) < 2 || got[0] != child || got[1] != 101 || slices.Contains(got, done) {
		t.Errorf("got cancels of %v, want %d, then 101, and not %d", got, child, done)
	}
	// What GitLab has not ended yet is asked again, and its refusal does not stop the others.
	r.lab.Fail("cancel", opstest.Fault{Err: away()})
	r.lab.SetStatus(101, "canceled")
	r.pass(6 * time.Second)
	r.state(id, ops.Canceling, ops.ReasonCanceledByPerson)
	r.lab.SetStatus(child, "success")
	r.pass(6 * time.Second)
	r.state(id, ops.Canceled, ops.ReasonCanceledByPerson)
}

func TestRetryRules(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		state  ops.State
		refuse ops.Reason
	}{
		{ops.Requested, ops.ReasonStillRunning},
		{ops.Queued, ops.ReasonStillRunning},
		{ops.Starting, ops.ReasonStillRunning},
		{ops.Running, ops.ReasonStillRunning},
		{ops.Blocked, ops.ReasonStillRunning},
		{ops.Canceling, ops.ReasonStillRunning},
		{ops.Succeeded, ops.ReasonAlreadyFinal},
		{ops.Failed, ""},
		{ops.Canceled, ""},
		{ops.Refused, ""},
		{ops.Expired, ""},
	} {
		t.Run(string(tc.state), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := r.to(tc.state)
			before := r.op(id)
			key := r.key()
			op, err := r.service.Retry(t.Context(), id, 1, actor("bob"), "Bob", key)
			if tc.refuse != "" {
				if ops.ReasonOf(err) != tc.refuse {
					t.Errorf("got %s, %v, want %s", op.State, err, tc.refuse)
				}
				return
			}
			if err != nil || op.Run != 2 || op.State != ops.Requested || op.RunBy != actor("bob") || op.Request.Actor != actor("alice") {
				t.Fatalf("got run %d %s by %s, %v, want run 2 requested by bob for alice", op.Run, op.State, op.RunBy, err)
			}
			if op.Key == before.Key || op.Number <= before.Number {
				t.Errorf("got key %s and number %d again: a run must have its own", op.Key, op.Number)
			}
			again, err := r.service.Retry(t.Context(), id, 1, actor("bob"), "Bob", key)
			if err != nil || again.Run != 2 {
				t.Errorf("the same click again: got run %d, %v, want 2", again.Run, err)
			}
			if _, err := r.service.Retry(t.Context(), id, 1, actor("carol"), "Carol", r.key()); ops.ReasonOf(err) != ops.ReasonOldButton {
				t.Errorf("another click on the button of run 1: got %v, want %s", err, ops.ReasonOldButton)
			}
			r.lab.SetInstances("grove", "demo")
			r.clock.Advance(time.Minute)
			r.pass(3 * time.Second)
			roots, _ := r.lab.Roots()
			r.lab.SetStatus(roots[len(roots)-1].Ref.ID, "success")
			r.pass(6 * time.Second)
			r.state(id, ops.Succeeded, "")
			if ds := r.deliveries(id); ds[0].Kind != ops.DeliverCard || slices.ContainsFunc(ds[1:], func(d ops.Delivery) bool { return d.Kind == ops.DeliverCard }) {
				t.Errorf("got %+v owed, want one card for both runs", ds)
			}
		})
	}
}

func TestRetryWhileAnotherOperationIsAtWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.to(ops.Failed)
	second := r.submit("demo")
	_, err := r.service.Retry(t.Context(), old, 1, actor("bob"), "Bob", r.key())
	var e *ops.Error
	if !errors.As(err, &e) || e.Reason != ops.ReasonInstanceBusy || e.Operation != second {
		t.Errorf("got %v, want busy with %s", err, second)
	}
	if op := r.op(old); op.Run != 1 {
		t.Errorf("got run %d, want 1", op.Run)
	}
}

func TestUnknownOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.service.Cancel(t.Context(), "zzzzzz", 0, actor("alice"), r.key()); ops.ReasonOf(err) != ops.ReasonUnknownOperation {
		t.Errorf("cancel: got %v, want %s", err, ops.ReasonUnknownOperation)
	}
	if _, err := r.service.Retry(t.Context(), "zzzzzz", 0, actor("alice"), "", r.key()); ops.ReasonOf(err) != ops.ReasonUnknownOperation {
		t.Errorf("retry: got %v, want %s", err, ops.ReasonUnknownOperation)
	}
}

func TestOutcomeThatIsNotKnown(t *testing.T) {
	t.Parallel()
	t.Run("found by its key", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true})
		id := r.submit("demo")
		r.pass(5 * time.Second)
		r.state(id, ops.Running, "")
		if got := r.lab.Calls("create"); got != 1 {
			t.Errorf("got %d POSTs, want 1", got)
		}
	})
	t.Run("found late, in a list that lags", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.to(ops.Starting)
		r.pass(80 * time.Second)
		r.lab.Hide(false)
		r.pass(10 * time.Second)
		r.state(id, ops.Running, "")
		if got := r.lab.Calls("create"); got != 1 {
			t.Errorf("got %d POSTs, want 1", got)
		}
	})
	t.Run("never arrived: sent again with the same key after Linger", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: away()})
		id := r.submit("demo")
		r.pass(2 * time.Second)
		key := r.op(id).Key
		r.pass(89 * time.Second)
		if got := r.lab.Calls("create"); got != 1 {
			t.Errorf("got %d POSTs while the first may still arrive, want 1", got)
		}
		r.pass(5 * time.Second)
		op := r.state(id, ops.Running, "")
		if _, specs := r.lab.Roots(); len(specs) != 1 || specs[0].Key != key || op.Attempt != 2 {
			t.Errorf("got %d pipelines, attempt %d, want one with the same key at the second", len(specs), op.Attempt)
		}
	})
	t.Run("looking is refused", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true})
		r.lab.Fail("find", opstest.Fault{Err: &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonGitLabDenied, Msg: "401."}})
		id := r.submit("demo")
		r.pass(5 * time.Second) // a right that is missing for a moment loses nothing
		r.state(id, ops.Running, "")
	})
	t.Run("looking is refused for good", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true})
		for range 100 {
			r.lab.Fail("find", opstest.Fault{Err: &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonGitLabDenied, Msg: "401."}})
		}
		id := r.submit("demo")
		r.pass(4 * time.Minute)
		op := r.state(id, ops.Failed, ops.ReasonOutcomeUnknown)
		if !strings.Contains(op.Detail, "Look in GitLab") {
			t.Errorf("got %q, want it said what to do", op.Detail)
		}
		// Once it may be looked for, it is found, and no second one is made.
		r.lab.Heal("find")
		r.pass(2 * time.Minute)
		if again := r.state(id, ops.Running, ""); again.Key != op.Key || again.Run != 2 {
			t.Errorf("got run %d with key %s, want the next run with the same key", again.Run, again.Key)
		}
		if roots, _ := r.lab.Roots(); len(roots) != 1 {
			t.Errorf("got %d pipelines, want 1", len(roots))
		}
	})
	t.Run("a refusal that left a pipeline behind", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonConfigError, Msg: "Broken."}, Lost: true})
		id := r.submit("demo")
		r.pass(3 * time.Second)
		r.state(id, ops.Running, "")
	})
	t.Run("a refusal that left a pipeline behind, and the look fails", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonConfigError, Msg: "Broken."}, Lost: true})
		r.lab.Fail("find", opstest.Fault{Err: away()})
		id := r.submit("demo")
		r.pass(10 * time.Second)
		r.state(id, ops.Running, "")
	})
	t.Run("an error that is none of ours counts as not known", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: errors.New("boom"), Lost: true})
		id := r.submit("demo")
		r.pass(5 * time.Second)
		r.state(id, ops.Running, "")
	})
}

// GitLab lets people retry the jobs of a pipeline that has ended.
func TestRetryInGitLabOpensTheNextRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Failed)
	first := r.op(id)
	r.clock.Advance(30 * time.Second)
	r.lab.SetStatus(101, "running")
	r.pass(time.Minute)
	op := r.state(id, ops.Running, "")
	if op.Run != 2 || op.Key != first.Key {
		t.Errorf("got run %d with key %s, want run 2 of the same pipeline", op.Run, op.Key)
	}
	r.lab.SetStatus(101, "success")
	r.pass(time.Minute)
	r.state(id, ops.Succeeded, "")
	if roots, _ := r.lab.Roots(); len(roots) != 1 {
		t.Errorf("got %d pipelines, want 1", len(roots))
	}
}

func TestPipelineDeletedInGitLab(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	r.lab.Remove(101)
	r.pass(30 * time.Second) // a replica may lag behind our own POST: not believed at once
	if got := r.op(id); got.State != ops.Running {
		t.Errorf("got %s half a minute after the start, want running", got.State)
	}
	r.pass(3 * time.Minute)
	r.state(id, ops.Failed, ops.ReasonPipelineDeleted)
}

func TestEvidenceIsRedacted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.service.Redact = func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }
	id := r.to(ops.Running)
	r.lab.AddJob(ops.Job{Pipeline: 101, Name: "init", Stage: "deploy", Status: "failed", FailureReason: "script_failure"}, "PASSWORD=hunter2\nboom: hunter2\nERROR: Job failed: exit code 1\n")
	r.lab.SetStatus(101, "failed")
	r.pass(6 * time.Second)
	op := r.state(id, ops.Failed, ops.ReasonJobFailed)
	f := op.Failure
	if f == nil || f.Job != "init" || f.Stage != "deploy" || f.Last != "boom: ***" || strings.Contains(f.Tail, "hunter2") {
		t.Errorf("got %+v, want job, stage and the last line that says something, redacted", f)
	}
	ds := r.deliveries(id)
	kinds := make([]ops.DeliveryKind, 0, len(ds))
	for _, d := range ds {
		kinds = append(kinds, d.Kind)
	}
	if !slices.Equal(kinds, []ops.DeliveryKind{ops.DeliverCard, ops.DeliverEnd, ops.DeliverLog}) {
		t.Errorf("got %v owed, want card, end and log in this order", kinds)
	}
}

// A child may run in another project than the one that the operation started in.
func TestEvidenceOfAnotherProject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	child := r.lab.AddPipeline(ops.Pipeline{Ref: ops.PipelineRef{Project: "images"}, Role: ops.RoleChild, Parent: 101, Status: "failed"})
	r.lab.AddJob(ops.Job{Pipeline: child, Name: "build", Status: "failed", FailureReason: "script_failure"}, "no space left\n")
	r.lab.SetStatus(101, "failed")
	r.pass(6 * time.Second)
	op := r.state(id, ops.Failed, ops.ReasonJobFailed)
	if f := op.Failure; f == nil || f.Last != "no space left" {
		t.Errorf("got %+v, want the log's last line", f)
	}
}

// What every pipeline carries is enough to fill a lost store again, and only with our seal.
func TestRecover(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	before := r.op(id)
	_, specs := r.lab.Roots()

	fresh := newRig(t)
	fresh.service.Repos, fresh.service.Pipelines = r.lab, r.lab
	fresh.service.Fleet = r.fleet(plainAction())
	fresh.clock.Advance(time.Minute)
	r.lab.AddPipeline(ops.Pipeline{Ref: ops.PipelineRef{Project: "grove"}, Status: "running"})
	for want := range 2 {
		n, err := fresh.service.Recover(t.Context())
		if err != nil || n != 1-want {
			t.Fatalf("got %d recovered, %v, want %d", n, err, 1-want)
		}
	}
	op := fresh.op(id)
	if op.Key != before.Key || op.Number != before.Number || op.Request.Actor != before.Request.Actor || op.Request.From != before.Request.From || op.Request.Target != before.Request.Target || op.State != ops.Running {
		t.Errorf("got %+v, want what it was: %+v", op, before)
	}
	r.lab.SetStatus(101, "success")
	fresh.pass(10 * time.Second)
	fresh.state(id, ops.Succeeded, "")

	stranger := newRig(t)
	signer, err := ops.NewSigner([]byte("another-key-another-key-another-"))
	if err != nil {
		t.Fatal(err)
	}
	stranger.service.Repos, stranger.service.Signer = r.lab, signer
	if n, err := stranger.service.Recover(t.Context()); err != nil || n != 0 {
		t.Errorf("got %d recovered under another key, %v, want none", n, err)
	}
	var reference ops.Reference
	text, err := r.service.Signer.Open(ops.PurposeReference, specs[0].Payload["ocim_ref"])
	if err != nil || json.Unmarshal(text, &reference) != nil || reference.Operation != id {
		t.Errorf("got reference %+v, %v, want operation %s", reference, err, id)
	}
}

// partly is GitLab that breaks off after some of the list.
type partly struct{ ops.Repos }

func (p partly) Recent(ctx context.Context, project string, since time.Time, known func(ops.PipelineRef) bool) ([]ops.Found, error) {
	found, err := p.Repos.Recent(ctx, project, since, known)
	if len(found) < 2 {
		return found, err
	}
	return found[:1], &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, Msg: "GitLab does not answer."}
}

// What could be read is made again although the rest could not, so that trying again goes on.
func TestRecoverGoesOnWhereItBrokeOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.to(ops.Running)
	r.submit("shop")
	r.pass(10 * time.Second)
	fresh := newRig(t)
	fresh.service.Repos, fresh.service.Fleet = partly{r.lab}, r.fleet(plainAction())
	if n, err := fresh.service.Recover(t.Context()); err == nil || n != 1 {
		t.Fatalf("got %d recovered, %v, want 1 and an error", n, err)
	}
	if n, err := fresh.service.Recover(t.Context()); err != nil || n != 1 {
		t.Errorf("got %d recovered, %v, want the other one", n, err)
	}
}

// A store that does not answer must not end what can still be started.
func TestStoreThatDoesNotAnswerEndsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.submit("demo")
	r.clock.Advance(3 * time.Second)
	hiccup := &hiccups{Store: r.store}
	r.service.Store = hiccup
	for n := range 12 { // each of the first reads and writes fails once
		hiccup.at = n
		hiccup.n = 0
		_, _ = r.service.Advance(t.Context(), id)
		if op := r.op(id); op.State.Final() {
			t.Fatalf("failure of call %d ended it as %s (%s)", n, op.State, op.Reason)
		}
	}
	r.service.Store = r.store
	r.pass(2 * time.Minute)
	if got := r.op(id); got.State != ops.Running {
		t.Errorf("got %s (%s), want it started in the end", got.State, got.Reason)
	}
	if roots, _ := r.lab.Roots(); len(roots) != 1 {
		t.Errorf("got %d pipelines, want 1", len(roots))
	}
}

// hiccups fails one call of the store.
type hiccups struct {
	ops.Store
	at, n int
}

func (h *hiccups) fails() error {
	h.n++
	if h.n-1 == h.at {
		return &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonStoreUnavailable, Msg: "The store does not answer."}
	}
	return nil
}

func (h *hiccups) View(ctx context.Context, f func(ops.Reader) error) error {
	if err := h.fails(); err != nil {
		return err
	}
	return h.Store.View(ctx, f)
}

func (h *hiccups) Update(ctx context.Context, f func(ops.Tx) error) error {
	if err := h.fails(); err != nil {
		return err
	}
	return h.Store.Update(ctx, f)
}
