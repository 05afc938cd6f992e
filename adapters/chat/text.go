package chat

import "strings"

// String is the text without styles, for notifications and terminals that have none.
func (t Text) String() string {
	var b strings.Builder
	for _, s := range t {
		if s.Style == Break {
			b.WriteByte('\n')
			continue
		}
		b.WriteString(s.Text)
	}
	return b.String()
}

// Clean makes foreign text safe to show on one line: control characters, line breaks, terminal
// escapes and characters that reorder or hide text are replaced or dropped. Renderers call it on
// every span; escaping for the platform's markup comes on top.
func Clean(s string) string { return clean(s, false) }

// CleanLines is Clean for preformatted text: line breaks and tabs stay.
func CleanLines(s string) string { return clean(s, true) }

func clean(s string, lines bool) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return unsafeRune(r) != keep }) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		switch unsafeRune(r) {
		case keep:
			b.WriteRune(r)
		case space:
			if lines && (r == '\n' || r == '\t') {
				b.WriteRune(r)
			} else if r != '\r' {
				b.WriteByte(' ')
			}
		case drop:
		}
	}
	return b.String()
}

type fate int

const (
	keep fate = iota
	space
	drop
)

// unsafeRune decides what becomes of one rune. Bidirectional controls can turn a sentence round
// (CVE-2021-42574), zero-width ones hide differences between names, tags smuggle text.
func unsafeRune(r rune) fate {
	switch {
	case r == '\n', r == '\t', r == '\r', r == '\u2028', r == '\u2029', r == '\u0085':
		return space
	case r < 0x20, r >= 0x7f && r < 0xa0, r == '\ufffd':
		return drop
	case r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff, r == 0x061c, r == 0x00ad:
		return drop
	case r >= 0xe0000 && r <= 0xe007f, r >= 0xfff9 && r <= 0xfffb:
		return drop
	}
	return keep
}

// Cut shortens s to at most n runes; what was cut is marked with an ellipsis. n must be positive.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	count := 0
	for i := range s {
		if count == n-1 {
			rest := s[i:]
			if len([]rune(rest)) > 1 {
				return s[:i] + "…"
			}
			return s
		}
		count++
	}
	return s
}

// CutFront keeps the last n runes of s, starting at a line break if there is one near.
func CutFront(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	tail := string(r[len(r)-n+1:])
	if i := strings.IndexByte(tail, '\n'); i >= 0 && i < len(tail)/4 {
		tail = tail[i+1:]
	}
	return "…" + tail
}
