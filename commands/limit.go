package commands

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// maxPeople bounds how many people the limiter remembers. It forgets those first who have been
// quiet for a minute, which changes nothing for them.
const maxPeople = 10_000

// limiter bounds how many requests one person makes, so that nobody's loop or leaning on a key
// takes the bot, GitLab or chat away from the others. Each person has a bucket that holds a
// minute's worth and fills evenly. Safe for concurrent use.
type limiter struct {
	perMinute float64
	clock     ops.Clock

	mu     sync.Mutex
	people map[ops.Actor]*bucket
	swept  time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
	told   bool // the log knows that it is empty
}

func newLimiter(perMinute int, clock ops.Clock) *limiter {
	return &limiter{perMinute: float64(perMinute), clock: clock, people: map[ops.Actor]*bucket{}}
}

// take counts one request. A wait above zero refuses it and says when the next one is taken; first
// is true for the first refusal in a row.
func (l *limiter) take(a ops.Actor) (wait time.Duration, first bool) {
	if l.perMinute == 0 {
		return 0, false
	}
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.people[a]
	if !ok {
		l.makeRoom(now)
		b = &bucket{tokens: l.perMinute, at: now}
		l.people[a] = b
	}
	if passed := now.Sub(b.at); passed > 0 { // a clock that was set back gives nothing and takes nothing
		b.tokens = min(l.perMinute, b.tokens+l.perMinute*passed.Minutes())
	}
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		b.told = false
		return 0, false
	}
	first = !b.told
	b.told = true
	return time.Duration((1 - b.tokens) / l.perMinute * float64(time.Minute)), first
}

// makeRoom keeps the map below its bound. When everybody in it was active a moment ago, somebody is
// forgotten, who then begins with a full bucket: memory is bounded whoever comes.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.people) < maxPeople {
		return
	}
	if now.Sub(l.swept) >= time.Minute {
		l.swept = now
		for a, b := range l.people {
			if now.Sub(b.at) >= time.Minute {
				delete(l.people, a)
			}
		}
	}
	for a := range l.people {
		if len(l.people) < maxPeople {
			return
		}
		delete(l.people, a)
	}
}

// tooMany answers a request that is not looked at. Of a row of them one is logged.
func (c *Commands) tooMany(ctx context.Context, in chat.Incoming, wait time.Duration, first bool) chat.Answer {
	if first {
		c.Log.Warn("requests refused: too many from one person", "actor", in.Actor.String(), "per_minute", c.PerMinute)
	}
	if in.Kind == chat.Suggest {
		return chat.Answer{}
	}
	return c.tell(ctx, &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited,
		Msg:  fmt.Sprintf("You have sent more than %d requests in a minute; this one was not looked at.", c.PerMinute),
		Next: fmt.Sprintf("Try again in %d s.", int(math.Ceil(wait.Seconds()))),
	})
}
