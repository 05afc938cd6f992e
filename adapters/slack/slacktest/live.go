package slacktest

import (
	"regexp"
	"strings"
)

// TokenKind is what a piece of text turned into.
type TokenKind string

// The kinds of live token.
const (
	UserMention    TokenKind = "user"
	ChannelMention TokenKind = "channel"
	GroupMention   TokenKind = "group"
	Broadcast      TokenKind = "broadcast" // here, channel, everyone: it notifies everybody
	Date           TokenKind = "date"
	Link           TokenKind = "link"
	Image          TokenKind = "image" // fetched by every reader's client
)

// LiveToken is a mention, link or image that Slack made of a piece of a message.
type LiveToken struct {
	Kind TokenKind
	// Target is the id, range or URL; Label what people see instead, if given.
	Target, Label string
	// Auto is set when no angle brackets asked for it: Slack found it in the text by itself.
	Auto bool
	// Pointer is the JSON pointer of the text, from the message down.
	Pointer string
}

// LiveTokens lists everything in the message that is more than dead text, so that a test can prove
// that foreign text stayed text. It errs on the side of calling text live: code spans protect
// nothing, the top-level text counts even when there are blocks, and text that is parsed
// automatically (verbatim not true, link_names, parse full) is searched for bare @here, #channel
// and URLs. Source: docs.slack.dev, messaging/formatting-message-text.
func (s *Server) LiveTokens(m Message) []LiveToken {
	l := s.reader()
	auto := m.LinkNames || m.Parse == "full"
	l.mrkdwn("/text", m.Text, auto, m.Parse != "none")
	l.walk("/blocks", toAny(m.Blocks))
	for i, a := range m.Attachments {
		p := "/attachments/" + itoa(i)
		for _, k := range []string{"pretext", "text", "title", "fallback", "footer", "author_name"} {
			l.mrkdwn(p+"/"+k, str(a, k), true, true)
		}
		for _, k := range []string{"title_link", "author_link"} {
			l.url(p+"/"+k, Link, str(a, k))
		}
		for _, k := range []string{"image_url", "thumb_url", "footer_icon", "author_icon"} {
			l.url(p+"/"+k, Image, str(a, k))
		}
		for j, f := range list(a, "fields") {
			l.mrkdwn(p+"/fields/"+itoa(j), str(f, "title")+"\n"+str(f, "value"), true, true)
		}
		l.walk(p+"/blocks", a["blocks"])
	}
	return l.found
}

// LiveInView is LiveTokens for a modal or Home tab.
func (s *Server) LiveInView(v View) []LiveToken {
	l := s.reader()
	l.walk("/blocks", toAny(v.Blocks))
	return l.found
}

// liveReader collects live tokens.
type liveReader struct {
	found    []LiveToken
	channels map[string]string // id by name
	bracket  *regexp.Regexp
	bareURL  *regexp.Regexp
	bareName *regexp.Regexp
	mdLink   *regexp.Regexp
}

func (s *Server) reader() *liveReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &liveReader{
		channels: map[string]string{},
		bracket:  regexp.MustCompile(`<([^<>]+)>`),
		// Clients also link bare domain names; those of the common kind are enough to notice.
		bareURL:  regexp.MustCompile(`(?i)\b(?:https?://|mailto:|www\.)[^\s<>|]+|\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|io|dev)\b(?:/[^\s<>|]*)?`),
		bareName: regexp.MustCompile(`(?:^|[^\w/&])([@#])([a-z0-9][a-z0-9._-]*)`),
		mdLink:   regexp.MustCompile(`(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)`),
	}
	for _, c := range s.ws.Channels {
		if c.Name != "" {
			l.channels[c.Name] = c.ID
		}
	}
	return l
}

func (l *liveReader) add(t LiveToken) { l.found = append(l.found, t) }

func (l *liveReader) url(pointer string, kind TokenKind, target string) {
	if target != "" {
		l.add(LiveToken{Kind: kind, Target: target, Pointer: pointer})
	}
}

// mrkdwn reads one text. names tells whether bare names are parsed, urls whether bare URLs are.
func (l *liveReader) mrkdwn(pointer, text string, names, urls bool) {
	for _, m := range l.bracket.FindAllStringSubmatch(text, -1) {
		target, label, _ := strings.Cut(m[1], "|")
		if t, ok := bracketToken(target); ok {
			t.Label, t.Pointer = label, pointer
			l.add(t)
		}
	}
	rest := l.bracket.ReplaceAllString(text, " ")
	if urls {
		for _, u := range l.bareURL.FindAllString(rest, -1) {
			l.add(LiveToken{Kind: Link, Target: u, Auto: true, Pointer: pointer})
		}
	}
	if !names {
		return
	}
	for _, m := range l.bareName.FindAllStringSubmatch(rest, -1) {
		switch name := strings.TrimRight(m[2], "._-"); {
		case m[1] == "@" && (name == "here" || name == "channel" || name == "everyone"):
			l.add(LiveToken{Kind: Broadcast, Target: name, Auto: true, Pointer: pointer})
		case m[1] == "#" && l.channels[name] != "":
			l.add(LiveToken{Kind: ChannelMention, Target: l.channels[name], Auto: true, Pointer: pointer})
		}
	}
}

// bracketToken reads what stands in angle brackets before the bar.
func bracketToken(target string) (LiveToken, bool) {
	switch {
	case strings.HasPrefix(target, "@"):
		return LiveToken{Kind: UserMention, Target: target[1:]}, true
	case strings.HasPrefix(target, "#"):
		return LiveToken{Kind: ChannelMention, Target: target[1:]}, true
	case strings.HasPrefix(target, "!subteam^"):
		return LiveToken{Kind: GroupMention, Target: strings.TrimPrefix(target, "!subteam^")}, true
	case strings.HasPrefix(target, "!date^"):
		return LiveToken{Kind: Date, Target: strings.TrimPrefix(target, "!date^")}, true
	case target == "!here", target == "!channel", target == "!everyone", target == "!group":
		return LiveToken{Kind: Broadcast, Target: target[1:]}, true
	case strings.HasPrefix(target, "!"):
		return LiveToken{}, false
	}
	// Anything else in brackets with a scheme or a dot becomes a link.
	return LiveToken{Kind: Link, Target: target}, strings.ContainsAny(target, ":.")
}

// walk looks for live things in blocks and their parts.
func (l *liveReader) walk(pointer string, v any) {
	switch v := v.(type) {
	case []any:
		for i, x := range v {
			l.walk(pointer+"/"+itoa(i), x)
		}
	case Object:
		if l.leaf(pointer, v) {
			return
		}
		for _, k := range sortedKeys(v) {
			l.walk(pointer+"/"+k, v[k])
		}
	}
}

// leaf reads an object that is live or dead as a whole, and tells whether its parts need no look.
func (l *liveReader) leaf(pointer string, o Object) bool {
	switch str(o, "type") {
	case "plain_text":
	case "mrkdwn":
		verbatim, _ := o["verbatim"].(bool)
		l.mrkdwn(pointer+"/text", str(o, "text"), !verbatim, !verbatim)
	case "markdown":
		l.markdown(pointer+"/text", str(o, "text"))
	case "user":
		l.add(LiveToken{Kind: UserMention, Target: str(o, "user_id"), Pointer: pointer})
	case "usergroup":
		l.add(LiveToken{Kind: GroupMention, Target: str(o, "usergroup_id"), Pointer: pointer})
	case "channel":
		l.add(LiveToken{Kind: ChannelMention, Target: str(o, "channel_id"), Pointer: pointer})
	case "broadcast":
		l.add(LiveToken{Kind: Broadcast, Target: str(o, "range"), Pointer: pointer})
	case "link":
		l.add(LiveToken{Kind: Link, Target: str(o, "url"), Label: str(o, "text"), Pointer: pointer})
	case "text":
	case "button":
		l.url(pointer+"/url", Link, str(o, "url"))
		return false
	case "image":
		l.url(pointer+"/image_url", Image, str(o, "image_url"))
		return false
	default:
		return false
	}
	return true
}

// markdown reads a markdown block: Slack's own brackets, Markdown links and images, bare URLs and
// names.
func (l *liveReader) markdown(pointer, text string) {
	for _, m := range l.mdLink.FindAllStringSubmatch(text, -1) {
		kind := Link
		if m[1] == "!" {
			kind = Image
		}
		l.add(LiveToken{Kind: kind, Target: m[3], Label: m[2], Pointer: pointer})
	}
	l.mrkdwn(pointer, l.mdLink.ReplaceAllString(text, " "), true, true)
}
