package gitlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"ocim/internal/clock"
	"ocim/ops"
)

const (
	// maxRefusal bounds how much of an answer that is an error is read, in bytes.
	maxRefusal = 64 << 10
	// maxPause bounds how long GitLab can silence us with one answer.
	maxPause = 15 * time.Minute
)

var (
	errTooLarge = errors.New("the answer is larger than allowed")
	errForeign  = errors.New("the address is not on the list of allowed hosts")
	errWaiting  = errors.New("no turn in time")
)

// exchange is what is noted about one call while it is on its way.
type exchange struct {
	limit     int64 // of the answer, in bytes; 0 is the default
	asked     atomic.Bool
	connected atomic.Bool
	refused   atomic.Bool // by us, before anything was sent
	large     atomic.Bool
	refusal   []byte     // the answer's beginning if it is an error
	next      url.Values // parameters of the next page
	retryAt   time.Time
}

// unsent reports whether the request surely never left. Only an exchange that asked for a
// connection and did not get one proves it: once there is a connection, its writer may run ahead of
// what we have been told.
func (x *exchange) unsent() bool {
	return x.refused.Load() || x.asked.Load() && !x.connected.Load()
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { x.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { x.connected.Store(true) },
	})
}

// guard is the transport that every call goes through: it calls only allowed hosts, bounds every
// answer, and learns from the answer how long GitLab wants to be left alone.
type guard struct {
	next    http.RoundTripper
	allowed map[string]bool
	limiter *limiter
	maxBody int64
}

// RoundTrip implements [http.RoundTripper].
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	if o, err := origin(req.URL.Scheme + "://" + req.URL.Host); err != nil || !g.allowed[o] {
		x.refused.Store(true)
		return nil, fmt.Errorf("call %s: %w", req.URL.Host, errForeign)
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.retryAt = g.limiter.learn(resp)
	x.next = nextPage(resp.Header)
	// The client's own parser of this header panics on a parameter without "=".
	resp.Header.Del("Link")
	if resp.StatusCode >= http.StatusBadRequest {
		// Kept here, since the client throws the body of a 404 away.
		x.refusal, _ = io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(x.refusal))
		return resp, nil
	}
	limit := g.maxBody
	if x.limit > 0 {
		limit = x.limit
	}
	resp.Body = &capped{body: resp.Body, left: limit, x: x}
	return resp, nil
}

// capped is a body that ends in errTooLarge when it is longer than it may be.
type capped struct {
	body io.ReadCloser
	left int64
	x    *exchange
}

// Read implements [io.Reader].
func (c *capped) Read(p []byte) (int, error) {
	if c.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.body.Read(p)
	c.left -= int64(n)
	if c.left < 0 {
		c.x.large.Store(true)
		return n - 1, errTooLarge
	}
	return n, err
}

// Close implements [io.Closer].
func (c *capped) Close() error { return c.body.Close() }

// nextPage finds the parameters that ask for the next page, from the Link header or from
// X-Next-Page. Only the parameters are taken, never the address: it is GitLab's text. Source:
// GitLab doc/api/rest/_index.md.
func nextPage(h http.Header) url.Values {
	q := url.Values{}
	for _, link := range strings.Split(strings.Join(h.Values("Link"), ","), "<")[1:] {
		address, params, ok := strings.Cut(link, ">")
		if !ok || !strings.Contains(params, `rel="next"`) {
			continue
		}
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		for _, k := range []string{"page", "page_token", "cursor", "id_after"} {
			if v := u.Query().Get(k); v != "" {
				q.Set(k, v)
			}
		}
	}
	if page := h.Get("X-Next-Page"); len(q) == 0 && page != "" {
		q.Set("page", page)
	}
	return q
}

// dialer connects to allowed hosts only. The resolved address is checked as well, so that no name
// leads to the metadata service of a cloud; private addresses are allowed, since many a GitLab has
// one. There is no proxy: it would dial in our place.
func dialer(allowed map[string]bool, timeout time.Duration) *http.Transport {
	addresses := map[string]bool{}
	for o := range allowed {
		_, address, _ := strings.Cut(o, "://")
		host, port := address[:strings.LastIndexByte(address, ':')], address[strings.LastIndexByte(address, ':')+1:]
		addresses[net.JoinHostPort(host, port)] = true
	}
	d := &net.Dialer{Timeout: timeout / 2, Control: checkAddress}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if !addresses[strings.ToLower(address)] {
				return nil, fmt.Errorf("dial %s: %w", address, errForeign)
			}
			return d.DialContext(ctx, network, address)
		},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		MaxConnsPerHost:     64,
		// Below the 60 s and more after which servers and balancers close: a request that meets a
		// connection on its way down has an outcome that nobody knows.
		IdleConnTimeout: 30 * time.Second,
		// A connection that is cut without a word is noticed before the next requests are lost on it.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		TLSHandshakeTimeout:    timeout / 2,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// checkAddress refuses addresses at which no GitLab lives.
func checkAddress(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, errForeign)
	}
	if ip := ap.Addr().Unmap(); ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return fmt.Errorf("dial %s: %w", address, errForeign)
	}
	return nil
}

// limiter spreads the calls to one GitLab and keeps silent while GitLab asks for it. It implements
// [gl.RateLimiter].
type limiter struct {
	clock    clock.Clock
	bucket   *rate.Limiter
	reserve  *rate.Limiter // for what people wait for, when polling has used up the bucket
	patience time.Duration // longest wait for a turn

	mu    sync.Mutex
	until time.Time
}

// pauseError says that GitLab asked us to wait.
type pauseError struct{ until time.Time }

func (e *pauseError) Error() string {
	return "GitLab asked for no calls before " + e.until.Format(time.RFC3339)
}

// queueError says that the turn would come too late.
type queueError struct{ until time.Time }

func (e *queueError) Error() string { return "the next turn is at " + e.until.Format(time.RFC3339Nano) }

func (e *queueError) Unwrap() error { return errWaiting }

// Wait blocks until a call may be made. While GitLab has asked for silence it fails at once, so
// that no worker stands still for minutes. It also fails at once when the turn is far off: a place
// in the queue that is given up later is lost, since those behind do not move up, and with enough
// who give up nobody gets a turn any more.
func (l *limiter) Wait(ctx context.Context) error {
	now := l.clock.Now()
	l.mu.Lock()
	until := l.until
	l.mu.Unlock()
	if until.After(now) {
		return &pauseError{until}
	}
	bucket := l.bucket
	if l.reserve != nil && ops.IsUrgent(ctx) && bucket.TokensAt(now) < 1 {
		bucket = l.reserve
	}
	r := bucket.ReserveN(now, 1)
	d := r.DelayFrom(now)
	if d <= 0 {
		return nil
	}
	if d > l.patience {
		r.CancelAt(now)
		return &queueError{now.Add(d)}
	}
	if err := clock.Sleep(ctx, l.clock, d); err != nil {
		r.CancelAt(l.clock.Now())
		return fmt.Errorf("%w: %w", errWaiting, err)
	}
	return nil
}

// learn reads how long the answer asks us to wait. Every 429 and 503 that names a time silences the
// host until then. Sources: RFC 9110 10.2.3, and GitLab lib/gitlab/rack_attack.rb for RateLimit-Reset,
// which is Unix seconds on GitLab's clock.
func (l *limiter) learn(resp *http.Response) time.Time {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return time.Time{}
	}
	now := l.clock.Now()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		theirs = now
	}
	var wait time.Duration
	after := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if s, err := strconv.ParseInt(after, 10, 32); err == nil {
		wait = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(after); err == nil {
		wait = t.Sub(theirs)
	} else if s, err := strconv.ParseInt(strings.TrimSpace(resp.Header.Get("RateLimit-Reset")), 10, 64); err == nil {
		wait = time.Unix(s, 0).Sub(theirs)
	}
	if wait <= 0 {
		return time.Time{}
	}
	at := now.Add(min(wait, maxPause))
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.After(l.until) {
		l.until = at
	}
	return at
}
