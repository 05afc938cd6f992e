package chat

import (
	"net/url"
	"strings"
)

// Foreign is text from outside: parameters, branch names, GitLab's messages, log lines. Printed in
// a template it is escaped, so that it can never become layout or markup. Every string that a
// template sees is Foreign.
type Foreign string

const markupChars = "\\*_`[]()<>#|!-~@"

// String returns the text escaped for the markup that Parse reads, on one line.
func (f Foreign) String() string {
	s := Clean(string(f))
	if !strings.ContainsAny(s, markupChars) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for _, r := range s {
		if strings.ContainsRune(markupChars, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// GoString is String, so that no way of formatting prints the text unescaped.
func (f Foreign) GoString() string { return f.String() }

// Parse turns the neutral markup of the templates into blocks. It knows, at the start of a line,
//
//	! text        the summary for notifications
//	# text        a heading
//	> text        small print
//	| label | text   a labelled value
//	---           a line across
//	TAB text      preformatted, nothing in it is markup
//
// and within a line *bold*, _italic_, `code`, [label](https://…) and <@id|name>. A backslash makes
// the next character plain. What does not fit is shown as it stands: Parse never fails.
func Parse(markup string) (blocks []Block, summary string) {
	var p parser
	for line := range strings.SplitSeq(markup, "\n") {
		line = strings.TrimRight(line, " \r")
		switch {
		case strings.HasPrefix(line, "\t"):
			p.code(line[1:])
		case strings.TrimSpace(line) == "":
			p.open = 0
		case strings.HasPrefix(line, "! "):
			summary = Inline(line[2:]).String()
		case strings.HasPrefix(line, "# "):
			p.add(Block{Kind: Heading, Text: Inline(line[2:])})
		case strings.HasPrefix(line, "> "):
			p.text(Context, Inline(line[2:]))
		case line == "---":
			p.add(Block{Kind: Divider})
		case strings.HasPrefix(line, "| "):
			p.field(line[2:])
		default:
			p.text(Paragraph, Inline(line))
		}
	}
	if summary == "" {
		summary = firstText(p.blocks)
	}
	return p.blocks, summary
}

func firstText(blocks []Block) string {
	for _, b := range blocks {
		if s := strings.TrimSpace(b.Text.String()); s != "" {
			return strings.ReplaceAll(s, "\n", " ")
		}
	}
	return ""
}

type parser struct {
	blocks []Block
	open   BlockKind // the kind of the last block while lines may still join it
}

func (p *parser) add(b Block) {
	p.blocks = append(p.blocks, b)
	p.open = 0
}

func (p *parser) last() *Block { return &p.blocks[len(p.blocks)-1] }

func (p *parser) text(kind BlockKind, t Text) {
	if p.open == kind {
		p.last().Text = append(append(p.last().Text, Span{Style: Break}), t...)
		return
	}
	p.add(Block{Kind: kind, Text: t})
	p.open = kind
}

func (p *parser) code(line string) {
	if p.open == Code {
		p.last().Code += "\n" + line
		return
	}
	p.add(Block{Kind: Code, Code: line})
	p.open = Code
}

func (p *parser) field(line string) {
	label, text, ok := cutUnescaped(line, '|')
	if !ok {
		p.text(Paragraph, Inline("| "+line))
		return
	}
	e := Entry{Label: Inline(strings.TrimSpace(label)).String(), Text: Inline(strings.TrimSpace(text))}
	if p.open == Fields {
		p.last().Fields = append(p.last().Fields, e)
		return
	}
	p.add(Block{Kind: Fields, Fields: []Entry{e}})
	p.open = Fields
}

func cutUnescaped(s string, sep byte) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// Inline parses the markup within one line.
func Inline(s string) Text {
	var t Text
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			t = append(t, Span{Text: plain.String()})
			plain.Reset()
		}
	}
	for i := 0; i < len(s); {
		if s[i] == '\\' && i+1 < len(s) {
			plain.WriteByte(s[i+1])
			i += 2
			continue
		}
		if span, n, ok := styled(s[i:]); ok {
			flush()
			t = append(t, span)
			i += n
			continue
		}
		plain.WriteByte(s[i])
		i++
	}
	flush()
	return t
}

// styled reads one styled span at the start of s and returns how many bytes it takes.
func styled(s string) (span Span, n int, ok bool) {
	var style Style
	var pair byte
	switch s[0] {
	case '*':
		style, pair = Bold, '*'
	case '_':
		style, pair = Italic, '_'
	case '`':
		style, pair = Mono, '`'
	case '[':
		return linkSpan(s)
	case '<':
		return mentionSpan(s)
	default:
		return span, 0, false
	}
	body, rest, found := cutUnescaped(s[1:], pair)
	if !found || body == "" {
		return span, 0, false
	}
	return Span{Style: style, Text: unescape(body)}, len(s) - len(rest), true
}

func linkSpan(s string) (span Span, n int, ok bool) {
	label, rest, found := cutUnescaped(s[1:], ']')
	if !found || !strings.HasPrefix(rest, "(") {
		return span, 0, false
	}
	target, rest, found := cutUnescaped(rest[1:], ')')
	if !found {
		return span, 0, false
	}
	n = len(s) - len(rest)
	if target = unescape(target); !SafeURL(target) {
		return Span{Text: unescape(label)}, n, true
	}
	return Span{Style: Link, Text: unescape(label), URL: target}, n, true
}

func mentionSpan(s string) (span Span, n int, ok bool) {
	body, rest, found := cutUnescaped(s[1:], '>')
	if !found || !strings.HasPrefix(body, "@") {
		return span, 0, false
	}
	id, name, _ := cutUnescaped(body[1:], '|')
	return Span{Style: Mention, User: unescape(id), Text: unescape(name)}, len(s) - len(rest), true
}

func unescape(s string) string {
	if !strings.Contains(s, "\\") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// SafeURL reports whether a link may lead to target: http or https, with a host, without
// credentials and without characters that end a link in any platform's markup.
func SafeURL(target string) bool {
	if len(target) > 2000 || strings.ContainsFunc(target, func(r rune) bool {
		return r <= 0x20 || r >= 0x7f || strings.ContainsRune("<>|\"'`\\^{}()[]*", r)
	}) {
		return false
	}
	u, err := url.Parse(target)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}
