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
	at := place{prev: prev, number: prev == 0 || unicode.IsDigit(prev)}
	for i, r := range runes {
		if r == ' ' && at.prev == 0 { // four of them at the start of a line would make a code block
			continue
		}
		at.rest = runes[i+1:]
		at.next = next
		if len(at.rest) > 0 {
			at.next = at.rest[0]
		}
		escapeRune(b, r, at)
		at.prev, at.number = r, at.number && unicode.IsDigit(r)
	}
}

// place is what stands around a rune.
type place struct {
	prev, next rune
	number     bool // perhaps only digits since the start of the line, as in a numbered list
	rest       []rune
}

func escapeRune(b *strings.Builder, r rune, at place) {
	last := len(at.rest) == 0
	word := unicode.IsLetter(at.next) || unicode.IsDigit(at.next)
	spaced := at.next == 0 || at.next == ' '
	bare := at.prev == 0 || at.prev == ' '
	switch {
	case strings.ContainsRune("`*_[]|>", r),
		(r == '-' || r == '+') && bare,
		r == ')' && at.number,
		r == '.' && (!spaced || afterWWW(at.prev)), // evil.example/x, www.
		r == '!' && last && at.next != 0:           // an exclamation mark before a link makes it an image
		b.WriteByte('\\')
		b.WriteRune(r)
	case r == '\\':
		b.WriteByte('\\')
		if last || !word && at.next != ' ' {
			b.WriteByte('\\')
		}
	case r == '@':
		b.WriteString("@" + zwsp)
	case r == '#', r == '~':
		b.WriteByte('\\')
		b.WriteRune(r)
		if unicode.IsLetter(at.next) || r == '~' && !spaced {
			b.WriteString(zwsp)
		}
	case r == ':' && !spaced && (!unicode.IsDigit(at.prev) || !unicode.IsDigit(at.next)):
		b.WriteString(":" + zwsp) // http://, mailto:x, :emoji:, :)
	case r == '=' && at.prev == 0: // a line of them makes the line above a heading
		b.WriteString(zwsp + "=")
	case r == '<':
		b.WriteString("&lt;")
	case r == '$': // formulas
		b.WriteString("&#36;")
	case r == '&' && entity(at.rest):
		b.WriteString("&amp;")
	default:
		b.WriteRune(r)
	}
}

// afterWWW reports whether a dot after this rune may complete www. or www1. (or "1.", which begins a
// list).
func afterWWW(r rune) bool { return r == 'w' || r == 'W' || unicode.IsDigit(r) }

// entity reports whether & and this would be read as an HTML entity.
func entity(rest []rune) bool {
	for i, r := range rest {
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
