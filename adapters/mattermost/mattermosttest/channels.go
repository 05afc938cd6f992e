package mattermosttest

import (
	"net/http"
	"slices"
	"strings"
)

func (c *channel) json() map[string]any {
	return map[string]any{
		"id": c.id, "create_at": c.createAt, "update_at": c.createAt, "delete_at": 0, "team_id": c.teamID,
		"type": c.kind, "display_name": c.display, "name": c.name, "header": "", "purpose": "",
		"last_post_at": c.lastPostAt, "total_msg_count": len(c.posts), "extra_update_at": 0,
		"creator_id": c.creator, "scheme_id": nil, "props": nil, "group_constrained": nil, "shared": nil,
		"total_msg_count_root": len(c.posts), "policy_id": nil, "last_root_post_at": c.lastPostAt,
		"banner_info": nil, "policy_enforced": false, "default_category_name": "",
	}
}

func (s *Server) getChannel(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := c.path("id")
	if !validID(id) {
		return fail(errURLParam("channel_id"))
	}
	ch := s.channels[id]
	if ch == nil {
		return fail(errChannelMissing(id))
	}
	if !s.reads(c.user, id) {
		return fail(errPermission())
	}
	return ok(ch.json())
}

func (s *Server) getChannelByName(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channelByName(c.path("id"), c.path("name"))
	if ch == nil || !s.reads(c.user, ch.id) {
		return fail(apiError(http.StatusNotFound, "app.channel.get_by_name.missing.app_error",
			"Channel does not exist."))
	}
	return ok(ch.json())
}

func (s *Server) createChannel(c *call) (reply, *APIError) {
	var in struct {
		TeamID      string `json:"team_id"`
		Type        string `json:"type"`
		Name        string `json:"name"`
		DisplayName string `json:"display_name"`
	}
	if err := c.decode("channel", &in); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.teams[in.TeamID]
	switch {
	case t == nil || !s.inTeam(c.user, t.id):
		return fail(errPermission())
	case s.channelByName(t.id, in.Name) != nil:
		return fail(apiError(http.StatusBadRequest, "store.sql_channel.save_channel.exists.app_error",
			"A channel with that name already exists on the same team."))
	}
	ch := s.addChannel(t, in.Type, in.Name, c.user)
	ch.display, ch.creator = in.DisplayName, c.user.id
	return created(ch.json())
}

func (s *Server) createDirect(c *call) (reply, *APIError) {
	var ids []string
	if err := c.decode("user_ids", &ids); err != nil || len(ids) != 2 {
		return fail(errBody("user_ids"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(ids, c.user.id) && !c.user.sysAdmin {
		return fail(errPermission())
	}
	a, b := s.users[ids[0]], s.users[ids[1]]
	if a == nil || b == nil {
		return fail(errBody("user_id"))
	}
	slices.Sort(ids)
	name := strings.Join(ids, "__")
	ch := s.channelByName("", name)
	if ch == nil {
		ch = s.addChannel(nil, "D", name, a, b)
		ch.display, ch.creator = "", c.user.id
	}
	return created(ch.json())
}

func memberJSON(ch *channel, userID string) map[string]any {
	return map[string]any{
		"channel_id": ch.id, "user_id": userID, "roles": "channel_user", "last_viewed_at": 0, "msg_count": 0,
		"mention_count": 0, "mention_count_root": 0, "msg_count_root": 0, "urgent_mention_count": 0,
		"notify_props": map[string]string{}, "last_update_at": ch.createAt, "scheme_guest": false,
		"scheme_user": true, "scheme_admin": false, "explicit_roles": "",
	}
}

func (s *Server) getChannelMember(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[c.path("id")]
	if ch == nil || !s.reads(c.user, ch.id) {
		return fail(errPermission())
	}
	userID := c.path("user")
	if userID == "me" {
		userID = c.user.id
	}
	if !ch.members[userID] {
		return fail(apiError(http.StatusNotFound, "app.channel.get_member.missing.app_error",
			"No channel member found for that user ID and channel ID."))
	}
	return ok(memberJSON(ch, userID))
}

func (s *Server) addChannelMember(c *call) (reply, *APIError) {
	var in struct {
		UserID string `json:"user_id"`
	}
	if err := c.decode("user_id", &in); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, u := s.channels[c.path("id")], s.users[in.UserID]
	switch {
	case ch == nil:
		return fail(errChannelMissing(c.path("id")))
	case u == nil:
		return fail(errUserMissing())
	case !s.writes(c.user, ch.id) && (u != c.user || !s.reads(u, ch.id)):
		return fail(errPermission())
	}
	ch.members[u.id] = true
	return created(memberJSON(ch, u.id))
}

func (s *Server) removeChannelMember(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[c.path("id")]
	switch {
	case ch == nil:
		return fail(errChannelMissing(c.path("id")))
	case !s.writes(c.user, ch.id):
		return fail(errPermission())
	case !ch.members[c.path("user")]:
		return fail(apiError(http.StatusNotFound, "app.channel.get_member.missing.app_error",
			"No channel member found for that user ID and channel ID."))
	}
	delete(ch.members, c.path("user"))
	return statusOK()
}
