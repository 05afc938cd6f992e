// Package gitlab lets ocim start, find, watch and cancel pipelines in GitLab, read the instances of a
// cluster repository, and receive GitLab's webhooks. It implements [ops.Pipelines] and [ops.Repos]
// over GitLab's REST API, version 4.
//
// Nothing is repeated here: a call is made once, and its error says whether it may have had an
// effect. The caller's queue decides what to do next.
package gitlab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	gl "gitlab.com/gitlab-org/api/client-go/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

const (
	defaultTimeout = 20 * time.Second
	defaultMaxBody = 8 << 20
	defaultRate    = 10
	defaultBurst   = 30
	burstSeconds   = 3 // how many seconds' worth of calls may come at once

	// perPage is the most entries that GitLab gives in one answer (doc/api/rest/_index.md).
	perPage = 100
	// methodTimeouts is how many times the timeout of one call a method with several calls may take.
	methodTimeouts = 3
	// maxRuledOut bounds the memory of pipelines that were looked at and do not carry a key.
	maxRuledOut = 10_000
	// maxTitles bounds the memory of commit titles.
	maxTitles = 5_000
)

// Config is what an Adapter needs to know.
type Config struct {
	// Projects are the projects by the name the configuration gives them. Names must not contain
	// a colon: see [Adapter.Tree] about pipelines of projects that are not configured.
	Projects map[string]Project
	// Timeout bounds one call, answer included. Zero is 20 s. A method that makes several calls
	// takes at most three times as long.
	Timeout time.Duration
	// MaxBody bounds one answer, in bytes after decompression. Zero is 8 MiB. Traces have a bound
	// of their own.
	MaxBody int64
	// Rate is the sustained number of calls per second to one GitLab, Burst how many may come at
	// once. Zero is 10 and 30. Half as many come on top for what people wait for, see [ops.Urgent];
	// GitLab.com allows 33 a second.
	Rate  float64
	Burst int
	// Rates are the rates of single GitLabs, by the BaseURL of their projects, instead of Rate; three
	// times as many calls may come at once.
	Rates map[string]float64
	// Clock is required.
	Clock clock.Clock
	// Logger receives what is odd but no error. Nil discards.
	Logger *slog.Logger
	// Transport replaces the network, for tests and for proxies; then addresses are not checked
	// at dial. Nil connects directly, and only to AllowedHosts.
	Transport http.RoundTripper
	// AllowedHosts are the origins, such as https://gitlab.example.com, that may be called. Empty
	// means those of Projects.
	AllowedHosts []string
}

// Project is one GitLab project.
type Project struct {
	// BaseURL is where GitLab's pages are, without /api/v4.
	BaseURL string
	// ID is GitLab's number of the project.
	ID int64
	// Ref is the branch that instances are read from.
	Ref string
	// Token reads: scope read_api, and the right to read pipeline variables, which needs the role
	// Maintainer or the user who owns the trigger token (GitLab: app/policies/ci/pipeline_policy.rb).
	Token secret.Secret
	// WriteToken, with scope api, cancels, and starts pipelines where no trigger token is used.
	WriteToken secret.Secret
	// TriggerToken starts pipelines, and can do nothing else.
	TriggerToken secret.Secret
}

// Adapter speaks to GitLab. It is safe for concurrent use.
type Adapter struct {
	projects map[string]*project
	clock    clock.Clock
	log      *slog.Logger
	timeout  time.Duration
	maxBody  int64
	scrub    *strings.Replacer
	carried  *memo[pipelineID, []string]
	bare     *memo[pipelineID, bool] // pipelines that carry no reference, or may not be looked into
	reading  singleflight.Group      // of what fills carried
	titles   *memo[commitID, []mention]
	denied   *denials
}

var (
	_ ops.Pipelines = (*Adapter)(nil)
	_ ops.Repos     = (*Adapter)(nil)
)

// project is a configured project with the connection to its GitLab.
type project struct {
	Project
	name string
	host *host
}

// host is one GitLab. All of its projects share the connection and the limiter.
type host struct {
	origin   string
	client   *gl.Client
	projects map[int64]*project
}

type pipelineID struct {
	host string
	id   int64
}

type commitID struct {
	host    string
	project int64
	sha     string
}

// New returns an Adapter. It makes no call.
func New(cfg Config) (*Adapter, error) {
	if cfg.Clock == nil {
		return nil, errors.New("gitlab: no clock")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if cfg.Rate <= 0 {
		cfg.Rate = defaultRate
	}
	if cfg.Burst <= 0 {
		cfg.Burst = defaultBurst
	}
	allowed, err := allowList(cfg)
	if err != nil {
		return nil, err
	}
	a := &Adapter{
		projects: map[string]*project{},
		clock:    cfg.Clock,
		log:      cfg.Logger,
		timeout:  cfg.Timeout,
		maxBody:  cfg.MaxBody,
		scrub:    scrubber(cfg.Projects),
		carried:  newMemo[pipelineID, []string](maxRuledOut),
		bare:     newMemo[pipelineID, bool](maxRuledOut),
		titles:   newMemo[commitID, []mention](maxTitles),
		denied:   &denials{all: map[denial]error{}},
	}
	hosts := map[string]*host{}
	for name, p := range cfg.Projects {
		if strings.Contains(name, ":") {
			return nil, fmt.Errorf("gitlab: project %s: its name holds a colon", name)
		}
		if p.ID <= 0 {
			return nil, fmt.Errorf("gitlab: project %s: id is %d, want a number above 0", name, p.ID)
		}
		base := strings.TrimSuffix(p.BaseURL, "/")
		h := hosts[base]
		if h == nil {
			if h, err = newHost(cfg, base, allowed); err != nil {
				return nil, fmt.Errorf("gitlab: project %s: %w", name, err)
			}
			hosts[base] = h
		}
		a.projects[name] = &project{Project: p, name: name, host: h}
		h.projects[p.ID] = a.projects[name]
	}
	return a, nil
}

func newHost(cfg Config, base string, allowed map[string]bool) (*host, error) {
	o, err := origin(base)
	if err != nil {
		return nil, err
	}
	if !allowed[o] {
		return nil, fmt.Errorf("%s is not among the allowed hosts", o)
	}
	perSecond, burst := cfg.Rate, cfg.Burst
	if own := cfg.Rates[base]; own > 0 {
		perSecond, burst = own, max(1, int(burstSeconds*own))
	}
	lim := &limiter{
		clock: cfg.Clock, bucket: rate.NewLimiter(rate.Limit(perSecond), burst),
		reserve:  rate.NewLimiter(rate.Limit(perSecond/2), max(1, burst/2)),
		patience: cfg.Timeout / 2, // the wait counts as part of the call, which needs time as well
	}
	next := cfg.Transport
	if next == nil {
		next = dialer(allowed, cfg.Timeout)
	}
	client, err := gl.NewAuthSourceClient(gl.Unauthenticated{},
		gl.WithHTTPClient(&http.Client{
			Transport: &guard{next: next, allowed: allowed, limiter: lim, maxBody: cfg.MaxBody},
			// The answer itself comes back, and is an error: a redirect would carry our token on.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		gl.WithURLWarningLogger(slog.New(slog.DiscardHandler)),
		gl.WithBaseURL(base),
		gl.WithoutRetries(),
		gl.WithCustomLimiter(lim),
		gl.WithUserAgent("ocim"),
	)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", o, err)
	}
	return &host{origin: base, client: client, projects: map[int64]*project{}}, nil
}

// allowList is the set of origins that may be called.
func allowList(cfg Config) (map[string]bool, error) {
	all := cfg.AllowedHosts
	if len(all) == 0 {
		for _, p := range cfg.Projects {
			all = append(all, p.BaseURL)
		}
	}
	set := map[string]bool{}
	for _, s := range all {
		o, err := origin(s)
		if err != nil {
			return nil, fmt.Errorf("gitlab: allowed host: %w", err)
		}
		set[o] = true
	}
	return set, nil
}

// origin is scheme, host and port of a URL, with the port always named.
func origin(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("address of GitLab: %w", err)
	}
	if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q is not the address of a GitLab, want something like https://gitlab.example.com", u.Redacted())
	}
	port := u.Port()
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("the address of GitLab begins with %q, want https", u.Scheme)
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port, nil
}

// project finds a configured project.
func (a *Adapter) project(name string) (*project, error) {
	if p := a.projects[name]; p != nil {
		return p, nil
	}
	return nil, &ops.Error{
		Code: ops.CodeDenied, Reason: ops.ReasonGitLabDenied,
		Msg:  fmt.Sprintf("The GitLab project %s is not in ocim's configuration.", clip(name, 100)),
		Next: "Add it to the projects in the configuration, or act in GitLab.",
	}
}

// path is the API path of something in the project.
func (p *project) path(parts ...any) string {
	var b strings.Builder
	b.WriteString("projects/")
	b.WriteString(strconv.FormatInt(p.ID, 10))
	for _, part := range parts {
		fmt.Fprintf(&b, "/%v", part)
	}
	return b.String()
}

// within bounds a method that makes several calls.
func (a *Adapter) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, methodTimeouts*a.timeout)
}

// Probe implements [ops.Pipelines]: it reads the project, and takes the time from the answer's Date
// header, or from our clock if a proxy removed it.
func (a *Adapter) Probe(ctx context.Context, name string) (time.Time, error) {
	p, err := a.project(name)
	if err != nil {
		return time.Time{}, err
	}
	var got struct {
		ID int64 `json:"id"`
	}
	resp, err := a.call(ctx, p, request{
		method: http.MethodGet, path: p.path(), token: p.Token, out: &got,
		doing: "read project " + p.name, missing: ops.ReasonGitLabDenied,
	})
	if err != nil {
		return time.Time{}, err
	}
	if at, derr := http.ParseTime(resp.Header.Get("Date")); derr == nil {
		return at.UTC(), nil
	}
	a.log.WarnContext(ctx, "GitLab's answer has no date; using the local clock", "project", p.name)
	return a.clock.Now(), nil
}

// memo remembers at most size values, and forgets the oldest first. It is safe for concurrent use.
type memo[K comparable, V any] struct {
	mu     sync.Mutex
	values map[K]V
	order  []K
	at     int
	size   int
}

func newMemo[K comparable, V any](size int) *memo[K, V] {
	return &memo[K, V]{values: map[K]V{}, size: size}
}

func (m *memo[K, V]) get(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[k]
	return v, ok
}

func (m *memo[K, V]) put(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.values[k]; !known {
		if len(m.order) < m.size {
			m.order = append(m.order, k)
		} else {
			delete(m.values, m.order[m.at])
			m.order[m.at] = k
			m.at = (m.at + 1) % m.size
		}
	}
	m.values[k] = v
}
