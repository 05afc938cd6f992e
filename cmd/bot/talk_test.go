package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ocim/adapters/mattermost/mattermosttest"
	"ocim/adapters/slack/slacktest"
	"ocim/ops"
)

// The secrets of the chat platforms of the rig.
const (
	rigSigning = "slack-signing-secret-0123456789ab"
	rigPath    = "path-secret-of-the-tests-0123456789"
	socketTeam = "T0SOCKET1"
	slackTeam  = "T0OCIM001"
	slackOps   = "C0OPS0001"
	ann        = "U0ANN0001"
)

// talk is a Slack that sends over HTTP, one that sends over sockets, and a Mattermost.
type talk struct {
	t            *testing.T
	http, socket *slacktest.Server
	matter       *mattermosttest.Server
	peer         *mattermosttest.Peer
	first        net.Listener // of the bot: Mattermost must know its address from the start
	address      string
}

// talking gives the rig people in Slack and Mattermost. Only a program that runs can hear them.
func talking(s *rigSetup) { s.talk = true }

func newTalk(r *rig) *talk {
	t := r.t
	t.Helper()
	k := &talk{t: t}
	scopes := []string{"commands", "chat:write", "im:write", "users:read", "channels:read", "channels:history", "groups:history", "im:history"}
	var err error
	if k.http, err = slacktest.New(slacktest.Options{Clock: r.clock, SigningSecret: rigSigning, Scopes: scopes}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.http.Close)
	ws := slacktest.DefaultWorkspace()
	ws.ID = socketTeam
	if k.socket, err = slacktest.New(slacktest.Options{Clock: r.clock, Workspace: &ws, BotToken: "xoxb-socket-0123456789", Scopes: scopes}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.socket.Close)
	k.socket.SetSocketMode(true)
	k.matter = mattermosttest.New(t, mattermosttest.Options{Clock: r.clock})
	k.peer = k.matter.Peer(t)
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	k.first = first
	k.address = k.first.Addr().String()
	k.http.SetBotURL("http://" + k.address)
	return k
}

func (k *talk) config() string {
	if k == nil {
		return ""
	}
	return fmt.Sprintf(`
public_url: "http://%s"
slack:
  - {workspace: %s, mode: http, signing_secrets: ["env:SS"], bot_token: "env:SB", api_url: %q, history: true}
  - {workspace: %s, mode: socket, app_token: "env:SA", bot_token: "env:SK", api_url: %q, history: true}
mattermost:
  - {name: mm, url: %q, bot_token: "env:MB", teams: [%s], path_secret: "env:MP"}
`, k.address, slackTeam, k.http.APIURL(), socketTeam, k.socket.APIURL(), k.matter.URL, mattermosttest.Team)
}

// env is the environment that config refers to.
func (k *talk) env() []string {
	if k == nil {
		return nil
	}
	return []string{
		"SS=" + rigSigning, "SB=" + k.http.BotToken(), "SA=" + k.socket.AppToken(), "SK=" + k.socket.BotToken(),
		"MB=" + k.peer.Accounts[mattermosttest.Bot].Token, "MP=" + rigPath,
	}
}

func (k *talk) allow(rights *ops.StaticPolicy, p ops.Permission) {
	if k != nil {
		rights.Allow("slack", slackTeam, p, ann)
		rights.Allow("slack", socketTeam, p, ann)
		rights.Allow("mattermost", "mm", p, k.peer.Accounts["alice"].ID)
	}
}

// listen opens the program's listeners, the public one where the platforms look for it.
func (k *talk) listen(a *App) (err error) {
	if k == nil {
		return a.Listen(context.Background())
	}
	if a.public, k.first = k.first, nil; a.public == nil {
		if a.public, err = net.Listen("tcp", k.address); err != nil {
			return err
		}
	}
	a.adminL, err = net.Listen("tcp", "127.0.0.1:0")
	return err
}

// online waits until the program is registered and connected everywhere.
func (l *live) online() *live {
	l.t.Helper()
	l.pump(func() bool {
		return len(l.talk.matter.Commands()) > 0 && len(l.talk.socket.Sockets()) > 0 &&
			len(l.talk.http.Calls("auth.test")) > 0
	})
	return l
}

// answer is what came back for one request; status 0 means that nothing did.
type answer struct {
	status int
	body   string
}

// send posts to the public listener as anybody on the network can.
func (l *live) send(path string, header http.Header, body []byte) answer {
	l.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, l.publicURL()+path, bytes.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header = header.Clone()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{}
	}
	return answer{resp.StatusCode, string(text)}
}

// slackCommand is a signed request of ann's.
func (k *talk) slackCommand(text string) slacktest.Request {
	k.t.Helper()
	req, err := k.http.CommandRequest(slacktest.CommandOpts{User: ann, Channel: slackOps, Text: text})
	if err != nil {
		k.t.Fatal(err)
	}
	return req
}

func (l *live) sendSlack(r slacktest.Request) answer {
	l.t.Helper()
	u, err := url.Parse(r.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.send(u.Path, r.Header, r.Body)
}

func matterPath(kind string) string {
	m := hmac.New(sha256.New, []byte(rigPath))
	m.Write([]byte(kind))
	return "/mattermost/" + kind + "/mm/" + hex.EncodeToString(m.Sum(nil))
}

// matterCommand is a command of alice's as Mattermost would send it.
func (k *talk) matterCommand(trigger, text string) url.Values {
	return url.Values{
		"token": {k.matter.Commands()[0].Token}, "team_id": {k.peer.TeamID}, "channel_id": {k.peer.Channels[mattermosttest.Channel]},
		"user_id": {k.peer.Accounts["alice"].ID}, "user_name": {"alice"}, "command": {"/ocim"}, "text": {text},
		"trigger_id": {trigger}, "response_url": {k.matter.URL + "/hooks/commands/" + strings.Repeat("x", 26)},
	}
}

func formHeader() http.Header {
	return http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
}

func TestPeopleOnEveryPlatformDeploy(t *testing.T) {
	t.Parallel()
	r := newRig(t, talking)
	l := r.run().online()
	k := r.talk
	done := make(chan string, 3)
	go func() {
		rep, err := k.http.Command(t.Context(), slacktest.CommandOpts{User: ann, Channel: slackOps, Text: "deploy demo"})
		done <- fmt.Sprint("slack ", string(rep.Answer.Body), err)
	}()
	go func() {
		rep, err := k.socket.Command(t.Context(), slacktest.CommandOpts{User: ann, Channel: slackOps, Text: "deploy shop"})
		done <- fmt.Sprint("socket ", string(rep.Answer.Body), err)
	}()
	go func() {
		rep, err := k.peer.Command(t.Context(), "alice", k.peer.Channels[mattermosttest.Channel], "", "/ocim deploy campus")
		done <- fmt.Sprint("mattermost ", rep.Text(), err)
	}()
	for range 3 {
		got := <-done
		mustContain(t, got, "Accepted", "<nil>")
	}
	l.pump(func() bool { return len(r.lab.Keys()) == 3 })
	r.exactlyOnce(3)
}
