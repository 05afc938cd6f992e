package chattest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/ops"
)

// inMemory is the platform in memory as a subject.
func inMemory(p *chattest.Platform) *chattest.Subject {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	ill := &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "Chat does not answer."}
	slow := &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited, Msg: "Chat asks to slow down.",
		NotSent: true, RetryAt: now.Add(chattest.LimitedFor),
	}
	faults := map[chattest.Trouble]chattest.Fault{
		chattest.Lost: {Err: ill, Lost: true}, chattest.Limited: {Err: slow}, chattest.Down: {Err: ill}, chattest.Hang: {Hang: true},
	}
	p.Serve("main")
	p.Remove("outsider")
	return &chattest.Subject{
		Platform: p, Plain: true, NoRef: "m9",
		Room:     ops.Conversation{Platform: "fake", Workspace: "main", Channel: "ops"},
		Person:   ops.Actor{Platform: "fake", Workspace: "main", UserID: "ann"},
		Outsider: ops.Actor{Platform: "fake", Workspace: "main", UserID: "outsider"},
		Now:      func() time.Time { return now },
		Screen:   func(to ops.Conversation) []chattest.Seen { return screen(p, to) },
		Delete:   p.Delete,
		Trouble:  func(m chattest.Method, t chattest.Trouble) { p.Fail(string(m), faults[t]) },
		Tries:    func(m chattest.Method) int { return p.Calls(string(m)) },
		Evict:    func() { p.Evict("ops") },
	}
}

func screen(p *chattest.Platform, to ops.Conversation) []chattest.Seen {
	var out []chattest.Seen
	for _, s := range p.Sent() {
		if s.To.Channel != to.Channel {
			continue
		}
		m := s.Now()
		seen := chattest.Seen{Ref: s.Ref, Text: read(m), InChannel: s.To.Thread == "" || m.Broadcast}
		for _, b := range m.Buttons {
			if b.Token != "" || chat.SafeURL(b.URL) {
				seen.Buttons = append(seen.Buttons, b.Label)
			}
		}
		out = append(out, seen)
	}
	return out
}

// read is a message as somebody would read it.
func read(m chat.Message) string {
	if len(m.Blocks) == 0 {
		return chat.Clean(m.Summary)
	}
	var b strings.Builder
	for _, block := range m.Blocks {
		b.WriteString(chat.CleanLines(block.Text.String()) + "\n" + chat.CleanLines(block.Code) + "\n")
		for _, f := range block.Fields {
			b.WriteString(chat.Clean(f.Label) + " " + chat.Clean(f.Text.String()) + "\n")
		}
	}
	return b.String()
}

func TestPlatformInMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	chattest.Run(t, func(_ *testing.T, _ chat.Handler) *chattest.Subject { return inMemory(chattest.NewPlatform("fake")) })
}

// broken is a platform with one thing wrong with it.
type broken struct {
	*chattest.Platform
	post   func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error)
	update func(p *chattest.Platform, ctx context.Context, to ops.Conversation, ref string, m chat.Message) error
	find   func(p *chattest.Platform, ctx context.Context, to ops.Conversation, key string) (string, bool, error)
}

func (b broken) Post(ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
	if b.post != nil {
		return b.post(b.Platform, ctx, to, m)
	}
	return b.Platform.Post(ctx, to, m)
}

func (b broken) Update(ctx context.Context, to ops.Conversation, ref string, m chat.Message) error {
	if b.update != nil {
		return b.update(b.Platform, ctx, to, ref, m)
	}
	return b.Platform.Update(ctx, to, ref, m)
}

func (b broken) Find(ctx context.Context, to ops.Conversation, key string) (string, bool, error) {
	if b.find != nil {
		return b.find(b.Platform, ctx, to, key)
	}
	return b.Platform.Find(ctx, to, key)
}

// TestSuiteNoticesBrokenPlatforms is the control of the suite: each platform breaks the contract in
// one way, and the case that is about it must fail.
func TestSuiteNoticesBrokenPlatforms(t *testing.T) {
	t.Parallel()
	unavailable := &ops.Error{Code: ops.CodeUnavailable, Msg: "No."}
	retries := func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
		ref, err := p.Post(ctx, to, m)
		if err != nil && ctx.Err() == nil {
			ref, err = p.Post(ctx, to, m)
		}
		return ref, err
	}
	tests := []struct {
		name     string
		platform broken
		want     string // the case that must fail
		deaf     bool   // does not hear that its context ends
	}{
		{"posts again by itself", broken{post: retries}, "a lost answer leaves one message, which is found", false},
		{"posts again after a refusal", broken{post: retries}, "a rate limit says when, and that nothing was sent", false},
		{"an update is a new post", broken{update: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, _ string, m chat.Message) error {
			_, err := p.Post(ctx, to, m)
			return err
		}}, "an update replaces everything", false},
		{"an update keeps the old buttons", broken{update: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, ref string, m chat.Message) error {
			m.Buttons = append(m.Buttons, chat.Button{Label: "Cancel", Token: "t"})
			return p.Update(ctx, to, ref, m)
		}}, "an update replaces everything", false},
		{"loses small print", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			if n := len(m.Blocks); n > 0 {
				m.Blocks = m.Blocks[:n-1]
			}
			return p.Post(ctx, to, m)
		}}, "a post shows all that it holds", false},
		{"forgets the thread", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			to.Thread = ""
			return p.Post(ctx, to, m)
		}}, "replies stand in the thread", false},
		{"never tells the channel", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			m.Broadcast = false
			return p.Post(ctx, to, m)
		}}, "replies stand in the thread", false},
		{"finds nothing", broken{find: func(*chattest.Platform, context.Context, ops.Conversation, string) (string, bool, error) {
			return "", false, nil
		}}, "a message is found by its key", false},
		{"finds anything", broken{find: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, key string) (string, bool, error) {
			if ref, found, err := p.Find(ctx, to, key); found || err != nil {
				return ref, found, err
			}
			return "m1", true, nil
		}}, "a message is found by its key", false},
		{"a plain error", broken{update: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, ref string, m chat.Message) error {
			if err := p.Update(ctx, to, ref, m); err != nil {
				return errors.New("HTTP 404")
			}
			return nil
		}}, "what is not there is not found", false},
		{"tries for ever what is gone", broken{update: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, ref string, m chat.Message) error {
			if err := p.Update(ctx, to, ref, m); err != nil {
				return unavailable
			}
			return nil
		}}, "a deleted message is not found", false},
		{"forgets how long to wait", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			ref, err := p.Post(ctx, to, m)
			if e, ok := errors.AsType[*ops.Error](err); ok {
				err = &ops.Error{Code: e.Code, Msg: e.Msg, NotSent: e.NotSent}
			}
			return ref, err
		}}, "a rate limit says when, and that nothing was sent", false},
		{"claims that nothing was sent", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			ref, err := p.Post(ctx, to, m)
			if e, ok := errors.AsType[*ops.Error](err); ok {
				err = &ops.Error{Code: e.Code, Msg: e.Msg, NotSent: true, RetryAt: e.RetryAt}
			}
			return ref, err
		}}, "a lost answer leaves one message, which is found", false},
		{"does not care for its context", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			return p.Post(context.WithoutCancel(ctx), to, m)
		}}, "a call with an ended context does nothing", true},
		{"does not cut", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			if len(read(m)) > 40_000 {
				return "", &ops.Error{Code: ops.CodeInvalid, Msg: "Too long."}
			}
			return p.Post(ctx, to, m)
		}}, "long texts are cut, and the end of a log is kept", false},
		{"refuses many buttons", broken{post: func(p *chattest.Platform, ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
			if len(m.Buttons) > 25 {
				return "", &ops.Error{Code: ops.CodeInvalid, Msg: "Too many."}
			}
			return p.Post(ctx, to, m)
		}}, "any number of buttons can be posted", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			failed := chattest.Failures(t, func(_ *testing.T, _ chat.Handler) *chattest.Subject {
				b := tt.platform
				b.Platform = chattest.NewPlatform("fake")
				s := inMemory(b.Platform)
				s.Platform = b
				if tt.deaf {
					s.Trouble = nil // or it would hang
				}
				return s
			})
			var names []string
			for name := range failed {
				names = append(names, name)
			}
			if !slices.Contains(names, tt.want) {
				t.Errorf("got failures %q, want %q among them", names, tt.want)
			}
		})
	}
}
