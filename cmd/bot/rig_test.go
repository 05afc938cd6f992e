package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/internal/logtest"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/config"
	"ocim/internal/clock"
	"ocim/ops"
)

// The people and secrets of the rig.
const (
	rigKey     = "0123456789abcdef0123456789abcdef"
	rigTrigger = "glptt-triggertokenofthetests"
	rigRead    = "glpat-readtokenofthetests0001"
	rigWrite   = "glpat-writetokenofthetests001"
	rigHook    = "hook-secret-of-the-tests"
	rigProject = 42
)

// rig is the whole program on a fake clock, beside the simulated GitLab and a chat in memory.
// Nothing runs by itself: settle does whatever is due.
type rig struct {
	t     *testing.T
	clock *clock.Fake
	lab   *gitlabtest.Server
	chat  *chattest.Platform
	app   *App
	dir   string
	logs  *logtest.Buffer
	level slog.Level
	keys  int

	operations string
	left       string // who may no longer do anything, from the next start on
	closed     func()
	talk       *talk // nil unless the rig has people in Slack and Mattermost
}

type rigOption func(*rigSetup)

type rigSetup struct {
	lab        gitlabtest.Options
	project    gitlabtest.Project
	operations string
	talk       bool
	level      slog.Level
}

// plain makes the project one of a single pipeline, which tests drive by hand.
func plain(script gitlabtest.Script) rigOption {
	return func(s *rigSetup) {
		s.project.Behaviour = gitlabtest.Plain(script)
		s.operations = "operations: {deploy: {follow: none}}"
	}
}

func newRig(t *testing.T, opts ...rigOption) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewFake(time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)), dir: t.TempDir(), logs: &logtest.Buffer{}}
	setup := rigSetup{
		lab: gitlabtest.Options{Clock: r.clock, Seed: 1},
		project: gitlabtest.Project{
			ID: rigProject, Path: "ops/grove-eu", DefaultBranch: "main", Behaviour: gitlabtest.Grove(),
			TriggerToken: rigTrigger, TriggerOwner: "ocim-bot", Instances: []string{"campus", "demo", "shop"},
			Tokens: []gitlabtest.Token{
				{Value: rigRead, User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"read_api"}},
				{Value: rigWrite, User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"api"}},
			},
		},
	}
	for _, o := range opts {
		o(&setup)
	}
	r.lab = gitlabtest.New(setup.lab)
	if err := r.lab.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.lab.Close)
	r.lab.AddProject(setup.project)
	r.chat = chattest.NewPlatform("fake")
	r.operations, r.level = setup.operations, setup.level
	if setup.talk {
		r.talk = newTalk(r)
	}
	r.open(r.operations)
	return r
}

func (r *rig) config(operations string) *config.Config {
	r.t.Helper()
	text := fmt.Sprintf(`
listen: {public: "127.0.0.1:0", admin: "127.0.0.1:0"}
store: {path: %q}
key: env:K
gitlab:
  - {name: gl, url: %q, token: "env:R", write_token: "env:W", webhook_tokens: ["env:H"], timeout: 2s, linger: 90s}
projects:
  - {name: grove-eu, gitlab: gl, id: %d, trigger_token: "env:T"}
clusters:
  - {name: eu, project: grove-eu, instances_from: instances}
%s
%s
`, filepath.Join(r.dir, "ocim.db"), r.lab.URL(), rigProject, operations, r.talk.config())
	env := append(r.talk.env(), "K="+rigKey, "R="+rigRead, "W="+rigWrite, "T="+rigTrigger, "H="+rigHook)
	cfg, err := config.Parse("ocim.yaml", []byte(text), env)
	if err != nil {
		r.t.Fatal(err)
	}
	cfg.Limits.PerPerson = 0 // one person of the tests does the work of many
	return cfg
}

func (r *rig) open(operations string) {
	r.t.Helper()
	rights := ops.NewStaticPolicy()
	for _, p := range []ops.Permission{ops.MayStart, ops.MayCancel, ops.MayRetry} {
		rights.Allow("fake", "W1", p, slices.DeleteFunc([]string{"alice", "carol"}, func(name string) bool { return name == r.left })...)
		r.talk.allow(rights, p)
	}
	app, err := newApp(r.t.Context(), r.config(operations), appOptions{
		clock: r.clock, log: slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: r.level})), policy: rights,
		chats: map[string]chat.Platform{"fake": r.chat},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.app = app
	r.closed = sync.OnceFunc(func() {
		if err := app.store.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(func() { r.closed() })
}

// restart closes the program as a kill would leave it, and starts it again on the same store.
func (r *rig) restart() {
	r.t.Helper()
	r.closed()
	r.open(r.operations)
	if _, err := r.app.store.Sweep(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// settle does everything that is due now, on both sides, until nothing is.
func (r *rig) settle() {
	r.t.Helper()
	for range 200 {
		r.lab.Tick()
		a, err := r.app.store.Drain(r.t.Context(), ops.JobAdvance, r.app.service.Advance)
		if err != nil {
			r.t.Fatal(err)
		}
		d, err := r.app.store.Drain(r.t.Context(), ops.JobDeliver, r.app.notifier.Deliver)
		if err != nil {
			r.t.Fatal(err)
		}
		if a+d == 0 {
			return
		}
	}
	r.t.Fatal("there is always more to do: something goes in circles")
}

// pass lets time go by in steps, doing what becomes due.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	for step := 5 * time.Second; d > 0; d -= step {
		r.clock.Advance(min(step, d))
		r.settle()
	}
}

// until lets time go by until an operation is in a state.
func (r *rig) until(id string, s ops.State) ops.Operation {
	r.t.Helper()
	for range 2000 {
		r.settle()
		op := r.op(id)
		if op.State == s {
			return op
		}
		r.clock.Advance(5 * time.Second)
	}
	op := r.op(id)
	r.t.Fatalf("operation %s: got state %s (%s: %s), want %s", id, op.State, op.Reason, op.Detail, s)
	return ops.Operation{}
}

func (r *rig) op(id string) ops.Operation {
	r.t.Helper()
	var op ops.Operation
	if err := r.app.store.View(r.t.Context(), func(rd ops.Reader) (err error) {
		op, err = rd.Operation(r.t.Context(), id)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return op
}

func (r *rig) events(id string) []ops.Event {
	r.t.Helper()
	var evs []ops.Event
	if err := r.app.store.View(r.t.Context(), func(rd ops.Reader) (err error) {
		evs, err = rd.Events(r.t.Context(), id)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return evs
}

func (r *rig) incoming(user string) chat.Incoming {
	r.keys++
	return chat.Incoming{
		Key: fmt.Sprintf("key-%d", r.keys), Actor: ops.Actor{Platform: "fake", Workspace: "W1", UserID: user}, ActorName: user,
		From: ops.Conversation{Platform: "fake", Workspace: "W1", Channel: "C1"},
	}
}

// opens sends a command and returns the dialog that it opens beside what the person is told.
func (r *rig) opens(user, text string) (string, *chat.Dialog) {
	r.t.Helper()
	in := r.incoming(user)
	a := &chattest.Replier{}
	in.Kind, in.Text, in.Reply = chat.Command, text, a
	return read(r.app.commands.Handle(r.t.Context(), in).Message), a.Dialog()
}

// typed sends a command and returns what the person is told.
func (r *rig) typed(user, text string) string {
	r.t.Helper()
	in := r.incoming(user)
	in.Kind, in.Text = chat.Command, text
	return read(r.app.commands.Handle(r.t.Context(), in).Message)
}

// deploy starts an operation and returns its id.
func (r *rig) deploy(user, text string) string {
	r.t.Helper()
	in := r.incoming(user)
	in.Kind, in.Text = chat.Command, "deploy "+text
	ans := r.app.commands.Handle(r.t.Context(), in)
	op, ok := r.byKey(in.Key)
	if !ok {
		r.t.Fatalf("deploy %s made no operation: %s", text, read(ans.Message))
	}
	return op.ID
}

func (r *rig) byKey(key string) (ops.Operation, bool) {
	r.t.Helper()
	var found []ops.Operation
	if err := r.app.store.View(r.t.Context(), func(rd ops.Reader) (err error) {
		found, err = rd.Operations(r.t.Context(), ops.Filter{RequestKey: key})
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	if len(found) == 0 {
		return ops.Operation{}, false
	}
	return found[0], true
}

// card returns the operation's card; there must be exactly one.
func (r *rig) card(id string) chattest.Sent {
	r.t.Helper()
	var cards []chattest.Sent
	for _, s := range r.chat.Sent() {
		if s.Now().Key == id+".card.0" {
			cards = append(cards, s)
		}
	}
	if len(cards) != 1 {
		r.t.Fatalf("operation %s: got %d cards, want 1", id, len(cards))
	}
	return cards[0]
}

// press clicks a button on the operation's card.
func (r *rig) press(user, id, verb string) (string, *chat.Dialog) {
	r.t.Helper()
	card := r.card(id)
	for _, b := range card.Now().Buttons {
		if b.Verb == verb {
			return r.click(user, b.Token, card)
		}
	}
	r.t.Fatalf("the card of %s has no button %s: %v", id, verb, card.Now().Buttons)
	return "", nil
}

func (r *rig) click(user, token string, on chattest.Sent) (string, *chat.Dialog) {
	r.t.Helper()
	in := r.incoming(user)
	in.Kind, in.Button, in.Message, in.From = chat.Click, token, on.Ref, on.To
	a := &chattest.Replier{}
	in.Reply = a
	ans := r.app.commands.Handle(r.t.Context(), in)
	return read(ans.Message), a.Dialog()
}

func (r *rig) submit(user string, d *chat.Dialog, values map[string]string) (string, map[string]string) {
	r.t.Helper()
	if d == nil {
		r.t.Fatal("no dialog was opened")
	}
	in := r.incoming(user)
	in.Kind, in.Dialog, in.State, in.Values = chat.Submit, d.Name, d.State, values
	ans := r.app.commands.Handle(r.t.Context(), in)
	return read(ans.Message), ans.Errors
}

// hook posts a webhook to the public listener's route and returns the status.
func (r *rig) hook(header http.Header, body []byte) int {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodPost, "/gitlab/webhook", strings.NewReader(string(body)))
	req.Header = header
	rec := httptest.NewRecorder()
	r.app.mux.ServeHTTP(rec, req)
	_, _ = io.Copy(io.Discard, rec.Body)
	return rec.Code
}

// read is a message as a person reads it.
func read(m *chat.Message) string {
	if m == nil {
		return ""
	}
	var b strings.Builder
	for _, bl := range m.Blocks {
		for _, f := range bl.Fields {
			fmt.Fprintf(&b, "%s: %s\n", f.Label, f.Text)
		}
		if s := bl.Text.String(); s != "" {
			b.WriteString(s + "\n")
		}
		if bl.Code != "" {
			b.WriteString(bl.Code + "\n")
		}
	}
	for _, bt := range m.Buttons {
		fmt.Fprintf(&b, "[%s]", bt.Label)
	}
	return b.String()
}

func mustContain(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("got %q, want it to contain %q", got, w)
		}
	}
}

// noPipeline checks that GitLab has started nothing beyond what the keys allow: one for each.
func (r *rig) exactlyOnce(want int) {
	r.t.Helper()
	keys := r.lab.Keys()
	if len(keys) != want {
		r.t.Errorf("got %d keys in GitLab, want %d", len(keys), want)
	}
	for k, p := range keys {
		if len(p) != 1 {
			r.t.Errorf("key %s: got pipelines %v, want one", k, p)
		}
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }
