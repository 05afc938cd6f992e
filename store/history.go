package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"ocim/ops"
)

const insertEvent = `INSERT INTO events (
	op, seq, run, kind, from_state, to_state, reason, actor_platform, actor_workspace, actor_user, at)
	VALUES ($1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE op = $1), $2, $3, $4, $5, $6, $7, $8, $9, $10)`

func (t *tx) insertEvents(nr int64, evs []ops.Event) error {
	for _, e := range evs {
		_, err := t.exec(insertEvent,
			nr, int64(e.Run), string(e.Kind), string(e.From), string(e.To), string(e.Reason),
			e.Actor.Platform, e.Actor.Workspace, e.Actor.UserID, micros(e.At))
		if err != nil {
			return err
		}
	}
	return nil
}

// Events implements [ops.Reader].
func (r *reader) Events(_ context.Context, operation string) ([]ops.Event, error) {
	var evs []ops.Event
	err := r.c.each(func(rows *sql.Rows) error {
		var e ops.Event
		err := rows.Scan(&e.Operation, &e.Run, &e.Kind, &e.From, &e.To, &e.Reason,
			&e.Actor.Platform, &e.Actor.Workspace, &e.Actor.UserID, at{&e.At})
		evs = append(evs, e)
		return err
	}, `SELECT o.id, e.run, e.kind, e.from_state, e.to_state, e.reason, e.actor_platform, e.actor_workspace, e.actor_user, e.at
		FROM operations o JOIN events e ON e.op = o.nr WHERE o.id = $1 ORDER BY e.seq`, operation)
	return evs, err
}

// Seen implements [ops.Tx].
func (t *tx) Seen(_ context.Context, key, operation string, when time.Time) error {
	n, err := t.exec(`INSERT INTO seen (key, operation, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		key, operation, micros(when))
	if err == nil && n == 0 {
		err = fmt.Errorf("request %q: %w", key, ops.ErrDuplicate)
	}
	return err
}

// Deliveries implements [ops.Reader].
func (r *reader) Deliveries(_ context.Context, operation string) ([]ops.Delivery, error) {
	var ds []ops.Delivery
	err := r.c.each(func(rows *sql.Rows) error {
		var d ops.Delivery
		var snapshot string
		err := rows.Scan(&d.Operation, &d.Run, &d.Kind, &d.To.Platform, &d.To.Workspace, &d.To.Channel, &d.To.Thread,
			&d.Key, &d.Ref, &d.Hash, at{&d.PostingAt}, at{&d.SentAt}, &d.Done, &d.Attempts, &snapshot, &d.Version)
		if err == nil {
			err = fromJSON(snapshot, &d.Snapshot)
		}
		ds = append(ds, d)
		return err
	}, `SELECT o.id, d.run, d.kind, d.to_platform, d.to_workspace, d.to_channel, d.to_thread,
		d.key, d.ref, d.hash, d.posting_at, d.sent_at, d.done, d.attempts, d.snapshot, d.version
		FROM operations o JOIN deliveries d ON d.op = o.nr WHERE o.id = $1 ORDER BY d.seq`, operation)
	return ds, err
}

const (
	insertDelivery = `INSERT INTO deliveries (
	op, run, kind, seq, to_platform, to_workspace, to_channel, to_thread,
	key, ref, hash, posting_at, sent_at, done, attempts, snapshot, version)
	VALUES ($1, $2, $3, (SELECT COALESCE(MAX(seq), 0) + 1 FROM deliveries WHERE op = $1),
	$4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 1) ON CONFLICT DO NOTHING`
	updateDelivery = `UPDATE deliveries SET
	to_platform = $1, to_workspace = $2, to_channel = $3, to_thread = $4, key = $5, ref = $6, hash = $7,
	posting_at = $8, sent_at = $9, done = $10, attempts = $11, snapshot = $12, version = version + 1
	WHERE op = $13 AND run = $14 AND kind = $15 AND version = $16`
)

// PutDelivery implements [ops.Tx]. A message with version 0 is a new one; each write raises the
// version by one.
func (t *tx) PutDelivery(_ context.Context, d ops.Delivery) error {
	snapshot, err := toJSON(d.Snapshot, d.Snapshot == nil)
	if err != nil {
		return err
	}
	nr, err := t.nr(d.Operation)
	if err == nil && nr == 0 {
		err = fmt.Errorf("message of operation %s: %w", d.Operation, ops.ErrNotFound)
	}
	if err != nil {
		return err
	}
	content := []any{
		d.To.Platform, d.To.Workspace, d.To.Channel, d.To.Thread, d.Key, d.Ref, d.Hash,
		micros(d.PostingAt), micros(d.SentAt), d.Done, int64(d.Attempts), snapshot,
	}
	id := []any{nr, int64(d.Run), string(d.Kind)}
	var n int64
	if d.Version == 0 {
		n, err = t.exec(insertDelivery, append(id, content...)...)
	} else {
		n, err = t.exec(updateDelivery, append(append(content, id...), d.Version)...)
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("message %s of %s, run %d: %w", d.Kind, d.Operation, d.Run, ops.ErrStale)
	}
	return err
}
