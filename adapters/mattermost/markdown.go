package mattermost

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"ocim/adapters/chat"
)

// zwsp is a character without width. Mattermost joins escaped and plain text again before it looks
// for @names, ~channels, #hashtags and :emoji:, so a backslash does not stop those, and neither does
// its server care for one when it notifies people. A character in between does.
const zwsp = "\u200b"

// boundary stands for "some markup of ours follows" where the next rune of a text is asked for.
const boundary = 'x'

// escape writes foreign text so that Mattermost's Markdown shows it as it is. prev is the rune
// before it, 0 at the start of a line; next is the rune after it, 0 if nothing follows. The text is
// one line when written. Sources: the grammar of github.com/mattermost/marked (which knows fewer
// escapes than CommonMark) and server/public/shared/markdown.
func escape(b *strings.Builder, text string, prev, next rune) {
	runes := []rune(chat.Clean(text))
	for i, r := range runes {
		n := next
		if i+1 < len(runes) {
			n = runes[i+1]
		}
		last := i+1 == len(runes)
		if r == ' ' && prev == 0 { // four of them at the start of a line would make a code block
			continue
		}
		escapeRune(b, r, prev, n, last, runes[i:])
		prev = r
	}
}

func escapeRune(b *strings.Builder, r, prev, next rune, last bool, rest []rune) {
	word := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }
	spaced := next == 0 || next == ' '
	bare := prev == 0 || prev == ' '
	switch {
	case strings.ContainsRune("`*_[]|>", r),
		(r == '-' || r == '+') && bare,
		r == ')' && unicode.IsDigit(prev),
		r == '.' && (!spaced || unicode.IsDigit(prev)),
		r == '!' && last && next != 0: // an exclamation mark before a link makes it an image
		b.WriteByte('\\')
		b.WriteRune(r)
	case r == '\\':
		b.WriteByte('\\')
		if last || !word(next) && next != ' ' {
			b.WriteByte('\\')
		}
	case r == '@':
		b.WriteString("@" + zwsp)
	case r == '#', r == '~':
		b.WriteByte('\\')
		b.WriteRune(r)
		if !spaced {
			b.WriteString(zwsp)
		}
	case r == ':' && !spaced && (!unicode.IsDigit(prev) || !unicode.IsDigit(next)):
		b.WriteString(":" + zwsp) // http://, mailto:x, :emoji:, :)
	case r == '=' && prev == 0: // a line of them makes the line above a heading
		b.WriteString(zwsp + "=")
	case r == '<':
		b.WriteString("&lt;")
	case r == '$': // formulas
		b.WriteString("&#36;")
	case r == '&' && entity(rest):
		b.WriteString("&amp;")
	default:
		b.WriteRune(r)
	}
}

// entity reports whether text that begins with & would be read as an HTML entity.
func entity(rest []rune) bool {
	for i, r := range rest[1:] {
		switch {
		case r == ';':
			return i > 0
		case r == '#' && i == 0, r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)), r == '_':
		default:
			return false
		}
	}
	return true // the rest may follow in the next span
}

// codeSpan shows foreign text in a fixed width. Nothing in it is Markdown; only the fence has to
// be longer than any in the text.
func codeSpan(text string) string {
	text = strings.TrimSpace(chat.Clean(text))
	if text == "" {
		return ""
	}
	fence := strings.Repeat("`", longestRun(text, '`')+1)
	pad := ""
	if strings.HasPrefix(text, "`") || strings.HasSuffix(text, "`") {
		pad = " "
	}
	return fence + pad + text + pad + fence
}

// codeBlock shows lines as they are.
func codeBlock(text string) string {
	text = strings.TrimRight(chat.CleanLines(text), "\n\t ")
	if text == "" {
		return ""
	}
	fence := strings.Repeat("`", max(3, longestRun(text, '`')+1))
	return fence + "\n" + text + "\n" + fence
}

func longestRun(s string, of rune) int {
	longest, run := 0, 0
	for _, r := range s {
		if r == of {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest
}

// linkTarget returns raw as it can stand in a Markdown link, empty unless it is a web address.
func linkTarget(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(raw) > 2048 {
		return ""
	}
	var b strings.Builder
	for _, c := range []byte(u.String()) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("()<>\"'`\\*[]{}|^$@", c) >= 0 {
			b.WriteString("%" + strings.ToUpper(hexByte(c)))
		} else {
			b.WriteByte(c)
		}
	}
	// A host that needs quoting is none.
	if quoted, err := url.Parse(b.String()); err != nil || quoted.Host != u.Host {
		return ""
	}
	return b.String()
}

func hexByte(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}

// plainText neutralises text for a place that Mattermost shows without Markdown, such as a footer.
// Clients that show Markdown there anyway find no mention and no link either.
func plainText(text string) string {
	var b strings.Builder
	runes := []rune(chat.Clean(text))
	for i, r := range runes {
		b.WriteRune(r)
		if i+1 == len(runes) || runes[i+1] == ' ' {
			continue
		}
		digits := i > 0 && unicode.IsDigit(runes[i-1]) && unicode.IsDigit(runes[i+1])
		if strings.ContainsRune("@#~]<", r) || r == ':' && !digits || (r == '.' || r == '/') && !digits {
			b.WriteString(zwsp)
		}
	}
	return b.String()
}
