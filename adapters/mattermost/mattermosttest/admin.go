package mattermosttest

import (
	"slices"
	"time"
)

// The things that people and admins do to a bot behind its back.

// DeletePost deletes a post, as a moderator would.
func (s *Server) DeletePost(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.live(id); r != nil {
		s.remove(r)
	}
}

// RemoveMember takes a user out of a channel.
func (s *Server) RemoveMember(userName, channelID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ch := s.userByName(userName), s.channels[channelID]; u != nil && ch != nil {
		delete(ch.members, u.id)
	}
}

// AddMember puts a user into a channel.
func (s *Server) AddMember(userName, channelID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ch := s.userByName(userName), s.channels[channelID]; u != nil && ch != nil {
		ch.members[u.id] = true
	}
}

// SetPostEditTimeLimit bounds for how long the text of a post may be changed
// (ServiceSettings.PostEditTimeLimit).
func (s *Server) SetPostEditTimeLimit(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.editLimit = d
}

// ArchiveChannel closes a channel for everything but reading.
func (s *Server) ArchiveChannel(channelID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.channels[channelID]; ch != nil {
		ch.archived = true
	}
}

// RevokeTokens makes all sessions of a user invalid, and returns a new token.
func (s *Server) RevokeTokens(userName string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.userByName(userName)
	if u == nil {
		return ""
	}
	s.tokens = slices.DeleteFunc(s.tokens, func(t *token) bool { return t.userID == u.id })
	return s.addToken(u, "after revocation").value
}

// AddTeam makes another team with these members; admins names those of them
// who are team admins.
func (s *Server) AddTeam(name string, members []string, admins ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &team{id: newID(), name: name, createAt: s.stamp(), members: map[string]bool{}}
	for _, m := range members {
		if u := s.userByName(m); u != nil {
			t.members[u.id] = slices.Contains(admins, m)
		}
	}
	s.teams[t.id] = t
	return t.id
}

// AddChannel makes another open channel in the team with these members.
func (s *Server) AddChannel(teamID, name string, members ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var us []*user
	for _, m := range members {
		if u := s.userByName(m); u != nil {
			us = append(us, u)
		}
	}
	return s.addChannel(s.teams[teamID], "O", name, us...).id
}
