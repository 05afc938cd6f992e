package mattermost_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/internal/logtest"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

const (
	workspace  = "main"
	pathSecret = "path-secret-0123456789abcdef"
)

// rig is a bot connected to a fake server, with a handler that a test writes.
type rig struct {
	*mattermosttest.Peer
	fake  *mattermosttest.Server
	bot   *mattermost.Adapter
	url   string // of the bot
	clock *clock.Fake
	store *memTokens
	log   *logtest.Buffer
	sign  *ops.Signer

	mu     sync.Mutex
	seen   []chat.Incoming
	answer func(context.Context, chat.Incoming) chat.Answer
}

// newRig returns a registered bot. Changes to the configuration are optional.
func newRig(t *testing.T, change ...func(*mattermost.Config)) *rig {
	t.Helper()
	r := newQuietRig(t, change...)
	if err := r.bot.Register(t.Context()); err != nil {
		t.Fatalf("register: %v", err)
	}
	return r
}

// newQuietRig is newRig before the bot has made any call.
func newQuietRig(t *testing.T, change ...func(*mattermost.Config)) *rig {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	r := &rig{
		fake: mattermosttest.New(t, mattermosttest.Options{Clock: fake}), clock: fake,
		store: &memTokens{m: map[string]secret.Secret{}}, log: &logtest.Buffer{}, sign: signer(t, "k"),
	}
	r.Peer = r.fake.Peer(t)
	var handler http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { handler.ServeHTTP(w, q) }))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	cfg := mattermost.Config{
		Servers: []mattermost.Server{{
			Name: workspace, URL: r.fake.URL, BotToken: secret.New(r.Accounts[mattermosttest.Bot].Token),
			Teams: []string{mattermosttest.Team}, PathSecret: secret.New(pathSecret),
		}},
		CallbackURL: srv.URL, Signer: r.sign, Tokens: r.store, Clock: fake,
		Logger: slog.New(slog.NewJSONHandler(r.log, nil)), Transport: transport,
	}
	for _, f := range change {
		f(&cfg)
	}
	bot, err := mattermost.New(cfg, r)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	r.bot, handler = bot, bot.Handler()
	t.Cleanup(bot.Wait)
	return r
}

func signer(t *testing.T, letter string) *ops.Signer {
	t.Helper()
	s, err := ops.NewSigner([]byte(strings.Repeat(letter, 32)))
	if err != nil {
		t.Fatalf("signer: %v", err)
	}
	return s
}

// Handle implements chat.Handler.
func (r *rig) Handle(ctx context.Context, in chat.Incoming) chat.Answer {
	r.mu.Lock()
	r.seen = append(r.seen, in)
	answer := r.answer
	r.mu.Unlock()
	if answer == nil {
		return chat.Answer{}
	}
	return answer(ctx, in)
}

func (r *rig) answers(f func(context.Context, chat.Incoming) chat.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// says makes the handler answer everything with m.
func (r *rig) says(m *chat.Message) {
	r.answers(func(context.Context, chat.Incoming) chat.Answer { return chat.Answer{Message: m} })
}

// handled is what reached the handler since the last call of handled.
func (r *rig) handled() []chat.Incoming {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.seen
	r.seen = nil
	return out
}

func (r *rig) channel() ops.Conversation {
	return ops.Conversation{Platform: mattermost.Platform, Workspace: workspace, Channel: r.Channels[mattermosttest.Channel]}
}

func (r *rig) actor(name string) ops.Actor {
	return ops.Actor{Platform: mattermost.Platform, Workspace: workspace, UserID: r.Accounts[name].ID}
}

// send posts to a route of the bot as anybody on the network can.
func (r *rig) send(t *testing.T, path, contentType string, body io.Reader) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("send to %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (r *rig) sendForm(t *testing.T, form url.Values) (status int, answer string) {
	t.Helper()
	return r.send(t, route("commands"), "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

func route(kind string) string { return routeUnder(kind, pathSecret) }

func routeUnder(kind, secret string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(kind))
	return "/mattermost/" + kind + "/" + workspace + "/" + hex.EncodeToString(m.Sum(nil))
}

// form is a slash command of alice's as the server would send it.
func (r *rig) form(t *testing.T, trigger string) url.Values {
	t.Helper()
	return r.formWith(r.fake.Commands()[0].Token, trigger)
}

func (r *rig) formWith(token, trigger string) url.Values {
	return url.Values{
		"token": {token}, "team_id": {r.TeamID}, "channel_id": {r.Channels[mattermosttest.Channel]},
		"user_id": {r.Accounts["alice"].ID}, "user_name": {"alice"}, "command": {"/ocim"}, "text": {"help"},
		"trigger_id": {trigger}, "response_url": {r.fake.URL + "/hooks/commands/" + strings.Repeat("x", 26)},
	}
}

// memTokens is a TokenStore in memory.
type memTokens struct {
	mu   sync.Mutex
	m    map[string]secret.Secret
	fail error
}

func (s *memTokens) Get(_ context.Context, name string) (secret.Secret, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.m[name]
	return v, ok, nil
}

func (s *memTokens) Put(_ context.Context, name string, v secret.Secret) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.m[name] = v
	return nil
}

// card is a message as an operation has it.
func card(key string) chat.Message {
	return chat.Message{
		Key: key, Summary: "Deploy demo: running", Tone: chat.ToneBusy,
		Blocks: []chat.Block{
			{Kind: chat.Heading, Text: chat.Text{{Text: "Deploy demo"}}},
			{Kind: chat.Fields, Fields: []chat.Entry{
				{Label: "State", Text: chat.Text{{Text: "running"}}},
				{Label: "Instance", Text: chat.Text{{Style: chat.Mono, Text: "prod/demo"}}},
			}},
			{Kind: chat.Context, Text: chat.Text{{Text: "operation 7KQ2"}}},
		},
		Buttons: []chat.Button{
			{Label: "Cancel", Verb: "cancel", Token: "token-of-" + key, Style: chat.ButtonDanger},
			{Label: "Open in GitLab", Verb: "open", URL: "https://gitlab.example.org/p/-/pipelines/1"},
		},
	}
}
