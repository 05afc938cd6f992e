package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	slackapi "github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"ocim/internal/clock"
	"ocim/ops"
)

const (
	// maxAck is how large an acknowledgement may be: Slack drops those of 20 KiB without a word.
	// What does not fit goes over the Web API. Observed, as slack-go's socketmode package says.
	maxAck  = 20_000
	ackTime = 3 * time.Second
	// socketSlots is how many envelopes of one connection are worked on at once.
	socketSlots = 64
	// flushTime is left for the last acknowledgements to be written: slack-go puts them into a
	// queue, and does not tell when it is empty.
	flushTime = 200 * time.Millisecond
	// stable is how long a connection must have lived for the next one to be opened at once.
	stable  = time.Minute
	minPace = time.Second
	maxPace = time.Minute
	// Waits after slack-go has given up on a connection, or auth.test has failed.
	minRetry = 2 * time.Second
)

// Run learns who the bot is in every workspace and keeps the Socket Mode connections. It blocks
// until ctx ends and then returns nil: whatever is wrong with one workspace is logged, told by
// [Adapter.Ready] and tried again, and the others work on.
func (a *Adapter) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, ws := range a.order {
		running.Go(func() { a.learn(ctx, ws) })
	}
	for _, s := range a.sockets() {
		for range s.count {
			running.Go(func() { a.keep(ctx, s) })
		}
	}
	<-ctx.Done()
	running.Wait()
	return nil
}

// Ready is nil once every workspace is known and, with Socket Mode, has a connection.
func (a *Adapter) Ready() error {
	all := a.Readiness()
	var errs []error
	for _, ws := range a.order {
		if err := all[ws.TeamID]; err != nil {
			errs = append(errs, fmt.Errorf("slack workspace %s: %w", ws.TeamID, err))
		}
	}
	return errors.Join(errs...)
}

// Readiness tells for each workspace what keeps it from working, nil if nothing does. It makes no
// call.
func (a *Adapter) Readiness() map[string]error {
	out := map[string]error{}
	for _, ws := range a.order {
		var err error
		trouble := ws.trouble.Load()
		switch {
		case trouble != nil:
			err = *trouble
		case ws.known.Load() == nil:
			err = errors.New("not reached yet")
		case ws.Socket && ws.online.Load() == 0:
			err = errors.New("no socket")
		}
		out[ws.TeamID] = err
	}
	return out
}

// learn asks who the bot is until there is an answer. A token that Slack refuses, or that belongs to
// another workspace, is asked about slowly: it may be made good over there.
func (a *Adapter) learn(ctx context.Context, ws *workspace) {
	for try := 0; ; try++ {
		_, err := a.identity(ctx, ws)
		if err == nil || ctx.Err() != nil {
			return
		}
		wait := jitter(minRetry, try)
		if ops.CodeOf(err) == ops.CodeUnavailable {
			a.log.WarnContext(ctx, "slack not reached", "workspace", ws.TeamID, "err", err)
		} else {
			a.log.ErrorContext(ctx, "slack workspace cannot be used", "workspace", ws.TeamID, "err", err)
			wait = maxPace
		}
		if clock.Sleep(ctx, a.clock, wait) != nil {
			return
		}
	}
}

// jitter is a wait that doubles with every try up to maxPace, somewhere in its upper half, so that
// many bots do not come back at the same instant.
func jitter(first time.Duration, try int) time.Duration {
	d := maxPace
	if try < 6 {
		d = min(first<<try, maxPace)
	}
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load, hides nothing
}

// socketApp is one app token with the workspaces for which it may receive.
type socketApp struct {
	ws    *workspace // any of them: token and address are the same
	teams map[string]*workspace
	count int
}

// sockets groups the workspaces by app token: a connection belongs to the app, and Slack sends over
// it whatever any workspace of the app sends.
func (a *Adapter) sockets() []*socketApp {
	var out []*socketApp
	for _, ws := range a.order {
		if !ws.Socket {
			continue
		}
		var app *socketApp
		for _, o := range out {
			if o.ws.APIURL == ws.APIURL && o.ws.AppToken.Equal(ws.AppToken.Reveal()) {
				app = o
			}
		}
		if app == nil {
			app = &socketApp{ws: ws, teams: map[string]*workspace{}}
			out = append(out, app)
		}
		app.teams[ws.TeamID] = ws
		app.count = max(app.count, ws.Sockets)
	}
	return out
}

// keep holds one connection until ctx ends. slack-go reconnects by itself and returns only for
// errors that it takes as final; a token that was renewed meanwhile makes even those pass.
func (a *Adapter) keep(ctx context.Context, app *socketApp) {
	for try := 0; ctx.Err() == nil; try++ {
		began := a.clock.Now()
		err := a.connect(ctx, app)
		if ctx.Err() != nil {
			return
		}
		if a.clock.Now().Sub(began) > stable {
			try = 0
		}
		a.log.ErrorContext(ctx, "slack socket given up, trying again later", "workspace", app.ws.TeamID, "reason", socketReason(err))
		if clock.Sleep(ctx, a.clock, jitter(minRetry, try+2)) != nil {
			return
		}
	}
}

// connect runs one of slack-go's connections.
func (a *Adapter) connect(ctx context.Context, app *socketApp) error {
	pace := &pacer{client: &http.Client{
		Transport: a.client.Transport, CheckRedirect: a.client.CheckRedirect, Timeout: callTimeout,
	}, clock: a.clock}
	client := socketmode.New(
		slackapi.New(app.ws.BotToken.Reveal(),
			slackapi.OptionAppLevelToken(app.ws.AppToken.Reveal()),
			slackapi.OptionAPIURL(app.ws.APIURL),
			slackapi.OptionHTTPClient(pace)),
		socketmode.OptionReadLimit(a.maxBody),
	)
	// The connection outlives ctx until what was read has its acknowledgement.
	open, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	r := &socketReader{a: a, app: app, client: client, slots: make(chan struct{}, socketSlots)}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer hangUp()
		online := r.read(reading)
		r.running.Wait()
		if online && open.Err() == nil {
			flush, cancel := context.WithTimeout(open, flushTime) // ends early when the connection does
			defer cancel()
			<-flush.Done()
		}
	})
	err := client.RunContext(open)
	stopReading()
	reader.Wait()
	return err
}

// pacer makes the calls that open connections. When one follows another within a minute again and
// again, as after link_disabled, slack-go would ask without a pause; the pacer inserts one.
type pacer struct {
	client *http.Client
	clock  clock.Clock

	mu    sync.Mutex
	last  time.Time
	short int
}

// Do implements the HTTP client that slack-go wants.
func (p *pacer) Do(req *http.Request) (*http.Response, error) {
	if wait := p.next(); wait > 0 {
		if err := clock.Sleep(req.Context(), p.clock, wait); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	p.last = p.clock.Now()
	p.mu.Unlock()
	res, err := p.client.Do(req) //nolint:gosec // the operator configured the address
	if err != nil {
		return nil, bare(err)
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxResponseBytes), res.Body}
	return res, nil
}

// next is how long the next attempt has to wait.
func (p *pacer) next() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() || p.clock.Now().Sub(p.last) >= stable {
		p.short = 0
		return 0
	}
	p.short++
	if p.short == 1 {
		return 0 // one renewal soon after the start is nothing unusual
	}
	return jitter(minPace, p.short-2)
}

// socketReader reads what one connection brings. One goroutine reads; each envelope is worked on in
// one of a limited number of others, and acknowledged only when the handler has answered, that is
// when the request is on disk.
type socketReader struct {
	a       *Adapter
	app     *socketApp
	client  *socketmode.Client
	slots   chan struct{}
	running sync.WaitGroup
	online  bool
}

// read takes events until ctx ends, and returns whether there was a connection then.
func (r *socketReader) read(ctx context.Context) (online bool) {
	defer r.setOnline(false)
	for {
		if ctx.Err() != nil { // what has come in since then is Slack's to deliver elsewhere
			return r.online
		}
		select {
		case <-ctx.Done():
		case e := <-r.client.Events:
			r.event(ctx, e)
		}
	}
}

func (r *socketReader) setOnline(on bool) {
	if r.online == on {
		return
	}
	r.online = on
	n := int32(-1)
	if on {
		n = 1
	}
	for _, ws := range r.app.teams {
		ws.online.Add(n)
	}
}

func (r *socketReader) event(ctx context.Context, e socketmode.Event) {
	logger := r.a.log.With("workspace", r.app.ws.TeamID)
	switch e.Type {
	case socketmode.EventTypeConnecting:
		r.setOnline(false)
	case socketmode.EventTypeConnected:
		r.setOnline(true)
		logger.InfoContext(ctx, "slack socket open")
	case socketmode.EventTypeConnectionError:
		var err error
		if c, ok := e.Data.(*slackapi.ConnectionErrorEvent); ok {
			err = c.ErrorObj
		}
		logger.WarnContext(ctx, "slack socket not opened", "reason", socketReason(err))
	case socketmode.EventTypeIncomingError, socketmode.EventTypeErrorWriteFailed, socketmode.EventTypeInvalidAuth:
		logger.WarnContext(ctx, "slack socket trouble", "event", string(e.Type))
	case socketmode.EventTypeErrorBadMessage:
		r.badMessage(ctx, e)
	case socketmode.EventTypeSlashCommand, socketmode.EventTypeInteractive, socketmode.EventTypeEventsAPI:
		if e.Request != nil {
			r.work(ctx, *e.Request)
		}
	case socketmode.EventTypeHello, socketmode.EventTypeDisconnect: // slack-go sees to them
	}
}

// badMessage takes up what slack-go could not decode: unknown envelopes, events and blocks. It
// leaves them unacknowledged, and Slack would send them again and count failures; we decode less
// and so can often still serve them.
func (r *socketReader) badMessage(ctx context.Context, e socketmode.Event) {
	bad, ok := e.Data.(*socketmode.ErrorBadMessage)
	if !ok {
		return
	}
	var env socketmode.Request
	if err := json.Unmarshal(bad.Message, &env); err != nil || env.EnvelopeID == "" {
		r.a.log.WarnContext(ctx, "slack socket sent something unreadable", "workspace", r.app.ws.TeamID, "bytes", len(bad.Message))
		return
	}
	r.work(ctx, env)
}

// work handles one envelope in a goroutine of its own, as soon as there is room for it.
func (r *socketReader) work(ctx context.Context, env socketmode.Request) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	ctx = context.WithoutCancel(ctx) // what was taken is brought to its end
	r.running.Go(func() {
		defer func() { <-r.slots }()
		defer r.a.contain("socket")
		o := r.a.handleEnvelope(ctx, r.app, env)
		if o.refused != "" {
			r.a.log.WarnContext(ctx, "slack request refused", "path", "socket", "reason", o.refused)
			o = outcome{}
		}
		payload := fitAck(o.payload)
		if !env.AcceptsResponsePayload {
			payload = nil
		}
		err := r.ack(ctx, env.EnvelopeID, payload)
		if err != nil {
			r.a.log.WarnContext(ctx, "slack envelope not acknowledged", "workspace", r.app.ws.TeamID)
		}
		if payload == nil || err != nil {
			r.a.sendLate(ctx, o)
		}
	})
}

// ack queues an acknowledgement; one that is not queued within ackTime comes too late anyway.
func (r *socketReader) ack(ctx context.Context, id string, payload any) error {
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	return r.client.AckCtx(ctx, id, payload)
}

// fitAck is the payload if Slack will take it in an acknowledgement, else nil. Suggestions are
// shortened until they fit.
func fitAck(payload any) any {
	for payload != nil {
		b, err := json.Marshal(payload)
		if err != nil {
			return nil
		}
		if len(b) < maxAck {
			return payload
		}
		s, ok := payload.(suggestions)
		if !ok {
			return nil
		}
		payload = suggestions{Options: s.Options[:len(s.Options)*3/4]}
	}
	return nil
}

// handleEnvelope decodes and handles one envelope. What the socket delivers needs no signature: we
// opened the connection with the app's token. That token also says which workspaces may be meant.
func (a *Adapter) handleEnvelope(ctx context.Context, app *socketApp, env socketmode.Request) outcome {
	from := origin{teams: app.teams}
	switch env.Type {
	case socketmode.RequestTypeSlashCommands:
		var c command
		if err := json.Unmarshal(env.Payload, &c); err != nil {
			return outcome{refused: "command malformed"}
		}
		from.key = envelopeKey(c.TriggerID, env.Payload)
		return a.handleCommand(ctx, from, c)
	case socketmode.RequestTypeInteractive:
		in, err := decodeInteraction(env.Payload)
		if err != nil {
			return outcome{refused: "interaction malformed"}
		}
		from.key = envelopeKey(in.TriggerID, env.Payload)
		return a.handleInteraction(ctx, from, in)
	case socketmode.RequestTypeEventsAPI:
		var e event
		if err := json.Unmarshal(env.Payload, &e); err != nil {
			return outcome{refused: "event malformed"}
		}
		return a.handleEvent(ctx, from, e)
	}
	return outcome{}
}

// envelopeKey names what an envelope delivers. A redelivery has a new envelope id but the same
// trigger; where there is none, the payload itself is compared.
func envelopeKey(trigger string, payload []byte) string {
	if trigger != "" {
		return requestKey("trigger:" + trigger)
	}
	return requestKey("payload:" + string(payload))
}

// socketReason is a word for the log. The error itself may hold the address of the socket, which
// is a secret.
func socketReason(err error) string {
	var refused slackapi.SlackErrorResponse
	var limited *slackapi.RateLimitedError
	var status slackapi.StatusCodeError
	switch {
	case errors.As(err, &refused):
		return safeCode(refused.Err)
	case errors.As(err, &limited):
		return "rate limited"
	case errors.As(err, &status):
		return statusError(status.Code).Error()
	}
	return "connection failed"
}
