package gitlabtest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ocim/internal/clock"
)

// Fault is something that goes wrong with requests.
type Fault struct {
	// Name appears in the ledger; empty is derived from Do.
	Name string
	// A request is hit if it fits every condition that is set: the method, the name of the route
	// (see Entry.Route), a pattern on the encoded path, a function.
	Method string
	Route  string
	Path   *regexp.Regexp
	Match  func(*http.Request) bool
	// Skip lets that many fitting requests pass first.
	Skip int
	// Times is the number of requests that are hit; zero is all until removed.
	Times int
	// Probability is the chance of a fitting request to be hit, by the server's seed; zero is 1.
	Probability float64
	// Do is what happens.
	Do Action
}

// Action is what a fault does. The functions below make them.
type Action struct {
	name string
	// early runs before GitLab sees the request. If it returns false the request ends there.
	early func(*Server, http.ResponseWriter, *http.Request, *Entry, *Injected) bool
	// late runs instead of the answer. A nil late leaves the answer alone.
	late func(http.ResponseWriter, *http.Request, *reply, *Entry)
	lag  lag
}

// lag says how far behind the database the answers to reads are.
type lag struct {
	unseen time.Duration // pipelines younger than this do not exist yet
	stale  time.Duration // pipelines are shown as they were so long ago
}

// Injected is a fault in place.
type Injected struct {
	server  *Server
	fault   Fault
	skipped int
	hits    int
	gone    bool
	once    sync.Once
	release chan struct{}
}

// Inject adds a fault. If several fit a request, the first that ends it wins; delays and lags of the
// others still count.
func (s *Server) Inject(f Fault) *Injected {
	if f.Name == "" {
		f.Name = f.Do.name
	}
	in := &Injected{server: s, fault: f, release: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, in)
	return in
}

// Heal removes every fault and releases every request that hangs.
func (s *Server) Heal() {
	s.mu.Lock()
	all := slices.Clone(s.faults) // Remove shrinks the list
	s.mu.Unlock()
	for _, in := range all {
		in.Remove()
	}
}

// Hits is the number of requests that were hit so far.
func (in *Injected) Hits() int {
	in.server.mu.Lock()
	defer in.server.mu.Unlock()
	return in.hits
}

// Release lets requests that hang go on, now and in the future.
func (in *Injected) Release() { in.once.Do(func() { close(in.release) }) }

// Remove takes the fault away; requests that hang on it go on.
func (in *Injected) Remove() {
	in.Release()
	in.server.mu.Lock()
	defer in.server.mu.Unlock()
	in.gone = true
	in.server.faults = slices.DeleteFunc(in.server.faults, func(x *Injected) bool { return x == in })
}

// struck are the faults that hit one request.
type struck []*Injected

// strike returns the faults that hit a request and counts them. The caller holds mu.
func (s *Server) strike(r *http.Request, rt *route) struck {
	var hits struck
	for _, in := range s.faults {
		f := &in.fault
		if f.Method != "" && f.Method != r.Method ||
			f.Route != "" && (rt == nil || f.Route != rt.name) ||
			f.Path != nil && !f.Path.MatchString(r.URL.EscapedPath()) ||
			f.Match != nil && !f.Match(r) ||
			f.Times > 0 && in.hits >= f.Times {
			continue
		}
		if in.skipped < f.Skip {
			in.skipped++
			continue
		}
		if f.Probability > 0 && s.rng.Float64() >= f.Probability {
			continue
		}
		in.hits++
		hits = append(hits, in)
	}
	return hits
}

// lag is the longest lag of the faults.
func (h struck) lag() lag {
	var l lag
	for _, in := range h {
		l.unseen = max(l.unseen, in.fault.Do.lag.unseen)
		l.stale = max(l.stale, in.fault.Do.lag.stale)
	}
	return l
}

// before applies what happens before GitLab sees a request; false ends it.
func (s *Server) before(w http.ResponseWriter, r *http.Request, e *Entry, hits struck) bool {
	for _, in := range hits {
		s.mu.Lock()
		if e.Fault != "" {
			e.Fault += ", "
		}
		e.Fault += in.fault.Name
		s.mu.Unlock()
		if early := in.fault.Do.early; early != nil && !early(s, w, r, e, in) {
			return false
		}
	}
	return true
}

// answer sends the answer, or what a fault makes of it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, e *Entry, a *reply, hits struck) {
	for _, in := range hits {
		if late := in.fault.Do.late; late != nil {
			sent := &Entry{}
			defer func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				e.Sent = sent.Sent
			}()
			late(w, r, a, sent)
			return
		}
	}
	s.mu.Lock()
	e.Sent = a.status
	s.mu.Unlock()
	write(w, r, a)
}

// write sends an answer.
func write(w http.ResponseWriter, r *http.Request, a *reply) {
	raw, kind := encode(a)
	maps.Copy(w.Header(), a.header)
	if kind != "" && w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", kind)
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(raw)
	}
}

// Answer sends an answer without letting GitLab see the request.
func Answer(status int, header http.Header, body string) Action {
	return Action{name: "answer " + strconv.Itoa(status), early: func(
		s *Server, w http.ResponseWriter, r *http.Request, e *Entry, _ *Injected,
	) bool {
		s.mu.Lock()
		h := s.standardHeader(header.Clone())
		e.Sent = status
		s.mu.Unlock()
		write(w, r, &reply{status: status, header: h, body: body})
		return false
	}}
}

// JSONHeader is a header for [Answer] with a JSON body.
func JSONHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// RateLimited answers 429 with plain text and the headers of lib/gitlab/rack_attack.rb. The wait is
// rounded up to whole seconds.
func RateLimited(wait time.Duration) Action {
	a := Action{name: "rate limit"}
	a.early = func(s *Server, w http.ResponseWriter, r *http.Request, e *Entry, in *Injected) bool {
		reset := s.clock.Now().Add(wait)
		seconds := int64((wait + time.Second - 1) / time.Second)
		h := http.Header{}
		h.Set("Content-Type", "text/plain")
		h.Set("RateLimit-Name", "throttle_authenticated_api")
		h.Set("RateLimit-Limit", "2000")
		h.Set("RateLimit-Observed", "2001")
		h.Set("RateLimit-Remaining", "0")
		h.Set("RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
		h.Set("RateLimit-ResetTime", reset.UTC().Format(http.TimeFormat))
		h.Set("Retry-After", strconv.FormatInt(seconds, 10))
		return Answer(http.StatusTooManyRequests, h, "Retry later\n").early(s, w, r, e, in)
	}
	return a
}

// TooManyPipelines is the rate limit of pipeline creation, which is a 400
// (lib/gitlab/ci/pipeline/chain/limit/rate_limit.rb).
func TooManyPipelines() Action {
	a := Answer(http.StatusBadRequest, JSONHeader(),
		`{"message":{"base":["Too many pipelines created in the last minute. Try again later."]}}`)
	a.name = "pipeline rate limit"
	return a
}

// HTML answers 200 with a page, as a proxy or a sign-in wall does.
func HTML() Action {
	a := Answer(http.StatusOK, http.Header{"Content-Type": {"text/html; charset=utf-8"}},
		"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in</body></html>\n")
	a.name = "html"
	return a
}

// EchoHeaders answers with a body that repeats the request's headers, secrets included, as badly
// made proxies do. A caller that logs or shows error bodies is found out by it.
func EchoHeaders(status int) Action {
	return Action{name: "echo headers", early: func(
		s *Server, w http.ResponseWriter, r *http.Request, e *Entry, in *Injected,
	) bool {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(r.Header[name], ", "))
		}
		return Answer(status, http.Header{"Content-Type": {"text/plain"}}, b.String()).early(s, w, r, e, in)
	}}
}

// Delay holds a request back for d of the server's clock before GitLab sees it.
func Delay(d time.Duration) Action {
	return Action{name: "delay", early: func(
		s *Server, _ http.ResponseWriter, r *http.Request, _ *Entry, _ *Injected,
	) bool {
		return clock.Sleep(r.Context(), s.clock, d) == nil
	}}
}

// Hang holds a request back before GitLab sees it until [Injected.Release], or for ever.
func Hang() Action {
	return Action{name: "hang", early: func(
		_ *Server, _ http.ResponseWriter, r *http.Request, _ *Entry, in *Injected,
	) bool {
		select {
		case <-in.release:
			return true
		case <-r.Context().Done():
			return false
		}
	}}
}

// HangAfter lets GitLab act and holds the answer back until the caller gives up.
func HangAfter() Action {
	return Action{name: "hang after", late: func(_ http.ResponseWriter, r *http.Request, _ *reply, _ *Entry) {
		<-r.Context().Done()
	}}
}

// DropBefore resets the connection; GitLab never sees the request.
func DropBefore() Action {
	return Action{name: "drop before", early: func(
		_ *Server, w http.ResponseWriter, _ *http.Request, _ *Entry, _ *Injected,
	) bool {
		reset(w)
		return false
	}}
}

// DropAfter lets GitLab act and resets the connection instead of answering.
func DropAfter() Action {
	return Action{name: "drop after", late: func(w http.ResponseWriter, _ *http.Request, _ *reply, _ *Entry) {
		reset(w)
	}}
}

// AnswerAfter lets GitLab act and sends another answer, such as a 502 of a proxy.
func AnswerAfter(status int, header http.Header, body string) Action {
	return Action{name: "answer " + strconv.Itoa(status) + " after", late: func(
		w http.ResponseWriter, r *http.Request, _ *reply, e *Entry,
	) {
		e.Sent = status
		write(w, r, &reply{status: status, header: header, body: body})
	}}
}

// Truncate lets GitLab act and cuts the body of the answer after n bytes, closing the connection.
func Truncate(n int) Action {
	return Action{name: "truncate", late: func(w http.ResponseWriter, _ *http.Request, a *reply, e *Entry) {
		e.Sent = a.status
		raw, kind := encode(a)
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
		w.WriteHeader(a.status)
		_, _ = w.Write(raw[:min(n, len(raw))])
		// Returning with less than Content-Length makes the server close the connection.
		_ = http.NewResponseController(w).Flush()
	}}
}

// Flood answers 200 with n bytes of JSON that never ends; a negative n goes on until the caller
// hangs up. GitLab never sees the request.
func Flood(n int64) Action {
	return Action{name: "flood", early: func(
		s *Server, w http.ResponseWriter, _ *http.Request, e *Entry, _ *Injected,
	) bool {
		s.mu.Lock()
		e.Sent = http.StatusOK
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, `{"message":"`)
		chunk := strings.Repeat("all work and no play ", 3000)
		for sent := int64(0); n < 0 || sent < n; sent += int64(len(chunk)) {
			if _, err := io.WriteString(w, chunk); err != nil {
				break
			}
		}
		return false
	}}
}

// Unseen makes reads blind to pipelines younger than d: GET answers 404 and lists leave them out.
func Unseen(d time.Duration) Action { return Action{name: "unseen", lag: lag{unseen: d}} }

// Stale makes reads show pipelines as they were d ago, as a lagging replica does.
func Stale(d time.Duration) Action { return Action{name: "stale", lag: lag{stale: d}} }

// reset closes the connection with a TCP reset, so that the caller cannot take it for an answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		if !errors.Is(err, http.ErrNotSupported) {
			return
		}
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
