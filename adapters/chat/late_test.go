package chat_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/internal/clock"
)

// brokenReplier stands for a platform whose renderer has a bug.
type brokenReplier struct{}

func (brokenReplier) OpenDialog(context.Context, chat.Dialog) error { return nil }
func (brokenReplier) Later(context.Context, chat.Message) error     { panic("renderer broke") }

// slowHandler answers when it is released.
type slowHandler struct{ release chan struct{} }

func (h slowHandler) Handle(context.Context, chat.Incoming) chat.Answer {
	<-h.release
	return chat.Answer{Message: chat.Notice(chat.ToneGood, "done")}
}

func TestAckerContainsAPanicOfTheLateAnswer(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	clk := clock.NewFake(time.Unix(1_700_000_000, 0))
	h := slowHandler{make(chan struct{})}
	a := chat.NewAcker(h, clk, time.Second, time.Minute, slog.New(slog.NewTextHandler(&log, nil)))
	answered := make(chan chat.Answer, 1)
	go func() {
		answered <- a.Answer(t.Context(), chat.Incoming{Reply: brokenReplier{}})
	}()
	if err := clk.Waiting(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	if got := <-answered; !got.Pending || got.Message == nil {
		t.Errorf("got %+v, want a note that the answer comes later", got)
	}
	close(h.release)
	a.Wait()
	if !strings.Contains(log.String(), "renderer broke") {
		t.Errorf("log %q does not tell of the panic", log.String())
	}
}
