// Package store keeps what ocim knows in one SQLite file, and wakes up what is due.
//
// Rows are the truth. A wake-up is a row too: it says that something is to be looked at, not what
// to do. Every change is durable before anybody is told of it; changes that wait at the same time
// share one commit.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"

	"ocim/internal/clock"
	"ocim/ops"
	"ocim/store/migrations"
)

// readers is how many reads run at the same time.
const readers = 4

// Options say where the store is and what it works with.
type Options struct {
	Path    string      // of the database file; its directory is made if need be
	Clock   clock.Clock // nil means the machine's
	Logger  *slog.Logger
	Metrics Metrics
}

// Store implements [ops.Store] on SQLite. Use Open.
type Store struct {
	clock   clock.Clock
	log     *slog.Logger
	metrics Metrics
	fresh   bool

	lock   *os.File
	write  *sql.DB
	read   *sql.DB
	writer *writer
	pool   chan *conn    // free connections for reading
	over   chan struct{} // closed by Close
	bells  bells
	once   sync.Once
	closed error // what Close returned
}

var _ ops.Store = (*Store)(nil)

// Open opens the store, makes it if there is none, and brings its schema up to date. It returns
// an error that wraps [ErrLocked] when another process has it open, and [ErrNewer] when a newer
// ocim has written it. Leases of an earlier process are void, since it cannot be alive.
func Open(ctx context.Context, o Options) (*Store, error) { return open(ctx, o, migrations.FS) }

func open(ctx context.Context, o Options, steps fs.FS) (_ *Store, err error) {
	s := &Store{
		clock: o.Clock, log: o.Logger, metrics: o.Metrics,
		pool: make(chan *conn, readers), over: make(chan struct{}),
	}
	if s.clock == nil {
		s.clock = clock.System{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(o.Path)
	if err != nil || o.Path == "" {
		return nil, fmt.Errorf("store path %q: %w", o.Path, errors.Join(err, fs.ErrInvalid))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open store %s: %w", o.Path, err), s.release())
		}
	}()
	if s.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, err
	}
	old, err := touch(path)
	if err != nil {
		return nil, err
	}
	if err := s.connect(ctx, path, old, steps); err != nil {
		return nil, err
	}
	go s.writer.run()
	return s, nil
}

// touch makes the database file, readable by nobody else, and reports whether it had content.
// SQLite gives its journal files the same mode.
func touch(path string) (old bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	info, err := f.Stat()
	return err == nil && info.Size() > 0, errors.Join(err, f.Close())
}

func (s *Store) connect(ctx context.Context, path string, old bool, steps fs.FS) error {
	var err error
	if s.write, err = sql.Open("sqlite3", dsn(path, "rwc", 8000)); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if old {
		if err := check(ctx, s.write); err != nil {
			return err
		}
	}
	if err := migrate(ctx, s.write, steps); err != nil {
		return err
	}
	wc, err := newConn(ctx, s.write)
	if err != nil {
		return err
	}
	s.writer = newWriter(s, wc)
	// Pages that change often are copied back from the journal less often when it may grow longer:
	// 16 MB instead of 4.
	if _, err := wc.one([]any{new(int)}, `PRAGMA wal_autocheckpoint = 4000`); err != nil {
		return err
	}
	// Savepoints keep their copies of pages in memory, not in files.
	if _, err := wc.exec(`PRAGMA temp_store = MEMORY`); err != nil {
		return err
	}
	now := micros(s.clock.Now())
	if _, err := wc.exec(`UPDATE wakeups SET leased_until = 0, due_at = $1 WHERE leased_until > 0`, now); err != nil {
		return err
	}
	var some bool
	if _, err := wc.one([]any{&some}, `SELECT EXISTS (SELECT 1 FROM operations)`); err != nil {
		return err
	}
	s.fresh = !some
	if s.read, err = sql.Open("sqlite3", dsn(path, "ro", 2000)); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	for range readers {
		c, err := newConn(ctx, s.read)
		if err != nil {
			return err
		}
		s.pool <- c
	}
	return nil
}

// dsn is the connection string. FULL because people and GitLab are told "recorded": NORMAL may
// lose the last commits when the machine dies. IMMEDIATE because deferred transactions that read
// and then write fail under contention. No mutex in SQLite, since database/sql lets only one
// goroutine at a connection. cache is in KiB.
func dsn(path, mode string, cache int) string {
	q := url.Values{
		"mode":          {mode},
		"_synchronous":  {"FULL"},
		"_busy_timeout": {"5000"},
		"_mutex":        {"no"},
		"_txlock":       {"immediate"},
		"_foreign_keys": {"on"},
		"_cache_size":   {strconv.Itoa(-cache)},
	}
	if mode != "ro" {
		q.Set("_journal_mode", "WAL")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// check reads through the file once, so that damage is met at the start and not in the middle of
// the work.
func check(ctx context.Context, db *sql.DB) error {
	var first string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&first); err != nil {
		return fmt.Errorf("the file cannot be read as a database; restore it from a backup: %w", err)
	}
	if first != "ok" {
		return fmt.Errorf("the file is damaged; restore it from a backup: %s", first)
	}
	return nil
}

// Fresh reports whether the store held no operation when it was opened: it is new, or it was
// lost and can be filled again from GitLab.
func (s *Store) Fresh() bool { return s.fresh }

// Close waits for the updates that have been handed in and for running reads, at most until ctx
// ends, and releases the file. Whatever is asked of the store later fails; a second Close returns
// what the first did.
func (s *Store) Close(ctx context.Context) error {
	s.once.Do(func() {
		if err := s.close(ctx); err != nil {
			s.closed = fmt.Errorf("close store: %w", err)
		}
	})
	return s.closed
}

func (s *Store) close(ctx context.Context) error {
	close(s.over)
	if err := s.writer.close(ctx); err != nil {
		return err
	}
	idle := make([]*conn, 0, readers)
	for range readers {
		select {
		case c := <-s.pool:
			idle = append(idle, c)
		case <-ctx.Done():
			return fmt.Errorf("a read is under way: %w", ctx.Err())
		}
	}
	for _, c := range idle {
		s.pool <- c
	}
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	for range len(s.pool) {
		errs = append(errs, (<-s.pool).close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.c.close())
	}
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	if s.lock != nil {
		errs = append(errs, unlockFile(s.lock))
	}
	return errors.Join(errs...)
}

// View implements [ops.Store]. It sees what was committed when its first query runs, and does
// not wait for writers.
func (s *Store) View(ctx context.Context, f func(ops.Reader) error) error {
	return s.view(ctx, func(r *reader) error { return f(r) })
}

func (s *Store) view(ctx context.Context, f func(*reader) error) error {
	return s.borrow(ctx, func(c *conn) (err error) {
		r := &reader{c}
		defer func() {
			r.c, c.err = nil, nil
			if _, end := c.exec("ROLLBACK"); err == nil {
				err = end
			}
		}()
		if _, err := c.exec("BEGIN"); err != nil {
			return err
		}
		return f(r)
	})
}

// borrow lends f a connection for reading, outside of any transaction: each query sees what is
// committed when it runs.
func (s *Store) borrow(ctx context.Context, f func(*conn) error) error {
	select {
	case <-s.over:
		return unavailable(errClosed)
	default:
	}
	var c *conn
	select {
	case c = <-s.pool:
	case <-s.over:
		return unavailable(errClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		c.err = nil
		s.pool <- c
	}()
	return f(c)
}

// day is how long a request's key is remembered: longer than any platform repeats a request, and
// than its signature is accepted.
const day = 24 * time.Hour

// Prune forgets the keys of requests that are older than a day. Call it now and then.
func (s *Store) Prune(ctx context.Context) error {
	before := micros(s.clock.Now().Add(-day))
	for {
		var n int64
		err := s.writer.do(ctx, func(t *tx) (err error) {
			n, err = t.exec(`DELETE FROM seen WHERE key IN (SELECT key FROM seen WHERE at < $1 LIMIT 500)`, before)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}
