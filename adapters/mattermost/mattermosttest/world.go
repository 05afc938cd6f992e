package mattermosttest

import (
	"crypto/rand"
	"encoding/base32"
	"slices"
	"strings"
)

// The set-up that a Peer promises, on the fake and on a real server.
//
// In team Team there are an open channel Channel with alice, bob and the bot,
// and a private channel Private with alice alone. carol and dave are in the
// team and in neither channel; dave is team admin, Admin system admin. The bot
// has a system role that holds the permission manage_slash_commands, and
// otherwise only what is of no use without a licence. (Team admins have it too, but may also post to every channel of the
// team, private ones included, and let themselves in.)
const (
	Team    = "ops"
	Channel = "deploys"
	Private = "secret"
	Bot     = "ocim"
	Admin   = "admin"
)

// BotRoles are the system roles of the bot. The second one is of no other use
// without a licence, so that a set-up can give it the one permission that the
// bot needs.
const BotRoles = "system_user system_custom_group_admin"

// maxMessageRunes is the longest message (Mattermost: PostMessageMaxRunesV2).
const maxMessageRunes = 16383

type user struct {
	id, name  string
	createAt  int64
	bot       bool
	sysAdmin  bool
	disabled  bool
	firstName string
}

func (u *user) roles() string {
	switch {
	case u.sysAdmin:
		return "system_user system_admin"
	case u.bot:
		return BotRoles
	}
	return "system_user"
}

type team struct {
	id, name string
	createAt int64
	members  map[string]bool // user id → team admin
}

type channel struct {
	id, teamID, kind, name, display, creator string
	createAt, lastPostAt                     int64
	members                                  map[string]bool
	archived                                 bool
	posts                                    []*record // by age
}

// record is a post with every version it ever had, oldest first; the last one
// is what is in the database.
type record struct {
	versions []Post
	oldIDs   []string // the ids under which all but the last live on
}

func (r *record) add(p Post) {
	r.versions = append(r.versions, p)
	r.oldIDs = append(r.oldIDs, newID())
}

func (r *record) now() *Post { return &r.versions[len(r.versions)-1] }

type token struct {
	id, value, userID, description string
}

// newID makes an id as Mattermost does: 128 random bits in 26 letters and
// digits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding).EncodeToString(b[:])
}

func validID(id string) bool {
	return len(id) == 26 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// seed makes the world of the constants above.
func (s *Server) seed() {
	s.addUser(Admin, "").sysAdmin = true
	alice, bob := s.addUser("alice", "Alice"), s.addUser("bob", "Bob")
	carol, dave := s.addUser("carol", "Carol"), s.addUser("dave", "Dave")
	bot := s.addUser(Bot, "ocim")
	bot.bot = true

	t := &team{id: newID(), name: Team, createAt: s.stamp(), members: map[string]bool{}}
	s.teams[t.id] = t
	for _, u := range []*user{alice, bob, carol, dave, bot} {
		t.members[u.id] = u == dave
	}
	s.addChannel(t, "O", Channel, alice, bob, bot)
	s.addChannel(t, "P", Private, alice)
}

func (s *Server) addUser(name, first string) *user {
	u := &user{id: newID(), name: name, createAt: s.stamp(), firstName: first}
	s.users[u.id] = u
	s.addToken(u, "first")
	return u
}

func (s *Server) addToken(u *user, description string) *token {
	t := &token{id: newID(), value: newID(), userID: u.id, description: description}
	s.tokens = append(s.tokens, t)
	return t
}

func (s *Server) addChannel(t *team, kind, name string, members ...*user) *channel {
	c := &channel{
		id: newID(), kind: kind, name: name, display: name, createAt: s.stamp(), members: map[string]bool{},
	}
	if t != nil {
		c.teamID = t.id
	}
	for _, u := range members {
		c.members[u.id] = true
	}
	s.channels[c.id] = c
	return c
}

func (s *Server) userByName(name string) *user {
	for _, u := range s.users {
		if u.name == name {
			return u
		}
	}
	return nil
}

func (s *Server) teamByName(name string) *team {
	for _, t := range s.teams {
		if t.name == name {
			return t
		}
	}
	return nil
}

func (s *Server) channelByName(teamID, name string) *channel {
	for _, c := range s.channels {
		if c.teamID == teamID && c.name == name {
			return c
		}
	}
	return nil
}

func (s *Server) tokenOf(userID string) string {
	for _, t := range s.tokens {
		if t.userID == userID {
			return t.value
		}
	}
	return ""
}

// The permission rules that the default roles of Mattermost 11.1 give.

func (s *Server) inTeam(u *user, teamID string) bool {
	t := s.teams[teamID]
	if t == nil {
		return false
	}
	_, member := t.members[u.id]
	return member || u.sysAdmin
}

// administers reports whether u is an admin of the team, who may post to all
// of its channels, add members and delete what others wrote.
func (s *Server) administers(u *user, teamID string) bool {
	t := s.teams[teamID]
	return u.sysAdmin || t != nil && t.members[u.id]
}

// manages reports whether u may manage slash commands of the team.
func (s *Server) manages(u *user, teamID string) bool {
	return u.bot || s.administers(u, teamID)
}

// belongs reports whether u may edit and click in the channel.
func (s *Server) belongs(u *user, channelID string) bool {
	c := s.channels[channelID]
	return c != nil && (c.members[u.id] || u.sysAdmin)
}

// writes reports whether u may post to the channel.
func (s *Server) writes(u *user, channelID string) bool {
	c := s.channels[channelID]
	return c != nil && (c.members[u.id] || s.administers(u, c.teamID))
}

// reads is wider: a public channel is open to all of its team.
func (s *Server) reads(u *user, channelID string) bool {
	c := s.channels[channelID]
	return c != nil && (s.belongs(u, channelID) || c.kind == "O" && s.inTeam(u, c.teamID))
}

// find looks a post up by id, deleted ones included.
func (s *Server) find(id string) *record {
	for _, c := range s.channels {
		if i := slices.IndexFunc(c.posts, func(r *record) bool { return r.now().ID == id }); i >= 0 {
			return c.posts[i]
		}
	}
	return nil
}

// live is find without the deleted.
func (s *Server) live(id string) *record {
	if r := s.find(id); r != nil && r.now().DeleteAt == 0 {
		return r
	}
	return nil
}
