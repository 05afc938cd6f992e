package slacktest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Call is one Web API call (or one use of a response_url) as the server saw it.
type Call struct {
	// Method is the name after /api/, "response_url" or "upload".
	Method string
	// Args are the arguments as text. The token is masked to its kind, for instance "xoxb-…".
	Args map[string]string
	// At is when the call came, by the server's clock.
	At time.Time
	// Status is the HTTP status answered, 0 when the connection was cut instead.
	Status int
	// Error is the error of the JSON answer, empty when it was ok.
	Error string
	// Committed tells whether the call changed the workspace or was a successful read, even if its
	// answer was then lost.
	Committed bool
	// Fault names the fault that met the call, if any.
	Fault FaultKind
	// TS is the timestamp of the message that the call made or changed, if any.
	TS string
}

// Delivery is one request or envelope that the server sent to the bot, with the bot's answer.
type Delivery struct {
	// Kind is slash_commands, interactive, block_suggestion, events_api, ssl_check,
	// url_verification or raw.
	Kind string
	// Request is what went out over HTTP; nil over Socket Mode.
	Request *Request
	// Envelope is what went out over Socket Mode; nil over HTTP.
	Envelope map[string]any
	// Socket is the number of the connection used, counted from 1; 0 over HTTP.
	Socket int
	// Sent is when it left, by the server's clock.
	Sent time.Time
	// Answer is what came back.
	Answer Answer
}

// Answer is what the bot said to a request within the deadline.
type Answer struct {
	// Status is the HTTP status. Over Socket Mode an acknowledgement counts as 200.
	Status int
	// Header is the HTTP header; nil over Socket Mode.
	Header http.Header
	// Body is the HTTP body, or the payload of the acknowledgement.
	Body []byte
	// Took is the time from sending to the whole answer, by the server's clock.
	Took time.Duration
	// TimedOut is set when no whole answer came within the deadline.
	TimedOut bool
	// Err is the reason when no answer came at all.
	Err string
}

// OK tells whether the bot acknowledged in time with a 2xx status.
func (a Answer) OK() bool {
	return !a.TimedOut && a.Err == "" && a.Status >= 200 && a.Status < 300
}

// Calls returns every Web API call so far, oldest first, or only those of the methods named.
func (s *Server) Calls(methods ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Call
	for _, c := range s.calls {
		if len(methods) == 0 || slices.Contains(methods, c.Method) {
			out = append(out, c)
		}
	}
	return out
}

// Deliveries returns everything sent to the bot so far, in the order it was answered or given up,
// or only the kinds named.
func (s *Server) Deliveries(kinds ...string) []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Delivery
	for _, d := range s.deliveries {
		if len(kinds) == 0 || slices.Contains(kinds, d.Kind) {
			out = append(out, d)
		}
	}
	return out
}

func (s *Server) recordCall(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
	s.bump()
}

func (s *Server) recordDelivery(d Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliveries = append(s.deliveries, d)
	s.bump()
}

// mask keeps the kind of a token and hides the rest, so that a ledger can be printed.
func mask(token string) string {
	if token == "" {
		return ""
	}
	kind, _, found := strings.Cut(token, "-")
	if !found {
		return "…"
	}
	return kind + "-…"
}
