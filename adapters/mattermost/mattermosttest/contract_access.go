package mattermosttest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

func accessCases() []contractCase {
	return []contractCase{
		{"who am I", accessMe},
		{"users, teams and channels by id and name", accessLookup},
		{"members of teams and channels", accessMembers},
		{"a bad token", accessToken},
		{"a revoked token", accessRevoked},
		{"a channel that the bot is not in", accessChannel},
		{"a team admin may post everywhere and let himself in", accessTeamAdmin},
		{"an ephemeral post needs a permission", accessEphemeral},
		{"a route that does not exist", accessRoute},
		{"errors have one shape", accessErrorShape},
	}
}

func fileID(body []byte) string {
	var out struct {
		FileInfos []FileInfo `json:"file_infos"`
	}
	if json.Unmarshal(body, &out) != nil || len(out.FileInfos) == 0 {
		return ""
	}
	return out.FileInfos[0].ID
}

type someone struct {
	ID       string `json:"id"`
	Username string `json:"username"`
	Roles    string `json:"roles"`
	IsBot    bool   `json:"is_bot"`
	Name     string `json:"name"`
	Type     string `json:"type"`
}

func (b *bench) look(user, path string) someone {
	b.Helper()
	s, err := do[someone](b.ctx, b.Peer, user, http.MethodGet, path, nil)
	b.ok(err)
	return s
}

func accessMe(b *bench) {
	me := b.look(Bot, "/users/me")
	if me.ID != b.Accounts[Bot].ID || !me.IsBot || me.Username != Bot || me.Roles != BotRoles {
		b.Errorf("the bot: got %+v", me)
	}
	if me := b.look("alice", "/users/me"); me.ID != b.Accounts["alice"].ID || me.IsBot {
		b.Errorf("alice: got %+v", me)
	}
	teams, err := do[[]someone](b.ctx, b.Peer, Bot, http.MethodGet, "/users/me/teams", nil)
	b.ok(err)
	if !slices.ContainsFunc(teams, func(s someone) bool { return s.ID == b.TeamID && s.Name == Team }) {
		b.Errorf("teams: got %+v, want %s", teams, Team)
	}
}

func accessLookup(b *bench) {
	if u := b.look(Bot, "/users/"+b.Accounts["alice"].ID); u.Username != "alice" {
		b.Errorf("user by id: got %+v", u)
	}
	if u := b.look(Bot, "/users/username/bob"); u.ID != b.Accounts["bob"].ID {
		b.Errorf("user by name: got %+v", u)
	}
	ids := []string{b.Accounts["alice"].ID, b.Accounts["bob"].ID, newID()}
	users, err := do[[]someone](b.ctx, b.Peer, Bot, http.MethodPost, "/users/ids", ids)
	b.ok(err)
	if len(users) != 2 {
		b.Errorf("users by ids: got %d, want the two that exist", len(users))
	}
	if t := b.look(Bot, "/teams/name/"+Team); t.ID != b.TeamID {
		b.Errorf("team by name: got %+v", t)
	}
	if t := b.look(Bot, "/teams/"+b.TeamID); t.Name != Team {
		b.Errorf("team by id: got %+v", t)
	}
	if c := b.look(Bot, "/channels/"+b.channel); c.Type != "O" || !strings.HasPrefix(c.Name, "contract-") {
		b.Errorf("channel by id: got %+v", c)
	}
	if c := b.look(Bot, "/teams/"+b.TeamID+"/channels/name/"+Channel); c.ID != b.Channels[Channel] {
		b.Errorf("channel by name: got %+v", c)
	}
	for path, c := range map[string]struct {
		status int
		id     string
	}{
		"/users/" + newID():                              {404, "app.user.missing_account.const"},
		"/teams/" + newID():                              {404, "app.team.get.find.app_error"},
		"/teams/name/nonesuch":                           {404, "app.team.get_by_name.missing.app_error"},
		"/channels/" + newID():                           {404, "app.channel.get.existing.app_error"},
		"/teams/" + b.TeamID + "/channels/name/nonesuch": {404, "app.channel.get_by_name.missing.app_error"},
		"/users/short":                                   {400, "api.context.invalid_url_param.app_error"},
		"/channels/" + b.Channels[Private]:               {403, errIDPermission},
	} {
		b.refused(path, b.call(Bot, http.MethodGet, path, nil).Err(), c.status, c.id)
	}
}

func accessMembers(b *bench) {
	type member struct {
		UserID      string `json:"user_id"`
		SchemeAdmin bool   `json:"scheme_admin"`
	}
	path := "/teams/" + b.TeamID + "/members/" + b.Accounts["dave"].ID
	m, err := do[member](b.ctx, b.Peer, Bot, http.MethodGet, path, nil)
	b.ok(err)
	if !m.SchemeAdmin {
		b.Error("dave: got no team admin, want one")
	}
	path = "/teams/" + b.TeamID + "/members/" + b.Accounts["alice"].ID
	if m, err = do[member](b.ctx, b.Peer, Bot, http.MethodGet, path, nil); err != nil || m.SchemeAdmin {
		b.Errorf("alice: got %+v %v, want an ordinary member", m, err)
	}
	a := b.call(Bot, http.MethodGet, "/teams/"+b.TeamID+"/members/"+newID(), nil)
	b.refused("team stranger", a.Err(), http.StatusNotFound, "app.team.get_member.missing.app_error")

	path = "/channels/" + b.channel + "/members/"
	if m, err = do[member](b.ctx, b.Peer, Bot, http.MethodGet, path+b.Accounts["alice"].ID, nil); err != nil || m.UserID == "" {
		b.Errorf("alice in the channel: got %+v %v, want her", m, err)
	}
	a = b.call(Bot, http.MethodGet, path+b.Accounts["carol"].ID, nil)
	b.refused("channel stranger", a.Err(), http.StatusNotFound, "app.channel.get_member.missing.app_error")
	a = b.call(Bot, http.MethodGet, "/channels/"+b.Channels[Private]+"/members/"+b.Accounts["alice"].ID, nil)
	b.refused("private channel", a.Err(), http.StatusForbidden, errIDPermission)
}

const errIDSession = "api.context.session_expired.app_error"

// with is the same server with one account alone.
func (b *bench) with(user, token string) *Peer {
	p := &Peer{World: b.World, http: b.http}
	p.Accounts = map[string]Account{user: {Token: token}}
	return p
}

func accessToken(b *bench) {
	b.refused("no token", b.call("", http.MethodGet, "/users/me", nil).Err(), http.StatusUnauthorized, errIDSession)
	a, err := b.with("x", newID()).Do(b.ctx, "x", http.MethodGet, "/users/me", nil)
	b.ok(err)
	b.refused("unknown token", a.Err(), http.StatusUnauthorized, errIDSession)
}

func accessRevoked(b *bench) {
	path := "/users/" + b.Accounts[Bot].ID + "/tokens"
	got, err := do[struct{ ID, Token string }](b.ctx, b.Peer, Admin, http.MethodPost, path, map[string]string{"description": "t"})
	b.ok(err)
	bot := b.with(Bot, got.Token)
	a, err := bot.Do(b.ctx, Bot, http.MethodGet, "/users/me", nil)
	b.ok(err)
	if a.Status != http.StatusOK {
		b.Fatalf("new token: got %d, want 200", a.Status)
	}
	b.call(Admin, http.MethodPost, "/users/tokens/revoke", map[string]string{"token_id": got.ID})
	a, err = bot.Do(b.ctx, Bot, http.MethodGet, "/users/me", nil)
	b.ok(err)
	b.refused("revoked", a.Err(), http.StatusUnauthorized, errIDSession)
}

func accessChannel(b *bench) {
	p := b.post(Post{Message: "x"})
	b.ok(b.Leave(b.ctx, b.channel, Bot))
	create := func(channel string) *APIError {
		return b.call(Bot, http.MethodPost, "/posts", map[string]string{"channel_id": channel, "message": "x"}).Err()
	}
	for name, channel := range map[string]string{
		"left": b.channel, "private": b.Channels[Private], "unknown": newID(), "none": "",
	} {
		b.refused(name, create(channel), http.StatusForbidden, errIDPermission)
	}
	a := b.call(Bot, http.MethodPut, "/posts/"+p.ID+"/patch", map[string]string{"message": "y"})
	b.refused("patch its own", a.Err(), http.StatusForbidden, errIDPermission)
	if a := b.call(Bot, http.MethodGet, "/posts/"+p.ID, nil); a.Status != http.StatusOK {
		b.Errorf("read in an open channel: got %d, want 200", a.Status)
	}
	member := map[string]string{"user_id": b.Accounts[Bot].ID}
	if a := b.call(Bot, http.MethodPost, "/channels/"+b.channel+"/members", member); a.Status != http.StatusCreated {
		b.Errorf("join by itself: got %d, want 201", a.Status)
	}
	a = b.call(Bot, http.MethodPost, "/channels/"+b.Channels[Private]+"/members", member)
	b.refused("join a private one", a.Err(), http.StatusForbidden, errIDPermission)
	a = b.call(Bot, http.MethodGet, "/channels/"+b.Channels[Private]+"/posts?since=1", nil)
	b.refused("read a private one", a.Err(), http.StatusForbidden, errIDPermission)
}

// accessTeamAdmin is why a bot should not be made team admin for the sake of
// its slash commands.
func accessTeamAdmin(b *bench) {
	private := b.must(b.NewChannel(b.ctx, "P", "private", "alice"))
	p, err := b.CreatePost(b.ctx, "alice", Post{ChannelID: private, Message: "x"})
	b.ok(err)
	if _, err := b.CreatePost(b.ctx, "dave", Post{ChannelID: private, Message: "me too"}); err != nil {
		b.Errorf("post: got %v, want success", err)
	}
	for _, path := range []string{"/posts/" + p.ID, "/channels/" + private, "/channels/" + private + "/posts"} {
		b.refused("read "+path, b.call("dave", http.MethodGet, path, nil).Err(), http.StatusForbidden, errIDPermission)
	}
	a := b.call("dave", http.MethodPut, "/posts/"+p.ID+"/patch", map[string]string{"message": "y"})
	b.refused("patch", a.Err(), http.StatusForbidden, errIDPermission)
	if a := b.call("dave", http.MethodDelete, "/posts/"+p.ID, nil); a.Status != http.StatusOK {
		b.Errorf("delete: got %d, want 200", a.Status)
	}
	a = b.call("dave", http.MethodPost, "/channels/"+private+"/members", map[string]string{"user_id": b.Accounts["dave"].ID})
	if a.Status != http.StatusCreated {
		b.Errorf("join: got %d, want 201", a.Status)
	}
	if a := b.call("dave", http.MethodGet, "/channels/"+private+"/posts", nil); a.Status != http.StatusOK {
		b.Errorf("read as a member: got %d, want 200", a.Status)
	}
	a = b.call("dave", http.MethodPost, "/commands", SlashCommand{
		TeamID: b.TeamID, Trigger: "d" + newID(), Method: "P", URL: b.app.url,
	})
	if a.Status != http.StatusCreated {
		b.Errorf("command: got %d, want 201", a.Status)
	}
}

func accessEphemeral(b *bench) {
	body := map[string]any{
		"user_id": b.Accounts["alice"].ID, "post": map[string]string{"channel_id": b.channel, "message": "psst"},
	}
	a := b.call(Bot, http.MethodPost, "/posts/ephemeral", body)
	b.refused("the bot", a.Err(), http.StatusForbidden, errIDPermission)
	if a := b.call(Admin, http.MethodPost, "/posts/ephemeral", body); a.Status != http.StatusCreated {
		b.Errorf("the admin: got %d, want 201", a.Status)
	}
}

func accessRoute(b *bench) {
	a := b.call(Bot, http.MethodGet, "/nonesuch", nil)
	b.refused("unknown route", a.Err(), http.StatusNotFound, "api.context.404.app_error")
	if strings.Contains(string(a.Body), "request_id") {
		b.Errorf("got %s, want no request_id", a.Body)
	}
}

func accessErrorShape(b *bench) {
	a := b.call(Bot, http.MethodGet, "/posts/"+newID(), nil)
	var keys map[string]any
	b.ok(json.Unmarshal(a.Body, &keys))
	for _, key := range []string{"id", "message", "detailed_error", "request_id", "status_code"} {
		if _, present := keys[key]; !present || len(keys) != 5 {
			b.Errorf("got %s, want id, message, detailed_error, request_id and status_code", a.Body)
		}
	}
	if keys["detailed_error"] != "" || a.Header.Get("X-Request-Id") != keys["request_id"] {
		b.Errorf("got %s and header %q, want no detail and one request id", a.Body, a.Header.Get("X-Request-Id"))
	}
}
