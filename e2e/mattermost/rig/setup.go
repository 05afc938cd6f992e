//go:build e2e

package rig

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/clock"
)

// password is everybody's; the server dies with the test.
const password = "correct-horse-1"

// setter makes the calls of the set-up, each of which must succeed.
type setter struct {
	tb   testing.TB
	peer *mattermosttest.Peer
}

func (s setter) call(ctx context.Context, as, method, path string, body any) (mattermosttest.Answer, string) {
	s.tb.Helper()
	a, err := s.peer.Do(ctx, as, method, path, body)
	if err != nil {
		s.tb.Fatalf("set up Mattermost: %s %s: %v", method, path, err)
	}
	if apiErr := a.Err(); apiErr != nil {
		s.tb.Fatalf("set up Mattermost: %s %s: %v", method, path, apiErr)
	}
	var out struct {
		ID     string `json:"id"`
		UserID string `json:"user_id"`
	}
	_ = json.Unmarshal(a.Body, &out) // some answers are lists
	if out.ID == "" {
		out.ID = out.UserID
	}
	return a, out.ID
}

// setUp makes the world of mattermosttest's constants. The first user of an
// empty database is its system admin.
func setUp(ctx context.Context, tb testing.TB, url string) mattermosttest.World {
	tb.Helper()
	w := mattermosttest.World{
		URL: url, Accounts: map[string]mattermosttest.Account{}, Channels: map[string]string{},
		Wait: func(ctx context.Context, d time.Duration) error { return clock.Sleep(ctx, clock.System{}, d) },
	}
	s := setter{tb: tb, peer: mattermosttest.NewPeer(tb, w)}
	person := func(as, name string) {
		_, id := s.call(ctx, as, http.MethodPost, "/users", map[string]string{
			"username": name, "email": name + "@localhost.test", "password": password,
		})
		login, _ := s.call(ctx, "", http.MethodPost, "/users/login", map[string]string{"login_id": name, "password": password})
		w.Accounts[name] = mattermosttest.Account{ID: id, Token: login.Header.Get("Token")}
	}
	const admin = mattermosttest.Admin
	person("", admin)
	_, w.TeamID = s.call(ctx, admin, http.MethodPost, "/teams", map[string]string{
		"name": mattermosttest.Team, "display_name": mattermosttest.Team, "type": "O",
	})
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		person(admin, name)
	}
	_, bot := s.call(ctx, admin, http.MethodPost, "/bots", map[string]string{
		"username": mattermosttest.Bot, "display_name": "ocim", "description": "test bot",
	})
	a, _ := s.call(ctx, admin, http.MethodPost, "/users/"+bot+"/tokens", map[string]string{"description": "first"})
	var token struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(a.Body, &token); err != nil {
		tb.Fatalf("set up Mattermost: the bot's token: %v", err)
	}
	w.Accounts[mattermosttest.Bot] = mattermosttest.Account{ID: bot, Token: token.Token}
	for name, account := range w.Accounts {
		if name != admin {
			s.call(ctx, admin, http.MethodPost, "/teams/"+w.TeamID+"/members",
				map[string]string{"team_id": w.TeamID, "user_id": account.ID})
		}
	}
	s.call(ctx, admin, http.MethodPut, "/teams/"+w.TeamID+"/members/"+w.Accounts["dave"].ID+"/schemeRoles",
		map[string]bool{"scheme_admin": true, "scheme_user": true})
	s.letManageCommands(ctx, bot)
	w.Channels[mattermosttest.Channel] = s.channel(ctx, w, "O", mattermosttest.Channel, "alice", "bob", mattermosttest.Bot)
	w.Channels[mattermosttest.Private] = s.channel(ctx, w, "P", mattermosttest.Private, "alice")
	return w
}

// letManageCommands gives a user the permission to manage slash commands by a
// system role that has no other use without a licence, as mattermost.SetupSteps
// says: mmctl permissions add, then mmctl permissions role assign. Team admins
// have the permission too, and the run of all channels with it.
func (s setter) letManageCommands(ctx context.Context, userID string) {
	s.tb.Helper()
	const admin = mattermosttest.Admin
	name := strings.Fields(mattermosttest.BotRoles)[1]
	a, id := s.call(ctx, admin, http.MethodGet, "/roles/name/"+name, nil)
	var role struct {
		Permissions []string `json:"permissions"`
	}
	if err := json.Unmarshal(a.Body, &role); err != nil {
		s.tb.Fatalf("set up Mattermost: the role %s: %v", name, err)
	}
	s.call(ctx, admin, http.MethodPut, "/roles/"+id+"/patch",
		map[string][]string{"permissions": append(role.Permissions, "manage_slash_commands")})
	s.call(ctx, admin, http.MethodPut, "/users/"+userID+"/roles", map[string]string{"roles": mattermosttest.BotRoles})
}

func (s setter) channel(ctx context.Context, w mattermosttest.World, kind, name string, members ...string) string {
	s.tb.Helper()
	_, id := s.call(ctx, mattermosttest.Admin, http.MethodPost, "/channels", map[string]string{
		"team_id": w.TeamID, "type": kind, "name": name, "display_name": name,
	})
	for _, m := range members {
		s.call(ctx, mattermosttest.Admin, http.MethodPost, "/channels/"+id+"/members",
			map[string]string{"user_id": w.Accounts[m].ID})
	}
	return id
}
