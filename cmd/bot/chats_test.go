package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/slack/slacktest"
	"ocim/ops"
)

// endless is a pipeline that runs until it is canceled.
func endless() rigOption {
	return plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: 100 * time.Hour}}}}})
}

func TestCancelButtonAsksAndCancelsOnEveryPlatform(t *testing.T) {
	t.Parallel()
	r := newRig(t, talking, endless())
	p := r.run().online().inhabit()
	for i, s := range []*slacktest.Server{p.talk.http, p.talk.socket} {
		if a, err := s.Click(t.Context(), ann, slackOps, p.cards[i].TS, buttonID(t, p.cards[i], "Cancel")); err != nil || !a.OK() {
			t.Fatalf("slack %d: click: %+v, %v", i, a, err)
		}
		views := s.Views(ann)
		if len(views) == 0 {
			t.Fatalf("slack %d: no question was asked", i)
		}
		question := views[len(views)-1]
		mustContain(t, s.ReadView(question), "is running")
		if sub, err := s.SubmitView(t.Context(), ann, question.ID, nil); err != nil || !sub.Closed {
			t.Fatalf("slack %d: submit: %+v, %v", i, sub, err)
		}
	}
	peer, channel := p.talk.peer, p.post.ChannelID
	got, err := peer.Click(t.Context(), "alice", p.post, p.post.Actions()[0].ID, "")
	if err != nil || len(got.Dialogs) != 1 {
		t.Fatalf("mattermost: click: %v, %q, %d dialogs; want the question", err, got.Text(), len(got.Dialogs))
	}
	mustContain(t, got.Dialogs[0].Dialog.IntroductionText, "is running")
	if got, err = peer.SubmitDialog(t.Context(), "alice", channel, got.Dialogs[0], nil); err != nil || got.Err != nil || got.DialogError != "" {
		t.Fatalf("mattermost: submit: %v, %+v", err, got)
	}
	p.pump(func() bool {
		return p.in(p.ids[0], ops.Canceled) && p.in(p.ids[1], ops.Canceled) && p.in(p.ids[2], ops.Canceled)
	})
}

// page is the status and the text of an address.
func page(t *testing.T, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

func TestReadyzNamesTheChatsThatDoNotWork(t *testing.T) {
	t.Parallel()
	r := newRig(t, talking, endless())
	r.talk.http.RevokeTokens("token_revoked")
	l := r.run().online()
	readyz, metrics := l.adminURL()+"/readyz", l.adminURL()+"/metrics"
	l.pump(func() bool {
		return !strings.Contains(page(t, readyz), socketTeam) && !strings.Contains(page(t, readyz), "mattermost mm")
	})
	// One dead token does not take the bot away from the others.
	mustContain(t, page(t, readyz), "200 ready\n", "slack "+slackTeam+" is not ready: ", "token_revoked")
	mustContain(t, page(t, metrics), `ocim_chat_ready{platform="slack",workspace="`+slackTeam+`"} 0`, `ocim_chat_ready{platform="mattermost",workspace="mm"} 1`)

	r.talk.http.RevokeTokens("")
	l.pump(func() bool { return page(t, readyz) == "200 ready\n" })

	// Later outages are told, but the others keep their bot.
	r.talk.http.RevokeTokens("token_revoked")
	to := ops.Conversation{Platform: "slack", Workspace: slackTeam, Channel: slackOps}
	if _, err := r.app.chats["slack"].Post(t.Context(), to, *chat.Notice(chat.ToneNeutral, "x")); err == nil {
		t.Fatal("got no error with a revoked token")
	}
	mustContain(t, page(t, readyz), "200 ready\n", "slack "+slackTeam+" is not ready: ")
	mustContain(t, page(t, metrics), `ocim_chat_ready{platform="slack",workspace="`+slackTeam+`"} 0`)
}

// mute is a chat of which it is told when it works.
type mute struct {
	chat.Platform
	err error
}

func (m mute) Readiness() map[string]error { return map[string]error{"w": m.err} }

func TestChatsWithoutReadinessDoNotCount(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	none := func() map[string]error { return nil }
	c := newHealth(map[string]chat.Platform{"quiet": nil, "mute": mute{err: errors.New("away\nforged line")}}, none, m.registry)
	if trouble, started := c.look(); started || trouble != "mute w is not ready: away forged line\n" {
		t.Errorf("got %q, %v, want one line and not started", trouble, started)
	}
	c = newHealth(map[string]chat.Platform{"quiet": nil}, none, newMetrics().registry)
	if trouble, started := c.look(); !started || trouble != "" {
		t.Errorf("without a chat that could tell: got %q, %v, want nothing and started", trouble, started)
	}
}

func TestCheckBuildsTheChats(t *testing.T) {
	t.Setenv("OCIM_TEST_K", rigKey)
	t.Setenv("OCIM_TEST_T", "bot-token-of-the-tests")
	t.Setenv("OCIM_TEST_P", rigPath)
	file := filepath.Join(t.TempDir(), "ocim.yaml")
	text := `
key: env:OCIM_TEST_K
public_url: "https://ocim.example.org/` + strings.Repeat("x", 1000) + `"
mattermost:
  - {name: chat, url: "https://chat.example.org", teams: [ops], bot_token: "env:OCIM_TEST_T", path_secret: "env:OCIM_TEST_P"}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"check", "--config", file}, nil, &out, &errOut); code != exitUsage {
		t.Errorf("got exit code %d, want %d: serve would refuse it", code, exitUsage)
	}
	mustContain(t, errOut.String(), "longer than 1024 bytes")
}
