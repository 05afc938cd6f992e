// Package chattest has what tests of chat need: a platform with a ledger and faults, and the
// conformance suite that every adapter passes.
package chattest

import (
	"context"
	"fmt"
	"slices"
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

// Fault makes the next call fail.
type Fault struct {
	Err  error
	Lost bool // the call takes effect, and its answer is lost
	Hang bool // the call waits until its context ends
}

// Platform is a chat platform in memory. Safe for concurrent use.
type Platform struct {
	name string

	mu      sync.Mutex
	sent    []*Sent
	faults  map[string][]Fault // by method
	blind   bool
	gone    map[string]bool // user ids that are no members any more
	closed  map[string]bool // channels in which the bot may not write
	serves  []string        // workspaces; all if empty
	rate    chat.Rate
	hang    chan struct{}
	calls   map[string]int
	changed chan struct{}
}

// NewPlatform returns an empty platform, as slow as Slack.
func NewPlatform(name string) *Platform {
	return &Platform{
		name: name, faults: map[string][]Fault{}, gone: map[string]bool{}, closed: map[string]bool{}, calls: map[string]int{}, changed: make(chan struct{}),
		rate: chat.Rate{PostsPerChannel: 1, EditsPerMinute: 40, MinEditGapMillis: 3000},
	}
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

// Evict takes from the bot the right to write and to look in a channel, as removing it does.
func (p *Platform) Evict(channel string) { p.mu.Lock(); p.closed[channel] = true; p.mu.Unlock() }

// Invite undoes Evict.
func (p *Platform) Invite(channel string) { p.mu.Lock(); delete(p.closed, channel); p.mu.Unlock() }

// SetRate changes how fast the platform lets the bot write. It refuses nothing by itself.
func (p *Platform) SetRate(r chat.Rate) { p.mu.Lock(); p.rate = r; p.mu.Unlock() }

// Rate implements [chat.Platform].
func (p *Platform) Rate() chat.Rate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// Serve restricts the platform to these workspaces. At first it serves any.
func (p *Platform) Serve(workspaces ...string) { p.mu.Lock(); p.serves = workspaces; p.mu.Unlock() }

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
func (p *Platform) enter(ctx context.Context, method, workspace string) (Fault, error) {
	if err := ctx.Err(); err != nil {
		e := silent(err)
		e.NotSent = true
		return Fault{}, e
	}
	p.mu.Lock()
	if len(p.serves) > 0 && !slices.Contains(p.serves, workspace) {
		p.mu.Unlock()
		return Fault{}, &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonChatUnavailable, Msg: "This bot is not connected to that workspace."}
	}
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
			return f, silent(ctx.Err())
		}
	}
	if f.Hang {
		<-ctx.Done()
		return f, silent(ctx.Err())
	}
	if f.Err != nil && !f.Lost {
		return f, f.Err
	}
	return f, nil
}

func silent(cause error) *ops.Error {
	return &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "Chat does not answer.", Err: cause}
}

// Post implements [chat.Platform].
func (p *Platform) Post(ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
	f, err := p.enter(ctx, "post", to.Workspace)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.writable(to); err != nil {
		return "", err
	}
	if to.Thread != "" && p.stands(to.Channel, to.Thread) == nil {
		return "", noMessage()
	}
	s := &Sent{Ref: fmt.Sprintf("m%d", len(p.sent)+p.calls["post"]*1000), To: to, Versions: []chat.Message{m}}
	p.sent = append(p.sent, s)
	return s.Ref, f.Err
}

// Update implements [chat.Platform].
func (p *Platform) Update(ctx context.Context, to ops.Conversation, ref string, m chat.Message) error {
	f, err := p.enter(ctx, "update", to.Workspace)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.writable(to); err != nil {
		return err
	}
	s := p.stands(to.Channel, ref)
	if s == nil {
		return noMessage()
	}
	s.Versions = append(s.Versions, m)
	return f.Err
}

// writable refuses what a bot may not do that is not in the channel. The caller holds the lock.
func (p *Platform) writable(to ops.Conversation) error {
	if p.closed[to.Channel] {
		return &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonChatUnavailable, Msg: "The bot may not post here.", Next: "Invite it."}
	}
	return nil
}

// stands is the message with that id, nil if there is none in the channel. The caller holds the lock.
func (p *Platform) stands(channel, ref string) *Sent {
	for _, s := range p.sent {
		if s.Ref == ref && s.To.Channel == channel {
			return s
		}
	}
	return nil
}

func noMessage() error {
	return &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonChatUnavailable, Msg: "The message is gone."}
}

// Find implements [chat.Platform].
func (p *Platform) Find(ctx context.Context, to ops.Conversation, key string) (string, bool, error) {
	if _, err := p.enter(ctx, "find", to.Workspace); err != nil {
		return "", false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blind {
		return "", false, chat.ErrCannotFind
	}
	if err := p.writable(to); err != nil {
		return "", false, err
	}
	for _, s := range p.sent {
		if s.Now().Key == key && s.To.Channel == to.Channel {
			return s.Ref, true, nil
		}
	}
	return "", false, nil
}

// Direct implements [chat.Platform].
func (p *Platform) Direct(ctx context.Context, a ops.Actor) (ops.Conversation, error) {
	if _, err := p.enter(ctx, "direct", a.Workspace); err != nil {
		return ops.Conversation{}, err
	}
	return ops.Conversation{Platform: p.name, Workspace: a.Workspace, Channel: "D" + a.UserID}, nil
}

// Member implements [chat.Platform].
func (p *Platform) Member(ctx context.Context, a ops.Actor, _ ops.Conversation) (chat.Membership, error) {
	if _, err := p.enter(ctx, "member", a.Workspace); err != nil {
		return chat.Membership{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return chat.Membership{Active: true, Member: !p.gone[a.UserID]}, nil
}

// Permalink implements [chat.Platform].
func (p *Platform) Permalink(to ops.Conversation, ref string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.serves) > 0 && !slices.Contains(p.serves, to.Workspace) {
		return ""
	}
	return "https://chat.example/" + to.Channel + "/" + ref
}
