package mattermost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

const (
	registerEvery = 5 * time.Minute
	// registerGap is the least time between two registrations, however many calls fail.
	registerGap = 15 * time.Second
	// oldTokenLife is how long a replaced command token is still accepted, for requests that
	// were on their way.
	oldTokenLife = 60 * time.Second
)

// team is a team with our slash command.
type team struct {
	id, name string
	token    secret.Secret
	old      []oldToken
	// changing is closed when a change of the token is over; nil if there is none. The server
	// uses a new token before it tells us, so a command that arrives in between has to wait.
	changing chan struct{}
}

type oldToken struct {
	token secret.Secret
	till  time.Time
}

// Run registers now, every five minutes, and soon after a server refused our token or sent a
// command with a token that we do not know. It returns nil when ctx ends. Failures are logged and
// tried again.
func (a *Adapter) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		a.tryRegister(ctx)
		_ = clock.Sleep(ctx, a.clock, registerGap) // fails only when ctx ends, which ends the loop
		fires, stop := a.clock.After(registerEvery - registerGap)
		select {
		case <-fires:
		case <-a.poke:
		case <-ctx.Done():
		}
		stop()
	}
	return nil
}

func (a *Adapter) tryRegister(ctx context.Context) {
	if err := a.Register(ctx); err != nil && ctx.Err() == nil {
		a.log.Error("registration at Mattermost failed", "err", err)
	}
}

// Register makes sure that each configured team has our slash command, once, with our address, and
// that we know its token. It is safe to repeat, and the error names every team that failed.
func (a *Adapter) Register(ctx context.Context) error {
	a.registering.Lock()
	defer a.registering.Unlock()
	var errs []error
	for _, name := range a.order {
		s := a.servers[name]
		err := a.registerServer(ctx, s)
		s.mu.Lock()
		s.trouble = err
		s.mu.Unlock()
		if err != nil {
			errs = append(errs, fmt.Errorf("server %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Readiness tells for each server why its commands do not all work, nil if they do, as of the last
// registration. It makes no call.
func (a *Adapter) Readiness() map[string]error {
	out := map[string]error{}
	for name, s := range a.servers {
		s.mu.Lock()
		out[name] = s.trouble
		if s.trouble == nil && !s.registered {
			out[name] = errors.New("not registered yet")
		}
		s.mu.Unlock()
	}
	return out
}

func (a *Adapter) registerServer(ctx context.Context, s *server) error {
	s.mu.Lock()
	s.bot = "" // the token may belong to another account now
	s.mu.Unlock()
	s.noEphemeral.Store(false)
	bot, err := s.me(ctx)
	if err != nil {
		return err
	}
	var errs []error
	known := map[string]*team{}
	for _, name := range s.Teams {
		t, err := a.registerTeam(ctx, s, bot, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("team %s: %w", name, err))
		}
		if t != nil {
			known[t.id] = t
		}
	}
	if len(errs) == 0 {
		s.mu.Lock()
		s.teams, s.registered = known, true
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// registerTeam returns the team also with an error, once it is known which one it is.
func (a *Adapter) registerTeam(ctx context.Context, s *server, bot, name string) (*team, error) {
	var found *model.Team
	err := s.call(ctx, "look up the team", func(ctx context.Context) (resp *model.Response, err error) {
		found, resp, err = s.client.GetTeamByName(ctx, name, "")
		if err == nil && !validID(found.Id) {
			err = errGarbage
		}
		return resp, err
	})
	if err != nil {
		return nil, hint(err, "Check the team's name, and add the bot's account to the team.")
	}
	t, err := a.team(ctx, s, found.Id, name)
	if err != nil {
		return nil, err
	}
	list, err := a.listCommands(ctx, s, bot, t)
	if err != nil {
		return t, hint(err, "Give the bot a role with manage_slash_commands; ocim setup prints how.")
	}
	want := a.wanted(s, t.id)
	for _, have := range list {
		if have.Trigger != want.Trigger || have.DeleteAt != 0 {
			continue
		}
		if have.CreatorId != bot {
			return t, taken(name, want.Trigger)
		}
		return t, a.adopt(ctx, s, t, have, want)
	}
	return t, a.create(ctx, s, t, want)
}

// team returns the entry of a team. A new one is published with its stored token: from then on
// commands are compared with the entry, no longer with the store.
func (a *Adapter) team(ctx context.Context, s *server, id, name string) (*team, error) {
	s.mu.Lock()
	t := s.teams[id]
	if t != nil {
		t.name = name
	}
	s.mu.Unlock()
	if t != nil && !t.token.Empty() { // only registrations change it, and there is one at a time
		return t, nil
	}
	stored, _, err := a.tokens.Get(ctx, tokenName(s.Name, id)) // empty if there is none
	if err != nil {
		return nil, fmt.Errorf("read the stored command token: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t == nil {
		t = &team{id: id, name: name}
		s.teams[id] = t
	}
	t.token = stored
	return t, nil
}

func (a *Adapter) listCommands(ctx context.Context, s *server, bot string, t *team) (list []*model.Command, err error) {
	get := func(ctx context.Context) (resp *model.Response, err error) {
		list, resp, err = s.client.ListCommands(ctx, t.id, true)
		return resp, err
	}
	err = s.call(ctx, "list slash commands", get)
	if ops.CodeOf(err) != ops.CodeDenied {
		return list, err
	}
	// Perhaps the bot is just not in the team yet, and the team is open.
	joined := s.call(ctx, "join the team", func(ctx context.Context) (*model.Response, error) {
		_, resp, err := s.client.AddTeamMember(ctx, t.id, bot)
		return resp, err
	})
	if joined != nil {
		return nil, err
	}
	err = s.call(ctx, "list slash commands", get)
	return list, err
}

func (a *Adapter) wanted(s *server, teamID string) *model.Command {
	return &model.Command{
		TeamId:           teamID,
		Trigger:          s.Command,
		Method:           model.CommandMethodPost,
		URL:              s.callback(commandsRoute),
		AutoComplete:     true,
		AutoCompleteHint: a.hint,
		AutoCompleteDesc: a.about,
		DisplayName:      cutBytes(s.Command, 64), // these two limits: model.Command.IsValid
		Description:      cutBytes(a.about, 128),
	}
}

func (a *Adapter) create(ctx context.Context, s *server, t *team, want *model.Command) error {
	done := s.changing(t)
	defer done()
	var made *model.Command
	err := s.call(ctx, "create the slash command", func(ctx context.Context) (resp *model.Response, err error) {
		made, resp, err = s.client.CreateCommand(ctx, want)
		if err == nil && made.Token == "" {
			err = errGarbage
		}
		return resp, err
	})
	if apiErrorID(err) == "api.command.duplicate_trigger.app_error" {
		return taken(t.name, want.Trigger)
	}
	if err != nil {
		return hint(err, "Give the bot a role with manage_slash_commands; ocim setup prints how.")
	}
	s.log.Info("slash command created", "team", t.name, "command", want.Trigger)
	return a.keep(ctx, s, t, secret.New(made.Token), "")
}

// adopt brings a command of ours up to date, and renews its token unless we know it.
func (a *Adapter) adopt(ctx context.Context, s *server, t *team, have, want *model.Command) error {
	if differs(have, want) {
		changed := *have
		changed.Method, changed.URL = want.Method, want.URL
		changed.AutoComplete, changed.AutoCompleteHint, changed.AutoCompleteDesc = true, want.AutoCompleteHint, want.AutoCompleteDesc
		changed.DisplayName, changed.Description = want.DisplayName, want.Description
		err := s.call(ctx, "update the slash command", func(ctx context.Context) (*model.Response, error) {
			_, resp, err := s.client.UpdateCommand(ctx, &changed)
			return resp, err
		})
		if err != nil {
			return err
		}
		s.log.Info("slash command brought up to date", "team", t.name, "command", want.Trigger)
	}
	s.mu.Lock()
	current := t.token
	s.mu.Unlock()
	// A server that does not show tokens in its list cannot be compared with.
	if !current.Empty() && (!validID(have.Token) || current.Equal(have.Token)) {
		return nil
	}
	return a.renew(ctx, s, t, have)
}

func differs(have, want *model.Command) bool {
	return have.URL != want.URL || have.Method != want.Method || !have.AutoComplete ||
		have.AutoCompleteHint != want.AutoCompleteHint || have.AutoCompleteDesc != want.AutoCompleteDesc
}

// renew asks for a new token: the one in use was made before we could keep it, or by somebody
// else.
func (a *Adapter) renew(ctx context.Context, s *server, t *team, have *model.Command) error {
	done := s.changing(t)
	defer done()
	var token string
	err := s.call(ctx, "renew the token of the slash command", func(ctx context.Context) (resp *model.Response, err error) {
		token, resp, err = s.client.RegenCommandToken(ctx, have.Id)
		if err == nil && token == "" {
			err = errGarbage
		}
		return resp, err
	})
	if err != nil {
		return err
	}
	s.log.Info("token of the slash command renewed", "team", t.name, "command", have.Trigger)
	return a.keep(ctx, s, t, secret.New(token), have.Token)
}

// keep stores a new token before anything trusts it. Requests that left the server with the one
// before are accepted a little longer; listed is the token that the server used until now.
func (a *Adapter) keep(ctx context.Context, s *server, t *team, token secret.Secret, listed string) error {
	if err := a.tokens.Put(ctx, tokenName(s.Name, t.id), token); err != nil {
		return fmt.Errorf("store the command token: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	till := now.Add(oldTokenLife)
	t.old = slices.DeleteFunc(t.old, func(o oldToken) bool { return !now.Before(o.till) })
	if !t.token.Empty() && !t.token.Equal(token.Reveal()) {
		t.old = append(t.old, oldToken{t.token, till})
	}
	if listed != "" && !t.token.Equal(listed) {
		t.old = append(t.old, oldToken{secret.New(listed), till})
	}
	t.token = token
	return nil
}

// changing marks that the team's token is about to change, until the returned function is called.
func (s *server) changing(t *team) func() {
	over := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	t.changing = over
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.changing = nil
		close(over)
	}
}

// accepts reports whether token is one that the server may use for the command of this team. An
// unknown token waits for a change that is under way, until ctx ends.
func (s *server) accepts(ctx context.Context, tokens TokenStore, teamID, token string) bool {
	if token == "" || !validID(teamID) {
		return false
	}
	s.mu.Lock()
	t, registered := s.teams[teamID], s.registered
	s.mu.Unlock()
	if t == nil {
		if registered {
			return false
		}
		// Before the first registration the store tells which teams are ours.
		stored, ok, err := tokens.Get(ctx, tokenName(s.Name, teamID))
		return err == nil && ok && stored.Equal(token)
	}
	ok, wait := s.check(t, token)
	if ok || wait == nil {
		return ok
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return false
	}
	ok, _ = s.check(t, token)
	return ok
}

func (s *server) check(t *team, token string) (ok bool, changing <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	secrets := []secret.Secret{t.token}
	for _, o := range t.old {
		if now.Before(o.till) {
			secrets = append(secrets, o.token)
		}
	}
	if t.changing == nil {
		return equalAny(secrets, token), nil
	}
	return equalAny(secrets, token), t.changing
}

func taken(team, trigger string) *ops.Error {
	return &ops.Error{
		Code: ops.CodeConflict, Reason: ops.ReasonConfigError,
		Msg:  fmt.Sprintf("The command /%s is taken in the team %s by somebody else's command.", trigger, team),
		Next: "Delete that command in Mattermost's integrations, or give the bot another command word.",
	}
}

// hint puts a remedy on a refusal.
func hint(err error, next string) error {
	var e *ops.Error
	if errors.As(err, &e) && (e.Code == ops.CodeDenied && e.Reason != ops.ReasonChatUnauthorized || e.Code == ops.CodeNotFound) {
		e.Next = next
	}
	return err
}
