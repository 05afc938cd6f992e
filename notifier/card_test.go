package notifier

import (
	"testing"
	"time"

	"ocim/ops"
)

func TestViewSaysTheReasonOfAFailureOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, detail, want string }{
		{"the job's own", "script_failure", ""},
		{"more than that", "A merge request was left open.", "A merge request was left open."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			op := ops.Operation{State: ops.Failed, Detail: tt.detail, Failure: &ops.Failure{Job: "init", Reason: "script_failure"}}
			if got := string(NewView(op, time.Unix(0, 0)).Detail); got != tt.want {
				t.Errorf("got detail %q, want %q", got, tt.want)
			}
		})
	}
}
