package store

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"ocim/ops"
)

// TestQueriesUseIndexes asks SQLite how it would answer: no query may read all operations, whose
// number only ever grows.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ocim.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	queries := map[string]int{ // with the number of their parameters
		selectHooked: 6, selectDue + "1": 2, selectNext: 1, durationsOfCluster: 3, durationsOfTarget: 4,
		forgottenOperations: 1, forgottenDeliveries: 1, selectPipelines: 2,
	}
	target := ops.Target{Cluster: "a", Instance: "b"}
	for _, f := range []ops.Filter{
		{Unfinished: true},
		{Target: target},
		{Unfinished: true, Target: target},
		{Target: ops.Target{Instance: "b"}},
		{Key: "x"},
		{Number: 3},
		{Pipeline: ops.PipelineRef{ID: 2}},
		{RequestKey: "x"},
	} {
		q, args := filterQuery(f)
		queries[q] = len(args)
	}
	for query, n := range queries {
		err := s.borrow(t.Context(), func(c *conn) error {
			return c.each(func(rows *sql.Rows) error {
				var a, b, d int
				var step string
				err := rows.Scan(&a, &b, &d, &step)
				if strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "operations_unfinished") && !strings.Contains(step, "deliveries_open") {
					t.Errorf("%s\nin %s", step, query)
				}
				return err
			}, "EXPLAIN QUERY PLAN "+query, make([]any, n)...)
		})
		if err != nil {
			t.Error(err)
		}
	}
}
