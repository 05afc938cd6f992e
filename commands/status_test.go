package commands

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ocim/ops"
	"ocim/ops/opstest"
)

// What is shown is as old as the last look that succeeded, which is not when the row changed last: a
// failed look changes it too.
func TestStatusSaysWhyItIsNotFresh(t *testing.T) {
	t.Parallel()
	silent := &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, Msg: "GitLab could not be reached."}
	for _, tc := range []struct {
		name   string
		before time.Duration // for which looks fail already
		err    error
		want   string
	}{
		{"silent", 0, silent, "as last seen: GitLab could not be reached"},
		{"silent for long", 3 * time.Minute, silent, "as last seen more than 3 min ago: GitLab could not be reached"},
		{"hidden", 0, &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonPipelineDeleted, Msg: "404."}, "as last seen: GitLab does not show the pipeline"},
		{
			"too many calls of our own", 0,
			&ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, NotSent: true, Msg: "ocim makes many calls to GitLab and had no turn."},
			"as last seen: ocim makes many calls to GitLab and had no turn",
		},
		{"denied", 0, &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonGitLabDenied, Msg: "GitLab does not let ocim read it (403)."}, "as last seen: GitLab does not let ocim read it (403)"},
		{"too late", 0, context.DeadlineExceeded, "as last seen: GitLab does not answer in time"},
		{"ours", 0, errors.New("no column x"), "as last seen: something went wrong here"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := running(r)
			faults := make([]opstest.Fault, 1000)
			for i := range faults {
				faults[i].Err = tc.err
			}
			r.lab.Fail("tree", faults...)
			if tc.before > 0 {
				r.clock.Advance(10 * time.Second) // the next look
				r.settle()
				for until := r.clock.Now().Add(tc.before); r.clock.Now().Before(until); {
					r.clock.Advance(5 * time.Second)
					r.settle()
				}
			}
			got := r.says("bob", "status "+id)
			if !strings.Contains(got, tc.want) || strings.Contains(got, "GitLab says now") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			r.lab.Heal("tree")
			if got := r.says("bob", "status "+id); !strings.Contains(got, "as GitLab says now") {
				t.Errorf("got %q after it works again, want it fresh", got)
			}
		})
	}
}

// Nobody has asked GitLab about a run that has not begun, nor about one that has ended.
func TestStatusDoesNotSpeakForGitLabUnasked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.typed("alice", "deploy demo")
	if got := r.says("bob", "status demo"); !strings.Contains(got, "requested") || !strings.Contains(got, "no pipeline of it is known yet") {
		t.Errorf("got %q, want that there is no pipeline yet", got)
	}
	r.typed("alice", "cancel demo")
	if got := r.says("bob", "status demo"); !strings.Contains(got, "canceled") || !strings.Contains(got, "as it was when it ended") {
		t.Errorf("got %q, want how it ended", got)
	}
	if n := r.lab.Calls("tree"); n != 0 {
		t.Errorf("got %d looks at GitLab, want none", n)
	}
}
