package ops_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ocim/ops"
	"ocim/ops/opstest"
)

func (r *rig) roots(want int) []ops.Pipeline {
	r.t.Helper()
	roots, _ := r.lab.Roots()
	if len(roots) != want {
		r.t.Fatalf("got %d pipelines, want %d", len(roots), want)
	}
	return roots
}

// A request that was taken for lost may arrive after all. Of the two pipelines one counts, and the
// other is canceled and shown as what it is.
func TestSecondPipelineOfOneKeyIsCanceled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.lab.Hide(true) // GitLab's list lags behind for longer than anybody waits
	r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true})
	id := r.submit("demo")
	r.pass(100 * time.Second)
	roots := r.roots(2)
	r.lab.Hide(false)
	r.pass(2 * time.Minute)
	op := r.state(id, ops.Running, "")
	if got := r.lab.Canceled(); len(got) == 0 || got[0] != roots[0].Ref.ID {
		t.Errorf("canceled %v, want %d", got, roots[0].Ref.ID)
	}
	if root, _ := op.Root(); root.Ref != roots[1].Ref || len(op.Pipelines) != 2 || op.Pipelines[1].Role != ops.RoleExtra {
		t.Errorf("got %+v, want the one that was answered as root and the other as an extra", op.Pipelines)
	}
	r.lab.SetStatus(roots[1].Ref.ID, "success")
	r.pass(30 * time.Second)
	r.state(id, ops.Succeeded, "")
}

// The same key is sent a second time, and never a third: whoever cannot see what becomes of two
// requests does not know what becomes of ten.
func TestLostRequestIsRepeatedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.lab.Hide(true)
	for range 100 {
		r.lab.Fail("create", opstest.Fault{Err: away(), Lost: true})
	}
	id := r.submit("demo")
	for range 65 * 6 {
		r.clock.Advance(10 * time.Second)
		r.settle()
	}
	r.roots(2)
	op := r.state(id, ops.Failed, ops.ReasonOutcomeUnknown)
	r.lab.Heal("create")

	// A retry is the same request again, looked for before it is sent.
	if _, err := r.service.Retry(t.Context(), id, 0, actor("alice"), "Alice", r.key()); err != nil {
		t.Fatal(err)
	}
	r.lab.Hide(false)
	r.pass(10 * time.Second)
	if again := r.state(id, ops.Running, ""); again.Key != op.Key || again.Number != op.Number || again.Run != 2 {
		t.Errorf("got run %d with key %s, want the second with the first one's key", again.Run, again.Key)
	}
	r.roots(2)
}

// The machine's clock is set forward while a request is under way: waits and leases seem to be over.
func TestClockJumpsForwardWhileARequestIsUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.lab.Hide(true)
	first := true
	r.lab.Before("create", func() {
		if first {
			first = false
			r.clock.Advance(2 * time.Minute)
			r.settle()
		}
	})
	id := r.submit("demo")
	r.pass(3 * time.Second)
	r.roots(1)
	r.state(id, ops.Running, "")
}

// cut is a store that fails after some updates, as if the process had ended there.
type cut struct {
	ops.Store
	after int
}

func (c *cut) Update(ctx context.Context, f func(ops.Tx) error) error {
	if c.after--; c.after < 0 {
		return errors.New("killed")
	}
	return c.Store.Update(ctx, f)
}

// killedBeforePost submits a deploy and ends the process between the intent and the request.
func killedBeforePost(r *rig) string {
	r.t.Helper()
	id := r.submit("demo")
	r.clock.Advance(3 * time.Second)
	c := r.service.Config
	c.Store = &cut{Store: r.store, after: 1}
	if _, err := ops.NewService(c).Advance(r.t.Context(), id); err == nil {
		r.t.Fatal("got no error from a store that was cut off")
	}
	if op := r.op(id); op.State != ops.Starting || op.Outstanding {
		r.t.Fatalf("got %s, outstanding %t, want an intent without a request", op.State, op.Outstanding)
	}
	return id
}

func TestIntentIsCheckedAgainBeforeItIsSent(t *testing.T) {
	t.Parallel()
	t.Run("too old", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := killedBeforePost(r)
		r.clock.Advance(48 * time.Hour)
		r.settle()
		r.roots(0)
		r.state(id, ops.Failed, ops.ReasonNotStartedInTime)
	})
	t.Run("its instance is gone", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := killedBeforePost(r)
		r.lab.SetInstances("grove", "shop")
		r.clock.Advance(10 * time.Minute)
		r.settle()
		r.roots(0)
		r.state(id, ops.Failed, ops.ReasonUnknownInstance)
	})
}

// A backup that is put back knows nothing of what was done after it was made.
func TestRowOlderThanTheProcessIsLookedForFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := killedBeforePost(r)
	was := r.op(id)
	if _, err := r.lab.Create(t.Context(), ops.PipelineSpec{Project: "grove", Key: was.Key}); err != nil {
		t.Fatal(err)
	}
	r.clock.Advance(time.Minute)
	r.service = ops.NewService(r.service.Config)
	r.pass(5 * time.Second)
	r.roots(1)
	r.state(id, ops.Running, "")
}

func TestPipelineThatIsNotShownForAMoment(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	r.pass(2 * time.Minute)
	r.lab.Fail("tree", opstest.Fault{Err: &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonPipelineDeleted, Msg: "404"}})
	r.pass(3 * time.Minute)
	r.state(id, ops.Running, "")
}

func TestRetriedBridge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	root := r.roots(1)[0].Ref.ID
	bridge := ops.Pipeline{Ref: ops.PipelineRef{Project: "grove"}, Role: ops.RoleChild, Parent: root, Bridge: "deploy", Status: "running"}
	first := r.lab.AddPipeline(bridge)
	r.pass(10 * time.Second)
	r.lab.SetStatus(first, "failed")
	r.lab.SetStatus(root, "failed")
	r.pass(10 * time.Second)
	r.state(id, ops.Failed, ops.ReasonPipelineFailed)

	second := r.lab.AddPipeline(bridge)
	r.lab.SetStatus(root, "running")
	r.pass(70 * time.Second)
	r.state(id, ops.Running, "")
	r.lab.SetStatus(second, "success")
	r.lab.SetStatus(root, "success")
	r.pass(40 * time.Second)
	op := r.state(id, ops.Succeeded, "")
	if len(op.Pipelines) != 2 || op.Pipelines[1].Ref.ID != second {
		t.Errorf("got %+v, want the root and the second child", op.Pipelines)
	}
}

func TestChildDeletedInGitLab(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	root := r.roots(1)[0].Ref.ID
	child := r.lab.AddPipeline(ops.Pipeline{Ref: ops.PipelineRef{Project: "grove"}, Role: ops.RoleChild, Parent: root, Bridge: "deploy", Status: "running"})
	r.pass(10 * time.Second)
	r.lab.Remove(child)
	r.lab.SetStatus(root, "success")
	r.pass(30 * time.Second)
	if op := r.op(id); op.State != ops.Running {
		t.Errorf("got %s while the child may only lag, want running", op.State)
	}
	r.pass(3 * time.Minute)
	r.state(id, ops.Succeeded, "")
}

func TestWhatIsMergedLateIsFollowed(t *testing.T) {
	t.Parallel()
	a := plainAction()
	a.Follow, a.FollowWithin = ops.FollowMergeRequest, time.Minute
	r := newRig(t, a)
	id := r.to(ops.Running)
	root := r.roots(1)[0].Ref.ID
	r.lab.SetMergeRequest(&ops.MergeRequest{IID: 1, State: "opened", URL: "https://gitlab.example/1"})
	r.lab.SetStatus(root, "success")
	r.pass(2 * time.Minute)
	r.state(id, ops.Failed, ops.ReasonMergeRequestOpen)
	r.lab.SetMergeRequest(&ops.MergeRequest{IID: 1, State: "merged", MergedAt: r.clock.Now()})
	deploy := r.lab.AddPipeline(ops.Pipeline{Ref: ops.PipelineRef{Project: "grove"}, Role: ops.RoleFollow, Parent: root, Status: "running"})
	r.pass(2 * time.Minute)
	r.state(id, ops.Running, "")
	r.lab.SetStatus(deploy, "success")
	r.pass(30 * time.Second)
	r.state(id, ops.Succeeded, "")
}

// Which pipelines belong to a run is decided when it starts.
func TestConfigurationThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	a := plainAction()
	a.Follow, a.FollowWithin = ops.FollowMergeRequest, time.Minute
	r := newRig(t, a)
	id := r.to(ops.Running)
	r.lab.SetStatus(r.roots(1)[0].Ref.ID, "success")
	c := r.service.Config
	renamed := plainAction()
	renamed.Verb = "update"
	c.Fleet = r.fleet(renamed)
	r.service = ops.NewService(c)
	r.pass(10 * time.Second)
	r.state(id, ops.Running, "")
	r.pass(time.Minute)
	r.state(id, ops.Succeeded, ops.ReasonNoFollowUp)
}

func TestCancelWhileTheRequestIsUnderWay(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		answer error
		want   ops.State
		reason ops.Reason
	}{
		{"made", nil, ops.Canceling, ops.ReasonCanceledByPerson},
		{"refused", &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonGitLabRefused, Msg: "no"}, ops.Failed, ops.ReasonGitLabRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var id string
			r.lab.Before("create", func() {
				if _, err := r.service.Cancel(t.Context(), id, 0, actor("alice"), r.key()); err != nil {
					t.Error(err)
				}
			})
			r.lab.Fail("create", opstest.Fault{Err: tc.answer})
			r.lab.Fail("find", opstest.Fault{Err: away()}) // the answer that came is enough
			id = r.submit("demo")
			r.pass(3 * time.Second)
			r.state(id, tc.want, tc.reason)
			if got := len(r.lab.Canceled()) > 0; got != (tc.answer == nil) {
				t.Errorf("canceled in GitLab: got %t, want %t", got, tc.answer == nil)
			}
		})
	}
}

// GitLab cannot cancel a pipeline that waits for a person, and nothing of it runs.
func TestCancelOfABlockedPipeline(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Blocked)
	if _, err := r.service.Cancel(t.Context(), id, 0, actor("alice"), r.key()); err != nil {
		t.Fatal(err)
	}
	r.pass(10 * time.Second)
	r.state(id, ops.Canceled, ops.ReasonCanceledByPerson)
	if n := r.lab.Calls("cancel"); n != 1 {
		t.Errorf("got %d calls to cancel, want 1", n)
	}
}

// A project that was taken out of the configuration must not block its instance for ever.
func TestGitLabThatCannotBeAskedAnyMore(t *testing.T) {
	t.Parallel()
	gone := func(r *rig) {
		for range 4000 {
			r.lab.Fail("tree", opstest.Fault{Err: &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonGitLabDenied, Msg: "not in the configuration"}})
		}
	}
	t.Run("given up by a person", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.to(ops.Running)
		gone(r)
		r.pass(10 * time.Second)
		for range 2 {
			if _, err := r.service.Cancel(t.Context(), id, 0, actor("alice"), r.key()); err != nil && ops.ReasonOf(err) != ops.ReasonAlreadyCanceling {
				t.Fatal(err)
			}
		}
		r.state(id, ops.Canceling, ops.ReasonCanceledByPerson)
		r.pass(6 * time.Minute)
		if _, err := r.service.Cancel(t.Context(), id, 0, actor("alice"), r.key()); err != nil {
			t.Fatal(err)
		}
		r.state(id, ops.Failed, ops.ReasonOutcomeUnknown)
	})
	t.Run("given up after a day", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.to(ops.Running)
		gone(r)
		for range 25 * 6 {
			r.clock.Advance(10 * time.Minute)
			r.settle()
		}
		r.state(id, ops.Failed, ops.ReasonOutcomeUnknown)
	})
}

// A log that does not come keeps no run from ending.
func TestEndDoesNotWaitForTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Running)
	root := r.roots(1)[0].Ref.ID
	r.lab.AddJob(ops.Job{Pipeline: root, Name: "init", Status: "failed"}, "log")
	r.lab.SetStatus(root, "failed")
	ctx, cancel := context.WithCancel(t.Context())
	r.lab.Before("tail", cancel) // the time is used up while it is read
	if _, err := r.service.Advance(ctx, id); err != nil {
		t.Error(err)
	}
	op := r.state(id, ops.Failed, ops.ReasonJobFailed)
	if op.Failure == nil || op.Failure.NoTail == "" {
		t.Errorf("got %+v, want it said that there is no log", op.Failure)
	}
}

// What is secret is told by what stands before it, so a log is cut after it was redacted.
func TestLogIsRedactedBeforeItIsCut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const secret = "correct-horse-battery-staple"
	r.service.Redact = func(s string) string { return strings.ReplaceAll(s, secret, "***") }
	id := r.to(ops.Running)
	root := r.roots(1)[0].Ref.ID
	r.lab.AddJob(ops.Job{Pipeline: root, Name: "init", Status: "failed"}, secret+strings.Repeat("x", 6000-len("staple")))
	r.lab.SetStatus(root, "failed")
	r.pass(6 * time.Second)
	op := r.state(id, ops.Failed, ops.ReasonJobFailed)
	if f := op.Failure; f == nil || strings.Contains(f.Tail, "staple") || len(f.Tail) > 6000 || len(f.Tail) < 5900 {
		t.Errorf("got %+v, want at most 6000 bytes without the end of the secret", op.Failure)
	}
}

func TestWhatGitLabSaysIsRedacted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.service.Redact = func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }
	r.lab.Fail("create", opstest.Fault{Err: &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonGitLabRefused, Msg: "https://user:hunter2@host could not be fetched"}})
	id := r.submit("demo")
	r.pass(5 * time.Second)
	if op := r.state(id, ops.Failed, ops.ReasonGitLabRefused); strings.Contains(op.Detail, "hunter2") {
		t.Errorf("got %q, want it without the password", op.Detail)
	}
	r.lab.AddPipeline(ops.Pipeline{}) // keeps the ids apart
	id = r.submit("shop")
	r.pass(3 * time.Second)
	roots, _ := r.lab.Roots()
	r.lab.Break(roots[0].Ref.ID, "https://user:hunter2@host could not be fetched")
	r.pass(6 * time.Second)
	if op := r.state(id, ops.Failed, ops.ReasonConfigError); strings.Contains(op.Detail, "hunter2") || !strings.Contains(op.Detail, "could not be fetched") {
		t.Errorf("got %q, want it without the password", op.Detail)
	}
}
