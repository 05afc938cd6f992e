package ops_test

import (
	"testing"
	"time"

	"ocim/ops"
	"ocim/ops/opstest"
)

// The detail of an end is what a person reads on the card: what happened, and what helps where only
// the adapter knows it.
func TestEndsTellWhatHappened(t *testing.T) {
	t.Parallel()
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		for range 1000 {
			r.lab.Fail("probe", opstest.Fault{Err: &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, Msg: "GitLab answered 503."}})
		}
		id := r.submit("demo")
		r.pass(62 * time.Minute)
		if got, want := r.state(id, ops.Expired, ops.ReasonNotStartedInTime).Detail, "It could not be started in time. Last answer: GitLab answered 503."; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("refused by GitLab", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.lab.Fail("create", opstest.Fault{Err: &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonGitLabRefused, Msg: "GitLab refused to start the pipeline: Reference not found", Next: "Check the branch."}})
		id := r.submit("demo")
		r.pass(5 * time.Second)
		if got, want := r.state(id, ops.Failed, ops.ReasonGitLabRefused).Detail, "GitLab refused to start the pipeline: Reference not found. Check the branch."; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	for _, tc := range []struct {
		status string
		state  ops.State
		reason ops.Reason
		want   string
	}{
		{"canceled", ops.Canceled, ops.ReasonCanceledInGitLab, "It was canceled in GitLab, not from here."},
		{"failed", ops.Failed, ops.ReasonPipelineFailed, "The pipeline failed, and GitLab names no job that did."},
		{"skipped", ops.Failed, ops.ReasonPipelineSkipped, "GitLab skipped the pipeline: nothing ran."},
	} {
		t.Run(tc.status, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := r.submit("demo")
			r.pass(5 * time.Second)
			roots, _ := r.lab.Roots()
			r.lab.SetStatus(roots[0].Ref.ID, tc.status)
			r.pass(time.Minute)
			if got := r.state(id, tc.state, tc.reason).Detail; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
