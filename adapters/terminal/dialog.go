package terminal

import (
	"context"
	"fmt"
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
	if t.cfg.Size == nil {
		fmt.Fprint(t.cfg.Out, strings.Join(t.dialog.lines(), "\n")+"\n\n")
	} else {
		t.paint()
	}
	close(t.changed)
	t.changed = make(chan struct{})
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
	switch {
	case f.Default != "":
		s += " (enter for " + chat.Clean(f.Default) + ")"
	case f.Optional:
		s += " (enter for none)"
	}
	return s + ">"
}

func (d *openDialog) lines() []string {
	out := []string{"╭─ " + chat.Clean(d.dialog.Title)}
	if d.dialog.Intro != "" {
		out = append(out, "│ "+chat.Clean(d.dialog.Intro))
	}
	for i, f := range d.dialog.Fields {
		switch {
		case i < d.at:
			out = append(out, "│ "+chat.Clean(f.Label)+": "+chat.Clean(d.values[f.Name]))
		case i == d.at:
			for n, o := range f.Options {
				if n == 20 {
					out = append(out, "│   …")
					break
				}
				out = append(out, fmt.Sprintf("│   %d) %s", n+1, chat.Clean(o.Label)))
			}
			if f.Hint != "" {
				out = append(out, "│ "+chat.Clean(f.Hint))
			}
		}
		if e := d.errors[f.Name]; e != "" {
			out = append(out, "│ ⚠️ "+chat.Clean(f.Label)+": "+chat.Clean(e))
		}
	}
	return append(out, "╰─ "+d.ask())
}

// answerDialog takes one line as the answer to the field that is asked for.
func (t *Terminal) answerDialog(ctx context.Context, line string) {
	t.mu.Lock()
	d := t.dialog
	f, more := d.field()
	if more {
		if line == "" {
			line = f.Default
		}
		if line == "" && !f.Optional {
			t.mu.Unlock()
			return
		}
		if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(f.Options) {
			line = f.Options[n-1].Value
		}
		d.values[f.Name] = line
		d.at++
		_, more = d.field()
		if more || len(d.dialog.Fields) == 0 {
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
	ans := t.send(ctx, chat.Incoming{Kind: chat.Submit, Dialog: d.dialog.Name, State: d.dialog.State, Values: d.values})
	if len(ans.Errors) > 0 {
		t.mu.Lock()
		t.dialog = &openDialog{dialog: d.dialog, values: map[string]string{}, errors: ans.Errors}
		lines := t.dialog.lines()
		t.mu.Unlock()
		if t.cfg.Size == nil {
			fmt.Fprint(t.cfg.Out, strings.Join(lines, "\n")+"\n\n")
		}
	}
}
