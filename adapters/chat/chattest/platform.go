// Package chattest has what tests of chat need: a platform with a ledger and faults, and the
// conformance suite that every adapter passes.
package chattest

import (
	"context"
	"fmt"
	"sync"

	"ocim/adapters/chat"
	"ocim/ops"
)

// Sent is one message that stands on the Platform, with every content it has had.
type Sent struct {
	Ref      string
	To       ops.Conversation
	Versions []chat.Message // the first is the post, the others are edits
}

// Now is the content as people see it.
func (s Sent) Now() chat.Message { return s.Versions[len(s.Versions)-1] }

// Fault makes the next calls fail. Lost loses the answer of a call that took effect.
type Fault struct {
	Err  error
	Lost bool
}

// Platform is a chat platform in memory. Safe for concurrent use.
type Platform struct {
	name string

	mu      sync.Mutex
	sent    []*Sent
	faults  map[string][]Fault // by method
	blind   bool
	gone    map[string]bool // user ids that are no members any more
	hang    chan struct{}
	calls   map[string]int
	changed chan struct{}
}

// NewPlatform returns an empty platform.
func NewPlatform(name string) *Platform {
	return &Platform{name: name, faults: map[string][]Fault{}, gone: map[string]bool{}, calls: map[string]int{}, changed: make(chan struct{})}
}

// Fail queues faults for a method: post, update, find, direct or member.
func (p *Platform) Fail(method string, faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[method] = append(p.faults[method], faults...)
}

// Hang makes every call wait until the returned function is called or its context ends.
func (p *Platform) Hang() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hang = make(chan struct{})
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		close(p.hang)
		p.hang = nil
	})
}

// CannotFind makes Find answer [chat.ErrCannotFind], as Slack does without the history scope.
func (p *Platform) CannotFind() { p.mu.Lock(); p.blind = true; p.mu.Unlock() }

// Remove takes a person out of every channel.
func (p *Platform) Remove(userID string) { p.mu.Lock(); p.gone[userID] = true; p.mu.Unlock() }

// Delete removes a message, as a person can.
func (p *Platform) Delete(ref string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.sent {
		if s.Ref == ref {
			p.sent = append(p.sent[:i:i], p.sent[i+1:]...)
			return
		}
	}
}

// Sent returns copies of all messages, oldest first.
func (p *Platform) Sent() []Sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Sent, len(p.sent))
	for i, s := range p.sent {
		out[i] = Sent{Ref: s.Ref, To: s.To, Versions: append([]chat.Message(nil), s.Versions...)}
	}
	return out
}

// Calls is how often a method was called.
func (p *Platform) Calls(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[method]
}

// enter counts the call and returns the fault that awaits it, if any.
func (p *Platform) enter(ctx context.Context, method string) (Fault, error) {
	p.mu.Lock()
	p.calls[method]++
	hang := p.hang
	var f Fault
	if q := p.faults[method]; len(q) > 0 {
		f, p.faults[method] = q[0], q[1:]
	}
	p.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return f, &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "Chat does not answer.", Err: ctx.Err()}
		}
	}
	if f.Err != nil && !f.Lost {
		return f, f.Err
	}
	return f, nil
}

// Post implements [chat.Platform].
func (p *Platform) Post(ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
	f, err := p.enter(ctx, "post")
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &Sent{Ref: fmt.Sprintf("m%d", len(p.sent)+p.calls["post"]*1000), To: to, Versions: []chat.Message{m}}
	p.sent = append(p.sent, s)
	return s.Ref, f.Err
}

// Update implements [chat.Platform].
func (p *Platform) Update(ctx context.Context, _ ops.Conversation, ref string, m chat.Message) error {
	f, err := p.enter(ctx, "update")
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sent {
		if s.Ref == ref {
			s.Versions = append(s.Versions, m)
			return f.Err
		}
	}
	return &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonChatUnavailable, Msg: "The message is gone."}
}

// Find implements [chat.Platform].
func (p *Platform) Find(ctx context.Context, _ ops.Conversation, key string) (string, bool, error) {
	if _, err := p.enter(ctx, "find"); err != nil {
		return "", false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blind {
		return "", false, chat.ErrCannotFind
	}
	for _, s := range p.sent {
		if s.Now().Key == key {
			return s.Ref, true, nil
		}
	}
	return "", false, nil
}

// Direct implements [chat.Platform].
func (p *Platform) Direct(ctx context.Context, a ops.Actor) (ops.Conversation, error) {
	_, err := p.enter(ctx, "direct")
	return ops.Conversation{Platform: p.name, Workspace: a.Workspace, Channel: "D" + a.UserID}, err
}

// Member implements [chat.Platform].
func (p *Platform) Member(ctx context.Context, a ops.Actor, _ ops.Conversation) (chat.Membership, error) {
	_, err := p.enter(ctx, "member")
	p.mu.Lock()
	defer p.mu.Unlock()
	return chat.Membership{Active: true, Member: !p.gone[a.UserID]}, err
}

// Permalink implements [chat.Platform].
func (p *Platform) Permalink(to ops.Conversation, ref string) string {
	return "https://chat.example/" + to.Channel + "/" + ref
}
