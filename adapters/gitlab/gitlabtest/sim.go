package gitlabtest

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// event is something that will happen in the simulated world.
type event struct {
	at  time.Time
	seq int64 // keeps events of one instant in the order in which they were scheduled
	run func()
}

// agenda is a heap of events, the next one first.
type agenda []event

func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool {
	if a[i].at.Equal(a[j].at) {
		return a[i].seq < a[j].seq
	}
	return a[i].at.Before(a[j].at)
}

func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements [heap.Interface].
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }

// Pop implements [heap.Interface].
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = event{}
	*a = (*a)[:last]
	return e
}

// after schedules f for d after the simulated instant. The caller holds mu.
func (s *Server) after(d time.Duration, f func()) {
	s.lastEvent++
	heap.Push(&s.agenda, event{at: s.at.Add(max(d, 0)), seq: s.lastEvent, run: f})
}

// advance lets everything happen that is due by the clock, each thing at its own instant, so that
// a clock that jumps an hour leaves the same history as one that ticks. It says whether anything
// happened. The caller holds mu.
func (s *Server) advance() (happened bool) { return s.advanceTo(s.clock.Now()) }

func (s *Server) advanceTo(now time.Time) (happened bool) {
	for len(s.agenda) > 0 && !s.agenda[0].at.After(now) {
		e := heap.Pop(&s.agenda).(event)
		if e.at.After(s.at) {
			s.at = e.at
		}
		e.run()
		happened = true
	}
	if now.After(s.at) {
		s.at = now
	}
	return happened
}

// Tick brings the simulated world up to the clock's present instant. Requests do so by themselves;
// a test calls it to see the effects of time without a request.
func (s *Server) Tick() { s.do(func() {}) }

// Until waits until cond holds, or ctx ends, and returns ctx's error then. cond is called again after
// every request and every other event; it may call any method that only reads.
func (s *Server) Until(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		wake := s.wake
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run advances pipelines and delivers webhooks as time passes, until ctx ends; it returns after
// every delivery under way has ended. One Run at a time.
func (s *Server) Run(ctx context.Context) {
	slots := make(chan struct{}, s.opts.HookWorkers)
	var busy sync.WaitGroup
	defer busy.Wait()
	for ctx.Err() == nil {
		s.mu.Lock()
		if s.advance() {
			s.rouse()
		}
		due, wait := s.dueHooks()
		wake := s.wake
		if len(s.agenda) > 0 {
			wait = sooner(wait, s.agenda[0].at.Sub(s.at))
		}
		s.mu.Unlock()
		for i, d := range due {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				s.putBack(due[i:])
				return
			}
			busy.Go(func() {
				defer func() { <-slots }()
				s.send(ctx, d)
			})
		}
		s.pause(ctx, wait, wake)
	}
}

// pause waits for the given time (forever if negative), for wake, or for the end of ctx.
func (s *Server) pause(ctx context.Context, wait time.Duration, wake <-chan struct{}) {
	var fires <-chan time.Time
	if wait >= 0 {
		var stop func()
		fires, stop = s.clock.After(wait)
		defer stop()
	}
	select {
	case <-fires:
	case <-wake:
	case <-ctx.Done():
	}
}

// sooner is the shorter of two waits, where a negative one means forever.
func sooner(a, b time.Duration) time.Duration {
	if a < 0 {
		return max(b, 0)
	}
	return min(a, max(b, 0))
}
