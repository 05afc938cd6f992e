package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocim/internal/clock"
	"ocim/ops"
	"ocim/store"
	"ocim/store/storetest"
)

func wake(t *testing.T, s *store.Store, id string, at time.Time) {
	t.Helper()
	err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Wake(t.Context(), ops.JobAdvance, id, at) })
	if err != nil {
		t.Errorf("wake %s: %v", id, err)
	}
}

// begin starts Work and returns a function that stops it and waits.
func begin(t *testing.T, s *store.Store, workers int, f store.Job) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- s.Work(ctx, ops.JobAdvance, workers, f) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("work: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case v := <-ch:
		return v
	case <-ctx.Done():
		t.Fatalf("%s: nothing came", what)
		panic("unreachable")
	}
}

// TestNoWakeupIsLost lets many goroutines change things and wake their worker, which must in the
// end have seen the last change of each.
func TestNoWakeupIsLost(t *testing.T) {
	t.Parallel()
	const things, writers, each = 5, 8, 60
	s := storetest.Open(t, nil)
	var made, seen [things]atomic.Int64
	var busy [things]atomic.Bool
	all := make(chan struct{}, 1)
	begin(t, s, 3, func(_ context.Context, id string) (time.Time, error) {
		var i int
		_, _ = fmt.Sscanf(id, "op%d", &i)
		if !busy[i].CompareAndSwap(false, true) {
			t.Errorf("%s: two workers at a time", id)
		}
		seen[i].Store(made[i].Load())
		busy[i].Store(false)
		select {
		case all <- struct{}{}:
		default:
		}
		return time.Time{}, nil
	})
	var done sync.WaitGroup
	for w := range writers {
		done.Go(func() {
			for n := range each {
				i := (w + n) % things
				made[i].Add(1)
				wake(t, s, fmt.Sprint("op", i), time.UnixMicro(1))
			}
		})
	}
	done.Wait()
	for i := range things {
		for seen[i].Load() < made[i].Load() {
			receive(t, "work after the last wake-up", all)
		}
	}
}

func TestWorkFollowsTheClock(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(storetest.Start)
	s := storetest.Open(t, c)
	ran := make(chan time.Duration)
	again := make(chan time.Time, 1)
	begin(t, s, 2, func(context.Context, string) (time.Time, error) {
		ran <- c.Now().Sub(storetest.Start)
		select {
		case at := <-again:
			return at, nil
		default:
			return time.Time{}, nil
		}
	})
	step := func(d, want time.Duration) {
		t.Helper()
		if err := c.Waiting(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		c.Advance(d)
		if got := receive(t, "work", ran); got != want {
			t.Errorf("ran at %v, want %v", got, want)
		}
	}
	wake(t, s, "op1", storetest.Start.Add(10*time.Second))
	step(10*time.Second, 10*time.Second)

	again <- storetest.Start.Add(40 * time.Second)
	wake(t, s, "op1", storetest.Start)
	if got, want := receive(t, "work that was woken", ran), 10*time.Second; got != want {
		t.Errorf("ran at %v, want %v", got, want)
	}
	step(30*time.Second, 40*time.Second)
}

// TestF25_PanicInWorkIsContained: a panic is an error like others; the work is done again after a
// pause and other work goes on.
func TestF25_PanicInWorkIsContained(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(storetest.Start)
	s := storetest.Open(t, c)
	var order []string
	f := func(_ context.Context, id string) (time.Time, error) {
		order = append(order, id)
		if id == "op1" && len(order) < 4 {
			panic("on purpose")
		}
		return time.Time{}, nil
	}
	wake(t, s, "op1", storetest.Start)
	wake(t, s, "op2", storetest.Start.Add(time.Millisecond))
	c.Advance(time.Second)
	for range 4 {
		if _, err := s.Drain(t.Context(), ops.JobAdvance, f); err != nil {
			t.Fatal(err)
		}
		c.Advance(time.Minute)
	}
	if want := []string{"op1", "op2", "op1", "op1"}; !slices.Equal(order, want) {
		t.Errorf("order: got %v, want %v", order, want)
	}
	if at, ok, err := s.NextDue(t.Context(), ops.JobAdvance); ok || err != nil {
		t.Errorf("left over: got %v, %v, want nothing", at, err)
	}
}

func TestFailedWorkBacksOff(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(storetest.Start)
	s := storetest.Open(t, c)
	fails := func(context.Context, string) (time.Time, error) { return time.Time{}, errors.New("on purpose") }
	wake(t, s, "op1", storetest.Start)
	for i := range 12 {
		n, err := s.Drain(t.Context(), ops.JobAdvance, fails)
		if err != nil || n != 1 {
			t.Fatalf("drain: got %d, %v, want 1", n, err)
		}
		at, ok, err := s.NextDue(t.Context(), ops.JobAdvance)
		if err != nil || !ok {
			t.Fatalf("next due: got %v, %v", ok, err)
		}
		most := min(time.Minute, time.Second<<i)
		if got := at.Sub(c.Now()); got < most/2 || got > most {
			t.Errorf("pause %d: got %v, want between %v and %v", i, got, most/2, most)
		}
		c.Advance(at.Sub(c.Now()))
	}
}

// TestWorkFinishesWhatRuns: when the process is asked to end, work that has begun is done and
// recorded, and nothing new begins.
func TestWorkFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, nil)
	began, finish := make(chan string, 9), make(chan struct{})
	stop := begin(t, s, 1, func(ctx context.Context, id string) (time.Time, error) {
		began <- id
		<-finish
		return time.Time{}, ctx.Err()
	})
	wake(t, s, "op1", time.UnixMicro(1))
	receive(t, "first work", began)
	wake(t, s, "op2", time.UnixMicro(2))
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("stopped while work was running")
	case finish <- struct{}{}:
	}
	receive(t, "stop", stopped)
	left, err := s.Drain(t.Context(), ops.JobAdvance, func(_ context.Context, id string) (time.Time, error) {
		if id != "op2" {
			t.Errorf("left over: got %s, want op2", id)
		}
		return time.Time{}, nil
	})
	if err != nil || left != 1 {
		t.Errorf("left over: got %d, %v, want 1", left, err)
	}
}

// TestHungWorkHoldsNobodyUp: work that does not come back keeps its worker, but its operation is
// looked at by another one when the lease has ended, and what it says in the end changes nothing.
func TestHungWorkHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(storetest.Start)
	s := storetest.Open(t, c)
	hang, second := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	stop := begin(t, s, 2, func(context.Context, string) (time.Time, error) {
		if calls.Add(1) == 1 {
			<-hang
			return storetest.Start.Add(time.Hour), nil
		}
		second <- struct{}{}
		return time.Time{}, nil
	})
	wake(t, s, "op1", storetest.Start)
	if err := c.Waiting(t.Context(), 1); err != nil { // for the end of the lease
		t.Fatal(err)
	}
	c.Advance(61 * time.Second)
	receive(t, "second worker", second)
	close(hang)
	stop()
	if at, ok, err := s.NextDue(t.Context(), ops.JobAdvance); ok || err != nil {
		t.Errorf("left over: got %v, %v, want nothing", at, err)
	}
}

func TestLeasesEndWithTheProcess(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), clock.NewFake(storetest.Start)
	s := storetest.OpenIn(t, dir, c)
	wake(t, s, "op1", storetest.Start)
	_, err := s.Drain(t.Context(), ops.JobAdvance, func(context.Context, string) (time.Time, error) {
		// The process dies here: its file is opened by the next one as it is now.
		storetest.Close(t, s)
		return time.Time{}, nil
	})
	if got, want := ops.ReasonOf(err), ops.ReasonStoreUnavailable; got != want {
		t.Errorf("end of work after the store was closed: got %v, want reason %s", err, want)
	}
	s = storetest.OpenIn(t, dir, c)
	n, err := s.Drain(t.Context(), ops.JobAdvance, func(context.Context, string) (time.Time, error) { return time.Time{}, nil })
	if err != nil || n != 1 {
		t.Errorf("work after a restart: got %d, %v, want 1", n, err)
	}
}

func TestSweepWakesTheForgotten(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), clock.NewFake(storetest.Start)
	s := storetest.OpenIn(t, dir, c)
	const n = 1200 // more than two chunks
	err := s.Update(t.Context(), func(tx ops.Tx) error {
		for i := range n {
			op := storetest.Op(i)
			if i%2 == 1 {
				op.State = ops.Failed
			}
			if err := tx.Create(t.Context(), op, nil); err != nil {
				return err
			}
			d := ops.Delivery{Operation: op.ID, Kind: ops.DeliverCard, Done: i%4 == 0}
			if err := tx.PutDelivery(t.Context(), d); err != nil {
				return err
			}
		}
		return tx.Wake(t.Context(), ops.JobAdvance, "op0", storetest.Start.Add(10*time.Minute))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{n/2 - 1 + n*3/4, 0} {
		got, err := s.Sweep(t.Context())
		if err != nil || got != want {
			t.Errorf("sweep: got %d, %v, want %d", got, err, want)
		}
	}
	got := storetest.Rows(t, dir, `SELECT kind, COUNT(*) FROM wakeups WHERE due_at = $1 GROUP BY kind ORDER BY kind`, storetest.Start.UnixMicro())
	if want := fmt.Sprintf("[[advance %d] [deliver %d]]", n/2-1, n*3/4); fmt.Sprint(got) != want {
		t.Errorf("due now: got %v, want %s", got, want)
	}
}

func TestMarkHook(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), clock.NewFake(storetest.Start)
	s := storetest.OpenIn(t, dir, c)
	for i := range 3 {
		err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Create(t.Context(), storetest.Full(i), nil) })
		if err != nil {
			t.Fatal(err)
		}
	}
	root := storetest.Full(1).Pipelines[0].Ref
	for _, test := range []struct {
		name string
		hook store.Hook
		want string // the operation that is woken
	}{
		{"pipeline", store.Hook{Project: root.Project, Pipeline: root.ID}, "op1"},
		{"child of a pipeline", store.Hook{Project: root.Project, Pipeline: 99999, Parent: root.ID}, "op1"},
		{"number", store.Hook{Project: "group/main", Pipeline: 99999, Number: storetest.Op(2).Number}, "op2"},
		{"key", store.Hook{Project: "group/main", Pipeline: 99999, Key: storetest.Op(0).Key}, "op0"},
		{"stranger", store.Hook{Project: root.Project, Pipeline: 99999, Number: 1, Key: "nobody's"}, ""},
		{"same id in another project", store.Hook{Project: "group/other", Pipeline: root.ID}, ""},
		{"nothing", store.Hook{}, ""},
	} {
		var woken string
		for range 3 { // doubled webhooks make one piece of work
			n, err := s.MarkHook(t.Context(), test.hook)
			if want := min(1, len(test.want)); err != nil || n != want {
				t.Errorf("%s: got %d operations, %v, want %d", test.name, n, err, want)
			}
		}
		_, err := s.Drain(t.Context(), ops.JobAdvance, func(_ context.Context, id string) (time.Time, error) {
			woken += id
			return time.Time{}, nil
		})
		if err != nil || woken != test.want {
			t.Errorf("%s: woke %q, %v, want %q", test.name, woken, err, test.want)
		}
	}

	// Writes only when nothing stands: seq counts the wishes.
	hook := store.Hook{Project: root.Project, Pipeline: root.ID}
	for range 5 {
		if _, err := s.MarkHook(t.Context(), hook, hook); err != nil {
			t.Fatal(err)
		}
	}
	if got := storetest.Rows(t, dir, `SELECT seq FROM wakeups WHERE id = 'op1'`); len(got) != 1 || got[0][0] != "1" {
		t.Errorf("wishes after ten webhooks: got %v, want 1", got)
	}
	again := 0
	_, err := s.Drain(t.Context(), ops.JobAdvance, func(ctx context.Context, _ string) (time.Time, error) {
		if again++; again == 1 { // one that comes while work is under way is not covered by it
			_, err := s.MarkHook(ctx, hook)
			return time.Time{}, err
		}
		return time.Time{}, nil
	})
	if err != nil || again != 2 {
		t.Errorf("runs with a webhook in between: got %d, %v, want 2", again, err)
	}
}

func TestT02_SeenRequestActsOnce(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), clock.NewFake(storetest.Start)
	s := storetest.OpenIn(t, dir, c)
	acted := 0
	act := func() error {
		return s.Update(t.Context(), func(tx ops.Tx) error { return tx.Seen(t.Context(), "trigger.1", "op1", c.Now()) })
	}
	for i := range 1000 {
		if i == 500 { // also after a restart
			storetest.Close(t, s)
			s = storetest.OpenIn(t, dir, c)
		}
		err := act()
		if err == nil {
			acted++
		} else if !errors.Is(err, ops.ErrDuplicate) {
			t.Fatalf("repeated request: got %v, want %v", err, ops.ErrDuplicate)
		}
	}
	if acted != 1 {
		t.Errorf("acted: got %d times, want once", acted)
	}
	for _, test := range []struct {
		after time.Duration
		want  error
	}{{23 * time.Hour, ops.ErrDuplicate}, {2 * time.Hour, nil}} {
		c.Advance(test.after)
		if err := s.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := act(); !errors.Is(err, test.want) {
			t.Errorf("%v later: got %v, want %v", test.after, err, test.want)
		}
	}
}

// A clock that was a year ahead when the machine started, and is then set right, must not put work
// off for a year.
func TestSweepPullsInWhatAWrongClockPutOff(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(storetest.Start)
	s := storetest.OpenIn(t, t.TempDir(), c)
	wake := func(id string, at time.Time) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Wake(t.Context(), ops.JobAdvance, id, at) }); err != nil {
			t.Fatal(err)
		}
	}
	wake("op1", c.Now().AddDate(1, 0, 0))
	wake("op2", c.Now().Add(10*time.Minute))
	if n, err := s.Sweep(t.Context()); err != nil || n != 1 {
		t.Errorf("sweep: got %d, %v, want 1", n, err)
	}
	var did []string
	if _, err := s.Drain(t.Context(), ops.JobAdvance, func(_ context.Context, id string) (time.Time, error) {
		did = append(did, id)
		return time.Time{}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(did, []string{"op1"}) {
		t.Errorf("done: got %v, want op1 only", did)
	}
}
