package clock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ocim/internal/clock"
)

func TestWithTimeoutEndsByTheClock(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(time.Unix(0, 0))
	ctx, cancel := clock.WithTimeout(t.Context(), c, time.Second)
	defer cancel()
	child, cancelChild := context.WithCancel(ctx)
	defer cancelChild()
	if ctx.Err() != nil {
		t.Fatalf("got %v before its time, want nil", ctx.Err())
	}
	c.Advance(time.Second)
	<-ctx.Done()
	<-child.Done()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
		t.Errorf("got %v, and %v below it, want that the deadline was exceeded", ctx.Err(), child.Err())
	}
}

func TestWithTimeoutIsCanceledLikeAnyOther(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(time.Unix(0, 0))
	parent, cancelParent := context.WithCancel(t.Context())
	byParent, cancel := clock.WithTimeout(parent, c, time.Second)
	defer cancel()
	cancelParent()
	bySelf, cancelSelf := clock.WithTimeout(t.Context(), c, time.Second)
	cancelSelf()
	bySystem, cancelSystem := clock.WithTimeout(t.Context(), clock.System{}, time.Hour)
	cancelSystem()
	for name, ctx := range map[string]context.Context{"parent": byParent, "itself": bySelf, "system": bySystem} {
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("canceled by %s: got %v, want canceled", name, ctx.Err())
		}
	}
}
