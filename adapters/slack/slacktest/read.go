package slacktest

import (
	"regexp"
	"slices"
	"strings"
)

// Read returns the message as a person reads it: blocks from top to bottom, mentions with names,
// links by their labels, entities resolved, buttons as [Label] and menus as [Text ▾]. Without blocks
// it is the text. Attachments and file names follow.
func (s *Server) Read(m Message) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := []string{}
	if len(m.Blocks) > 0 {
		lines = append(lines, s.readBlocks(m.Blocks)...)
	} else if m.Text != "" {
		lines = append(lines, s.plain(m.Text))
	}
	for _, a := range m.Attachments {
		for _, k := range []string{"pretext", "title", "text"} {
			if str(a, k) != "" {
				lines = append(lines, s.plain(str(a, k)))
			}
		}
		lines = append(lines, s.readBlocks(list(a, "blocks"))...)
	}
	for _, id := range m.Files {
		if f := s.files[id]; f != nil {
			lines = append(lines, "["+f.Name+"]")
		}
	}
	return strings.Join(lines, "\n")
}

// ReadView returns a modal or Home tab as a person reads it, the title first.
func (s *Server) ReadView(v View) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.readBlocks(v.Blocks)
	if v.Title != "" {
		lines = slices.Insert(lines, 0, v.Title)
	}
	return strings.Join(lines, "\n")
}

// Buttons lists the labels of the buttons that the message shows, in order.
func Buttons(m Message) []string {
	var out []string
	for _, e := range elementsOf(m.Blocks) {
		if str(e.el, "type") == "button" {
			out = append(out, str(obj(e.el, "text"), "text"))
		}
	}
	return out
}

// readBlocks renders blocks, one or more lines each; mu must be held.
func (s *Server) readBlocks(blocks []Object) []string {
	var lines []string
	say := func(parts ...string) {
		if line := strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " "); line != "" {
			lines = append(lines, line)
		}
	}
	for _, b := range blocks {
		switch str(b, "type") {
		case "divider":
			say("———")
		case "header":
			say(s.textOf(obj(b, "text")))
		case "section":
			say(s.textOf(obj(b, "text")), s.control(obj(b, "accessory")))
			for _, f := range list(b, "fields") {
				say(s.textOf(f))
			}
		case "context", "actions":
			var parts []string
			for _, e := range list(b, "elements") {
				parts = append(parts, s.textOf(e)+s.control(e))
			}
			say(parts...)
		case "input":
			say(s.textOf(obj(b, "label"))+":", s.control(obj(b, "element")))
		case "image":
			say("[" + str(b, "alt_text") + "]")
		case "markdown":
			say(str(b, "text"))
		case "rich_text":
			say(s.rich(b))
		}
	}
	return lines
}

// textOf renders a text object.
func (s *Server) textOf(o Object) string {
	switch str(o, "type") {
	case "mrkdwn":
		return s.plain(str(o, "text"))
	case "plain_text":
		return str(o, "text")
	}
	return ""
}

// control renders an element that people use.
func (s *Server) control(e Object) string {
	switch typ := str(e, "type"); {
	case typ == "button":
		return "[" + s.textOf(obj(e, "text")) + "]"
	case typ == "image":
		return "[" + str(e, "alt_text") + "]"
	case strings.HasSuffix(typ, "_select"):
		return "[" + s.textOf(obj(e, "placeholder")) + " ▾]"
	case typ == "radio_buttons", typ == "checkboxes", typ == "overflow":
		var parts []string
		for _, o := range list(e, "options") {
			parts = append(parts, "( ) "+s.textOf(obj(o, "text")))
		}
		return strings.Join(parts, " ")
	case isInteractive(typ):
		return "[" + s.textOf(obj(e, "placeholder")) + "]"
	}
	return ""
}

// rich renders a rich_text block or a part of it.
func (s *Server) rich(o Object) string {
	switch str(o, "type") {
	case "text":
		return str(o, "text")
	case "link":
		if str(o, "text") != "" {
			return str(o, "text")
		}
		return str(o, "url")
	case "user":
		return "@" + s.userName(str(o, "user_id"))
	case "usergroup":
		return "@" + s.groupName(str(o, "usergroup_id"))
	case "channel":
		return "#" + s.channelName(str(o, "channel_id"))
	case "broadcast":
		return "@" + str(o, "range")
	case "emoji":
		return ":" + str(o, "name") + ":"
	case "date":
		return str(o, "fallback")
	}
	sep := ""
	if typ := str(o, "type"); typ == "rich_text" || typ == "rich_text_list" {
		sep = "\n"
	}
	var parts []string
	for _, e := range list(o, "elements") {
		part := s.rich(e)
		if str(o, "type") == "rich_text_list" {
			part = "• " + part
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, sep)
}

// plain renders mrkdwn: angle brackets resolved, then entities. Bold and code marks stay.
func (s *Server) plain(text string) string {
	token := regexp.MustCompile(`<([^<>]*)>`)
	text = token.ReplaceAllStringFunc(text, func(t string) string {
		target, label, _ := strings.Cut(t[1:len(t)-1], "|")
		switch {
		case strings.HasPrefix(target, "@"):
			return "@" + s.userName(target[1:])
		case strings.HasPrefix(target, "#"):
			return "#" + s.channelName(target[1:])
		case strings.HasPrefix(target, "!subteam^"):
			return "@" + s.groupName(strings.TrimPrefix(target, "!subteam^"))
		case strings.HasPrefix(target, "!date^"):
			return label
		case strings.HasPrefix(target, "!"):
			return "@" + target[1:]
		case label != "":
			return label
		}
		return target
	})
	return unescape(text)
}

// unescape resolves the three entities that Slack knows; &amp; comes last, so that nothing is
// resolved twice.
func unescape(text string) string {
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(text)
}

func (s *Server) userName(id string) string {
	if u, ok := s.user(id); ok {
		return u.Name
	}
	return id
}

func (s *Server) channelName(id string) string {
	if c, ok := s.channel(id); ok {
		return c.shownName()
	}
	return id
}

func (s *Server) groupName(id string) string {
	for _, g := range s.ws.Groups {
		if g.ID == id {
			return g.Handle
		}
	}
	return id
}
