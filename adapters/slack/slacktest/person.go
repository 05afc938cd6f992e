package slacktest

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strings"
)

// CommandOpts is what a person types.
type CommandOpts struct {
	User, Channel string
	// Command is /ocim when empty.
	Command string
	Text    string
	// Raw sends Text as it is. Otherwise @name and #name become entities and URLs are put in angle
	// brackets, as for a command with should_escape.
	Raw bool
}

// Reply is what the person sees after a command.
type Reply struct {
	// Answer is the acknowledgement itself.
	Answer Answer
	// Error is the error that Slack shows instead of an answer, such as operation_timeout.
	Error string
	// Message is the reply made of the acknowledgement, nil when it was empty.
	Message *Message
	// Shown tells that the typed command itself became visible to the channel.
	Shown bool
}

// Command types a slash command and waits for the acknowledgement, at most 3 s by the server's
// clock. The error is about the test: no such person, channel or bot.
func (s *Server) Command(ctx context.Context, o CommandOpts) (Reply, error) {
	payload, err := s.commandPayload(o)
	if err != nil {
		return Reply{}, err
	}
	a, err := s.deliver(ctx, kindCommand, payload, redelivery{})
	if err != nil {
		return Reply{}, err
	}
	return s.showReply(o, a), nil
}

// CommandRequest returns the signed request of a command without sending it, for tests that change
// it first or send it twice.
func (s *Server) CommandRequest(o CommandOpts) (Request, error) {
	payload, err := s.commandPayload(o)
	if err != nil {
		return Request{}, err
	}
	r, err := s.request(kindCommand, payload)
	if err != nil {
		return Request{}, err
	}
	return s.signed(r, s.clk.Now()), nil
}

func (s *Server) commandPayload(o CommandOpts) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, c, err := s.person(o.User, o.Channel)
	if err != nil {
		return nil, err
	}
	if o.Command == "" {
		o.Command = "/ocim"
	}
	if !o.Raw {
		o.Text = s.escapeTyped(o.Text)
	}
	p := Object{
		"token": s.verificationToken(), "team_id": s.ws.ID, "team_domain": s.ws.Domain,
		"channel_id": c.ID, "channel_name": c.shownName(), "user_id": u.ID, "user_name": u.Name,
		"command": o.Command, "text": o.Text, "api_app_id": s.ws.AppID, "is_enterprise_install": fmt.Sprint(s.ws.OrgInstall),
		"response_url": s.newHook("commands", u.ID, c.ID, nil), "trigger_id": s.newTrigger(u.ID, ""),
	}
	if s.ws.EnterpriseID != "" {
		p["enterprise_id"], p["enterprise_name"] = s.ws.EnterpriseID, s.ws.EnterpriseName
	}
	return p, nil
}

// shownName is the channel's name in payloads; private channels do not tell theirs.
func (c Channel) shownName() string {
	switch {
	case c.DirectWith != "":
		return "directmessage"
	case c.Private:
		return "privategroup"
	}
	return c.Name
}

// escapeTyped does what Slack does to the text of a command with should_escape; mu must be held.
// Source: docs.slack.dev, interactivity/implementing-slash-commands.
func (s *Server) escapeTyped(text string) string {
	words := regexp.MustCompile(`(^|\s)(https?://[^\s<>]+|[@#][a-z0-9._-]+)`)
	return words.ReplaceAllStringFunc(text, func(m string) string {
		word := strings.TrimLeft(m, " \t\n")
		space := m[:len(m)-len(word)]
		switch word[0] {
		case '@':
			if i := slices.IndexFunc(s.ws.Users, func(u User) bool { return u.Name == word[1:] }); i >= 0 {
				return space + "<@" + s.ws.Users[i].ID + ">"
			}
			return m
		case '#':
			if i := slices.IndexFunc(s.ws.Channels, func(c Channel) bool { return c.Name == word[1:] }); i >= 0 {
				c := s.ws.Channels[i]
				if c.Private {
					return space + "<#" + c.ID + "|>"
				}
				return space + "<#" + c.ID + "|" + c.Name + ">"
			}
			return m
		}
		return space + "<" + word + ">"
	})
}

// showReply turns an acknowledgement into what the person sees.
func (s *Server) showReply(o CommandOpts, a Answer) Reply {
	r := Reply{Answer: a, Error: visibleError(a)}
	if r.Error != "" || len(strings.TrimSpace(string(a.Body))) == 0 {
		return r
	}
	content, err := decodeReply(a)
	if err != nil {
		r.Error = "invalid_command_response"
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Shown = content.str("response_type") == "in_channel"
	m := &Message{Channel: o.Channel, User: s.ws.BotUser, BotID: s.ws.BotID, To: o.User}
	if r.Shown {
		m.To = ""
	}
	blocks, attachments, bad := s.content(content, m)
	if bad != nil {
		r.Error = "invalid_command_response"
		return r
	}
	if m.Text == "" && !blocks && !attachments {
		return r
	}
	s.add(m, "command")
	c := m.clone()
	r.Message = &c
	return r
}

// decodeReply reads an acknowledgement with content: JSON by its content type (always over Socket
// Mode), plain text otherwise.
func decodeReply(a Answer) (args, error) {
	if a.Header != nil {
		if typ, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type")); typ != "application/json" {
			return args{"text": string(a.Body)}, nil
		}
	}
	var v any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return nil, fmt.Errorf("decode the acknowledgement: %w", err)
	}
	switch v := v.(type) {
	case Object:
		return args(v), nil
	case string:
		return args{"text": v}, nil
	default:
		return nil, fmt.Errorf("decode the acknowledgement: neither object nor text")
	}
}

// Say posts a message as a person, without any event. threadTS is empty outside threads.
func (s *Server) Say(user, channel, text, threadTS string) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, c, err := s.person(user, channel)
	if err != nil {
		return Message{}, err
	}
	m := &Message{Channel: c.ID, User: u.ID, Text: text, ThreadTS: threadTS}
	s.add(m, "person")
	return m.clone(), nil
}
