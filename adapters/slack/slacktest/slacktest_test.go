package slacktest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slack-go/slack"

	"ocim/adapters/slack/slacktest"
	"ocim/internal/clock"
)

const (
	ann = "U0ANN0001"
	ben = "U0BEN0001"
	bot = "U0OCIMBOT"
	ops = "C0OPS0001"
)

// world is a server with a clock that stands still and a client of slack-go for it.
type world struct {
	*slacktest.Server
	clock *clock.Fake
	api   *slack.Client
}

func newWorld(t *testing.T, change ...func(*slacktest.Options)) world {
	t.Helper()
	clk := clock.NewFake(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
	o := slacktest.Options{Clock: clk}
	for _, f := range change {
		f(&o)
	}
	s, err := slacktest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return world{Server: s, clock: clk, api: client(s)}
}

func client(s *slacktest.Server) *slack.Client {
	return slack.New(s.BotToken(), slack.OptionAPIURL(s.APIURL()), slack.OptionAppLevelToken(s.AppToken()))
}

// within gives every test the same generous deadline on the machine's clock.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// serve starts a bot that answers every request with handle.
func (w world) serve(t *testing.T, handle http.HandlerFunc) {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	w.SetBotURL(srv.URL)
}

// fixture reads a shared sample, or skips the test when the samples are not there.
func fixture(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "shared", "fixtures", "slack", name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("sample %s is not on this machine", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// receive takes the next value and fails the test when none comes.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-within(t).Done():
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func decode[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("decode %.200s: %v", b, err)
	}
	return v
}

func section(text string) slack.Block {
	return slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, text, false, false), nil, nil)
}

func button(id, value, label string) *slack.ButtonBlockElement {
	return slack.NewButtonBlockElement(id, value, slack.NewTextBlockObject(slack.PlainTextType, label, false, false))
}

// post posts blocks to ops and returns the timestamp.
func (w world) post(t *testing.T, options ...slack.MsgOption) string {
	t.Helper()
	_, ts, err := w.api.PostMessageContext(within(t), ops, options...)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name    string            `json:"name"`
		Secret  string            `json:"signing_secret"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
		Valid   *bool             `json:"valid"`
	}
	file := decode[struct{ Vectors []vector }](t, fixture(t, "signature-vectors.json"))
	valid := 0
	for _, v := range file.Vectors {
		if v.Valid == nil || !*v.Valid {
			continue
		}
		valid++
		got := slacktest.Sign(v.Secret, v.Headers[slacktest.HeaderTimestamp], []byte(v.Body))
		if want := v.Headers[slacktest.HeaderSignature]; got != want {
			t.Errorf("%s: got signature %s, want %s", v.Name, got, want)
		}
	}
	if valid < 5 {
		t.Errorf("got %d valid vectors, want at least 5", valid)
	}
}

func TestSentRequestsAndTheirCorruptions(t *testing.T) {
	t.Parallel()
	// slack-go's verifier reads the machine's clock.
	w := newWorld(t, func(o *slacktest.Options) { o.Clock = clock.System{} })
	w.serve(t, func(rw http.ResponseWriter, r *http.Request) {
		v, err := slack.NewSecretsVerifier(r.Header, w.SigningSecret())
		if err == nil {
			if _, err = io.Copy(&v, r.Body); err == nil {
				err = v.Ensure()
			}
		}
		if err != nil {
			rw.WriteHeader(http.StatusUnauthorized)
		}
	})
	req, err := w.CommandRequest(slacktest.CommandOpts{User: ann, Channel: ops, Text: "deploy ünï demo"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		req  slacktest.Request
		want int
	}{
		{"as sent", req, 200},
		{"replayed", req, 200}, // a signature alone does not stop a replay
		{"four minutes old", w.Stale(req, 4*time.Minute), 200},
		{"six minutes old", w.Stale(req, 6*time.Minute), 401},
		{"six minutes ahead", w.Stale(req, -6*time.Minute), 401},
		{"forged", w.Forged(req), 401},
		{"tampered", w.Tampered(req), 401},
		{"unsigned", w.Unsigned(req), 401},
	}
	for _, tt := range tests {
		if got := w.Send(within(t), tt.req).Status; got != tt.want {
			t.Errorf("%s: got status %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestLiveMessageIsPostedUpdatedAndRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ts := w.post(t, slack.MsgOptionText("deploying", false), slack.MsgOptionBlocks(
		section("*deploy* by <@"+ann+"> in <#"+ops+">: 1 &lt; 2"),
		slack.NewActionBlock("acts", button("cancel", "op-1", "Cancel")),
	))
	m, ok := w.Message(ops, ts)
	if !ok {
		t.Fatal("the message is not there")
	}
	if got, want := w.Read(m), "*deploy* by @ann in #ops: 1 < 2\n[Cancel]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.clock.Advance(4 * time.Second)
	_, _, _, err := w.api.UpdateMessageContext(within(t), ops, ts,
		slack.MsgOptionText("done", false), slack.MsgOptionBlocks(section("*done*")))
	if err != nil {
		t.Fatal(err)
	}
	m, _ = w.Message(ops, ts)
	if got, want := m.Edits(), 1; got != want {
		t.Errorf("got %d edits, want %d", got, want)
	}
	if got, want := m.Revisions[1].At.Sub(m.Posted()), 4*time.Second; got != want {
		t.Errorf("got the edit after %v, want %v", got, want)
	}
	if got, want := w.Read(m), "*done*"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// Text alone removes the blocks.
	if _, _, _, err = w.api.UpdateMessageContext(within(t), ops, ts, slack.MsgOptionText("plain", false)); err != nil {
		t.Fatal(err)
	}
	m, _ = w.Message(ops, ts)
	if m.Blocks != nil || w.Read(m) != "plain" || !m.Edited {
		t.Errorf("got %d blocks, text %q, edited %v, want none, plain, true", len(m.Blocks), w.Read(m), m.Edited)
	}
	if got, want := len(w.Calls("chat.postMessage", "chat.update")), 3; got != want {
		t.Errorf("got %d calls, want %d", got, want)
	}
	if got, want := w.Calls("chat.update")[0].Args["token"], "xoxb-…"; got != want {
		t.Errorf("got token %q in the ledger, want %q", got, want)
	}
}

func TestTimestampsAreUniqueOnAStandingClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	last := ""
	for range 50 {
		ts := w.post(t, slack.MsgOptionText("x", false))
		if ts <= last {
			t.Fatalf("got ts %s after %s, want a later one", ts, last)
		}
		last = ts
	}
}

func TestManyAtOnceKeepOrderAndCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := within(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				_, ts, err := w.api.PostMessageContext(ctx, ops, slack.MsgOptionText("x", false))
				if err == nil {
					_, _, _, err = w.api.UpdateMessageContext(ctx, ops, ts, slack.MsgOptionText("y", false))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	messages := w.Messages(ops)
	if got, want := len(messages), 160; got != want {
		t.Fatalf("got %d messages, want %d", got, want)
	}
	for i, m := range messages {
		if m.Edits() != 1 || i > 0 && m.TS <= messages[i-1].TS {
			t.Errorf("message %d: got %d edits and ts %s", i, m.Edits(), m.TS)
		}
	}
}

func TestUploadElsewhereIsRefusedByTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetUploadBase("http://127.0.0.1:1")
	_, err := w.api.UploadFileContext(within(t), slack.UploadFileParameters{Content: "x", FileSize: 1, Filename: "a", Channel: ops})
	if err == nil || !strings.Contains(err.Error(), "refusing to send the token") {
		t.Errorf("got %v, want the client to refuse", err)
	}
}

func TestDirectMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "hello") })
	dm, err := w.DirectChannel(ann)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Command(within(t), slacktest.CommandOpts{User: ann, Channel: dm, Text: "help"})
	if err != nil || r.Message == nil || r.Message.Channel != dm {
		t.Errorf("got %+v, %v, want an answer in %s", r, err, dm)
	}
	// A command belongs to its typist alone: others are not in the conversation.
	if _, err := w.Command(within(t), slacktest.CommandOpts{User: ben, Channel: dm}); !errors.Is(err, slacktest.ErrNoChannel) {
		t.Errorf("got %v, want %v", err, slacktest.ErrNoChannel)
	}
}

func TestCommandAnswersAsPeopleSeeThem(t *testing.T) {
	t.Parallel()
	jsonBody := func(body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, body)
		}
	}
	tests := []struct {
		name              string
		bot               http.HandlerFunc
		errCode, to, read string
		shown             bool
	}{
		{name: "empty", bot: func(http.ResponseWriter, *http.Request) {}},
		{name: "plain text", bot: func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "on it") }, to: ann, read: "on it"},
		{name: "ephemeral", bot: jsonBody(`{"text":"on it"}`), to: ann, read: "on it"},
		{name: "in channel", bot: jsonBody(`{"response_type":"in_channel","text":"on it"}`), read: "on it", shown: true},
		{name: "only the command", bot: jsonBody(`{"response_type":"in_channel"}`), shown: true},
		{name: "bad json", bot: jsonBody(`{`), errCode: "invalid_command_response"},
		{name: "bad blocks", bot: jsonBody(`{"blocks":[{"type":"sections"}]}`), errCode: "invalid_command_response"},
		{name: "unauthorized", bot: func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(401) }, errCode: "http_client_error"},
		{name: "broken", bot: func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, errCode: "http_service_error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.serve(t, tt.bot)
			r, err := w.Command(within(t), slacktest.CommandOpts{User: ann, Channel: ops, Text: "help"})
			if err != nil {
				t.Fatal(err)
			}
			if r.Error != tt.errCode || r.Shown != tt.shown {
				t.Errorf("got error %q, shown %v, want %q, %v", r.Error, r.Shown, tt.errCode, tt.shown)
			}
			if tt.read == "" {
				if r.Message != nil {
					t.Fatalf("got a message %+v, want none", r.Message)
				}
				return
			}
			if r.Message == nil || w.Read(*r.Message) != tt.read || r.Message.To != tt.to {
				t.Errorf("got message %+v, want %q to %q", r.Message, tt.read, tt.to)
			}
		})
	}
}

func TestCommandDeadlineIsThreeSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	w.serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	got := make(chan slacktest.Reply, 1)
	ctx := within(t)
	go func() {
		r, err := w.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops, Text: "deploy demo"})
		if err != nil {
			t.Error(err)
		}
		got <- r
	}()
	if err := w.clock.Waiting(ctx, 1); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(3 * time.Second)
	if r := receive(t, got); r.Error != "operation_timeout" || r.Answer.Took != 3*time.Second {
		t.Errorf("got %q after %v, want operation_timeout after 3s", r.Error, r.Answer.Took)
	}
}

func TestCommandFieldsParseAndAreEscaped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := make(chan slack.SlashCommand, 1)
	w.serve(t, func(_ http.ResponseWriter, r *http.Request) {
		c, err := slack.SlashCommandParse(r)
		if err != nil {
			t.Error(err)
		}
		got <- c
	})
	text := "deploy @ann #ops #secret @nobody https://example.com/?a=1&b=2"
	if _, err := w.Command(within(t), slacktest.CommandOpts{User: ann, Channel: ops, Text: text}); err != nil {
		t.Fatal(err)
	}
	c := receive(t, got)
	if want := "deploy <@U0ANN0001> <#C0OPS0001|ops> <#C0SECRET1|> @nobody <https://example.com/?a=1&b=2>"; c.Text != want {
		t.Errorf("got text %q, want %q", c.Text, want)
	}
	for name, v := range map[string]string{
		"team": c.TeamID, "channel": c.ChannelID, "user": c.UserID, "command": c.Command,
		"response_url": c.ResponseURL, "trigger": c.TriggerID, "app": c.APIAppID,
	} {
		if v == "" {
			t.Errorf("%s is empty", name)
		}
	}
}

func TestClickCarriesTheStoredMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := make(chan slack.InteractionCallback, 1)
	w.serve(t, func(_ http.ResponseWriter, r *http.Request) {
		c, err := slack.InteractionCallbackParse(r)
		if err != nil {
			t.Error(err)
		}
		got <- c
	})
	ts := w.post(t, slack.MsgOptionText("x", false), slack.MsgOptionBlocks(
		slack.NewActionBlock("acts", button("cancel", "op-1", "Cancel"))))
	a, err := w.Click(within(t), ann, ops, ts, "cancel")
	if err != nil {
		t.Fatal(err)
	}
	if !a.OK() {
		t.Errorf("got answer %+v, want it acknowledged", a)
	}
	c := receive(t, got)
	if c.Type != slack.InteractionTypeBlockActions || c.User.ID != ann || c.Container.MessageTs != ts || c.Message.Timestamp != ts {
		t.Errorf("got type %s, user %s, container %s, message %s", c.Type, c.User.ID, c.Container.MessageTs, c.Message.Timestamp)
	}
	if b := c.ActionCallback.BlockActions; len(b) != 1 || b[0].Value != "op-1" || b[0].BlockID != "acts" {
		t.Errorf("got actions %+v, want one with value op-1", b)
	}
	if _, err := w.Click(within(t), ann, ops, ts, "approve"); !errors.Is(err, slacktest.ErrNoElement) {
		t.Errorf("got %v for a button that is not there, want %v", err, slacktest.ErrNoElement)
	}
	if _, err := w.Click(within(t), "U0STRANGE", ops, ts, "cancel"); !errors.Is(err, slacktest.ErrNoUser) {
		t.Errorf("got %v for a stranger, want %v", err, slacktest.ErrNoUser)
	}
}
