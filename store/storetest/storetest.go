// Package storetest checks that a store keeps the contract of [ops.Store], and lends stores to
// the tests of other packages.
package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"

	"ocim/internal/clock"
	"ocim/ops"
	"ocim/store"
)

// File is the name of the database in the directory of a test.
const File = "ocim.db"

// Open returns a store in a directory of its own that is closed when the test ends. A nil clock
// means the machine's.
func Open(tb testing.TB, c clock.Clock) *store.Store {
	tb.Helper()
	return OpenIn(tb, tb.TempDir(), c)
}

// OpenIn is Open in a directory that the test chooses.
func OpenIn(tb testing.TB, dir string, c clock.Clock) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), store.Options{Path: filepath.Join(dir, File), Clock: c})
	if err != nil {
		tb.Fatalf("open store: %v", err)
	}
	tb.Cleanup(func() { Close(tb, s) })
	return s
}

// Close closes a store, once or more often.
func Close(tb testing.TB, s *store.Store) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		tb.Errorf("close store: %v", err)
	}
}

// Rows reads the database in dir with a query of the test's own, each value as text.
func Rows(tb testing.TB, dir, query string, args ...any) [][]string {
	tb.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, File)+"?mode=ro")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(tb.Context(), query, args...)
	if err != nil {
		tb.Fatalf("query %s: %v", query, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		tb.Fatal(err)
	}
	var all [][]string
	for rows.Next() {
		line := make([]string, len(cols))
		into := make([]any, len(cols))
		for i := range line {
			into[i] = &line[i]
		}
		if err := rows.Scan(into...); err != nil {
			tb.Fatalf("query %s: %v", query, err)
		}
		all = append(all, line)
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("query %s: %v", query, err)
	}
	return all
}

// Start is the instant at which the operations of Op begin.
var Start = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// Op is the n-th of any number of new operations with nothing in common but actor and cluster.
func Op(n int) ops.Operation {
	who := ops.Actor{Platform: "slack", Workspace: "T1", UserID: "U1"}
	when := Start.Add(time.Duration(n) * time.Second)
	return ops.Operation{
		ID: fmt.Sprintf("op%d", n), State: ops.Requested,
		Request: ops.Request{
			Key: fmt.Sprintf("slack:T1:%d", n), Actor: who, ActorName: "Ada", Action: "deploy",
			From:   ops.Conversation{Platform: "slack", Workspace: "T1", Channel: "C1"},
			Target: ops.Target{Cluster: "main", Instance: fmt.Sprintf("demo%d", n)},
		},
		Run: 1, RunBy: who, RunByName: "Ada", Key: fmt.Sprintf("%032x", n+1), Number: int64(1000 + n),
		Project: "group/main", CreatedAt: when, RunAt: when, ChangedAt: when,
	}
}

// Full is Op with a value in every field.
func Full(n int) ops.Operation {
	op := Op(n)
	at := func(minutes int) time.Time { return op.CreatedAt.Add(time.Duration(minutes) * time.Minute) }
	op.Request.From.Thread = "171.5"
	op.Request.Params = map[string]string{"version": "12", "why": "“quoted” & <b>"}
	op.Request.Why = "new theme\nfor Ada"
	op.RunBy, op.RunByName = ops.Actor{Platform: "mattermost", Workspace: "team", UserID: "u2"}, "Grace"
	op.State, op.Reason, op.Detail, op.Version = ops.Canceling, ops.ReasonCanceledByPerson, "Ada stopped it.", 7
	op.Outstanding, op.Attempt, op.PostedAt, op.ServerTime = true, 2, at(1), at(2)
	op.CancelBy, op.CancelAt = op.Request.Actor, at(3)
	op.Failure = &ops.Failure{Pipeline: 9, JobID: 8, Job: "build", Stage: "test", Reason: "script_failure", URL: "https://gitlab.test/j/8", Tail: "a\nb", Last: "b"}
	op.Link, op.Expected = "https://gitlab.test/mr/1", 90*time.Second
	op.Errors, op.ErrorSince = 3, at(4)
	op.StartedAt, op.FinishedAt, op.ChangedAt = at(5), at(6), at(7)
	op.Pipelines = []ops.Pipeline{
		{
			Ref: ops.PipelineRef{Project: "group/main", ID: int64(90 + 10*n)}, Role: ops.RoleRoot, Source: "trigger", Status: "running",
			GitRef: "main", SHA: "abc", URL: "https://gitlab.test/p/9", CreatedAt: at(1), UpdatedAt: at(2), StartedAt: at(3), FinishedAt: at(4),
			YAMLErrors: "none", Jobs: ops.Jobs{Total: 5, Done: 2, Running: "build", Stage: "test", Manual: "go", MaxID: 77},
		},
		{Ref: ops.PipelineRef{Project: "group/child", ID: int64(91 + 10*n)}, Role: ops.RoleChild, Parent: 90, Bridge: "b", AllowFailure: true, Status: "created"},
	}
	return op
}
