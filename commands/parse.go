package commands

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"ocim/ops"
)

// maxText bounds what people may type; chat platforms allow far more.
const maxText = 4000

// maxWord bounds one positional argument. GitLab's longest names, those of jobs, have 255 characters.
const maxWord = 255

// words splits what a person typed. Single and double quotes keep blanks together, a backslash
// keeps the next character. What phones and desktop chats put in unasked is repaired: curly quotes,
// special blanks, and a long dash where a flag begins. Errors name the column.
func words(text string) ([]string, error) {
	if len(text) > maxText {
		return nil, invalid("That is too long: at most %d bytes.", maxText)
	}
	var out []string
	var word strings.Builder
	var quote rune
	started, opened := false, 0
	runes := []rune(repair(text))
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case r == '\\' && i+1 < len(runes) && quote != '\'':
			i++
			word.WriteRune(runes[i])
			started = true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '"' || r == '\'':
			quote, started, opened = r, true, i+1
		case unicode.IsSpace(r):
			if started {
				out = append(out, word.String())
				word.Reset()
				started = false
			}
		case longDash(r) && !started:
			word.WriteString("--")
			started = true
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if quote != 0 {
		return nil, invalid("The quote that opens at column %d does not close.", opened)
	}
	if started {
		out = append(out, word.String())
	}
	return out, nil
}

// longDash reports a dash that phones make of two hyphens. Inside a word or quotes it stays: there
// it belongs to what somebody wrote.
func longDash(r rune) bool { return r == '—' || r == '–' || r == '―' }

// repair undoes what input methods do to quotes, minus signs and blanks.
func repair(s string) string {
	return strings.NewReplacer(
		"“", `"`, "”", `"`, "„", `"`, "«", `"`, "»", `"`, "‘", "'", "’", "'", "‚", "'", "−", "-",
		"\u00a0", " ", "\u202f", " ", "\u2007", " ", "\u200b", "", "\u200c", "", "\u200d", "", "\ufeff", "",
	).Replace(s)
}

func invalid(format string, args ...any) error {
	return &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInvalidCommand, Msg: fmt.Sprintf(format, args...)}
}

// parse turns words into a call. The verb has been looked up already; ws holds what follows it.
func parse(cmd *Command, ws []string) (*Call, error) {
	c := &Call{Command: cmd, Args: map[string]string{}, Pairs: map[string]string{}}
	var free []string
	for _, w := range ws {
		key, value, pair := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(w, "-"):
			if err := c.flag(w); err != nil {
				return nil, err
			}
		case pair && key != "" && !strings.Contains(key, "/"):
			if !cmd.Pairs {
				return nil, &ops.Error{
					Code: ops.CodeInvalid, Reason: ops.ReasonUnknownParam,
					Msg: cmd.Name + " takes no key=value, but got " + quote(w) + ".", Next: usage(cmd),
				}
			}
			if _, twice := c.Pairs[key]; twice {
				return nil, invalid("%s is given twice.", quote(key))
			}
			c.Pairs[key] = value
		default:
			free = append(free, w)
		}
	}
	if len(free) > len(cmd.Params) {
		return nil, &ops.Error{
			Code: ops.CodeInvalid, Reason: ops.ReasonInvalidCommand, Next: usage(cmd),
			Msg: quote(free[len(cmd.Params)]) + " is one word too many; what holds blanks needs quotes.",
		}
	}
	for i, w := range free {
		p := cmd.Params[i]
		if len(w) > maxWord {
			return nil, invalid("%s is too long: at most %d bytes.", quote(w), maxWord)
		}
		if p.Fold {
			w = strings.ToLower(strings.TrimRight(w, ".,;!"))
		}
		c.Args[p.Name] = w
	}
	return c, nil
}

func (c *Call) flag(w string) error {
	name := strings.ToLower(strings.TrimLeft(w, "-"))
	known := []string{"help"}
	if c.Command.Mutates {
		known = append(known, "plan")
	}
	if !slices.Contains(known, name) {
		return &ops.Error{
			Code: ops.CodeInvalid, Reason: ops.ReasonInvalidCommand, Msg: c.Command.Name + " has no flag " + quote("--"+name) + ".",
			Next: usage(c.Command), Suggest: dashed(ops.Nearest(name, known, 2)),
		}
	}
	if name == "plan" {
		c.Plan = true
	}
	if name == "help" {
		c.Args["--help"] = "yes"
	}
	return nil
}

func dashed(names []string) []string {
	for i, n := range names {
		names[i] = "--" + n
	}
	return names
}

// missing is the error for an argument that was not given; what has its article.
func (c *Call) missing(what string) error {
	return &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInvalidCommand, Msg: c.Command.Name + " needs " + what + ".", Next: usage(c.Command)}
}

// usage is the one-line grammar of a command.
func usage(cmd *Command) string {
	var b strings.Builder
	b.WriteString("Usage: " + cmd.Name)
	for _, p := range cmd.Params {
		if p.Optional {
			b.WriteString(" [" + p.Name + "]")
		} else {
			b.WriteString(" <" + p.Name + ">")
		}
	}
	if cmd.Pairs {
		b.WriteString(" [key=value…]")
	}
	if cmd.Mutates {
		b.WriteString(" [--plan]")
	}
	return b.String()
}
