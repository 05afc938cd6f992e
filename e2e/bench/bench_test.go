package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// What the yardstick and the bot are given is what they must accept, or refuse.
func TestBareHandlerKnowsGoodFromBad(t *testing.T) {
	t.Parallel()
	addr := serve(t, bareHandler())
	var count atomic.Int64
	forger, _ := newHostile()().(*hostile)
	for _, tc := range []struct {
		name   string
		source source
		want   int
	}{
		{"command", newCommands(&count, "")(), 200},
		{"webhook", newHooks(&count)(), 200},
		{"forged command", forger.inner, 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(addr)
			defer c.close()
			for range 3 { // also over a connection that has been used
				got, body, err := c.do(tc.source.next(nil))
				if err != nil || got != tc.want {
					t.Errorf("got %d, %q, %v, want %d", got, body, err, tc.want)
				}
			}
		})
	}
	h := newHostile()()
	for range 50 {
		c := newClient(addr)
		if got, body, err := c.do(h.next(nil)); err == nil && !h.good(got, body) {
			t.Errorf("hostile request: got %d, %q, want a refusal", got, body)
		}
		c.close()
	}
}

func TestClientReadsAnswersOfAnyShape(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 5000)
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chunked":
			for range 5 {
				_, _ = w.Write([]byte(long[:10_000]))
				_ = http.NewResponseController(w).Flush()
			}
		case "/length":
			w.Header().Set("Content-Length", "50000")
			_, _ = w.Write([]byte(long))
		case "/close":
			w.Header().Set("Connection", "close")
		}
	}))
	c := newClient(addr)
	defer c.close()
	for range 100 {
		for path, want := range map[string]string{"/chunked": long, "/length": long, "/close": "", "/empty": ""} {
			status, body, err := c.do([]byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\n\r\n"))
			if err != nil || status != 200 || string(body) != want {
				t.Fatalf("%s: got %d, %d bytes, %v, want 200 and %d bytes", path, status, len(body), err, len(want))
			}
		}
	}
	if cap(c.body) > 1<<20 {
		t.Errorf("got a buffer of %d bytes after answers of 50,000", cap(c.body))
	}
}

func TestClientMakesANewConnectionAfterAFailure(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for _, answer := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"} {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1000))
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
	c := newClient(l.Addr().String())
	defer c.close()
	if _, _, err := c.do([]byte("GET / HTTP/1.1\r\n\r\n")); err == nil {
		t.Error("got no error from a server that hangs up")
	}
	if status, body, err := c.do([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil || status != 200 || string(body) != "ok" {
		t.Errorf("got %d, %q, %v, want 200 and ok", status, body, err)
	}
}

func TestRatioIsTheMedianOverUndisturbedRounds(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration, disturbed bool) stretch {
		return stretch{outcome: outcome{took: slices.Repeat([]time.Duration{d}, 10)}, disturbed: disturbed}
	}
	rs := rounds{
		{at(1, false), at(2, false)},
		{at(1, false), at(3, false)},
		{at(1, false), at(4, false)},
		{at(1, true), at(100, false)},
		{at(1, false), at(100, true)},
	}
	kept, note := rs.clean()
	if got := kept.ratio(func(s stretch) float64 { return float64(s.quantile(.99)) }); got != 3 {
		t.Errorf("got ratio %v, want 3", got)
	}
	if want := "3 rounds, 2 more left out as disturbed"; note != want {
		t.Errorf("got note %q, want %q", note, want)
	}
}
