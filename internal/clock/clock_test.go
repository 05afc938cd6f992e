package clock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"ocim/internal/clock"
)

var start = time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)

func fired(ch <-chan time.Time) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestFakeStandsStill(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(start.In(time.FixedZone("", 3600)))
	if got := c.Now(); !got.Equal(start) || got.Location() != time.UTC {
		t.Errorf("got %v, want %v in UTC", got, start)
	}
	c.Advance(90 * time.Second)
	if got, want := c.Now(), start.Add(90*time.Second); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFakeFiresWhatIsDue(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(start)
	first, _ := c.After(time.Second)
	second, _ := c.After(2 * time.Second)
	stopped, stop := c.After(time.Second)
	stop()
	stop() // harmless
	now, stopNow := c.After(0)
	past, _ := c.After(-time.Hour)
	stopNow()
	if !fired(now) || !fired(past) {
		t.Error("a wait of nothing did not fire at once")
	}
	if fired(first) {
		t.Error("fired before the time had passed")
	}
	c.Advance(time.Second)
	if !fired(first) || fired(second) || fired(stopped) {
		t.Error("after a second, want the first timer alone")
	}
	c.Advance(time.Hour)
	if fired(first) || !fired(second) || fired(stopped) {
		t.Error("after an hour, want the second timer, and none twice")
	}
}

func TestWaitingSeesTimersComeAndGo(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(start)
	if err := c.Waiting(t.Context(), 0); err != nil {
		t.Errorf("got %v, want no timer to be enough for none", err)
	}
	var slept sync.WaitGroup
	errs := make(chan error, 3)
	for range 3 {
		slept.Go(func() { errs <- clock.Sleep(t.Context(), c, time.Minute) })
	}
	if err := c.Waiting(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	slept.Wait()
	for range 3 {
		if err := <-errs; err != nil {
			t.Errorf("sleep: got %v, want nil", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Waiting(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context: the timers are gone", err)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]clock.Clock{"fake": clock.NewFake(start), "system": clock.System{}} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- clock.Sleep(ctx, c, time.Hour) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
	}
	f := clock.NewFake(start)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = clock.Sleep(ctx, f, time.Hour)
	if err := f.Waiting(ctx, 1); err == nil {
		t.Error("a sleep that has ended still holds its timer")
	}
}

func TestSystem(t *testing.T) {
	t.Parallel()
	c := clock.System{}
	before := c.Now()
	if before.Location() != time.UTC {
		t.Errorf("got %v, want UTC", before.Location())
	}
	if err := clock.Sleep(t.Context(), c, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if passed := c.Now().Sub(before); passed < time.Millisecond {
		t.Errorf("slept %s, want at least 1 ms", passed)
	}
	ch, stop := c.After(time.Hour)
	stop()
	if fired(ch) {
		t.Error("a timer that was stopped has fired")
	}
	ch, _ = c.After(0)
	select {
	case <-ch:
	case <-t.Context().Done():
		t.Error("a wait of nothing did not fire")
	}
}
