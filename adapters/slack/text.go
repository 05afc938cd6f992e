package slack

import (
	"net"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"ocim/adapters/chat"
)

// size is the length of s in UTF-16 units.
func size(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// cut shortens s to at most n UTF-16 units; what was cut is marked with an ellipsis.
func cut(s string, n int) string {
	if n <= 0 {
		return ""
	}
	if len(s) <= n || size(s) <= n {
		return s
	}
	used := 0
	for i, r := range s {
		w := 1
		if r > 0xffff {
			w = 2
		}
		if used+w > n-1 {
			return s[:i] + "…"
		}
		used += w
	}
	return s
}

// lastUnits keeps the end of s, at most n UTF-16 units.
func lastUnits(s string, n int) string {
	if n <= 1 {
		return ""
	}
	t := chat.CutFront(s, n)
	for keep := n; size(t) > n; {
		keep -= (size(t) - n + 1) / 2
		t = chat.CutFront(s, max(keep, 1))
	}
	return t
}

// escape makes foreign text safe outside blocks and inside mrkdwn: on one line, with the three
// characters of Slack's markup as entities, and at most n units long. An entity is never cut apart.
// Source: docs.slack.dev, messaging/formatting-message-text.
func escape(s string, n int) string {
	s = chat.Clean(s)
	if !strings.ContainsAny(s, "&<>") {
		return cut(s, n)
	}
	var b strings.Builder
	used := 0
	for i, r := range s {
		t, w := entityOf(r)
		last := i+utf8.RuneLen(r) == len(s)
		if used+w > n || used+w > n-1 && !last {
			if n > 0 {
				b.WriteRune('…')
			}
			break
		}
		b.WriteString(t)
		used += w
	}
	return b.String()
}

// entityOf is r as it may stand in mrkdwn, and its length.
func entityOf(r rune) (string, int) {
	switch r {
	case '&':
		return "&amp;", 5
	case '<':
		return "&lt;", 4
	case '>':
		return "&gt;", 4
	}
	if r > 0xffff {
		return string(r), 2
	}
	return string(r), 1
}

// mrkdwn renders spans for the places where Slack knows no rich_text, at most n units long. A span
// that does not fit ends the text, with an ellipsis.
func mrkdwn(t chat.Text, n int) string {
	out, whole := mrkdwnSpans(t, n)
	if whole || n < 1 {
		return out
	}
	out, _ = mrkdwnSpans(t, n-1)
	return strings.TrimSuffix(out, "…") + "…"
}

func mrkdwnSpans(t chat.Text, n int) (out string, whole bool) {
	var b strings.Builder
	used := 0
	first := true // nothing but spaces stands on the line so far
	for _, s := range t {
		room := n - used
		if room <= 0 {
			return b.String(), false
		}
		piece := span(s, room, first)
		if size(piece) > room {
			return b.String(), false
		}
		b.WriteString(piece)
		first = s.Style == chat.Break || first && strings.TrimSpace(piece) == ""
		used += size(piece)
	}
	return b.String(), true
}

// span renders one span in at most about n units.
func span(s chat.Span, n int, first bool) string {
	text := unstyled(chat.Clean(s.Text))
	if first && strings.HasPrefix(strings.TrimLeft(text, " "), ">") { // would be a quotation
		text = strings.Replace(text, ">", "›", 1)
	}
	switch s.Style {
	case chat.Bold:
		return wrapped(text, "*", n)
	case chat.Italic:
		return wrapped(text, "_", n)
	case chat.Mono:
		return wrapped(strings.ReplaceAll(chat.Clean(s.Text), "`", "ˋ"), "`", n)
	case chat.Mention:
		if validID(s.User, "UW") {
			return "<@" + s.User + ">"
		}
	case chat.Link:
		u, ok := safeURL(s.URL, textURL)
		if !ok {
			break
		}
		u = strings.ReplaceAll(u, "&", "&amp;")
		room := n - size(u) - 3
		if room < 8 { // no room for the address: the label alone
			break
		}
		label := escape(strings.ReplaceAll(text, "|", "¦"), room)
		if label == "" {
			return "<" + u + ">"
		}
		return "<" + u + "|" + label + ">"
	case chat.Break:
		return "\n"
	case chat.Plain:
	}
	return escape(text, n)
}

// wrapped puts sign around text; the spaces at its ends go outside, where they must be.
func wrapped(text, sign string, n int) string {
	inner := strings.Trim(text, " ")
	if inner == "" || n < 4 {
		return escape(text, n)
	}
	i := strings.Index(text, inner)
	before, after := text[:i], text[i+len(inner):]
	return before + sign + escape(inner, n-2-len(before)-len(after)) + sign + after
}

// unstyled takes the meaning from characters that format in mrkdwn, which knows no escape for them:
// * _ ~ and ` are replaced by look-alikes where they could open or close a format, that is at the
// edge of a word, and so is the colon of an :emoji:. A name such as my_instance stays as it is.
func unstyled(s string) string {
	if !strings.ContainsAny(s, "*_~`:") {
		return s
	}
	rs := []rune(s)
	word := func(i int) bool { return i >= 0 && i < len(rs) && (unicode.IsLetter(rs[i]) || unicode.IsDigit(rs[i])) }
	out := make([]rune, len(rs))
	for i, r := range rs {
		out[i] = r
		edge := !word(i-1) || !word(i+1)
		switch {
		case r == '`':
			out[i] = 'ˋ'
		case r == '*' && edge:
			out[i] = '∗'
		case r == '_' && edge:
			out[i] = '＿'
		case r == '~' && edge:
			out[i] = '∼'
		case r == ':' && opensEmoji(rs[i+1:]):
			out[i] = '∶'
		}
	}
	return string(out)
}

// opensEmoji tells whether rs begins with the name of an emoji and a colon.
func opensEmoji(rs []rune) bool {
	letter := false
	for i, r := range rs {
		switch {
		case r == ':':
			return i > 0 && letter
		case r >= 'a' && r <= 'z':
			letter = true
		case r >= '0' && r <= '9', r == '_', r == '-', r == '+', r == '\'':
		default:
			return false
		}
	}
	return false
}

// safeURL normalises an address that may be linked: https, or http on this very machine. It is nil
// of everything that could end a link or hide where it leads.
func safeURL(raw string, n int) (string, bool) {
	if raw == "" || len(raw) > n {
		return "", false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	switch u.Scheme {
	case "https":
	case "http":
		if host := u.Hostname(); host != "localhost" && !net.ParseIP(host).IsLoopback() {
			return "", false
		}
	default:
		return "", false
	}
	var b strings.Builder
	for _, c := range []byte(u.String()) {
		switch {
		case c <= ' ' || c >= 0x7f || strings.IndexByte("<>|\"`\\^{}", c) >= 0:
			const hex = "0123456789ABCDEF"
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), b.Len() <= n
}
