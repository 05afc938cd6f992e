package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/internal/clock"
	"ocim/ops"
)

func TestTerminalKeepsTheContract(t *testing.T) {
	t.Parallel()
	chattest.Run(t, subject)
}

// subject is a terminal with the people before it.
func subject(t *testing.T, h chat.Handler) *chattest.Subject {
	t.Helper()
	clk := clock.NewFake(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	term := New(Config{
		Workspace: "sandbox", Channel: "ops", Trigger: "/ocim", People: []Person{{"U-ALICE", "alice"}, {"U-BOB", "bob"}},
		Out: io.Discard, Clock: clk, Log: slog.New(slog.DiscardHandler),
	})
	term.Bind(h)
	actor := func(id string) ops.Actor { return ops.Actor{Platform: Name, Workspace: "sandbox", UserID: id} }
	return &chattest.Subject{
		Platform: term, Room: term.Here(), Person: actor("U-ALICE"), Nobody: actor("U-NOBODY"), NoRef: "x-9", Now: clk.Now,
		Screen: func(ops.Conversation) []chattest.Seen {
			return seen(term, func(p Post) bool { return p.Author == "" && p.Private == "" })
		},
		Plain: true, NoLinks: true, NoRooms: true,
		People: &chattest.People{
			Type: func(ctx context.Context, text string) error { return term.Type(ctx, "/ocim "+text) },
			Click: func(ctx context.Context, ref, label string) error {
				n, ok := numbered(term, ref, label)
				if !ok {
					return fmt.Errorf("there is no button %q", label)
				}
				return term.Type(ctx, n)
			},
			Private: func(_ context.Context, n int) ([]chattest.Seen, error) {
				all := seen(term, func(p Post) bool { return p.Private == "alice" })
				if len(all) < n {
					return all, errors.New("there are fewer")
				}
				return all, nil
			},
			Form: func(context.Context) (string, error) { return title(term), nil },
			Fill: func(ctx context.Context, values map[string]string) (map[string]string, error) {
				if _, open := term.Asking(); !open {
					return nil, errors.New("no form is open")
				}
				for _, field := range fields(term) {
					if err := term.Type(ctx, values[field]); err != nil {
						return nil, err
					}
				}
				return problems(term), nil
			},
		},
	}
}

func seen(t *Terminal, want func(Post) bool) []chattest.Seen {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []chattest.Seen
	for _, p := range t.posts {
		if !want(*p) {
			continue
		}
		s := chattest.Seen{Ref: p.Ref, Text: strings.Join(t.layout(p, 10_000), "\n"), InChannel: p.Thread == "" || p.Message.Broadcast}
		for i, b := range p.Message.Buttons {
			if b.URL != "" || t.numberOf(p, i) > 0 {
				s.Buttons = append(s.Buttons, b.Label)
			}
		}
		out = append(out, s)
	}
	return out
}

// numbered is the number that stands before a button.
func numbered(t *Terminal, ref, label string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, b := range t.byRef[ref].Message.Buttons {
		if n := t.numberOf(t.byRef[ref], i); n > 0 && b.Label == label {
			return fmt.Sprint(n), true
		}
	}
	return "", false
}

func title(t *Terminal) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dialog == nil {
		return ""
	}
	return t.dialog.dialog.Title
}

// fields are the names of the open dialog's fields.
func fields(t *Terminal) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, f := range t.dialog.dialog.Fields {
		out = append(out, f.Name)
	}
	return out
}

func problems(t *Terminal) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dialog == nil {
		return nil
	}
	return t.dialog.errors
}

// TestSuiteNoticesBrokenRequests is the control of the part of the suite that is about requests: a
// platform that spoils what it hands on, or what comes back, must fail the case that is about it.
func TestSuiteNoticesBrokenRequests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		in     func(*chat.Incoming)
		answer func(*chat.Answer)
		want   string
	}{
		{"the same key for all", func(in *chat.Incoming) { in.Key = "k" }, nil, "every request has a key of its own"},
		{"another person", func(in *chat.Incoming) { in.Actor.UserID = "U-BOB" }, nil, "a command reaches the handler and is answered in private"},
		{"lost words", func(in *chat.Incoming) { in.Text, _, _ = strings.Cut(in.Text, " ") }, nil, "a command reaches the handler and is answered in private"},
		{"no way back", func(in *chat.Incoming) { in.Reply = nil }, nil, "a later answer reaches the person alone"},
		{"a lost token", func(in *chat.Incoming) { in.Button = "" }, nil, "a click reaches the handler with its token and message"},
		{"another message", func(in *chat.Incoming) { in.Message = "m" }, nil, "a click reaches the handler with its token and message"},
		{"a lost state", func(in *chat.Incoming) { in.State = "" }, nil, "a dialog is opened, corrected and sent"},
		{"a lost value", func(in *chat.Incoming) { delete(in.Values, "instance") }, nil, "a dialog is opened, corrected and sent"},
		{"an answer that is not shown", nil, func(a *chat.Answer) { a.Message = nil }, "a command reaches the handler and is answered in private"},
		{"errors that are not shown", nil, func(a *chat.Answer) { a.Errors = nil }, "a dialog is opened, corrected and sent"},
		{"an answer where there is none", nil, func(a *chat.Answer) { a.Message = chat.Notice(chat.ToneGood, "x") }, "a silent answer shows nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			failed := chattest.Failures(t, func(t *testing.T, h chat.Handler) *chattest.Subject {
				t.Helper()
				return subject(t, handlerFunc(func(ctx context.Context, in chat.Incoming) chat.Answer {
					if tt.in != nil {
						tt.in(&in)
					}
					ans := h.Handle(ctx, in)
					if tt.answer != nil {
						tt.answer(&ans)
					}
					return ans
				}))
			}, tt.want)
			if len(failed[tt.want]) == 0 {
				t.Errorf("got failures %v, want one of %q", failed, tt.want)
			}
		})
	}
}

type handlerFunc func(context.Context, chat.Incoming) chat.Answer

func (f handlerFunc) Handle(ctx context.Context, in chat.Incoming) chat.Answer { return f(ctx, in) }
