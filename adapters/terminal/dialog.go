package terminal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ocim/adapters/chat"
	"ocim/ops"
)

// openDialog asks for the fields of a dialog one after the other.
type openDialog struct {
	dialog chat.Dialog
	at     int
	values map[string]string
	errors map[string]string // by field, with what was refused in bad
	bad    map[string]string
}

func (t *Terminal) openDialog(d chat.Dialog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dialog = &openDialog{dialog: d, values: map[string]string{}, errors: map[string]string{}, bad: map[string]string{}}
	t.showDialog(t.dialog.lines())
}

// showDialog shows the dialog as it is now, and tells those who wait. lines are what a transcript
// prints of it. The caller holds the lock.
func (t *Terminal) showDialog(lines []string) {
	if t.cfg.Size == nil {
		_, _ = fmt.Fprint(t.cfg.Out, strings.Join(wrapDialog(lines, transcriptWidth), "\n")+"\n\n")
	} else {
		t.paint()
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// wrapDialog breaks the lines of a dialog that are wider than width, within its frame.
func wrapDialog(lines []string, width int) []string {
	const bar = "│ "
	var out []string
	for _, l := range lines {
		text, inside := strings.CutPrefix(l, bar)
		for i, part := range wrap(text, width-len([]rune(bar))) {
			if inside || i > 0 {
				part = bar + part
			}
			out = append(out, part)
		}
	}
	return out
}

// Asking reports whether a dialog is open, and for which field it waits; an empty field means that
// it waits for yes or no.
func (t *Terminal) Asking() (field string, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dialog == nil {
		return "", false
	}
	if f, ok := t.dialog.field(); ok {
		return f.Name, true
	}
	return "", true
}

func (d *openDialog) field() (chat.Field, bool) {
	if d.at >= len(d.dialog.Fields) {
		return chat.Field{}, false
	}
	return d.dialog.Fields[d.at], true
}

func (d *openDialog) ask() string {
	f, ok := d.field()
	if !ok {
		return chat.Clean(d.dialog.Submit) + "? yes/no>"
	}
	s := chat.Clean(f.Label)
	switch old := d.offered(f); {
	case old != "":
		s += " (enter for " + chat.Cut(chat.Clean(old), 40) + ")"
	case f.Optional:
		s += " (enter for none)"
	}
	return s + ">"
}

// offered is what an empty line stands for: what was typed before the dialog was sent back, or else
// the field's default. What is known to be refused is not offered.
func (d *openDialog) offered(f chat.Field) string {
	fits := func(v string) bool {
		_, known := choice(f.Options, v)
		return (d.errors[f.Name] == "" || v != d.bad[f.Name]) && (f.Kind != chat.FieldChoice || known)
	}
	if old, ok := d.values[f.Name]; ok && fits(old) {
		return old
	}
	if fits(f.Default) {
		return f.Default
	}
	return ""
}

// lines is the whole dialog: what was answered and what is asked now.
func (d *openDialog) lines() []string {
	out := []string{"╭─ " + chat.Clean(d.dialog.Title)}
	if d.dialog.Intro != "" {
		out = append(out, "│ "+chat.Clean(d.dialog.Intro))
	}
	for i, f := range d.dialog.Fields {
		if i < d.at {
			out = append(out, "│ "+chat.Clean(f.Label)+": "+chat.Clean(d.values[f.Name]))
		}
		if i != d.at {
			out = append(out, d.trouble(f)...)
		}
	}
	return append(out, d.question()...)
}

// trouble is what is wrong with a field, if anything.
func (d *openDialog) trouble(f chat.Field) []string {
	if e := d.errors[f.Name]; e != "" {
		return []string{"│ ⚠️ " + chat.Clean(f.Label) + ": " + chat.Clean(e)}
	}
	return nil
}

// maxOptions bounds the options that are listed; others can be typed.
const maxOptions = 20

// question is what is asked now.
func (d *openDialog) question() []string {
	var out []string
	if f, ok := d.field(); ok {
		out = d.trouble(f)
		for n, o := range f.Options {
			if n == maxOptions {
				out = append(out, "│   …")
				break
			}
			out = append(out, fmt.Sprintf("│   %d) %s", n+1, chat.Clean(o.Label)))
		}
		if f.Hint != "" {
			out = append(out, "│ "+chat.Clean(f.Hint))
		}
	}
	return append(out, "╰─ "+d.ask())
}

// answerDialog takes one line as the answer to what is asked, and asks the next thing or sends the
// dialog.
func (t *Terminal) answerDialog(ctx context.Context, line string) {
	t.mu.Lock()
	d := t.dialog
	f, asking := d.field()
	if line == "" && asking {
		line = d.offered(f)
	}
	t.mu.Unlock()
	var more []chat.Option
	if _, known := choice(f.Options, line); asking && f.Kind == chat.FieldSearch && line != "" && !known {
		more = t.send(ctx, chat.Incoming{Kind: chat.Suggest, Dialog: d.dialog.Name, State: d.dialog.State, Field: f.Name, Text: line}).Options
	}
	t.mu.Lock()
	if asking {
		if !d.answer(f, line, more) || d.at < len(d.dialog.Fields) {
			t.showDialog(d.question())
			t.mu.Unlock()
			return
		}
	} else if yes := strings.ToLower(line); yes != "yes" && yes != "y" {
		t.dialog = nil
		t.mu.Unlock()
		t.Say("Closed; nothing was done.")
		return
	}
	t.dialog = nil
	t.mu.Unlock()
	ans := t.send(ctx, chat.Incoming{Kind: chat.Submit, Dialog: d.dialog.Name, State: d.dialog.State, Values: maps.Clone(d.values)})
	if len(ans.Errors) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dialog = &openDialog{dialog: d.dialog, values: d.values, errors: maps.Clone(ans.Errors), bad: maps.Clone(d.values)}
	t.showDialog(t.dialog.lines())
}

// answer takes line as the value of f and goes on to the next field. It reports false, and stays,
// if a value is needed and none was given, or if it is not among those to choose from, which are the
// field's and more.
func (d *openDialog) answer(f chat.Field, line string, more []chat.Option) bool {
	if line == "" && !f.Optional {
		return false
	}
	if line != "" && (f.Kind == chat.FieldChoice || f.Kind == chat.FieldSearch) {
		value, ok := choice(f.Options, line)
		if !ok {
			value, ok = choice(more, line)
		}
		if !ok {
			d.refuse(f, line, slices.Concat(f.Options, more))
			return false
		}
		line = value
	}
	delete(d.errors, f.Name)
	d.values[f.Name] = line
	d.at++
	return true
}

// refuse says that line is none of the options, and which ones it may have meant.
func (d *openDialog) refuse(f chat.Field, line string, all []chat.Option) {
	const most = 3
	lower := strings.ToLower(line)
	var near []string
	for _, o := range all {
		like := strings.Contains(strings.ToLower(o.Value+" "+o.Label), lower) || len(ops.Nearest(lower, []string{name(o)}, 1)) > 0
		if like && !slices.Contains(near, o.Value) {
			near = append(near, o.Value)
		}
	}
	text := fmt.Sprintf("%q is not one of them.", chat.Cut(line, 40))
	if _, err := strconv.Atoi(line); err == nil {
		text = fmt.Sprintf("there is no choice %s.", chat.Cut(line, 40))
	} else if len(near) > 0 {
		text += " Did you mean " + strings.Join(near[:min(most, len(near))], ", ") + "?"
	}
	d.errors[f.Name], d.bad[f.Name] = text, line
}

// choice finds the option that line stands for: by its number, by its value or label, or by its name
// if no other option has it.
func choice(options []chat.Option, line string) (value string, ok bool) {
	if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(options) {
		return options[n-1].Value, true
	}
	found := 0
	for _, o := range options {
		if strings.EqualFold(line, o.Value) || strings.EqualFold(line, o.Label) {
			return o.Value, true
		}
		if strings.EqualFold(line, name(o)) {
			value = o.Value
			found++
		}
	}
	return value, found == 1
}

// name is what stands behind the last slash of an option's value: the instance of cluster/instance.
func name(o chat.Option) string { return o.Value[strings.LastIndexByte(o.Value, '/')+1:] }
