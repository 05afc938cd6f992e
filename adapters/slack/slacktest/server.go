package slacktest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"ocim/internal/clock"
)

const (
	// maxBody caps every request and answer that is read.
	maxBody = 4 << 20
	// deadline is how long Slack waits for an acknowledgement (docs.slack.dev,
	// interactivity/handling-user-interaction and apis/events-api).
	deadline = 3 * time.Second
	// triggerLife is how long a trigger_id is good (docs.slack.dev, reference/methods/views.open).
	triggerLife = 3 * time.Second
)

// Options set up a server. Every field has a usable default.
type Options struct {
	// Clock stamps messages and measures deadlines, trigger and response_url lives, event retries
	// and rate limits. The machine's clock when nil. Socket Mode pings always run on the machine's
	// clock, since they prove that a connection is alive.
	Clock clock.Clock
	// Logger receives one debug line for each call and delivery. Discarded when nil.
	Logger *slog.Logger
	// Workspace is DefaultWorkspace when nil.
	Workspace *Workspace
	// SigningSecret, BotToken and AppToken are made-up values when empty.
	SigningSecret, BotToken, AppToken string
	// Scopes of the bot token. When nil: commands, chat:write, im:write, users:read,
	// usergroups:read, files:write.
	Scopes []string
	// Seed makes faults with a probability repeatable.
	Seed uint64
	// RetryDelays are the waits before the second, third and fourth delivery of an event. When nil:
	// none, 1 min, 5 min, as Slack does.
	RetryDelays []time.Duration
	// PingEvery is the interval of Socket Mode pings; 5 s when zero.
	PingEvery time.Duration
}

// Server is a Slack for one workspace and one app. Use New.
type Server struct {
	clk     clock.Clock
	log     *slog.Logger
	http    *http.Server
	url     string
	client  *http.Client
	methods map[string]method
	delays  []time.Duration
	ping    time.Duration

	signingSecret, botToken, appToken string

	// stop is closed by Close: hanging handlers and socket writers end.
	stop chan struct{}
	wg   sync.WaitGroup

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced whenever something people see changes
	ws         Workspace
	scopes     []string
	revoked    string // error that every call answers with, such as token_revoked
	endpoints  Endpoints
	socketMode bool
	realLimits bool

	messages   []*Message
	byTS       map[string]*Message // by channel, a blank and ts
	uploadBase string
	lastTS     int64
	serial     int64
	views      map[string]*View
	triggers   map[string]*trigger
	hooks      map[string]*hook
	files      map[string]*File
	events     map[string]Object // event wrappers by event_id, for redelivery
	suggested  map[string][]Object
	calls      []Call
	deliveries []Delivery
	faults     []*Fault
	rand       *rand.Rand
	windows    map[string][]time.Time
	sockets    socketState
}

// New starts a server on a free loopback port. Close must be called.
func New(o Options) (*Server, error) {
	s := &Server{
		clk: o.Clock, log: o.Logger, delays: o.RetryDelays, ping: o.PingEvery,
		signingSecret: o.SigningSecret, botToken: o.BotToken, appToken: o.AppToken,
		scopes: o.Scopes, ws: DefaultWorkspace(),
		stop: make(chan struct{}), changed: make(chan struct{}),
		byTS: map[string]*Message{}, views: map[string]*View{}, triggers: map[string]*trigger{}, hooks: map[string]*hook{},
		files: map[string]*File{}, events: map[string]Object{}, suggested: map[string][]Object{},
		windows: map[string][]time.Time{},
		rand:    rand.New(rand.NewPCG(o.Seed, o.Seed)),
		client: &http.Client{
			// Slack takes a redirect as a failure of the endpoint.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		},
	}
	s.defaults()
	if o.Workspace != nil {
		s.ws = o.Workspace.clone()
	}
	s.methods = s.methodTable()
	s.sockets = socketState{tickets: map[string]bool{}, pending: map[string]chan Answer{}, past: map[string]string{}}

	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the fake slack: %w", err)
	}
	s.url = "http://" + ln.Addr().String()
	s.uploadBase = s.url
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	s.wg.Go(func() {
		_ = s.http.Serve(ln) // ends with ErrServerClosed
	})
	return s, nil
}

func (s *Server) defaults() {
	if s.clk == nil {
		s.clk = clock.System{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.signingSecret == "" {
		s.signingSecret = "slacktest-signing-secret"
	}
	if s.botToken == "" {
		s.botToken = "xoxb-slacktest-bot"
	}
	if s.appToken == "" {
		s.appToken = "xapp-slacktest-app"
	}
	if s.scopes == nil {
		s.scopes = []string{"commands", "chat:write", "im:write", "users:read", "usergroups:read", "files:write"}
	}
	if s.delays == nil {
		s.delays = []time.Duration{0, time.Minute, 5 * time.Minute}
	}
	if s.ping == 0 {
		s.ping = 5 * time.Second
	}
}

// Close ends every connection and waits for the server's goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed() {
		s.mu.Unlock()
		return
	}
	close(s.stop)
	s.mu.Unlock()
	s.closeSockets()
	_ = s.http.Close()
	s.client.CloseIdleConnections()
	s.wg.Wait()
}

// closed tells whether Close was called; mu must be held.
func (s *Server) closed() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// enter counts one more goroutine that Close waits for; the caller ends it with s.wg.Done. After
// Close it returns false and counts nothing.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return false
	}
	s.wg.Add(1)
	return true
}

// start runs f on a goroutine that Close waits for, unless the server is closed.
func (s *Server) start(f func()) {
	if !s.enter() {
		return
	}
	go func() {
		defer s.wg.Done()
		f()
	}()
}

// URL is the base of everything the server offers, without a trailing slash.
func (s *Server) URL() string { return s.url }

// APIURL is the base of the Web API with the trailing slash that slack-go and Bolt expect.
func (s *Server) APIURL() string { return s.url + "/api/" }

// SigningSecret is the secret that the server signs requests with.
func (s *Server) SigningSecret() string { return s.signingSecret }

// BotToken is the token that the Web API accepts.
func (s *Server) BotToken() string { return s.botToken }

// AppToken is the token that apps.connections.open accepts.
func (s *Server) AppToken() string { return s.appToken }

// SetScopes replaces the scopes of the bot token.
func (s *Server) SetScopes(scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes = scopes
}

// RevokeTokens makes every call answer err, such as token_revoked, token_expired or
// account_inactive. An empty err makes the tokens good again.
func (s *Server) RevokeTokens(err string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = err
}

// Until blocks until cond holds or ctx ends. It looks again whenever something
// changes: a message, a view, a socket, a call or delivery recorded, so tests wait without polling or sleeping. cond runs without any lock.
func (s *Server) Until(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-s.stop:
			return http.ErrServerClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bump wakes those who wait in Until; mu must be held.
func (s *Server) bump() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/{method}", s.serveAPI)
	mux.HandleFunc("POST /hooks/{token}", s.serveHook)
	mux.HandleFunc("POST /upload/v1/{file}", s.serveUpload)
	mux.HandleFunc("GET /link/", s.serveSocket)
	// Close waits for handlers too, the hijacked ones included.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			return
		}
		defer s.wg.Done()
		mux.ServeHTTP(w, r)
	})
}
