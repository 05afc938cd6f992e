package chattest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"unicode/utf8"

	"ocim/adapters/chat"
	"ocim/ops"
)

// Replier is the way back to the person who made one request. Like the real platforms it opens one
// dialog, and refuses a dialog that breaks a limit. Safe for concurrent use.
type Replier struct {
	Err error // refuses every dialog, if set

	mu     sync.Mutex
	dialog *chat.Dialog
	later  []chat.Message
}

// OpenDialog implements [chat.Replier].
func (r *Replier) OpenDialog(_ context.Context, d chat.Dialog) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := CheckDialog(d)
	switch {
	case r.Err != nil:
		return r.Err
	case err != nil:
		return &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "Chat cannot show this dialog.", Err: err}
	case r.dialog != nil:
		return &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "This request has opened a dialog already."}
	}
	r.dialog = &d
	return nil
}

// Later implements [chat.Replier].
func (r *Replier) Later(_ context.Context, m chat.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.later = append(r.later, m)
	return nil
}

// Dialog is the dialog that was opened, nil if there is none.
func (r *Replier) Dialog() *chat.Dialog {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dialog
}

// Said are the messages that came after the answer.
func (r *Replier) Said() []chat.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.later)
}

// CheckDialog reports every limit of [chat.Dialog] that d breaks. They are the smaller ones of
// Slack's (docs.slack.dev, reference/views and reference/block-kit) and Mattermost's (model/
// integration_action.go, DialogElement*MaxLength). An adapter may cut what is too long; what people
// then see is not what was meant.
func CheckDialog(d chat.Dialog) error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	short := func(what, s string, least, most int) {
		n := utf8.RuneCountInString(s)
		need(n >= least && n <= most, "%s %q has %d characters, want %d to %d", what, s, n, least, most)
	}
	short("name", d.Name, 1, 50)
	short("title", d.Title, 1, 24)
	short("submit", d.Submit, 1, 24)
	need(len(d.State) > 0 && len(d.State) <= 2000, "the state has %d bytes, want 1 to 2000", len(d.State))
	need(d.Intro != "" || len(d.Fields) > 0, "neither intro nor fields")
	short("intro", d.Intro, 0, 3000)
	seen := map[string]bool{}
	for _, f := range d.Fields {
		need(regexp.MustCompile(`^[A-Za-z0-9_]{1,50}$`).MatchString(f.Name) && !seen[f.Name], "field name %q is wrong or used twice", f.Name)
		seen[f.Name] = true
		short("label of "+f.Name, f.Label, 1, 24)
		short("hint of "+f.Name, f.Hint, 0, 150)
		errs = append(errs, checkField(f))
	}
	return errors.Join(errs...)
}

func checkField(f chat.Field) error {
	switch f.Kind {
	case chat.FieldText, chat.FieldLines:
		most := 150
		if f.Kind == chat.FieldLines {
			most = 3000
		}
		if f.MaxLen < 0 || f.MaxLen > most {
			return fmt.Errorf("field %s: MaxLen is %d, want at most %d", f.Name, f.MaxLen, most)
		}
		if f.MaxLen > 0 {
			most = f.MaxLen
		}
		if n := utf8.RuneCountInString(f.Default); n > most {
			return fmt.Errorf("field %s: the default has %d characters, want at most %d", f.Name, n, most)
		}
		return nil
	case chat.FieldChoice, chat.FieldSearch:
		return checkOptions(f)
	}
	return fmt.Errorf("field %s: unknown kind %q", f.Name, f.Kind)
}

func checkOptions(f chat.Field) error {
	if len(f.Options) > 100 || len(f.Options) == 0 && f.Kind == chat.FieldChoice {
		return fmt.Errorf("field %s: %d options, want 1 to 100", f.Name, len(f.Options))
	}
	found := f.Default == ""
	for _, o := range f.Options {
		if l, v := utf8.RuneCountInString(o.Label), utf8.RuneCountInString(o.Value); l == 0 || v == 0 || l > 75 || v > 75 {
			return fmt.Errorf("field %s: option %q (%q) is empty or too long", f.Name, o.Label, o.Value)
		}
		found = found || o.Value == f.Default
	}
	if !found {
		return fmt.Errorf("field %s: the default %q is no option", f.Name, f.Default)
	}
	return nil
}
