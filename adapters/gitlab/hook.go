package gitlab

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"ocim/internal/clock"
	"ocim/internal/secret"
)

const (
	// defaultHookBody bounds a webhook, in bytes. GitLab sends up to 25 MiB (REQUEST_BODY_SIZE_LIMIT
	// in app/services/web_hook_service.rb), but a pipeline of a thousand jobs is below 2 MiB.
	defaultHookBody = 4 << 20
	// defaultTolerance is how far the time of a signature may be from ours, either way. GitLab names
	// no limit; this is the one that Standard Webhooks recommends.
	defaultTolerance = 5 * time.Minute
	// signingPrefix and signingBytes are the form of a signing token.
	signingPrefix = "whsec_"
	signingBytes  = 32
)

// ErrNoHookSecret is returned by NewHooks if there is nothing to verify webhooks with. The route must
// stay off then.
var ErrNoHookSecret = errors.New("no webhook secret is configured")

// HooksConfig is what Hooks needs to know.
type HooksConfig struct {
	// Hosts are the GitLab servers that share the route.
	Hosts []HookHost
	// Projects are the projects whose webhooks are heard, by name: those of other projects are
	// answered and ignored. Only BaseURL and ID are used.
	Projects map[string]Project
	// MaxBody bounds one webhook, in bytes. Zero is 4 MiB.
	MaxBody int64
	// Tolerance is how far a signature's time may be from ours. Zero is 5 minutes.
	Tolerance time.Duration
	// Clock is required.
	Clock clock.Clock
	// Logger receives one line for each refused webhook. Nil discards.
	Logger *slog.Logger
	// Sink takes the hints. Its error means that nothing could be kept, and is answered with 503.
	// It is called from the request's goroutine, with the request's context.
	Sink func(ctx context.Context, h Hint) error
}

// HookHost is one GitLab server and the secrets that its webhooks prove themselves with. Several of
// a kind allow rotation.
type HookHost struct {
	BaseURL string
	// Tokens are sent as they are in X-Gitlab-Token.
	Tokens []secret.Secret
	// SigningTokens sign the body: "whsec_" and 32 bytes in base64. Source: GitLab
	// doc/user/project/integrations/webhooks.md, and the Standard Webhooks specification.
	SigningTokens []secret.Secret
}

// Hooks answers POST /gitlab/webhook. Create it with NewHooks. It is safe for concurrent use.
//
// A webhook is a hint to look at a pipeline now: nothing in it is believed, so a forged, repeated or
// late one costs a look and nothing else. Whatever an authentic webhook holds is answered with 200
// and an empty body, since GitLab switches a webhook off after a few failures.
type Hooks struct {
	hosts     []hookHost
	maxBody   int64
	tolerance time.Duration
	clock     clock.Clock
	log       *slog.Logger
	sink      func(context.Context, Hint) error
	buffers   sync.Pool
}

type hookHost struct {
	tokens   []secret.Secret
	keys     [][]byte
	projects map[int64]string
}

// NewHooks returns the handler, ErrNoHookSecret if no host has a secret, or what is wrong with one.
func NewHooks(cfg HooksConfig) (*Hooks, error) {
	if cfg.Clock == nil || cfg.Sink == nil {
		return nil, errors.New("gitlab webhooks: no clock or no sink")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = defaultHookBody
	}
	if cfg.Tolerance <= 0 {
		cfg.Tolerance = defaultTolerance
	}
	h := &Hooks{
		maxBody: cfg.MaxBody, tolerance: cfg.Tolerance, clock: cfg.Clock, log: cfg.Logger, sink: cfg.Sink,
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
	for _, host := range cfg.Hosts {
		ready, err := newHookHost(host, cfg.Projects)
		if err != nil {
			return nil, fmt.Errorf("webhooks of %s: %w", host.BaseURL, err)
		}
		if len(ready.tokens)+len(ready.keys) > 0 {
			h.hosts = append(h.hosts, ready)
		}
	}
	if len(h.hosts) == 0 {
		return nil, ErrNoHookSecret
	}
	return h, nil
}

func newHookHost(cfg HookHost, projects map[string]Project) (hookHost, error) {
	h := hookHost{projects: map[int64]string{}}
	for _, t := range cfg.Tokens {
		if strings.TrimSpace(t.Reveal()) == "" {
			return h, errors.New("a token is blank")
		}
		h.tokens = append(h.tokens, t)
	}
	for _, t := range cfg.SigningTokens {
		text, ok := strings.CutPrefix(t.Reveal(), signingPrefix)
		key, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(key) != signingBytes {
			return h, fmt.Errorf("a signing token is not %s and %d bytes in base64", signingPrefix, signingBytes)
		}
		h.keys = append(h.keys, key)
	}
	base := strings.TrimSuffix(cfg.BaseURL, "/")
	for name, p := range projects {
		if strings.TrimSuffix(p.BaseURL, "/") == base {
			h.projects[p.ID] = name
		}
	}
	return h, nil
}

// ServeHTTP implements [http.Handler].
func (h *Hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	sig, signed, why := h.signature(r.Header)
	if why != "" {
		h.refuse(w, r, http.StatusUnauthorized, why)
		return
	}
	tokens := h.byToken(r.Header, signed)
	if len(tokens) == 0 && !signed {
		// Before the body is read: a stranger costs a few comparisons.
		h.refuse(w, r, http.StatusUnauthorized, "wrong or missing secret")
		return
	}
	if r.ContentLength > h.maxBody {
		h.tooLarge(w, r, len(tokens) > 0)
		return
	}
	buf, _ := h.buffers.Get().(*bytes.Buffer)
	buf.Reset()
	defer h.keep(buf)
	if n, err := buf.ReadFrom(io.LimitReader(r.Body, h.maxBody+1)); err != nil {
		h.refuse(w, r, http.StatusBadRequest, "the body ended early")
		return
	} else if n > h.maxBody {
		h.tooLarge(w, r, len(tokens) > 0)
		return
	}
	hosts := tokens
	if signed {
		hosts = append(hosts, h.bySignature(sig, buf.Bytes())...)
	}
	if len(hosts) == 0 {
		h.refuse(w, r, http.StatusUnauthorized, "wrong signature")
		return
	}
	w.WriteHeader(h.take(r.Context(), hosts, buf.Bytes()))
}

// keep gives the buffer back, unless a large webhook made it large.
func (h *Hooks) keep(buf *bytes.Buffer) {
	if buf.Cap() <= 256<<10 {
		h.buffers.Put(buf)
	}
}

// tooLarge answers a webhook that is not read. One that is known to be GitLab's is accepted all the
// same, since GitLab stops calling whoever refuses some in a row, and polling sees what it tells.
func (h *Hooks) tooLarge(w http.ResponseWriter, r *http.Request, known bool) {
	if !known {
		h.refuse(w, r, http.StatusRequestEntityTooLarge, "larger than allowed")
		return
	}
	h.log.WarnContext(r.Context(), "webhook larger than allowed is not read", "limit", h.maxBody)
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusOK)
}

func (h *Hooks) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	h.log.WarnContext(r.Context(), "webhook refused", "why", why, "status", status, "from", r.RemoteAddr)
	// What was not read is not wanted either.
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
}

// take hands on what the webhook says and returns the status to answer.
func (h *Hooks) take(ctx context.Context, hosts []hookHost, body []byte) int {
	e, err := parseEvent(body)
	if err != nil {
		h.log.WarnContext(ctx, "webhook without meaning", "err", clip(err.Error(), 200))
		return http.StatusOK
	}
	for _, host := range hosts {
		name, ours := host.projects[e.project]
		if !ours {
			continue
		}
		hints := e.hints(name)
		if len(hints) == 0 {
			h.log.DebugContext(ctx, "webhook that concerns no pipeline", "project", name)
		}
		for _, hint := range hints {
			if err := h.sink(ctx, hint); err != nil {
				h.log.ErrorContext(ctx, "webhook could not be kept", "project", name, "pipeline", hint.PipelineID, "err", err)
				return http.StatusServiceUnavailable
			}
		}
		return http.StatusOK
	}
	h.log.DebugContext(ctx, "webhook of a project that is not ours", "project_id", e.project)
	return http.StatusOK
}

// signed is what a signature covers beside the body.
type signedHeader struct {
	prefix string // id.timestamp.
	sums   [][]byte
}

// signature reads the headers of a signed webhook. It says why they are refused, if they are.
func (h *Hooks) signature(header http.Header) (s signedHeader, signed bool, why string) {
	values := header.Values("Webhook-Signature")
	if len(values) == 0 {
		return s, false, ""
	}
	id, stamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || id == "" {
		return s, true, "signature without id or time"
	}
	if d := h.clock.Now().Sub(time.Unix(at, 0)); d > h.tolerance || d < -h.tolerance {
		return s, true, "signature of another time"
	}
	for v := range strings.FieldsSeq(strings.Join(values, " ")) {
		text, ok := strings.CutPrefix(v, "v1,")
		if !ok {
			continue // another version
		}
		if sum, err := base64.StdEncoding.DecodeString(text); err == nil && len(s.sums) < 16 {
			s.sums = append(s.sums, sum)
		}
	}
	s.prefix = id + "." + stamp + "."
	return s, true, ""
}

// bySignature returns the hosts that can have made the signature.
func (h *Hooks) bySignature(s signedHeader, body []byte) []hookHost {
	var hosts []hookHost
	for _, host := range h.hosts {
		if host.signed(s, body) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func (host hookHost) signed(s signedHeader, body []byte) bool {
	match := false
	for _, key := range host.keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(s.prefix))
		mac.Write(body)
		want := mac.Sum(nil)
		for _, sum := range s.sums {
			if hmac.Equal(want, sum) {
				match = true
			}
		}
	}
	return match
}

// byToken returns the hosts whose token was sent. A host with signing tokens is not among them if
// there is a signature: a wrong signature must not be made good by a token.
func (h *Hooks) byToken(header http.Header, signed bool) []hookHost {
	got := header.Get("X-Gitlab-Token")
	var hosts []hookHost
	for _, host := range h.hosts {
		if signed && len(host.keys) > 0 {
			continue
		}
		match := false
		for _, t := range host.tokens {
			if t.Equal(got) {
				match = true
			}
		}
		if match {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
