package slacktest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"ocim/internal/clock"
)

const (
	// maxSockets is how many connections one app may have (docs.slack.dev,
	// apis/events-api/using-socket-mode).
	maxSockets = 10
	// maxAck is the size from which Slack drops an acknowledgement without a word. Observed; slack-go
	// v0.34.0 refuses to send as much.
	maxAck = 20 << 10
	// warningLead is the time between a disconnect warning and the end (same page: "about 10 s").
	warningLead = 10 * time.Second
	// socketLife and debugLife are what hello announces as approximate_connection_time in seconds,
	// the latter for URLs with debug_reconnects=true.
	socketLife, debugLife = 18060, 360
	writeWait             = 5 * time.Second
)

// Reasons of a disconnect frame. TooManyWebsockets is observed, the others are documented.
const (
	ReasonWarning           = "warning"
	ReasonRefreshRequested  = "refresh_requested"
	ReasonLinkDisabled      = "link_disabled"
	ReasonTooManyWebsockets = "too_many_websockets"
)

// Duplicates says what happens to every envelope after it was sent once.
type Duplicates string

// The kinds of duplication.
const (
	NoDuplicates     Duplicates = ""
	DuplicatesSame   Duplicates = "same"   // the same envelope again on the same connection
	DuplicatesAcross Duplicates = "across" // the same envelope again on the next connection
)

// Ack is an acknowledgement that came over a socket.
type Ack struct {
	EnvelopeID string
	Socket     int
	At         time.Time
	Size       int // of the whole frame, in bytes
	Payload    json.RawMessage
	// Dropped says why the acknowledgement counted for nothing: "too large", "fragmented",
	// "unknown" (no such envelope), "late", "again" (the envelope was acknowledged before) or
	// "bad json". Empty when it counted.
	Dropped string
}

type socketState struct {
	tickets    map[string]bool // issued and not yet used
	open       []*socket
	count      int
	next       int
	duplicates Duplicates
	pending    map[string]chan Answer // by envelope id
	past       map[string]string      // why a further acknowledgement will be dropped
	acks       []Ack
}

// socket is one connection of the bot.
type socket struct {
	n      int
	ws     *websocket.Conn
	frames *frameConn
	gone   chan struct{} // closed when the connection ended
	ready  bool          // hello was sent; guarded by the server's mu

	mu     sync.Mutex // serialises writes and guards silent
	silent bool
}

// write sends one text frame, or pretends to when the connection is silent.
func (c *socket) write(v any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return nil
	}
	if err := c.ws.SetWriteDeadline(clock.System{}.Now().Add(writeWait)); err != nil {
		return err
	}
	return c.ws.WriteMessage(websocket.TextMessage, mustJSON(v))
}

func (c *socket) control(typ int, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return nil
	}
	return c.ws.WriteControl(typ, data, clock.System{}.Now().Add(writeWait))
}

// SetSocketMode chooses the transport: with on, everything goes over the sockets and nothing over
// HTTP, as Slack does.
func (s *Server) SetSocketMode(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socketMode = on
}

// Sockets returns the numbers of the open connections, the oldest first.
func (s *Server) Sockets() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	for _, c := range s.greeted() {
		out = append(out, c.n)
	}
	return out
}

// Acks returns every acknowledgement that came over any socket, the dropped ones too.
func (s *Server) Acks() []Ack {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sockets.acks)
}

// SetDuplicates makes every envelope arrive twice.
func (s *Server) SetDuplicates(d Duplicates) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.duplicates = d
}

// Disconnect sends a disconnect frame on the connections numbered, or on all. After a warning the
// connection ends 10 s later by the server's clock, otherwise at once.
func (s *Server) Disconnect(reason string, numbers ...int) {
	for _, c := range s.pickSockets(numbers) {
		_ = c.write(s.disconnectFrame(reason, 0)) // a connection that just died needs no frame
		if reason == ReasonWarning {
			s.start(func() { s.closeAfter(c, warningLead) })
		} else {
			c.end()
		}
	}
}

// Silence makes connections die without a trace: no pings, no pongs, no frames either way, while
// TCP stays up. Without numbers it means all.
func (s *Server) Silence(numbers ...int) {
	for _, c := range s.pickSockets(numbers) {
		c.mu.Lock()
		c.silent = true
		c.mu.Unlock()
	}
}

// CutSockets ends connections without a close frame. Without numbers it means all.
func (s *Server) CutSockets(numbers ...int) {
	for _, c := range s.pickSockets(numbers) {
		_ = c.ws.Close()
	}
}

// SendFrame sends any frame on the connections numbered, or on all, and expects nothing back.
func (s *Server) SendFrame(frame Object, numbers ...int) error {
	for _, c := range s.pickSockets(numbers) {
		if err := c.write(frame); err != nil {
			return fmt.Errorf("send a frame on socket %d: %w", c.n, err)
		}
	}
	return nil
}

// SendEnvelope sends an envelope of any type, known or not, and waits for its acknowledgement.
// An envelope_id is added when there is none.
func (s *Server) SendEnvelope(ctx context.Context, envelope Object) Answer {
	envelope, _ = deepCopy(envelope).(Object)
	return s.sendEnvelope(ctx, str(envelope, "type"), envelope)
}

func (s *Server) pickSockets(numbers []int) []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*socket
	for _, c := range s.greeted() {
		if len(numbers) == 0 || slices.Contains(numbers, c.n) {
			out = append(out, c)
		}
	}
	return out
}

// greeted are the connections that had their hello; mu must be held.
func (s *Server) greeted() []*socket {
	var out []*socket
	for _, c := range s.sockets.open {
		if c.ready {
			out = append(out, c)
		}
	}
	return out
}

func (s *Server) disconnectFrame(reason string, connections int) Object {
	o := Object{"type": "disconnect", "reason": reason, "debug_info": Object{"host": "applink-slacktest"}}
	if connections > 0 {
		o["num_connections"], o["connection_info"] = connections, Object{"app_id": s.ws.AppID}
	}
	return o
}

// end closes in an orderly way. The reader notices.
func (c *socket) end() {
	_ = c.control(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	_ = c.ws.Close()
}

func (s *Server) closeAfter(c *socket, d time.Duration) {
	due, release := s.clk.After(d)
	defer release()
	select {
	case <-due:
		c.end()
	case <-c.gone:
	case <-s.stop:
	}
}

// connectionsOpen issues a one-time ticket; mu is held.
func (s *Server) connectionsOpen(args) (Object, *apiError) {
	s.serial++
	ticket := "ticket-" + strconv.FormatInt(s.serial, 10) + "-" + s.shortID()
	s.sockets.tickets[ticket] = true
	return Object{"url": "ws" + strings.TrimPrefix(s.url, "http") + "/link/?ticket=" + ticket + "&app_id=" + s.ws.AppID}, nil
}

// serveSocket runs one connection until it ends.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	ticket := r.URL.Query().Get("ticket")
	s.mu.Lock()
	good := s.sockets.tickets[ticket]
	delete(s.sockets.tickets, ticket)
	s.mu.Unlock()
	if !good {
		http.Error(w, "the ticket is unknown or was used before", http.StatusForbidden)
		return
	}
	c := &socket{gone: make(chan struct{})}
	// ReadBufferSize makes gorilla read through the connection returned by the hijacker, which
	// watches for fragmented messages.
	up := websocket.Upgrader{ReadBufferSize: 4096, CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(&frameWatcher{ResponseWriter: w, frames: &c.frames}, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	c.ws = ws
	defer func() { _ = ws.Close() }()
	defer close(c.gone)
	ws.SetReadLimit(maxBody)
	ws.SetPingHandler(func(data string) error { return c.control(websocket.PongMessage, []byte(data)) })
	if !s.admit(c) {
		_ = c.write(s.disconnectFrame(ReasonTooManyWebsockets, maxSockets))
		c.end()
		return
	}
	defer s.dismiss(c)
	s.greet(c, r.URL.Query().Get("debug_reconnects") == "true")
	s.start(func() { s.pings(c) })
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		s.acknowledged(c, frame, c.frames.next())
	}
}

// admit counts the connection unless there are too many or the server closes.
func (s *Server) admit(c *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sockets.open) >= maxSockets || s.closed() {
		return false
	}
	s.sockets.count++
	c.n = s.sockets.count
	s.sockets.open = append(s.sockets.open, c)
	return true
}

func (s *Server) dismiss(c *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.open = slices.DeleteFunc(s.sockets.open, func(x *socket) bool { return x == c })
	s.bump()
}

// greet sends hello; only then the connection gets envelopes, so that hello comes first.
func (s *Server) greet(c *socket, debug bool) {
	life := socketLife
	if debug {
		life = debugLife
		s.start(func() { s.expire(c) })
	}
	s.mu.Lock()
	hello := Object{
		"type": "hello", "num_connections": len(s.sockets.open), "connection_info": Object{"app_id": s.ws.AppID},
		"debug_info": Object{"host": "applink-slacktest", "build_number": 1, "approximate_connection_time": life},
	}
	s.mu.Unlock()
	_ = c.write(hello) // a failure shows in the first read
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ready = true
	s.bump()
}

// expire ends a connection opened with debug_reconnects after its six minutes.
func (s *Server) expire(c *socket) {
	due, release := s.clk.After(debugLife*time.Second - warningLead)
	defer release()
	select {
	case <-due:
		_ = c.write(s.disconnectFrame(ReasonWarning, 0))
		s.closeAfter(c, warningLead)
	case <-c.gone:
	case <-s.stop:
	}
}

// pings keeps the connection alive: clients give up when they hear no ping for half a minute.
func (s *Server) pings(c *socket) {
	for {
		if err := c.control(websocket.PingMessage, nil); err != nil {
			return
		}
		due, release := clock.System{}.After(s.ping)
		select {
		case <-due:
		case <-c.gone:
			release()
			return
		case <-s.stop:
			release()
			return
		}
	}
}

func (s *Server) closeSockets() {
	s.mu.Lock()
	open := slices.Clone(s.sockets.open)
	s.mu.Unlock()
	for _, c := range open {
		c.end()
	}
}

// deliverSocket wraps a payload in an envelope and sends it on the next connection in turn.
func (s *Server) deliverSocket(ctx context.Context, kind string, payload Object, again redelivery) (Answer, error) {
	envelope := Object{"type": kind, "payload": payload, "accepts_response_payload": kind == kindCommand}
	switch kind {
	case kindSuggestion:
		envelope["type"], envelope["accepts_response_payload"] = kindInteract, true
	case kindInteract:
		envelope["accepts_response_payload"] = str(payload, "type") == "view_submission"
	case kindEvent:
		envelope["retry_attempt"], envelope["retry_reason"] = again.num, strings.TrimPrefix(again.reason, "http_")
	}
	return s.sendEnvelope(ctx, kind, envelope), nil
}

func (s *Server) sendEnvelope(ctx context.Context, kind string, envelope Object) Answer {
	d := Delivery{Kind: kind, Envelope: envelope, Sent: s.clk.Now()}
	targets, id, acked := s.address(envelope)
	if len(targets) == 0 {
		d.Answer = Answer{Err: "no socket is connected"}
		s.recordDelivery(d)
		return d.Answer
	}
	d.Socket = targets[0].n
	late, release := s.clk.After(deadline)
	for _, c := range targets {
		_ = c.write(envelope) // no acknowledgement will tell
	}
	why := "late"
	select {
	case d.Answer = <-acked:
		why = "again"
	case <-late:
		d.Answer = Answer{TimedOut: true}
	case <-ctx.Done():
		d.Answer = Answer{Err: ctx.Err().Error()}
	case <-s.stop:
		d.Answer = Answer{Err: "server closed"}
	}
	release()
	s.mu.Lock()
	delete(s.sockets.pending, id)
	s.sockets.past[id] = why
	s.mu.Unlock()
	d.Answer.Took = s.clk.Now().Sub(d.Sent)
	if accepts, _ := envelope["accepts_response_payload"].(bool); !accepts {
		d.Answer.Body = nil // Slack ignores a payload that it did not ask for
	}
	s.recordDelivery(d)
	return d.Answer
}

// address gives the envelope an id and picks the connections it goes to.
func (s *Server) address(envelope Object) (targets []*socket, id string, acked chan Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id = str(envelope, "envelope_id")
	if id == "" {
		s.serial++
		id = fmt.Sprintf("00000000-0000-4000-9000-%012d", s.serial)
		envelope["envelope_id"] = id
	}
	open := s.greeted()
	if len(open) == 0 {
		return nil, id, nil
	}
	at := s.sockets.next % len(open)
	s.sockets.next++
	targets = []*socket{open[at]}
	switch s.sockets.duplicates {
	case NoDuplicates:
	case DuplicatesSame:
		targets = append(targets, open[at])
	case DuplicatesAcross:
		targets = append(targets, open[(at+1)%len(open)])
	}
	acked = make(chan Answer, 1)
	s.sockets.pending[id] = acked
	return targets, id, acked
}

// acknowledged handles one frame from the bot.
func (s *Server) acknowledged(c *socket, frame []byte, fragmented bool) {
	c.mu.Lock()
	silent := c.silent
	c.mu.Unlock()
	if silent {
		return
	}
	var body struct {
		EnvelopeID string          `json:"envelope_id"`
		Payload    json.RawMessage `json:"payload"`
	}
	err := json.Unmarshal(frame, &body)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := Ack{EnvelopeID: body.EnvelopeID, Socket: c.n, At: s.clk.Now(), Size: len(frame), Payload: body.Payload}
	waiting, known := s.sockets.pending[a.EnvelopeID]
	switch {
	case len(frame) >= maxAck:
		a.Dropped = "too large"
	case fragmented:
		a.Dropped = "fragmented"
	case err != nil:
		a.Dropped = "bad json"
	case !known:
		a.Dropped = s.sockets.past[a.EnvelopeID]
		if a.Dropped == "" {
			a.Dropped = "unknown"
		}
	default:
		delete(s.sockets.pending, a.EnvelopeID)
		s.sockets.past[a.EnvelopeID] = "again"
		waiting <- Answer{Status: http.StatusOK, Body: body.Payload}
	}
	s.sockets.acks = append(s.sockets.acks, a)
	s.bump()
}
