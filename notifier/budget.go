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
	held     map[string]time.Time     // workspaces and channels that asked to wait
}

// The budget. Slack allows 50 edits a minute in a workspace (chat.update is of tier 3) and about
// one post a second in a channel with short bursts; Mattermost, where it limits at all, ten calls a
// second. In no minute are there more than editBurst + 60*editRate edits.
// Sources: docs.slack.dev, apis/web-api/rate-limits; Mattermost: RateLimitSettings.
const (
	editGap   = 3 * time.Second // between two edits of one message: more can nobody read
	editRate  = rate.Limit(40.0 / 60)
	editBurst = 10
	postRate  = rate.Limit(1)
	postBurst = 3
)

// NewBudget returns a full budget.
func NewBudget() *Budget {
	return &Budget{
		gap: editGap, edits: map[string]*rate.Limiter{}, posts: map[string]*rate.Limiter{},
		lastEdit: map[string]time.Time{}, held: map[string]time.Time{},
	}
}

// HoldEdits stops all edits in a workspace until then, because the platform asked for it. Whatever
// else wakes a card in between must wait as well.
func (b *Budget) HoldEdits(c ops.Conversation, until time.Time) { b.hold(workspace(c), until) }

// HoldPosts stops all posts in a channel until then.
func (b *Budget) HoldPosts(c ops.Conversation, until time.Time) { b.hold(channel(c), until) }

func (b *Budget) hold(key string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.After(b.held[key]) {
		b.held[key] = until
	}
}

// waits reports until when key has to wait, and forgets what is over. The caller holds the lock.
func (b *Budget) waits(key string, now time.Time) (until time.Time, held bool) {
	if until, held = b.held[key]; held && !now.Before(until) {
		delete(b.held, key)
		return time.Time{}, false
	}
	return until, held
}

func workspace(c ops.Conversation) string { return c.Platform + "/" + c.Workspace }

func channel(c ops.Conversation) string { return workspace(c) + "/" + c.Channel }

// Edit reports whether the message may be edited at now, and otherwise when. The final edit of a
// run does not wait for the gap between edits.
func (b *Budget) Edit(c ops.Conversation, ref string, final bool, now time.Time) (ok bool, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until, held := b.waits(workspace(c), now); held {
		return false, until
	}
	message := channel(c) + "/" + ref
	if next := b.lastEdit[message].Add(b.gap); !final && now.Before(next) {
		return false, next
	}
	l := limiter(b.edits, workspace(c), editRate, editBurst)
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
	if until, held := b.waits(channel(c), now); held {
		return false, until
	}
	l := limiter(b.posts, channel(c), postRate, postBurst)
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
	l := limiter(b.edits, workspace(c), editRate, editBurst)
	return l.TokensAt(now) >= float64(l.Burst())/2
}

// rememberedEdits is how many messages are remembered before old ones are forgotten.
const rememberedEdits = 4096

// forget bounds the memory: what has not been used for a while has its full budget anyway.
func (b *Budget) forget(now time.Time) {
	if len(b.lastEdit) < rememberedEdits {
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
