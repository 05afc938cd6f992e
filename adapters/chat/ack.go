package chat

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// After is the part of a clock that an Acker needs.
type After interface {
	After(d time.Duration) (<-chan time.Time, func())
}

// Acker answers within a budget whatever the handler waits for. A handler that is slower than the
// budget goes on in the background, and its answer is sent as a private message afterwards. Slack
// shows an error to the person after 3 s, Mattermost after 30 s.
type Acker struct {
	handler Handler
	clock   After
	budget  time.Duration
	limit   time.Duration
	log     *slog.Logger
	running sync.WaitGroup
}

// NewAcker returns an Acker. budget is how long an answer may take; limit is how long the handler
// may work in all.
func NewAcker(h Handler, c After, budget, limit time.Duration, log *slog.Logger) *Acker {
	return &Acker{handler: h, clock: c, budget: budget, limit: limit, log: log}
}

// Answer runs the handler and returns its answer, or a note that the answer comes later. The end
// of ctx ends the budget: what came before may have used up some of it. The handler's own context
// outlives ctx, because a peer that hangs up must not undo what was begun.
func (a *Acker) Answer(ctx context.Context, in Incoming) Answer {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.limit)
	done := make(chan Answer, 1)
	var settled atomic.Bool // set by whoever comes first: the answer, or the end of the budget
	a.running.Go(func() {
		defer cancel()
		ans := a.handle(work, in)
		if settled.CompareAndSwap(false, true) {
			done <- ans
			return
		}
		a.sendLater(work, in, ans)
	})
	fires, stop := a.clock.After(a.budget)
	defer stop()
	select {
	case ans := <-done:
		return ans
	case <-fires:
	case <-ctx.Done():
	}
	if !settled.CompareAndSwap(false, true) {
		return <-done
	}
	return Answer{Pending: true, Message: Notice(ToneWarn, "⏳ Still working on it. The answer follows here; nothing is confirmed yet.")}
}

// handle contains a panic of the handler: one bad request must not end the process.
func (a *Acker) handle(ctx context.Context, in Incoming) (ans Answer) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("handler panicked", "actor", in.Actor.String(), "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			ans = Answer{Message: Notice(ToneBad, "⚠️ Something went wrong here (internal_error). Nothing was lost; try again, and tell the operator of this bot if it stays.")}
		}
	}()
	return a.handler.Handle(ctx, in)
}

func (a *Acker) sendLater(ctx context.Context, in Incoming, ans Answer) {
	defer func() { // nothing above it would contain a panic of the platform's renderer
		if p := recover(); p != nil {
			a.log.Error("late answer panicked", "actor", in.Actor.String(), "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	if ans.Message == nil || in.Reply == nil {
		return
	}
	if err := in.Reply.Later(ctx, *ans.Message); err != nil {
		a.log.Warn("late answer not delivered", "actor", in.Actor.String(), "err", err)
	}
}

// Notice is a message of one sentence.
func Notice(tone Tone, sentence string) *Message {
	return &Message{Tone: tone, Summary: sentence, Blocks: []Block{{Kind: Paragraph, Text: Text{{Text: sentence}}}}}
}

// Wait blocks until every handler that outlived its budget has ended.
func (a *Acker) Wait() { a.running.Wait() }
