package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"ocim/ops"
)

// errOver: a Tx or Reader was used after the function it was given to had returned.
var errOver = errors.New("store: transaction is over")

// conn is one connection with the statements it has prepared. It is not safe for concurrent use.
//
// Statements run with a context that cannot end: the driver would start a goroutine for each
// statement otherwise, and a statement takes microseconds. What waits, waits before it.
type conn struct {
	c     *sql.Conn
	stmts map[string]*sql.Stmt
	err   error // first failure of the database since reset; it dooms the transaction
}

func newConn(ctx context.Context, db *sql.DB) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, stmts: map[string]*sql.Stmt{}}, nil
}

func (c *conn) close() error {
	errs := make([]error, 0, len(c.stmts)+1)
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.c.Close())...)
}

// stmt returns the prepared statement for query. The number of texts is fixed by the code, so
// none is ever dropped.
func (c *conn) stmt(query string) (*sql.Stmt, error) {
	if c.err != nil {
		return nil, c.err
	}
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.c.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, c.fail(err)
	}
	c.stmts[query] = s
	return s, nil
}

// fail remembers the first failure. A transaction in which a statement failed may have been
// rolled back by the database already; nothing more may run in it.
func (c *conn) fail(err error) error {
	if c.err == nil {
		c.err = unavailable(err)
	}
	return c.err
}

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	if c == nil {
		return 0, errOver
	}
	s, err := c.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, c.fail(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, c.fail(err)
	}
	return n, nil
}

// each runs a query and calls scan for each row.
func (c *conn) each(scan func(*sql.Rows) error, query string, args ...any) error {
	if c == nil {
		return errOver
	}
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return c.fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return c.fail(err)
		}
	}
	if err := rows.Err(); err != nil {
		return c.fail(err)
	}
	return nil
}

// one reads a single row into dest and reports whether there was one.
func (c *conn) one(dest []any, query string, args ...any) (bool, error) {
	found := false
	err := c.each(func(r *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return r.Scan(dest...)
	}, query, args...)
	return found, err
}

// unavailable says that the database failed, in words for people.
func unavailable(err error) error {
	return &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonStoreUnavailable,
		Msg:  "The bot's store does not answer.",
		Next: "Try again in a minute.",
		Err:  fmt.Errorf("store: %w", err),
	}
}

// micros is how instants stand in the database: microseconds since 1970, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// at scans an instant.
type at struct{ t *time.Time }

// Scan implements [sql.Scanner].
func (a at) Scan(v any) error {
	us, ok := v.(int64)
	if !ok {
		return fmt.Errorf("instant is %T, want int64", v)
	}
	*a.t = instant(us)
	return nil
}
