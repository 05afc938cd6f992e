package slacktest

import (
	"slices"
	"strings"
	"unicode/utf8"
)

func (s *Server) authTest(args) (Object, *apiError) {
	bot, _ := s.user(s.ws.BotUser)
	return Object{
		"url": "https://" + s.ws.Domain + ".slack.com/", "team": s.ws.Name, "team_id": s.ws.ID,
		"user": bot.Name, "user_id": s.ws.BotUser, "bot_id": s.ws.BotID, "is_enterprise_install": s.ws.OrgInstall,
	}, nil
}

// target finds the channel that the bot wants to write to; mu must be held.
func (s *Server) target(a args) (Channel, *apiError) {
	id := a.str("channel")
	if id == "" {
		return Channel{}, invalid("missing required field: channel")
	}
	c, ok := s.channel(id)
	switch in := slices.Contains(c.Members, s.ws.BotUser); {
	case !ok, c.Private && !in:
		return Channel{}, refuse("channel_not_found")
	case c.Archived:
		return Channel{}, refuse("is_archived")
	case !in:
		return Channel{}, refuse("not_in_channel")
	}
	return c, nil
}

// content reads and checks text, blocks and attachments into m, and reports what was given.
func (s *Server) content(a args, m *Message) (blocks, attachments bool, bad *apiError) {
	bs, err := a.objects("blocks")
	if err != nil {
		return false, false, &apiError{code: "invalid_blocks_format", messages: []string{"[ERROR] " + err.Error()}}
	}
	as, err := a.objects("attachments")
	if err != nil {
		return false, false, refuse("invalid_attachments")
	}
	if a.str("markdown_text") != "" {
		if a.str("text") != "" || len(bs) > 0 {
			return false, false, refuse("markdown_text_conflict")
		}
		if utf8.RuneCountInString(a.str("markdown_text")) > maxMarkdownText {
			return false, false, refuse("msg_too_long")
		}
		bs = []Object{{"type": "markdown", "text": a.str("markdown_text")}}
	}
	if len(as) > maxAttachments {
		return false, false, refuse("too_many_attachments")
	}
	if bad := checkBlocks(bs); bad != nil {
		return false, false, bad
	}
	m.Text, m.Blocks, m.Attachments = a.str("text"), bs, as
	m.Parse, m.LinkNames = a.str("parse"), a.bool("link_names")
	return bs != nil, as != nil, nil
}

// checkBlocks refuses blocks that Slack would refuse in a message.
func checkBlocks(blocks []Object) *apiError {
	if problems := ValidateMessage(blocks); len(problems) > 0 {
		return blockError("invalid_blocks", problems)
	}
	if blockText(blocks) > maxBlockText || markdownTotal(blocks) > maxMarkdownText {
		return refuse("msg_blocks_too_long")
	}
	return nil
}

func blockError(code string, problems []Problem) *apiError {
	e := &apiError{code: code}
	for _, p := range problems {
		e.errors = append(e.errors, p.String())
		e.messages = append(e.messages, "[ERROR] "+p.String())
	}
	return e
}

// metadata reads the metadata argument. Source: docs.slack.dev, messaging/message-metadata.
func (a args) metadata() (Object, *apiError) {
	o, err := a.object("metadata")
	if err != nil {
		return nil, refuse("invalid_metadata_format")
	}
	if o == nil {
		return nil, nil
	}
	_, isObject := o["event_payload"].(Object)
	if str(o, "event_type") == "" || !isObject {
		return nil, refuse("invalid_metadata_schema")
	}
	if len(mustJSON(o)) > 8000 {
		return nil, refuse("metadata_too_large")
	}
	return o, nil
}

func (s *Server) postMessage(a args) (Object, *apiError) {
	if u, ok := s.user(a.str("channel")); ok { // a user id means the direct message
		c, _ := s.direct(u.ID)
		a["channel"] = c.ID
	}
	c, bad := s.target(a)
	if bad != nil {
		return nil, bad
	}
	m := &Message{
		Channel: c.ID, User: s.ws.BotUser, BotID: s.ws.BotID, ThreadTS: a.str("thread_ts"),
		UnfurlLinks: a.str("unfurl_links"), UnfurlMedia: a.str("unfurl_media"), Broadcast: a.bool("reply_broadcast"),
	}
	blocks, attachments, bad := s.content(a, m)
	if bad != nil {
		return nil, bad
	}
	if m.Metadata, bad = a.metadata(); bad != nil {
		return nil, bad
	}
	if m.Text == "" && !blocks && !attachments {
		return nil, refuse("no_text")
	}
	if bad := s.checkThread(m); bad != nil {
		return nil, bad
	}
	answer := Object{}
	if r := []rune(m.Text); len(r) > maxPostText {
		m.Text = string(r[:maxPostText])
		answer["response_metadata"] = Object{"warnings": []string{"message_truncated"}}
		answer["warning"] = "message_truncated"
	}
	s.add(m, "chat.postMessage")
	answer["channel"], answer["ts"], answer["message"] = m.Channel, m.TS, s.messageJSON(m, true)
	return answer, nil
}

// checkThread refuses a reply to something that is not the root of a thread; mu must be held.
func (s *Server) checkThread(m *Message) *apiError {
	if m.ThreadTS == "" {
		return nil
	}
	root := s.find(m.Channel, m.ThreadTS)
	if root == nil || root.Deleted || root.Ephemeral() || root.ThreadTS != "" && root.ThreadTS != root.TS {
		return refuse("cannot_reply_to_message")
	}
	return nil
}

// own finds the bot's own message that a call wants to change; mu must be held.
func (s *Server) own(a args, notOwn string) (*Message, *apiError) {
	if _, bad := s.target(a); bad != nil {
		return nil, bad
	}
	if a.str("ts") == "" {
		return nil, invalid("missing required field: ts")
	}
	m := s.find(a.str("channel"), a.str("ts"))
	if m == nil || m.Deleted || m.Ephemeral() {
		return nil, refuse("message_not_found")
	}
	if m.User != s.ws.BotUser {
		return nil, refuse(notOwn)
	}
	return m, nil
}

// updateMessage changes one of the bot's messages. Source: docs.slack.dev,
// reference/methods/chat.update: text without blocks removes the blocks, metadata stays unless
// given, parse and link_names fall back to their defaults, changing only blocks leaves no mark.
func (s *Server) updateMessage(a args) (Object, *apiError) {
	m, bad := s.own(a, "cant_update_message")
	if bad != nil {
		return nil, bad
	}
	if utf8.RuneCountInString(a.str("text")) > maxUpdateText {
		return nil, refuse("msg_too_long")
	}
	var next Message
	blocks, attachments, bad := s.content(a, &next)
	if bad != nil {
		return nil, bad
	}
	hasText := a.str("text") != ""
	if !hasText && !blocks && !attachments {
		return nil, refuse("no_text")
	}
	meta, bad := a.metadata()
	if bad != nil {
		return nil, bad
	}
	if hasText {
		m.Edited = m.Edited || m.Text != next.Text
		m.Text = next.Text
	}
	if blocks || hasText {
		m.Blocks = next.Blocks
		if len(m.Blocks) == 0 {
			m.Blocks = nil
		}
	}
	if attachments {
		m.Attachments = next.Attachments
	}
	if meta != nil {
		m.Metadata = meta
	}
	m.Parse, m.LinkNames = next.Parse, next.LinkNames
	s.revise(m, "chat.update")
	return Object{"channel": m.Channel, "ts": m.TS, "text": m.Text, "message": s.messageJSON(m, true)}, nil
}

func (s *Server) deleteMessage(a args) (Object, *apiError) {
	m, bad := s.own(a, "cant_delete_message")
	if bad != nil {
		return nil, bad
	}
	m.Deleted = true
	s.bump()
	return Object{"channel": m.Channel, "ts": m.TS}, nil
}

func (s *Server) postEphemeral(a args) (Object, *apiError) {
	c, bad := s.target(a)
	if bad != nil {
		return nil, bad
	}
	switch user := a.str("user"); {
	case user == "":
		return nil, invalid("missing required field: user")
	case !slices.Contains(c.Members, user):
		return nil, refuse("user_not_in_channel")
	}
	m := &Message{Channel: c.ID, User: s.ws.BotUser, BotID: s.ws.BotID, To: a.str("user"), ThreadTS: a.str("thread_ts")}
	blocks, attachments, bad := s.content(a, m)
	if bad != nil {
		return nil, bad
	}
	if m.Text == "" && !blocks && !attachments {
		return nil, refuse("no_text")
	}
	if utf8.RuneCountInString(m.Text) > maxPostText {
		return nil, refuse("msg_too_long")
	}
	if bad := s.checkThread(m); bad != nil {
		return nil, bad
	}
	s.add(m, "chat.postEphemeral")
	return Object{"message_ts": m.TS}, nil
}

func (s *Server) permalink(a args) (Object, *apiError) {
	c, ok := s.channel(a.str("channel"))
	if !ok {
		return nil, refuse("channel_not_found")
	}
	m := s.find(c.ID, a.str("message_ts"))
	if m == nil || m.Deleted {
		return nil, refuse("message_not_found")
	}
	link := "https://" + s.ws.Domain + ".slack.com/archives/" + c.ID + "/p" + strings.ReplaceAll(m.TS, ".", "")
	return Object{"channel": c.ID, "permalink": link}, nil
}
