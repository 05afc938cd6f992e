package terminal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/ops"
)

// desk is a terminal whose output a test reads, and a handler that a test writes.
type desk struct {
	*Terminal
	out *buffer

	mu     sync.Mutex
	seen   []chat.Incoming
	answer func(context.Context, chat.Incoming) chat.Answer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// take is what was written since the last take.
func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

func newDesk(t *testing.T, out io.Writer, size func() (int, int)) *desk {
	t.Helper()
	d := &desk{out: &buffer{}}
	if out == nil {
		out = d.out
	}
	d.Terminal = New(Config{
		Workspace: "sandbox", Channel: "ops", Trigger: "/ocim",
		People: []Person{{"U-ALICE", "alice"}, {"U-BOB", "bob"}}, Out: out, Size: size,
		Clock: clock.NewFake(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)), Log: slog.New(slog.DiscardHandler),
	})
	d.Bind(d)
	return d
}

// Handle implements [chat.Handler].
func (d *desk) Handle(ctx context.Context, in chat.Incoming) chat.Answer {
	d.mu.Lock()
	d.seen = append(d.seen, in)
	answer := d.answer
	d.mu.Unlock()
	if answer == nil {
		return chat.Answer{}
	}
	return answer(ctx, in)
}

func (d *desk) last(t *testing.T) chat.Incoming {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.seen) == 0 {
		t.Fatal("nothing reached the handler")
	}
	return d.seen[len(d.seen)-1]
}

// types types lines; every one must be understood.
func (d *desk) types(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if err := d.Type(t.Context(), l); err != nil {
			t.Fatalf("typing %q: %v", l, err)
		}
	}
}

func (d *desk) post(t *testing.T, m chat.Message) string {
	t.Helper()
	ref, err := d.Post(t.Context(), d.Here(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func card(state string, buttons ...string) chat.Message {
	m := chat.Message{
		Key: "k", Summary: state, Tone: chat.ToneBusy,
		Blocks: []chat.Block{
			{Kind: chat.Heading, Text: chat.Text{{Text: "deploy demo · " + state}}},
			{Kind: chat.Fields, Fields: []chat.Entry{{Label: "Instance", Text: chat.Text{{Style: chat.Bold, Text: "demo"}, {Text: " on eu"}}}}},
		},
	}
	for _, b := range buttons {
		m.Buttons = append(m.Buttons, chat.Button{Label: b, Verb: "verb", Token: "token of " + b})
	}
	return m
}

func TestTranscript(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil, nil)
	ref := d.post(t, card("running", "Cancel", "Logs"))
	if err := d.Update(t.Context(), d.Here(), ref, card("succeeded", "Logs")); err != nil {
		t.Fatal(err)
	}
	to := d.Here()
	to.Thread = ref
	loud := card("failed")
	loud.Broadcast = true
	for _, m := range []chat.Message{card("failed"), loud} {
		if _, err := d.Post(t.Context(), to, m); err != nil {
			t.Fatal(err)
		}
	}
	d.answer = func(context.Context, chat.Incoming) chat.Answer {
		return chat.Answer{Message: &chat.Message{Blocks: []chat.Block{{Kind: chat.Code, Code: "one\n\ttwo\x1b[31m"}}}}
	}
	d.types(t, "logs k")
	want := `┃ deploy demo · running
┃ Instance   demo on eu
┃ [1] Cancel   [2] Logs

✎ edited in place
┃ deploy demo · succeeded
┃ Instance   demo on eu
┃ [2] Logs

↳ in the thread
    ┃ deploy demo · failed
    ┃ Instance   demo on eu

↳ in the thread, and told in the channel
    ┃ deploy demo · failed
    ┃ Instance   demo on eu

alice> logs k

(only alice sees this)
┊ │ one
┊ │ 	two[31m

`
	if diff := cmp.Diff(d.out.take(), want); diff != "" {
		t.Errorf("transcript (-got +want):\n%s", diff)
	}
}

func TestTypedLines(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, typed, want string }{
		{"with the trigger", "/ocim deploy demo", "deploy demo"},
		{"without", "deploy demo", "deploy demo"},
		{"spaces", "   /ocim   status  ", "status"},
		{"the trigger alone", "/ocim", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, nil, nil)
			d.types(t, tt.typed)
			in := d.last(t)
			want := chat.Incoming{
				Kind: chat.Command, Text: tt.want, ActorName: "alice", From: d.Here(),
				Actor: ops.Actor{Platform: Name, Workspace: "sandbox", UserID: "U-ALICE"},
			}
			in.Key, in.Reply = "", nil
			if diff := cmp.Diff(in, want); diff != "" {
				t.Errorf("incoming (-got +want):\n%s", diff)
			}
		})
	}
}

func TestLinesForTheTerminalItself(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil, nil)
	for _, step := range []struct{ typed, want string }{
		{":as BOB", "You are bob now."},
		{":as eve", "nobody of that name. People: alice, bob."},
		{":people", "People: alice, bob."},
		{":what", ":as NAME, :people"},
		{":", ":as NAME, :people"},
		{":as", ":as NAME, :people"},
		{"5", "There is no button 5."},
		{"0", "There is no button 0."},
		{"", ""},
	} {
		d.out.take()
		d.types(t, step.typed)
		if got := d.out.take(); !strings.Contains(got, step.want) || step.want == "" && got != "" {
			t.Errorf("%q: got %q, want %q in it", step.typed, got, step.want)
		}
	}
	if len(d.seen) != 0 {
		t.Errorf("got requests %+v, want none", d.seen)
	}
	d.types(t, "whoami")
	if in := d.last(t); in.Actor.UserID != "U-BOB" || in.ActorName != "bob" {
		t.Errorf("got %+v, want bob's request", in)
	}
	for _, quit := range []string{":quit", ":q", "exit"} {
		if err := d.Type(t.Context(), quit); !errors.Is(err, ErrQuit) {
			t.Errorf("%q: got %v, want ErrQuit", quit, err)
		}
	}
}

func TestButtonsByNumber(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil, nil)
	old := d.post(t, card("old", "Cancel", "Logs"))
	recent := d.post(t, card("new", "Retry", "Logs"))
	presses := func(n, token, ref string) {
		t.Helper()
		d.types(t, n)
		if in := d.last(t); in.Kind != chat.Click || in.Button != token || in.Message != ref {
			t.Errorf("%s: got %+v, want a click with %q on %s", n, in, token, ref)
		}
	}
	presses("1", "token of Cancel", old)
	presses("2", "token of Logs", old)
	presses("3", "token of Retry", recent)
	presses("4", "token of Logs", recent)

	// The message changes between reading and typing: no number presses another button.
	if err := d.Update(t.Context(), d.Here(), old, card("failed", "Retry", "Logs")); err != nil {
		t.Fatal(err)
	}
	before := len(d.seen)
	d.out.take()
	d.types(t, "1")
	if got := d.out.take(); len(d.seen) != before || !strings.Contains(got, "Button 1, Cancel, is gone; nothing was done.") {
		t.Errorf("got %d more requests and %q, want none and that the button is gone", len(d.seen)-before, got)
	}
	presses("2", "token of Logs", old)
	presses("5", "token of Retry", old)

	// It comes back under its number.
	if err := d.Update(t.Context(), d.Here(), old, card("running", "Cancel", "Logs")); err != nil {
		t.Fatal(err)
	}
	presses("1", "token of Cancel", old)
}

func deploy() chat.Dialog {
	return chat.Dialog{
		Name: "deploy", Title: "Deploy", Submit: "Deploy", State: "s", Intro: "Choose.",
		Fields: []chat.Field{
			{Name: "instance", Label: "Instance", Kind: chat.FieldChoice, Options: []chat.Option{{Label: "demo on eu", Value: "eu/demo"}, {Label: "shop on eu", Value: "eu/shop"}}},
			{Name: "version", Label: "Version", Hint: "a tag", Kind: chat.FieldText},
			{Name: "why", Label: "Why", Kind: chat.FieldText, Optional: true},
		},
	}
}

// asks makes the handler open the dialog at a command, and refuse the version "bad".
func (d *desk) asks(dialog chat.Dialog) {
	d.answer = func(ctx context.Context, in chat.Incoming) chat.Answer {
		if in.Kind == chat.Command {
			_ = in.Reply.OpenDialog(ctx, dialog)
		}
		if in.Values["version"] == "bad" {
			return chat.Answer{Errors: map[string]string{"version": "no such version"}}
		}
		return chat.Answer{}
	}
}

func TestTranscriptShowsEveryQuestionOfADialog(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil, nil)
	d.asks(deploy())
	d.types(t, "deploy")
	for _, step := range []struct{ name, typed, want string }{
		{"nothing typed for a needed value", "", "│   1) demo on eu\n│   2) shop on eu\n╰─ Instance>\n\n"},
		{"a number chooses", "2", "│ a tag\n╰─ Version>\n\n"},
		{"a value", "bad", "╰─ Why (enter for none)>\n\n"},
		{
			"an optional one; the form comes back with what is wrong", "",
			"╭─ Deploy\n│ Choose.\n│ ⚠️ Version: no such version\n│   1) demo on eu\n│   2) shop on eu\n╰─ Instance (enter for eu/shop)>\n\n",
		},
		{"enter keeps what was typed before, but not what was refused", "", "│ ⚠️ Version: no such version\n│ a tag\n╰─ Version>\n\n"},
		{"so that something must be typed", "", "│ ⚠️ Version: no such version\n│ a tag\n╰─ Version>\n\n"},
		{"and a new value replaces it", "21.0.1", "╰─ Why (enter for none)>\n\n"},
		{"the end", "because", ""},
	} {
		d.out.take()
		d.types(t, step.typed)
		if got := d.out.take(); got != step.want {
			t.Errorf("%s: got\n%swant\n%s", step.name, got, step.want)
		}
	}
	want := map[string]string{"instance": "eu/shop", "version": "21.0.1", "why": "because"}
	if in := d.last(t); in.Kind != chat.Submit || in.State != "s" || in.Dialog != "deploy" || cmp.Diff(in.Values, want) != "" {
		t.Errorf("got %+v, want the form with %v", in, want)
	}
	if _, open := d.Asking(); open {
		t.Error("the form is still open")
	}
}

func TestChoiceIsCheckedAtItsPrompt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		typed string
		taken string // the value, or empty
		told  string
	}{
		{"a number", "2", "eu/shop", ""},
		{"a number of none", "9", "", "there is no choice 9."},
		{"zero", "0", "", "there is no choice 0."},
		{"a value", "EU/Demo", "eu/demo", ""},
		{"a label", "demo on eu", "eu/demo", ""},
		{"the name alone", "shop", "eu/shop", ""},
		{"the beginning of a name", "dem", "", `"dem" is not one of them. Did you mean eu/demo?`},
		{"a slip", "dmeo", "", `"dmeo" is not one of them. Did you mean eu/demo?`},
		{"a name that two have", "twin", "", `"twin" is not one of them. Did you mean eu/twin, us/twin?`},
		{"one that the handler finds", "far", "eu/far", ""},
		{"nothing like them", "nonsense", "", `"nonsense" is not one of them.`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, nil, nil)
			dialog := deploy()
			f := &dialog.Fields[0]
			f.Kind, f.Default = chat.FieldSearch, ""
			f.Options = append(f.Options, chat.Option{Label: "twin on eu", Value: "eu/twin"}, chat.Option{Label: "twin on us", Value: "us/twin"})
			d.answer = func(ctx context.Context, in chat.Incoming) chat.Answer {
				switch {
				case in.Kind == chat.Command:
					_ = in.Reply.OpenDialog(ctx, dialog)
				case in.Kind == chat.Suggest && in.Text == "far" && in.State == "s" && in.Field == "instance":
					return chat.Answer{Options: []chat.Option{{Label: "far on eu", Value: "eu/far"}}}
				}
				return chat.Answer{}
			}
			d.types(t, "deploy")
			d.out.take()
			d.types(t, tt.typed)
			asked, _ := d.Asking()
			got := d.out.take()
			if tt.taken == "" {
				if asked != "instance" || !strings.Contains(got, "⚠️ Instance: "+tt.told) || !strings.HasSuffix(got, "╰─ Instance>\n\n") {
					t.Errorf("got %s, asked for %q, want %q and the same question", got, asked, tt.told)
				}
				return
			}
			d.types(t, "21.0.1", "")
			if in := d.last(t); in.Values["instance"] != tt.taken {
				t.Errorf("got %q, want %q; the terminal said %s", in.Values["instance"], tt.taken, got)
			}
		})
	}
}

func TestInvalidDefaultIsNotOffered(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil, nil)
	dialog := deploy()
	dialog.Fields[0].Default, dialog.Fields[1].Default = "eu/gone", "bad"
	d.asks(dialog)
	d.out.take()
	d.types(t, "deploy")
	if got := d.out.take(); !strings.HasSuffix(got, "╰─ Instance>\n\n") {
		t.Errorf("got %s, want no choice offered that is none", got)
	}
	d.types(t, "1")
	if got := d.out.take(); !strings.HasSuffix(got, "╰─ Version (enter for bad)>\n\n") {
		t.Errorf("got %s, want the default offered", got)
	}
	d.types(t, "", "") // sends it, and it comes back
	d.types(t, "7")
	if got := d.out.take(); !strings.HasSuffix(got, "⚠️ Instance: there is no choice 7.\n│   1) demo on eu\n│   2) shop on eu\n╰─ Instance (enter for eu/demo)>\n\n") {
		t.Errorf("got %s, want what was chosen before offered", got)
	}
	d.types(t, "")
	if got := d.out.take(); !strings.HasSuffix(got, "╰─ Version>\n\n") {
		t.Errorf("got %s, want no default offered that was refused", got)
	}
}

func TestDialogIsClosed(t *testing.T) {
	t.Parallel()
	confirm := chat.Dialog{Name: "sure", Title: "Really?", Submit: "Archive"}
	tests := []struct {
		name   string
		dialog chat.Dialog
		typed  string
		sent   bool
	}{
		{"by :esc", deploy(), ":esc", false},
		{"by another person", deploy(), ":as bob", false},
		{"by no", confirm, "no", false},
		{"by an empty line", confirm, "", false},
		{"by yes, which sends it", confirm, "Yes", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, nil, nil)
			d.asks(tt.dialog)
			d.types(t, "go")
			if _, open := d.Asking(); !open {
				t.Fatal("no dialog is open")
			}
			d.types(t, tt.typed)
			if _, open := d.Asking(); open {
				t.Error("the dialog is still open")
			}
			if in := d.last(t); (in.Kind == chat.Submit) != tt.sent {
				t.Errorf("got %+v, want it sent: %v", in, tt.sent)
			}
		})
	}
}

func TestRunEndsWithItsInputAndItsContext(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil, nil)
	if err := d.Run(t.Context(), strings.NewReader("/ocim help\n")); !errors.Is(err, ErrQuit) {
		t.Errorf("after the last line: got %v, want ErrQuit", err)
	}
	if in := d.last(t); in.Text != "help" {
		t.Errorf("got %+v, want the command", in)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, w := io.Pipe()
	defer w.Close()
	if err := d.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: got %v, want Canceled", err)
	}
}

func TestUntil(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil, nil)
	done := make(chan error, 1)
	go func() {
		done <- d.Until(t.Context(), func(posts []Post) bool { return len(posts) == 1 && posts[0].Edits == 1 })
	}()
	ref := d.post(t, card("running"))
	if err := d.Update(t.Context(), d.Here(), ref, card("succeeded")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("got %v, want no error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Until(ctx, func([]Post) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}
