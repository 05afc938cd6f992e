package mattermosttest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/internal/clock"
)

// Limits of a Mattermost server with its default configuration.
const (
	maxBody          = 300_000 + 512    // ServiceSettings.MaximumPayloadSizeBytes, and bytes.MinRead
	maxReply         = 1 << 20          // app.MaxIntegrationResponseSize
	defaultTimeout   = 30 * time.Second // OutgoingIntegrationRequestsTimeout
	pendingPostLife  = 30 * time.Second // app.pendingPostIDsCacheTTL
	responseURLUses  = 5
	responseURLLife  = 30 * time.Minute
	serverVersion    = "11.1.0"
	integrationAgent = "Mattermost-Bot/1.1"
)

// Options shape a fake server. The zero value is a server on the machine's
// clock that lets integrations live anywhere and never limits its callers.
type Options struct {
	// Clock is the server's time; nil is the machine's.
	Clock clock.Clock
	// Guarded makes the server refuse to call integrations on internal
	// addresses unless AllowedInternal names them, as a real one does by
	// default (ServiceSettings.AllowedUntrustedInternalConnections: names,
	// addresses and CIDR ranges, divided by spaces).
	Guarded         bool
	AllowedInternal string
	// RateLimit refuses callers above it with 429. Zero is no limit.
	RateLimit RateLimit
}

// Server is the fake. It is safe for concurrent use.
type Server struct {
	// URL is the server's address, without a slash at the end.
	URL string

	clock  clock.Clock
	opts   Options
	http   *httptest.Server
	client *http.Client
	mux    *http.ServeMux
	key    *ecdsa.PrivateKey // signs trigger ids
	stop   context.CancelFunc
	ended  context.Context // done when the server closes: hanging answers end

	mu         sync.Mutex
	users      map[string]*user
	teams      map[string]*team
	channels   map[string]*channel
	tokens     []*token
	commands   []*SlashCommand
	hooks      map[string]*responseHook
	pending    map[string]pendingPost
	files      map[string]*file
	cookies    map[string]cookie
	sockets    map[*socket]struct{}
	calls      []Call
	called     chan struct{} // closed and replaced at each change of calls
	deliveries []Delivery
	faults     []*Fault
	buckets    map[string]float64 // rate limit: tokens used, and
	bucketAt   map[string]time.Time
	last       int64         // newest stamp
	editLimit  time.Duration // 0 is none
}

// New starts a fake server with the set-up of the package's constants, and
// closes it when the test ends.
func New(tb testing.TB, o Options) *Server {
	tb.Helper()
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("make the key for trigger ids: %v", err)
	}
	s := &Server{
		clock: o.Clock, opts: o, key: key, client: &http.Client{}, mux: http.NewServeMux(),
		users: map[string]*user{}, teams: map[string]*team{}, channels: map[string]*channel{},
		hooks: map[string]*responseHook{}, pending: map[string]pendingPost{}, files: map[string]*file{},
		cookies: map[string]cookie{}, sockets: map[*socket]struct{}{},
		called:  make(chan struct{}),
		buckets: map[string]float64{}, bucketAt: map[string]time.Time{},
	}
	s.ended, s.stop = context.WithCancel(context.WithoutCancel(tb.Context())) // until close, after the test
	s.client.Transport = s.transport()
	s.routes()
	s.seed()
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	tb.Cleanup(s.close)
	return s
}

func (s *Server) close() {
	s.stop()
	s.mu.Lock()
	for c := range s.sockets {
		c.close()
	}
	s.mu.Unlock()
	s.http.CloseClientConnections()
	s.http.Close()
	s.client.CloseIdleConnections()
}

// Peer is the server as its users see it.
func (s *Server) Peer(tb testing.TB) *Peer {
	tb.Helper()
	s.mu.Lock()
	w := World{
		URL: s.URL, TeamID: s.teamByName(Team).id,
		Accounts: map[string]Account{}, Channels: map[string]string{}, Wait: s.wait,
	}
	for _, u := range s.users {
		w.Accounts[u.name] = Account{ID: u.id, Token: s.tokenOf(u.id)}
	}
	for _, c := range s.channels {
		w.Channels[c.name] = c.id
	}
	s.mu.Unlock()
	return NewPeer(tb, w)
}

// wait lets d pass: a fake clock is moved, any other one is waited for.
func (s *Server) wait(ctx context.Context, d time.Duration) error {
	if f, ok := s.clock.(*clock.Fake); ok {
		f.Advance(d)
		return nil
	}
	return clock.Sleep(ctx, s.clock, d)
}

// stamp is the current time in milliseconds, but never the same twice: a
// standing clock would otherwise hide which of two posts is the newer.
// Callers hold mu (or, in seed, are alone).
func (s *Server) stamp() int64 {
	s.last = max(s.clock.Now().UnixMilli(), s.last+1)
	return s.last
}

// call is one API request on its way through a handler.
type call struct {
	s    *Server
	r    *http.Request
	user *user // nil on routes that need no session
	body []byte
}

func (c *call) path(name string) string { return c.r.PathValue(name) }

// decode reads the request's JSON; name is what the error calls it.
func (c *call) decode(name string, v any) *APIError {
	if json.Unmarshal(c.body, v) != nil {
		return errBody(name)
	}
	return nil
}

// reply is a handler's success: a status and what to write as JSON, or raw
// bytes of another type.
type reply struct {
	status      int
	body        any
	contentType string // for a []byte body
}

func ok(body any) (reply, *APIError) {
	return reply{status: http.StatusOK, body: body}, nil
}

func created(body any) (reply, *APIError) {
	return reply{status: http.StatusCreated, body: body}, nil
}

func fail(err *APIError) (reply, *APIError) {
	return reply{}, err
}

func statusOK() (reply, *APIError) {
	return ok(map[string]string{"status": "OK"})
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v4/websocket" {
		s.serveSocket(w, r)
		return
	}
	limit := int64(maxBody)
	if r.URL.Path == "/api/v4/files" {
		limit = 100 << 20 // FileSettings.MaxFileSize
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	n := s.record(r, body)
	rec := &recorder{ResponseWriter: w}
	defer func() { s.answered(n, rec.status) }()
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		s.writeError(rec, apiError(http.StatusRequestEntityTooLarge, "api.context.request_body_too_large.app_error",
			"Unable to process request. Request body too large."))
		return
	case err != nil:
		return // the caller has gone
	}
	if s.limited(rec, r) || s.faulty(rec, r, body, n) {
		return
	}
	s.dispatch(rec, r, body)
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, body []byte) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mux.ServeHTTP(w, r)
}

// handler answers one route. It takes the server's lock itself, and never
// holds it while it calls an integration.
type handler func(c *call) (reply, *APIError)

// handle routes pattern ("GET /users/me") to h, for callers with a session.
func (s *Server) handle(pattern string, h handler) { s.route(pattern, true, h) }

func (s *Server) route(pattern string, session bool, h handler) {
	method, path, _ := strings.Cut(pattern, " ")
	if !strings.HasPrefix(path, "/hooks/") {
		path = "/api/v4" + path
	}
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		c := &call{s: s, r: r}
		if session {
			s.mu.Lock()
			c.user = s.session(r)
			s.mu.Unlock()
			if c.user == nil {
				s.writeError(w, errSession())
				return
			}
		}
		c.body, _ = io.ReadAll(r.Body) // memory, put there by dispatch
		r.Body = io.NopCloser(bytes.NewReader(c.body))
		got, apiErr := h(c)
		if apiErr != nil {
			s.writeError(w, apiErr)
			return
		}
		s.write(w, got)
	})
}

// session finds who calls: "Authorization: Bearer TOKEN".
func (s *Server) session(r *http.Request) *user {
	_, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	for _, t := range s.tokens {
		if value != "" && t.value == value {
			if u := s.users[t.userID]; u != nil && !u.disabled {
				return u
			}
		}
	}
	return nil
}

func (s *Server) write(w http.ResponseWriter, got reply) {
	w.Header().Set("X-Request-Id", newID())
	w.Header().Set("X-Version-Id", serverVersion)
	if raw, ok := got.body.([]byte); ok {
		w.Header().Set("Content-Type", got.contentType)
		w.WriteHeader(got.status)
		_, _ = w.Write(raw)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(got.status)
	_ = json.NewEncoder(w).Encode(got.body)
}

func (s *Server) writeError(w http.ResponseWriter, e *APIError) {
	if e.ID != "api.context.404.app_error" {
		e.RequestID = newID()
		w.Header().Set("X-Request-Id", e.RequestID)
	}
	w.Header().Set("X-Version-Id", serverVersion)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.StatusCode)
	b, _ := json.Marshal(e)
	_, _ = w.Write(b)
}

// recorder remembers the status that went out.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
