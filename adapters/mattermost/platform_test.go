package mattermost_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/secret"
	"ocim/ops"
)

func TestPostIsEditedAsAWholeAndKeepsItsButtons(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	want := "**Deploy demo**\n[Open in GitLab](https://gitlab.example.org/p/-/pipelines/1)\n" +
		"State: running\nInstance: `prod/demo`\noperation 7KQ2\n[Cancel]"
	if d := cmp.Diff(mattermosttest.Read(p), want); d != "" {
		t.Errorf("post (-got +want):\n%s", d)
	}
	final := card("k1")
	final.Tone = chat.ToneGood
	final.Blocks[1].Fields[0].Text = chat.Text{{Text: "succeeded"}}
	if err := r.bot.Update(t.Context(), r.channel(), p.ID, final); err != nil {
		t.Fatal(err)
	}
	edited, _ := r.fake.Post(p.ID)
	if got := mattermosttest.Read(edited); !strings.Contains(got, "State: succeeded") {
		t.Errorf("edited post reads %q", got)
	}
	if _, err := r.Click(t.Context(), "alice", edited, "cancel", ""); err != nil || len(r.handled()) != 1 {
		t.Errorf("the button of the edited post does not work: %v", err)
	}
	final.Buttons = nil
	if err := r.bot.Update(t.Context(), r.channel(), p.ID, final); err != nil {
		t.Fatal(err)
	}
	edited, _ = r.fake.Post(p.ID)
	if n := len(edited.Actions()); n != 0 {
		t.Errorf("%d buttons left, want none", n)
	}
	if got := len(r.fake.CallsTo(http.MethodGet, "/posts/*")); got != 0 {
		t.Errorf("%d posts read back, want none: what is read has lost its buttons", got)
	}
}

func TestRepeatedPostIsOnePost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.posted(t, "k1")
	if again := r.posted(t, "k1"); again.ID != first.ID {
		t.Errorf("repeated at once: post %s, want the first, %s", again.ID, first.ID)
	}
	if other := r.posted(t, "k2"); other.ID == first.ID {
		t.Error("another key gave the same post")
	}
	if first.PendingPostID != "" && strings.Contains(first.PendingPostID, "k1") {
		t.Errorf("pending id %q can be guessed from the key", first.PendingPostID)
	}
}

func TestFindSeesOnlyPostsOfTheBot(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	if _, err := r.CreatePost(t.Context(), "bob", mattermosttest.Post{
		ChannelID: r.channel().Channel, Message: "mine", Props: map[string]any{"ocim_key": "k2", "from_bot": "true"},
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 150 { // more than two pages of talk
		if _, err := r.CreatePost(t.Context(), "alice", mattermosttest.Post{ChannelID: r.channel().Channel, Message: fmt.Sprint("talk ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	reply := r.channel()
	reply.Thread = p.ID
	inThread, err := r.bot.Post(t.Context(), reply, card("k3"))
	if err != nil {
		t.Fatal(err)
	}
	gone := r.posted(t, "k4")
	r.fake.DeletePost(gone.ID)
	for _, tt := range []struct{ key, want string }{{"k1", p.ID}, {"k2", ""}, {"k3", inThread}, {"k4", ""}, {"k5", ""}} {
		ref, found, err := r.bot.Find(t.Context(), r.channel(), tt.key)
		if err != nil || ref != tt.want || found != (tt.want != "") {
			t.Errorf("find %s: %q, %v, %v; want %q", tt.key, ref, found, err, tt.want)
		}
	}
	if _, _, err := r.bot.Find(t.Context(), r.channel(), ""); !errors.Is(err, chat.ErrCannotFind) {
		t.Errorf("find without a key: %v, want ErrCannotFind", err)
	}
}

func TestThreadReplyFallsBackToTheChannel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.posted(t, "root")
	to := r.channel()
	to.Thread = root.ID
	ref, err := r.bot.Post(t.Context(), to, *chat.Notice(chat.ToneNeutral, "detail"))
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := r.fake.Post(ref); p.RootID != root.ID {
		t.Errorf("reply stands at root %q, want %q", p.RootID, root.ID)
	}
	r.fake.DeletePost(root.ID)
	ref, err = r.bot.Post(t.Context(), to, *chat.Notice(chat.ToneNeutral, "detail"))
	if err != nil {
		t.Fatalf("reply to a deleted root: %v, want it in the channel", err)
	}
	if p, _ := r.fake.Post(ref); p.RootID != "" || p.ChannelID != to.Channel {
		t.Errorf("reply stands at %q in %s, want the channel", p.RootID, p.ChannelID)
	}
}

func TestBroadcastStandsInTheChannelWithALink(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.posted(t, "root")
	to := r.channel()
	to.Thread = root.ID
	m := *chat.Notice(chat.ToneBad, "demo failed")
	m.Broadcast = true
	ref, err := r.bot.Post(t.Context(), to, m)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := r.fake.Post(ref)
	if link := r.fake.URL + "/_redirect/pl/" + root.ID; p.RootID != "" || !strings.Contains(mattermosttest.Read(p), link) {
		t.Errorf("post at root %q reads %q, want it in the channel with %s", p.RootID, mattermosttest.Read(p), link)
	}
	if len(m.Blocks) != 1 {
		t.Error("the caller's message was changed")
	}
}

func TestBotJoinsPublicChannelsOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	open, err := r.NewChannel(t.Context(), "O", "open", "alice")
	if err != nil {
		t.Fatal(err)
	}
	to := r.channel()
	to.Channel = open
	if _, err := r.bot.Post(t.Context(), to, card("k1")); err != nil {
		t.Errorf("public channel: %v, want the bot to join", err)
	}
	to.Channel = r.Channels[mattermosttest.Private]
	_, err = r.bot.Post(t.Context(), to, card("k2"))
	var e *ops.Error
	if !errors.As(err, &e) || e.Code != ops.CodeDenied || !strings.Contains(e.Next, "Invite the bot") {
		t.Errorf("private channel: %v, want denied with a hint", err)
	}
}

func TestMemberTellsTheTruthOfThisMoment(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	check := func(name string, want chat.Membership) {
		t.Helper()
		got, err := r.bot.Member(t.Context(), r.actor(name), r.channel())
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	check("alice", chat.Membership{Active: true, Member: true})
	check("carol", chat.Membership{Active: true})
	r.fake.RemoveMember("alice", r.channel().Channel)
	check("alice", chat.Membership{Active: true})
	nobody := ops.Actor{Platform: mattermost.Platform, Workspace: workspace, UserID: strings.Repeat("z", 26)}
	if got, err := r.bot.Member(t.Context(), nobody, r.channel()); err != nil || got != (chat.Membership{}) {
		t.Errorf("nobody: %+v, %v; want nothing", got, err)
	}
	r.fake.Fail(mattermosttest.Fault{Kind: mattermosttest.HTMLPage, Path: "/channels/*/members/*"})
	if got, err := r.bot.Member(t.Context(), r.actor("bob"), r.channel()); err == nil || got.Member {
		t.Errorf("while the server is ill: %+v, %v; want an error and no membership", got, err)
	}
}

func TestForeignIdsNeverReachAnAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := len(r.fake.Calls())
	for _, id := range []string{"", "../../users/me", "a?b", "a/b", strings.Repeat("x", 27), strings.Repeat("é", 13)} {
		to := r.channel()
		to.Channel = id
		if _, err := r.bot.Post(t.Context(), to, card("k")); ops.CodeOf(err) != ops.CodeInvalid {
			t.Errorf("post to %q: %v, want invalid", id, err)
		}
		if err := r.bot.Update(t.Context(), r.channel(), id, card("k")); ops.CodeOf(err) != ops.CodeInvalid {
			t.Errorf("update of %q: %v, want invalid", id, err)
		}
		if _, err := r.bot.Direct(t.Context(), ops.Actor{Platform: mattermost.Platform, Workspace: workspace, UserID: id}); ops.CodeOf(err) != ops.CodeInvalid {
			t.Errorf("direct with %q: %v, want invalid", id, err)
		}
		if link := r.bot.Permalink(r.channel(), id); link != "" {
			t.Errorf("permalink of %q is %q, want none", id, link)
		}
	}
	other := r.channel()
	other.Workspace = "unknown"
	if _, err := r.bot.Post(t.Context(), other, card("k")); ops.CodeOf(err) != ops.CodeNotFound {
		t.Errorf("post to an unknown workspace: %v, want not found", err)
	}
	if after := len(r.fake.Calls()); after != before {
		t.Errorf("%d calls were made, want none", after-before)
	}
}

func TestF13_FailuresOfTheServerAreToldApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	target := r.posted(t, "target")
	for _, tt := range []struct {
		name    string
		fault   mattermosttest.Fault
		notSent bool
		retry   time.Duration
	}{
		{"429", mattermosttest.Fault{Kind: mattermosttest.RateLimited, RetryAfter: 7 * time.Second}, true, 7 * time.Second},
		{"503", mattermosttest.Fault{Kind: mattermosttest.Unavailable}, false, 0},
		{"500", mattermosttest.Fault{Kind: mattermosttest.Unavailable, Status: 500}, false, 0},
		{"proxy", mattermosttest.Fault{Kind: mattermosttest.HTMLPage}, false, 0},
		{"HTML that says OK", mattermosttest.Fault{Kind: mattermosttest.HTMLPage, Status: 200}, false, 0},
		{"lost answer", mattermosttest.Fault{Kind: mattermosttest.LostAnswer}, false, 0},
		{"cut answer", mattermosttest.Fault{Kind: mattermosttest.CutAnswer}, false, 0},
	} {
		tt.fault.Times = 1
		for _, call := range []struct {
			name, method, path string
			do                 func() error
		}{
			{"post", http.MethodPost, "/posts", func() error { _, err := r.bot.Post(t.Context(), r.channel(), card(tt.name)); return err }},
			{"update", http.MethodPut, "/posts/*/patch", func() error { return r.bot.Update(t.Context(), r.channel(), target.ID, card("target")) }},
		} {
			tt.fault.Method, tt.fault.Path = call.method, call.path
			r.fake.Fail(tt.fault)
			err := call.do()
			var e *ops.Error
			if !errors.As(err, &e) || e.Code != ops.CodeUnavailable || e.NotSent != tt.notSent {
				// An edit whose answer does not matter may well succeed.
				t.Errorf("%s on %s: %v (NotSent %v), want unavailable with NotSent %v", tt.name, call.name, err, e != nil && e.NotSent, tt.notSent)
				continue
			}
			if want := r.clock.Now().Add(tt.retry); tt.retry > 0 && !e.RetryAt.Equal(want) {
				t.Errorf("%s on %s: retry at %v, want %v", tt.name, call.name, e.RetryAt, want)
			}
			if err := call.do(); err != nil {
				t.Errorf("%s on %s, second try: %v", tt.name, call.name, err)
			}
		}
		// Whatever became of the first try, there is one post, and it can be found.
		if _, found, err := r.bot.Find(t.Context(), r.channel(), tt.name); err != nil || !found {
			t.Errorf("%s: found %v, %v", tt.name, found, err)
		}
		count := 0
		for _, p := range r.fake.Posts(r.channel().Channel) {
			if p.Props["ocim_key"] == tt.name {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%s: %d posts, want 1", tt.name, count)
		}
	}
}

func TestF13_WhatCannotWorkIsNotCalledUnavailable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gone := r.posted(t, "gone")
	r.fake.DeletePost(gone.ID)
	if err := r.bot.Update(t.Context(), r.channel(), gone.ID, card("gone")); ops.CodeOf(err) != ops.CodeNotFound {
		t.Errorf("edit of a deleted post: %v, want not found", err)
	}
	if err := r.bot.Update(t.Context(), r.channel(), strings.Repeat("z", 26), card("never")); ops.CodeOf(err) != ops.CodeNotFound {
		t.Errorf("edit of a post that never was: %v, want not found", err)
	}
	theirs, err := r.CreatePost(t.Context(), "alice", mattermosttest.Post{ChannelID: r.channel().Channel, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.bot.Update(t.Context(), r.channel(), theirs.ID, card("theirs")); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("edit of somebody's post: %v, want denied", err)
	}
	r.fake.RevokeTokens(mattermosttest.Bot)
	if _, err := r.bot.Post(t.Context(), r.channel(), card("k")); ops.CodeOf(err) != ops.CodeDenied || ops.ReasonOf(err) != ops.ReasonChatUnauthorized {
		t.Errorf("with a revoked token: %v, want denied", err)
	}
	closed := newQuietRig(t, func(c *mattermost.Config) { c.Servers[0].URL = "http://127.0.0.1:1" })
	_, err = closed.bot.Post(t.Context(), r.channel(), card("k"))
	var e *ops.Error
	if !errors.As(err, &e) || e.Code != ops.CodeUnavailable || !e.NotSent {
		t.Errorf("with a closed port: %v, want unavailable and not sent", err)
	}
}

func TestCardIsEditedAfterTheServersTimeLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fake.SetPostEditTimeLimit(5 * time.Minute)
	p := r.posted(t, "k1")
	note, err := r.bot.Post(t.Context(), r.channel(), *chat.Notice(chat.ToneNeutral, "note"))
	if err != nil {
		t.Fatal(err)
	}
	r.clock.Advance(time.Hour)
	final := card("k1")
	final.Blocks[0].Text = chat.Text{{Text: "Deployed demo"}}
	if err := r.bot.Update(t.Context(), r.channel(), p.ID, final); err != nil {
		t.Fatal(err)
	}
	edited, _ := r.fake.Post(p.ID)
	if got := mattermosttest.Read(edited); !strings.HasPrefix(got, "**Deployed demo**\n") || edited.Attachments()[0].Fallback == "" {
		t.Errorf("edited card reads %q, want the new heading, and a text for notifications", got)
	}
	if err := r.bot.Update(t.Context(), r.channel(), note, *chat.Notice(chat.ToneNeutral, "other")); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("edit of a text: %v, want denied, so that it is told anew", err)
	}
}

func TestArchivedChannelIsADenial(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	r.fake.ArchiveChannel(r.channel().Channel)
	if err := r.bot.Update(t.Context(), r.channel(), p.ID, card("k1")); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("edit: %v, want denied", err)
	}
	if _, err := r.bot.Post(t.Context(), r.channel(), card("k2")); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("post: %v, want denied", err)
	}
}

func TestT18_EndlessAnswersAreCut(t *testing.T) {
	t.Parallel()
	var read int64
	r := newRig(t, func(c *mattermost.Config) {
		next := c.Transport
		c.Transport = roundTripper(func(q *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(q)
			if err == nil {
				resp.Body = &counted{resp.Body, &read}
			}
			return resp, err
		})
	})
	r.fake.Fail(mattermosttest.Fault{Kind: mattermosttest.Endless, Method: http.MethodPost})
	read = 0
	_, err := r.bot.Post(t.Context(), r.channel(), card("k"))
	if ops.CodeOf(err) != ops.CodeUnavailable {
		t.Errorf("post: %v, want unavailable", err)
	}
	if read > 9<<20 {
		t.Errorf("read %d bytes, want at most 8 MiB and a bit", read)
	}
}

type counted struct {
	io.ReadCloser
	n *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	*c.n += int64(n)
	return n, err
}

func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fake.Fail(mattermosttest.Fault{Kind: mattermosttest.Hang})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.bot.Post(ctx, r.channel(), card("k"))
	var e *ops.Error
	if !errors.As(err, &e) || e.Code != ops.CodeUnavailable || e.NotSent {
		t.Errorf("post to a server that hangs: %v, want unavailable with an unknown outcome", err)
	}
}

func TestT20_SecretsLeaveByNoErrorPath(t *testing.T) {
	t.Parallel()
	const hook = "hookcanaryhookcanaryhook12"
	var told strings.Builder
	note := func(err error) {
		if err != nil {
			told.WriteString(err.Error() + "\n")
			if e, ok := errors.AsType[*ops.Error](err); ok {
				told.WriteString(e.Msg + e.Next + fmt.Sprintf("%+v %v\n", *e, e.Err))
			}
		}
	}
	var mode int
	r := newQuietRig(t, func(c *mattermost.Config) {
		c.Servers[0].BotToken = secret.New("bot-token-canary")
		c.Servers[0].PathSecret = secret.New("path-secret-canary")
		// A server that sends back all that it got, in every way it can fail.
		c.Transport = roundTripper(func(q *http.Request) (*http.Response, error) {
			body := ""
			if q.Body != nil {
				b, _ := io.ReadAll(q.Body)
				body = string(b)
			}
			echo := fmt.Sprintf("%s %v %s", q.URL, q.Header, body)
			statuses := []int{400, 401, 403, 404, 413, 429, 500, 502, 200, 302}
			switch {
			case mode == 0:
				return nil, errors.New("no route")
			case mode <= len(statuses):
				return &http.Response{
					StatusCode: statuses[mode-1], Header: http.Header{"Location": {echo}, "X-Echo": {echo}},
					Body: io.NopCloser(strings.NewReader(fmt.Sprintf(`{"id":%q,"message":%q,"detailed_error":%q,"status_code":400}`, echo, echo, echo))), Request: q,
				}, nil
			}
			return &http.Response{StatusCode: 500, Body: io.NopCloser(strings.NewReader(echo)), Header: http.Header{}, Request: q}, nil
		})
	})
	_ = r.store.Put(t.Context(), "mattermost/main/"+r.TeamID, secret.New("command-token-canary"))
	for mode = range 12 {
		note(r.bot.Register(t.Context()))
		_, err := r.bot.Post(t.Context(), r.channel(), card("k"))
		note(err)
		note(r.bot.Update(t.Context(), r.channel(), strings.Repeat("z", 26), card("k")))
		_, _, err = r.bot.Find(t.Context(), r.channel(), "k")
		note(err)
		_, err = r.bot.Direct(t.Context(), r.actor("alice"))
		note(err)
		_, err = r.bot.Member(t.Context(), r.actor("alice"), r.channel())
		note(err)
		for _, token := range []string{"command-token-canary", "wrong"} {
			f := r.formWith("command-token-canary", fmt.Sprint("t", mode))
			f.Set("token", token)
			f.Set("response_url", r.fake.URL+"/hooks/commands/"+hook)
			_, answer := r.send(t, routeUnder("commands", "path-secret-canary"), "application/x-www-form-urlencoded", strings.NewReader(f.Encode()))
			told.WriteString(answer)
		}
		for _, in := range r.handled() {
			note(in.Reply.Later(t.Context(), *chat.Notice(chat.ToneBad, "late")))
			note(in.Reply.OpenDialog(t.Context(), deployDialog()))
		}
		_, answer := r.send(t, routeUnder("actions", "path-secret-canary"), "application/json", strings.NewReader(r.clickBody("alice", r.channel().Channel, strings.Repeat("z", 26), "t", nil)))
		told.WriteString(answer)
	}
	told.WriteString(r.log.String())
	if n := strings.Count(told.String(), "\n"); n < 50 {
		t.Fatalf("only %d lines were told, the test sees too little", n)
	}
	for _, canary := range []string{"bot-token-canary", "path-secret-canary", "command-token-canary", hook} {
		if i := strings.Index(told.String(), canary); i >= 0 {
			t.Errorf("%s got out: …%s…", canary, told.String()[max(0, i-200):min(told.Len(), i+60)])
		}
	}
}
