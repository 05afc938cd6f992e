package notifier

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ocim/adapters/chat"
	"ocim/ops"
)

// Budget keeps below what a platform lets a bot write, so that a burst of changes costs a few
// edits and never a rate limit. What cannot be sent now is not queued: the newest state is sent
// when the budget allows. Part of each budget is kept for what matters most: the first post of a
// card and the last edit of a run. Safe for concurrent use.
type Budget struct {
	rate func(platform string) chat.Rate

	mu       sync.Mutex
	edits    map[string]*bucket   // by workspace
	posts    map[string]*bucket   // by channel
	quiet    map[string]time.Time // by workspace: when it takes posts again
	lastEdit map[string]time.Time // by message
}

// NewBudget returns a budget over the rates of the platforms. A zero field of a rate is no limit.
func NewBudget(rate func(platform string) chat.Rate) *Budget {
	return &Budget{
		rate: rate, edits: map[string]*bucket{}, posts: map[string]*bucket{}, quiet: map[string]time.Time{}, lastEdit: map[string]time.Time{},
	}
}

// Edit reports whether the message may be edited at now, and otherwise when to ask again. The final
// edit of a run does not wait for the gap between edits, and may use the reserve.
func (b *Budget) Edit(c ops.Conversation, ref string, final bool, now time.Time) (ok bool, at time.Time) {
	r := b.rate(c.Platform)
	gap := time.Duration(r.MinEditGapMillis) * time.Millisecond
	b.mu.Lock()
	defer b.mu.Unlock()
	message := place(c) + "/" + ref
	if next := b.lastEdit[message].Add(gap); !final && now.Before(next) {
		return false, next
	}
	if at, ok := b.editBucket(c, r).take(message, final, now); !ok {
		return false, at
	}
	b.lastEdit[message] = now
	b.forget(now)
	return true, time.Time{}
}

// Post reports whether the message with this key may be posted in the channel at now, and otherwise
// when to ask again. The first post of a card may use the reserve.
func (b *Budget) Post(c ops.Conversation, key string, first bool, now time.Time) (ok bool, at time.Time) {
	r := b.rate(c.Platform)
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.posts[place(c)]
	if !known {
		// Five seconds' worth at once: both platforms allow short bursts.
		l = newBucket(r.PostsPerChannel, 5*r.PostsPerChannel)
		b.posts[place(c)] = l
	}
	l.until = later(l.until, b.quiet[workspace(c)])
	if at, ok := l.take(key, first, now); !ok {
		return false, at
	}
	b.forget(now)
	return true, time.Time{}
}

// Spare reports whether there is room for edits that tell nothing new, such as a card's elapsed
// time, without taking any from those that do.
func (b *Budget) Spare(c ops.Conversation, now time.Time) bool {
	r := b.rate(c.Platform)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.editBucket(c, r).spare(now)
}

// PauseEdits makes all edits in the workspace of c wait, because the platform said so.
func (b *Budget) PauseEdits(c ops.Conversation, until time.Time) {
	r := b.rate(c.Platform)
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.editBucket(c, r)
	l.until = later(l.until, until)
}

// PausePosts makes all posts in the workspace of c wait, because the platform said so.
func (b *Budget) PausePosts(c ops.Conversation, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quiet[workspace(c)] = later(b.quiet[workspace(c)], until)
}

func (b *Budget) editBucket(c ops.Conversation, r chat.Rate) *bucket {
	l, ok := b.edits[workspace(c)]
	if !ok {
		// The rate and the burst together are what can happen in the worst minute: for Slack, 40
		// and 10, which is its limit of 50.
		l = newBucket(r.EditsPerMinute/60, r.EditsPerMinute/4)
		b.edits[workspace(c)] = l
	}
	return l
}

// forget bounds the memory: what has not been used for a while has its full budget anyway.
func (b *Budget) forget(now time.Time) {
	const most = 4096
	if len(b.lastEdit) > most {
		for m, at := range b.lastEdit {
			if now.Sub(at) > time.Minute {
				delete(b.lastEdit, m)
			}
		}
	}
	if len(b.posts) > most {
		for c, l := range b.posts {
			if l.full(now) {
				delete(b.posts, c)
			}
		}
	}
}

func workspace(c ops.Conversation) string { return c.Platform + "/" + c.Workspace }

func place(c ops.Conversation) string { return workspace(c) + "/" + c.Channel }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// bucket is one limit and those who wait for it.
type bucket struct {
	limiter *rate.Limiter // nil: no limit
	reserve float64       // tokens that only urgent takers may use
	until   time.Time     // nothing is given before: the platform said so
	turns   map[waiter]time.Time
	last    map[bool]time.Time // the last turn given to urgent takers, and to the others
}

type waiter struct {
	key    string
	urgent bool
}

func newBucket(perSecond, burst float64) *bucket {
	l := &bucket{turns: map[waiter]time.Time{}, last: map[bool]time.Time{}}
	if perSecond > 0 {
		n := max(1, int(math.Ceil(burst)))
		l.limiter, l.reserve = rate.NewLimiter(rate.Limit(perSecond), n), float64(n/2)
	}
	return l
}

// take gives a token, or says when it is the taker's turn. Each waiter gets a turn of its own, so
// that they do not all come back at the same moment for the same token.
func (l *bucket) take(key string, urgent bool, now time.Time) (at time.Time, ok bool) {
	w := waiter{key, urgent}
	need := 1.0
	if !urgent {
		need += l.reserve
	}
	free := l.until
	if l.limiter != nil {
		if missing := need - l.limiter.TokensAt(now); missing > 0 {
			wait := time.Duration(math.Ceil(missing / float64(l.limiter.Limit()) * float64(time.Second)))
			free = later(free, now.Add(wait))
		}
	}
	if free.After(now) {
		return l.turn(w, free, now), false
	}
	if l.limiter != nil {
		l.limiter.AllowN(now, 1)
	}
	delete(l.turns, w)
	return now, true
}

// maxSpread is how far turns are spread. Beyond it a turn would be so far off that the waiter is
// better woken among others and may be lucky.
const maxSpread = time.Minute

func (l *bucket) turn(w waiter, free, now time.Time) time.Time {
	if at, ok := l.turns[w]; ok && at.After(now) && !at.Before(free) {
		return at
	}
	gap := 10 * time.Millisecond
	if l.limiter != nil {
		gap = time.Duration(float64(time.Second) / float64(l.limiter.Limit()))
	}
	at := later(free, l.last[w.urgent].Add(gap))
	if at.Sub(free) > maxSpread {
		at = free
	}
	l.last[w.urgent] = at
	if len(l.turns) > 4096 {
		clear(l.turns)
	}
	l.turns[w] = at
	return at
}

func (l *bucket) spare(now time.Time) bool {
	if now.Before(l.until) {
		return false
	}
	return l.limiter == nil || l.limiter.TokensAt(now) >= math.Ceil(0.8*float64(l.limiter.Burst()))
}

func (l *bucket) full(now time.Time) bool {
	return !now.Before(l.until) && (l.limiter == nil || l.limiter.TokensAt(now) >= float64(l.limiter.Burst()))
}
