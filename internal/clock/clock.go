// Package clock is the only place that reads the machine's time. Everything that waits or stamps
// takes a Clock, so that tests move time by hand and never sleep.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock tells the time and waits. Implementations are safe for concurrent use.
type Clock interface {
	// Now is the current instant, in UTC.
	Now() time.Time
	// After returns a channel that receives once when d has passed, and a function that
	// releases the timer early. A d of zero or less fires at once.
	After(d time.Duration) (fires <-chan time.Time, stop func())
}

// System is the machine's clock.
type System struct{}

// Now implements [Clock].
func (System) Now() time.Time { return time.Now().UTC() }

// After implements [Clock].
func (System) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Sleep waits for d or until ctx ends, and returns ctx's error in that case.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	fires, stop := c.After(d)
	defer stop()
	select {
	case <-fires:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WithTimeout is [context.WithTimeout] by the time of c.
func WithTimeout(ctx context.Context, c Clock, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := c.(System); ok {
		return context.WithTimeout(ctx, d)
	}
	t := &timed{Context: ctx, done: make(chan struct{})}
	fires, stop := c.After(d)
	go func() {
		defer stop()
		select {
		case <-fires:
			t.end(context.DeadlineExceeded)
		case <-ctx.Done():
			t.end(ctx.Err())
		case <-t.done:
		}
	}()
	return t, func() { t.end(context.Canceled) }
}

// timed is a context with an end of its own.
type timed struct {
	context.Context

	done chan struct{}
	mu   sync.Mutex
	err  error
}

func (t *timed) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
		close(t.done)
	}
}

// Done implements [context.Context].
func (t *timed) Done() <-chan struct{} { return t.done }

// Err implements [context.Context].
func (t *timed) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Fake is a clock that stands still until it is moved. Use NewFake.
type Fake struct {
	mu      sync.Mutex
	now     time.Time
	waiters map[*waiter]struct{}
	changed chan struct{}
}

type waiter struct {
	at time.Time
	ch chan time.Time
}

// NewFake returns a clock that shows start.
func NewFake(start time.Time) *Fake {
	return &Fake{now: start.UTC(), waiters: map[*waiter]struct{}{}, changed: make(chan struct{})}
}

// Now implements [Clock].
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// After implements [Clock].
func (f *Fake) After(d time.Duration) (<-chan time.Time, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &waiter{at: f.now.Add(d), ch: make(chan time.Time, 1)}
	if d <= 0 {
		w.ch <- f.now
		return w.ch, func() {}
	}
	f.waiters[w] = struct{}{}
	close(f.changed)
	f.changed = make(chan struct{})
	return w.ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiters, w)
	}
}

// Advance moves the clock forward by d and fires every timer that has become due.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	for w := range f.waiters {
		if !w.at.After(f.now) {
			w.ch <- f.now
			delete(f.waiters, w)
		}
	}
}

// Waiting blocks until at least n timers wait on the clock, or ctx ends. A test calls it before
// Advance, so that it cannot move time past a goroutine that has not yet begun to wait.
func (f *Fake) Waiting(ctx context.Context, n int) error {
	for {
		f.mu.Lock()
		have, changed := len(f.waiters), f.changed
		f.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
