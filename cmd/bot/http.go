package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"ocim/internal/clock"
)

// The limits of both listeners. Bodies are capped by each route, since their sizes differ.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 15 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeader         = 16 << 10
	shutdownTimeout   = 5 * time.Second // answers take less than 3 s
)

// serve answers on l until ctx ends. Then it takes nothing new, and lets running requests finish
// for a while; connections that are not done by then are closed.
func serve(ctx context.Context, l net.Listener, h http.Handler, c clock.Clock, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: remember,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := clock.WithTimeout(context.WithoutCancel(ctx), c, shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(stop)
	if stop.Err() != nil {
		log.Warn("connections were closed before their requests had come to an end", "err", err)
		err = srv.Close()
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// listen opens a listener and says which address was the trouble.
func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// patience is how long a request may take to arrive when others wait for its place. The servers of
// chat platforms and GitLab send theirs in one go.
const patience = time.Second

// guard is the outermost layer of the public listener: it bounds how much is under way, contains
// panics and measures. Chat and webhooks have places of their own, so that a flood of one leaves
// the other as it was.
type guard struct {
	next    http.Handler
	chat    chan struct{}
	hooks   chan struct{}
	room    func(chan struct{}, time.Duration) bool // see crowd.makeRoom
	metrics *metrics
	clock   clock.Clock
	log     *slog.Logger
}

// newGuard returns a guard that lets places requests of each class work at the same time.
func newGuard(next http.Handler, places int, room func(chan struct{}, time.Duration) bool, m *metrics, c clock.Clock, log *slog.Logger) *guard {
	return &guard{
		next: next, chat: make(chan struct{}, places), hooks: make(chan struct{}, places),
		room: room, metrics: m, clock: c, log: log,
	}
}

// class is where r may have a place.
func (g *guard) class(r *http.Request) chan struct{} {
	if strings.HasPrefix(r.URL.Path, "/gitlab/") {
		return g.hooks
	}
	return g.chat
}

// enter takes a place for r, and reports whether there was one to be had.
func (g *guard) enter(r *http.Request, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	if !g.room(slots, patience) {
		return false
	}
	fires, stop := g.clock.After(patience) // the one that was closed needs a moment to go
	defer stop()
	select {
	case slots <- struct{}{}:
		return true
	case <-fires:
		return false
	case <-r.Context().Done():
		return false
	}
}

// ServeHTTP implements [http.Handler].
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	slots := g.class(r)
	if !g.enter(r, slots) {
		g.metrics.shed.Inc()
		g.log.Debug("request shed", "route", routeOf(r))
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close") // or the server would read the body first
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer func() { <-slots }()
	defer watch(r, slots)()
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	start := g.clock.Now()
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("request panicked", "route", r.Pattern, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			if !rec.wrote {
				rec.WriteHeader(http.StatusInternalServerError)
			}
		}
		g.metrics.requests.WithLabelValues(routeOf(r), class(rec.status)).Observe(g.clock.Now().Sub(start).Seconds())
	}()
	g.next.ServeHTTP(rec, r)
}

// close waits for the requests that are under way, and lets no other one in.
func (g *guard) close() {
	for _, slots := range []chan struct{}{g.chat, g.hooks} {
		for range cap(slots) {
			slots <- struct{}{}
		}
	}
}

// routeOf is the pattern that r matched. The path itself may hold a secret.
func routeOf(r *http.Request) string {
	if r.Pattern == "" {
		return "other"
	}
	return r.Pattern
}

func class(status int) string {
	return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[min(max(status/100, 1), 5)-1]
}

type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	r.status, r.wrote = status, true
	r.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// admin answers on the admin listener. Nothing on it changes anything.
func admin(m *metrics, ready func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("not ready\n"))
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", m.handler())
	return mux
}
