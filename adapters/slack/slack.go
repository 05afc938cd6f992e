// Package slack connects ocim to Slack workspaces: it verifies and decodes what Slack sends over
// signed HTTP or over Socket Mode, hands it to a [chat.Handler], and renders and sends messages.
// It knows nothing of instances or pipelines.
//
// The Web API is called by a small caller of this package's own rather than by slack-go's, for
// three reasons: an answer is read only as far as it is needed, so that a message of another app
// with a block slack-go cannot decode does not turn a successful post into an error; the token
// travels in the Authorization header and never in a body; and every error is sorted by whether the
// call may have taken effect. Block Kit types and the Socket Mode connection are slack-go's.
package slack

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

// Platform is the name of this platform in [ops.Actor] and [ops.Conversation].
const Platform = "slack"

const (
	// minSecret is the shortest signing secret that is accepted; Slack's have 32 characters.
	minSecret = 16
	// defaultAPI is the base of the Web API outside GovSlack.
	defaultAPI = "https://slack.com/api/"
	// maxSockets is how many Socket Mode connections Slack allows one app
	// (docs.slack.dev, apis/events-api/using-socket-mode).
	maxSockets = 10

	defaultMaxBody   = 1 << 20 // a view alone may have 250 kB
	defaultAckBudget = 2200 * time.Millisecond
	// maxLate is how many answers are on their way beside an acknowledgement. Their senders are known
	// people, but one of them can click faster than a Slack that hangs takes answers.
	maxLate = 256
	// handlerLimit is how long one request may be worked on in all, beyond its acknowledgement.
	handlerLimit = 30 * time.Second
)

// Workspace is one Slack workspace in which the app is installed.
type Workspace struct {
	// TeamID is T…, or E… for an app that is installed on a whole organisation.
	TeamID string
	// SigningSecrets verify requests over HTTP. Several are allowed while one is being replaced.
	// The same app has the same secret in all its workspaces.
	SigningSecrets []secret.Secret
	// BotToken (xoxb-…) calls the Web API.
	BotToken secret.Secret
	// AppToken (xapp-…, scope connections:write) opens Socket Mode; needed if Socket is set.
	AppToken secret.Secret
	// Socket receives over Socket Mode instead of HTTP. SigningSecrets are not needed then.
	Socket bool
	// Sockets is the number of Socket Mode connections, 1 when zero, at most 10. With two, one
	// stays while Slack renews the other.
	Sockets int
	// APIURL replaces https://slack.com/api/, for GovSlack and for tests.
	APIURL string
	// History tells that the token has the history scopes, which Find needs.
	History bool
}

// Config is what an [Adapter] needs. Zero fields have the defaults named.
type Config struct {
	Workspaces []Workspace
	Clock      clock.Clock   // the machine's
	Logger     *slog.Logger  // discarded
	MaxBody    int64         // of one request, in bytes; 1 MiB
	AckBudget  time.Duration // how long an answer may wait for the handler; 2.2 s of Slack's 3 s
	// Transport sends the calls to Slack. The default is a transport of this adapter's own.
	Transport http.RoundTripper
}

// Adapter is the bot's side of Slack. It implements [chat.Platform]; the Workspace of a
// conversation or actor selects the token. All methods are safe for concurrent use.
type Adapter struct {
	clock      clock.Clock
	log        *slog.Logger
	client     *http.Client
	acker      *chat.Acker
	keys       []signingKey
	workspaces map[string]*workspace
	order      []*workspace
	maxBody    int64
	big        chan struct{} // slots for bodies beyond smallBody
	lates      chan struct{} // slots for answers after the acknowledgement
	late       sync.WaitGroup
}

var _ chat.Platform = (*Adapter)(nil)

// workspace is a Workspace with what auth.test told of it.
type workspace struct {
	Workspace

	api    *url.URL
	known  atomic.Pointer[identity]
	online atomic.Int32 // open Socket Mode connections
	// trouble is why the token is of no use, as far as the last call told; nil while it works.
	trouble atomic.Pointer[error]
}

// identity is who the bot is in a workspace.
type identity struct {
	userID, botID string
	url           string // of the workspace, with a trailing slash
	scopes        map[string]bool
}

// New checks cfg and returns an adapter which passes every verified request to h. It refuses
// signing secrets that are empty or shorter than 16 bytes: an HMAC under an empty key is one that
// anybody can make. New makes no call; [Adapter.Run] does.
func New(cfg Config, h chat.Handler) (*Adapter, error) {
	a := &Adapter{
		clock: cfg.Clock, log: cfg.Logger, maxBody: cfg.MaxBody,
		workspaces: map[string]*workspace{}, big: make(chan struct{}, bigBodies), lates: make(chan struct{}, maxLate),
	}
	if a.clock == nil {
		a.clock = clock.System{}
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.maxBody <= 0 {
		a.maxBody = defaultMaxBody
	}
	budget := cfg.AckBudget
	if budget <= 0 {
		budget = defaultAckBudget
	}
	if h == nil {
		return nil, errors.New("slack: no handler")
	}
	if len(cfg.Workspaces) == 0 {
		return nil, errors.New("slack: no workspace")
	}
	a.acker = chat.NewAcker(h, a.clock, budget, handlerLimit, a.log)
	a.client = newClient(cfg.Transport)
	var errs []error
	for _, w := range cfg.Workspaces {
		if err := a.add(w); err != nil {
			errs = append(errs, fmt.Errorf("slack: workspace %q: %w", w.TeamID, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return a, nil
}

// add checks one workspace and takes it in.
func (a *Adapter) add(w Workspace) error {
	if !validID(w.TeamID, "TE") {
		return errors.New("the team id must look like T012AB3CD")
	}
	if a.workspaces[w.TeamID] != nil {
		return errors.New("the team is listed twice")
	}
	if w.BotToken.Empty() {
		return errors.New("no bot token")
	}
	if w.Sockets < 0 || w.Sockets > maxSockets {
		return fmt.Errorf("sockets must be 0 to %d", maxSockets)
	}
	if w.Socket && w.AppToken.Empty() {
		return errors.New("socket mode needs an app token")
	}
	if !w.Socket && len(w.SigningSecrets) == 0 {
		return errors.New("no signing secret")
	}
	for _, s := range w.SigningSecrets {
		if s.Len() < minSecret {
			return fmt.Errorf("a signing secret has fewer than %d bytes", minSecret)
		}
	}
	if w.Sockets == 0 {
		w.Sockets = 1
	}
	if w.APIURL == "" {
		w.APIURL = defaultAPI
	}
	if !strings.HasSuffix(w.APIURL, "/") {
		w.APIURL += "/"
	}
	api, err := url.Parse(w.APIURL)
	if err != nil || api.Host == "" || api.User != nil || api.Scheme != "https" && api.Scheme != "http" {
		return errors.New("the API address is not an http or https URL")
	}
	ws := &workspace{Workspace: w, api: api}
	a.workspaces[w.TeamID] = ws
	a.order = append(a.order, ws)
	for _, s := range w.SigningSecrets {
		a.addKey(s, ws)
	}
	return nil
}

// Routes are the handlers for Slack's requests over HTTP by path. All four may share a listener
// with anything else; the listener owns read and header time-outs.
func (a *Adapter) Routes() map[string]http.Handler {
	return map[string]http.Handler{
		"/slack/commands":     http.HandlerFunc(a.serveCommand),
		"/slack/interactions": http.HandlerFunc(a.serveInteraction),
		"/slack/options":      http.HandlerFunc(a.serveInteraction),
		"/slack/events":       http.HandlerFunc(a.serveEvent),
	}
}

// Rate implements [chat.Platform]. Slack allows about one post a second in a channel, and 50 updates
// a minute in the whole workspace, of which a fifth is left for bursts
// (docs.slack.dev, apis/web-api/rate-limits and reference/methods/chat.update).
func (a *Adapter) Rate() chat.Rate {
	return chat.Rate{PostsPerChannel: 1, EditsPerMinute: 40, MinEditGapMillis: 3000}
}

// Wait blocks until every answer that outlived its request has been sent or given up. Call it when
// no more requests come in.
func (a *Adapter) Wait() {
	a.acker.Wait()
	a.late.Wait()
}

// workspace selects by team id.
func (a *Adapter) workspace(platform, team string) (*workspace, error) {
	if ws := a.workspaces[team]; ws != nil && platform == Platform {
		return ws, nil
	}
	return nil, &ops.Error{
		Code: ops.CodeInvalid, Reason: ops.ReasonChatUnavailable,
		Msg:  "This bot is not connected to that Slack workspace.",
		Next: "Add the workspace to the configuration.",
	}
}

// validID tells whether s is an id of Slack's that begins with one of the kinds: upper-case
// letters and digits. Nothing else may stand in a mention, a link or a selector.
func validID(s, kinds string) bool {
	if len(s) < 2 || len(s) > 32 || !strings.ContainsRune(kinds, rune(s[0])) {
		return false
	}
	for _, c := range []byte(s[1:]) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// validTS tells whether s is a message timestamp: digits, a dot, digits.
func validTS(s string) bool {
	sec, micro, ok := strings.Cut(s, ".")
	return ok && digits(sec) && digits(micro)
}

func digits(s string) bool {
	if s == "" || len(s) > 16 {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
