package mattermosttest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// socketQueue is how many events wait for a slow client before it is dropped
// (Mattermost: sendQueueSize).
const socketQueue = 256

// event is something to tell: to one user if userID is set, else to all
// members of the channel.
type event struct {
	name              string
	data              map[string]any
	userID, channelID string
}

type broadcast struct {
	OmitUsers        map[string]bool `json:"omit_users"`
	UserID           string          `json:"user_id"`
	ChannelID        string          `json:"channel_id"`
	TeamID           string          `json:"team_id"`
	ConnectionID     string          `json:"connection_id"`
	OmitConnectionID string          `json:"omit_connection_id"`
}

// Event is one frame of the WebSocket. A reply to a client's own message has
// SeqReply and no Event.
type Event struct {
	Event     string         `json:"event"`
	Data      map[string]any `json:"data"`
	Broadcast broadcast      `json:"broadcast"`
	Seq       int64          `json:"seq"`
}

// socket is one client's connection.
type socket struct {
	conn  *websocket.Conn
	user  *user // nil until authenticated; guarded by Server.mu
	seq   int64 // likewise
	queue chan any
	once  sync.Once
	done  chan struct{}
}

func (c *socket) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.conn.Close()
	})
}

// serveSocket takes a session from the handshake or from a first
// "authentication_challenge" message. A bad token still gets its 101, then no
// hello and a close.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	n := s.record(r, nil)
	up := websocket.Upgrader{}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		s.answered(n, http.StatusBadRequest)
		return
	}
	s.answered(n, http.StatusSwitchingProtocols)
	c := &socket{conn: conn, queue: make(chan any, socketQueue), done: make(chan struct{})}
	s.mu.Lock()
	s.sockets[c] = struct{}{}
	s.welcome(c, s.session(r))
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.sockets, c)
		s.mu.Unlock()
		c.close()
	}()
	go c.write()
	s.readSocket(c)
}

// welcome says hello to an authenticated client. Callers hold mu.
func (s *Server) welcome(c *socket, u *user) {
	if u == nil || c.user != nil {
		return
	}
	c.user = u
	s.push(c, event{name: "hello", userID: u.id, data: map[string]any{
		"connection_id": newID(), "server_hostname": "mattermost-1", "server_version": serverVersion,
	}})
}

func (c *socket) write() {
	for {
		select {
		case v := <-c.queue:
			if c.conn.WriteJSON(v) != nil {
				c.close()
				return
			}
		case <-c.done:
			return
		}
	}
}

func (s *Server) readSocket(c *socket) {
	c.conn.SetReadLimit(8 << 10)
	for {
		_, b, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		var in struct {
			Seq    int64          `json:"seq"`
			Action string         `json:"action"`
			Data   map[string]any `json:"data"`
		}
		if json.Unmarshal(b, &in) != nil {
			return
		}
		s.mu.Lock()
		switch in.Action {
		case "authentication_challenge":
			value, _ := in.Data["token"].(string)
			u := s.session(&http.Request{Header: http.Header{"Authorization": {"Bearer " + value}}})
			if u == nil {
				s.mu.Unlock()
				return
			}
			s.welcome(c, u)
			c.send(map[string]any{"status": "OK", "seq_reply": in.Seq})
		case "ping":
			c.send(map[string]any{
				"status": "OK", "seq_reply": in.Seq,
				"data": map[string]any{"text": "pong", "version": serverVersion, "server_time": s.clock.Now().UnixMilli()},
			})
		default:
			c.send(map[string]any{"status": "FAIL", "seq_reply": in.Seq, "error": apiError(
				http.StatusInternalServerError, "api.web_socket_router.bad_action.app_error", "Unknown WebSocket action.",
			)})
		}
		s.mu.Unlock()
	}
}

// send queues a frame, and drops a client that does not keep up.
func (c *socket) send(v any) {
	select {
	case c.queue <- v:
	default:
		c.close()
	}
}

// push sends an event to one socket. Callers hold mu.
func (s *Server) push(c *socket, e event) {
	c.send(Event{
		Event: e.name, Data: e.data, Seq: c.seq, Broadcast: broadcast{UserID: e.userID, ChannelID: e.channelID},
	})
	c.seq++
}

// publish sends an event to everybody whom it concerns. Callers hold mu.
func (s *Server) publish(e event) {
	for c := range s.sockets {
		if c.user == nil {
			continue
		}
		ch := s.channels[e.channelID]
		if e.userID == c.user.id || e.userID == "" && ch != nil && ch.members[c.user.id] {
			s.push(c, e)
		}
	}
}

func (s *Server) publishPosted(u *user, ch *channel, p Post) {
	data := map[string]any{
		"channel_display_name": ch.display, "channel_name": ch.name, "channel_type": ch.kind,
		"post": mustJSON(p), "sender_name": "@" + u.name, "set_online": true, "team_id": ch.teamID,
	}
	if ids := s.mentioned(u, ch, p); len(ids) > 0 {
		data["mentions"] = mustJSON(ids)
	}
	s.publish(event{name: "posted", data: data, channelID: ch.id})
}

// mentioned are the members of the channel whom a post notifies, save its
// author.
func (s *Server) mentioned(author *user, ch *channel, p Post) []string {
	names := LiveMentions(p)
	everybody := ch.kind == "D" || slices.ContainsFunc(names, func(n string) bool {
		return n == "channel" || n == "all" || n == "here"
	})
	var ids []string
	for id := range ch.members {
		u := s.users[id]
		if u != author && (everybody || slices.Contains(names, strings.ToLower(u.name))) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
