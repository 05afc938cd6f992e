//go:build e2e

// Package bolt lets Slack's own Bolt for JavaScript judge the fake Slack of package slacktest:
// Bolt must accept its signatures, envelopes and payloads, must refuse its forgeries, and the fake
// must understand what Bolt answers. Run with: go test -tags e2e ./e2e/bolt
package bolt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ocim/adapters/slack/slacktest"
)

const (
	ann = "U0ANN0001"
	ops = "C0OPS0001"
)

// line is one report of oracle.mjs.
type line map[string]any

// oracle is a running Bolt with the fake Slack that it talks to.
type oracle struct {
	*slacktest.Server
	reports <-chan line
}

func TestBoltOverHTTP(t *testing.T) {
	o := start(t, "http")
	o.commonStory(t)
	ctx := within(t)
	if a, err := o.SSLCheck(ctx); err != nil || !a.OK() {
		t.Errorf("ssl_check: got %+v, %v, want it acknowledged", a, err)
	}
	if _, err := o.VerifyURL(ctx); err != nil {
		t.Errorf("url_verification: %v", err)
	}
}

func TestBoltRefusesWhatSlackDidNotSign(t *testing.T) {
	o := start(t, "http")
	ctx := within(t)
	req, err := o.CommandRequest(slacktest.CommandOpts{User: ann, Channel: ops, Text: "forged?"})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]slacktest.Request{
		"forged": o.Forged(req), "tampered": o.Tampered(req), "unsigned": o.Unsigned(req),
		"stale": o.Stale(req, 6*time.Minute),
	} {
		if a := o.Send(ctx, bad); a.Status != 401 {
			t.Errorf("%s: got %+v, want status 401", name, a)
		}
	}
	if a := o.Send(ctx, o.Stale(req, 4*time.Minute)); !a.OK() {
		t.Errorf("four minutes old: got %+v, want it accepted", a)
	}
	if l := o.report(t, "command"); l["text"] != "forged?" {
		t.Errorf("got report %v, want only the accepted one", l)
	}
}

func TestBoltOverSocketMode(t *testing.T) {
	o := start(t, "socket")
	o.commonStory(t)
	// Bolt acknowledges events that nobody handles.
	ctx := within(t)
	if e, err := o.Event(ctx, slacktest.Object{"type": "future_event"}); err != nil || !e.Delivered {
		t.Errorf("unknown event: got %+v, %v, want it acknowledged", e, err)
	}
	for _, a := range o.Acks() {
		if a.Dropped != "" {
			t.Errorf("got an acknowledgement dropped as %q: %s", a.Dropped, a.Payload)
		}
	}
	// Every kind of disconnect brings Bolt back on a new connection.
	for i, reason := range []string{slacktest.ReasonRefreshRequested, slacktest.ReasonWarning, slacktest.ReasonLinkDisabled} {
		o.Disconnect(reason)
		want := i + 2
		err := o.Until(ctx, func() bool { n := o.Sockets(); return len(n) == 1 && n[0] == want })
		if err != nil {
			t.Fatalf("after %s: got sockets %v, want %d: %v", reason, o.Sockets(), want, err)
		}
	}
	r, err := o.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops, Text: "back"})
	if err != nil || r.Message == nil {
		t.Errorf("after reconnects: got %+v, %v, want an answer", r, err)
	}
}

// commonStory sends one payload of every kind and checks both sides.
func (o oracle) commonStory(t *testing.T) {
	t.Helper()
	t.Run("command", o.command)
	t.Run("actions", o.actions)
	t.Run("modal", o.modal)
	t.Run("events", o.events)
}

// say types a command that must be accepted.
func (o oracle) say(t *testing.T, text string) slacktest.Reply {
	t.Helper()
	r, err := o.Command(within(t), slacktest.CommandOpts{User: ann, Channel: ops, Text: text})
	if err != nil || r.Error != "" {
		t.Fatalf("command %q: got %+v, %v, want it acknowledged", text, r, err)
	}
	if l := o.report(t, "command"); l["text"] != text || l["user"] != ann || l["channel"] != ops {
		t.Errorf("command %q: got report %v", text, l)
	}
	return r
}

func (o oracle) command(t *testing.T) {
	if r := o.say(t, "status"); r.Message == nil || r.Message.Text != "bolt heard status" || r.Message.To != ann {
		t.Errorf("got reply %+v, want an ephemeral one", r)
	}
	o.say(t, "respond")
	o.until(t, "the answer by response_url", func() bool { return o.lastRead() == "later" })
}

func (o oracle) actions(t *testing.T) {
	o.say(t, "card")
	o.until(t, "the card", func() bool { return o.lastRead() == "*deploy* of demo\n[Cancel] [Environment ▾]" })
	card := o.last()
	ctx := within(t)
	if a, err := o.Choose(ctx, ann, ops, card.TS, "env", "staging"); err != nil || !a.OK() {
		t.Fatalf("choose: got %+v, %v, want it acknowledged", a, err)
	}
	if l := o.report(t, "action"); l["id"] != "env" || l["value"] != "staging" {
		t.Errorf("choose: got report %v", l)
	}
	o.until(t, "the answer to the choice", func() bool {
		e := o.Ephemerals(ann)
		return len(e) > 0 && e[len(e)-1].Text == "chose staging"
	})
	if a, err := o.Click(ctx, ann, ops, card.TS, "cancel"); err != nil || !a.OK() {
		t.Fatalf("click: got %+v, %v, want it acknowledged", a, err)
	}
	if l := o.report(t, "action"); l["id"] != "cancel" || l["value"] != "op-1" || l["user"] != ann {
		t.Errorf("click: got report %v", l)
	}
	o.until(t, "the update", func() bool { return o.lastRead() == "*deploy* of demo" })
}

func (o oracle) modal(t *testing.T) {
	ctx := within(t)
	open := func() string {
		o.say(t, "modal")
		o.until(t, "the modal", func() bool { return len(o.Views(ann)) == 1 })
		return o.Views(ann)[0].ID
	}
	id := open()
	options, a, err := o.Suggest(ctx, ann, slacktest.Where{ViewID: id}, "instance", "demo")
	if err != nil || !a.OK() || len(options) != 2 {
		t.Fatalf("suggest: got %v, %+v, %v, want two options", options, a, err)
	}
	if l := o.report(t, "options"); l["value"] != "demo" {
		t.Errorf("suggest: got report %v", l)
	}
	sub, err := o.SubmitView(ctx, ann, id, map[string]any{"instance": "demo-two", "reason": "because"})
	if err != nil || sub.Closed || sub.Errors["instance"] != "already running" {
		t.Errorf("submit: got %+v, %v, want an error under the input", sub, err)
	}
	if l := o.report(t, "view_submission"); l["instance"] != "demo-two" || l["metadata"] != "m-1" {
		t.Errorf("submit: got report %v", l)
	}
	sub, err = o.SubmitView(ctx, ann, id, map[string]any{"instance": "demo"})
	if err != nil || !sub.Closed || sub.Error != "" {
		t.Errorf("submit: got %+v, %v, want the modal closed", sub, err)
	}
	o.report(t, "view_submission")
	id = open()
	if a, err := o.CloseView(ctx, ann, id); err != nil || !a.OK() {
		t.Errorf("close: got %+v, %v, want it acknowledged", a, err)
	}
	if l := o.report(t, "view_closed"); l["id"] != id {
		t.Errorf("close: got report %v", l)
	}
}

func (o oracle) events(t *testing.T) {
	ctx := within(t)
	if e, err := o.OpenHome(ctx, ann); err != nil || !e.Delivered {
		t.Errorf("home: got %+v, %v, want it acknowledged", e, err)
	}
	if l := o.report(t, "event"); l["type"] != "app_home_opened" || l["tab"] != "home" {
		t.Errorf("home: got report %v", l)
	}
	o.until(t, "the home tab", func() bool { v, ok := o.Home(ann); return ok && o.ReadView(v) == "*deploy* of demo" })
	e, err := o.Mention(ctx, ann, ops, "are you there?", "")
	if err != nil || !e.Delivered || len(e.Answers) != 1 {
		t.Fatalf("mention: got %+v, %v, want it acknowledged at once", e, err)
	}
	if l := o.report(t, "event"); l["type"] != "app_mention" || !strings.Contains(fmt.Sprint(l["text"]), "are you there?") {
		t.Errorf("mention: got report %v", l)
	}
	o.until(t, "the reply in the thread", func() bool { m := o.last(); return m.ThreadTS != "" && m.Text == "here I am" })
	if a, err := o.Redeliver(ctx, e.ID, 1, "http_timeout"); err != nil || !a.OK() {
		t.Errorf("redelivery: got %+v, %v, want it acknowledged", a, err)
	}
	if l := o.report(t, "event"); l["retry"] != 1.0 || !strings.HasSuffix(fmt.Sprint(l["reason"]), "timeout") {
		t.Errorf("redelivery: got report %v, want retry 1 with its reason", l)
	}
	if e, err := o.Direct(ctx, ann, "psst"); err != nil || !e.Delivered {
		t.Errorf("direct message: got %+v, %v, want it acknowledged", e, err)
	}
	if l := o.report(t, "event"); l["type"] != "message" || l["text"] != "psst" || l["channelType"] != "im" {
		t.Errorf("direct message: got report %v", l)
	}
}

func (o oracle) last() slacktest.Message {
	all := o.Messages(ops)
	if len(all) == 0 {
		return slacktest.Message{}
	}
	return all[len(all)-1]
}

func (o oracle) lastRead() string { return o.Read(o.last()) }

func (o oracle) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if err := o.Until(within(t), cond); err != nil {
		t.Fatalf("waiting for %s: %v; last message %q, calls %+v", what, err, o.lastRead(), o.Calls())
	}
}

// report returns Bolt's next report of the kind and fails on any other.
func (o oracle) report(t *testing.T, kind string) line {
	t.Helper()
	select {
	case l, ok := <-o.reports:
		if !ok || l["kind"] != kind {
			t.Fatalf("got report %v, want one of kind %s", l, kind)
		}
		return l
	case <-within(t).Done():
		t.Fatalf("got no report of kind %s", kind)
	}
	return nil
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start runs the fake and Bolt against it, over HTTP or Socket Mode.
func start(t *testing.T, mode string) oracle {
	t.Helper()
	node := install(t)
	srv, err := slacktest.New(slacktest.Options{Scopes: []string{"chat:write", "im:write", "users:read"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	srv.SetSocketMode(mode == "socket")

	cmd := exec.CommandContext(t.Context(), node, "oracle.mjs")
	cmd.Env = append(os.Environ(),
		"ORACLE_MODE="+mode, "ORACLE_API_URL="+srv.APIURL(), "ORACLE_SIGNING_SECRET="+srv.SigningSecret(),
		"ORACLE_BOT_TOKEN="+srv.BotToken(), "ORACLE_APP_TOKEN="+srv.AppToken())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // its end tells Bolt to go
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reports := make(chan line, 256)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(reports)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var l line
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				l = line{"kind": "garbage", "text": lines.Text()}
			}
			reports <- l
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-read
		_ = cmd.Wait() // it was told to end, or killed with the test's context
	})
	o := oracle{Server: srv, reports: reports}
	ready := o.report(t, "ready")
	if mode == "http" {
		srv.SetBotURL(fmt.Sprintf("http://127.0.0.1:%v", ready["port"]))
	}
	return o
}

// install makes sure that Bolt is there and returns the path of node. Without Node.js or the
// package registry the test is skipped, and says so where everybody sees it.
func install(t *testing.T) string {
	t.Helper()
	skip := func(format string, args ...any) {
		t.Helper()
		why := fmt.Sprintf(format, args...)
		fmt.Fprintf(os.Stderr, "\n*** THE FAKE SLACK IS NOT JUDGED BY BOLT IN THIS RUN: %s ***\n\n", why)
		t.Skip(why)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		skip("node is not installed")
	}
	if _, err := os.Stat("node_modules/@slack/bolt/package.json"); err == nil {
		return node
	} else if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		skip("npm is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, npm, "ci").CombinedOutput(); err != nil {
		_ = os.RemoveAll("node_modules") // half an installation would pass for a whole one
		skip("npm ci: %v\n%s", err, out)
	}
	return node
}
