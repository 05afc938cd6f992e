package slack

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ocim/adapters/chat"
	"ocim/adapters/slack/slacktest"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ann  = "U0ANN0001"
	ops1 = "C0OPS0001"
	team = "T0OCIM001"
)

// rig is an adapter connected to a fake Slack over HTTP.
type rig struct {
	*Adapter
	slack *slacktest.Server
	log   *syncBuffer
}

// syncBuffer collects a log that goroutines write.
type syncBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	panic string
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panic != "" && bytes.Contains(p, []byte(s.panic)) {
		panic("the log broke")
	}
	return s.b.Write(p)
}

// panicOn makes lines with this text panic.
func (s *syncBuffer) panicOn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.panic = text
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type rigOptions struct {
	clock   clock.Clock
	handler handlerFunc
	change  func(*Workspace)
	scopes  []string
	socket  bool
}

func newRig(tb testing.TB, o rigOptions) *rig {
	tb.Helper()
	if o.handler == nil {
		o.handler = silent
	}
	srv, err := slacktest.New(slacktest.Options{Clock: o.clock, Scopes: o.scopes, PingEvery: time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	ws := Workspace{
		TeamID: team, SigningSecrets: []secret.Secret{secret.New(srv.SigningSecret())},
		BotToken: secret.New(srv.BotToken()), APIURL: srv.APIURL(), History: true,
	}
	if o.socket {
		ws.Socket, ws.AppToken, ws.SigningSecrets = true, secret.New(srv.AppToken()), nil
	}
	if o.change != nil {
		o.change(&ws)
	}
	r := &rig{slack: srv, log: &syncBuffer{}}
	transport := &http.Transport{}
	r.Adapter, err = New(Config{
		Workspaces: []Workspace{ws}, Clock: o.clock, Transport: transport,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}, o.handler)
	if err != nil {
		tb.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, h := range r.Routes() {
		mux.Handle(path, h)
	}
	bot := httptest.NewServer(mux)
	if !o.socket {
		srv.SetBotURL(bot.URL)
	}
	tb.Cleanup(func() {
		bot.Close()
		r.Wait()
		transport.CloseIdleConnections()
		srv.Close()
	})
	return r
}

func ctxOf(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

func inOps() ops.Conversation {
	return ops.Conversation{Platform: Platform, Workspace: team, Channel: ops1}
}

func note(text string) chat.Message {
	return chat.Message{
		Summary: text, Blocks: []chat.Block{{Kind: chat.Paragraph, Text: chat.Text{{Text: text}}}},
	}
}

// untilEphemeral waits for the n-th message that only ann sees.
func untilEphemeral(tb testing.TB, r *rig, n int) slacktest.Message {
	tb.Helper()
	if err := r.slack.Until(ctxOf(tb), func() bool { return len(r.slack.Ephemerals(ann)) >= n }); err != nil {
		tb.Fatalf("waiting for private message %d: %v", n, err)
	}
	return r.slack.Ephemerals(ann)[n-1]
}
