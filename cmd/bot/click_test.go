package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/ops"
)

func TestT02_ReplayedRequestsActOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	first := r.incoming("alice")
	first.Kind, first.Text = chat.Command, "deploy demo"
	other := r.incoming("alice")
	other.Kind, other.Text = chat.Command, "deploy shop"
	random := rand.New(rand.NewPCG(7, 7))
	for range 1000 {
		in := first
		if random.IntN(3) == 0 {
			in = other
		}
		mustContain(t, read(r.app.commands.Handle(t.Context(), in).Message), "Accepted")
		if random.IntN(100) == 0 {
			r.pass(5 * time.Second)
		}
	}
	r.pass(3 * time.Minute)
	r.exactlyOnce(2)
	if got := len(r.lab.Triggers()); got != 2 {
		t.Errorf("got %d triggers, want 2", got)
	}
}

func TestT11_ButtonsCountOnlyOnTheirCardForTheirRunAndForWhoMay(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.lab.Override(rigProject, gitlabtest.Override{FailJob: "build"})
	id := r.deploy("alice", "demo")
	r.until(id, ops.Running)
	r.settle()
	card := r.card(id)
	cancel := card.Now().Buttons[0].Token

	copied := card
	copied.Ref = "copy"
	elsewhere := card
	elsewhere.To.Channel = "C2"
	for _, tc := range []struct {
		name, user, token string
		on                chattest.Sent
		want              string
	}{
		{"copied card", "alice", cancel, copied, "copied_card"},
		{"other channel", "alice", cancel, elsewhere, "copied_card"},
		{"forged token", "alice", cancel[:len(cancel)-2] + "xx", card, "forged_button"},
		{"no token", "alice", "", card, "forged_button"},
		{"wrong person", "bob", cancel, card, "not_allowed"},
	} {
		said, a := r.click(tc.user, tc.token, tc.on)
		if !strings.Contains(said, tc.want) || a != nil {
			t.Errorf("%s: got %q, want %s and no dialog", tc.name, said, tc.want)
		}
	}
	r.chat.Remove("carol")
	if said, a := r.click("carol", cancel, card); !strings.Contains(said, "members of this channel") || a != nil {
		t.Errorf("not a member: got %q", said)
	}
	if got := r.op(id).State; got != ops.Running {
		t.Fatalf("a refused click moved the operation to %s", got)
	}

	r.until(id, ops.Failed)
	r.settle()
	if said, _ := r.click("alice", cancel, r.card(id)); !strings.Contains(said, "already_final") {
		t.Errorf("button of a state that is over: got %q", said)
	}
	retry := r.card(id).Now().Buttons[0].Token
	if said, _ := r.click("bob", retry, r.card(id)); !strings.Contains(said, "not_allowed") || r.op(id).Run != 1 {
		t.Errorf("wrong person retries: got %q and run %d", said, r.op(id).Run)
	}
	r.clock.Advance(365 * 24 * time.Hour)
	if said, _ := r.click("alice", retry, r.card(id)); !strings.Contains(said, "old_button") || !strings.Contains(said, "failed") {
		t.Errorf("a year later: got %q, want the current state", said)
	}
	r.exactlyOnce(1)
}

func TestT12_CancelDialogIsTheOpenersAndSealed(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	r.until(id, ops.Running)
	r.settle()
	_, a := r.press("alice", id, "cancel")
	if said, _ := r.submit("carol", a, nil); !strings.Contains(said, "forged_button") {
		t.Errorf("another person submits: got %q", said)
	}
	bad := *a
	bad.State = strings.Replace(bad.State, ".", "A.", 1)
	if said, _ := r.submit("alice", &bad, nil); !strings.Contains(said, "forged_button") {
		t.Errorf("changed state: got %q", said)
	}
	swapped := *a
	swapped.Name = "deploy"
	if said, _ := r.submit("alice", &swapped, map[string]string{"instance": "shop"}); !strings.Contains(said, "forged_button") {
		t.Errorf("swapped dialog: got %q", said)
	}
	if got := r.op(id).State; got != ops.Running {
		t.Fatalf("a refused form moved the operation to %s", got)
	}
	said, _ := r.submit("alice", a, nil)
	mustContain(t, said, "Cancel is on its way")
	r.until(id, ops.Canceled)
	if said, _ := r.submit("alice", a, nil); !strings.Contains(said, "already_final") {
		t.Errorf("sent twice: got %q", said)
	}
	r.exactlyOnce(1)
}

func TestI08W24_PickerRestartAndRetryKeepOneCard(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.lab.Override(rigProject, gitlabtest.Override{FailJob: "build", Operations: 1})
	_, a := r.opens("alice", "deploy")
	if _, errs := r.submit("alice", a, map[string]string{"instance": "eu/nothing"}); errs["instance"] == "" {
		t.Errorf("unknown instance: got errors %v, want one on the field", errs)
	}
	said, _ := r.submit("alice", a, map[string]string{"instance": "eu/demo", "why": "a new theme"})
	mustContain(t, said, "Accepted")
	op, ok := r.byKey("key-3")
	if !ok {
		t.Fatal("the form made no operation")
	}
	r.restart()
	r.until(op.ID, ops.Failed)
	r.restart()
	r.settle()
	said, _ = r.press("alice", op.ID, "retry")
	mustContain(t, said, "Run 2")
	r.restart()
	r.until(op.ID, ops.Succeeded)
	r.pass(time.Minute)
	mustContain(t, read(new(r.card(op.ID).Now())), "succeeded", "run 2", "a new theme")
	r.exactlyOnce(2)
	for _, s := range []string{rigKey, rigTrigger, rigRead, rigWrite, rigHook} {
		if strings.Contains(r.logs.String(), s) || strings.Contains(jsonText(t, r.chat.Sent()), s) {
			t.Errorf("secret %s… is in the log or in chat", s[:8])
		}
	}
}

// Whoever loses the right between the request and the start has started nothing.
func TestT07I10_RightsAreAskedAgainAtTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	r.left = "alice"
	r.restart()
	if op := r.until(id, ops.Refused); op.Reason != ops.ReasonNotAllowed {
		t.Errorf("got reason %s, want %s", op.Reason, ops.ReasonNotAllowed)
	}
	r.settle()
	mustContain(t, read(new(r.card(id).Now())), "may not start operations")
	r.exactlyOnce(0)

	// The same with a retry, of an operation that somebody else has asked for.
	r.left = ""
	r.restart()
	r.lab.Override(rigProject, gitlabtest.Override{FailJob: "build"})
	second := r.deploy("alice", "shop")
	r.until(second, ops.Failed)
	r.settle()
	said, _ := r.press("carol", second, "retry")
	mustContain(t, said, "Run 2")
	r.left = "carol"
	r.restart()
	r.until(second, ops.Refused)
	r.exactlyOnce(1)
}
