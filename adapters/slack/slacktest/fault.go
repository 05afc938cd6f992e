package slacktest

import (
	"bytes"
	"context"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// FaultKind is a way in which a call goes wrong.
type FaultKind string

// The kinds of fault. "Commits" means that the call is carried out although the caller cannot know.
const (
	// TooMany answers 429 with a Retry-After header.
	TooMany FaultKind = "too_many"
	// TooManyBare answers 429 without the header.
	TooManyBare FaultKind = "too_many_bare"
	// RateLimited answers 200 with the error rate_limited, as chat.postMessage may.
	RateLimited FaultKind = "rate_limited"
	// ServerError answers Status (503 when zero) with an HTML page.
	ServerError FaultKind = "server_error"
	// Refuse answers 200 with Error, such as not_in_channel or token_revoked.
	Refuse FaultKind = "refuse"
	// Cut resets the connection before the call is carried out.
	Cut FaultKind = "cut"
	// Lost commits, then resets the connection instead of answering.
	Lost FaultKind = "lost"
	// Slow waits Delay by the server's clock, then works as usual.
	Slow FaultKind = "slow"
	// Hang never answers, until the caller goes away or the server closes.
	Hang FaultKind = "hang"
	// HangAfter commits and then hangs.
	HangAfter FaultKind = "hang_after"
	// Endless commits and answers with a body that does not end.
	Endless FaultKind = "endless"
)

// Fault makes calls go wrong while it is in force.
type Fault struct {
	Kind FaultKind
	// Method is the method that it meets, "response_url", "upload", or empty for all.
	Method string
	// Channel restricts it to calls with this channel argument.
	Channel string
	// Times ends it after so many calls; zero means until it is removed.
	Times int
	// Probability from 0 to 1 lets some calls through; zero means every call is met. The choice
	// follows Options.Seed.
	Probability float64
	RetryAfter  time.Duration // TooMany; 1 s when zero
	Status      int           // ServerError
	Error       string        // Refuse
	Delay       time.Duration // Slow

	met int
}

// Fail puts f in force and returns a function that removes it. When several faults match a call,
// the one added first meets it.
func (s *Server) Fail(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &f
	s.faults = append(s.faults, p)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(x *Fault) bool { return x == p })
	}
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault picks the fault for a call and counts it.
func (s *Server) fault(method string, a args) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		switch {
		case f.Method != "" && f.Method != method,
			f.Channel != "" && f.Channel != a.str("channel"),
			f.Times > 0 && f.met >= f.Times,
			f.Probability > 0 && s.rand.Float64() >= f.Probability:
			continue
		}
		f.met++
		c := *f
		return &c
	}
	return nil
}

// failBefore does what happens before the call is carried out, and tells whether that was all.
func (s *Server) failBefore(w http.ResponseWriter, r *http.Request, f *Fault, call *Call) (done bool) {
	switch f.Kind {
	case TooMany, TooManyBare:
		call.Status, call.Error = http.StatusTooManyRequests, "ratelimited"
		s.recordCall(*call)
		writeTooMany(w, max(f.RetryAfter, time.Second), f.Kind == TooMany)
	case RateLimited, Refuse:
		e := refuse(f.Error)
		if f.Kind == RateLimited {
			e = refuse("rate_limited")
		}
		call.Status, call.Error = http.StatusOK, e.code
		s.recordCall(*call)
		writeJSON(w, http.StatusOK, e.json(nil))
	case ServerError:
		call.Status = f.Status
		if call.Status == 0 {
			call.Status = http.StatusServiceUnavailable
		}
		s.recordCall(*call)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(call.Status)
		_, _ = w.Write([]byte("<html><body>Server Error</body></html>"))
	case Cut:
		s.recordCall(*call)
		reset(w)
	case Hang:
		s.recordCall(*call)
		s.hang(r.Context())
		reset(w)
	case Slow:
		s.wait(r.Context(), f.Delay)
		return false
	default:
		return false
	}
	return true
}

// failAfter spoils the answer of a call that has been carried out, and tells whether it did.
func (s *Server) failAfter(w http.ResponseWriter, r *http.Request, f *Fault, call *Call) bool {
	switch f.Kind {
	case Lost:
		s.recordCall(*call)
		reset(w)
	case HangAfter:
		s.recordCall(*call)
		s.hang(r.Context())
		reset(w)
	case Endless:
		call.Status = http.StatusOK
		s.recordCall(*call)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(`{"ok":true,"padding":"`))
		s.drip(w)
	default:
		return false
	}
	return true
}

// hang waits until the caller or the server goes away.
func (s *Server) hang(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.stop:
	}
}

// drip writes without end until the caller or the server goes away.
func (s *Server) drip(w http.ResponseWriter) {
	chunk := bytes.Repeat([]byte("0"), 32<<10)
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
		select {
		case <-s.stop:
			return
		default:
		}
	}
}

func (s *Server) wait(ctx context.Context, d time.Duration) {
	due, release := s.clk.After(d)
	defer release()
	select {
	case <-due:
	case <-ctx.Done():
	case <-s.stop:
	}
}

// reset closes the connection under the caller without an answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not an orderly end
	}
	_ = conn.Close()
}

func writeTooMany(w http.ResponseWriter, wait time.Duration, header bool) {
	if header {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	writeJSON(w, http.StatusTooManyRequests, Object{"ok": false, "error": "ratelimited"})
}

// Rates that SetRealLimits enforces (docs.slack.dev, apis/web-api/rate-limits): about one message a
// second and channel with short bursts, and tier 3 for chat.update over the whole workspace.
const (
	postWindow, postsPerWindow     = 5 * time.Second, 5
	updateWindow, updatesPerWindow = time.Minute, 50
)

// SetRealLimits switches Slack's rate limits for chat.postMessage (a message a second in each
// channel, five at once) and chat.update (50 a minute in the workspace) on or off. They are off at
// first.
func (s *Server) SetRealLimits(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.realLimits = on
	clear(s.windows)
}

// overLimit counts a call and returns how long the caller must wait, zero when it may go on.
func (s *Server) overLimit(method string, a args) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.realLimits {
		return 0
	}
	key, window, most := method, updateWindow, updatesPerWindow
	switch method {
	case "chat.postMessage":
		key, window, most = method+a.str("channel"), postWindow, postsPerWindow
	case "chat.update":
	default:
		return 0
	}
	now := s.clk.Now()
	recent := slices.DeleteFunc(s.windows[key], func(t time.Time) bool { return now.Sub(t) >= window })
	s.windows[key] = recent
	if len(recent) >= most {
		return window - now.Sub(recent[0])
	}
	s.windows[key] = append(recent, now)
	return 0
}
