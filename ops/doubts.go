package ops

import (
	"sync"
	"time"
)

// doubts remembers since when something is not as it should be: a request without an answer, a
// pipeline that is not shown. It lives in this process alone, so that waits are measured on its own
// clock, which nobody can set, and not from an instant that was written down: a machine's clock may
// jump, and a wait that seems to be over would send a request twice. After a restart waits begin
// anew, which is late and never wrong.
//
// It holds entries of unfinished operations only; who ends one forgets it. It is safe for
// concurrent use.
type doubts struct {
	mu      sync.Mutex
	since   map[string]map[string]time.Time // operation, what
	posting map[string]int                  // operations with a request under way
}

func newDoubts() *doubts {
	return &doubts{since: map[string]map[string]time.Time{}, posting: map[string]int{}}
}

// first returns since when there is this doubt: now, if it is new.
func (d *doubts) first(operation, what string, now time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since[operation] == nil {
		d.since[operation] = map[string]time.Time{}
	}
	if _, had := d.since[operation][what]; !had {
		d.since[operation][what] = now
	}
	return d.since[operation][what]
}

// over ends one doubt.
func (d *doubts) over(operation, what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.since[operation], what)
	if len(d.since[operation]) == 0 {
		delete(d.since, operation)
	}
}

// forget ends all doubts of an operation.
func (d *doubts) forget(operation string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.since, operation)
}

// begin notes that a request for the operation is under way until the returned function is called.
func (d *doubts) begin(operation string) (end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.posting[operation]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.posting[operation]--; d.posting[operation] <= 0 {
			delete(d.posting, operation)
		}
	}
}

func (d *doubts) underWay(operation string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.posting[operation] > 0
}
