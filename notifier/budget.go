package notifier

import (
	"strings"
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
	held     map[string]time.Time     // workspaces and channels that asked to wait
	many     int                      // so many entries are worth looking through
}

// The budget. Slack allows 50 edits a minute in a workspace (chat.update is of tier 3) and about
// one post a second in a channel with short bursts; Mattermost, where it limits at all, ten calls a
// second. In no minute are there more than editBurst + (60 + 2)*editRate edits, 2 s being lateTurn.
// Sources: docs.slack.dev, apis/web-api/rate-limits; Mattermost: RateLimitSettings.
const (
	editGap   = 3 * time.Second // between two edits of one message: more can nobody read
	editRate  = rate.Limit(40.0 / 60)
	editBurst = 8
	postRate  = rate.Limit(1)
	postBurst = 3
	// lateTurn is how late a message may come for its turn. Later ones have to ask again, or those
	// who were late together would come all at once.
	lateTurn = 2 * time.Second
)

// NewBudget returns a full budget.
func NewBudget() *Budget {
	return &Budget{
		gap: editGap, edits: map[string]*rate.Limiter{}, posts: map[string]*rate.Limiter{},
		lastEdit: map[string]time.Time{}, places: map[string]time.Time{}, held: map[string]time.Time{},
	}
}

func workspace(c ops.Conversation) string { return c.Platform + "/" + c.Workspace }

func channel(c ops.Conversation) string { return workspace(c) + "/" + c.Channel }

// HoldEdits stops all edits in a workspace until then, because the platform asked for it. Whatever
// else wakes a card in between must wait as well.
func (b *Budget) HoldEdits(c ops.Conversation, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold("edit/"+workspace(c), until)
	delete(b.edits, workspace(c))
}

// HoldPosts stops all posts in a channel until then.
func (b *Budget) HoldPosts(c ops.Conversation, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold("post/"+channel(c), until)
	delete(b.posts, channel(c))
}

// hold also takes back the places in the line: they would all have come when the wait is over. The
// caller holds the lock.
func (b *Budget) hold(key string, until time.Time) {
	if until.After(b.held[key]) {
		b.held[key] = until
	}
	for message := range b.places {
		if strings.HasPrefix(message, key+"/") {
			delete(b.places, message)
		}
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

// Edit reports whether the message may be edited at now, and otherwise when. The final edit of a
// run does not wait for the gap between edits.
func (b *Budget) Edit(c ops.Conversation, ref string, final bool, now time.Time) (ok bool, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until, held := b.waits("edit/"+workspace(c), now); held {
		return false, until
	}
	message := channel(c) + "/" + ref
	if next := b.lastEdit[message].Add(b.gap); !final && now.Before(next) {
		return false, next
	}
	if at, ok := b.turn(b.edits, workspace(c), editRate, editBurst, "edit/"+message, now); !ok {
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
	if until, held := b.waits("post/"+channel(c), now); held {
		return false, until
	}
	if at, ok := b.turn(b.posts, channel(c), postRate, postBurst, "post/"+channel(c)+"/"+key, now); !ok {
		return false, at
	}
	b.forget(now)
	return true, time.Time{}
}

// turn takes what one message costs from a limiter: now, or at a place in the line that is kept for
// this message until it comes back.
func (b *Budget) turn(m map[string]*rate.Limiter, name string, every rate.Limit, burst int, message string, now time.Time) (at time.Time, ok bool) {
	if at, waits := b.places[message]; waits {
		if now.Before(at) {
			return at, false
		}
		delete(b.places, message)
		if now.Sub(at) <= lateTurn {
			return now, true
		}
	}
	d := limiter(m, name, every, burst).ReserveN(now, 1).DelayFrom(now)
	if d <= 0 {
		return now, true
	}
	b.places[message] = now.Add(d)
	return now.Add(d), false
}

// Spare reports whether there is room for edits that tell nothing new, such as a card's elapsed
// time, without taking any from those that do.
func (b *Budget) Spare(c ops.Conversation, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := limiter(b.edits, workspace(c), editRate, editBurst)
	return l.TokensAt(now) >= float64(l.Burst())/2
}

// rememberedEntries is how many entries there may be before old ones are looked for.
const rememberedEntries = 4096

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
	b.many = max(rememberedEntries, 2*(len(b.lastEdit)+len(b.places)))
}

func limiter(m map[string]*rate.Limiter, key string, every rate.Limit, burst int) *rate.Limiter {
	l, ok := m[key]
	if !ok {
		l = rate.NewLimiter(every, burst)
		m[key] = l
	}
	return l
}
