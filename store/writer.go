package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ocim/internal/crash"
	"ocim/ops"
)

// maxBatch bounds how many updates share one commit, and with it how long the first of them waits.
const maxBatch = 256

// maxQueue bounds how many updates wait while the disk does not answer. It is far beyond what can
// be asked for at the same time.
const maxQueue = 1 << 14

// errBusy: too many updates wait already.
var errBusy = errors.New("too many updates wait for the disk")

// errClosed: the store takes no more updates.
var errClosed = errors.New("store is closed")

// update is one function that waits for its place in a transaction.
type update struct {
	f     func(*tx) error
	state atomic.Int32
	batch *batch // set before state becomes taken
	err   error
	done  chan struct{} // closed when the outcome is known
}

// The states of an update. Only a waiting one can be abandoned.
const (
	waiting int32 = iota
	taken
	abandoned
)

// batch is what one transaction holds.
type batch struct {
	ran chan struct{} // closed when every function has returned, before the commit
}

// writer runs updates on the only connection that writes, as many in one transaction as wait.
type writer struct {
	s    *Store
	c    *conn
	bell chan struct{} // holds one token while the queue may be non-empty
	over chan struct{} // closed when run has returned

	mu     sync.Mutex
	queue  []*update
	closed bool
}

func newWriter(s *Store, c *conn) *writer {
	return &writer{s: s, c: c, bell: make(chan struct{}, 1), over: make(chan struct{})}
}

// do runs f in a transaction of its own or together with others, and returns when the outcome is
// on disk. When ctx ends before f has begun, f never runs; when it ends during the commit, the
// outcome is not known and the error says so.
func (w *writer) do(ctx context.Context, f func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &update{f: f, done: make(chan struct{})}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return unavailable(errClosed)
	}
	if len(w.queue) >= maxQueue {
		// Nobody waits for the abandoned ones; while the disk hangs, they would pile up.
		w.queue = slices.DeleteFunc(w.queue, func(u *update) bool { return u.state.Load() == abandoned })
	}
	if len(w.queue) >= maxQueue {
		w.mu.Unlock()
		return unavailable(errBusy)
	}
	w.queue = append(w.queue, u)
	w.mu.Unlock()
	w.ring()

	select {
	case <-u.done:
		return u.err
	case <-ctx.Done():
	}
	if u.state.CompareAndSwap(waiting, abandoned) {
		return ctx.Err()
	}
	// f may be at work on the caller's variables: it must have returned before we do.
	select {
	case <-u.done:
		return u.err
	case <-u.batch.ran:
	}
	select {
	case <-u.done:
		return u.err
	default:
		return unavailable(fmt.Errorf("commit not confirmed in time, outcome unknown: %w", ctx.Err()))
	}
}

func (w *writer) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

// close takes no more updates and lets the waiting ones finish.
func (w *writer) close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.ring()
	select {
	case <-w.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run works until the store is closed and nothing waits.
func (w *writer) run() {
	defer close(w.over)
	for range w.bell {
		for {
			// Those that the last commit has answered may have the next update at hand.
			runtime.Gosched()
			us, last := w.take()
			if last {
				return
			}
			if len(us) == 0 {
				break
			}
			w.commit(us)
		}
	}
}

// take returns what waits, at most maxBatch, and whether nothing will ever come any more.
func (w *writer) take() (us []*update, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), maxBatch)
	us = w.queue[:n:n]
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	return us, w.closed && n == 0
}

// commit runs us in one transaction and answers all of them after the commit.
func (w *writer) commit(all []*update) {
	b := &batch{ran: make(chan struct{})}
	us := make([]*update, 0, len(all))
	for _, u := range all {
		u.batch = b
		if u.state.CompareAndSwap(waiting, taken) {
			us = append(us, u)
		}
	}
	if len(us) == 0 {
		return
	}
	from := w.s.clock.Now()
	wakes, err := w.transact(us, false)
	if errors.Is(err, errAgain) {
		w.rollback()
		wakes, err = w.transact(us, true)
	}
	close(b.ran)
	if err == nil {
		crash.Point("store.commit.before")
		_, err = w.c.exec("COMMIT")
		crash.Point("store.commit.after")
	}
	if err != nil {
		w.s.log.Error("store: transaction failed", "updates", len(us), "err", err)
		w.rollback()
	}
	for _, u := range us {
		if err != nil {
			u.err = err
		}
		close(u.done)
	}
	if err != nil {
		return
	}
	for kind, due := range wakes {
		w.s.bells.of(kind).ring(due)
	}
	if w.s.metrics.Commit != nil {
		w.s.metrics.Commit(len(us), w.s.clock.Now().Sub(from))
	}
}

// rollback ends a transaction that is not wanted or has failed. The database may have ended it
// already, which is as good.
func (w *writer) rollback() {
	w.c.err = nil
	_, err := w.c.exec("ROLLBACK")
	if err != nil {
		w.s.log.Debug("store: nothing to roll back", "err", err)
	}
	w.c.err = nil
}

// errAgain: an update failed half-way and there was no savepoint to go back to.
var errAgain = errors.New("run again with savepoints")

// transact runs the functions in one transaction that is left open. Its error means that all of
// it is lost; the error of one function stands in its update.
//
// A savepoint for each function would cost more than the function itself: SQLite copies every
// page that changes inside one. Functions seldom fail after they have written, so the first try
// does without; only when one does is the batch run again, with savepoints.
func (w *writer) transact(us []*update, savepoints bool) (map[ops.JobKind]int64, error) {
	wakes := map[ops.JobKind]int64{}
	if _, err := w.c.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	for _, u := range us {
		if savepoints {
			if _, err := w.c.exec("SAVEPOINT one"); err != nil {
				return nil, err
			}
		}
		t := &tx{reader: reader{w.c}}
		u.err = w.contain(u.f, t)
		t.c = nil
		if w.c.err != nil {
			// The function may have swallowed it, but what it did is not all there.
			u.err, w.c.err, t.wrote = w.c.err, nil, true
		}
		if u.err == nil {
			t.wakes.addTo(wakes)
		}
		switch failed := u.err != nil && t.wrote; {
		case failed && !savepoints:
			return nil, errAgain
		case failed:
			if _, err := w.c.exec("ROLLBACK TO one"); err != nil {
				return nil, err
			}
			fallthrough
		case savepoints:
			if _, err := w.c.exec("RELEASE one"); err != nil {
				return nil, err
			}
		}
	}
	return wakes, nil
}

// contain calls f and turns a panic into an error, so that one caller's mistake neither ends the
// process nor takes the others' updates with it.
func (w *writer) contain(f func(*tx) error, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.s.log.Error("store: panic in an update", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = &ops.Error{
				Code: ops.CodeInternal, Reason: ops.ReasonInternal,
				Msg: "The bot made a mistake; nothing was changed.",
				Err: fmt.Errorf("panic: %v", p),
			}
		}
	}()
	return f(t)
}

// Update implements [ops.Store]. Updates that wait at the same time share one commit; each runs
// in a savepoint, so that one which fails or panics takes nothing else with it. f must not call
// Update or View. An error with reason store_unavailable whose cause is ctx's means that the
// commit was under way and its outcome is not known.
func (s *Store) Update(ctx context.Context, f func(ops.Tx) error) error {
	return s.writer.do(ctx, func(t *tx) error { return f(t) })
}

// earliest collects the wake-ups of one update: the first due time for each kind.
type earliest []due

type due struct {
	kind ops.JobKind
	at   int64
}

func (e *earliest) add(kind ops.JobKind, at int64) {
	for i := range *e {
		if (*e)[i].kind == kind {
			(*e)[i].at = min((*e)[i].at, at)
			return
		}
	}
	*e = append(*e, due{kind, at})
}

func (e earliest) addTo(all map[ops.JobKind]int64) {
	for _, d := range e {
		if at, ok := all[d.kind]; !ok || d.at < at {
			all[d.kind] = d.at
		}
	}
}

// Metrics receives measurements. Any of the functions may be nil; all must be fast and safe for
// concurrent use.
type Metrics struct {
	// Commit is told of each transaction: how many updates shared it and how long it took.
	Commit func(updates int, took time.Duration)
	// Job is told of each piece of work: how long it took and how it ended.
	Job func(kind ops.JobKind, took time.Duration, err error)
}
