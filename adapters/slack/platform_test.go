package slack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/slack/slacktest"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

func TestPostAndUpdate(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	ctx := ctxOf(t)
	if err := r.Check(ctx); err != nil {
		t.Fatal(err)
	}
	m := note("first <!channel> https://evil.example")
	m.Key = "k1"
	ref, err := r.Post(ctx, inOps(), m)
	if err != nil {
		t.Fatal(err)
	}
	stored, _ := r.slack.Message(ops1, ref)
	payload, _ := stored.Metadata["event_payload"].(map[string]any)
	if stored.Metadata["event_type"] != "ocim_message" || payload["key"] != "k1" || len(payload) != 1 {
		t.Errorf("got metadata %v, want the key alone", stored.Metadata)
	}
	if stored.UnfurlLinks != "false" || stored.UnfurlMedia != "false" || stored.Parse != "none" || stored.LinkNames {
		t.Errorf("got %+v, want nothing unfurled and nothing parsed", stored)
	}
	if err := r.Update(ctx, inOps(), ref, note("second")); err != nil {
		t.Fatal(err)
	}
	stored, _ = r.slack.Message(ops1, ref)
	if stored.Text != "second" || len(stored.Blocks) != 1 || stored.Edits() != 1 || stored.Metadata == nil {
		t.Errorf("got %+v, want text and blocks replaced and the metadata kept", stored)
	}
	thread := inOps()
	thread.Thread = ref
	reply := note("reply")
	reply.Broadcast = true
	if _, err := r.Post(ctx, thread, reply); err != nil {
		t.Fatal(err)
	}
	if all := r.slack.Thread(ops1, ref); len(all) != 2 || !all[1].Broadcast {
		t.Errorf("got thread %+v, want a reply that the channel sees as well", all)
	}
	want := "https://example.slack.com/archives/" + ops1 + "/p" + strings.Replace(ref, ".", "", 1)
	if got := r.Permalink(inOps(), ref); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := r.Permalink(thread, ref); got != want+"?thread_ts="+ref+"&cid="+ops1 {
		t.Errorf("got %q, want a link into the thread", got)
	}
	for _, bad := range []ops.Conversation{{}, {Platform: Platform, Workspace: "T9", Channel: ops1}, {Platform: Platform, Workspace: team, Channel: "C1/../x"}} {
		if got := r.Permalink(bad, ref); got != "" {
			t.Errorf("got %q for %+v, want none", got, bad)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	history := []string{"chat:write", "channels:history", "groups:history"}
	r := newRig(t, rigOptions{scopes: history})
	ctx := ctxOf(t)
	root, err := r.Post(ctx, inOps(), note("root"))
	if err != nil {
		t.Fatal(err)
	}
	thread := inOps()
	thread.Thread = root
	refs := map[string]string{}
	for i, to := range []ops.Conversation{inOps(), thread} {
		m := note("x")
		m.Key = fmt.Sprintf("key-%d", i)
		if refs[m.Key], err = r.Post(ctx, to, m); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, key string
		to        ops.Conversation
		want      string
	}{
		{"in the channel", "key-0", inOps(), refs["key-0"]},
		{"in the thread", "key-1", thread, refs["key-1"]},
		{"nowhere", "key-2", inOps(), ""},
		{"not in that thread", "key-0", thread, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, found, err := r.Find(ctx, tt.to, tt.key)
			if err != nil || got != tt.want || found != (tt.want != "") {
				t.Errorf("got %q, %v, %v, want %q", got, found, err, tt.want)
			}
		})
	}
	without := newRig(t, rigOptions{}) // configured, but the token has no such scope
	if _, _, err := without.Find(ctx, inOps(), "k"); !errors.Is(err, chat.ErrCannotFind) {
		t.Errorf("without scope: got %v, want ErrCannotFind", err)
	}
	off := newRig(t, rigOptions{scopes: history, change: func(w *Workspace) { w.History = false }})
	if _, _, err := off.Find(ctx, inOps(), "k"); !errors.Is(err, chat.ErrCannotFind) {
		t.Errorf("switched off: got %v, want ErrCannotFind", err)
	}
}

func TestFindReadsAllPages(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{scopes: []string{"chat:write", "channels:history"}})
	ctx := ctxOf(t)
	m := note("x")
	m.Key = "wanted"
	want, err := r.Post(ctx, inOps(), m)
	if err != nil {
		t.Fatal(err)
	}
	for range pageSize + 1 {
		if _, err := r.slack.Say(ann, ops1, "chatter", ""); err != nil {
			t.Fatal(err)
		}
	}
	if got, found, err := r.Find(ctx, inOps(), "wanted"); err != nil || !found || got != want {
		t.Errorf("got %q, %v, %v, want %q on the second page", got, found, err, want)
	}
}

func TestPeople(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{scopes: []string{"chat:write", "im:write", "users:read", "channels:read", "groups:read"}})
	ctx := ctxOf(t)
	if err := r.Check(ctx); err != nil {
		t.Fatal(err)
	}
	r.slack.SetUser(slacktest.User{ID: "U0GONE001", Name: "gone", Deleted: true})
	r.slack.SetUser(slacktest.User{ID: "U0FAR0001", Name: "far", TeamID: "T0OTHER01"})
	tests := []struct {
		user, channel string
		want          chat.Membership
	}{
		{ann, ops1, chat.Membership{Active: true, Member: true}},
		{"U0GUS0001", ops1, chat.Membership{Active: true, Guest: true, Member: true}},
		{"U0BEN0001", "C0SECRET1", chat.Membership{Active: true}},
		{"U0GONE001", ops1, chat.Membership{}},
		{"U0OCIMBOT", ops1, chat.Membership{}},
		{"U0NOBODY1", ops1, chat.Membership{}},
		{"U0FAR0001", ops1, chat.Membership{Active: true, Guest: true}},
	}
	for _, tt := range tests {
		t.Run(tt.user+" in "+tt.channel, func(t *testing.T) {
			to := inOps()
			to.Channel = tt.channel
			got, err := r.Member(ctx, ops.Actor{Platform: Platform, Workspace: team, UserID: tt.user}, to)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	d, err := r.Direct(ctx, ops.Actor{Platform: Platform, Workspace: team, UserID: ann})
	if err != nil || !strings.HasPrefix(d.Channel, "D") || d.Workspace != team || d.Platform != Platform {
		t.Errorf("got %+v, %v, want a direct conversation", d, err)
	}
	if _, err := r.Post(ctx, d, note("hello")); err != nil {
		t.Errorf("post to it: %v", err)
	}
	poor := newRig(t, rigOptions{scopes: []string{"users:read"}})
	m, err := poor.Member(ctx, ops.Actor{Platform: Platform, Workspace: team, UserID: "U0BEN0001"}, ops.Conversation{Platform: Platform, Workspace: team, Channel: "C0SECRET1"})
	if err != nil || !m.Member {
		t.Errorf("without scope: got %+v, %v, want a member, as documented", m, err)
	}
}

func TestF13_TroubleIsSortedByWhatMayHaveHappened(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0).UTC()
	tests := []struct {
		name    string
		fault   slacktest.Fault
		code    ops.Code
		reason  ops.Reason
		notSent bool
		retry   time.Duration
		stands  int // messages afterwards
	}{
		{"429 with Retry-After", slacktest.Fault{Kind: slacktest.TooMany, RetryAfter: 7 * time.Second}, ops.CodeUnavailable, ops.ReasonRateLimited, true, 7 * time.Second, 0},
		{"429 without", slacktest.Fault{Kind: slacktest.TooManyBare}, ops.CodeUnavailable, ops.ReasonRateLimited, true, defaultRetry, 0},
		{"429 for a day", slacktest.Fault{Kind: slacktest.TooMany, RetryAfter: 24 * time.Hour}, ops.CodeUnavailable, ops.ReasonRateLimited, true, maxRetry, 0},
		{"rate_limited in a 200", slacktest.Fault{Kind: slacktest.RateLimited}, ops.CodeUnavailable, ops.ReasonRateLimited, true, defaultRetry, 0},
		{"503 HTML", slacktest.Fault{Kind: slacktest.ServerError}, ops.CodeUnavailable, ops.ReasonChatUnavailable, false, 0, 0},
		{"500", slacktest.Fault{Kind: slacktest.ServerError, Status: 500}, ops.CodeUnavailable, ops.ReasonChatUnavailable, false, 0, 0},
		{"404", slacktest.Fault{Kind: slacktest.ServerError, Status: 404}, ops.CodeDenied, ops.ReasonChatUnavailable, false, 0, 0},
		{"cut", slacktest.Fault{Kind: slacktest.Cut}, ops.CodeUnavailable, ops.ReasonChatUnavailable, false, 0, 0},
		{"answer lost", slacktest.Fault{Kind: slacktest.Lost}, ops.CodeUnavailable, ops.ReasonChatUnavailable, false, 0, 1},
		{"fatal_error", slacktest.Fault{Kind: slacktest.Refuse, Error: "fatal_error"}, ops.CodeUnavailable, ops.ReasonChatUnavailable, false, 0, 0},
		{"not_in_channel", slacktest.Fault{Kind: slacktest.Refuse, Error: "not_in_channel"}, ops.CodeDenied, ops.ReasonChatUnavailable, false, 0, 0},
		{"channel_not_found", slacktest.Fault{Kind: slacktest.Refuse, Error: "channel_not_found"}, ops.CodeDenied, ops.ReasonChatUnavailable, false, 0, 0},
		{"is_archived", slacktest.Fault{Kind: slacktest.Refuse, Error: "is_archived"}, ops.CodeDenied, ops.ReasonChatUnavailable, false, 0, 0},
		{"cannot_reply_to_message", slacktest.Fault{Kind: slacktest.Refuse, Error: "cannot_reply_to_message"}, ops.CodeNotFound, ops.ReasonChatUnavailable, false, 0, 0},
		{"token_revoked", slacktest.Fault{Kind: slacktest.Refuse, Error: "token_revoked"}, ops.CodeDenied, ops.ReasonChatUnauthorized, false, 0, 0},
		{"missing_scope", slacktest.Fault{Kind: slacktest.Refuse, Error: "missing_scope"}, ops.CodeDenied, ops.ReasonChatUnauthorized, false, 0, 0},
		{"msg_too_long", slacktest.Fault{Kind: slacktest.Refuse, Error: "msg_too_long"}, ops.CodeInvalid, ops.ReasonInternal, false, 0, 0},
		{"a word we do not know", slacktest.Fault{Kind: slacktest.Refuse, Error: "brand_new_error"}, ops.CodeInvalid, ops.ReasonInternal, false, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{clock: clock.NewFake(now)})
			tt.fault.Method = "chat.postMessage"
			r.slack.Fail(tt.fault)
			_, err := r.Post(ctxOf(t), inOps(), note("x"))
			var e *ops.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *ops.Error", err)
			}
			if e.Code != tt.code || e.Reason != tt.reason || e.NotSent != tt.notSent {
				t.Errorf("got %s, %s, not sent %v; want %s, %s, %v", e.Code, e.Reason, e.NotSent, tt.code, tt.reason, tt.notSent)
			}
			want := time.Time{}
			if tt.retry > 0 {
				want = now.Add(tt.retry)
			}
			if !e.RetryAt.Equal(want) {
				t.Errorf("got retry at %v, want %v", e.RetryAt, want)
			}
			if calls := len(r.slack.Calls("chat.postMessage")); calls != 1 {
				t.Errorf("got %d calls, want 1: a post is never repeated here", calls)
			}
			if got := len(r.slack.Messages(ops1)); got != tt.stands {
				t.Errorf("got %d messages, want %d", got, tt.stands)
			}
		})
	}
}

func TestF13_LostAnswerIsFoundAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{scopes: []string{"chat:write", "channels:history"}})
	ctx := ctxOf(t)
	r.slack.Fail(slacktest.Fault{Kind: slacktest.Lost, Method: "chat.postMessage", Times: 1})
	m := note("card")
	m.Key = "k"
	if _, err := r.Post(ctx, inOps(), m); ops.CodeOf(err) != ops.CodeUnavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
	ref, found, err := r.Find(ctx, inOps(), "k")
	if err != nil || !found {
		t.Fatalf("got %v, %v, want it found", found, err)
	}
	if err := r.Update(ctx, inOps(), ref, note("edited")); err != nil {
		t.Fatal(err)
	}
	if msgs := r.slack.Messages(ops1); len(msgs) != 1 || msgs[0].Text != "edited" {
		t.Errorf("got %d messages, want one that was edited", len(msgs))
	}
}

func TestF13_NothingSentIsKnown(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	r := newRig(t, rigOptions{change: func(w *Workspace) { w.APIURL = "http://" + address + "/api/" }})
	var e *ops.Error
	if _, err := r.Post(ctxOf(t), inOps(), note("x")); !errors.As(err, &e) || e.Code != ops.CodeUnavailable || !e.NotSent {
		t.Errorf("nobody listens: got %+v, want unavailable and not sent", err)
	}
	ctx, cancel := context.WithCancel(ctxOf(t))
	cancel()
	if _, err := r.Post(ctx, inOps(), note("x")); !errors.As(err, &e) || !e.NotSent {
		t.Errorf("context over: got %+v, want not sent", err)
	}
}

func TestUpdateErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	ctx := ctxOf(t)
	if err := r.Update(ctx, inOps(), "1.000001", note("x")); ops.CodeOf(err) != ops.CodeNotFound {
		t.Errorf("no such message: got %v, want not_found", err)
	}
	foreign, err := r.slack.Say(ann, ops1, "mine", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Update(ctx, inOps(), foreign.TS, note("x")); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("another's message: got %v, want denied", err)
	}
	elsewhere := inOps()
	elsewhere.Workspace = "T9"
	if err := r.Update(ctx, elsewhere, "1.000001", note("x")); ops.CodeOf(err) != ops.CodeInvalid {
		t.Errorf("another workspace: got %v, want invalid", err)
	}
	bad := note("x")
	bad.Buttons = []chat.Button{{Label: "b", Verb: "b", Token: strings.Repeat("x", 2001)}}
	ref, err := r.Post(ctx, inOps(), bad)
	if err != nil {
		t.Fatalf("token too long: got %v, want the summary alone", err)
	}
	if m, _ := r.slack.Message(ops1, ref); r.slack.Read(m) != "x" || !strings.Contains(r.log.String(), "cut down to its summary") {
		t.Errorf("token too long: got %q, want the summary alone, and a line in the log", r.slack.Read(m))
	}
}

func TestTokenOfAnotherWorkspace(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{change: func(w *Workspace) { w.TeamID = "T0OTHER01" }})
	ctx, stop := context.WithCancel(ctxOf(t))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	to := inOps()
	to.Workspace = "T0OTHER01"
	if _, err := r.Post(ctx, to, note("x")); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("post: got %v, want denied", err)
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "another Slack workspace") {
		t.Errorf("got %v, want to be told of the wrong workspace", err)
	}
	if got := len(r.slack.Calls("chat.postMessage")); got != 0 {
		t.Errorf("got %d messages in somebody else's workspace, want none", got)
	}
	select {
	case err := <-done:
		t.Errorf("Run ended with %v, want it to go on for other workspaces", err)
	default:
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: got %v, want nil after its context ended", err)
	}
}

func TestDeadTokenEndsNothingAndHeals(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Unix(1_700_000_000, 0))
	r := newRig(t, rigOptions{clock: clk})
	r.slack.RevokeTokens("token_revoked")
	ctx, stop := context.WithCancel(ctxOf(t))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	if err := clk.Waiting(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := r.Readiness()[team]; err == nil || !strings.Contains(err.Error(), "token_revoked") {
		t.Errorf("got readiness %v, want the reason", err)
	}
	if !strings.Contains(r.log.String(), "level=ERROR") {
		t.Errorf("log has no error:\n%s", r.log)
	}
	r.slack.RevokeTokens("")
	clk.Advance(maxPace)
	if err := r.slack.Until(ctx, func() bool { return len(r.slack.Calls("auth.test")) == 2 }); err != nil {
		t.Fatal("the token was not tried again")
	}
	if err := errors.Join(r.Check(ctx), r.Ready()); err != nil {
		t.Errorf("got %v after the token works again, want ready", err)
	}
	r.slack.RevokeTokens("token_revoked")
	if _, err := r.Post(ctx, inOps(), note("x")); ops.CodeOf(err) != ops.CodeDenied || r.Ready() == nil {
		t.Errorf("got %v and ready, want a denial that shows", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

// TestT16_OnlySlackHostsAreCalled sends answers to addresses that a request might name.
func TestT16_OnlySlackHostsAreCalled(t *testing.T) {
	t.Parallel()
	var called []string
	a, err := New(Config{
		Workspaces: []Workspace{{TeamID: "T111", BotToken: secret.New("xoxb-t"), SigningSecrets: []secret.Secret{secret.New(testSecret)}}},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			called = append(called, r.URL.Host)
			return nil, errors.New("no network in this test")
		}),
	}, handlerFunc(silent))
	if err != nil {
		t.Fatal(err)
	}
	ws := a.order[0]
	good := []string{
		"https://hooks.slack.com/commands/T1/2/x", "https://hooks.slack.com:443/x", "https://slack.com/x",
		"https://acme.slack.com/x", "https://hooks.slack-gov.com/x",
	}
	for _, u := range good {
		if _, ok := ws.responseURL(u); !ok {
			t.Errorf("%q was refused, want it allowed", u)
		}
	}
	bad := []string{
		"", "http://hooks.slack.com/x", "https://hooks.slack.com:8443/x", "https://hooks.slack.com:80/x", "ftp://hooks.slack.com/x",
		"https://user@hooks.slack.com/x", "https://hooks.slack.com@evil.example/x", "https://evil.example/hooks.slack.com",
		"https://slack.com.evil.example/x", "https://evilslack.com/x", "https://evil-slack.com/x", "https://hooks.slack.com./x",
		"https://hooks.slack.com%2eevil.example/x", "https://hooks.slack.com%00.evil.example/", "https://evil.example#.slack.com",
		"https://evil.example?.slack.com", "https://evil.example\\.slack.com/", "https:\\\\hooks.slack.com", "//hooks.slack.com/x",
		"/x", "x", "https:///x", "https://", "https:hooks.slack.com", "https://127.0.0.1/x", "https://[::1]/x", "https://localhost/x",
		"https://0/x", "https://2130706433/x", "https://0x7f000001/x", "https://127.1/x", "https://169.254.169.254/latest/meta-data",
		"http://169.254.169.254/", "https://[::ffff:127.0.0.1]/", "https://10.0.0.1/", "https://192.168.0.1/", "https://metadata.google.internal/",
		"https://gitlab.internal/", "file:///etc/passwd", "gopher://hooks.slack.com/", "unix:///var/run/docker.sock", "data:,x",
		"javascript:alert(1)", "https://ѕlack.com/x", "https://hooks.ѕlack.com/x", "https://slack。com/x", "https://hooks.slack.com\n.evil.example/",
		"https://hooks.slack.com\t/x", " https://hooks.slack.com/x", "https://hooks.slack.com /x", "https://HOOKS.slack.com@evil/x",
		"https://hooks..slack.com/x", "https://.slack.com/x", "https://slack.com:0x1bb/x", "https://slack.com:/../@evil.example",
		"https://hooks.slack.com#@evil.example/", "HTTPS://EVIL.EXAMPLE/slack.com", "https://slack.co/x", "https://slack.community/x",
		"https://slack-gov.com.evil.example/x", "https://xslack-gov.com/x", "https://hooks.slack.com/" + strings.Repeat("x", 2048),
	}
	if len(bad) < 60 {
		t.Fatalf("got %d forms, want 60", len(bad))
	}
	for _, u := range bad {
		rep := a.newReplier(ws, ann)
		rep.responseURL = u
		if err := rep.respond(t.Context(), private{}); !errors.Is(err, errNoResponseURL) {
			t.Errorf("%q: got %v, want a refusal", u, err)
		}
	}
	if len(called) != 0 {
		t.Errorf("got calls to %q, want none", called)
	}
	// The API's own host is allowed exactly, and only where it is not Slack's.
	own := &workspace{Workspace: Workspace{APIURL: "http://127.0.0.1:8080/api/"}, api: &url.URL{Scheme: "http", Host: "127.0.0.1:8080"}}
	if _, ok := own.responseURL("http://127.0.0.1:8080/hooks/x"); !ok {
		t.Error("the API's own host was refused")
	}
	for _, u := range []string{"http://127.0.0.1:8081/x", "https://127.0.0.1:8080/x", "http://127.0.0.1/x", "http://x@127.0.0.1:8080/x"} {
		if _, ok := own.responseURL(u); ok {
			t.Errorf("%q was allowed", u)
		}
	}
}

// roundTripper makes a function a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestT16_RedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	victim := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer victim.Close()
	redirector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, code := range []int{301, 302, 303, 307, 308} {
			if strings.HasSuffix(r.URL.Path, fmt.Sprint(code)) {
				http.Redirect(w, r, victim.URL, code)
				return
			}
		}
		http.Redirect(w, r, victim.URL, http.StatusTemporaryRedirect)
	}))
	defer redirector.Close()
	a, err := New(Config{Workspaces: []Workspace{{
		TeamID: "T111", BotToken: secret.New("xoxb-t"), SigningSecrets: []secret.Secret{secret.New(testSecret)}, APIURL: redirector.URL + "/api/",
	}}, Transport: redirector.Client().Transport}, handlerFunc(silent))
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"301", "302", "303", "307", "308"} {
		rep := a.newReplier(a.order[0], ann)
		rep.responseURL = redirector.URL + "/hooks/" + code
		if err := rep.Later(ctxOf(t), note("x")); err == nil {
			t.Errorf("redirect %s: got no error, want one", code)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("got %d calls off the list, want 0", n)
	}
}

func TestT18_EndlessAnswersAreCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{scopes: []string{"chat:write", "channels:history"}})
	r.slack.Fail(slacktest.Fault{Kind: slacktest.Endless})
	ctx := ctxOf(t)
	if _, err := r.Post(ctx, inOps(), note("x")); ops.CodeOf(err) != ops.CodeUnavailable {
		t.Errorf("post: got %v, want unavailable", err)
	}
	if _, _, err := r.Find(ctx, inOps(), "k"); ops.CodeOf(err) != ops.CodeUnavailable {
		t.Errorf("find: got %v, want unavailable", err)
	}
	r.slack.Heal()
	if err := r.Check(ctx); err != nil {
		t.Fatal(err)
	}
	r.slack.Fail(slacktest.Fault{Kind: slacktest.Hang})
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	var e *ops.Error
	if _, err := r.Post(short, inOps(), note("x")); !errors.As(err, &e) || e.Code != ops.CodeUnavailable || e.NotSent {
		t.Errorf("hanging: got %v, want unavailable with an unknown outcome", err)
	}
}

// TestT20_NothingOfThePeerIsPassedOn lets a peer echo what it was sent, in every way it can answer.
func TestT20_NothingOfThePeerIsPassedOn(t *testing.T) {
	t.Parallel()
	const token, body, hook = "xoxb-CANARYTOKEN", "CANARYBODY", "CANARYHOOK"
	answers := []func(w http.ResponseWriter, echo string){
		func(w http.ResponseWriter, echo string) { http.Error(w, echo, http.StatusInternalServerError) },
		func(w http.ResponseWriter, echo string) { http.Error(w, echo, http.StatusForbidden) },
		func(w http.ResponseWriter, echo string) {
			w.Header().Set("Retry-After", echo)
			http.Error(w, echo, http.StatusTooManyRequests)
		},
		func(w http.ResponseWriter, echo string) { _, _ = fmt.Fprint(w, echo) },
		func(w http.ResponseWriter, echo string) { _, _ = fmt.Fprintf(w, `{"ok":false,"error":%q}`, echo) },
		func(w http.ResponseWriter, echo string) {
			_, _ = fmt.Fprintf(w, `{"ok":false,"error":"missing_scope","needed":%q}`, echo)
		},
		func(w http.ResponseWriter, echo string) {
			_, _ = fmt.Fprintf(w, `{"ok":true,"ts":%q,"url":%q,"team_id":%q,"channel":{"id":%q},"members":%q}`, echo, echo, echo, echo, echo)
		},
		func(w http.ResponseWriter, echo string) {
			http.Redirect(w, &http.Request{}, "https://"+hook+".example/"+url.PathEscape(echo), http.StatusFound)
		},
	}
	for i, answer := range answers {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				w.Header().Set("Content-Type", jsonType)
				answer(w, r.Header.Get("Authorization")+r.Form.Encode()+r.URL.String())
			}))
			r := newRig(t, rigOptions{change: func(w *Workspace) { w.BotToken, w.APIURL = secret.New(token), peer.URL+"/api/" }})
			t.Cleanup(peer.Close)
			ctx := ctxOf(t)
			m := note(body)
			m.Key = body
			who := ops.Actor{Platform: Platform, Workspace: team, UserID: body}
			rep := r.newReplier(r.order[0], body)
			rep.channel, rep.trigger, rep.responseURL = body, body, peer.URL+"/hooks/"+hook
			_, postErr := r.Post(ctx, inOps(), m)
			_, _, findErr := r.Find(ctx, inOps(), body)
			_, directErr := r.Direct(ctx, who)
			_, memberErr := r.Member(ctx, who, inOps())
			respondErr := rep.respond(ctx, private{})
			errs := []error{
				postErr, findErr, directErr, memberErr, respondErr, r.Update(ctx, inOps(), "1.2", m), r.Check(ctx),
				rep.OpenDialog(ctx, testDialog()), rep.Later(ctx, m),
			}
			var all strings.Builder
			for _, err := range errs {
				_, _ = fmt.Fprintf(&all, "%v %+v\n", err, err)
			}
			all.WriteString(r.log.String())
			if strings.Contains(all.String(), "CANARY") {
				t.Errorf("something of the peer or the request was passed on:\n%s", all.String())
			}
		})
	}
}
