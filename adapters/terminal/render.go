package terminal

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"ocim/adapters/chat"
)

// Codes of ECMA-48 that every terminal of the last decades knows.
const (
	reset = "\x1b[0m"
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	amber = "\x1b[33m"
	blue  = "\x1b[34m"
)

func (t *Terminal) style(code, s string) string {
	if t.cfg.Size == nil {
		return s
	}
	return code + s + reset
}

// layout renders one post into lines of at most width columns. Foreign text is cleaned of control
// characters, so a log line cannot move the cursor or colour the screen.
func (t *Terminal) layout(p *Post, width int) []string {
	if p.Author != "" {
		return wrap(t.style(dim, p.Author+"> ")+t.inline(first(p.Message.Blocks)), width)
	}
	bar := t.style(colour(p.Message.Tone), "┃") + " "
	var out []string
	indent := ""
	if p.Thread != "" {
		indent = "    "
	}
	add := func(s string) {
		for _, l := range wrap(s, width-len(indent)-2) {
			out = append(out, indent+bar+l)
		}
	}
	if p.Private != "" {
		bar = t.style(dim, "┊") + " "
	}
	if len(p.Message.Blocks) == 0 {
		add(chat.Clean(p.Message.Summary))
	}
	for _, b := range p.Message.Blocks {
		switch b.Kind {
		case chat.Heading:
			add(t.style(bold, t.plain(b.Text)))
		case chat.Paragraph:
			for l := range strings.SplitSeq(t.inline(b.Text), "\n") {
				add(l)
			}
		case chat.Context:
			for l := range strings.SplitSeq(t.plain(b.Text), "\n") {
				add(t.style(dim, l))
			}
		case chat.Fields:
			for _, e := range b.Fields {
				add(t.style(dim, fmt.Sprintf("%-10s", chat.Clean(e.Label))) + " " + t.inline(e.Text))
			}
		case chat.Code:
			for l := range strings.SplitSeq(chat.CleanLines(b.Code), "\n") {
				add(t.style(dim, "│ ") + l)
			}
		case chat.Divider:
			add(strings.Repeat("─", 20))
		}
	}
	if line := t.buttonLine(p); line != "" {
		add(line)
	}
	return out
}

func first(blocks []chat.Block) chat.Text {
	if len(blocks) == 0 {
		return nil
	}
	return blocks[0].Text
}

func (t *Terminal) buttonLine(p *Post) string {
	var parts []string
	for i, b := range p.Message.Buttons {
		if b.URL != "" {
			parts = append(parts, chat.Clean(b.Label)+" ↗")
			continue
		}
		if n := t.numberOf(p, i); n > 0 {
			parts = append(parts, t.style(bold, fmt.Sprintf("[%d]", n))+" "+chat.Clean(b.Label))
		}
	}
	return strings.Join(parts, "   ")
}

func (t *Terminal) plain(text chat.Text) string {
	var b strings.Builder
	for _, s := range text {
		if s.Style == chat.Break {
			b.WriteByte('\n')
			continue
		}
		b.WriteString(chat.Clean(s.Text))
	}
	return b.String()
}

func (t *Terminal) inline(text chat.Text) string {
	var b strings.Builder
	for _, s := range text {
		clean := chat.Clean(s.Text)
		switch s.Style {
		case chat.Break:
			b.WriteByte('\n')
		case chat.Bold:
			b.WriteString(t.style(bold, clean))
		case chat.Mono:
			b.WriteString(t.style(blue, clean))
		case chat.Mention:
			b.WriteString(t.style(bold, "@"+clean))
		case chat.Plain, chat.Italic, chat.Link:
			b.WriteString(clean)
		}
	}
	return b.String()
}

func colour(t chat.Tone) string {
	switch t {
	case chat.ToneGood:
		return green
	case chat.ToneBad:
		return red
	case chat.ToneWarn:
		return amber
	case chat.ToneBusy:
		return blue
	case chat.ToneNeutral:
	}
	return dim
}

// wrap breaks a line that is wider than width, not counting escape codes, at blanks if it can.
func wrap(s string, width int) []string {
	width = max(width, 20)
	var out []string
	for visible(s) > width {
		cut, blank, n := len(s), -1, 0
		for i := 0; i < len(s); {
			if s[i] == '\x1b' {
				i += escapeLen(s[i:])
				continue
			}
			if n == width {
				cut = i
				break
			}
			if s[i] == ' ' && n > width/2 {
				blank = i
			}
			_, size := utf8.DecodeRuneInString(s[i:])
			i += size
			n++
		}
		if blank > 0 {
			out = append(out, s[:blank])
			s = s[blank+1:]
			continue
		}
		out = append(out, s[:cut])
		s = s[cut:]
	}
	return append(out, s)
}

func visible(s string) int {
	n := 0
	for i := 0; i < len(s); {
		if s[i] == '\x1b' {
			i += escapeLen(s[i:])
			continue
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
		n++
	}
	return n
}

// escapeLen is the length of the escape code at the start of s; ours all end with m.
func escapeLen(s string) int {
	if i := strings.IndexByte(s, 'm'); i >= 0 {
		return i + 1
	}
	return len(s)
}
