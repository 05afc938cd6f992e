package store

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"testing"

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
