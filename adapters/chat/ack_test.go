package chat_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/ops"
)

type handlerFunc func(context.Context, chat.Incoming) chat.Answer

func (f handlerFunc) Handle(ctx context.Context, in chat.Incoming) chat.Answer { return f(ctx, in) }

// mailbox is a Replier that keeps what it is given.
type mailbox struct {
	came chan chat.Message
	err  error
}

func (m *mailbox) OpenDialog(context.Context, chat.Dialog) error { return nil }

func (m *mailbox) Later(_ context.Context, msg chat.Message) error {
	m.came <- msg
	return m.err
}

type ackRig struct {
	*chat.Acker
	clock *clock.Fake
	box   *mailbox
	log   *bytes.Buffer
}

const (
	budget = 2 * time.Second
	limit  = 30 * time.Second
)

func newAckRig(h handlerFunc) *ackRig {
	r := &ackRig{clock: clock.NewFake(time.Unix(1_700_000_000, 0)), box: &mailbox{came: make(chan chat.Message, 4)}, log: &bytes.Buffer{}}
	r.Acker = chat.NewAcker(h, r.clock, budget, limit, slog.New(slog.NewTextHandler(r.log, nil)))
	return r
}

func (r *ackRig) incoming() chat.Incoming {
	return chat.Incoming{Key: "k", Actor: ops.Actor{Platform: "fake", Workspace: "main", UserID: "ann"}, Reply: r.box}
}

// answered gives a request to the Acker and lets its budget pass.
func (r *ackRig) answered(t *testing.T) chat.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan chat.Answer, 1)
	go func() { done <- r.Answer(ctx, r.incoming()) }()
	if err := r.clock.Waiting(ctx, 1); err != nil {
		t.Fatal(err)
	}
	r.clock.Advance(budget - 1)
	select {
	case a := <-done:
		t.Fatalf("got %+v before the budget had passed", a)
	default:
	}
	r.clock.Advance(1)
	select {
	case a := <-done:
		return a
	case <-ctx.Done():
		t.Fatal("the person waits although the budget has passed")
	}
	return chat.Answer{}
}

func TestAckerAnswersAtOnceIfItCan(t *testing.T) {
	t.Parallel()
	r := newAckRig(func(_ context.Context, in chat.Incoming) chat.Answer {
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "answer to "+in.Key), Errors: map[string]string{"f": "e"}}
	})
	got := r.Answer(t.Context(), r.incoming())
	if got.Message == nil || got.Message.Summary != "answer to k" || got.Errors["f"] != "e" {
		t.Errorf("got %+v, want the handler's answer", got)
	}
	r.Wait()
	if len(r.box.came) != 0 {
		t.Error("the answer was sent a second time")
	}
}

func TestAckerAnswersWhileTheHandlerBlocksForEver(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newAckRig(func(context.Context, chat.Incoming) chat.Answer {
		<-release // deaf to its context
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "at last")}
	})
	for range 3 { // one that blocks does not keep the next from its answer
		if got := r.answered(t); got.Message == nil || !strings.Contains(got.Message.Summary, "Still working") || got.Message.Tone != chat.ToneWarn {
			t.Errorf("got %+v, want a note that it takes longer", got)
		}
	}
	close(release)
	r.Wait()
	if len(r.box.came) != 3 {
		t.Errorf("got %d late answers, want 3", len(r.box.came))
	}
	if m := <-r.box.came; m.Summary != "at last" {
		t.Errorf("got %q, want the handler's answer", m.Summary)
	}
}

func TestAckerSendsNothingLateWhereThereIsNothing(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newAckRig(func(context.Context, chat.Incoming) chat.Answer {
		<-release
		return chat.Answer{}
	})
	r.answered(t)
	close(release)
	r.Wait()
	if len(r.box.came) != 0 {
		t.Error("an empty answer was sent")
	}
}

func TestAckerGoesOnWhenThePeerHangsUp(t *testing.T) {
	t.Parallel()
	began, over := make(chan struct{}), make(chan error, 1)
	release := make(chan struct{})
	r := newAckRig(func(ctx context.Context, _ chat.Incoming) chat.Answer {
		close(began)
		<-release
		over <- ctx.Err()
		_, bounded := ctx.Deadline()
		if !bounded {
			t.Error("the handler's context has no end")
		}
		return chat.Answer{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Answer(ctx, r.incoming())
	}()
	<-began
	cancel()
	close(release)
	<-done
	if err := <-over; err != nil {
		t.Errorf("got %v in the handler, want it to go on", err)
	}
}

func TestAckerContainsPanics(t *testing.T) {
	t.Parallel()
	r := newAckRig(func(context.Context, chat.Incoming) chat.Answer { panic("secret detail") })
	got := r.Answer(t.Context(), r.incoming())
	r.Wait()
	if got.Message == nil || got.Message.Tone != chat.ToneBad || strings.Contains(got.Message.Summary, "secret detail") {
		t.Errorf("got %+v, want a plain word of apology", got)
	}
	if !strings.Contains(r.log.String(), "secret detail") || !strings.Contains(r.log.String(), "fake:main:ann") {
		t.Errorf("got log %q, want the panic with its actor", r.log)
	}
}

func TestAckerLogsLateAnswersThatCannotBeSent(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newAckRig(func(context.Context, chat.Incoming) chat.Answer {
		<-release
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "x")}
	})
	r.box.err = context.DeadlineExceeded
	r.answered(t)
	close(release)
	r.Wait()
	if !strings.Contains(r.log.String(), "late answer not delivered") {
		t.Errorf("got log %q, want a word on it", r.log)
	}
}

// Whoever comes first, the handler or the end of the budget, each request gets one answer and
// nothing is told twice.
func TestAckerAnswersOnce(t *testing.T) {
	t.Parallel()
	r := newAckRig(func(context.Context, chat.Incoming) chat.Answer {
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "done")}
	})
	const requests = 500
	r.box.came = make(chan chat.Message, requests)
	var mu sync.Mutex
	direct, later := 0, 0
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			got := r.Answer(t.Context(), r.incoming())
			mu.Lock()
			defer mu.Unlock()
			if got.Message.Summary == "done" {
				direct++
			} else {
				later++
			}
		})
		all.Go(func() { r.clock.Advance(budget) })
	}
	all.Wait()
	r.Wait()
	if direct+later != requests || len(r.box.came) != later {
		t.Errorf("got %d answers at once, %d notes and %d late answers of %d requests", direct, later, len(r.box.came), requests)
	}
}
