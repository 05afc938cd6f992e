package notifier

import (
	"sync"
	"time"

	"ocim/ops"
)

// gateWait is after how long a message that stood before a closed gate tries again: about the time
// that a post takes.
const gateWait = 200 * time.Millisecond

// gate lets one post at a time into each workspace. A kill leaves in doubt what is on its way: so
// it is one message, and where the bot may not look for it there is one duplicate at most. Posts
// into one channel are limited to one a second anyway. Safe for concurrent use.
type gate struct {
	mu   sync.Mutex
	busy map[string]bool
}

// enter closes the gate to c's workspace behind the caller, who calls leave. ok is false when it is
// closed already.
func (g *gate) enter(c ops.Conversation) (leave func(), ok bool) {
	key := c.Platform + "/" + c.Workspace
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[key] {
		return nil, false
	}
	if g.busy == nil {
		g.busy = map[string]bool{}
	}
	g.busy[key] = true
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.busy, key)
	}, true
}
