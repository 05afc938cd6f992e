package mattermost

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

const (
	callTimeout = 10 * time.Second
	// quickTimeout is for look-ups that somebody waits for.
	quickTimeout = 2 * time.Second
	// maxAnswer caps what is read of one answer, after decompression. A page of 60 posts with
	// long attachments stays below it.
	maxAnswer   = 8 << 20
	rememberMax = 8192
	nameLife    = 10 * time.Minute
)

// server is one Mattermost server and what is known about it.
type server struct {
	Server
	base    *url.URL
	public  string // base address of the callbacks
	client  *model.Client4
	http    *http.Client // without the token, for response_url
	clock   clock.Clock
	log     *slog.Logger
	unhappy func() // asks for a new registration soon

	segments map[string]secret.Secret // by kind of callback: the secret part of its address

	// noEphemeral is set when the bot turned out not to have the permission
	// create_post_ephemeral, and cleared by each registration.
	noEphemeral atomic.Bool
	dynamic     atomic.Bool // dialogs can search (server 11.0 and later)

	mu         sync.Mutex
	bot        string // user id
	registered bool
	trouble    error             // of the last registration
	teams      map[string]*team  // by id
	posts      map[string]string // post id → channel, posts that are surely the bot's
	names      map[string]cachedName
}

type cachedName struct {
	name string
	till time.Time
}

func newServer(a *Adapter, c Server, base *url.URL, transport http.RoundTripper) *server {
	if transport == nil {
		transport = newTransport()
	}
	hc := &http.Client{
		Transport:     capped{transport},
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client := model.NewAPIv4Client(base.String())
	client.HTTPClient = hc
	client.SetToken(c.BotToken.Reveal())
	s := &server{
		Server: c, base: base, public: a.base, client: client, http: hc, clock: a.clock,
		log:   a.log.With("workspace", c.Name),
		teams: map[string]*team{}, posts: map[string]string{}, names: map[string]cachedName{},
		segments: map[string]secret.Secret{},
	}
	for _, kind := range []string{commandsRoute, actionsRoute, dialogsRoute} {
		m := hmac.New(sha256.New, []byte(c.PathSecret.Reveal()))
		_, _ = io.WriteString(m, kind) // a hash never fails
		s.segments[kind] = secret.New(hex.EncodeToString(m.Sum(nil)))
	}
	s.unhappy = func() {
		select {
		case a.poke <- struct{}{}:
		default:
		}
	}
	return s
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
}

// The kinds of callbacks.
const (
	commandsRoute = "commands"
	actionsRoute  = "actions"
	dialogsRoute  = "dialogs"
)

// callback is the address of one of our routes for this server. Its last segment is a secret: the
// HMAC-SHA256 of the kind under the path secret, in hex. Everybody who opens a dialog is told the
// address that it is sent to; thus he learns nothing of the other two.
func (s *server) callback(kind string) string {
	return s.public + "/mattermost/" + kind + "/" + s.Name + "/" + s.segments[kind].Reveal()
}

// me is the bot's own user id.
func (s *server) me(ctx context.Context) (string, error) {
	s.mu.Lock()
	id := s.bot
	s.mu.Unlock()
	if id != "" {
		return id, nil
	}
	var user *model.User
	err := s.call(ctx, "look up the bot's own account", func(ctx context.Context) (resp *model.Response, err error) {
		user, resp, err = s.client.GetMe(ctx, "")
		if err == nil && !validID(user.Id) {
			err = errGarbage
		}
		if err == nil {
			s.dynamic.Store(majorVersion(resp.ServerVersion) >= 11)
		}
		return resp, err
	})
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bot = user.Id
	return user.Id, nil
}

// majorVersion reads "11.1.0.…"; it is 0 if that cannot be read.
func majorVersion(v string) int {
	major, _, _ := strings.Cut(v, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return n
}

// remember notes that a post is the bot's own.
func (s *server) remember(postID, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.posts) >= rememberMax {
		for id := range s.posts { // any half will do: what is forgotten is asked for again
			if len(s.posts) <= rememberMax/2 {
				break
			}
			delete(s.posts, id)
		}
	}
	s.posts[postID] = channel
}

func (s *server) remembered(postID string) (channel string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	channel, ok = s.posts[postID]
	return channel, ok
}

// errGarbage: the server said yes, but what it sent makes no sense.
var errGarbage = errors.New("answer without the expected content")

// call runs one API call under a deadline and turns its failure into an [ops.Error].
func (s *server) call(ctx context.Context, what string, f func(context.Context) (*model.Response, error)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := f(ctx)
	if err == nil {
		return nil
	}
	if resp != nil && resp.StatusCode == http.StatusUnauthorized {
		s.unhappy()
	}
	return s.explain(what, resp, err)
}

// explain maps the failure of a call. Nothing that the server wrote is passed on except its error
// id, and no address either: both may hold secrets.
func (s *server) explain(what string, resp *model.Response, err error) *ops.Error {
	e := &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable}
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	switch {
	case resp == nil:
		e.Msg = "Mattermost could not be reached."
		e.NotSent = neverSent(err)
		e.Err = fmt.Errorf("%s: %w", what, withoutURL(err))
		return e
	case status == http.StatusTooManyRequests:
		e.Msg, e.NotSent = "Mattermost asks the bot to slow down.", true
		e.RetryAt = s.clock.Now().Add(retryAfter(resp.Header))
	case status == http.StatusUnauthorized:
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonChatUnauthorized
		e.Msg, e.Next = "Mattermost no longer accepts the bot's token.", "Ask the operator of this bot to renew it."
	case status == http.StatusForbidden:
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonNotAllowed
		e.Msg, e.Next = "Mattermost does not let the bot do this.", "Invite the bot to the channel, or ask an administrator to check its rights."
	case status == http.StatusNotFound:
		e.Code, e.Msg = ops.CodeNotFound, "Mattermost does not know this message, channel or person any more."
	case status >= 300 && status < 400:
		e.Code, e.Reason = ops.CodeInvalid, ops.ReasonConfigError
		e.Msg, e.Next = "The address of Mattermost redirects elsewhere.", "Ask the operator of this bot to correct it."
	case status >= 400 && status < 500:
		e.Code, e.Reason, e.Msg = ops.CodeInvalid, ops.ReasonInternal, "Mattermost refused the request."
	case status >= 500:
		e.Msg = "Mattermost has a problem of its own."
	default:
		e.Msg = "Mattermost sent an answer that makes no sense."
	}
	id := errorID(err)
	if status == http.StatusBadRequest && (id == editTooLate || strings.HasSuffix(id, "_to_deleted.error") || strings.HasSuffix(id, "_in_deleted.error")) {
		// Mattermost refuses edits after PostEditTimeLimit, and everything in an archived channel, as
		// if the request were malformed (api4/post.go, app/post.go).
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonNotAllowed
		e.Msg, e.Next = "Mattermost no longer lets the bot write there.", "Use another channel, or ask an administrator to unarchive it."
	}
	if id == triggerTooLate {
		e.Reason, e.Msg, e.Next = ops.ReasonChatUnavailable, "Mattermost opens a form only in the first thirty seconds, and they had passed.", "Try again."
	}
	e.Err = &apiError{what: what, status: status, id: id}
	return e
}

// apiError is the part of a failed call that may be shown in logs.
type apiError struct {
	what   string
	status int
	id     string // the server's stable name of the error, such as api.context.permissions.app_error
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%s: status %d %s", e.what, e.status, cmp.Or(e.id, "without an error id"))
}

// apiErrorID is the server's name of the error in err's chain, empty if there is none.
func apiErrorID(err error) string {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.id
	}
	return ""
}

func errorID(err error) string {
	var app *model.AppError
	if errors.As(err, &app) && regexp.MustCompile(`^[A-Za-z0-9_.]{1,120}$`).MatchString(app.Id) {
		return app.Id
	}
	return ""
}

// neverSent reports whether a call failed before there was a connection.
func neverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// retryAfter reads how long to wait after a 429, from one second to five minutes.
func retryAfter(h http.Header) time.Duration {
	for _, key := range []string{"Retry-After", "X-Ratelimit-Reset"} {
		if n, err := strconv.Atoi(strings.TrimSpace(h.Get(key))); err == nil && n >= 0 {
			return time.Duration(min(max(n, 1), 300)) * time.Second
		}
	}
	return 5 * time.Second
}

// capped limits what is read of every answer.
type capped struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (c capped) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

type cappedBody struct {
	io.ReadCloser
	left int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("answer is too long")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// usernames resolves user ids for mentions. Whoever cannot be resolved is left out, and the caller
// shows the name without a mention.
func (s *server) usernames(ctx context.Context, ids []string) map[string]string {
	out := map[string]string{}
	if len(ids) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, quickTimeout) // for all of them: somebody waits
	defer cancel()
	valid := regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)
	for _, id := range ids {
		if !validID(id) {
			continue
		}
		s.mu.Lock()
		c := s.names[id]
		s.mu.Unlock()
		if c.name == "" || s.clock.Now().After(c.till) {
			user, err := s.user(ctx, id)
			if err != nil || user.DeleteAt != 0 {
				continue
			}
			c = cachedName{name: user.Username, till: s.clock.Now().Add(nameLife)}
			s.mu.Lock()
			if len(s.names) >= rememberMax {
				clear(s.names)
			}
			s.names[id] = c
			s.mu.Unlock()
		}
		// Mattermost reserves these three; a server that gave one away must not notify everybody.
		if everybody := c.name == "all" || c.name == "channel" || c.name == "here"; valid.MatchString(c.name) && !everybody {
			out[id] = c.name
		}
	}
	return out
}

func (s *server) user(ctx context.Context, id string) (user *model.User, err error) {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	err = s.call(ctx, "look up a person", func(ctx context.Context) (resp *model.Response, err error) {
		user, resp, err = s.client.GetUser(ctx, id, "")
		if err == nil && user.Id != id {
			err = errGarbage
		}
		return resp, err
	})
	return user, err
}

// tokenName is the name under which a command token is stored.
func tokenName(server, teamID string) string { return "mattermost/" + server + "/" + teamID }

// equalAny reports whether got is one of the secrets. It looks at all of them, so that the time
// tells nothing.
func equalAny(secrets []secret.Secret, got string) bool {
	found := false
	for _, s := range secrets {
		found = s.Equal(got) || found
	}
	return found
}
