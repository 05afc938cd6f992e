package notifier

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ocim/ops"
)

func place(channel string) ops.Conversation {
	return ops.Conversation{Platform: "fake", Workspace: "main", Channel: channel}
}

// most is the largest number of instants within any window.
func most(at []time.Time, window time.Duration) int {
	worst, first := 0, 0
	for i := range at {
		for at[i].Sub(at[first]) >= window {
			first++
		}
		worst = max(worst, i-first+1)
	}
	return worst
}

// Whatever is asked for in whatever order, no more is allowed than the platforms take.
func TestBudgetStaysBelowThePlatformsLimits(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := NewBudget()
		now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
		var edits []time.Time
		posts := map[string][]time.Time{}
		last := map[string]time.Time{}
		for range 40_000 {
			now = now.Add(time.Duration(rnd.IntN(100)) * time.Millisecond)
			channel := fmt.Sprint("c", rnd.IntN(5))
			ref := fmt.Sprint("m", rnd.IntN(50))
			final := rnd.IntN(10) == 0
			if ok, at := b.Edit(place(channel), ref, final, now); ok {
				if gap := now.Sub(last[channel+ref]); !final && gap < editGap {
					t.Fatalf("message %s was edited twice in %v", ref, gap)
				}
				last[channel+ref] = now
				edits = append(edits, now)
			} else if !at.After(now) {
				t.Fatalf("not allowed at %v, but to be asked again at %v", now, at)
			}
			if ok, at := b.Post(place(channel), now); ok {
				posts[channel] = append(posts[channel], now)
			} else if !at.After(now) {
				t.Fatalf("not allowed at %v, but to be asked again at %v", now, at)
			}
		}
		if got := most(edits, time.Minute); got > 50 || got < 30 {
			t.Errorf("got %d edits in a minute, want at most the 50 that Slack allows and not far less", got)
		}
		for channel, at := range posts {
			if got := most(at, 10*time.Second); got > 13 {
				t.Errorf("got %d posts in ten seconds in %s, want about one a second", got, channel)
			}
		}
	}
}

func TestBudgetAllowsWhenItSaid(t *testing.T) {
	t.Parallel()
	b := NewBudget()
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for i := range 200 {
		ok, at := b.Edit(place("c"), fmt.Sprint(i), true, now)
		if !ok {
			if now = at; at.Sub(now) > 2*time.Second {
				t.Fatalf("got %v to wait, want at most two seconds", at.Sub(now))
			}
			if ok, at = b.Edit(place("c"), fmt.Sprint(i), true, now); !ok {
				t.Fatalf("got no edit at the instant named, but %v later", at.Sub(now))
			}
		}
	}
}

func TestBudgetOfOneWorkspaceIsNotTheOthers(t *testing.T) {
	t.Parallel()
	b := NewBudget()
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for i := range 100 {
		b.Edit(place("c"), fmt.Sprint(i), true, now)
		b.Post(place("c"), now)
	}
	other := place("c")
	other.Workspace = "other"
	if ok, _ := b.Edit(other, "m", false, now); !ok {
		t.Error("got no edit in another workspace")
	}
	if ok, _ := b.Post(place("d"), now); !ok {
		t.Error("got no post in another channel")
	}
	if b.Spare(place("c"), now) || !b.Spare(other, now) {
		t.Error("got room to spare in the wrong workspace")
	}
	b.HoldEdits(other, now.Add(time.Minute))
	b.HoldEdits(other, now.Add(time.Second)) // a shorter wait does not end the longer one
	if ok, at := b.Edit(other, "n", true, now.Add(30*time.Second)); ok || !at.Equal(now.Add(time.Minute)) {
		t.Errorf("while it is held: got %v, %v", ok, at)
	}
	if ok, _ := b.Edit(other, "n", true, now.Add(time.Minute)); !ok {
		t.Error("got no edit after the wait")
	}
}

func TestBudgetForgets(t *testing.T) {
	t.Parallel()
	b := NewBudget()
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for i := range 3 * rememberedEdits {
		now = now.Add(2 * time.Second)
		b.Post(place(fmt.Sprint(i)), now)
		if ok, _ := b.Edit(place("c"), fmt.Sprint(i), false, now); !ok {
			t.Fatalf("edit %d: not allowed", i)
		}
	}
	if len(b.lastEdit) > rememberedEdits+1 || len(b.posts) > rememberedEdits+64 {
		t.Errorf("got %d messages and %d channels in memory, want about %d", len(b.lastEdit), len(b.posts), rememberedEdits)
	}
}
