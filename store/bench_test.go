package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ocim/internal/clock"
	"ocim/ops"
	"ocim/store"
	"ocim/store/storetest"
)

// request does what one accepted command writes.
func request(ctx context.Context, s *store.Store, i int64) error {
	at := time.UnixMicro(1_700_000_000_000_000 + i)
	id := fmt.Sprintf("%012x", rand.Uint64()>>16) // real ids have no order either
	who := ops.Actor{Platform: "slack", Workspace: "T0123456", UserID: "U0123456"}
	where := ops.Conversation{Platform: "slack", Workspace: "T0123456", Channel: "C0123456"}
	return s.Update(ctx, func(tx ops.Tx) error {
		number, err := tx.NextNumber(ctx, at.UnixMilli())
		if err != nil {
			return err
		}
		op := ops.Operation{
			ID: id, State: ops.Requested, Run: 1, RunBy: who, RunByName: "somebody", Key: fmt.Sprintf("%016x%016x", rand.Uint64(), i), Number: number,
			Request: ops.Request{
				Key: id, Actor: who, ActorName: "somebody", From: where, Action: "deploy",
				Target: ops.Target{Cluster: "main", Instance: id}, Params: map[string]string{"version": "12"},
			},
			Project: "group/project", CreatedAt: at, RunAt: at, ChangedAt: at,
		}
		ev := ops.Event{Operation: id, Run: 1, Kind: ops.EventMoved, To: ops.Requested, Actor: who, At: at}
		if err := tx.Create(ctx, op, []ops.Event{ev}); err != nil {
			return err
		}
		d := ops.Delivery{Operation: id, Kind: ops.DeliverCard, To: where, Key: id + ".card.0"}
		if err := tx.PutDelivery(ctx, d); err != nil {
			return err
		}
		if err := tx.Wake(ctx, ops.JobDeliver, id, at); err != nil {
			return err
		}
		return tx.Wake(ctx, ops.JobAdvance, id, at)
	})
}

func benchStore(b *testing.B) *store.Store {
	b.Helper()
	s, err := store.Open(b.Context(), store.Options{Path: b.TempDir() + "/ocim.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { storetest.Close(b, s) })
	return s
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// writes is how many write calls the process has made: unlike times, the same on a busy machine.
func writes(b *testing.B) (n int64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "syscw: ")
	_, _ = fmt.Sscan(after, &n)
	return n
}

// parallel runs f from n goroutines and reports the CPU time of each call.
func parallel(b *testing.B, n int, f func(i int64) error) {
	b.Helper()
	var next atomic.Int64
	b.SetParallelism(max(1, n/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	from, wrote := cpu(), writes(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(next.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpu()-from).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(writes(b)-wrote)/float64(b.N), "writes/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

func BenchmarkRequest(b *testing.B) {
	for _, n := range []int{2, 16, 128} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			s := benchStore(b)
			parallel(b, n, func(i int64) error { return request(b.Context(), s, i) })
		})
	}
	b.Run("one by one", func(b *testing.B) {
		s := benchStore(b)
		from := cpu()
		for i := range b.N {
			if err := request(b.Context(), s, int64(i)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((cpu()-from).Microseconds())/float64(b.N), "cpu-µs/op")
	})
}

// BenchmarkHook measures webhooks from GitLab about 1,000 running operations.
func BenchmarkHook(b *testing.B) {
	ctx, s := b.Context(), benchStore(b)
	const n = 1000
	fill(b, s, n)
	for _, test := range []struct {
		name string
		hook func(i int64) store.Hook
		work bool
	}{
		{"stranger", func(i int64) store.Hook { return store.Hook{Project: "group/main", Pipeline: 1e9 + i, Number: i + 1} }, false},
		{"awake", func(int64) store.Hook { return hookOf(7) }, false},
		{"ours", func(i int64) store.Hook { return hookOf(int(i) % n) }, true},
	} {
		b.Run(test.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(ctx)
			over := make(chan error, 1)
			if test.work {
				go func() {
					over <- s.Work(ctx, ops.JobAdvance, 8, func(context.Context, string) (time.Time, error) { return time.Time{}, nil })
				}()
			} else {
				over <- nil
			}
			parallel(b, 16, func(i int64) error {
				_, err := s.MarkHook(ctx, test.hook(i))
				return err
			})
			cancel()
			if err := <-over; err != nil {
				b.Error(err)
			}
		})
	}
}

func hookOf(i int) store.Hook {
	ref := storetest.Full(i).Pipelines[0].Ref
	return store.Hook{Project: ref.Project, Pipeline: ref.ID}
}

// fill stores n running operations with their pipelines.
func fill(b *testing.B, s *store.Store, n int) {
	b.Helper()
	for chunk := range slices.Chunk(indices(n), 500) {
		err := s.Update(b.Context(), func(tx ops.Tx) error {
			for _, i := range chunk {
				op := storetest.Full(i)
				op.State = ops.Running
				if err := tx.Create(b.Context(), op, nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// BenchmarkStart measures a start with 10,000 unfinished operations that have all lost their
// wake-ups, until the first update is acknowledged.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("operations=%d", n), func(b *testing.B) {
			dir := b.TempDir()
			s := storetest.OpenIn(b, dir, nil)
			fill(b, s, n)
			storetest.Close(b, s)
			var opened, swept time.Duration
			for i := range b.N {
				from := clock.System{}.Now()
				s := storetest.OpenIn(b, dir, nil)
				if err := request(b.Context(), s, int64(n+i)); err != nil {
					b.Fatal(err)
				}
				opened += clock.System{}.Now().Sub(from)
				from = clock.System{}.Now()
				if got, err := s.Sweep(b.Context()); err != nil || i == 0 && got != n {
					b.Fatalf("sweep: got %d, %v, want %d", got, err, n)
				}
				swept += clock.System{}.Now().Sub(from)
				storetest.Close(b, s)
				if i == 0 {
					b.ReportMetric(float64(swept.Milliseconds()), "sweep-ms")
				}
			}
			b.ReportMetric(float64(opened.Microseconds())/float64(b.N)/1000, "first-ack-ms")
		})
	}
}

// BenchmarkWork measures wake-ups from the wish to the end of work that does nothing.
func BenchmarkWork(b *testing.B) {
	s := benchStore(b)
	ctx, cancel := context.WithCancel(b.Context())
	over := make(chan error, 1)
	var done sync.WaitGroup
	go func() {
		over <- s.Work(ctx, ops.JobAdvance, 8, func(context.Context, string) (time.Time, error) {
			done.Done()
			return time.Time{}, nil
		})
	}()
	parallel(b, 16, func(i int64) error {
		done.Add(1)
		return s.Update(ctx, func(tx ops.Tx) error { return tx.Wake(ctx, ops.JobAdvance, fmt.Sprint(i), time.UnixMicro(1)) })
	})
	done.Wait()
	cancel()
	if err := <-over; err != nil {
		b.Error(err)
	}
}
