package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ocim/ops"
)

// Opener opens the store that stands in dir, or makes it. It may be called again for the same
// directory once the store that it returned has been closed.
type Opener func(t *testing.T, dir string) ops.Store

// Run checks everything that [ops.Store] promises.
func Run(t *testing.T, open Opener) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"keeps every field", keepsEveryField},
		{"survives a restart", survivesRestart},
		{"moves by compare-and-set", movesByVersion},
		{"one winner of a race", oneWinner},
		{"no update is lost", noUpdateLost},
		{"known requests", knownRequests},
		{"busy targets", busyTargets},
		{"runs keep keys and numbers", runsKeepNumbers},
		{"pipelines follow the run", pipelinesFollow},
		{"a failed update leaves nothing", failureLeavesNothing},
		{"a panic leaves nothing", panicLeavesNothing},
		{"an error that is swallowed", swallowedError},
		{"an id that is taken", idTaken},
		{"a transaction that is over", over},
		{"a canceled context", canceled},
		{"views are consistent", consistentView},
		{"filters", filters},
		{"events in order", eventsInOrder},
		{"durations", durations},
		{"messages", messages},
		{"seen requests", seenRequests},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			test.run(&suite{Store: open(t, dir), t: t, dir: dir, open: open})
		})
	}
}

type suite struct {
	ops.Store
	t    *testing.T
	dir  string
	open Opener
}

func (s *suite) update(t *testing.T, f func(ops.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func (s *suite) create(t *testing.T, all ...ops.Operation) {
	t.Helper()
	for _, op := range all {
		s.update(t, func(tx ops.Tx) error { return tx.Create(t.Context(), op, nil) })
	}
}

func (s *suite) move(t *testing.T, op ops.Operation) ops.Operation {
	t.Helper()
	s.update(t, func(tx ops.Tx) error { return tx.Move(t.Context(), op, nil) })
	op.Version++
	return op
}

func (s *suite) get(t *testing.T, id string) ops.Operation {
	t.Helper()
	var op ops.Operation
	err := s.View(t.Context(), func(r ops.Reader) (err error) {
		op, err = r.Operation(t.Context(), id)
		return err
	})
	if err != nil {
		t.Fatalf("operation %s: %v", id, err)
	}
	return op
}

func (s *suite) list(t *testing.T, f ops.Filter) []string {
	t.Helper()
	ids := []string{}
	err := s.View(t.Context(), func(r ops.Reader) error {
		all, err := r.Operations(t.Context(), f)
		for _, op := range all {
			ids = append(ids, op.ID)
		}
		return err
	})
	if err != nil {
		t.Fatalf("operations %+v: %v", f, err)
	}
	return ids
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: got +, want -:\n%s", what, d)
	}
}

func is(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func keepsEveryField(s *suite) {
	t := s.t
	op := Full(1)
	s.create(t, op)
	same(t, "created", s.get(t, op.ID), op)

	small := Op(2)
	s.create(t, small)
	same(t, "created with few fields", s.get(t, small.ID), small)
	changed := Full(2)
	changed.Version = small.Version
	changed.Request, changed.RunBy, changed.RunByName = small.Request, small.RunBy, small.RunByName
	changed = s.move(t, changed)
	same(t, "moved to many fields", s.get(t, small.ID), changed)
	small.Version = changed.Version
	small = s.move(t, small)
	same(t, "moved back to few fields", s.get(t, small.ID), small)
}

func survivesRestart(s *suite) {
	t := s.t
	op := Full(1)
	s.create(t, op)
	closer, ok := s.Store.(interface{ Close(context.Context) error })
	if !ok {
		t.Fatal("the store has no Close")
	}
	if err := closer.Close(t.Context()); err != nil {
		t.Fatalf("close: %v", err)
	}
	err := s.Update(t.Context(), func(ops.Tx) error { return nil })
	if got, want := ops.ReasonOf(err), ops.ReasonStoreUnavailable; got != want {
		t.Errorf("update after close: got reason %s, want %s", got, want)
	}
	s.Store = s.open(t, s.dir)
	same(t, "after a restart", s.get(t, op.ID), op)
}

func movesByVersion(s *suite) {
	t := s.t
	op := Op(1)
	s.create(t, op)
	op.Detail = "first"
	s.move(t, op)
	op.Detail = "second"
	err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Move(t.Context(), op, nil) })
	is(t, "move of an old version", err, ops.ErrStale)
	if got, want := s.get(t, op.ID).Detail, "first"; got != want {
		t.Errorf("detail: got %q, want %q", got, want)
	}
	err = s.Update(t.Context(), func(tx ops.Tx) error { return tx.Move(t.Context(), Op(2), nil) })
	is(t, "move of an unknown operation", err, ops.ErrNotFound)
	err = s.View(t.Context(), func(r ops.Reader) error {
		_, err := r.Operation(t.Context(), "nobody")
		return err
	})
	is(t, "read of an unknown operation", err, ops.ErrNotFound)
}

// together calls f from n goroutines at once and returns their errors.
func together(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			errs[i] = f(i)
		})
	}
	start.Done()
	done.Wait()
	return errs
}

func oneWinner(s *suite) {
	t := s.t
	op := Op(1)
	s.create(t, op)
	won := 0
	for _, err := range together(32, func(int) error {
		return s.Update(t.Context(), func(tx ops.Tx) error { return tx.Move(t.Context(), op, nil) })
	}) {
		if err == nil {
			won++
		} else {
			is(t, "loser", err, ops.ErrStale)
		}
	}
	if won != 1 {
		t.Errorf("winners: got %d, want 1", won)
	}
}

func noUpdateLost(s *suite) {
	t := s.t
	const writers, each = 8, 25
	op := Op(1)
	s.create(t, op)
	for _, err := range together(writers, func(int) error {
		for range each {
			err := s.Update(t.Context(), func(tx ops.Tx) error {
				op, err := tx.Operation(t.Context(), op.ID)
				if err != nil {
					return err
				}
				op.Errors++
				return tx.Move(t.Context(), op, nil)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}) {
		is(t, "writer", err, nil)
	}
	got := s.get(t, op.ID)
	same(t, "errors and version", []int64{int64(got.Errors), got.Version}, []int64{writers * each, writers * each})
}

func knownRequests(s *suite) {
	t := s.t
	op, again := Op(1), Op(2)
	again.Request.Key = op.Request.Key
	s.create(t, op)
	err := s.Update(t.Context(), func(tx ops.Tx) error {
		err := tx.Create(t.Context(), again, []ops.Event{{Run: 1, Kind: ops.EventMoved}})
		is(t, "within the update", err, ops.ErrDuplicate)
		known, err2 := tx.Operations(t.Context(), ops.Filter{RequestKey: again.Request.Key})
		if err2 != nil || len(known) != 1 || known[0].ID != op.ID {
			t.Errorf("look-up after the refusal: got %v, %v, want %s", known, err2, op.ID)
		}
		return err
	})
	is(t, "second with the same key", err, ops.ErrDuplicate)
	same(t, "operations", s.list(t, ops.Filter{}), []string{op.ID})
}

func busyTargets(s *suite) {
	t := s.t
	first, second := Op(1), Op(2)
	second.Request.Target = first.Request.Target
	s.create(t, first)
	create := func(op ops.Operation) error {
		return s.Update(t.Context(), func(tx ops.Tx) error { return tx.Create(t.Context(), op, nil) })
	}
	is(t, "second on the target", create(second), ops.ErrBusy)
	first.State = ops.Failed
	first = s.move(t, first)
	is(t, "second after the first", create(second), nil)

	reopened := first
	reopened.State, reopened.Run, reopened.Key, reopened.Number = ops.Running, 2, "k2", 5000
	err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Move(t.Context(), reopened, nil) })
	is(t, "first again while the second runs", err, ops.ErrBusy)
	first.Detail = "changed"
	first = s.move(t, first) // a final one that stays final is in nobody's way
	second.State = ops.Succeeded
	s.move(t, second)
	reopened.Version = first.Version
	s.move(t, reopened)

	third := Op(3)
	third.Request.Target = first.Request.Target
	won := 0
	for _, err := range together(8, func(i int) error {
		op := Op(10 + i)
		op.Request.Target.Instance = "contended"
		return create(op)
	}) {
		if err == nil {
			won++
		} else {
			is(t, "loser", err, ops.ErrBusy)
		}
	}
	if won != 1 {
		t.Errorf("winners of one target: got %d, want 1", won)
	}
	is(t, "third while the first runs again", create(third), ops.ErrBusy)
}

func runsKeepNumbers(s *suite) {
	t := s.t
	op := Op(1)
	op.State = ops.Failed
	s.create(t, op)
	key, number := op.Key, op.Number
	op.Run, op.Key, op.Number, op.State = 2, "second", 5000, ops.Requested
	op = s.move(t, op)
	same(t, "second run", s.get(t, op.ID), op)
	for _, f := range []ops.Filter{{Key: key}, {Key: op.Key}, {Number: number}, {Number: op.Number}} {
		same(t, "found by key or number", s.list(t, f), []string{op.ID})
	}
	for name, taken := range map[string]ops.Operation{
		"number of a run":       {Number: number, Run: 1, Key: "x"},
		"number of another run": {Number: number, Run: 7, Key: "x"},
		"key of a run":          {Number: 9999, Run: 1, Key: key},
		"key of another run":    {Number: 9999, Run: 7, Key: key},
	} {
		other := Op(2)
		other.Number, other.Run, other.Key = taken.Number, taken.Run, taken.Key
		err := s.Update(t.Context(), func(tx ops.Tx) error {
			_ = tx.Create(t.Context(), other, nil)
			return nil // even then nothing of it may stay
		})
		if err == nil {
			t.Errorf("second use of the %s: got no error", name)
		}
	}
	same(t, "operations", s.list(t, ops.Filter{}), []string{op.ID})
	s.update(t, func(tx ops.Tx) error {
		for _, test := range []struct{ atLeast, want int64 }{{1, 5001}, {6000, 6000}} {
			got, err := tx.NextNumber(t.Context(), test.atLeast)
			if err != nil || got != test.want {
				t.Errorf("next number from %d: got %d, %v, want %d", test.atLeast, got, err, test.want)
			}
		}
		return nil
	})
	// What GitLab runs again by itself is a new run of the same pipelines.
	op.Run = 3
	op = s.move(t, op)
	same(t, "third run with key and number of the second", s.get(t, op.ID), op)
	same(t, "found by number", s.list(t, ops.Filter{Number: op.Number}), []string{op.ID})
	op.Key = "changed"
	if err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Move(t.Context(), op, nil) }); err == nil {
		t.Error("change of a run's key: got no error")
	}
}

func pipelinesFollow(s *suite) {
	t := s.t
	op := Full(1)
	s.create(t, op)
	op.Pipelines = slices.Clone(op.Pipelines)
	op.Pipelines[0].Status, op.Pipelines[0].Jobs.Done = "success", 5
	op.Pipelines = append(op.Pipelines, ops.Pipeline{Ref: ops.PipelineRef{Project: "group/main", ID: 500}, Role: ops.RoleFollow})
	op = s.move(t, op)
	same(t, "changed and added", s.get(t, op.ID).Pipelines, op.Pipelines)
	op.Pipelines = []ops.Pipeline{op.Pipelines[2], op.Pipelines[0]}
	op = s.move(t, op)
	same(t, "removed and in another order", s.get(t, op.ID).Pipelines, op.Pipelines)

	first := op.Pipelines
	op.Run, op.Key, op.Number, op.Pipelines = 2, "second", 5000, nil
	op = s.move(t, op)
	same(t, "of a new run", s.get(t, op.ID).Pipelines, []ops.Pipeline(nil))
	same(t, "found by a pipeline of the first run", s.list(t, ops.Filter{Pipeline: first[0].Ref}), []string{op.ID})
	op.Pipelines = first[:1] // GitLab runs it again
	op = s.move(t, op)
	same(t, "taken over by the new run", s.get(t, op.ID).Pipelines, first[:1])
}

func failureLeavesNothing(s *suite) {
	t := s.t
	boom := errors.New("boom")
	const n = 64
	for i, err := range together(n, func(i int) error {
		return s.Update(t.Context(), func(tx ops.Tx) error {
			if err := tx.Create(t.Context(), Op(i), nil); err != nil {
				return err
			}
			if i%3 == 0 {
				return boom
			}
			return nil
		})
	}) {
		want := error(nil)
		if i%3 == 0 {
			want = boom
		}
		is(t, "update", err, want)
	}
	if got, want := len(s.list(t, ops.Filter{Limit: n})), n-(n+2)/3; got != want {
		t.Errorf("operations: got %d, want %d", got, want)
	}
}

func panicLeavesNothing(s *suite) {
	t := s.t
	for i, err := range together(8, func(i int) error {
		return s.Update(t.Context(), func(tx ops.Tx) error {
			if err := tx.Create(t.Context(), Op(i), nil); err != nil {
				return err
			}
			if i == 3 {
				panic("on purpose")
			}
			return nil
		})
	}) {
		if got, want := err != nil, i == 3; got != want {
			t.Errorf("update %d: got error %v, want one: %t", i, err, want)
		}
		if i == 3 && ops.CodeOf(err) != ops.CodeInternal {
			t.Errorf("after a panic: got code %s, want %s", ops.CodeOf(err), ops.CodeInternal)
		}
	}
	if got, want := len(s.list(t, ops.Filter{})), 7; got != want {
		t.Errorf("operations: got %d, want %d", got, want)
	}
}

func swallowedError(s *suite) {
	t := s.t
	s.create(t, Op(1))
	sameKey := Op(2)
	sameKey.Key = Op(1).Key
	err := s.Update(t.Context(), func(tx ops.Tx) error {
		_ = tx.Create(t.Context(), sameKey, nil)
		return tx.Create(t.Context(), Op(3), nil)
	})
	if err == nil {
		t.Error("update with a swallowed error: got no error")
	}
	same(t, "operations", s.list(t, ops.Filter{}), []string{Op(1).ID})
}

func over(s *suite) {
	t := s.t
	var late ops.Tx
	s.update(t, func(tx ops.Tx) error {
		late = tx
		return nil
	})
	if err := late.Create(t.Context(), Op(1), nil); err == nil {
		t.Error("create in a transaction that is over: got no error")
	}
	var reader ops.Reader
	_ = s.View(t.Context(), func(r ops.Reader) error {
		reader = r
		return nil
	})
	if _, err := reader.Events(t.Context(), "x"); err == nil {
		t.Error("read in a view that is over: got no error")
	}
}

func canceled(s *suite) {
	t := s.t
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	err := s.Update(ctx, func(ops.Tx) error {
		ran = true
		return nil
	})
	is(t, "update", err, context.Canceled)
	if ran {
		t.Error("the update has run")
	}

	// One that waits behind another and is given up never runs.
	ctx, cancel = context.WithCancel(t.Context())
	hold, held := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.Update(t.Context(), func(ops.Tx) error {
			close(held)
			<-hold
			return nil
		})
	}()
	<-held
	go cancel()
	err = s.Update(ctx, func(ops.Tx) error {
		ran = true
		return nil
	})
	close(hold)
	is(t, "waiting update", err, context.Canceled)
	s.update(t, func(ops.Tx) error { return nil })
	if ran {
		t.Error("the waiting update has run")
	}
}

func consistentView(s *suite) {
	t := s.t
	op := Op(1)
	s.create(t, op)
	err := s.View(t.Context(), func(r ops.Reader) error {
		before, err := r.Operation(t.Context(), op.ID)
		if err != nil {
			return err
		}
		op.Detail = "changed"
		s.move(t, op)
		after, err := r.Operation(t.Context(), op.ID)
		same(t, "within one view", after, before)
		return err
	})
	is(t, "view", err, nil)
	if got, want := s.get(t, op.ID).Detail, "changed"; got != want {
		t.Errorf("after the view: got %q, want %q", got, want)
	}
}

func idTaken(s *suite) {
	t := s.t
	s.create(t, Op(1))
	sameID := Op(2)
	sameID.ID = Op(1).ID
	err := s.Update(t.Context(), func(tx ops.Tx) error {
		if err := tx.Create(t.Context(), sameID, nil); !errors.Is(err, ops.ErrIDTaken) {
			t.Errorf("create with an id that is taken: got %v, want ErrIDTaken", err)
		}
		return tx.Create(t.Context(), Op(3), nil)
	})
	if err != nil {
		t.Errorf("the transaction goes on: got %v", err)
	}
	same(t, "operations", s.list(t, ops.Filter{}), []string{Op(3).ID, Op(1).ID})
}
