package mattermosttest

import (
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FaultKind is a way to go wrong.
type FaultKind string

// The faults. All of them happen to a call that reached the server.
const (
	// RateLimited refuses with 429 and the plain text of a real server, which
	// the typed client cannot decode.
	RateLimited FaultKind = "rate limited"
	// Unavailable answers 503 (or Fault.Status) with an API error.
	Unavailable FaultKind = "unavailable"
	// HTMLPage answers 502 (or Fault.Status) with a proxy's HTML page.
	HTMLPage FaultKind = "html page"
	// LostAnswer does the work, then drops the connection.
	LostAnswer FaultKind = "lost answer"
	// CutAnswer does the work and sends half of the answer.
	CutAnswer FaultKind = "cut answer"
	// Hang does nothing and never answers.
	Hang FaultKind = "hang"
	// Slow waits for Fault.Delay on the server's clock, then works.
	Slow FaultKind = "slow"
	// Endless answers 200 and a body that does not end.
	Endless FaultKind = "endless"
)

// Fault says which calls go wrong, and how.
type Fault struct {
	Kind FaultKind
	// Method and Path choose the calls; empty is any. Path is a pattern of
	// path.Match for the path below /api/v4: "/posts/*/patch".
	Method, Path string
	// Times is how often it happens; 0 is until ClearFaults.
	Times int
	// RetryAfter is what RateLimited promises; 0 is one second.
	RetryAfter time.Duration
	Delay      time.Duration
	Status     int
}

// Fail makes calls go wrong from now on. Of several faults that fit a call,
// the first one given happens.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults makes everything work again, from the next call on.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// nextFault finds the fault of a call, and counts it.
func (s *Server) nextFault(r *http.Request, n int) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := strings.TrimPrefix(r.URL.Path, "/api/v4")
	i := slices.IndexFunc(s.faults, func(f *Fault) bool { return matches(f.Method, f.Path, r.Method, p) })
	if i < 0 {
		return Fault{}, false
	}
	f := s.faults[i]
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
	}
	s.calls[n].Fault = f.Kind
	return *f, true
}

// faulty lets a fault happen and reports whether it answered the call.
func (s *Server) faulty(w *recorder, r *http.Request, body []byte, n int) bool {
	f, found := s.nextFault(r, n)
	if !found {
		return false
	}
	switch f.Kind {
	case RateLimited:
		writeLimited(w, max(f.RetryAfter, time.Second), 101)
	case Unavailable:
		status := orStatus(f.Status, http.StatusServiceUnavailable)
		s.writeError(w, apiError(status, "api.context.server_busy.app_error",
			"Server is busy, non-critical services are temporarily unavailable."))
	case HTMLPage:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(orStatus(f.Status, http.StatusBadGateway))
		_, _ = io.WriteString(w, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n")
	case LostAnswer:
		s.dispatch(httptest.NewRecorder(), r, body)
		panic(http.ErrAbortHandler)
	case CutAnswer:
		s.cut(w, r, body)
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.ended.Done():
		}
		panic(http.ErrAbortHandler)
	case Slow:
		fires, release := s.clock.After(f.Delay)
		defer release()
		select {
		case <-fires:
			return false
		case <-r.Context().Done():
		case <-s.ended.Done():
		}
		panic(http.ErrAbortHandler)
	case Endless:
		s.endless(w, r)
	}
	return true
}

func orStatus(status, otherwise int) int {
	if status == 0 {
		return otherwise
	}
	return status
}

// cut promises the whole answer by its length and sends half.
func (s *Server) cut(w http.ResponseWriter, r *http.Request, body []byte) {
	whole := httptest.NewRecorder()
	s.dispatch(whole, r, body)
	maps.Copy(w.Header(), whole.Header())
	b := whole.Body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(b[:len(b)/2])
	panic(http.ErrAbortHandler)
}

func (s *Server) endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, err := io.WriteString(w, `{"message":"`)
	for more := strings.Repeat("a", 32<<10); err == nil && r.Context().Err() == nil && s.ended.Err() == nil; {
		_, err = io.WriteString(w, more)
	}
}

// RateLimit is a server's limit per caller (RateLimitSettings: per second and
// burst). PerSecond zero is no limit.
type RateLimit struct {
	PerSecond float64
	Burst     int
}

// limited counts the call and refuses it when its caller is over the limit.
func (s *Server) limited(w http.ResponseWriter, r *http.Request) bool {
	l := s.opts.RateLimit
	if l.PerSecond <= 0 {
		return false
	}
	caller := r.Header.Get("Authorization")
	s.mu.Lock()
	now := s.clock.Now()
	used := s.buckets[caller]
	if at, seen := s.bucketAt[caller]; seen {
		used = max(0, used-now.Sub(at).Seconds()*l.PerSecond)
	}
	over := used+1 > float64(l.Burst)
	if !over {
		used++
	}
	s.buckets[caller], s.bucketAt[caller] = used, now
	s.mu.Unlock()
	if !over {
		return false
	}
	missing := time.Duration((used + 1 - float64(l.Burst)) / l.PerSecond * float64(time.Second))
	writeLimited(w, missing, l.Burst+1)
	return true
}

// writeLimited is the 429 of a real server, headers included.
func writeLimited(w http.ResponseWriter, after time.Duration, limit int) {
	seconds := strconv.Itoa(int(math.Ceil(after.Seconds())))
	h := w.Header()
	h.Set("Retry-After", seconds)
	h.Set("X-RateLimit-Limit", strconv.Itoa(limit))
	h.Set("X-RateLimit-Remaining", "0")
	h.Set("X-RateLimit-Reset", seconds)
	http.Error(w, "limit exceeded", http.StatusTooManyRequests)
}
