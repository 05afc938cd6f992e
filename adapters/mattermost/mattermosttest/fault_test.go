package mattermosttest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/clock"
)

type fixture struct {
	srv     *mattermosttest.Server
	peer    *mattermosttest.Peer
	clock   *clock.Fake
	channel string
}

func setup(t *testing.T, o mattermosttest.Options) fixture {
	t.Helper()
	c := clock.NewFake(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	o.Clock = c
	srv := mattermosttest.New(t, o)
	p := srv.Peer(t)
	return fixture{srv: srv, peer: p, clock: c, channel: p.Channels[mattermosttest.Channel]}
}

func (f fixture) post(ctx context.Context) (mattermosttest.Answer, error) {
	return f.peer.Do(ctx, mattermosttest.Bot, http.MethodPost, "/posts", map[string]string{
		"channel_id": f.channel, "message": "x",
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		fault  mattermosttest.Fault
		status int // 0: no answer
		posts  int
		body   string
	}{
		{"rate limited", mattermosttest.Fault{Kind: mattermosttest.RateLimited}, 429, 0, "limit exceeded\n"},
		{"unavailable", mattermosttest.Fault{Kind: mattermosttest.Unavailable}, 503, 0, `{"id":"api.context.server_busy`},
		{"another status", mattermosttest.Fault{Kind: mattermosttest.Unavailable, Status: 500}, 500, 0, `{"id":`},
		{"html page", mattermosttest.Fault{Kind: mattermosttest.HTMLPage}, 502, 0, "<html>"},
		{"lost answer", mattermosttest.Fault{Kind: mattermosttest.LostAnswer}, 0, 1, ""},
		{"cut answer", mattermosttest.Fault{Kind: mattermosttest.CutAnswer}, 0, 1, ""},
		{"another method", mattermosttest.Fault{Kind: mattermosttest.Unavailable, Method: "PUT"}, 201, 1, `{"id":`},
		{"another path", mattermosttest.Fault{Kind: mattermosttest.Unavailable, Path: "/posts/*/patch"}, 201, 1, `{"id":`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, mattermosttest.Options{})
			tt.fault.Times = 1
			f.srv.Fail(tt.fault)
			a, err := f.post(t.Context())
			if (err != nil) != (tt.status == 0) || a.Status != tt.status || !strings.HasPrefix(string(a.Body), tt.body) {
				t.Errorf("got %d %q, %v, want %d %q", a.Status, a.Body, err, tt.status, tt.body)
			}
			if got := len(f.srv.Posts(f.channel)); got != tt.posts {
				t.Errorf("posts: got %d, want %d", got, tt.posts)
			}
			f.srv.ClearFaults()
			if a, err := f.post(t.Context()); err != nil || a.Status != http.StatusCreated {
				t.Errorf("afterwards: got %d, %v, want 201", a.Status, err)
			}
		})
	}
}

func TestHangEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	f := setup(t, mattermosttest.Options{})
	f.srv.Fail(mattermosttest.Fault{Kind: mattermosttest.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = f.srv.AwaitCalls(t.Context(), 1, http.MethodPost, "/posts")
		cancel()
	}()
	if _, err := f.post(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's own end", err)
	}
	if got := f.srv.CallsTo(http.MethodPost, "/posts"); len(got) != 1 || got[0].Fault != mattermosttest.Hang {
		t.Errorf("ledger: got %+v, want the call with its fault", got)
	}
}

func TestSlowAnswersOnTheClock(t *testing.T) {
	t.Parallel()
	f := setup(t, mattermosttest.Options{})
	f.srv.Fail(mattermosttest.Fault{Kind: mattermosttest.Slow, Delay: time.Minute})
	done := make(chan mattermosttest.Answer)
	go func() {
		a, err := f.post(t.Context())
		if err != nil {
			t.Errorf("got %v, want an answer", err)
		}
		done <- a
	}()
	if err := f.clock.Waiting(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(time.Minute)
	if a := <-done; a.Status != http.StatusCreated {
		t.Errorf("got %d, want 201", a.Status)
	}
}

func TestEndlessBodyGoesOn(t *testing.T) {
	t.Parallel()
	f := setup(t, mattermosttest.Options{})
	f.srv.Fail(mattermosttest.Fault{Kind: mattermosttest.Endless})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.srv.URL+"/api/v4/users/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if n, err := io.CopyN(io.Discard, resp.Body, 8<<20); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("got %d and %d bytes, %v, want 200 and 8 MiB", resp.StatusCode, n, err)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	f := setup(t, mattermosttest.Options{RateLimit: mattermosttest.RateLimit{PerSecond: 10, Burst: 5}})
	post := func() int {
		a, err := f.post(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a.Status == http.StatusTooManyRequests && (a.Header.Get("Retry-After") != "1" || a.Header.Get("X-RateLimit-Remaining") != "0") {
			t.Errorf("headers: got %v", a.Header)
		}
		return a.Status
	}
	for i := range 5 {
		if got := post(); got != http.StatusCreated {
			t.Errorf("call %d: got %d, want 201", i, got)
		}
	}
	if got := post(); got != http.StatusTooManyRequests {
		t.Errorf("sixth call: got %d, want 429", got)
	}
	f.clock.Advance(100 * time.Millisecond)
	if got := post(); got != http.StatusCreated {
		t.Errorf("after a tenth of a second: got %d, want 201", got)
	}
	if got := post(); got != http.StatusTooManyRequests {
		t.Errorf("and again: got %d, want 429", got)
	}
}

func TestLedgerMasksTokensAndKeepsVersions(t *testing.T) {
	t.Parallel()
	f := setup(t, mattermosttest.Options{})
	ctx := t.Context()
	token := f.peer.Accounts[mattermosttest.Bot].Token
	p, err := f.peer.CreatePost(ctx, mattermosttest.Bot, mattermosttest.Post{ChannelID: f.channel, Message: "my token is " + token})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"two", "three"} {
		_, err := f.peer.Do(ctx, mattermosttest.Bot, http.MethodPut, "/posts/"+p.ID+"/patch", map[string]string{"message": text})
		if err != nil {
			t.Fatal(err)
		}
	}
	calls := f.srv.CallsTo(http.MethodPost, "/posts")
	if len(calls) != 1 || calls[0].User != mattermosttest.Bot || calls[0].Status != http.StatusCreated {
		t.Fatalf("ledger: got %+v, want one create by the bot", calls)
	}
	if strings.Contains(calls[0].Body, token) || !strings.Contains(calls[0].Body, "my token is ***") {
		t.Errorf("ledger: got %s, want the token masked", calls[0].Body)
	}
	if got := len(f.srv.CallsTo("", "/posts/*/patch")); got != 2 {
		t.Errorf("patches: got %d, want 2", got)
	}
	f.srv.DeletePost(p.ID)
	history := f.srv.History(p.ID)
	if len(history) != 4 || history[1].Message != "two" || history[3].DeleteAt == 0 {
		t.Errorf("history: got %d versions, want created, two, three, deleted", len(history))
	}
	if got, found := f.srv.Post(p.ID); !found || got.Message != "three" {
		t.Errorf("post: got %q, %v, want its last text", got.Message, found)
	}
	if got := f.srv.Posts(f.channel); len(got) != 0 {
		t.Errorf("channel: got %d posts, want none", len(got))
	}
}

func TestThingsDoneBehindTheBot(t *testing.T) {
	t.Parallel()
	f := setup(t, mattermosttest.Options{})
	want := func(step string, status int) {
		t.Helper()
		if a, err := f.post(t.Context()); err != nil || a.Status != status {
			t.Errorf("%s: got %d, %v, want %d", step, a.Status, err, status)
		}
	}
	f.srv.RemoveMember(mattermosttest.Bot, f.channel)
	want("removed", http.StatusForbidden)
	f.srv.AddMember(mattermosttest.Bot, f.channel)
	want("added", http.StatusCreated)
	renewed := f.srv.RevokeTokens(mattermosttest.Bot)
	want("revoked", http.StatusUnauthorized)
	f.peer.Accounts[mattermosttest.Bot] = mattermosttest.Account{ID: f.peer.Accounts[mattermosttest.Bot].ID, Token: renewed}
	want("new token", http.StatusCreated)

	dev := f.srv.AddTeam("dev", []string{"alice", mattermosttest.Bot}, "alice")
	channel := f.srv.AddChannel(dev, "deploys", "alice", mattermosttest.Bot)
	if _, err := f.peer.CreatePost(t.Context(), mattermosttest.Bot, mattermosttest.Post{ChannelID: channel, Message: "x"}); err != nil {
		t.Errorf("second team: %v", err)
	}
}

// integration is a server that answers every request at its path as told.
func integration(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func (f fixture) command(t *testing.T, url string) mattermosttest.SlashCommand {
	t.Helper()
	a, err := f.peer.Do(t.Context(), mattermosttest.Bot, http.MethodPost, "/commands", mattermosttest.SlashCommand{
		TeamID: f.peer.TeamID, Trigger: "ocim", Method: "P", URL: url,
	})
	if err != nil || a.Err() != nil {
		t.Fatalf("register: %v %v", err, a.Err())
	}
	var cmd mattermosttest.SlashCommand
	if err := json.Unmarshal(a.Body, &cmd); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestGuardForbidsInternalAddresses(t *testing.T) {
	t.Parallel()
	app := integration(t, func(http.ResponseWriter, *http.Request) {})
	port := app.URL[strings.LastIndex(app.URL, ":"):]
	for _, tt := range []struct {
		name, allowed, host string
		reached             bool
	}{
		{"nothing allowed", "", "127.0.0.1", false},
		{"the address", "127.0.0.1", "127.0.0.1", true},
		{"another spelling", "127.0.0.1", "localhost", false},
		{"a name", "localhost", "localhost", true},
		{"a range", "127.0.0.0/8", "localhost", true},
		{"among others", "example.com 127.0.0.0/8", "127.0.0.1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, mattermosttest.Options{Guarded: true, AllowedInternal: tt.allowed})
			f.command(t, "http://"+tt.host+port+"/command")
			r, err := f.peer.Command(t.Context(), "alice", f.channel, "", "/ocim")
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Err == nil; got != tt.reached {
				t.Errorf("reached: got %v (%v), want %v", got, r.Err, tt.reached)
			}
			d := f.srv.Deliveries()
			if len(d) != 1 || tt.reached != (d[0].Err == "") || !tt.reached && !strings.Contains(d[0].Err, "address forbidden") {
				t.Errorf("deliveries: got %+v", d)
			}
		})
	}
}

func TestIntegrationHasThirtySeconds(t *testing.T) {
	t.Parallel()
	f := setup(t, mattermosttest.Options{})
	f.command(t, integration(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if err := f.clock.Waiting(r.Context(), 1); err == nil {
			f.clock.Advance(30 * time.Second)
		}
		<-r.Context().Done()
	}).URL)
	r, err := f.peer.Command(t.Context(), "alice", f.channel, "", "/ocim")
	if err != nil {
		t.Fatal(err)
	}
	if r.Err == nil || r.Err.ID != "api.command.execute_command.failed.app_error" {
		t.Errorf("got %v, want the command failed", r.Err)
	}
	if d := f.srv.Deliveries(); len(d) != 1 || !strings.Contains(d[0].Err, "too long") {
		t.Errorf("deliveries: got %+v, want a timeout", d)
	}
}
