// Package mattermost speaks with Mattermost servers: slash commands, message buttons and dialogs
// come in over HTTP, posts go out over REST API v4.
//
// Mattermost signs nothing that it sends. A slash command carries a token that the server made for
// one command of one team, and that token is the whole proof. A click and a dialog carry nothing:
// any user can build a post with a button that points here, or send a dialog's values without a
// dialog. So every button and every dialog is sealed by this package, bound to server, channel and
// person as far as they are known, and of all that arrives only the user id, which the server
// itself fills in, is believed.
package mattermost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

// Platform is the name of this platform in actors and conversations.
const Platform = "mattermost"

const (
	defaultMaxBody   = 1 << 20
	defaultAckBudget = 2500 * time.Millisecond
	// finishTime is for what stands around the handler: checking the request, showing the answer.
	finishTime = 300 * time.Millisecond
	// handlerLimit ends a handler that works on after its answer was promised for later.
	handlerLimit = 2 * time.Minute
	minSecret    = 16
)

// Server is one Mattermost server, which is one workspace: user ids are unique over all its teams.
type Server struct {
	Name     string        // the workspace; letters, digits, - and _; part of the callback addresses
	URL      string        // as the bot reaches it, which should be the server's SiteURL
	BotToken secret.Secret // access token of the bot account
	Teams    []string      // names (not display names) of the teams that get the slash command
	Command  string        // trigger word without the slash; "ocim" if empty
	// PathSecret is what the secret segments of the callback addresses are made from, at least 16
	// bytes of letters, digits, - and _. They keep strangers from reaching the routes at all.
	PathSecret secret.Secret
}

// TokenStore keeps the command tokens that the servers issue, encrypted. Get's second result is
// false if there is none of that name. Implementations are safe for concurrent use, and Put
// returns only once the token is on disk.
type TokenStore interface {
	Get(ctx context.Context, name string) (secret.Secret, bool, error)
	Put(ctx context.Context, name string, token secret.Secret) error
}

// Config is what an [Adapter] needs. Servers, CallbackURL, Signer, Tokens, Clock and Logger are
// required.
type Config struct {
	Servers     []Server
	CallbackURL string // public base address of this bot, such as https://ocim.example.org
	Signer      *ops.Signer
	Tokens      TokenStore
	Clock       clock.Clock
	Logger      *slog.Logger

	MaxBody   int64             // of an incoming request, in bytes; 1 MiB if 0
	AckBudget time.Duration     // counts from the arrival; an answer that takes longer follows later; 2.5 s if 0
	Transport http.RoundTripper // for calls to the servers; a fresh copy of the default one if nil
	Hint      string            // shown while people type the command
	About     string            // one line on the command, in the list of commands
}

// Adapter connects Mattermost servers with a handler. It implements [chat.Platform]. Safe for
// concurrent use.
type Adapter struct {
	servers map[string]*server
	order   []string
	signer  *ops.Signer
	tokens  TokenStore
	clock   clock.Clock
	log     *slog.Logger
	ack     *chat.Acker
	beside  sync.WaitGroup // messages that go beside an answer
	within  time.Duration  // from the whole request to its answer, whatever it waits for
	maxBody int64
	base    string
	hint    string
	about   string
	poke    chan struct{}

	registering sync.Mutex // one registration at a time
}

var _ chat.Platform = (*Adapter)(nil)

// New checks cfg and returns an adapter that passes what people do to h. It makes no call; see
// [Adapter.Register].
func New(cfg Config, h chat.Handler) (*Adapter, error) {
	if cfg.Signer == nil || cfg.Tokens == nil || cfg.Clock == nil || cfg.Logger == nil || h == nil {
		return nil, errors.New("mattermost: signer, token store, clock, logger and handler are required")
	}
	base, err := baseURL(cfg.CallbackURL)
	if err != nil {
		return nil, fmt.Errorf("mattermost: callback address: %w", err)
	}
	a := &Adapter{
		servers: map[string]*server{},
		signer:  cfg.Signer,
		tokens:  cfg.Tokens,
		clock:   cfg.Clock,
		log:     cfg.Logger.With("platform", Platform),
		maxBody: cfg.MaxBody,
		base:    base.String(),
		hint:    cfg.Hint,
		about:   cfg.About,
		poke:    make(chan struct{}, 1),
	}
	if a.maxBody <= 0 {
		a.maxBody = defaultMaxBody
	}
	if a.hint == "" {
		a.hint = "[help | deploy | status | operations | logs | cancel | retry]"
	}
	if a.about == "" {
		a.about = "Deploy instances and watch their pipelines"
	}
	budget := cfg.AckBudget
	if budget <= 0 {
		budget = defaultAckBudget
	}
	a.ack, a.within = chat.NewAcker(h, cfg.Clock, budget, handlerLimit, a.log), budget+finishTime
	for _, s := range cfg.Servers {
		if err := a.addServer(s, cfg.Transport); err != nil {
			return nil, fmt.Errorf("mattermost: server %q: %w", s.Name, err)
		}
	}
	if len(a.servers) == 0 {
		return nil, errors.New("mattermost: no server is configured")
	}
	return a, nil
}

func (a *Adapter) addServer(c Server, transport http.RoundTripper) error {
	segment := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	trigger := regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,127}$`)
	if c.Command == "" {
		c.Command = "ocim"
	}
	switch {
	case !segment.MatchString(c.Name) || len(c.Name) > 64:
		return errors.New("its name must be 1 to 64 letters, digits, - and _")
	case a.servers[c.Name] != nil:
		return errors.New("it is configured twice")
	case c.BotToken.Empty():
		return errors.New("it has no bot token")
	case c.PathSecret.Len() < minSecret:
		return fmt.Errorf("its path secret must have at least %d bytes", minSecret)
	case !segment.MatchString(c.PathSecret.Reveal()):
		return errors.New("its path secret may hold only letters, digits, - and _")
	case len(c.Teams) == 0:
		return errors.New("it names no team")
	case !trigger.MatchString(c.Command):
		return errors.New("its command must be a lower-case word without the slash")
	}
	u, err := baseURL(c.URL)
	if err != nil {
		return fmt.Errorf("its address: %w", err)
	}
	s := newServer(a, c, u, transport)
	if len(s.callback(commandsRoute)) > 1024 { // Mattermost: model.Command.IsValid
		return errors.New("the callback address of its command is longer than 1024 bytes")
	}
	a.servers[c.Name] = s
	a.order = append(a.order, c.Name)
	return nil
}

// baseURL parses an address that other addresses are built on, and takes off its last slash.
func baseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(raw, "/"))
	switch {
	case err != nil:
		return nil, errors.New("it is not an address")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("it must begin with https:// or http://")
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, errors.New("it must be a scheme, a host and perhaps a path")
	}
	return u, nil
}

// Handler serves the callbacks:
//
//	POST /mattermost/commands/<server>/<segment>
//	POST /mattermost/actions/<server>/<segment>
//	POST /mattermost/dialogs/<server>/<segment>
//
// The last segment is made from the path secret and differs for each route. Keep it out of access
// logs.
func (a *Adapter) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mattermost/commands/{server}/{segment}", a.route(commandsRoute, formBody, a.serveCommand))
	mux.HandleFunc("POST /mattermost/actions/{server}/{segment}", a.route(actionsRoute, jsonBody, a.serveAction))
	mux.HandleFunc("POST /mattermost/dialogs/{server}/{segment}", a.route(dialogsRoute, jsonBody, a.serveDialog))
	return mux
}

// Wait blocks until every handler that outlived its answer has ended, and every message that goes
// beside an answer was sent or given up.
func (a *Adapter) Wait() {
	a.ack.Wait()
	a.beside.Wait()
}

// server returns the server of a workspace.
func (a *Adapter) server(workspace string) (*server, error) {
	if s := a.servers[workspace]; s != nil {
		return s, nil
	}
	return nil, &ops.Error{
		Code: ops.CodeNotFound, Reason: ops.ReasonConfigError,
		Msg: "The Mattermost server of this conversation is not configured here.",
	}
}

// validID reports whether id can be one of Mattermost's: 26 lower-case letters and digits. The
// model's own check lets other letters pass (model.IsValidId), and ids become parts of addresses.
func validID(id string) bool {
	return len(id) == 26 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
