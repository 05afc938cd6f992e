package mattermosttest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// userJSON is a user as others see it; the user himself also gets his
// notification settings.
func (s *Server) userJSON(u *user, self bool) map[string]any {
	out := map[string]any{
		"id": u.id, "create_at": u.createAt, "update_at": u.createAt, "delete_at": 0,
		"username": u.name, "auth_service": "", "email": u.name + "@localhost", "nickname": "",
		"first_name": u.firstName, "last_name": "", "position": "", "roles": u.roles(), "locale": "en",
		"timezone": map[string]string{
			"automaticTimezone": "", "manualTimezone": "", "useAutomaticTimezone": "true",
		},
		"disable_welcome_email": false,
	}
	if u.disabled {
		out["delete_at"] = s.last
	}
	if u.bot {
		out["is_bot"] = true
		out["bot_description"] = "test bot"
	}
	if self {
		out["notify_props"] = map[string]string{"channel": "true", "comments": "never", "mention_keys": ""}
		out["last_password_update"] = u.createAt
	}
	return out
}

func (s *Server) getMe(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(s.userJSON(c.user, true))
}

func (s *Server) getUser(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !validID(c.path("id")) {
		return fail(errURLParam("user_id"))
	}
	u := s.users[c.path("id")]
	if u == nil {
		return fail(errUserMissing())
	}
	return ok(s.userJSON(u, u == c.user))
}

func (s *Server) getUserPart(c *call) (reply, *APIError) {
	switch {
	case c.path("id") == "username":
		return s.getUserByName(c)
	case c.path("part") == "teams":
		return s.getUserTeams(c)
	}
	return fail(errRoute(c.r.URL.Path))
}

func (s *Server) getUserByName(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.userByName(c.path("part"))
	if u == nil {
		return fail(apiError(http.StatusNotFound, "app.user.get_by_username.app_error",
			"Unable to find an existing account matching your username for this team. "+
				"This team may require an invite from the team owner to join."))
	}
	return ok(s.userJSON(u, u == c.user))
}

func (s *Server) getUsersByIDs(c *call) (reply, *APIError) {
	var ids []string
	if err := c.decode("user_ids", &ids); err != nil || len(ids) == 0 {
		return fail(errBody("user_ids"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []map[string]any{}
	for _, id := range ids {
		if u := s.users[id]; u != nil {
			out = append(out, s.userJSON(u, false))
		}
	}
	return ok(out)
}

// putPreferences stores nothing; it is there for its event, which the same
// user's sockets hear after everything that was sent to them before.
func (s *Server) putPreferences(c *call) (reply, *APIError) {
	var prefs []map[string]string
	if err := c.decode("preferences", &prefs); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := c.path("id"); id != c.user.id && id != "me" {
		return fail(errPermission())
	}
	b, _ := json.Marshal(prefs)
	s.publish(event{name: "preferences_changed", data: map[string]any{"preferences": string(b)}, userID: c.user.id})
	return statusOK()
}

func (s *Server) createToken(c *call) (reply, *APIError) {
	var in struct {
		Description string `json:"description"`
	}
	if err := c.decode("user_access_token", &in); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[c.path("id")]
	if u == nil || !c.user.sysAdmin {
		return fail(errPermission())
	}
	t := s.addToken(u, in.Description)
	return ok(map[string]any{
		"id": t.id, "token": t.value, "user_id": t.userID, "description": t.description, "is_active": true,
	})
}

func (s *Server) revokeToken(c *call) (reply, *APIError) {
	var in struct {
		TokenID string `json:"token_id"`
	}
	if err := c.decode("token_id", &in); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.user.sysAdmin {
		return fail(errPermission())
	}
	s.tokens = slices.DeleteFunc(s.tokens, func(t *token) bool { return t.id == in.TokenID })
	return statusOK()
}

func (t *team) json() map[string]any {
	return map[string]any{
		"id": t.id, "create_at": t.createAt, "update_at": t.createAt, "delete_at": 0, "display_name": t.name,
		"name": t.name, "description": "", "email": "", "type": "O", "company_name": "", "allowed_domains": "",
		"invite_id": "", "allow_open_invite": false, "scheme_id": nil, "group_constrained": nil,
		"policy_id": nil, "cloud_limits_archived": false,
	}
}

func (s *Server) getUserTeams(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := c.path("id")
	if id == "me" {
		id = c.user.id
	}
	if id != c.user.id && !c.user.sysAdmin {
		return fail(errPermission())
	}
	out := []map[string]any{}
	for _, t := range s.teams {
		if _, member := t.members[id]; member {
			out = append(out, t.json())
		}
	}
	slices.SortFunc(out, func(a, b map[string]any) int {
		return strings.Compare(a["name"].(string), b["name"].(string))
	})
	return ok(out)
}

func (s *Server) getTeamByName(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.teamByName(c.path("name"))
	if t == nil {
		return fail(apiError(http.StatusNotFound, "app.team.get_by_name.missing.app_error",
			"Unable to find the existing team."))
	}
	if !s.inTeam(c.user, t.id) {
		return fail(errPermission())
	}
	return ok(t.json())
}

func (s *Server) getTeam(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.teams[c.path("id")]
	if t == nil {
		return fail(errTeamMissing())
	}
	if !s.inTeam(c.user, t.id) {
		return fail(errPermission())
	}
	return ok(t.json())
}

func (s *Server) getTeamMember(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.teams[c.path("id")]
	if t == nil || !s.inTeam(c.user, t.id) {
		return fail(errPermission())
	}
	userID := c.path("user")
	if userID == "me" {
		userID = c.user.id
	}
	admin, member := t.members[userID]
	if !member {
		return fail(apiError(http.StatusNotFound, "app.team.get_member.missing.app_error",
			"No team member found for that user ID and team ID."))
	}
	roles := "team_user"
	if admin {
		roles = "team_user team_admin"
	}
	return ok(map[string]any{
		"team_id": t.id, "user_id": userID, "roles": roles, "delete_at": 0, "scheme_guest": false,
		"scheme_user": true, "scheme_admin": admin, "explicit_roles": "",
	})
}
