package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"ocim/ops"
)

const (
	// jobTimeout ends the context of one piece of work.
	jobTimeout = 30 * time.Second
	// leaseTime is after how long work that has not come back is handed out again.
	leaseTime = 60 * time.Second
	// firstBackoff and lastBackoff bound the wait after work that failed.
	firstBackoff = time.Second
	lastBackoff  = 60 * time.Second
	// never is the due time of a wake-up that is being worked on and was not wished for again.
	never int64 = math.MaxInt64
)

const putWakeup = `INSERT INTO wakeups (kind, id, due_at, seq, leased_until, attempts) VALUES ($1, $2, $3, 1, 0, 0)
	ON CONFLICT (id, kind) DO UPDATE SET seq = wakeups.seq + 1,
	due_at = CASE WHEN excluded.due_at < wakeups.due_at THEN excluded.due_at ELSE wakeups.due_at END`

// Wake implements [ops.Tx]. A wake-up that comes while a worker has the same one makes it run
// again after that worker: what came may be newer than what the worker has read.
func (t *tx) Wake(_ context.Context, kind ops.JobKind, id string, at time.Time) error {
	us := micros(at)
	if _, err := t.exec(putWakeup, string(kind), id, us); err != nil {
		return err
	}
	t.wakes.add(kind, us)
	return nil
}

// job is a wake-up that a worker has taken.
type job struct {
	kind     ops.JobKind
	id       string
	seq      int64 // as it was when the worker took it
	attempts int   // that failed in a row
	lease    int64 // names this taking: a later one has a later lease
}

const (
	selectDue = `SELECT id, seq, attempts FROM wakeups
	WHERE kind = $1 AND (CASE WHEN leased_until > 0 THEN leased_until ELSE due_at END) <= $2
	ORDER BY (CASE WHEN leased_until > 0 THEN leased_until ELSE due_at END) LIMIT `
	selectNext = `SELECT (CASE WHEN leased_until > 0 THEN leased_until ELSE due_at END) FROM wakeups
	WHERE kind = $1 ORDER BY (CASE WHEN leased_until > 0 THEN leased_until ELSE due_at END) LIMIT 1`
	lease = `UPDATE wakeups SET leased_until = $1, due_at = $2 WHERE kind = $3 AND id = $4`
)

// claim takes at most n wake-ups that are due. The bound stands in the text of the statement, of
// which there are as many as workers: SQLite plans by the value of a bound LIMIT, and would compile
// the statement anew each time.
func (t *tx) claim(kind ops.JobKind, now time.Time, n int) ([]job, error) {
	var js []job
	until := micros(now.Add(leaseTime))
	err := t.c.each(func(rows *sql.Rows) error {
		j := job{kind: kind, lease: until}
		err := rows.Scan(&j.id, &j.seq, &j.attempts)
		js = append(js, j)
		return err
	}, selectDue+strconv.Itoa(n), string(kind), micros(now))
	if err != nil {
		return nil, err
	}
	for _, j := range js {
		if _, err := t.exec(lease, until, never, string(kind), j.id); err != nil {
			return nil, err
		}
	}
	return js, nil
}

// next is when the next wake-up of a kind can be taken, never if there is none.
func (r *reader) next(kind ops.JobKind) (int64, error) {
	next := never
	_, err := r.c.one([]any{&next}, selectNext, string(kind))
	return next, err
}

const (
	dropJob  = `DELETE FROM wakeups WHERE kind = $1 AND id = $2 AND leased_until = $3 AND seq = $4`
	againJob = `UPDATE wakeups SET leased_until = 0, attempts = 0,
	due_at = CASE WHEN due_at > $1 THEN $1 ELSE due_at END WHERE kind = $2 AND id = $3 AND leased_until = $4`
	retryJob = `UPDATE wakeups SET leased_until = 0, attempts = attempts + 1, due_at = $1
	WHERE kind = $2 AND id = $3 AND leased_until = $4`
)

// complete ends a lease. Work that was taken over by another worker ends nothing.
func (t *tx) complete(j job, again time.Time, failed error, now time.Time) error {
	kind := string(j.kind)
	if failed != nil {
		at := micros(now.Add(backoff(j.attempts)))
		_, err := t.exec(retryJob, at, kind, j.id, j.lease)
		t.wakes.add(j.kind, at)
		return err
	}
	at := never
	if again.IsZero() {
		if n, err := t.exec(dropJob, kind, j.id, j.lease, j.seq); err != nil || n > 0 {
			return err
		}
	} else {
		at = micros(again)
	}
	_, err := t.exec(againJob, at, kind, j.id, j.lease)
	t.wakes.add(j.kind, 0) // an earlier wish may stand in the row
	return err
}

// backoff is how long to wait after one more failure: doubled each time up to a minute, and
// somewhere in the upper half of that, so that what failed together does not come back together.
func backoff(attempts int) time.Duration {
	d := lastBackoff
	if attempts < 6 {
		d = firstBackoff << attempts
	}
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load, hides nothing
}

// bells tell the dispatchers of wake-ups that have been committed.
type bells struct {
	mu    sync.Mutex
	kinds map[ops.JobKind]*bell
}

func (b *bells) of(kind ops.JobKind) *bell {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kinds == nil {
		b.kinds = map[ops.JobKind]*bell{}
	}
	if b.kinds[kind] == nil {
		b.kinds[kind] = &bell{until: never, ch: make(chan struct{}, 1)}
	}
	return b.kinds[kind]
}

// bell wakes the dispatcher of one kind.
type bell struct {
	ch    chan struct{} // holds one token
	mu    sync.Mutex
	until int64 // the dispatcher sleeps until then anyway
}

// ring wakes the dispatcher if something is due before it would wake by itself.
func (b *bell) ring(due int64) {
	b.mu.Lock()
	early := due < b.until
	b.mu.Unlock()
	if early {
		select {
		case b.ch <- struct{}{}:
		default:
		}
	}
}

// sleepUntil says when the dispatcher wakes by itself.
func (b *bell) sleepUntil(us int64) {
	b.mu.Lock()
	b.until = us
	b.mu.Unlock()
}

// NextDue returns when the next wake-up of a kind is due, and false if there is none.
func (s *Store) NextDue(ctx context.Context, kind ops.JobKind) (time.Time, bool, error) {
	next := never
	err := s.view(ctx, func(r *reader) (err error) {
		next, err = r.next(kind)
		return err
	})
	if err != nil || next == never {
		return time.Time{}, false, err
	}
	return instant(next), true, nil
}

// sweepChunk bounds how long a sweep keeps other updates waiting.
const sweepChunk = 500

const (
	forgottenOperations = `SELECT o.id FROM operations o WHERE o.unfinished
	AND NOT EXISTS (SELECT 1 FROM wakeups w WHERE w.id = o.id AND w.kind = $1)`
	forgottenDeliveries = `SELECT o.id FROM operations o WHERE o.nr IN (SELECT op FROM deliveries WHERE NOT done)
	AND NOT EXISTS (SELECT 1 FROM wakeups w WHERE w.id = o.id AND w.kind = $1)`
)

// Sweep gives a wake-up to every unfinished operation and every undelivered message that has
// none, and returns how many it gave. Wake-ups are made with the change that needs them, so there
// should be none to give; Sweep is what makes a lost one harmless. Call it at the start and now
// and then.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	total, err := s.straighten(ctx)
	if err != nil {
		return total, fmt.Errorf("sweep: %w", err)
	}
	for _, q := range []struct {
		kind  ops.JobKind
		query string
	}{{ops.JobAdvance, forgottenOperations}, {ops.JobDeliver, forgottenDeliveries}} {
		var ids []string
		err := s.view(ctx, func(r *reader) (err error) {
			ids, err = r.texts(q.query, string(q.kind))
			return err
		})
		for chunk := range slices.Chunk(ids, sweepChunk) {
			if err == nil {
				err = s.wakeAll(ctx, q.kind, chunk, s.clock.Now())
			}
		}
		if err != nil {
			return total, fmt.Errorf("sweep %s: %w", q.kind, err)
		}
		total += len(ids)
	}
	return total, nil
}

const (
	// farthest is longer than any work asks to be left alone: what is due later was written while
	// the clock was wrong.
	farthest   = 15 * time.Minute
	lateWakeup = `UPDATE wakeups SET due_at = $1 WHERE leased_until = 0 AND due_at > $2`
	lateLease  = `UPDATE wakeups SET leased_until = $1 WHERE leased_until > $2`
)

// straighten pulls in what a clock that was ahead has put off, and returns how much that was.
func (s *Store) straighten(ctx context.Context) (int, error) {
	now := s.clock.Now()
	var n int64
	err := s.writer.do(ctx, func(t *tx) error {
		late, err := t.exec(lateWakeup, micros(now), micros(now.Add(farthest)))
		if err != nil {
			return err
		}
		lost, err := t.exec(lateLease, micros(now.Add(leaseTime)), micros(now.Add(2*leaseTime)))
		n = late + lost
		if n > 0 {
			t.wakes.add(ops.JobAdvance, micros(now))
			t.wakes.add(ops.JobDeliver, micros(now))
		}
		return err
	})
	return int(n), err
}

func (s *Store) wakeAll(ctx context.Context, kind ops.JobKind, ids []string, at time.Time) error {
	return s.writer.do(ctx, func(t *tx) error {
		for _, id := range ids {
			if err := t.Wake(ctx, kind, id, at); err != nil {
				return err
			}
		}
		return nil
	})
}

// texts reads one column.
func (r *reader) texts(query string, args ...any) ([]string, error) {
	var all []string
	err := r.c.each(func(rows *sql.Rows) error {
		var text string
		err := rows.Scan(&text)
		all = append(all, text)
		return err
	}, query, args...)
	return all, err
}
