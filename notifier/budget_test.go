package notifier_test

import (
	"fmt"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/notifier"
	"ocim/ops"
)

func start() time.Time { return time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC) }

// slackRate is what the Slack adapter says; Slack itself allows 50 edits in any minute.
func slackRate(string) chat.Rate {
	return chat.Rate{PostsPerChannel: 1, EditsPerMinute: 40, MinEditGapMillis: 3000}
}

func in(channel string) ops.Conversation {
	return ops.Conversation{Platform: "slack", Workspace: "W1", Channel: channel}
}

func TestBudgetKeepsBelowFiftyEditsInAnyMinute(t *testing.T) {
	t.Parallel()
	for _, final := range []bool{false, true} {
		b := notifier.NewBudget(slackRate)
		var given []time.Time
		for now, n := start(), 0; now.Before(start().Add(5 * time.Minute)); now = now.Add(50 * time.Millisecond) {
			n++
			// A hundred cards, and a quiet minute in between, after which a burst is allowed.
			if at := now.Sub(start()); at > 2*time.Minute && at < 3*time.Minute {
				continue
			}
			if ok, _ := b.Edit(in("C1"), fmt.Sprint(n%100), final, now); ok {
				given = append(given, now)
			}
		}
		for i, from := range given {
			n := 0
			for _, at := range given[i:] {
				if at.Sub(from) < time.Minute {
					n++
				}
			}
			if n > 50 {
				t.Fatalf("final %v: got %d edits in the minute after %v, want at most 50", final, n, from)
			}
		}
		if len(given) < 150 {
			t.Errorf("final %v: got %d edits in four busy minutes, want about 40 a minute", final, len(given))
		}
	}
}

func TestBudgetKeepsAReserveForTheEndAndForFirstPosts(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget(slackRate)
	now := start()
	progress := 0
	for n := range 100 {
		if ok, at := b.Edit(in("C1"), fmt.Sprint("card", n), false, now); ok {
			progress++
		} else if !at.After(now) {
			t.Fatalf("got a refusal until %v, want a later time", at)
		}
	}
	finals := 0
	for n := range 100 {
		if ok, _ := b.Edit(in("C1"), fmt.Sprint("card", n), true, now); ok {
			finals++
		}
	}
	if progress == 0 || finals < 4 {
		t.Errorf("got %d edits that tell of progress, then %d last ones, want some, then at least 4", progress, finals)
	}
	replies := 0
	for n := range 20 {
		if ok, _ := b.Post(in("C1"), fmt.Sprint("reply", n), false, now); ok {
			replies++
		}
	}
	if ok, _ := b.Post(in("C1"), "card", true, now); replies == 0 || !ok {
		t.Errorf("got %d replies and a first post: %v, want some and the post", replies, ok)
	}
	if b.Spare(in("C1"), now) || !b.Spare(in("C1"), now.Add(time.Minute)) {
		t.Error("edits that tell nothing new wait for a full budget, and only for that")
	}
}

// Each of many messages that wait gets a turn of its own, is let through when it comes then, and not
// before: nobody comes in vain, and nobody who comes later passes them.
func TestBudgetGivesEachMessageATurn(t *testing.T) {
	t.Parallel()
	const n = 300
	for _, tc := range []struct {
		name  string
		burst int
		every time.Duration
		ask   func(b *notifier.Budget, i int, now time.Time) (bool, time.Time)
	}{
		{"replies", 3, time.Second, func(b *notifier.Budget, i int, now time.Time) (bool, time.Time) {
			return b.Post(in("C1"), fmt.Sprintf("key-%d", i), false, now)
		}},
		{"first posts", 5, time.Second, func(b *notifier.Budget, i int, now time.Time) (bool, time.Time) {
			return b.Post(in("C1"), fmt.Sprintf("key-%d", i), true, now)
		}},
		{"edits", 5, 1500 * time.Millisecond, func(b *notifier.Budget, i int, now time.Time) (bool, time.Time) {
			return b.Edit(in("C1"), fmt.Sprintf("ts-%d", i), false, now)
		}},
		{"last edits", 10, 1500 * time.Millisecond, func(b *notifier.Budget, i int, now time.Time) (bool, time.Time) {
			return b.Edit(in("C1"), fmt.Sprintf("ts-%d", i), true, now)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := notifier.NewBudget(slackRate)
			turns := map[int]time.Time{}
			for i := range n {
				ok, at := tc.ask(b, i, start())
				if ok != (i < tc.burst) {
					t.Fatalf("message %d: got %t, want the first %d let through", i, ok, tc.burst)
				}
				if !ok {
					turns[i] = at
				}
			}
			for i := tc.burst; i < n; i++ {
				want := start().Add(time.Duration(i-tc.burst+1) * tc.every)
				if d := turns[i].Sub(want).Abs(); d > time.Millisecond {
					t.Fatalf("message %d: got its turn at %s, want %s", i, turns[i], want)
				}
				if ok, at := tc.ask(b, i, turns[i].Add(-time.Millisecond)); ok || !at.Equal(turns[i]) {
					t.Fatalf("message %d before its turn: got %t, %s, want no, and the same turn", i, ok, at)
				}
				if i+1 < n {
					if ok, _ := tc.ask(b, n+i, turns[i]); ok {
						t.Fatalf("a newcomer passed message %d", i)
					}
				}
				if ok, _ := tc.ask(b, i, turns[i]); !ok {
					t.Fatalf("message %d at its turn: got no", i)
				}
			}
		})
	}
}

// Those who leave the line leave its budget to others.
func TestBudgetIsNotWastedOnThoseWhoDoNotCome(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget(slackRate)
	for i := range 1000 {
		b.Edit(in("C1"), fmt.Sprintf("ts-%d", i), false, start())
	}
	given := 0
	for s := range 600 {
		if ok, _ := b.Edit(in("C1"), fmt.Sprintf("other-%d", s), false, start().Add(time.Duration(s)*time.Second)); ok {
			given++
		}
	}
	if given < 300 {
		t.Errorf("got %d edits in ten minutes, want about 40 a minute", given)
	}
}

// When many came too late for their turns, the limit holds all the same.
func TestBudgetHoldsForThoseWhoComeTogetherAndLate(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget(slackRate)
	for i := range 200 {
		b.Edit(in("C1"), fmt.Sprintf("ts-%d", i), false, start())
	}
	given := 0
	for i := range 200 {
		if ok, _ := b.Edit(in("C1"), fmt.Sprintf("ts-%d", i), false, start().Add(time.Hour)); ok {
			given++
		}
	}
	if given > 10 {
		t.Errorf("got %d edits at one moment, want at most the burst", given)
	}
}

func TestBudgetLetsFinalEditsPassTheGap(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget(slackRate)
	now := start()
	if ok, _ := b.Edit(in("C1"), "ts", false, now); !ok {
		t.Fatal("the first edit has to wait")
	}
	if ok, at := b.Edit(in("C1"), "ts", false, now.Add(time.Second)); ok || !at.Equal(now.Add(3*time.Second)) {
		t.Errorf("second edit: got %t, %s, want it after 3 s", ok, at)
	}
	if ok, _ := b.Edit(in("C1"), "ts", true, now.Add(time.Second)); !ok {
		t.Error("the final edit has to wait")
	}
}

func TestBudgetPausesTheWorkspaceThatAsksForIt(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget(slackRate)
	now := start()
	until := now.Add(30 * time.Second)
	other := ops.Conversation{Platform: "slack", Workspace: "W2", Channel: "C1"}

	b.PauseEdits(in("C1"), until)
	if ok, at := b.Edit(in("C2"), "card", true, now); ok || at.Before(until) {
		t.Errorf("edit elsewhere in the workspace: got %v, %v, want to wait until %v", ok, at, until)
	}
	if b.Spare(in("C2"), now) {
		t.Error("there is nothing to spare in a workspace that asks to wait")
	}
	if ok, _ := b.Post(in("C2"), "card", true, now); !ok {
		t.Error("posts wait, want only edits to")
	}
	b.PausePosts(in("C1"), until)
	if ok, at := b.Post(in("C2"), "other", true, now); ok || at.Before(until) {
		t.Errorf("post elsewhere in the workspace: got %v, %v, want to wait until %v", ok, at, until)
	}
	if ok, _ := b.Edit(other, "card", true, now); !ok {
		t.Error("another workspace waits for nothing")
	}
	if ok, _ := b.Edit(in("C2"), "card", true, until.Add(time.Second)); !ok {
		t.Error("after the pause it goes on")
	}
}

func TestBudgetIsThePlatformsOwn(t *testing.T) {
	t.Parallel()
	rates := map[string]chat.Rate{
		"slack": slackRate(""), "mattermost": {PostsPerChannel: 2, EditsPerMinute: 200, MinEditGapMillis: 1000}, "terminal": {},
	}
	b := notifier.NewBudget(func(p string) chat.Rate { return rates[p] })
	got := map[string]int{}
	for p := range rates {
		c := ops.Conversation{Platform: p, Workspace: "W1", Channel: "C1"}
		for s := range 120 {
			for n := range 10 {
				if ok, _ := b.Edit(c, fmt.Sprint(s, n), false, start().Add(time.Duration(s)*time.Second)); ok {
					got[p]++
				}
			}
		}
	}
	if got["slack"] > 90 || got["mattermost"] < 380 || got["terminal"] != 1200 {
		t.Errorf("got edits in two minutes %v, want about 85, 400 and all 1,200", got)
	}
}

// Nobody is sent away for longer than the store believes, and the turn is kept all the same.
func TestBudgetSendsNobodyAwayForLong(t *testing.T) {
	t.Parallel()
	b := notifier.NewBudget(slackRate)
	now := start()
	var last time.Time
	for i := range 1005 {
		_, last = b.Post(in("C1"), fmt.Sprint("reply", i), false, now)
	}
	if want := now.Add(10 * time.Minute); !last.Equal(want) {
		t.Errorf("the last of a thousand: got %s, want %s", last, want)
	}
	if ok, at := b.Post(in("C1"), "reply1004", false, last); ok || !at.After(last) {
		t.Errorf("when it asks again: got %t, %s, want a later turn", ok, at)
	}
}
