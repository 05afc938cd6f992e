package store

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"ocim/ops"
)

// While the disk hangs people ask again and again, and give up. What they gave up must not pile up.
func TestI12_UpdatesThatWereGivenUpDoNotPileUp(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ocim.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.WithoutCancel(t.Context())) }()
	held, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.Update(t.Context(), func(ops.Tx) error {
			close(held)
			<-release
			return nil
		})
	}()
	<-held
	length := func() int {
		s.writer.mu.Lock()
		defer s.writer.mu.Unlock()
		return len(s.writer.queue)
	}
	ran := func(ops.Tx) error {
		t.Error("an update ran that was given up")
		return nil
	}
	for i := range 3 * maxQueue {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		before := length()
		go func() { done <- s.Update(ctx, ran) }()
		for length() == before {
			runtime.Gosched()
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("update %d: got %v, want canceled", i, err)
		}
		if n := length(); n > maxQueue {
			t.Fatalf("got %d updates waiting, want at most %d", n, maxQueue)
		}
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the update that was under way: got %v, want nil", err)
	}
	if err := s.Update(t.Context(), func(ops.Tx) error { return nil }); err != nil {
		t.Errorf("afterwards: got %v, want nil", err)
	}
}

func TestI12_StoreRefusesWhatItCannotQueue(t *testing.T) {
	t.Parallel()
	w := newWriter(nil, nil)
	for range maxQueue {
		w.queue = append(w.queue, &update{})
	}
	err := w.do(t.Context(), func(*tx) error { return nil })
	if ops.ReasonOf(err) != ops.ReasonStoreUnavailable || !errors.Is(err, errBusy) {
		t.Errorf("got %v, want that too many wait", err)
	}
}

// The context ends while the claim of work is being committed. The work is done, or not claimed; it
// is not left leased with nobody at it.
func TestF04_ClaimUnderWayIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ocim.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.WithoutCancel(t.Context())) }()
	if err := s.wakeAll(t.Context(), ops.JobAdvance, []string{"abc"}, s.clock.Now()); err != nil {
		t.Fatal(err)
	}
	hold := func() (held, release chan struct{}, done chan error) {
		held, release, done = make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			done <- s.Update(t.Context(), func(ops.Tx) error {
				close(held)
				<-release
				return nil
			})
		}()
		return held, release, done
	}
	queued := func(n int) {
		for {
			s.writer.mu.Lock()
			have := len(s.writer.queue) + len(s.writer.late)
			s.writer.mu.Unlock()
			if have == n {
				return
			}
			runtime.Gosched()
		}
	}
	held, release, first := hold()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- s.Work(ctx, ops.JobAdvance, 1, func(context.Context, string) (time.Time, error) { return time.Time{}, nil })
	}()
	queued(1)
	held2, release2, second := hold() // in one transaction with the claim, and after it
	queued(2)
	close(release)
	<-held2
	cancel()
	runtime.Gosched()
	close(release2)
	for _, done := range []chan error{first, second, over} {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	leased := -1
	if err := s.view(t.Context(), func(r *reader) error {
		_, err := r.c.one([]any{&leased}, `SELECT COUNT(*) FROM wakeups WHERE leased_until > 0`)
		return err
	}); err != nil || leased != 0 {
		t.Errorf("got %d wake-ups leased after the work has ended, %v, want none", leased, err)
	}
}
