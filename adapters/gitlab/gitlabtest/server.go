package gitlabtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"ocim/internal/clock"
)

const (
	// defaultFirstPipeline is the id of the first pipeline unless Options says otherwise.
	defaultFirstPipeline = 9001
	// maxRequestBody is the largest request body that is read, in bytes.
	maxRequestBody = 32 << 20
	// apiPrefix begins every path of the REST API.
	apiPrefix = "/api/v4/"
	// version is what GET /version answers, and the version in the User-Agent of webhooks.
	version = "19.1.0-ee"
)

// Options configure a [Server]. The zero value is a server on the system's clock with plain speed.
type Options struct {
	// Clock drives pipelines and stamps; nil is the system's clock.
	Clock clock.Clock
	// Logger receives one line per webhook that could not be delivered; nil discards.
	Logger *slog.Logger
	// Seed makes identifiers, shuffling and random faults repeatable.
	Seed int64
	// Speed divides every duration of a script: with 60 a pipeline of 25 minutes takes 25
	// seconds. Zero is 1.
	Speed float64
	// Frozen keeps every job where it is until a test moves it with [Server.Finish],
	// [Server.SetJobStatus] or [Server.SetStatus].
	Frozen bool
	// BaseURL is the address in web_url fields and in X-Gitlab-Instance before Start is called;
	// empty is http://gitlab.example.
	BaseURL string
	// FirstPipeline is the id of the first pipeline; zero is 9001.
	FirstPipeline int64
	// HookWorkers is the number of webhooks on the wire at one time under Run; zero is 1, which
	// keeps them in order.
	HookWorkers int
	// LedgerReads bounds the number of remembered requests that change nothing, and that of
	// remembered webhooks; the oldest are forgotten first. Requests that may change something are
	// never forgotten. Zero is no bound.
	LedgerReads int
}

// Server is a simulated GitLab. Create it with [New]. It is an [http.Handler]; [Server.Start] gives
// it a listener of its own. All methods are safe for concurrent use.
type Server struct {
	clock  clock.Clock
	log    *slog.Logger
	opts   Options
	client *http.Client
	routes []route

	mu        sync.Mutex
	wake      chan struct{} // closed and replaced whenever something has changed
	at        time.Time     // the simulated instant
	baseURL   string
	rng       *rand.Rand
	agenda    agenda
	lastEvent int64
	ids       counters
	users     map[string]*user
	tokens    map[string]*token
	projects  map[int64]*project
	byPath    map[string]*project
	pipelines map[int64]*pipeline
	order     []*pipeline
	jobs      map[int64]*job
	byKey     map[string][]int64
	hookQueue []*delivery
	delivered []Delivery
	hookRules HookRules
	faults    []*Injected
	ledger    ledger
	journal   io.WriteCloser // nil unless Keep was called

	httpMu   sync.Mutex
	http     *http.Server
	stopping context.CancelFunc
	served   chan struct{}
}

// counters hold the last identifier given out, per kind.
type counters struct {
	pipeline, job, user, hook, token, commit, delivery int64
}

// New returns a server without projects.
func New(opts Options) *Server {
	if opts.Clock == nil {
		opts.Clock = clock.System{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Speed <= 0 {
		opts.Speed = 1
	}
	if opts.BaseURL == "" {
		opts.BaseURL = "http://gitlab.example"
	}
	if opts.FirstPipeline == 0 {
		opts.FirstPipeline = defaultFirstPipeline
	}
	if opts.HookWorkers <= 0 {
		opts.HookWorkers = 1
	}
	return &Server{
		clock:   opts.Clock,
		log:     opts.Logger,
		opts:    opts,
		baseURL: strings.TrimSuffix(opts.BaseURL, "/"),
		client: &http.Client{
			// GitLab counts a redirect as a success and does not follow it (3xx is no failure
			// in app/services/web_hook_service.rb).
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			// A connection of its own for each webhook, as GitLab does it. On a used one Go would
			// repeat a POST by itself, because of the Idempotency-Key.
			Transport: &http.Transport{DisableKeepAlives: true},
		},
		routes:    newRoutes(),
		wake:      make(chan struct{}),
		at:        opts.Clock.Now(),
		rng:       rand.New(rand.NewPCG(uint64(opts.Seed), 0x9e3779b97f4a7c15)),
		ids:       counters{pipeline: opts.FirstPipeline - 1, job: 70000, user: 10, commit: 0},
		users:     map[string]*user{},
		tokens:    map[string]*token{},
		projects:  map[int64]*project{},
		byPath:    map[string]*project{},
		pipelines: map[int64]*pipeline{},
		jobs:      map[int64]*job{},
		byKey:     map[string][]int64{},
		ledger:    ledger{keepReads: opts.LedgerReads},
	}
}

// Start listens on addr ("127.0.0.1:0" if empty) and serves until [Server.Close]. Afterwards
// [Server.URL] is the address that was taken. It may be called once.
func (s *Server) Start(addr string) error {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	s.httpMu.Lock()
	defer s.httpMu.Unlock()
	if s.http != nil {
		return errors.New("simulated GitLab: already started")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		cancel()
		return fmt.Errorf("simulated GitLab: listen on %s: %w", addr, err)
	}
	s.mu.Lock()
	s.baseURL = "http://" + l.Addr().String()
	s.mu.Unlock()
	s.stopping, s.served = cancel, make(chan struct{})
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	go func(srv *http.Server, served chan<- struct{}) {
		defer close(served)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("simulated GitLab stopped", "err", err)
		}
	}(s.http, s.served)
	return nil
}

// URL is the base address, without a slash at its end and without /api/v4.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.baseURL
}

// Close ends every connection at once, hanging ones included, waits for the listener to be gone, and
// gives up the journal of [Server.Keep]. The ledger stays readable. It may be called again.
func (s *Server) Close() {
	s.httpMu.Lock()
	defer s.httpMu.Unlock()
	if s.http != nil {
		s.stopping()
		_ = s.http.Close()
		<-s.served
		s.client.CloseIdleConnections()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		_ = s.journal.Close() // every line was written when it happened
		s.journal = nil
	}
}

// do runs f on the present state of the world: everything that fell due before is done first, and
// what f makes due at once is done after.
func (s *Server) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	f()
	s.advance()
	s.rouse()
}

// see runs f, which only reads, on the present state of the world.
func (s *Server) see(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.advance() {
		s.rouse()
	}
	f()
}

// rouse wakes the loop of Run and whoever waits in Until. The caller holds mu.
func (s *Server) rouse() {
	close(s.wake)
	s.wake = make(chan struct{})
}

// scaled is a duration of a script as it passes on the clock. The caller may hold mu.
func (s *Server) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.opts.Speed)
}

// uuid returns a random version 4 UUID from the seeded source. The caller holds mu.
func (s *Server) uuid() string {
	hi, lo := s.rng.Uint64(), s.rng.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(0xc<<60) | 0x8<<60
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}
