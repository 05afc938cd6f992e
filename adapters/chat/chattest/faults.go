package chattest

import (
	"context"
	"errors"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// faults is the part of the contract about calls that go wrong.
func faults() []contract {
	peer := func(s *Subject) bool { return s.Trouble != nil }
	return []contract{
		{"a lost answer leaves one message, which is found", peer, lostAnswer},
		{"a rate limit says when, and that nothing was sent", peer, rateLimit},
		{"a peer that is down may have done it", peer, peerDown},
		{"a call ends with its context", peer, hangs},
		{"a call with an ended context does nothing", nil, endedContext},
		{"a channel without the bot is denied", func(s *Subject) bool { return s.Evict != nil }, evicted},
	}
}

func lostAnswer(p *probe) {
	p.Trouble(PostMethod, Lost)
	_, err := p.Platform.Post(p.ctx, p.Room, card("k", p.Person))
	if e := p.fails("post", err, ops.CodeUnavailable); e != nil && e.NotSent {
		p.errorf("post: got NotSent, but the message stands")
	}
	if got := p.Tries(PostMethod); got != 1 {
		p.errorf("got %d tries, want 1: a post is never repeated", got)
	}
	ref, found, err := p.Platform.Find(p.ctx, p.Room, "k")
	if err != nil || !found {
		p.errorf("find: got %q, %v, %v, want the message", ref, found, err)
		return
	}
	p.Trouble(UpdateMethod, Lost)
	err = p.Platform.Update(p.ctx, p.Room, ref, note("k", "edited once"))
	p.refuses("update", err, ops.CodeUnavailable)
	p.ok("update again", p.Platform.Update(p.ctx, p.Room, ref, note("k", "edited twice")))
	s, _ := p.shown(p.Room, ref)
	p.reads("at last", s.Text, "edited twice")
	p.count("at last", p.Room, 1)
}

func rateLimit(p *probe) {
	p.Trouble(PostMethod, Limited)
	_, err := p.Platform.Post(p.ctx, p.Room, note("k", "x"))
	p.limited("post", err)
	p.count("after the refusal", p.Room, 0)
	ref, ok := p.post(note("k", "alpha"))
	if !ok {
		return
	}
	p.Trouble(UpdateMethod, Limited)
	p.limited("update", p.Platform.Update(p.ctx, p.Room, ref, note("k", "bravo")))
	s, _ := p.shown(p.Room, ref)
	p.reads("after a refused update", s.Text, "alpha")
	p.ok("update again", p.Platform.Update(p.ctx, p.Room, ref, note("k", "charlie")))
	p.count("at last", p.Room, 1)
}

func (p *probe) limited(what string, err error) {
	e := p.fails(what, err, ops.CodeUnavailable)
	if e == nil {
		return
	}
	if !e.NotSent {
		p.errorf("%s: got an unknown outcome, want NotSent", what)
	}
	// The platform's clock may go on while the call is under way.
	if late := e.RetryAt.Sub(p.Now().Add(LimitedFor)).Abs(); late > 5*time.Second {
		p.errorf("%s: got retry at %v, want %v from now", what, e.RetryAt, LimitedFor)
	}
}

func peerDown(p *probe) {
	ref, ok := p.post(note("first", "alpha"))
	if !ok {
		return
	}
	before := p.Tries(PostMethod)
	p.Trouble(PostMethod, Down)
	_, err := p.Platform.Post(p.ctx, p.Room, note("k", "x"))
	if e := p.fails("post", err, ops.CodeUnavailable); e != nil && e.NotSent {
		p.errorf("post: got NotSent, want an unknown outcome: a peer that is ill may have done it")
	}
	if got := p.Tries(PostMethod) - before; got != 1 {
		p.errorf("got %d tries, want 1: a post is never repeated", got)
	}
	p.Trouble(UpdateMethod, Down)
	p.refuses("update", p.Platform.Update(p.ctx, p.Room, ref, note("first", "bravo")), ops.CodeUnavailable)
	p.ok("update again", p.Platform.Update(p.ctx, p.Room, ref, note("first", "charlie")))
	s, _ := p.shown(p.Room, ref)
	p.reads("when it is well again", s.Text, "charlie")
}

func hangs(p *probe) {
	ref, ok := p.post(note("first", "alpha"))
	if !ok {
		return
	}
	for method, call := range map[Method]func(context.Context) error{
		PostMethod: func(ctx context.Context) error {
			_, err := p.Platform.Post(ctx, p.Room, note("k", "x"))
			return err
		},
		UpdateMethod: func(ctx context.Context) error { return p.Platform.Update(ctx, p.Room, ref, note("first", "bravo")) },
	} {
		p.Trouble(method, Hang)
		ctx, cancel := context.WithTimeout(p.ctx, 50*time.Millisecond)
		err := call(ctx)
		cancel()
		if e := p.fails(string(method), err, ops.CodeUnavailable); e != nil && e.NotSent {
			p.errorf("%s: got NotSent, want an unknown outcome", method)
		}
		if p.ctx.Err() != nil {
			p.errorf("%s: went on after its context had ended", method)
		}
	}
}

func endedContext(p *probe) {
	ref, ok := p.post(note("first", "alpha"))
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(p.ctx)
	cancel()
	_, err := p.Platform.Post(ctx, p.Room, note("k", "x"))
	p.refuses("post", err, ops.CodeUnavailable)
	p.refuses("update", p.Platform.Update(ctx, p.Room, ref, note("first", "bravo")), ops.CodeUnavailable)
	if _, _, err := p.Platform.Find(ctx, p.Room, "first"); !errors.Is(err, chat.ErrCannotFind) {
		p.refuses("find", err, ops.CodeUnavailable)
	}
	p.count("afterwards", p.Room, 1)
	s, _ := p.shown(p.Room, ref)
	p.reads("afterwards", s.Text, "alpha")
}

func evicted(p *probe) {
	ref, ok := p.post(note("first", "alpha"))
	if !ok {
		return
	}
	p.Evict()
	_, err := p.Platform.Post(p.ctx, p.Room, note("k", "x"))
	if e := p.fails("post", err, ops.CodeDenied); e != nil && e.Next == "" {
		p.errorf("post: got no word on what to do about it")
	}
	if err := p.Platform.Update(p.ctx, p.Room, ref, note("first", "bravo")); ops.CodeOf(err) == ops.CodeUnavailable {
		p.errorf("update: got %v, want an answer that it cannot work", err)
	}
	to, err := p.Platform.Direct(p.ctx, p.Person)
	if !p.ok("direct", err) {
		return
	}
	_, err = p.Platform.Post(p.ctx, to, note("k", "said in private"))
	p.ok("post in private", err)
}
