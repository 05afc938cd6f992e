package store

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"ocim/ops"
)

// Job does what is due for one id. It returns when to be called again, or the zero time for "when
// somebody wakes it"; a wake-up that asks for an earlier time wins. After an error it is called
// again with growing pauses, at most a minute. Its ctx ends after 30 s; work that is not back
// after 60 s is handed out a second time, so what it writes must be compare-and-set.
type Job func(ctx context.Context, id string) (again time.Time, err error)

// Work calls f for every wake-up of a kind as it becomes due, at most workers at a time, and one
// at a time for each id as long as f keeps to its deadline. It returns when ctx has ended and the
// running work is done; that work is not interrupted. There must be one Work for each kind.
func (s *Store) Work(ctx context.Context, kind ops.JobKind, workers int, f Job) error {
	if workers < 1 {
		return fmt.Errorf("work on %s: %d workers", kind, workers)
	}
	b := s.bells.of(kind)
	idle := make(chan struct{}, workers)
	running := 0
	for ctx.Err() == nil {
		b.sleepUntil(never)
		// Not under ctx: what was claimed while it ended would stay leased, with nobody at it.
		js, next, err := s.take(context.WithoutCancel(ctx), kind, workers-running)
		if err != nil {
			next = micros(s.clock.Now().Add(firstBackoff))
			if ctx.Err() == nil {
				s.log.Error("store: cannot take work", "kind", string(kind), "err", err)
			}
		}
		for _, j := range js {
			running++
			go func() {
				for more := true; more; {
					j, more = s.finish(ctx, j, f)
				}
				idle <- struct{}{}
			}()
		}
		running -= s.wait(ctx, b, idle, running == workers, next)
	}
	for ; running > 0; running-- {
		<-idle
	}
	return nil
}

// wait sleeps until there may be work and a free worker for it, and returns how many workers have
// become free.
func (s *Store) wait(ctx context.Context, b *bell, idle <-chan struct{}, busy bool, next int64) int {
	var fires <-chan time.Time
	var rung <-chan struct{}
	if !busy {
		rung = b.ch
		if next != never {
			var stop func()
			fires, stop = s.clock.After(instant(next).Sub(s.clock.Now()))
			defer stop()
		}
		b.sleepUntil(next)
	}
	select {
	case <-idle:
		return 1
	case <-rung:
	case <-fires:
	case <-ctx.Done():
	}
	return 0
}

// take claims at most n wake-ups, and returns when the next one after them is due.
func (s *Store) take(ctx context.Context, kind ops.JobKind, n int) (js []job, next int64, err error) {
	next = never
	err = s.writer.doLate(ctx, func(t *tx) (err error) {
		if js, err = t.claim(kind, s.clock.Now(), n); err != nil {
			return err
		}
		next, err = t.next(kind)
		return err
	})
	if err != nil {
		return nil, never, err
	}
	return js, next, nil
}

// finish runs j, and in the transaction which records that takes the next wake-up that is due.
func (s *Store) finish(ctx context.Context, j job, f Job) (next job, more bool) {
	again, failed := s.run(ctx, j, f)
	// The outcome is recorded also while ctx ends: else the work would be done twice.
	keep := context.WithoutCancel(ctx)
	var js []job
	err := s.writer.doLate(keep, func(t *tx) (err error) {
		now := s.clock.Now()
		if err := t.complete(j, again, failed, now); err != nil {
			return err
		}
		js = nil
		if ctx.Err() == nil {
			js, err = t.claim(j.kind, now, 1)
		}
		return err
	})
	if err != nil {
		// The lease ends by itself and the work is done again.
		s.log.Error("store: cannot record finished work", "kind", string(j.kind), "op", j.id, "err", err)
		return job{}, false
	}
	if len(js) == 0 {
		return job{}, false
	}
	return js[0], true
}

// run calls f with a deadline, and turns a panic into an error.
func (s *Store) run(ctx context.Context, j job, f Job) (again time.Time, err error) {
	from := s.clock.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			again, err = time.Time{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			s.log.Error("store: work failed", "kind", string(j.kind), "op", j.id, "attempts", j.attempts+1, "err", err)
		}
		if s.metrics.Job != nil {
			s.metrics.Job(j.kind, s.clock.Now().Sub(from), err)
		}
	}()
	return f(ctx, j.id)
}

// Drain does everything of a kind that is due now in the calling goroutine, also what becomes due
// meanwhile, and returns how often it called f. Tests use it in place of Work.
func (s *Store) Drain(ctx context.Context, kind ops.JobKind, f Job) (int, error) {
	for n := 0; ; n++ {
		js, _, err := s.take(ctx, kind, 1)
		if err != nil || len(js) == 0 {
			return n, err
		}
		again, failed := s.run(ctx, js[0], f)
		err = s.writer.do(context.WithoutCancel(ctx), func(t *tx) error {
			return t.complete(js[0], again, failed, s.clock.Now())
		})
		if err != nil {
			return n + 1, errors.Join(failed, err)
		}
	}
}
