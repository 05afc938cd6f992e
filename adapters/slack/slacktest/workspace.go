package slacktest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors of the people's side: the test asked for something that no person could do in Slack.
var (
	// ErrNoUser means that the workspace has no such user.
	ErrNoUser = errors.New("slacktest: no such user")
	// ErrNoChannel means that the channel does not exist or the person is not in it.
	ErrNoChannel = errors.New("slacktest: no such channel for this user")
	// ErrNoMessage means that the person sees no such message.
	ErrNoMessage = errors.New("slacktest: no such message for this user")
	// ErrNoElement means that the message or view shows no such button, menu or input now.
	ErrNoElement = errors.New("slacktest: no such element on screen")
	// ErrNoView means that the person has no such view open.
	ErrNoView = errors.New("slacktest: no such view open")
	// ErrInput means that Slack's client would not let the person send these values.
	ErrInput = errors.New("slacktest: the client refuses this input")
	// ErrNoBot means that nothing listens: no URL is set, or no socket is connected.
	ErrNoBot = errors.New("slacktest: no bot is connected")
)

// Workspace is what a server knows of a Slack workspace. The zero value of a field means absent.
type Workspace struct {
	// ID is the team id (T…), Domain the host part before .slack.com.
	ID, Domain, Name string
	// EnterpriseID and EnterpriseName are set for workspaces of an Enterprise Grid.
	EnterpriseID, EnterpriseName string
	// OrgInstall marks an app installed on the whole organisation: interaction payloads then have
	// a null team.
	OrgInstall bool
	// FreePlan makes the user group methods answer plan_upgrade_required.
	FreePlan bool
	// NoHomeTab makes views.publish answer not_enabled.
	NoHomeTab bool

	// AppID, BotUser and BotID identify the app: A…, U… and B….
	AppID, BotUser, BotID string

	Users    []User
	Channels []Channel
	Groups   []Group
}

// User is a person or a bot.
type User struct {
	ID, Name, RealName, Email string
	// TeamID is the home workspace; empty means this one. Any other marks a stranger who came in
	// through Slack Connect.
	TeamID string
	// Deleted, Bot, Guest and SingleChannelGuest appear in users.info as deleted, is_bot,
	// is_restricted and is_ultra_restricted.
	Deleted, Bot, Guest, SingleChannelGuest bool
}

// Channel is a conversation. Direct messages are made by conversations.open.
type Channel struct {
	ID, Name          string
	Private, Archived bool
	// DirectWith is the user of a direct message with the bot.
	DirectWith string
	Members    []string
}

// Group is a user group (S…).
type Group struct {
	ID, Handle, Name string
	Users            []string
	Disabled         bool
}

// DefaultWorkspace has three people (ann, ben and the guest gus), the bot, and the channels ops
// (bot is in), random (public, bot is not in) and secret (private, bot is in).
func DefaultWorkspace() Workspace {
	return Workspace{
		ID: "T0OCIM001", Domain: "example", Name: "Example",
		AppID: "A0OCIM001", BotUser: "U0OCIMBOT", BotID: "B0OCIM001",
		Users: []User{
			{ID: "U0ANN0001", Name: "ann", RealName: "Ann Example", Email: "ann@example.com"},
			{ID: "U0BEN0001", Name: "ben", RealName: "Ben Example", Email: "ben@example.com"},
			{ID: "U0GUS0001", Name: "gus", RealName: "Gus Guest", Email: "gus@example.org", Guest: true},
			{ID: "U0OCIMBOT", Name: "ocim", RealName: "ocim", Bot: true},
		},
		Channels: []Channel{
			{ID: "C0OPS0001", Name: "ops", Members: []string{"U0ANN0001", "U0BEN0001", "U0GUS0001", "U0OCIMBOT"}},
			{ID: "C0RANDOM1", Name: "random", Members: []string{"U0ANN0001", "U0BEN0001"}},
			{ID: "C0SECRET1", Name: "secret", Private: true, Members: []string{"U0ANN0001", "U0OCIMBOT"}},
		},
		Groups: []Group{
			{ID: "S0DEPLOY1", Handle: "deployers", Name: "Deployers", Users: []string{"U0ANN0001"}},
		},
	}
}

// clone makes a copy that shares no slice with w.
func (w Workspace) clone() Workspace {
	w.Users = slices.Clone(w.Users)
	w.Channels = slices.Clone(w.Channels)
	for i := range w.Channels {
		w.Channels[i].Members = slices.Clone(w.Channels[i].Members)
	}
	w.Groups = slices.Clone(w.Groups)
	for i := range w.Groups {
		w.Groups[i].Users = slices.Clone(w.Groups[i].Users)
	}
	return w
}

// Workspace returns a copy of the workspace as it is now.
func (s *Server) Workspace() Workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ws.clone()
}

// SetUser adds u, or replaces the user of that id.
func (s *Server) SetUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.ws.Users, func(x User) bool { return x.ID == u.ID }); i >= 0 {
		s.ws.Users[i] = u
		return
	}
	s.ws.Users = append(s.ws.Users, u)
}

// SetChannel adds c, or replaces the channel of that id: so a test archives a channel, removes the
// bot from it or renames it.
func (s *Server) SetChannel(c Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Members = slices.Clone(c.Members)
	if i := slices.IndexFunc(s.ws.Channels, func(x Channel) bool { return x.ID == c.ID }); i >= 0 {
		s.ws.Channels[i] = c
		return
	}
	s.ws.Channels = append(s.ws.Channels, c)
}

// SetGroup adds g, or replaces the user group of that id. It sends no event.
func (s *Server) SetGroup(g Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.Users = slices.Clone(g.Users)
	if i := slices.IndexFunc(s.ws.Groups, func(x Group) bool { return x.ID == g.ID }); i >= 0 {
		s.ws.Groups[i] = g
		return
	}
	s.ws.Groups = append(s.ws.Groups, g)
}

// SetFreePlan switches between a paid plan and the free one, which has no user groups.
func (s *Server) SetFreePlan(free bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ws.FreePlan = free
}

// user finds a user; mu must be held.
func (s *Server) user(id string) (User, bool) {
	if i := slices.IndexFunc(s.ws.Users, func(u User) bool { return u.ID == id }); i >= 0 {
		return s.ws.Users[i], true
	}
	return User{}, false
}

// channel finds a channel; mu must be held.
func (s *Server) channel(id string) (Channel, bool) {
	if i := slices.IndexFunc(s.ws.Channels, func(c Channel) bool { return c.ID == id }); i >= 0 {
		return s.ws.Channels[i], true
	}
	return Channel{}, false
}

// person checks that user exists and sits in channel; mu must be held.
func (s *Server) person(user, channel string) (User, Channel, error) {
	u, ok := s.user(user)
	if !ok {
		return User{}, Channel{}, fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	c, ok := s.channel(channel)
	if !ok || !slices.Contains(c.Members, user) {
		return User{}, Channel{}, fmt.Errorf("%w: %s in %s", ErrNoChannel, user, channel)
	}
	return u, c, nil
}

// teamOf is the home workspace of u; mu must be held.
func (s *Server) teamOf(u User) string {
	if u.TeamID != "" {
		return u.TeamID
	}
	return s.ws.ID
}

// DirectChannel is the id of the direct message between the bot and user, made on first use.
func (s *Server) DirectChannel(user string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.user(user); !ok {
		return "", fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	c, _ := s.direct(user)
	return c.ID, nil
}

// direct returns the direct message between the bot and user, made on first use; mu must be held.
func (s *Server) direct(user string) (c Channel, existed bool) {
	for _, c := range s.ws.Channels {
		if c.DirectWith == user {
			return c, true
		}
	}
	c = Channel{ID: "D" + strings.TrimLeft(user, "UW"), DirectWith: user, Members: []string{user, s.ws.BotUser}}
	s.ws.Channels = append(s.ws.Channels, c)
	return c, false
}

// kind tells which family of scopes (channels, groups, im) covers c.
func (c Channel) kind() string {
	switch {
	case c.DirectWith != "":
		return "im"
	case c.Private:
		return "groups"
	default:
		return "channels"
	}
}
