package slack

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/slack/slacktest"
	"ocim/internal/clock"
	"ocim/internal/secret"
)

// runSocket starts the adapter over Socket Mode and waits until it is connected.
func runSocket(t *testing.T, o rigOptions) *rig {
	t.Helper()
	o.socket = true
	r := newRig(t, o)
	r.slack.SetSocketMode(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil after its context ended", err)
		}
	})
	untilSockets(t, r, max(1, r.order[0].Sockets))
	return r
}

func untilSockets(t *testing.T, r *rig, n int) {
	t.Helper()
	if err := r.slack.Until(ctxOf(t), func() bool { return len(r.slack.Sockets()) >= n }); err != nil {
		t.Fatalf("waiting for %d sockets: %v\n%s", n, err, r.log)
	}
}

func TestSocketCommandClickAndDialog(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	kinds := map[chat.Kind]int{}
	r := runSocket(t, rigOptions{handler: func(ctx context.Context, in chat.Incoming) chat.Answer {
		mu.Lock()
		kinds[in.Kind]++
		mu.Unlock()
		switch {
		case in.Kind == chat.Command && in.Text == "form":
			if err := in.Reply.OpenDialog(ctx, testDialog()); err != nil {
				return chat.Answer{Message: chat.Notice(chat.ToneBad, err.Error())}
			}
			return chat.Answer{}
		case in.Kind == chat.Suggest:
			ans := chat.Answer{}
			for i := range 100 {
				ans.Options = append(ans.Options, chat.Option{Label: strings.Repeat("界", 70) + fmt.Sprint(i), Value: fmt.Sprint(i)})
			}
			return ans
		case in.Kind == chat.Submit && in.Values["tag"] == "bad":
			return chat.Answer{Errors: map[string]string{"tag": "no"}}
		}
		m := note("answer to " + string(in.Kind))
		if in.Text == "long" {
			m.Blocks = append(m.Blocks, chat.Block{Kind: chat.Code, Code: strings.Repeat("界", 11_000)})
		}
		return chat.Answer{Message: &m}
	}})
	ctx := ctxOf(t)
	reply, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "help"})
	if err != nil || reply.Message == nil || reply.Message.Text != "answer to command" {
		t.Fatalf("got %+v, %v, want an answer in the acknowledgement", reply, err)
	}
	// Beyond 20 KB the answer comes over the response_url.
	reply, err = r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "long"})
	if err != nil || !reply.Answer.OK() || reply.Message != nil {
		t.Fatalf("got %+v, %v, want a bare acknowledgement", reply, err)
	}
	untilEphemeral(t, r, 2)

	m := note("card")
	m.Buttons = []chat.Button{{Label: "Cancel", Verb: "cancel", Token: "t"}}
	ref, err := r.Post(ctx, inOps(), m)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := r.slack.Click(ctx, ann, ops1, ref, "ocim_cancel_0"); err != nil || !a.OK() || len(a.Body) != 0 {
		t.Fatalf("click: got %+v, %v, want a bare acknowledgement", a, err)
	}
	if e := untilEphemeral(t, r, 3); e.Text != "answer to click" {
		t.Errorf("got %q, want the answer to the click", e.Text)
	}

	submitOverSocket(t, r)
	mu.Lock()
	defer mu.Unlock()
	if kinds[chat.Command] != 3 || kinds[chat.Click] != 1 || kinds[chat.Suggest] != 1 || kinds[chat.Submit] != 2 {
		t.Errorf("got requests %v, want each once", kinds)
	}
}

// submitOverSocket opens the form, searches in it, fails once and then succeeds.
func submitOverSocket(t *testing.T, r *rig) {
	t.Helper()
	ctx := ctxOf(t)
	if _, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "form"}); err != nil {
		t.Fatal(err)
	}
	views := r.slack.Views(ann)
	if len(views) != 1 {
		t.Fatalf("got %d views, want 1", len(views))
	}
	opts, _, err := r.slack.Suggest(ctx, ann, slacktest.Where{ViewID: views[0].ID}, "instance/"+inputID, "")
	if err != nil || len(opts) < 10 || len(opts) == 100 {
		t.Fatalf("got %d options, %v, want as many as fit", len(opts), err)
	}
	sub, err := r.slack.SubmitView(ctx, ann, views[0].ID, map[string]any{"instance": "1", "tag": "bad"})
	if err != nil || sub.Errors["tag"] != "no" {
		t.Fatalf("got %+v, %v, want an error under tag", sub, err)
	}
	sub, err = r.slack.SubmitView(ctx, ann, views[0].ID, map[string]any{"tag": "good"})
	if err != nil || !sub.Closed {
		t.Fatalf("got %+v, %v, want the dialog closed", sub, err)
	}
	if e := untilEphemeral(t, r, 4); e.Text != "answer to submit" {
		t.Errorf("got %q, want the answer to the dialog", e.Text)
	}
}

func TestSocketAcknowledgesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	r := runSocket(t, rigOptions{})
	ctx := ctxOf(t)
	for _, env := range []slacktest.Object{
		{"type": "brand_new_thing", "payload": map[string]any{"x": 1}},
		{"type": "events_api", "payload": map[string]any{"type": "event_callback", "team_id": team, "event": map[string]any{"type": "brand_new_event"}}},
		{"type": "interactive", "payload": map[string]any{"type": "brand_new", "team": map[string]any{"id": team}, "user": map[string]any{"id": ann}}},
		{"type": "slash_commands", "payload": "not an object"},
		{"type": "interactive", "payload": []any{1}},
	} {
		if a := r.slack.SendEnvelope(ctx, env); !a.OK() {
			t.Errorf("%v: got %+v, want an acknowledgement", env, a)
		}
	}
}

func TestT05_SocketPrincipalIsBoundToTheAppToken(t *testing.T) {
	t.Parallel()
	var handled atomic.Int64
	r := runSocket(t, rigOptions{handler: func(context.Context, chat.Incoming) chat.Answer { handled.Add(1); return chat.Answer{} }})
	for claimed, want := range map[string]int64{"T0OTHER01": 0, "": 0, team: 1} {
		handled.Store(0)
		a := r.slack.SendEnvelope(ctxOf(t), slacktest.Object{
			"type":    "slash_commands",
			"payload": map[string]any{"team_id": claimed, "user_id": ann, "channel_id": ops1, "trigger_id": "1." + claimed},
		})
		if !a.OK() || handled.Load() != want {
			t.Errorf("claiming %q: got %+v and %d requests, want %d", claimed, a, handled.Load(), want)
		}
	}
}

func TestSocketRedeliveryHasTheSameKey(t *testing.T) {
	t.Parallel()
	keys := make(chan string, 4)
	r := runSocket(t, rigOptions{
		handler: func(_ context.Context, in chat.Incoming) chat.Answer { keys <- in.Key; return chat.Answer{} },
		change:  func(w *Workspace) { w.Sockets = 2 },
	})
	r.slack.SetDuplicates(slacktest.DuplicatesAcross)
	if _, err := r.slack.Command(ctxOf(t), slacktest.CommandOpts{User: ann, Channel: ops1, Text: "x"}); err != nil {
		t.Fatal(err)
	}
	ctx := ctxOf(t)
	var got [2]string
	for i := range got {
		select {
		case got[i] = <-keys:
		case <-ctx.Done():
			t.Fatal("the second delivery did not arrive")
		}
	}
	if got[0] != got[1] || !strings.HasPrefix(got[0], "slack:") {
		t.Errorf("got keys %q, want the same twice", got)
	}
}

func TestSocketComesBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(*slacktest.Server)
	}{
		{"refresh", func(s *slacktest.Server) { s.Disconnect(slacktest.ReasonRefreshRequested) }},
		{"warning", func(s *slacktest.Server) { s.Disconnect(slacktest.ReasonWarning) }},
		{"cut", func(s *slacktest.Server) { s.CutSockets() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := runSocket(t, rigOptions{handler: func(context.Context, chat.Incoming) chat.Answer {
				return chat.Answer{Message: chat.Notice(chat.ToneGood, "here")}
			}})
			first := r.slack.Sockets()[0]
			tt.end(r.slack)
			err := r.slack.Until(ctxOf(t), func() bool {
				s := r.slack.Sockets()
				return len(s) == 1 && s[0] != first
			})
			if err != nil {
				t.Fatalf("waiting for a new socket: %v\n%s", err, r.log)
			}
			reply, err := r.slack.Command(ctxOf(t), slacktest.CommandOpts{User: ann, Channel: ops1, Text: "x"})
			if err != nil || reply.Message == nil {
				t.Errorf("got %+v, %v, want an answer over the new socket", reply, err)
			}
		})
	}
}

func TestShutdownAnswersWhatWasTaken(t *testing.T) {
	t.Parallel()
	taken, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, rigOptions{socket: true, handler: func(context.Context, chat.Incoming) chat.Answer {
		close(taken)
		<-release
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "accepted")}
	}})
	r.slack.SetSocketMode(true)
	ctx, stop := context.WithCancel(ctxOf(t))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	untilSockets(t, r, 1)
	answered := make(chan slacktest.Reply, 1)
	go func() {
		reply, err := r.slack.Command(ctxOf(t), slacktest.CommandOpts{User: ann, Channel: ops1, Text: "deploy demo"})
		if err != nil {
			t.Error(err)
		}
		answered <- reply
	}()
	<-taken
	stop()
	close(release)
	if reply := <-answered; reply.Message == nil || reply.Message.Text != "accepted" {
		t.Errorf("got %+v, want the answer to what was accepted before the stop", reply)
	}
	if err := <-done; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

func TestPanicsAreContained(t *testing.T) {
	t.Parallel()
	r := runSocket(t, rigOptions{handler: func(context.Context, chat.Incoming) chat.Answer {
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "still here")}
	}})
	ctx := ctxOf(t)
	r.log.panicOn("slack app was removed") // stands for a bug anywhere in the work on an envelope
	event := slacktest.Object{"type": "events_api", "payload": map[string]any{
		"type": "event_callback", "team_id": team, "event": map[string]any{"type": "app_uninstalled"},
	}}
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	r.slack.SendEnvelope(short, event)
	if reply, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "x"}); err != nil || reply.Message == nil {
		t.Errorf("got %+v, %v after a panic, want an answer", reply, err)
	}
	r.log.panicOn("slack answer not delivered")
	r.sendLate(ctx, outcome{message: chat.Notice(chat.ToneGood, "x"), reply: r.newReplier(r.order[0], "U0NOBODY9")})
	r.Wait()
	if got := strings.Count(r.log.String(), "slack adapter panicked"); got != 2 {
		t.Errorf("got %d panics in the log, want 2:\n%s", got, r.log)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{socket: true})
	if err := r.Ready(); err == nil {
		t.Error("before Run: got ready, want an error")
	}
	r2 := runSocket(t, rigOptions{})
	ctx := ctxOf(t)
	// One command proves that the reader runs and has seen the connection.
	if _, err := r2.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := r2.Check(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r2.Ready(); err != nil {
		t.Errorf("got %v, want ready", err)
	}
}

func TestPacerSlowsDownQuickReconnects(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Unix(0, 1))
	p := &pacer{clock: clk, client: &http.Client{}}
	if got := p.next(); got != 0 {
		t.Errorf("first: got %v, want at once", got)
	}
	p.last = clk.Now()
	if got := p.next(); got != 0 {
		t.Errorf("first renewal: got %v, want at once", got)
	}
	last := time.Duration(0)
	for i := range 20 {
		got := p.next()
		if got < minPace/2 || got > maxPace {
			t.Errorf("renewal %d: got %v, want between %v and %v", i+2, got, minPace/2, maxPace)
		}
		last = got
	}
	if last < maxPace/2 {
		t.Errorf("after twenty: got %v, want about %v", last, maxPace)
	}
	clk.Advance(stable)
	if got := p.next(); got != 0 {
		t.Errorf("after a quiet minute: got %v, want at once", got)
	}
}

func TestSocketsAreSharedByApp(t *testing.T) {
	t.Parallel()
	app := func(team, token string, n int) Workspace {
		return Workspace{TeamID: team, BotToken: secret.New("xoxb"), AppToken: secret.New(token), Socket: true, Sockets: n}
	}
	a, err := New(Config{Workspaces: []Workspace{app("T1", "xapp-1", 1), app("T2", "xapp-1", 2), app("T3", "xapp-2", 0)}}, handlerFunc(silent))
	if err != nil {
		t.Fatal(err)
	}
	got := a.sockets()
	if len(got) != 2 || len(got[0].teams) != 2 || got[0].count != 2 || len(got[1].teams) != 1 || got[1].count != 1 {
		t.Errorf("got %+v, want one app with two teams and one with one", got)
	}
}
