package notifier

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ocim/ops"
)

// Budget keeps below what a platform lets a bot write, so that a burst of changes costs a few
// edits and never a rate limit. What cannot be sent now is given its place in the line: the time at
// which it may come back, which is another one for each message. So a thousand cards that wait cost
// one look each when their turn comes, and not a thousand looks a second. Nothing else is queued:
// the newest state is sent. Safe for concurrent use.
type Budget struct {
	mu       sync.Mutex
	gap      time.Duration
	edits    map[string]*rate.Limiter // by workspace
	posts    map[string]*rate.Limiter // by channel
	lastEdit map[string]time.Time     // by message
	places   map[string]time.Time     // by message: when its turn comes
	many     int                      // so many entries are worth looking through
}

// NewBudget returns a budget. Slack allows about 50 edits a minute in a workspace and one post a
// second in a channel; both platforms read badly when one message changes all the time.
func NewBudget() *Budget {
	return &Budget{
		gap: 3 * time.Second, edits: map[string]*rate.Limiter{}, posts: map[string]*rate.Limiter{},
		lastEdit: map[string]time.Time{}, places: map[string]time.Time{},
	}
}

// Edit reports whether the message may be edited at now, and otherwise when. The final edit of a
// run does not wait for the gap between edits.
func (b *Budget) Edit(c ops.Conversation, ref string, final bool, now time.Time) (ok bool, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	message := c.Platform + "/" + c.Workspace + "/" + c.Channel + "/" + ref
	if next := b.lastEdit[message].Add(b.gap); !final && now.Before(next) {
		return false, next
	}
	if at, ok := b.turn(b.edits, c.Platform+"/"+c.Workspace, rate.Limit(40.0/60), 20, "edit/"+message, now); !ok {
		return false, at
	}
	b.lastEdit[message] = now
	b.forget(now)
	return true, time.Time{}
}

// Post reports whether the message of that key may be posted in the channel at now, and otherwise
// when.
func (b *Budget) Post(c ops.Conversation, key string, now time.Time) (ok bool, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	channel := c.Platform + "/" + c.Workspace + "/" + c.Channel
	if at, ok := b.turn(b.posts, channel, 1, 5, "post/"+channel+"/"+key, now); !ok {
		return false, at
	}
	b.forget(now)
	return true, time.Time{}
}

// longest is how far ahead anybody is sent away. Who has to wait for longer asks again in between.
const longest = 10 * time.Minute

// turn takes what one message costs from a limiter: now, or at a place in the line that is kept for
// this message until it comes back.
func (b *Budget) turn(m map[string]*rate.Limiter, name string, every rate.Limit, burst int, message string, now time.Time) (at time.Time, ok bool) {
	if at, waits := b.places[message]; waits {
		if now.Before(at) {
			return soonest(at, now.Add(longest)), false
		}
		delete(b.places, message)
		return now, true
	}
	d := limiter(m, name, every, burst).ReserveN(now, 1).DelayFrom(now)
	if d <= 0 {
		return now, true
	}
	b.places[message] = now.Add(d)
	return now.Add(min(d, longest)), false
}

func soonest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Spare reports whether there is room for edits that tell nothing new, such as a card's elapsed
// time, without taking any from those that do.
func (b *Budget) Spare(c ops.Conversation, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := limiter(b.edits, c.Platform+"/"+c.Workspace, rate.Limit(40.0/60), 20)
	return l.TokensAt(now) >= float64(l.Burst())/2
}

// forget bounds the memory: what has not been used for a while has its full budget anyway, and who
// has not come when it was their turn does not come any more.
func (b *Budget) forget(now time.Time) {
	if len(b.lastEdit)+len(b.places) < b.many {
		return
	}
	for m, at := range b.lastEdit {
		if now.Sub(at) > time.Minute {
			delete(b.lastEdit, m)
		}
	}
	for m, at := range b.places {
		if now.Sub(at) > 10*time.Minute {
			delete(b.places, m)
		}
	}
	for c, l := range b.posts {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(b.posts, c)
		}
	}
	b.many = max(4096, 2*(len(b.lastEdit)+len(b.places)))
}

func limiter(m map[string]*rate.Limiter, key string, every rate.Limit, burst int) *rate.Limiter {
	l, ok := m[key]
	if !ok {
		l = rate.NewLimiter(every, burst)
		m[key] = l
	}
	return l
}
