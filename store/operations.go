package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ocim/ops"
)

// reader implements [ops.Reader] on one connection. Its c is nil once it is over.
type reader struct{ c *conn }

// tx implements [ops.Tx]. What it wakes is told to the dispatcher after the commit.
type tx struct {
	reader
	wakes  earliest
	wrote  bool // rows have changed
	lastID string
	lastNr int64
}

// exec is conn.exec, and notes whether there is anything to roll back.
func (t *tx) exec(query string, args ...any) (int64, error) {
	n, err := t.c.exec(query, args...)
	t.wrote = t.wrote || n > 0
	return n, err
}

var (
	_ ops.Reader = (*reader)(nil)
	_ ops.Tx     = (*tx)(nil)
)

const selectOperation = `SELECT
	o.nr, o.id, o.request_key, o.actor_platform, o.actor_workspace, o.actor_user, o.actor_name,
	o.from_platform, o.from_workspace, o.from_channel, o.from_thread,
	o.action, o.cluster, o.instance, o.params, o.why, o.run, o.version, o.created_at, o.changed_at,
	r.asked_platform, r.asked_workspace, r.asked_user, r.asked_name, r.key, r.number,
	r.state, r.reason, r.detail, r.outstanding, r.attempt, r.lost, r.posted_at, r.server_time,
	r.cancel_platform, r.cancel_workspace, r.cancel_user, r.cancel_at, r.project, r.follow, r.follow_within, r.failure, r.link,
	r.expected, r.errors, r.error_since, r.run_at, r.started_at, r.finished_at
	FROM operations o JOIN runs r ON r.op = o.nr AND r.run = o.run`

func scanOperation(rows *sql.Rows) (nr int64, o ops.Operation, err error) {
	var params, failure string
	var expected, within int64
	q := &o.Request
	err = rows.Scan(
		&nr, &o.ID, &q.Key, &q.Actor.Platform, &q.Actor.Workspace, &q.Actor.UserID, &q.ActorName,
		&q.From.Platform, &q.From.Workspace, &q.From.Channel, &q.From.Thread,
		&q.Action, &q.Target.Cluster, &q.Target.Instance, &params, &q.Why, &o.Run, &o.Version, at{&o.CreatedAt}, at{&o.ChangedAt},
		&o.RunBy.Platform, &o.RunBy.Workspace, &o.RunBy.UserID, &o.RunByName, &o.Key, &o.Number,
		&o.State, &o.Reason, &o.Detail, &o.Outstanding, &o.Attempt, &o.Lost, at{&o.PostedAt}, at{&o.ServerTime},
		&o.CancelBy.Platform, &o.CancelBy.Workspace, &o.CancelBy.UserID, at{&o.CancelAt}, &o.Project, &o.Follow, &within, &failure, &o.Link,
		&expected, &o.Errors, at{&o.ErrorSince}, at{&o.RunAt}, at{&o.StartedAt}, at{&o.FinishedAt},
	)
	if err != nil {
		return 0, o, err
	}
	o.Expected = time.Duration(expected) * time.Microsecond
	o.FollowWithin = time.Duration(within) * time.Microsecond
	return nr, o, errors.Join(fromJSON(params, &q.Params), fromJSON(failure, &o.Failure))
}

// Operation implements [ops.Reader].
func (r *reader) Operation(_ context.Context, id string) (ops.Operation, error) {
	os, err := r.operations(selectOperation+` WHERE o.id = $1`, id)
	if err == nil && len(os) == 0 {
		err = fmt.Errorf("operation %s: %w", id, ops.ErrNotFound)
	}
	if err != nil {
		return ops.Operation{}, err
	}
	return os[0], nil
}

// Operations implements [ops.Reader].
func (r *reader) Operations(_ context.Context, f ops.Filter) ([]ops.Operation, error) {
	query, args := filterQuery(f)
	return r.operations(query, args...)
}

func (r *reader) operations(query string, args ...any) ([]ops.Operation, error) {
	var os []ops.Operation
	var nrs []int64
	err := r.c.each(func(rows *sql.Rows) error {
		nr, o, err := scanOperation(rows)
		os, nrs = append(os, o), append(nrs, nr)
		return err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	for i := range os {
		if os[i].Pipelines, err = r.pipelines(nrs[i], os[i].Run); err != nil {
			return nil, err
		}
	}
	return os, nil
}

// filterQuery spells f as a query. Its parameters are numbered in the order of their appearance.
func filterQuery(f ops.Filter) (string, []any) {
	var where []string
	var args []any
	and := func(cond string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			cond = strings.Replace(cond, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		where = append(where, cond)
	}
	if f.Target.Cluster != "" {
		and("o.cluster = ?", f.Target.Cluster)
	}
	// Spelled such that the small indexes on each half of the operations serve: left to choose,
	// SQLite would rather read all operations in the order in which they are wanted.
	switch instance := f.Target.Instance; {
	case instance != "" && f.Unfinished:
		and("o.nr IN (SELECT nr FROM operations WHERE instance = ? AND unfinished)", instance)
	case instance != "":
		and(`o.nr IN (SELECT nr FROM operations WHERE instance = ? AND NOT unfinished
			UNION ALL SELECT nr FROM operations WHERE instance = ? AND unfinished)`, instance, instance)
	case f.Unfinished:
		and("o.nr IN (SELECT nr FROM operations WHERE unfinished)")
	}
	if f.RequestKey != "" {
		and("o.request_key = ?", f.RequestKey)
	}
	if f.Key != "" {
		and("o.nr IN (SELECT op FROM runs WHERE key = ?)", f.Key)
	}
	if f.Number != 0 {
		and("o.nr IN (SELECT op FROM runs WHERE number = ?)", f.Number)
	}
	if f.Pipeline.ID != 0 {
		and("o.nr IN (SELECT op FROM pipelines WHERE pipeline_id = ? AND project = ?)", f.Pipeline.ID, f.Pipeline.Project)
	}
	query := selectOperation
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	args = append(args, int64(f.Limit))
	return query + " ORDER BY o.nr DESC LIMIT $" + strconv.Itoa(len(args)), args
}

// Durations implements [ops.Reader].
func (r *reader) Durations(_ context.Context, action string, t ops.Target, n int) ([]time.Duration, error) {
	query, args := durationsOfCluster, []any{t.Cluster, action}
	if t.Instance != "" {
		query, args = durationsOfTarget, append(args, t.Instance)
	}
	var ds []time.Duration
	err := r.c.each(func(rows *sql.Rows) error {
		var us int64
		err := rows.Scan(&us)
		ds = append(ds, time.Duration(us)*time.Microsecond)
		return err
	}, query, append(args, int64(n))...)
	return ds, err
}

const (
	durationsOfCluster = `SELECT finished_at - CASE WHEN started_at > 0 THEN started_at ELSE run_at END
	FROM runs WHERE cluster = $1 AND action = $2 AND state = 'succeeded' ORDER BY finished_at DESC LIMIT $3`
	durationsOfTarget = `SELECT finished_at - CASE WHEN started_at > 0 THEN started_at ELSE run_at END
	FROM runs WHERE cluster = $1 AND action = $2 AND instance = $3 AND state = 'succeeded' ORDER BY finished_at DESC LIMIT $4`
)

const insertOperation = `INSERT INTO operations (
	nr, id, request_key, actor_platform, actor_workspace, actor_user, actor_name,
	from_platform, from_workspace, from_channel, from_thread,
	action, cluster, instance, params, why, run, unfinished, version, created_at, changed_at)
	VALUES ((SELECT COALESCE(MAX(nr), 0) + 1 FROM operations),
	$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
	ON CONFLICT DO NOTHING RETURNING nr`

// Create implements [ops.Tx]. It keeps op.Version as it is.
func (t *tx) Create(_ context.Context, op ops.Operation, evs []ops.Event) error {
	params, err := toJSON(op.Request.Params, len(op.Request.Params) == 0)
	if err != nil {
		return err
	}
	q := &op.Request
	var nr int64
	created, err := t.c.one([]any{&nr}, insertOperation,
		op.ID, q.Key, q.Actor.Platform, q.Actor.Workspace, q.Actor.UserID, q.ActorName,
		q.From.Platform, q.From.Workspace, q.From.Channel, q.From.Thread,
		q.Action, q.Target.Cluster, q.Target.Instance, params, q.Why,
		int64(op.Run), !op.State.Final(), op.Version, micros(op.CreatedAt), micros(op.ChangedAt))
	if err != nil {
		return err
	}
	if !created {
		return t.whyNotCreated(op)
	}
	t.lastID, t.lastNr, t.wrote = op.ID, nr, true
	if err := t.insertRun(nr, op); err != nil {
		return err
	}
	for i, p := range op.Pipelines {
		if err := t.putPipeline(nr, op.Run, i, p); err != nil {
			return err
		}
	}
	return t.insertEvents(nr, evs)
}

// nr is the number by which other tables name an operation, and 0 if there is none. An update is
// mostly about one operation, so the last one is remembered.
func (t *tx) nr(id string) (nr int64, err error) {
	if id == t.lastID {
		return t.lastNr, nil
	}
	if _, err = t.c.one([]any{&nr}, `SELECT nr FROM operations WHERE id = $1`, id); err == nil && nr != 0 {
		t.lastID, t.lastNr = id, nr
	}
	return nr, err
}

func (t *tx) whyNotCreated(op ops.Operation) error {
	var known, taken, busy bool
	_, err := t.c.one([]any{&known, &taken, &busy}, `SELECT
		EXISTS (SELECT 1 FROM operations WHERE request_key = $1),
		EXISTS (SELECT 1 FROM operations WHERE id = $2),
		EXISTS (SELECT 1 FROM operations WHERE cluster = $3 AND instance = $4 AND unfinished)`,
		op.Request.Key, op.ID, op.Request.Target.Cluster, op.Request.Target.Instance)
	switch {
	case err != nil:
		return err
	case known:
		return fmt.Errorf("create operation %s: %w", op.ID, ops.ErrDuplicate)
	case taken:
		return fmt.Errorf("create operation %s: %w", op.ID, ops.ErrIDTaken)
	case busy && !op.State.Final():
		return fmt.Errorf("create operation %s: %w", op.ID, ops.ErrBusy)
	}
	return t.doom(fmt.Errorf("create operation %s: no row, and nothing in its way", op.ID))
}

// doom makes the transaction fail whatever its function returns: part of a change is written.
func (t *tx) doom(err error) error {
	if t.c.err == nil {
		t.c.err = &ops.Error{
			Code: ops.CodeInternal, Reason: ops.ReasonInternal,
			Msg: "The bot made a mistake; nothing was changed.", Err: err,
		}
	}
	return t.c.err
}

// NextNumber implements [ops.Tx].
func (t *tx) NextNumber(_ context.Context, atLeast int64) (int64, error) {
	var highest int64
	_, err := t.c.one([]any{&highest}, `SELECT COALESCE(MAX(number), 0) FROM runs`)
	return max(atLeast, highest+1), err
}

const insertRun = `INSERT INTO runs (
	op, run, action, cluster, instance,
	asked_platform, asked_workspace, asked_user, asked_name, key, number,
	state, reason, detail, outstanding, attempt, lost, posted_at, server_time,
	cancel_platform, cancel_workspace, cancel_user, cancel_at, project, follow, follow_within, failure, link,
	expected, errors, error_since, run_at, started_at, finished_at)
	SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
	$21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34
	WHERE NOT EXISTS (SELECT 1 FROM runs WHERE key = $10 AND op <> $1)
	AND NOT EXISTS (SELECT 1 FROM runs WHERE number = $11 AND op <> $1) ON CONFLICT DO NOTHING`

func (t *tx) insertRun(nr int64, op ops.Operation) error {
	progress, err := runProgress(op)
	if err != nil {
		return t.doom(err)
	}
	n, err := t.exec(insertRun, append([]any{
		nr, int64(op.Run), op.Request.Action, op.Request.Target.Cluster, op.Request.Target.Instance,
		op.RunBy.Platform, op.RunBy.Workspace, op.RunBy.UserID, op.RunByName, op.Key, op.Number,
	}, progress...)...)
	if err == nil && n == 0 {
		err = t.doom(fmt.Errorf("operation %s: run %d, its key or its number %d is taken", op.ID, op.Run, op.Number))
	}
	return err
}

const updateRun = `UPDATE runs SET
	state = $1, reason = $2, detail = $3, outstanding = $4, attempt = $5, lost = $6, posted_at = $7, server_time = $8,
	cancel_platform = $9, cancel_workspace = $10, cancel_user = $11, cancel_at = $12, project = $13, follow = $14, follow_within = $15, failure = $16, link = $17,
	expected = $18, errors = $19, error_since = $20, run_at = $21, started_at = $22, finished_at = $23
	WHERE op = $24 AND run = $25 AND key = $26 AND number = $27`

// runProgress is what changes while a run goes on, in the order of insertRun and updateRun.
func runProgress(op ops.Operation) ([]any, error) {
	failure, err := toJSON(op.Failure, op.Failure == nil)
	return []any{
		string(op.State), string(op.Reason), op.Detail, op.Outstanding, int64(op.Attempt), int64(op.Lost), micros(op.PostedAt), micros(op.ServerTime),
		op.CancelBy.Platform, op.CancelBy.Workspace, op.CancelBy.UserID, micros(op.CancelAt), op.Project, string(op.Follow), op.FollowWithin.Microseconds(), failure, op.Link,
		op.Expected.Microseconds(), int64(op.Errors), micros(op.ErrorSince), micros(op.RunAt), micros(op.StartedAt), micros(op.FinishedAt),
	}, err
}

const moveOperation = `UPDATE operations SET run = $1, unfinished = $2, changed_at = $3, version = version + 1
	WHERE nr = $4 AND version = $5`

// Move implements [ops.Tx]. The request, the time of creation, and of an open run its key, number
// and who asked for it never change.
func (t *tx) Move(_ context.Context, op ops.Operation, evs []ops.Event) error {
	nr, run, err := t.whereItStands(op)
	if err != nil {
		return fmt.Errorf("move operation %s: %w", op.ID, err)
	}
	t.lastID, t.lastNr = op.ID, nr
	n, err := t.exec(moveOperation, int64(op.Run), !op.State.Final(), micros(op.ChangedAt), nr, op.Version)
	if err == nil && n != 1 {
		err = t.doom(fmt.Errorf("move operation %s: %d rows", op.ID, n))
	}
	if err != nil {
		return err
	}
	if op.Run == run {
		err = t.updateRun(nr, op)
	} else {
		err = t.insertRun(nr, op)
	}
	if err != nil {
		return err
	}
	if err := t.movePipelines(nr, op); err != nil {
		return err
	}
	return t.insertEvents(nr, evs)
}

// whereItStands returns number and run of the stored operation, if op may be stored over it.
func (t *tx) whereItStands(op ops.Operation) (nr int64, run int, err error) {
	var version int64
	var busy bool
	found, err := t.c.one([]any{&nr, &version, &run, &busy}, `SELECT o.nr, o.version, o.run, NOT o.unfinished AND EXISTS (
		SELECT 1 FROM operations b WHERE b.cluster = o.cluster AND b.instance = o.instance AND b.unfinished)
		FROM operations o WHERE o.id = $1`, op.ID)
	switch {
	case err != nil:
	case !found:
		err = ops.ErrNotFound
	case version != op.Version:
		err = ops.ErrStale
	case busy && !op.State.Final():
		err = ops.ErrBusy
	}
	return nr, run, err
}

func (t *tx) updateRun(nr int64, op ops.Operation) error {
	args, err := runProgress(op)
	if err != nil {
		return t.doom(err)
	}
	n, err := t.exec(updateRun, append(args, nr, int64(op.Run), op.Key, op.Number)...)
	if err == nil && n != 1 {
		err = t.doom(fmt.Errorf("operation %s: key or number of run %d differ from the stored ones", op.ID, op.Run))
	}
	return err
}

// toJSON is v as text, or nothing if there is nothing to keep.
func toJSON(v any, empty bool) (string, error) {
	if empty {
		return "", nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

func fromJSON(text string, into any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}
