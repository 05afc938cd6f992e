//go:build e2e

package process_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"ocim/e2e/process"
)

func bot(t *testing.T) *process.Bot {
	t.Helper()
	b, err := process.New(t.Context(), process.Options{Dir: t.TempDir(), Crash: true, Config: process.Config{
		Slack: []process.Slack{
			{Workspace: "T0HTTP", SigningSecret: "signing-secret-of-the-tests", BotToken: "xoxb-token-of-the-tests", APIURL: "http://127.0.0.1:1/api/", Users: []string{"U1"}},
		},
		Mattermost: []process.Mattermost{
			{Name: "chat", URL: "http://127.0.0.1:1", BotToken: "bot-token-of-the-tests", Teams: []string{"ops"}, PathSecret: "path-secret-of-the-tests"},
		},
		GitLab: process.GitLab{
			URL: "http://127.0.0.1:1", Project: 1, Token: "glpat-readtokenofthetests0001", TriggerToken: "glptt-triggertokenofthetests",
			Timeout: time.Second, Linger: time.Second,
		},
		Fast: time.Second, Slow: 2 * time.Second, InFlight: 10, Operations: "{deploy: {follow: none}}",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the bot's log:\n%s", b.Tail(20))
		}
	})
	return b
}

func start(t *testing.T, b *process.Bot, env ...string) {
	t.Helper()
	if err := b.Start(t.Context(), env...); err != nil {
		t.Fatal(err)
	}
}

func healthy(t *testing.T, b *process.Bot) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.AdminURL()+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusOK {
		t.Errorf("/healthz: got %d, want %d", res.StatusCode, http.StatusOK)
	}
}

func TestBotServesBetweenStartAndEnd(t *testing.T) {
	t.Parallel()
	b := bot(t)
	if _, err := b.Usage(); !errors.Is(err, process.ErrEnded) {
		t.Errorf("usage before the start: got %v, want %v", err, process.ErrEnded)
	}
	start(t, b)
	healthy(t, b)
	if err := b.Start(t.Context()); !errors.Is(err, process.ErrRunning) {
		t.Errorf("second start: got %v, want %v", err, process.ErrRunning)
	}
	u, err := b.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if u.RSS < 1<<20 || u.PeakRSS < u.RSS || u.FDs < 5 || u.Threads < 2 || b.UpAfter() <= 0 {
		t.Errorf("got usage %+v after a start of %s, want something of everything", u, b.UpAfter())
	}
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	healthy(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code, err := b.Terminate(ctx)
	if err != nil || code != 0 {
		t.Errorf("terminate: got exit code %d, %v, want 0", code, err)
	}
	if b.Running() {
		t.Error("the bot runs after its end")
	}
}

func TestBotEndsAtACrashPoint(t *testing.T) {
	t.Parallel()
	b := bot(t)
	if err := b.Start(t.Context(), "OCIM_CRASH_AT=store.migrate.before"); !errors.Is(err, process.ErrEnded) {
		t.Fatalf("start with a crash: got %v, want %v", err, process.ErrEnded)
	}
	if code, err := b.Wait(t.Context()); err != nil || code != -1 {
		t.Errorf("exit after a kill: got %d, %v, want -1", code, err)
	}
	start(t, b)
	healthy(t, b)
}
