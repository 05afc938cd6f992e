package notifier_test

import (
	"fmt"
	"testing"
	"time"

	"ocim/notifier"
	"ocim/ops"
)

// Each of many messages that wait gets a turn of its own, is let through when it comes then, and not
// before: nobody comes in vain, and the platform's limit holds.
func TestBudgetGivesEachMessageATurn(t *testing.T) {
	t.Parallel()
	const n = 350
	to := ops.Conversation{Platform: "slack", Workspace: "T1", Channel: "C1"}
	start := time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		burst int
		every time.Duration
		ask   func(b *notifier.Budget, i int, now time.Time) (bool, time.Time)
	}{
		{"posts", 5, time.Second, func(b *notifier.Budget, i int, now time.Time) (bool, time.Time) {
			return b.Post(to, fmt.Sprintf("key-%d", i), now)
		}},
		{"edits", 20, 1500 * time.Millisecond, func(b *notifier.Budget, i int, now time.Time) (bool, time.Time) {
			return b.Edit(to, fmt.Sprintf("ts-%d", i), false, now)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := notifier.NewBudget()
			turns := map[int]time.Time{}
			for i := range n {
				ok, at := tc.ask(b, i, start)
				if ok != (i < tc.burst) {
					t.Fatalf("message %d: got %t, want the first %d let through", i, ok, tc.burst)
				}
				if !ok {
					turns[i] = at
				}
			}
			for i := tc.burst; i < n; i++ {
				want := start.Add(time.Duration(i-tc.burst+1) * tc.every)
				if d := turns[i].Sub(want).Abs(); d > time.Millisecond {
					t.Fatalf("message %d: got its turn at %s, want %s", i, turns[i], want)
				}
				if ok, at := tc.ask(b, i, turns[i].Add(-time.Millisecond)); ok || !at.Equal(turns[i]) {
					t.Fatalf("message %d before its turn: got %t, %s, want no, and the same turn", i, ok, at)
				}
				if ok, _ := tc.ask(b, i, turns[i]); !ok {
					t.Fatalf("message %d at its turn: got no", i)
				}
			}
		})
	}
}

func TestBudgetLetsFinalEditsPassTheGap(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget()
	to := ops.Conversation{Platform: "slack", Workspace: "T1", Channel: "C1"}
	now := time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)
	if ok, _ := b.Edit(to, "ts", false, now); !ok {
		t.Fatal("the first edit has to wait")
	}
	if ok, at := b.Edit(to, "ts", false, now.Add(time.Second)); ok || !at.Equal(now.Add(3*time.Second)) {
		t.Errorf("second edit: got %t, %s, want it after 3 s", ok, at)
	}
	if ok, _ := b.Edit(to, "ts", true, now.Add(time.Second)); !ok {
		t.Error("the final edit has to wait")
	}
}

// Nobody is sent away for longer than the store believes, and the place is kept all the same.
func TestBudgetSendsNobodyAwayForLong(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget()
	to := ops.Conversation{Platform: "slack", Workspace: "T1", Channel: "C1"}
	now := time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)
	var last time.Time
	for i := range 1005 {
		_, last = b.Post(to, fmt.Sprintf("key-%d", i), now)
	}
	if want := now.Add(10 * time.Minute); !last.Equal(want) {
		t.Errorf("the thousandth that waits: got %s, want %s", last, want)
	}
	if ok, at := b.Post(to, "key-1004", last); ok || !at.Equal(now.Add(1000*time.Second)) {
		t.Errorf("when it asks again: got %t, %s, want its turn after 1,000 s", ok, at)
	}
}
