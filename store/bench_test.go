package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ocim/ops"
	"ocim/store"
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
	b.Cleanup(func() { _ = s.Close(context.WithoutCancel(b.Context())) })
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
