package slacktest

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Object is a JSON object as Slack stores it: a block, an element, a view.
type Object = map[string]any

// Message is a message with its history.
type Message struct {
	Channel, TS, ThreadTS string
	// User is the author. Messages of the app carry BotID as well.
	User, BotID string
	// Text is the top-level text, Blocks and Attachments the layout as stored: with ids assigned
	// and defaults filled in, as payloads show them.
	Text        string
	Blocks      []Object
	Attachments []Object
	// Metadata is the app's own event_type and event_payload.
	Metadata Object
	// Files are the ids of files shared with the message.
	Files []string
	// To is the only reader of an ephemeral message.
	To string
	// Parse and LinkNames are the parsing arguments of the last post or update.
	Parse     string
	LinkNames bool
	// Unfurl holds the unfurl_links and unfurl_media arguments as sent.
	UnfurlLinks, UnfurlMedia string
	// Broadcast marks a thread reply that was also sent to the channel.
	Broadcast bool
	// Edited marks a message that shows "(edited)". Changing only blocks does not.
	Edited bool
	// Deleted messages stay in the ledger but nobody sees them.
	Deleted bool
	// Revisions is the whole history; the first is the post.
	Revisions []Revision
}

// Revision is one state that a message had.
type Revision struct {
	At     time.Time
	Source string // the method, or "response_url", "command", "person"
	Text   string
	Blocks []Object
}

// Ephemeral tells whether only one person sees the message.
func (m Message) Ephemeral() bool { return m.To != "" }

// Posted is when the message appeared.
func (m Message) Posted() time.Time { return m.Revisions[0].At }

// Edits counts the changes after the post.
func (m Message) Edits() int { return len(m.Revisions) - 1 }

func (m *Message) clone() Message {
	c := *m
	c.Revisions = slices.Clone(m.Revisions)
	c.Files = slices.Clone(m.Files)
	return c
}

// Messages returns the messages that people see in channel, oldest first, thread replies included.
func (s *Server) Messages(channel string) []Message {
	return s.selectMessages(func(m *Message) bool { return m.Channel == channel && !m.Ephemeral() && !m.Deleted })
}

// Message returns one message that people see, or saw before it was deleted.
func (s *Server) Message(channel, ts string) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.find(channel, ts); m != nil {
		return m.clone(), true
	}
	return Message{}, false
}

// Ephemerals returns the messages that only user sees, oldest first.
func (s *Server) Ephemerals(user string) []Message {
	return s.selectMessages(func(m *Message) bool { return m.To == user && !m.Deleted })
}

// Thread returns the parent message and its replies, oldest first.
func (s *Server) Thread(channel, ts string) []Message {
	return s.selectMessages(func(m *Message) bool {
		return m.Channel == channel && (m.TS == ts || m.ThreadTS == ts) && !m.Ephemeral() && !m.Deleted
	})
}

func (s *Server) selectMessages(want func(*Message) bool) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Message
	for _, m := range s.messages {
		if want(m) {
			out = append(out, m.clone())
		}
	}
	return out
}

// find returns the stored message, deleted or not; mu must be held.
func (s *Server) find(channel, ts string) *Message {
	return s.byTS[channel+" "+ts]
}

// nextTS returns a timestamp that no other message has and that only grows; mu must be held.
// Slack: a ts is seconds, a dot and six digits, unique within a channel.
func (s *Server) nextTS() string {
	now := s.clk.Now().UnixMicro()
	s.lastTS = max(s.lastTS+1, now)
	micro := s.lastTS
	return strconv.FormatInt(micro/1e6, 10) + "." + pad6(micro%1e6)
}

func pad6(n int64) string {
	d := strconv.FormatInt(n, 10)
	return strings.Repeat("0", 6-len(d)) + d
}

// add stores m as a new message and wakes those who wait for one; mu must be held.
func (s *Server) add(m *Message, source string) {
	m.Blocks = s.normalise(m.Blocks)
	if m.TS == "" {
		m.TS = s.nextTS()
	}
	m.Revisions = []Revision{{At: s.clk.Now(), Source: source, Text: m.Text, Blocks: m.Blocks}}
	s.messages = append(s.messages, m)
	s.byTS[m.Channel+" "+m.TS] = m
	s.bump()
}

// revise records m's present content as a new revision; mu must be held.
func (s *Server) revise(m *Message, source string) {
	m.Blocks = s.normalise(m.Blocks)
	m.Revisions = append(m.Revisions, Revision{At: s.clk.Now(), Source: source, Text: m.Text, Blocks: m.Blocks})
	s.bump()
}

// normalise fills in what Slack fills in before it shows blocks back: block ids, action ids, and
// the defaults of text objects; mu must be held. The input is not changed.
func (s *Server) normalise(blocks []Object) []Object {
	if blocks == nil {
		return nil
	}
	out := make([]Object, 0, len(blocks))
	for _, b := range blocks {
		c, _ := deepCopy(b).(Object)
		if str(c, "block_id") == "" {
			c["block_id"] = s.shortID()
		}
		s.fill(c)
		out = append(out, c)
	}
	return out
}

// fill sets defaults in v and below; mu must be held.
func (s *Server) fill(v any) {
	switch v := v.(type) {
	case Object:
		switch str(v, "type") {
		case "plain_text":
			if _, set := v["emoji"]; !set {
				v["emoji"] = true
			}
		case "mrkdwn":
			if _, set := v["verbatim"]; !set {
				v["verbatim"] = false
			}
		default:
			if isInteractive(str(v, "type")) && str(v, "action_id") == "" {
				v["action_id"] = s.shortID()
			}
		}
		for _, child := range v {
			s.fill(child)
		}
	case []any:
		for _, child := range v {
			s.fill(child)
		}
	}
}

// isInteractive tells whether elements of this type carry an action_id.
func isInteractive(typ string) bool {
	switch typ {
	case "button", "overflow", "datepicker", "timepicker", "radio_buttons", "checkboxes",
		"plain_text_input", "number_input", "email_text_input", "url_text_input":
		return true
	}
	return strings.HasSuffix(typ, "_select")
}

// shortID makes an id as Slack assigns to blocks; mu must be held.
func (s *Server) shortID() string {
	s.serial++
	return strconv.FormatInt(s.serial+46656, 36) // three digits and more
}

// messageJSON is the message as the Web API and payloads show it; mu must be held.
func (s *Server) messageJSON(m *Message, withMetadata bool) Object {
	o := Object{"type": "message", "user": m.User, "ts": m.TS, "text": m.Text, "team": s.ws.ID}
	if m.BotID != "" {
		o["bot_id"] = m.BotID
		o["app_id"] = s.ws.AppID
		o["bot_profile"] = Object{"id": m.BotID, "app_id": s.ws.AppID, "name": "ocim", "deleted": false, "team_id": s.ws.ID}
	}
	if m.Blocks != nil {
		o["blocks"] = m.Blocks
	}
	if m.Attachments != nil {
		o["attachments"] = m.Attachments
	}
	if m.ThreadTS != "" {
		o["thread_ts"] = m.ThreadTS
	}
	if m.Edited {
		o["edited"] = Object{"user": m.User, "ts": s.tsOf(m.Revisions[len(m.Revisions)-1].At)}
	}
	if len(m.Files) > 0 {
		o["files"] = s.filesJSON(m.Files)
	}
	if withMetadata && m.Metadata != nil {
		o["metadata"] = m.Metadata
	}
	return o
}

func (s *Server) tsOf(t time.Time) string {
	return strconv.FormatInt(t.Unix(), 10) + ".000000"
}

// deepCopy copies what encoding/json decodes.
func deepCopy(v any) any {
	switch v := v.(type) {
	case Object:
		c := make(Object, len(v))
		for k, x := range v {
			c[k] = deepCopy(x)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, x := range v {
			c[i] = deepCopy(x)
		}
		return c
	default:
		return v
	}
}

// str reads a text field, empty when it is absent or of another type.
func str(o Object, key string) string {
	v, _ := o[key].(string)
	return v
}

// obj reads an object field, nil when it is absent or of another type.
func obj(o Object, key string) Object {
	v, _ := o[key].(Object)
	return v
}

// list reads a list of objects; elements of another type are left out.
func list(o Object, key string) []Object {
	vs, _ := o[key].([]any)
	var out []Object
	for _, v := range vs {
		if e, ok := v.(Object); ok {
			out = append(out, e)
		}
	}
	return out
}

// mustJSON encodes values that this package built itself and that cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// toAny turns a list of objects into the form encoding/json decodes.
func toAny(os []Object) []any {
	out := make([]any, len(os))
	for i, o := range os {
		out[i] = o
	}
	return out
}
