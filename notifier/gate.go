package notifier

import (
	"sync"
	"time"

	"ocim/ops"
)

const (
	// gateWait is after how long a message that stood before a closed gate tries again: about the
	// time that a post takes. Whoever comes after it waits so much longer, since they go one by one.
	gateWait = 200 * time.Millisecond
	// gateMost bounds that wait.
	gateMost = 10 * time.Second
)

// gate lets one post at a time into each workspace. A kill leaves in doubt what is on its way: so
// it is one message, and where the bot may not look for it there is one duplicate at most. Posts
// into one channel are limited to one a second anyway. Safe for concurrent use.
type gate struct {
	mu      sync.Mutex
	waiting map[string]int // who is inside, and who has come since
}

// enter closes the gate to c's workspace behind the caller, who calls leave. ok is false when it is
// closed already; wait is then after how long to try again.
func (g *gate) enter(c ops.Conversation) (leave func(), wait time.Duration, ok bool) {
	key := workspace(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.waiting = map[string]int{}
	}
	g.waiting[key]++
	if n := g.waiting[key]; n > 1 {
		return nil, min(time.Duration(n-1)*gateWait, gateMost), false
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.waiting, key)
	}, 0, true
}
