package mattermost_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/ops"
)

func TestMattermostKeepsTheContract(t *testing.T) {
	t.Parallel()
	chattest.Run(t, subject)
}

// subject is the adapter with the fake Mattermost as its other side.
func subject(t *testing.T, h chat.Handler) *chattest.Subject {
	t.Helper()
	r := newRig(t)
	r.answers(h.Handle)
	if err := r.Watch(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	room, err := r.NewChannel(t.Context(), "P", "room", "alice", mattermosttest.Bot) // which the bot cannot join by itself
	if err != nil {
		t.Fatal(err)
	}
	to := r.channel()
	to.Channel = room
	type route struct{ method, path string }
	routes := map[chattest.Method]route{
		chattest.PostMethod:   {http.MethodPost, "/posts"},
		chattest.UpdateMethod: {http.MethodPut, "/posts/*/patch"},
	}
	trouble := map[chattest.Trouble]mattermosttest.Fault{
		chattest.Lost:    {Kind: mattermosttest.LostAnswer},
		chattest.Limited: {Kind: mattermosttest.RateLimited, RetryAfter: chattest.LimitedFor},
		chattest.Down:    {Kind: mattermosttest.Unavailable},
		chattest.Hang:    {Kind: mattermosttest.Hang},
	}
	return &chattest.Subject{
		Platform: r.bot, Room: to, Person: r.actor("alice"), Outsider: r.actor("carol"),
		Nobody: ops.Actor{Platform: mattermost.Platform, Workspace: workspace, UserID: strings.Repeat("z", 26)},
		NoRef:  strings.Repeat("z", 26), Now: r.clock.Now,
		Screen: func(to ops.Conversation) []chattest.Seen { return r.onScreen(r.fake.Posts(to.Channel)) },
		Delete: r.fake.DeletePost,
		Trouble: func(m chattest.Method, how chattest.Trouble) {
			f := trouble[how]
			f.Method, f.Path, f.Times = routes[m].method, routes[m].path, 1
			r.fake.Fail(f)
		},
		Tries: func(m chattest.Method) int { return len(r.fake.CallsTo(routes[m].method, routes[m].path)) },
		Evict: func() { r.fake.RemoveMember(mattermosttest.Bot, room) },
		People: &chattest.People{
			Type: func(ctx context.Context, text string) error {
				reply, err := r.Command(ctx, "alice", room, "", "/ocim "+text)
				return told(reply, err)
			},
			Click: func(ctx context.Context, ref, label string) error {
				p, ok := r.fake.Post(ref)
				if !ok {
					return errors.New("there is no such post")
				}
				for _, a := range p.Actions() {
					if a.Name == label {
						reply, err := r.Click(ctx, "alice", p, a.ID, "")
						return told(reply, err)
					}
				}
				return fmt.Errorf("there is no button %q", label)
			},
			Private: func(ctx context.Context, n int) ([]chattest.Seen, error) {
				shown := 0
				if n > 0 {
					_, err := r.AwaitPost(ctx, "alice", func(p mattermosttest.Post) bool {
						if p.Type != "" && p.ChannelID == room {
							shown++
						}
						return shown >= n
					})
					if err != nil {
						return nil, err
					}
				}
				return r.private(ctx, room)
			},
			Form: func(ctx context.Context) (string, error) {
				open, err := r.Dialogs(ctx, "alice")
				if err != nil || len(open) == 0 {
					return "", err
				}
				return open[len(open)-1].Dialog.Title, nil
			},
			Fill: func(ctx context.Context, values map[string]string) (map[string]string, error) {
				open, err := r.Dialogs(ctx, "alice")
				if err != nil || len(open) == 0 {
					return nil, errors.Join(err, errors.New("no form is open"))
				}
				typed := map[string]any{}
				for k, v := range values {
					typed[k] = v
				}
				reply, err := r.SubmitDialog(ctx, "alice", room, open[len(open)-1], typed)
				if err == nil && reply.DialogError != "" {
					err = errors.New(reply.DialogError)
				}
				return reply.FieldErrors, told(reply, err)
			},
			Patience: func(ctx context.Context) error {
				if err := r.clock.Waiting(ctx, 2); err != nil { // our budget and the server's time-out
					return err
				}
				r.clock.Advance(2900 * time.Millisecond)
				return nil
			},
		},
	}
}

// told is the error that alice was shown, if any.
func told(reply mattermosttest.Reply, err error) error {
	if err == nil && reply.Err != nil {
		return reply.Err
	}
	return err
}

// private is what only alice was shown in a channel.
func (r *rig) private(ctx context.Context, channel string) ([]chattest.Seen, error) {
	events, err := r.Events(ctx, "alice")
	if err != nil {
		return nil, err
	}
	var posts []mattermosttest.Post
	for _, e := range events {
		text, _ := e.Data["post"].(string)
		var p mattermosttest.Post
		if e.Event == "ephemeral_message" && json.Unmarshal([]byte(text), &p) == nil && p.ChannelID == channel {
			posts = append(posts, p)
		}
	}
	return r.onScreen(posts), nil
}

// onScreen is what people are shown of posts.
func (r *rig) onScreen(posts []mattermosttest.Post) []chattest.Seen {
	ids := map[string]string{}
	for name, a := range r.Accounts {
		ids[name] = a.ID
	}
	var out []chattest.Seen
	for _, p := range posts {
		s := chattest.Seen{Ref: p.ID, Text: mattermosttest.Read(p), InChannel: p.RootID == ""}
		for _, a := range p.Actions() {
			s.Buttons = append(s.Buttons, a.Name)
		}
		live := mattermosttest.LiveText(p)
		for _, name := range live.Mentions {
			s.Live = append(s.Live, "mention "+cmp.Or(ids[name], name))
		}
		for kind, found := range map[string][]string{"link": live.Links, "image": live.Images, "hashtag": live.Hashtags, "channel": live.Channels} {
			for _, target := range found {
				s.Live = append(s.Live, kind+" "+target)
			}
		}
		out = append(out, s)
	}
	return out
}
