package commands

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/ops"
)

func perMinute(n int) rigOption { return func(c *Config) { c.PerMinute = n } }

// One person's flood takes nothing from the others, is answered with when to come again, starts
// nothing, and is one line in the log.
func TestT17_OnePersonCannotFlood(t *testing.T) {
	t.Parallel()
	r := newRig(t, perMinute(6))
	for i := range 6 {
		if got := r.says("alice", "whoami"); !strings.Contains(got, "You are alice") {
			t.Fatalf("request %d: got %q, want an answer", i, got)
		}
	}
	for range 50 {
		got := r.says("alice", "deploy demo")
		for _, want := range []string{"more than 6 requests in a minute", "not looked at", "Try again in 10 s.", "rate_limited"} {
			if !strings.Contains(got, want) {
				t.Fatalf("got %q, want it to contain %q", got, want)
			}
		}
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("got %d operations, want none of what was refused", n)
	}
	if n := strings.Count(r.logs.String(), "too many from one person"); n != 1 || strings.Count(r.logs.String(), "\n") > 2 {
		t.Errorf("got %d lines in the log, want one:\n%s", n, r.logs)
	}
	if got := r.says("dora", "whoami"); !strings.Contains(got, "You are dora") {
		t.Errorf("dora got %q, want an answer", got)
	}
	in := r.incoming(chat.Command, "alice")
	in.Actor.Workspace, in.Text = "W2", "whoami"
	if got := read(r.commands.Handle(t.Context(), in).Message); !strings.Contains(got, "You are alice") {
		t.Errorf("alice of another workspace is somebody else, got %q", got)
	}

	// Clicks, forms and searching count as well; what is typed in a field is refused without a word.
	for _, kind := range []chat.Kind{chat.Click, chat.Submit} {
		if got := read(r.commands.Handle(t.Context(), r.incoming(kind, "alice")).Message); !strings.Contains(got, "rate_limited") {
			t.Errorf("%s: got %q, want it refused", kind, got)
		}
	}
	if ans := r.commands.Handle(t.Context(), r.incoming(chat.Suggest, "alice")); ans.Message != nil || ans.Options != nil {
		t.Errorf("suggest: got %+v, want nothing", ans)
	}

	r.clock.Advance(10 * time.Second)
	if got := r.says("alice", "whoami"); !strings.Contains(got, "You are alice") {
		t.Errorf("after the wait: got %q, want an answer", got)
	}
	if got := r.says("alice", "whoami"); !strings.Contains(got, "rate_limited") {
		t.Errorf("got %q, want one request for one wait", got)
	}
	r.clock.Advance(time.Hour)
	for i := range 7 {
		if got := r.says("alice", "whoami"); strings.Contains(got, "rate_limited") != (i == 6) {
			t.Errorf("request %d after an hour: got %q; a minute's worth is the most there is", i, got)
		}
	}
}

func TestNoLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 500 {
		if wait, _ := r.commands.limit.take(ops.Actor{UserID: "alice"}); wait != 0 {
			t.Fatalf("got a wait of %s, want none without a limit", wait)
		}
	}
	if n := len(r.commands.limit.people); n != 0 {
		t.Errorf("got %d people remembered, want none", n)
	}
}

// Memory is bounded whoever comes, and who was quiet is forgotten first.
func TestT17_LimiterForgets(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC))
	l := newLimiter(2, c)
	actor := func(i int) ops.Actor { return ops.Actor{Platform: "fake", Workspace: "W1", UserID: fmt.Sprint(i)} }
	for i := range maxPeople {
		l.take(actor(i))
	}
	c.Advance(50 * time.Second)
	busy := actor(7)
	l.take(busy)
	l.take(busy)
	c.Advance(11 * time.Second)
	l.take(actor(maxPeople))
	if n := len(l.people); n != 2 {
		t.Errorf("got %d people remembered, want the busy one and the new one", n)
	}
	if wait, _ := l.take(busy); wait == 0 {
		t.Error("the busy one was forgotten, and begins anew")
	}
	for i := range 3 * maxPeople {
		l.take(actor(i))
	}
	if n := len(l.people); n > maxPeople {
		t.Errorf("got %d people remembered, want at most %d", n, maxPeople)
	}
}

// A clock that is set back neither locks people out nor lets them through.
func TestLimiterAndAClockThatGoesBack(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC))
	l := newLimiter(60, c)
	a := ops.Actor{UserID: "alice"}
	for range 60 {
		l.take(a)
	}
	c.Advance(-time.Hour)
	if wait, _ := l.take(a); wait <= 0 || wait > time.Second {
		t.Errorf("got a wait of %s, want up to a second", wait)
	}
	c.Advance(time.Second)
	if wait, _ := l.take(a); wait != 0 {
		t.Errorf("got a wait of %s, want none a second later", wait)
	}
}
