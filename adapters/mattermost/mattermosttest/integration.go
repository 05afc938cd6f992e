package mattermosttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Delivery is one request that the server made to an integration.
type Delivery struct {
	At   time.Time
	Kind string // "command", "action" or "dialog"
	URL  string
	Body []byte
	// Status is the integration's answer, 0 when there was none; Err says why.
	Status int
	Err    string
}

// Deliveries lists the requests made to integrations so far, oldest first.
// Those of kind "command" hold the command's token in their body.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Delivery(nil), s.deliveries...)
}

type answer struct {
	status      int
	statusLine  string
	contentType string
	body        []byte
}

var errTimeout = errors.New("integration took too long")

// deliver calls an integration once and reads at most maxReply of its answer.
// There is no retry. Callers do not hold mu.
func (s *Server) deliver(kind, rawURL string, header http.Header, body []byte) (answer, error) {
	ctx, cancel := context.WithCancelCause(s.ended)
	defer cancel(nil)
	fires, release := s.clock.After(defaultTimeout)
	defer release()
	go func() {
		select {
		case <-fires:
			cancel(errTimeout)
		case <-ctx.Done():
		}
	}()
	got, err := s.send(ctx, rawURL, header, body)
	d := Delivery{At: s.clock.Now(), Kind: kind, URL: rawURL, Body: body, Status: got.status}
	if err != nil {
		d.Err = err.Error()
		if cause := context.Cause(ctx); errors.Is(cause, errTimeout) {
			d.Err = cause.Error()
		}
	}
	s.mu.Lock()
	s.deliveries = append(s.deliveries, d)
	s.mu.Unlock()
	return got, err
}

func (s *Server) send(ctx context.Context, rawURL string, header http.Header, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, rawURL, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header = header
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", integrationAgent)
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	got := answer{status: resp.StatusCode, statusLine: resp.Status, contentType: resp.Header.Get("Content-Type")}
	got.body, err = io.ReadAll(io.LimitReader(resp.Body, maxReply))
	return got, err
}

// deliverJSON is deliver for actions and dialogs, which call an integration
// failed unless it answers 200.
func (s *Server) deliverJSON(kind, rawURL string, body []byte) ([]byte, *APIError) {
	got, err := s.deliver(kind, rawURL, http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil || got.status != http.StatusOK {
		return nil, errIntegration()
	}
	return got.body, nil
}

// transport dials integrations, after asking the guard.
func (s *Server) transport() *http.Transport {
	d := &net.Dialer{}
	return &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if !s.opts.Guarded || s.hostAllowed(host) {
			return d.DialContext(ctx, network, addr)
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, err
		}
		for _, ip := range ips {
			if s.addrAllowed(ip.Unmap()) {
				return d.DialContext(ctx, network, net.JoinHostPort(ip.String(), port))
			}
		}
		return nil, &url.Error{Op: "dial", URL: addr, Err: errors.New("address forbidden, you may need to set " +
			"AllowedUntrustedInternalConnections to allow an integration access to your internal network")}
	}}
}

// hostAllowed compares names and addresses letter by letter: 127.0.0.1 in the
// setting does not allow localhost.
func (s *Server) hostAllowed(host string) bool {
	for allowed := range strings.FieldsSeq(s.opts.AllowedInternal) {
		if strings.EqualFold(allowed, host) {
			return true
		}
	}
	return false
}

// addrAllowed refuses internal addresses outside the setting's ranges.
func (s *Server) addrAllowed(ip netip.Addr) bool {
	internal := ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast()
	if !internal {
		return true
	}
	for allowed := range strings.FieldsSeq(s.opts.AllowedInternal) {
		if p, err := netip.ParsePrefix(allowed); err == nil && p.Contains(ip) {
			return true
		}
	}
	return false
}
