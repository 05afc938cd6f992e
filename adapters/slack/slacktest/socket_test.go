package slacktest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"ocim/adapters/slack/slacktest"
)

// dial opens one connection by hand and reads its hello.
func (w world) dial(t *testing.T) *websocket.Conn {
	t.Helper()
	ctx := within(t)
	_, url, err := w.api.StartSocketModeContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, res, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	w.SetSocketMode(true)
	if hello := read(t, conn); hello["type"] != "hello" {
		t.Fatalf("got first frame %v, want hello", hello)
	}
	return conn
}

func read(t *testing.T, conn *websocket.Conn) map[string]any {
	t.Helper()
	var frame map[string]any
	if err := conn.ReadJSON(&frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

// waitSockets waits until n connections had their hello.
func (w world) waitSockets(t *testing.T, n int) {
	t.Helper()
	if err := w.Until(within(t), func() bool { return len(w.Sockets()) == n }); err != nil {
		t.Fatalf("waiting for %d sockets, got %d: %v", n, len(w.Sockets()), err)
	}
}

// command types a command on its own goroutine.
func (w world) command(t *testing.T, text string) <-chan slacktest.Reply {
	t.Helper()
	ctx, out := within(t), make(chan slacktest.Reply, 1)
	go func() {
		r, err := w.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops, Text: text})
		if err != nil {
			t.Error(err)
		}
		out <- r
	}()
	return out
}

func TestSocketModeClientOfSlackGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetSocketMode(true)
	sm := socketmode.New(w.api)
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() { ended <- sm.RunContext(ctx) }()
	seen := make(chan socketmode.Event, 16)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-sm.Events:
				switch e.Type {
				case socketmode.EventTypeSlashCommand:
					if err := sm.Ack(*e.Request, map[string]string{"text": "on it"}); err != nil {
						t.Error(err)
					}
				case socketmode.EventTypeInteractive, socketmode.EventTypeEventsAPI:
					if err := sm.Ack(*e.Request); err != nil {
						t.Error(err)
					}
				}
				seen <- e
			}
		}
	}()
	w.waitSockets(t, 1)

	r := receive(t, w.command(t, "deploy demo"))
	if r.Message == nil || r.Message.Text != "on it" {
		t.Errorf("got reply %+v, want the text of the acknowledgement", r)
	}
	ts := w.post(t, slack.MsgOptionText("x", false), slack.MsgOptionBlocks(
		slack.NewActionBlock("acts", button("cancel", "op-1", "Cancel"))))
	if a, err := w.Click(ctx, ann, ops, ts, "cancel"); err != nil || !a.OK() {
		t.Errorf("got click %+v, %v, want it acknowledged", a, err)
	}
	if e, err := w.Mention(ctx, ann, ops, "status", ""); err != nil || !e.Delivered || len(e.Answers) != 1 {
		t.Errorf("got mention %+v, %v, want it acknowledged at once", e, err)
	}
	types := map[socketmode.EventType]bool{}
	for len(types) < 6 {
		select {
		case e := <-seen:
			types[e.Type] = true
		case <-ctx.Done():
			t.Fatalf("got only events %v", types)
		}
	}
	for _, want := range []socketmode.EventType{
		socketmode.EventTypeHello, socketmode.EventTypeSlashCommand, socketmode.EventTypeInteractive, socketmode.EventTypeEventsAPI,
	} {
		if !types[want] {
			t.Errorf("got no event %s", want)
		}
	}

	// A disconnect of any kind makes the client come back with a fresh ticket.
	w.Disconnect(slacktest.ReasonRefreshRequested)
	if err := w.Until(ctx, func() bool { n := w.Sockets(); return len(n) == 1 && n[0] == 2 }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v from the client, want it cancelled", err)
	}
}

func TestSocketTicketWorksOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := within(t)
	_, url, err := w.api.StartSocketModeContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{101, 403} {
		conn, res, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
		if res == nil || res.StatusCode != want {
			t.Fatalf("dial %d: got %v, %v, want status %d", i+1, res, err, want)
		}
		_ = res.Body.Close()
		if conn != nil {
			defer func() { _ = conn.Close() }()
		}
	}
	if _, _, err := slack.New(w.BotToken(), slack.OptionAPIURL(w.APIURL()), slack.OptionAppLevelToken(w.BotToken())).
		StartSocketModeContext(ctx); err == nil || err.Error() != "not_allowed_token_type" {
		t.Errorf("got %v with the bot token, want not_allowed_token_type", err)
	}
}

func TestSocketAcksThatSlackDrops(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 21<<10)
	tests := []struct {
		name string
		ack  func(conn *websocket.Conn, id any) error
		want string
	}{
		{"too large", func(conn *websocket.Conn, id any) error {
			return conn.WriteJSON(map[string]any{"envelope_id": id, "payload": map[string]any{"text": big}})
		}, "too large"},
		{"unknown envelope", func(conn *websocket.Conn, _ any) error {
			return conn.WriteJSON(map[string]any{"envelope_id": "e-0"})
		}, "unknown"},
		{"in two frames", func(conn *websocket.Conn, id any) error {
			nw, err := conn.NextWriter(websocket.TextMessage)
			if err != nil {
				return err
			}
			// gorilla sends a frame whenever its buffer of 4 KiB is full.
			if _, err := nw.Write([]byte(`{"envelope_id":"` + id.(string) + `","payload":{"text":"` + big[:6000] + `"}}`)); err != nil {
				return err
			}
			return nw.Close()
		}, "fragmented"},
		{"not json", func(conn *websocket.Conn, _ any) error {
			return conn.WriteMessage(websocket.TextMessage, []byte("ok"))
		}, "bad json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			conn := w.dial(t)
			w.waitSockets(t, 1)
			reply := w.command(t, "deploy demo")
			if err := tt.ack(conn, read(t, conn)["envelope_id"]); err != nil {
				t.Fatal(err)
			}
			if err := w.Until(within(t), func() bool { return len(w.Acks()) == 1 }); err != nil {
				t.Fatal(err)
			}
			w.clock.Advance(3 * time.Second)
			if r := receive(t, reply); r.Error != "operation_timeout" {
				t.Errorf("got %q, want operation_timeout", r.Error)
			}
			if got := w.Acks()[0].Dropped; got != tt.want {
				t.Errorf("got dropped %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSocketEnvelopeArrivesTwiceAcrossConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.dial(t), w.dial(t)
	w.waitSockets(t, 2)
	w.SetDuplicates(slacktest.DuplicatesAcross)
	reply := w.command(t, "deploy demo")
	for _, conn := range []*websocket.Conn{one, two} {
		if err := conn.WriteJSON(map[string]any{"envelope_id": read(t, conn)["envelope_id"]}); err != nil {
			t.Fatal(err)
		}
	}
	if r := receive(t, reply); r.Error != "" {
		t.Errorf("got error %q, want none", r.Error)
	}
	if err := w.Until(within(t), func() bool { return len(w.Acks()) == 2 }); err != nil {
		t.Fatal(err)
	}
	acks := w.Acks()
	if acks[0].Dropped != "" || acks[1].Dropped != "again" || acks[0].EnvelopeID != acks[1].EnvelopeID {
		t.Errorf("got acks %+v, want the second dropped as again", acks)
	}
}

func TestSocketEndings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conns := make([]*websocket.Conn, 10)
	for i := range conns {
		conns[i] = w.dial(t)
	}
	w.waitSockets(t, 10)

	// The eleventh is turned away.
	_, url, err := w.api.StartSocketModeContext(within(t))
	if err != nil {
		t.Fatal(err)
	}
	extra, res, err := websocket.DefaultDialer.DialContext(within(t), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = extra.Close(), res.Body.Close() }()
	if f := read(t, extra); f["reason"] != slacktest.ReasonTooManyWebsockets {
		t.Errorf("got %v on the eleventh connection, want %s", f, slacktest.ReasonTooManyWebsockets)
	}

	// A warning leaves ten seconds.
	w.Disconnect(slacktest.ReasonWarning, 1)
	if f := read(t, conns[0]); f["type"] != "disconnect" || f["reason"] != "warning" {
		t.Errorf("got %v, want a warning", f)
	}
	if err := w.clock.Waiting(within(t), 1); err != nil {
		t.Fatal(err)
	}
	if got, want := len(w.Sockets()), 10; got != want {
		t.Errorf("got %d sockets after the warning, want %d", got, want)
	}
	w.clock.Advance(10 * time.Second)
	w.waitSockets(t, 9)

	w.Disconnect(slacktest.ReasonLinkDisabled, 2)
	if f := read(t, conns[1]); f["reason"] != "link_disabled" {
		t.Errorf("got %v, want link_disabled", f)
	}
	w.waitSockets(t, 8)
	w.CutSockets(3)
	w.waitSockets(t, 7)

	// A silent connection still counts, but what goes there is lost.
	w.Silence()
	reply := w.command(t, "help")
	if err := w.clock.Waiting(within(t), 1); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(3 * time.Second)
	if r := receive(t, reply); r.Error != "operation_timeout" {
		t.Errorf("got %q, want operation_timeout", r.Error)
	}
}

func TestSocketUnknownEnvelopeAndEventTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := w.dial(t)
	w.waitSockets(t, 1)
	ctx := within(t)
	go func() {
		for {
			var f map[string]any
			if conn.ReadJSON(&f) != nil {
				return
			}
			if err := conn.WriteJSON(map[string]any{"envelope_id": f["envelope_id"]}); err != nil {
				return
			}
		}
	}()
	if a := w.SendEnvelope(ctx, slacktest.Object{"type": "future_thing", "payload": slacktest.Object{}}); !a.OK() {
		t.Errorf("got %+v, want it acknowledged", a)
	}
	if e, err := w.Event(ctx, slacktest.Object{"type": "future_event"}); err != nil || !e.Delivered {
		t.Errorf("got %+v, %v, want it acknowledged", e, err)
	}
}
