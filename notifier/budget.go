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
// edits and never a rate limit. What cannot be sent now is given its place in a line: the time at
// which it may come back, which is another one for each message. So a thousand cards that wait cost
// one look each when their turn comes, and not a thousand looks a second. Nothing else is queued:
// the newest state is sent. Part of each budget is kept for what matters most: the first post of a
// card and the last edit of a run have a line of their own. Safe for concurrent use.
type Budget struct {
	rate func(platform string) chat.Rate

	mu       sync.Mutex
	edits    map[string]*bucket   // by workspace
	posts    map[string]*bucket   // by channel
	quiet    map[string]time.Time // by workspace: when it takes posts again
	lastEdit map[string]time.Time // by message
	many     int                  // so many entries are worth looking through
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
	if len(b.lastEdit)+len(b.posts) < max(b.many, 4096) {
		return
	}
	for m, at := range b.lastEdit {
		if now.Sub(at) > time.Minute {
			delete(b.lastEdit, m)
		}
	}
	for c, l := range b.posts {
		if l.full(now) {
			delete(b.posts, c)
		}
	}
	b.many = 2 * (len(b.lastEdit) + len(b.posts))
}

func workspace(c ops.Conversation) string { return c.Platform + "/" + c.Workspace }

func place(c ops.Conversation) string { return workspace(c) + "/" + c.Channel }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// longest is how far ahead anybody is sent away: the store takes what is due later than a quarter
// of an hour for the work of a wrong clock. Who has to wait for longer asks again in between and
// keeps the turn.
const longest = 10 * time.Minute

func soon(at, now time.Time) time.Time {
	if most := now.Add(longest); at.After(most) {
		return most
	}
	return at
}

// bucket is one limit and the two lines of those who wait for it.
type bucket struct {
	limiter *rate.Limiter // nil: no limit
	gap     time.Duration // from one token to the next
	reserve float64       // tokens that only urgent takers may use
	until   time.Time     // nothing is given before: the platform said so
	turns   map[waiter]time.Time
	last    map[bool]time.Time // the end of the line of urgent takers, and of the others
	many    int                // so many turns are worth looking through
}

type waiter struct {
	key    string
	urgent bool
}

func newBucket(perSecond, burst float64) *bucket {
	l := &bucket{turns: map[waiter]time.Time{}, last: map[bool]time.Time{}, gap: time.Millisecond}
	if perSecond > 0 {
		n := max(1, int(math.Ceil(burst)))
		l.limiter, l.reserve = rate.NewLimiter(rate.Limit(perSecond), n), float64(n/2)
		l.gap = time.Duration(math.Ceil(float64(time.Second) / perSecond))
	}
	return l
}

// take gives a token, or says when it is the taker's turn.
func (l *bucket) take(key string, urgent bool, now time.Time) (at time.Time, ok bool) {
	w := waiter{key, urgent}
	turn, waits := l.turns[w]
	if waits && now.Before(turn) && !turn.Before(l.until) {
		return soon(turn, now), false
	}
	need := 1.0
	if !urgent {
		need += l.reserve
	}
	free := l.free(need, now)
	// Who has just come does not pass those in the line, unless a turn was left unused.
	pushes := !waits && l.last[urgent].After(now) && l.free(need+1, now).After(now)
	if free.After(now) || pushes {
		return soon(l.join(w, free, now), now), false
	}
	if l.limiter != nil {
		l.limiter.ReserveN(now, 1)
	}
	delete(l.turns, w)
	return now, true
}

// free is when there are so many tokens, if nobody takes one.
func (l *bucket) free(need float64, now time.Time) time.Time {
	at := later(now, l.until)
	if l.limiter == nil {
		return at
	}
	const rounding = 1e-6
	if missing := need - l.limiter.TokensAt(now); missing > rounding {
		at = later(at, now.Add(time.Duration(math.Ceil(missing*float64(l.gap)))))
	}
	return at
}

// join puts a taker at the end of the line.
func (l *bucket) join(w waiter, free, now time.Time) time.Time {
	at := later(free, l.last[w.urgent].Add(l.gap))
	if len(l.turns) >= max(l.many, 4096) { // who did not come does not come any more
		for other, turn := range l.turns {
			if now.Sub(turn) > time.Minute {
				delete(l.turns, other)
			}
		}
		l.many = 2 * len(l.turns)
	}
	l.last[w.urgent], l.turns[w] = at, at
	return at
}

func (l *bucket) spare(now time.Time) bool {
	if now.Before(l.until) {
		return false
	}
	return l.limiter == nil || l.limiter.TokensAt(now) >= math.Ceil(0.8*float64(l.limiter.Burst()))
}

func (l *bucket) full(now time.Time) bool {
	if now.Sub(later(l.last[true], l.last[false])) <= time.Minute { // somebody may still come
		return false
	}
	return !now.Before(l.until) && (l.limiter == nil || l.limiter.TokensAt(now) >= float64(l.limiter.Burst()))
}
