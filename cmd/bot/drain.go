package main

import (
	"context"
	"sync"
	"time"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/store"
)

// How long a stop may take, 20 s in all.
const (
	drainTime = 15 * time.Second // for what has begun to end by itself, the public listener included
	cutTime   = 3 * time.Second  // for what was cut off then
	closeTime = 2 * time.Second  // for the store
)

// reins hold everything that works beyond the request or wake-up it began with, so that a stop can
// end it. They hold as much as is under way. Safe for concurrent use.
type reins struct {
	mu   sync.Mutex
	cut  bool
	next int
	held map[int]context.CancelFunc
}

// hold returns a ctx that ends with the given one, and when the reins are cut.
func (r *reins) hold(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		cancel()
		return ctx, cancel
	}
	if r.held == nil {
		r.held = map[int]context.CancelFunc{}
	}
	n := r.next
	r.next++
	r.held[n] = cancel
	return ctx, func() {
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.held, n)
	}
}

// cutAll ends everything that is held, and whatever comes later.
func (r *reins) cutAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	for _, cancel := range r.held {
		cancel()
	}
}

// job is f under the reins.
func (r *reins) job(f store.Job) store.Job {
	return func(ctx context.Context, id string) (time.Time, error) {
		ctx, done := r.hold(ctx)
		defer done()
		return f(ctx, id)
	}
}

// handler is a chat.Handler under the reins.
type handler struct {
	next  chat.Handler
	reins *reins
}

// Handle implements [chat.Handler].
func (h handler) Handle(ctx context.Context, in chat.Incoming) chat.Answer {
	ctx, done := h.reins.hold(ctx)
	defer done()
	return h.next.Handle(ctx, in)
}

// parts are goroutines that stop together. The first that fails ends the program.
type parts struct {
	fail    context.CancelCauseFunc
	running sync.WaitGroup
}

func (p *parts) start(f func() error) {
	p.running.Go(func() {
		if err := f(); err != nil {
			p.fail(err)
		}
	})
}

// wait returns when f has, or when d has passed, and reports which.
func wait(c clock.Clock, d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	fires, stop := c.After(d)
	defer stop()
	select {
	case <-done:
		return true
	case <-fires:
		return false
	}
}
