package store

import (
	"context"
	"database/sql"
	"slices"

	"ocim/ops"
)

// Hook is what a webhook says it is about. Fields that it does not have are zero.
type Hook struct {
	Project  string // as the configuration names it
	Pipeline int64
	Parent   int64  // the pipeline whose bridge started this one
	Number   int64  // the run's number, from the pipeline's variables
	Key      string // the run's key, from the trigger's payload
}

const selectHooked = `SELECT o.id, COALESCE(w.due_at <= $1, FALSE) FROM operations o
	LEFT JOIN wakeups w ON w.id = o.id AND w.kind = 'advance'
	WHERE o.nr IN (SELECT op FROM pipelines WHERE pipeline_id IN ($2, $3) AND project = $4
	UNION ALL SELECT op FROM runs WHERE number = $5 UNION ALL SELECT op FROM runs WHERE key = $6)`

// MarkHook wakes the operations that the webhooks concern and returns how many there are. What
// has to be on disk is on disk when it returns. A webhook is a hint: it says when to look, never
// what to believe. So one about a stranger's pipeline writes nothing, and neither does one about
// an operation which is about to be looked at anyway: that look is yet to come and will see it.
func (s *Store) MarkHook(ctx context.Context, hooks ...Hook) (int, error) {
	now := s.clock.Now()
	var known, asleep []string
	err := s.borrow(ctx, func(c *conn) error {
		for _, h := range hooks {
			err := c.each(func(rows *sql.Rows) error {
				var id string
				var awake bool
				if err := rows.Scan(&id, &awake); err != nil {
					return err
				}
				if !slices.Contains(known, id) {
					known = append(known, id)
					if !awake {
						asleep = append(asleep, id)
					}
				}
				return nil
			}, selectHooked, micros(now), some(h.Pipeline), some(h.Parent), h.Project, some(h.Number), some(h.Key))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(asleep) == 0 {
		return len(known), err
	}
	return len(known), s.wakeAll(ctx, ops.JobAdvance, asleep, now)
}

// some is v, or NULL, which equals nothing, for "not known".
func some[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
