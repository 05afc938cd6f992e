package notifier

import (
	"fmt"
	"math/rand/v2"
	"slices"
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

// asker is a message that wants to be edited, or a key that wants to be posted, as the queue wakes
// it: at the time that it was told, or a little later, and again when it has something new to say.
type asker struct {
	next    time.Time
	channel string
	name    string
	post    bool
}

// However many ask, no more is allowed than the platforms take, and not much less.
func TestBudgetStaysBelowThePlatformsLimits(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := NewBudget()
		start := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
		soon := func(most time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(most))) }
		var askers []*asker
		for i := range 120 {
			askers = append(askers, &asker{start.Add(soon(time.Minute)), fmt.Sprint("c", i%4), fmt.Sprint("m", i), i%3 == 0})
		}
		var edits []time.Time
		posts := map[string][]time.Time{}
		last := map[string]time.Time{}
		for range 30_000 {
			a := slices.MinFunc(askers, func(x, y *asker) int { return x.next.Compare(y.next) })
			now := a.next
			final := rnd.IntN(10) == 0
			var ok bool
			var at time.Time
			if a.post {
				ok, at = b.Post(place(a.channel), a.name, now)
			} else {
				ok, at = b.Edit(place(a.channel), a.name, final, now)
			}
			switch {
			case !ok && !at.After(now):
				t.Fatalf("not allowed at %v, but to be asked again at %v", now, at)
			case !ok:
				a.next = at.Add(soon(time.Second))
				continue
			case a.post:
				posts[a.channel] = append(posts[a.channel], now)
			default:
				if gap := now.Sub(last[a.name]); !final && gap < editGap {
					t.Fatalf("message %s was edited twice in %v", a.name, gap)
				}
				last[a.name] = now
				edits = append(edits, now)
			}
			a.next = now.Add(soon(5 * time.Second))
		}
		if got := most(edits, time.Minute); got > 50 || got < 40 {
			t.Errorf("got %d edits in a minute, want at most the 50 that Slack allows and not far less", got)
		}
		for channel, at := range posts {
			if got := most(at, 10*time.Second); got > 15 || got < 9 {
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
		b.Post(place("c"), fmt.Sprint(i), now)
	}
	other := place("c")
	other.Workspace = "other"
	if ok, _ := b.Edit(other, "m", false, now); !ok {
		t.Error("got no edit in another workspace")
	}
	if ok, _ := b.Post(place("d"), "k", now); !ok {
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
	for i := range 3 * rememberedEntries {
		now = now.Add(2 * time.Second)
		b.Post(place(fmt.Sprint(i)), "k", now)
		if ok, _ := b.Edit(place("c"), fmt.Sprint(i), false, now); !ok {
			t.Fatalf("edit %d: not allowed", i)
		}
	}
	if len(b.lastEdit)+len(b.places) > rememberedEntries || len(b.posts) > rememberedEntries {
		t.Errorf("got %d messages and %d channels in memory, want about %d", len(b.lastEdit), len(b.posts), rememberedEntries)
	}
}
