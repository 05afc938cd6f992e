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

	"ocim/internal/clock"
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

// A batch that follows one with several updates waits a moment for as many as that one had: those
// who have been answered may be about to ask for the next. Each commit costs a sync of the disk,
// so that under load fewer and larger ones do more. A single update never waits.
const (
	gatherFor   = 500 * time.Microsecond // at most; Go's timers may make it a millisecond
	gatherProbe = 8                      // after so many batches one waits for one update more
)

// lateWait is how long updates that only record work in the background wait for others to share a
// commit with. Each job makes two, and alone each would be a sync of the disk that somebody's
// request may have to wait for.
const lateWait = 2 * time.Millisecond

// lateShare: of a batch full of what people and GitLab wait for, so many updates to one are those
// that only record work in the background.
const lateShare = 4

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
	late   []*update // of work in the background: these wait while there are others
	enough int       // the writer wants to hear of the queue when it has so many
	closed bool
}

func newWriter(s *Store, c *conn) *writer {
	return &writer{s: s, c: c, bell: make(chan struct{}, 1), over: make(chan struct{})}
}

// do runs f in a transaction of its own or together with others, and returns when the outcome is
// on disk. When ctx ends before f has begun, f never runs; when it ends during the commit, the
// outcome is not known and the error says so.
func (w *writer) do(ctx context.Context, f func(*tx) error) error { return w.submit(ctx, &w.queue, f) }

// doLate is do for work in the background: while the queue is full of other updates, these get a
// part of each commit.
func (w *writer) doLate(ctx context.Context, f func(*tx) error) error {
	return w.submit(ctx, &w.late, f)
}

func (w *writer) submit(ctx context.Context, queue *[]*update, f func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &update{f: f, done: make(chan struct{})}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return unavailable(errClosed)
	}
	if len(*queue) >= maxQueue {
		// Nobody waits for the abandoned ones; while the disk hangs, they would pile up.
		*queue = slices.DeleteFunc(*queue, func(u *update) bool { return u.state.Load() == abandoned })
	}
	if len(*queue) >= maxQueue {
		w.mu.Unlock()
		return unavailable(errBusy)
	}
	*queue = append(*queue, u)
	enough := len(w.queue) >= w.enough
	w.mu.Unlock()
	if enough {
		w.ring()
	}

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
	var g gathering
	for range w.bell {
		for last := 0; ; {
			// Those that the last commit has answered may have the next update at hand.
			runtime.Gosched()
			w.gather(&g, last)
			w.company()
			us, people, over := w.take(g.goal)
			if over {
				return
			}
			if len(us) == 0 {
				break
			}
			w.commit(us)
			if last /= 2; people > 0 {
				last = people
			}
		}
	}
}

// gathering is what the writer has learned of how many ask at the same time.
type gathering struct {
	goal    int // updates that are worth waiting for
	batches int
}

// gather waits, but not long, until as many updates wait as seem to come together: as the last batch
// had, and now and then one more, since batches that are small stay small.
func (w *writer) gather(g *gathering, last int) {
	if last < 2 {
		g.goal = 0
		return
	}
	if g.goal = max(g.goal, last); g.batches%gatherProbe == 0 {
		g.goal++
	}
	g.batches++
	w.await(min(g.goal, maxBatch), gatherFor, func() bool { return true })
	w.mu.Lock()
	defer w.mu.Unlock()
	if came := len(w.queue); came > 0 {
		g.goal = min(g.goal, came)
	}
}

// company waits, while only work in the background has something to record, for somebody else.
func (w *writer) company() {
	w.await(1, lateWait, func() bool { return len(w.late) > 0 })
}

// await waits for n updates other than those of work in the background, at most for d, if the
// condition holds, which is asked under the lock.
func (w *writer) await(n int, d time.Duration, condition func() bool) {
	w.mu.Lock()
	select {
	case <-w.bell: // rung for what waits now
	default:
	}
	wait := len(w.queue) < n && !w.closed && condition()
	if wait {
		w.enough = n
	}
	w.mu.Unlock()
	if !wait {
		return
	}
	// The machine's time, whatever the store's clock says: this waits for goroutines.
	fires, stop := clock.System{}.After(d)
	select {
	case <-w.bell:
	case <-fires:
	}
	stop()
	w.mu.Lock()
	w.enough = 0
	w.mu.Unlock()
}

// take returns what waits, at most maxBatch, how many of it are not work in the background, and
// whether nothing will ever come any more. together is how many come at the same time otherwise.
func (w *writer) take(together int) (us []*update, people int, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	people = min(len(w.queue), maxBatch)
	late := maxBatch - people
	if busy := max(people, together); busy > 0 {
		late = min(late, max(1, busy/lateShare))
	}
	late = min(late, len(w.late))
	us = append(make([]*update, 0, people+late), w.queue[:people]...)
	us = append(us, w.late[:late]...)
	if w.queue = w.queue[people:]; len(w.queue) == 0 {
		w.queue = nil
	}
	if w.late = w.late[late:]; len(w.late) == 0 {
		w.late = nil
	}
	return us, people, w.closed && len(us) == 0
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
