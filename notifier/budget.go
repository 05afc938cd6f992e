package notifier

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ocim/ops"
)

// Budget keeps below what a platform lets a bot write, so that a burst of changes costs a few
// edits and never a rate limit. What cannot be sent now is not queued: the newest state is sent
// when the budget allows. Safe for concurrent use.
type Budget struct {
	mu       sync.Mutex
	gap      time.Duration
	edits    map[string]*rate.Limiter // by workspace
	posts    map[string]*rate.Limiter // by channel
	lastEdit map[string]time.Time     // by message
}

// NewBudget returns a budget. Slack allows about 50 edits a minute in a workspace and one post a
// second in a channel; both platforms read badly when one message changes all the time.
func NewBudget() *Budget {
	return &Budget{gap: 3 * time.Second, edits: map[string]*rate.Limiter{}, posts: map[string]*rate.Limiter{}, lastEdit: map[string]time.Time{}}
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
	l := limiter(b.edits, c.Platform+"/"+c.Workspace, rate.Limit(40.0/60), 20)
	if at, ok := take(l, now); !ok {
		return false, at
	}
	b.lastEdit[message] = now
	b.forget(now)
	return true, time.Time{}
}

// Post reports whether a message may be posted in the channel at now, and otherwise when.
func (b *Budget) Post(c ops.Conversation, now time.Time) (ok bool, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := limiter(b.posts, c.Platform+"/"+c.Workspace+"/"+c.Channel, 1, 5)
	if at, ok := take(l, now); !ok {
		return false, at
	}
	return true, time.Time{}
}

// Spare reports whether there is room for edits that tell nothing new, such as a card's elapsed
// time, without taking any from those that do.
func (b *Budget) Spare(c ops.Conversation, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := limiter(b.edits, c.Platform+"/"+c.Workspace, rate.Limit(40.0/60), 20)
	return l.TokensAt(now) >= float64(l.Burst())/2
}

// forget bounds the memory: what has not been used for a while has its full budget anyway.
func (b *Budget) forget(now time.Time) {
	if len(b.lastEdit) < 4096 {
		return
	}
	for m, at := range b.lastEdit {
		if now.Sub(at) > time.Minute {
			delete(b.lastEdit, m)
		}
	}
	for c, l := range b.posts {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(b.posts, c)
		}
	}
}

func limiter(m map[string]*rate.Limiter, key string, every rate.Limit, burst int) *rate.Limiter {
	l, ok := m[key]
	if !ok {
		l = rate.NewLimiter(every, burst)
		m[key] = l
	}
	return l
}

func take(l *rate.Limiter, now time.Time) (at time.Time, ok bool) {
	r := l.ReserveN(now, 1)
	if d := r.DelayFrom(now); d > 0 {
		r.CancelAt(now)
		return now.Add(d), false
	}
	return now, true
}
