package slacktest

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// seen finds a conversation that the bot may look at with scopes of the given verb ("read" or
// "history"); mu must be held.
func (s *Server) seen(a args, verb string) (Channel, *apiError) {
	if a.str("channel") == "" {
		return Channel{}, invalid("missing required field: channel")
	}
	c, ok := s.channel(a.str("channel"))
	if !ok {
		return Channel{}, refuse("channel_not_found")
	}
	if bad := s.need(c.kind() + ":" + verb); bad != nil {
		return Channel{}, bad
	}
	if in := slices.Contains(c.Members, s.ws.BotUser); !in && c.Private {
		return Channel{}, refuse("channel_not_found")
	} else if !in && verb == "history" {
		return Channel{}, refuse("not_in_channel")
	}
	return c, nil
}

func (s *Server) conversationsInfo(a args) (Object, *apiError) {
	c, bad := s.seen(a, "read")
	if bad != nil {
		return nil, bad
	}
	return Object{"channel": s.channelJSON(c)}, nil
}

func (s *Server) channelJSON(c Channel) Object {
	o := Object{
		"id": c.ID, "is_archived": c.Archived, "is_private": c.Private, "is_channel": c.kind() == "channels",
		"is_group": c.kind() == "groups", "is_im": c.kind() == "im", "is_mpim": false,
		"is_member": slices.Contains(c.Members, s.ws.BotUser), "context_team_id": s.ws.ID,
	}
	if c.DirectWith != "" {
		o["user"] = c.DirectWith
	} else {
		o["name"], o["name_normalized"] = c.Name, c.Name
	}
	return o
}

func (s *Server) conversationsMembers(a args) (Object, *apiError) {
	c, bad := s.seen(a, "read")
	if bad != nil {
		return nil, bad
	}
	page, next, bad := paginate(c.Members, a, 100)
	if bad != nil {
		return nil, bad
	}
	return Object{"members": page, "response_metadata": Object{"next_cursor": next}}, nil
}

func (s *Server) conversationsOpen(a args) (Object, *apiError) {
	if id := a.str("channel"); id != "" {
		c, ok := s.channel(id)
		if !ok || c.DirectWith == "" {
			return nil, refuse("channel_not_found")
		}
		return Object{"no_op": true, "already_open": true, "channel": Object{"id": c.ID}}, nil
	}
	users := strings.Split(a.str("users"), ",")
	switch {
	case a.str("users") == "":
		return nil, refuse("users_list_not_supplied")
	case len(users) > 1:
		// Group messages need mpim:write, which this bot never asks for.
		return nil, &apiError{code: "missing_scope", needed: "mpim:write"}
	}
	u, ok := s.user(users[0])
	switch {
	case !ok:
		return nil, refuse("user_not_found")
	case u.Deleted:
		return nil, refuse("user_disabled")
	case u.Bot:
		return nil, refuse("cannot_dm_bot")
	}
	c, existed := s.direct(u.ID)
	channel := Object{"id": c.ID}
	if a.bool("return_im") {
		channel = s.channelJSON(c)
	}
	return Object{"no_op": existed, "already_open": existed, "channel": channel}, nil
}

// history is conversations.history: newest first, thread replies left out unless broadcast.
func (s *Server) history(a args) (Object, *apiError) {
	c, bad := s.seen(a, "history")
	if bad != nil {
		return nil, bad
	}
	var found []Object
	for _, m := range slices.Backward(s.messages) {
		reply := m.ThreadTS != "" && m.ThreadTS != m.TS && !m.Broadcast
		if m.Channel == c.ID && !m.Deleted && !m.Ephemeral() && !reply && inRange(m.TS, a) {
			found = append(found, s.messageJSON(m, a.bool("include_all_metadata")))
		}
	}
	return pageOfMessages(found, a, 100)
}

// replies is conversations.replies: the parent and its replies, oldest first.
func (s *Server) replies(a args) (Object, *apiError) {
	c, bad := s.seen(a, "history")
	if bad != nil {
		return nil, bad
	}
	root := s.find(c.ID, a.str("ts"))
	if root == nil || root.Deleted || root.Ephemeral() {
		return nil, refuse("thread_not_found")
	}
	var found []Object
	for _, m := range s.messages {
		inThread := m.TS == root.TS || m.ThreadTS == root.TS
		if m.Channel == c.ID && inThread && !m.Deleted && !m.Ephemeral() && (m.TS == root.TS || inRange(m.TS, a)) {
			found = append(found, s.messageJSON(m, a.bool("include_all_metadata")))
		}
	}
	return pageOfMessages(found, a, 1000)
}

// inRange applies oldest, latest and inclusive. Timestamps of one server compare as text.
func inRange(ts string, a args) bool {
	oldest, latest := a.str("oldest"), a.str("latest")
	if a.bool("inclusive") && (ts == oldest || ts == latest) {
		return true
	}
	return (oldest == "" || ts > oldest) && (latest == "" || ts < latest)
}

func pageOfMessages(found []Object, a args, limit int) (Object, *apiError) {
	page, next, bad := paginate(found, a, limit)
	if bad != nil {
		return nil, bad
	}
	if page == nil {
		page = []Object{}
	}
	o := Object{"messages": page, "has_more": next != ""}
	if next != "" {
		o["response_metadata"] = Object{"next_cursor": next}
	}
	return o, nil
}

// paginate cuts a page out of all. Cursors are opaque to callers.
func paginate[T any](all []T, a args, limit int) (page []T, next string, bad *apiError) {
	if n, err := strconv.Atoi(a.str("limit")); err == nil && n > 0 && n <= 1000 {
		limit = n
	} else if a.str("limit") != "" && a.str("limit") != "0" {
		return nil, "", refuse("invalid_limit")
	}
	start := 0
	if cursor := a.str("cursor"); cursor != "" {
		raw, err := base64.StdEncoding.DecodeString(cursor)
		n, err2 := strconv.Atoi(strings.TrimPrefix(string(raw), "offset:"))
		if err != nil || err2 != nil || n < 0 || n > len(all) {
			return nil, "", refuse("invalid_cursor")
		}
		start = n
	}
	end := min(start+limit, len(all))
	if end < len(all) {
		next = base64.StdEncoding.EncodeToString([]byte("offset:" + itoa(end)))
	}
	return all[start:end], next, nil
}

func (s *Server) usersInfo(a args) (Object, *apiError) {
	u, ok := s.user(a.str("user"))
	if !ok {
		return nil, refuse("user_not_found")
	}
	return Object{"user": s.userJSON(u)}, nil
}

func (s *Server) usersByEmail(a args) (Object, *apiError) {
	i := slices.IndexFunc(s.ws.Users, func(u User) bool {
		return u.Email != "" && strings.EqualFold(u.Email, a.str("email")) && !u.Deleted
	})
	if i < 0 {
		return nil, refuse("users_not_found")
	}
	return Object{"user": s.userJSON(s.ws.Users[i])}, nil
}

func (s *Server) userJSON(u User) Object {
	profile := Object{
		"real_name": u.RealName, "real_name_normalized": u.RealName,
		"display_name": u.Name, "display_name_normalized": u.Name, "team": s.teamOf(u),
	}
	if slices.Contains(s.scopes, "users:read.email") {
		profile["email"] = u.Email
	}
	return Object{
		"id": u.ID, "team_id": s.teamOf(u), "name": u.Name, "real_name": u.RealName, "deleted": u.Deleted,
		"is_bot": u.Bot, "is_app_user": false, "is_admin": false, "is_owner": false, "is_primary_owner": false,
		"is_restricted": u.Guest || u.SingleChannelGuest, "is_ultra_restricted": u.SingleChannelGuest,
		"is_stranger": u.TeamID != "" && u.TeamID != s.ws.ID,
		"tz":          "Europe/Berlin", "tz_label": "Central European Time", "tz_offset": 3600, "updated": 1700000000,
		"profile": profile,
	}
}

func (s *Server) groupsList(a args) (Object, *apiError) {
	if s.ws.FreePlan {
		return nil, refuse("plan_upgrade_required")
	}
	groups := []Object{}
	for _, g := range s.ws.Groups {
		if g.Disabled && !a.bool("include_disabled") {
			continue
		}
		o := Object{
			"id": g.ID, "team_id": s.ws.ID, "is_usergroup": true, "name": g.Name, "handle": g.Handle,
			"description": "", "is_external": false, "date_create": 1700000000, "date_update": 1700000000,
			"date_delete": 0, "auto_type": nil, "created_by": "USLACKBOT", "updated_by": "USLACKBOT", "deleted_by": nil,
			"prefs": Object{"channels": []string{}, "groups": []string{}}, "user_count": len(g.Users),
		}
		if g.Disabled {
			o["date_delete"] = 1700000001
		}
		if a.bool("include_users") {
			o["users"] = g.Users
		}
		groups = append(groups, o)
	}
	return Object{"usergroups": groups}, nil
}

func (s *Server) groupUsers(a args) (Object, *apiError) {
	if s.ws.FreePlan {
		return nil, refuse("plan_upgrade_required")
	}
	i := slices.IndexFunc(s.ws.Groups, func(g Group) bool { return g.ID == a.str("usergroup") })
	if i < 0 || s.ws.Groups[i].Disabled && !a.bool("include_disabled") {
		return nil, refuse("no_such_subteam")
	}
	return Object{"users": append([]string{}, s.ws.Groups[i].Users...)}, nil
}
