package ops_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ocim/ops"
	"ocim/ops/opstest"
)

// The secret of these tests. It is not in any encoding of ours by chance.
const hush = "open-sesame-7731"

func secretive() ops.Action {
	return ops.Action{
		Verb: "deploy", Start: ops.StartTrigger,
		Params: []ops.ActionParam{
			{Name: "password", Into: ops.IntoPayload, Field: "PASSWORD", Secret: true, Required: true},
			{Name: "pin", Into: ops.IntoInput, Field: "pin", Type: ops.ParamInt, Secret: true},
			{Name: "color", Into: ops.IntoPayload, Field: "COLOR"},
		},
	}
}

func secretRequest(r *rig) ops.Request {
	q := r.request("demo")
	q.Params = map[string]string{"password": hush, "pin": "7731", "color": "red"}
	return q
}

// A secret value reaches GitLab and nothing else: neither the row, nor the reference that goes with
// it, nor a message, nor the log.
func TestSecretParameterReachesGitLabAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, secretive())
	op, err := r.service.Submit(t.Context(), secretRequest(r))
	if err != nil {
		t.Fatal(err)
	}
	r.pass(3 * time.Second)
	r.state(op.ID, ops.Running, "")

	_, specs := r.lab.Roots()
	if got := specs[0].Payload["PASSWORD"]; got != hush {
		t.Errorf("GitLab got the password %q, want %q", got, hush)
	}
	if got := fmt.Sprint(specs[0].Inputs["pin"]); got != "7731" {
		t.Errorf("GitLab got the pin %q, want 7731", got)
	}
	body, _, _ := strings.Cut(specs[0].Payload["ocim_ref"], ".")
	reference, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || !strings.Contains(string(reference), "password") || strings.Contains(string(reference), hush) {
		t.Errorf("the reference is %q, %v; want the parameter's name and not its value", reference, err)
	}
	for _, row := range r.all() {
		if text := fmt.Sprintf("%+v", row); strings.Contains(text, hush) || strings.Contains(text, "7731\"") {
			t.Errorf("the row shows the secret: %s", text)
		}
		if got := row.Request.ShownParams(); got["password"] != ops.Mask || got["pin"] != ops.Mask || got["color"] != "red" {
			t.Errorf("people are shown %v, want the secrets masked and the color", got)
		}
	}
	for _, d := range r.deliveries(op.ID) {
		if strings.Contains(fmt.Sprintf("%+v", d), hush) {
			t.Errorf("a delivery shows the secret: %+v", d)
		}
	}
}

// The next run sends the same secret, and what GitLab and jobs say of it is masked.
func TestSecretParameterOfARetry(t *testing.T) {
	t.Parallel()
	r := newRig(t, secretive())
	op, err := r.service.Submit(t.Context(), secretRequest(r))
	if err != nil {
		t.Fatal(err)
	}
	r.pass(3 * time.Second)
	roots, _ := r.lab.Roots()
	r.lab.AddJob(ops.Job{Name: "init", Status: "failed", Pipeline: roots[0].Ref.ID}, "login with "+hush+" refused\nso "+hush)
	r.lab.SetStatus(roots[0].Ref.ID, "failed")
	r.pass(6 * time.Second)
	got := r.state(op.ID, ops.Failed, ops.ReasonJobFailed)
	if got.Failure == nil || got.Failure.Tail != "login with *** refused\nso ***" || got.Failure.Last != "so ***" {
		t.Errorf("got evidence %+v, want the secret masked", got.Failure)
	}

	p, err := r.service.PlanRetry(t.Context(), op.ID, actor("alice"))
	if err != nil || p.Spec.Payload["PASSWORD"] != ops.Mask || p.Spec.Inputs["pin"] != ops.Mask || p.Spec.Payload["COLOR"] != "red" {
		t.Errorf("got plan %+v, %v, want the secrets masked", p.Spec, err)
	}
	if _, err := r.service.Retry(t.Context(), op.ID, 0, actor("alice"), "Alice", r.key()); err != nil {
		t.Fatal(err)
	}
	r.lab.Fail("create", opstest.Fault{Err: &ops.Error{
		Code: ops.CodeInvalid, Reason: ops.ReasonGitLabRefused, Msg: "GitLab refused it: `" + hush + "` is not in the list of allowed options.",
	}})
	r.pass(3 * time.Second)
	if got := r.state(op.ID, ops.Failed, ops.ReasonGitLabRefused); strings.Contains(got.Detail, hush) || !strings.Contains(got.Detail, "`***` is not") {
		t.Errorf("got %q, want GitLab's sentence without the secret", got.Detail)
	}
	if _, err := r.service.Retry(t.Context(), op.ID, 0, actor("alice"), "Alice", r.key()); err != nil {
		t.Fatal(err)
	}
	r.pass(3 * time.Second)
	_, specs := r.lab.Roots()
	if len(specs) != 2 || specs[1].Payload["PASSWORD"] != hush {
		t.Errorf("got %d pipelines, want the second run with the same password", len(specs))
	}
}

// A plan needs no secret, and shows none.
func TestPlanMasksSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t, secretive())
	for name, params := range map[string]map[string]string{
		"given":   {"password": hush, "pin": "7731"},
		"missing": {"pin": "7731"},
	} {
		q := r.request("demo")
		q.Params = params
		p, err := r.service.Plan(t.Context(), q)
		if err != nil || p.Spec.Payload["PASSWORD"] != ops.Mask || p.Spec.Inputs["pin"] != ops.Mask {
			t.Errorf("%s: got %+v, %v, want both masked", name, p.Spec, err)
		}
	}
	if _, err := r.service.Submit(t.Context(), r.request("demo")); ops.ReasonOf(err) != ops.ReasonMissingParam {
		t.Errorf("got %v, want a deploy without its secret refused", err)
	}
	if n := r.lab.Calls("create"); n != 0 || len(r.all()) != 0 {
		t.Errorf("plans made %d calls and %d operations, want none", n, len(r.all()))
	}
}

// What was hidden under an earlier key is still sent; under a key that is gone it is refused.
func TestHiddenParameterAndKeys(t *testing.T) {
	t.Parallel()
	old, current := []byte("an-old-key-of-thirty-two-bytes!!"), []byte("the-new-key-of-thirty-two-bytes!")
	for _, tc := range []struct {
		name     string
		previous [][]byte
		want     ops.State
		reason   ops.Reason
	}{
		{"the old key is still known", [][]byte{old}, ops.Running, ""},
		{"the old key is gone", nil, ops.Refused, ops.ReasonInvalidParam},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, secretive())
			signer, err := ops.NewSigner(old)
			if err != nil {
				t.Fatal(err)
			}
			r.service.Signer = signer
			op, err := r.service.Submit(t.Context(), secretRequest(r))
			if err != nil {
				t.Fatal(err)
			}
			if r.service.Signer, err = ops.NewSigner(current, tc.previous...); err != nil {
				t.Fatal(err)
			}
			r.pass(3 * time.Second)
			got := r.state(op.ID, tc.want, tc.reason)
			if tc.want == ops.Refused && !strings.Contains(got.Detail, "password") && !strings.Contains(got.Detail, "pin") {
				t.Errorf("got %q, want it to name the parameter", got.Detail)
			}
		})
	}
}

// Nobody can give a value in hidden form: it would be revealed as the bot's own.
func TestHiddenFormIsNotTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, secretive())
	op, err := r.service.Submit(t.Context(), secretRequest(r))
	if err != nil {
		t.Fatal(err)
	}
	stolen := r.op(op.ID).Request.Params["password"]
	if !ops.Hidden(stolen) {
		t.Fatalf("got %q, want the hidden form", stolen)
	}
	for _, name := range []string{"color", "password"} {
		q := secretRequest(r)
		q.Target.Instance = "shop"
		q.Params[name] = stolen
		var e *ops.Error
		if _, err := r.service.Submit(t.Context(), q); !errors.As(err, &e) || e.Reason != ops.ReasonInvalidParam {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
}

func TestPlanRetryIsCheckedAsARetry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.to(ops.Failed)
	for _, tc := range []struct {
		name, id, user string
		reason         ops.Reason
	}{
		{"who may", id, "carol", ""},
		{"who may not", id, "mallory", ops.ReasonNotAllowed},
		{"no such operation", "zzzzzz", "carol", ops.ReasonUnknownOperation},
	} {
		_, err := r.service.PlanRetry(t.Context(), tc.id, actor(tc.user))
		if tc.reason == "" && err != nil || tc.reason != "" && ops.ReasonOf(err) != tc.reason {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.reason)
		}
	}
	// Who asked first may have lost the right meanwhile; the plan belongs to who asks for it.
	r.rights.take("alice")
	if _, err := r.service.PlanRetry(t.Context(), id, actor("carol")); err != nil {
		t.Errorf("got %v, want carol's plan", err)
	}
	if _, err := r.service.PlanRetry(t.Context(), id, actor("alice")); ops.ReasonOf(err) != ops.ReasonNotAllowed {
		t.Errorf("got %v, want alice refused", err)
	}
}
