package slack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/slack/slacktest"
	"ocim/internal/clock"
	"ocim/ops"
)

func TestSlackOverHTTPKeepsTheContract(t *testing.T) {
	t.Parallel()
	chattest.Run(t, func(t *testing.T, h chat.Handler) *chattest.Subject {
		t.Helper()
		return subject[testing.TB](t, newRig, h)
	})
}

func TestSlackOverSocketModeKeepsTheContract(t *testing.T) {
	t.Parallel()
	chattest.Run(t, func(t *testing.T, h chat.Handler) *chattest.Subject {
		t.Helper()
		return subject(t, runSocket, h)
	})
}

// subject is the adapter with the fake Slack as its other side.
func subject[T testing.TB](t T, start func(T, rigOptions) *rig, h chat.Handler) *chattest.Subject {
	t.Helper()
	clk := clock.NewFake(time.Unix(1_700_000_000, 0))
	r := start(t, rigOptions{
		clock: clk, handler: h.Handle,
		scopes: []string{"chat:write", "im:write", "users:read", "channels:read", "groups:read", "channels:history", "groups:history", "im:history"},
	})
	if err := r.Check(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	method := map[chattest.Method]string{chattest.PostMethod: "chat.postMessage", chattest.UpdateMethod: "chat.update"}
	trouble := map[chattest.Trouble]slacktest.Fault{
		chattest.Lost:    {Kind: slacktest.Lost},
		chattest.Limited: {Kind: slacktest.TooMany, RetryAfter: chattest.LimitedFor},
		chattest.Down:    {Kind: slacktest.ServerError},
		chattest.Hang:    {Kind: slacktest.Hang},
	}
	actor := func(id string) ops.Actor { return ops.Actor{Platform: Platform, Workspace: team, UserID: id} }
	r.slack.SetUser(slacktest.User{ID: "U0OUT0001", Name: "out"})
	return &chattest.Subject{
		Platform: r.Adapter, Room: inOps(), Person: actor(ann), Outsider: actor("U0OUT0001"), Nobody: actor("U0NOBODY1"),
		NoRef: "1600000000.000001", Now: clk.Now,
		Screen: func(to ops.Conversation) []chattest.Seen { return seen(r, r.slack.Messages(to.Channel)) },
		Delete: func(ref string) {
			err := r.call(ctxOf(t), r.order[0], "chat.delete", url.Values{"channel": {ops1}, "ts": {ref}}, nil)
			if err != nil {
				t.Errorf("delete: %v", err)
			}
		},
		Trouble: func(m chattest.Method, how chattest.Trouble) {
			f := trouble[how]
			f.Method, f.Times = method[m], 1
			r.slack.Fail(f)
		},
		Tries: func(m chattest.Method) int { return len(r.slack.Calls(method[m])) },
		Evict: func() { r.slack.SetChannel(slacktest.Channel{ID: ops1, Name: "ops", Members: []string{ann}}) },
		People: &chattest.People{
			Type: func(ctx context.Context, text string) error {
				reply, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: text})
				if err == nil && reply.Error != "" {
					err = errors.New(reply.Error)
				}
				return err
			},
			Click: func(ctx context.Context, ref, label string) error {
				m, _ := r.slack.Message(ops1, ref)
				a, err := r.slack.Click(ctx, ann, ops1, ref, actionOf(m, label))
				if err == nil && !a.OK() {
					err = fmt.Errorf("no acknowledgement: %+v", a)
				}
				return err
			},
			Private: func(ctx context.Context, n int) ([]chattest.Seen, error) {
				err := r.slack.Until(ctx, func() bool { return len(r.slack.Ephemerals(ann)) >= n })
				return seen(r, r.slack.Ephemerals(ann)), err
			},
			Form: func(context.Context) (string, error) {
				if views := r.slack.Views(ann); len(views) > 0 {
					return views[len(views)-1].Title, nil
				}
				return "", nil
			},
			Fill: func(ctx context.Context, values map[string]string) (map[string]string, error) {
				views := r.slack.Views(ann)
				if len(views) == 0 {
					return nil, errors.New("no form is open")
				}
				typed := map[string]any{}
				for k, v := range values {
					typed[k] = v
				}
				sub, err := r.slack.SubmitView(ctx, ann, views[len(views)-1].ID, typed)
				if err == nil && sub.Error != "" {
					err = errors.New(sub.Error)
				}
				return sub.Errors, err
			},
			Patience: func(ctx context.Context) error {
				if err := clk.Waiting(ctx, 2); err != nil { // our budget and Slack's own deadline
					return err
				}
				clk.Advance(2900 * time.Millisecond)
				return nil
			},
		},
	}
}

// seen is what people are shown of messages.
func seen(r *rig, messages []slacktest.Message) []chattest.Seen {
	var out []chattest.Seen
	for _, m := range messages {
		s := chattest.Seen{
			Ref: m.TS, Text: r.slack.Read(m), Buttons: slacktest.Buttons(m),
			InChannel: m.ThreadTS == "" || m.Broadcast,
		}
		for _, tok := range r.slack.LiveTokens(m) {
			if strings.HasSuffix(tok.Pointer, "/url") {
				continue // of a button
			}
			if tok.Auto && tok.Pointer == "/text" && len(m.Blocks) > 0 {
				continue // an address in a text that only notifications and screen readers use
			}
			kind := string(tok.Kind)
			if tok.Kind == slacktest.UserMention || tok.Kind == slacktest.Broadcast {
				kind = "mention"
			}
			s.Live = append(s.Live, kind+" "+tok.Target)
		}
		out = append(out, s)
	}
	return out
}

// actionOf is the action_id of the button with that label.
func actionOf(m slacktest.Message, label string) string {
	for _, b := range m.Blocks {
		elements, _ := b["elements"].([]any)
		for _, x := range elements {
			e, _ := x.(map[string]any)
			text, _ := e["text"].(map[string]any)
			if e["type"] == "button" && text["text"] == label {
				id, _ := e["action_id"].(string)
				return id
			}
		}
	}
	return ""
}

// careless is Slack without escaping: the summary as it is, and nothing else.
type careless struct{ *rig }

func (c careless) Post(ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
	var out struct {
		TS string `json:"ts"`
	}
	err := c.call(ctx, c.order[0], "chat.postMessage", url.Values{"channel": {to.Channel}, "text": {"." + m.Summary}}, &out)
	return out.TS, err
}

// TestSuiteNoticesLiveText is the control of the cases about foreign text.
func TestSuiteNoticesLiveText(t *testing.T) {
	t.Parallel()
	failed := chattest.Failures(t, func(t *testing.T, h chat.Handler) *chattest.Subject {
		t.Helper()
		var r *rig
		s := subject(t, func(t *testing.T, o rigOptions) *rig {
			t.Helper()
			r = newRig(t, o)
			return r
		}, h)
		s.Platform, s.People = careless{r}, nil
		return s
	}, "foreign text stays text", "a mention and a link of ours work")
	problems := strings.Join(failed["foreign text stays text"], "\n")
	for _, want := range []string{"mention here", "mention channel", "mention U0ANN0001", "link https://evil.example"} {
		if !strings.Contains(problems, want) {
			t.Errorf("got\n%s\nwant %q noticed", problems, want)
		}
	}
	if len(failed["a mention and a link of ours work"]) == 0 {
		t.Error("a platform without mentions and links passed")
	}
}
