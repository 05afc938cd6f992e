package terminal

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"ocim/adapters/chat"
)

// openDialog asks for the fields of a dialog one after the other.
type openDialog struct {
	dialog chat.Dialog
	at     int
	values map[string]string
	errors map[string]string
}

func (t *Terminal) openDialog(d chat.Dialog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dialog = &openDialog{dialog: d, values: map[string]string{}}
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

// offered is what an empty line stands for: what was typed before the dialog was sent back, or the
// field's default.
func (d *openDialog) offered(f chat.Field) string {
	if old, ok := d.values[f.Name]; ok {
		return old
	}
	return f.Default
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
		if e := d.errors[f.Name]; e != "" {
			out = append(out, "│ ⚠️ "+chat.Clean(f.Label)+": "+chat.Clean(e))
		}
	}
	return append(out, d.question()...)
}

// maxOptions bounds the options that are listed; others can be typed.
const maxOptions = 20

// question is what is asked now.
func (d *openDialog) question() []string {
	var out []string
	if f, ok := d.field(); ok {
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
	if f, ok := d.field(); ok {
		if !d.answer(f, line) || d.at < len(d.dialog.Fields) {
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
	t.dialog = &openDialog{dialog: d.dialog, values: d.values, errors: ans.Errors}
	t.showDialog(t.dialog.lines())
}

// answer takes line as the value of f and goes on to the next field. It reports false, and stays,
// if a value is needed and none was given. An empty line takes what is offered.
func (d *openDialog) answer(f chat.Field, line string) bool {
	if line == "" {
		line = d.offered(f)
	}
	if line == "" && !f.Optional {
		return false
	}
	if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(f.Options) {
		line = f.Options[n-1].Value
	}
	d.values[f.Name] = line
	d.at++
	return true
}
