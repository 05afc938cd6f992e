package main

import (
	"container/list"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"ocim/internal/clock"
)

// crowd is a listener that bounds its connections, and knows which of them are waited for: those
// that are idle, that have not yet sent a whole header, or whose body has not all come. When there
// is no room, the one that has been waited for longest is closed. So whoever is slow, by accident
// or on purpose, is served as long as that costs nobody else anything. Safe for concurrent use.
type crowd struct {
	net.Listener

	clock   clock.Clock
	limit   int // connections; more are not kept open
	metrics *metrics

	mu     sync.Mutex
	open   int
	waited list.List // of *guest, the one that is waited for longest first
}

// guest is one connection of a crowd.
type guest struct {
	net.Conn

	crowd *crowd
	place *list.Element // in crowd.waited; nil while the bot has all it needs to answer
	since time.Time     // when it came to stand there
	slot  chan struct{} // where its request has a place; nil between requests
	gone  bool
}

// newCrowd returns l with at most limit connections.
func newCrowd(l net.Listener, c clock.Clock, limit int, m *metrics) *crowd {
	return &crowd{Listener: l, clock: c, limit: limit, metrics: m}
}

// Accept implements [net.Listener].
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g := c.enter(conn); g != nil {
			return g, nil
		}
		_ = conn.Close() // everybody else is being answered
	}
}

func (c *crowd) enter(conn net.Conn) *guest {
	c.mu.Lock()
	full := c.open >= c.limit
	c.mu.Unlock()
	if full && !c.cut(func(*guest) bool { return true }) {
		return nil
	}
	g := &guest{Conn: conn, crowd: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.metrics.open.Inc()
	g.wait()
	return g
}

// makeRoom closes the connection whose request, with a place in slot, has kept the bot waiting
// longest, if that is at least patience. It reports whether there was one.
func (c *crowd) makeRoom(slot chan struct{}, patience time.Duration) bool {
	now := c.clock.Now()
	return c.cut(func(g *guest) bool { return g.slot == slot && now.Sub(g.since) >= patience })
}

// cut closes the first connection that is waited for and of which may holds.
func (c *crowd) cut(may func(*guest) bool) bool {
	c.mu.Lock()
	var found *guest
	for e := c.waited.Front(); e != nil && found == nil; e = e.Next() {
		if g, ok := e.Value.(*guest); ok && may(g) {
			found = g
		}
	}
	c.mu.Unlock()
	if found == nil {
		return false
	}
	_ = found.Close() // the peer is not waiting for anything
	c.metrics.cut.Inc()
	return true
}

// wait puts g at the end of those that are waited for; crowd.mu is held.
func (g *guest) wait() {
	g.leave()
	if !g.gone {
		g.since = g.crowd.clock.Now()
		g.place = g.crowd.waited.PushBack(g)
	}
}

// leave takes g out of those that are waited for; crowd.mu is held.
func (g *guest) leave() {
	if g.place != nil {
		g.crowd.waited.Remove(g.place)
		g.place = nil
	}
}

// begin notes that a request has come and has a place in slot, and whether the rest of it is waited
// for.
func (g *guest) begin(slot chan struct{}, more bool) {
	g.crowd.mu.Lock()
	defer g.crowd.mu.Unlock()
	g.slot = slot
	if g.leave(); more {
		g.wait()
	}
}

// complete notes that all of the request is there.
func (g *guest) complete() {
	g.crowd.mu.Lock()
	defer g.crowd.mu.Unlock()
	g.leave()
}

// end notes that the request is over: the next one is waited for.
func (g *guest) end() {
	g.crowd.mu.Lock()
	defer g.crowd.mu.Unlock()
	g.slot = nil
	g.wait()
}

// Close implements [net.Conn].
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	if !g.gone {
		g.gone = true
		g.crowd.open--
		g.crowd.metrics.open.Dec()
		g.leave()
	}
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}

type guestKey struct{}

// remember is the ConnContext of a server on a crowd: a request has no other way to its connection.
func remember(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, guestKey{}, conn)
}

// watch makes the connection of r, which has a place in slot, count as waited for while the body
// comes. The caller calls end when the request is over. Where the listener is no crowd it does
// nothing.
func watch(r *http.Request, slot chan struct{}) (end func()) {
	g, ok := r.Context().Value(guestKey{}).(*guest)
	if !ok {
		return func() {}
	}
	more := r.Body != nil && r.Body != http.NoBody
	if g.begin(slot, more); more {
		r.Body = &watchedBody{ReadCloser: r.Body, over: g.complete}
	}
	return g.end
}

// watchedBody tells when a body has come to its end, whichever.
type watchedBody struct {
	io.ReadCloser

	over func()
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.over != nil {
		b.over()
		b.over = nil
	}
	return n, err
}
