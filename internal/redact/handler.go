package redact

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

const (
	maxLogged = 8 << 10  // bytes of one string in a log record
	maxRead   = 64 << 10 // bytes of it that are looked at
	margin    = 1 << 10  // bytes dropped before a cut, where half a secret may stand
)

// Handler returns a handler that passes records to next without secrets and without characters
// that could forge a line or steer a terminal. Messages, keys, and values of every kind but
// numbers, booleans and times are treated; errors, Stringers and other values become text first.
// Strings longer than 8 KiB are cut.
func (r *Redactor) Handler(next slog.Handler) slog.Handler { return &handler{r: r, next: next} }

type handler struct {
	r    *Redactor
	next slog.Handler
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, h.name(rec.Message).text, rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	return &handler{r: h.r, next: h.next.WithAttrs(clean)}
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{r: h.r, next: h.next.WithGroup(h.name(name).text)}
}

func (h *handler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	n := h.name(a.Key)
	key := n.text
	switch v.Kind() {
	case slog.KindGroup:
		members := make([]slog.Attr, len(v.Group()))
		for i, m := range v.Group() {
			members[i] = h.attr(m)
		}
		return slog.Attr{Key: key, Value: slog.GroupValue(members...)}
	case slog.KindString:
		return slog.String(key, h.named(n, v.String()))
	case slog.KindAny:
		if v.Any() == nil {
			return slog.Attr{Key: key, Value: v}
		}
		return slog.String(key, h.named(n, text(v.Any())))
	}
	return slog.Attr{Key: key, Value: v}
}

// named is the text of a value, or the mask if its name says that it is a secret.
func (h *handler) named(n name, value string) string {
	if value != "" && n.secret {
		return Mask
	}
	return h.text(value)
}

// name is what is known of a key or message.
type name struct {
	text   string // fit for a log
	secret bool   // as a key it says that its value is a secret
}

// names remembers keys and messages, which the program's code fixes and which are met again with
// every record: to look each of them over costs more than all the rest of a record. What is long, or
// comes when there are many, is not remembered.
type names struct {
	known sync.Map // string: name
	count atomic.Int32
}

const (
	maxNames   = 1024
	maxNameLen = 80
)

// forget is called when there are new secrets.
func (n *names) forget() {
	n.known.Clear()
	n.count.Store(0)
}

func (h *handler) name(s string) name {
	if v, ok := h.r.names.known.Load(s); ok {
		if n, ok := v.(name); ok {
			return n
		}
	}
	n := name{text: h.text(s), secret: secretName.MatchString(s)}
	if len(s) <= maxNameLen && h.r.names.count.Add(1) <= maxNames {
		h.r.names.known.Store(s, n)
	}
	return n
}

// text renders a value. fmt recovers from a String or Error method that panics.
func text(v any) string {
	switch v := v.(type) {
	case []byte:
		return string(v)
	case error, fmt.Stringer:
		return fmt.Sprintf("%v", v)
	}
	return fmt.Sprintf("%+v", v)
}

// text makes a string fit for a log.
func (h *handler) text(s string) string {
	whole := len(s)
	if whole > maxRead {
		s = s[:maxRead]
	}
	s = Visible(h.r.String(s))
	most := maxLogged
	if whole > maxRead {
		most = min(most, max(0, len(s)-margin))
	}
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return fmt.Sprintf("%s… (cut, %d bytes in all)", s[:most], whole)
}

// Visible writes control characters, line separators and characters that change the direction of
// writing as escapes, as Go does in string literals, so that text of others stays on its line and
// a terminal does nothing but show it. What is not UTF-8 becomes U+FFFD.
func Visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, c := range s { // yields U+FFFD for bytes that are no UTF-8
		switch {
		case !hidden(c):
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < 0x80:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			fmt.Fprintf(&b, `\U%08x`, c)
		}
	}
	return b.String()
}

// hidden reports whether a character acts rather than shows. The zero-width joiner and non-joiner
// are left, since scripts and emoji need them.
func hidden(c rune) bool {
	switch c {
	case 0x200c, 0x200d:
		return false
	case 0x2028, 0x2029:
		return true
	}
	return unicode.IsControl(c) || unicode.Is(unicode.Cf, c)
}
