package slacktest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Endpoints are the URLs of the bot, as an app's settings name them.
type Endpoints struct {
	Commands, Interactions, Options, Events string
}

// SetBotURL makes the server deliver over HTTP to base + /slack/commands, /slack/interactions,
// /slack/options and /slack/events.
func (s *Server) SetBotURL(base string) {
	base = strings.TrimRight(base, "/")
	s.SetEndpoints(Endpoints{
		Commands: base + "/slack/commands", Interactions: base + "/slack/interactions",
		Options: base + "/slack/options", Events: base + "/slack/events",
	})
}

// SetEndpoints makes the server deliver over HTTP to the URLs given.
func (s *Server) SetEndpoints(e Endpoints) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = e
	s.socketMode = false
}

// Kinds of deliveries. Block suggestions travel as interactive envelopes over Socket Mode, but to
// a URL of their own over HTTP.
const (
	kindCommand    = "slash_commands"
	kindInteract   = "interactive"
	kindSuggestion = "block_suggestion"
	kindEvent      = "events_api"
)

// redelivery says that an event was sent before.
type redelivery struct {
	num    int
	reason string
}

// deliver sends a payload over the transport in use and waits for the acknowledgement.
func (s *Server) deliver(ctx context.Context, kind string, payload Object, again redelivery) (Answer, error) {
	s.mu.Lock()
	socket := s.socketMode
	s.mu.Unlock()
	if socket {
		return s.deliverSocket(ctx, kind, payload, again)
	}
	req, err := s.request(kind, payload)
	if err != nil {
		return Answer{}, err
	}
	if again.num > 0 {
		req.Header.Set("X-Slack-Retry-Num", itoa(again.num))
		req.Header.Set("X-Slack-Retry-Reason", again.reason)
	}
	return s.send(ctx, kind, s.signed(req, s.clk.Now())), nil
}

// request makes the unsigned HTTP form of a payload.
func (s *Server) request(kind string, payload Object) (Request, error) {
	s.mu.Lock()
	e := s.endpoints
	s.mu.Unlock()
	r := Request{Header: http.Header{"User-Agent": {"Slackbot 1.0 (+https://api.slack.com/robots)"}, "Accept": {"application/json,*/*"}}}
	switch kind {
	case kindCommand:
		form := url.Values{}
		for k, v := range payload {
			t, _ := v.(string)
			form.Set(k, t)
		}
		r.URL, r.Body = e.Commands, []byte(form.Encode())
	case kindInteract, kindSuggestion:
		r.URL, r.Body = e.Interactions, []byte(url.Values{"payload": {string(mustJSON(payload))}}.Encode())
		if kind == kindSuggestion {
			r.URL = e.Options
		}
	default:
		r.URL, r.Body = e.Events, mustJSON(payload)
	}
	if r.URL == "" {
		return Request{}, fmt.Errorf("%w: no URL for %s", ErrNoBot, kind)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if kind == kindEvent {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// Send delivers r exactly as it is, records it as kind "raw" and returns the bot's answer. Tests
// use it for requests that Slack would never send, and to replay recorded ones.
func (s *Server) Send(ctx context.Context, r Request) Answer {
	return s.send(ctx, "raw", r.clone())
}

// send does the HTTP exchange within Slack's deadline.
func (s *Server) send(ctx context.Context, kind string, r Request) Answer {
	sent := s.clk.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late, release := s.clk.After(deadline)

	done := make(chan Answer, 1)
	s.start(func() { done <- s.exchangeHTTP(ctx, r) })
	var a Answer
	select {
	case a = <-done:
	case <-late:
		a = Answer{TimedOut: true}
	case <-ctx.Done():
		a = Answer{Err: ctx.Err().Error()}
	case <-s.stop:
		a = Answer{Err: "server closed"}
	}
	// Released before anyone can see the delivery, so that a test that moves the clock afterwards
	// finds only the timers of what comes next.
	release()
	a.Took = s.clk.Now().Sub(sent)
	s.log.DebugContext(ctx, "delivered", "kind", kind, "status", a.Status, "timed_out", a.TimedOut, "err", a.Err)
	s.recordDelivery(Delivery{Kind: kind, Request: &r, Sent: sent, Answer: a})
	return a
}

func (s *Server) exchangeHTTP(ctx context.Context, r Request) Answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return Answer{Err: err.Error()}
	}
	req.Header = r.Header.Clone()
	res, err := s.client.Do(req)
	if err != nil {
		return Answer{Err: err.Error()}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := readAll(ctx, res.Body)
	if err != nil {
		return Answer{Status: res.StatusCode, Header: res.Header, Err: err.Error()}
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: body}
}

// visibleError is what a person reads when the bot did not acknowledge; empty when it did.
// operation_timeout is documented (interactivity/implementing-slash-commands); the others are
// observed.
func visibleError(a Answer) string {
	switch {
	case a.TimedOut:
		return "operation_timeout"
	case a.Err != "":
		return "dispatch_failed"
	case a.Status >= 500:
		return "http_service_error"
	case a.Status >= 400:
		return "http_client_error"
	case a.Status != http.StatusOK:
		return "dispatch_failed"
	}
	return ""
}

// SSLCheck sends the signed certificate probe that Slack sends to the commands URL of
// distributed apps.
func (s *Server) SSLCheck(ctx context.Context) (Answer, error) {
	r, err := s.request(kindCommand, Object{"token": s.verificationToken(), "ssl_check": "1"})
	if err != nil {
		return Answer{}, err
	}
	return s.send(ctx, "ssl_check", s.signed(r, s.clk.Now())), nil
}

// VerifyURL sends the url_verification handshake to the events URL. It is an error when the bot
// does not echo the challenge.
func (s *Server) VerifyURL(ctx context.Context) (Answer, error) {
	s.mu.Lock()
	challenge := "challenge-" + s.shortID()
	s.mu.Unlock()
	r, err := s.request(kindEvent, Object{"type": "url_verification", "token": s.verificationToken(), "challenge": challenge})
	if err != nil {
		return Answer{}, err
	}
	a := s.send(ctx, "url_verification", s.signed(r, s.clk.Now()))
	if !a.OK() || !strings.Contains(string(a.Body), challenge) {
		return a, fmt.Errorf("the bot did not echo the challenge: status %d, body %.100q", a.Status, a.Body)
	}
	return a, nil
}

// verificationToken is the deprecated token in every payload. It is not a secret and proves
// nothing; a bot that checks it and not the signature is wrong.
func (s *Server) verificationToken() string { return "slacktest-verification-token" }
