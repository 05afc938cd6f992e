package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"ocim/adapters/chat"
	"ocim/ops"
)

// ErrQuit is returned by Run when the person left.
var ErrQuit = errors.New("left the terminal")

// Run reads lines until the person leaves, in ends, or ctx does.
func (t *Terminal) Run(ctx context.Context, in io.Reader) error {
	t.enter()
	defer t.leave()
	lines := make(chan string)
	go func() { // ends with in; a read from a terminal cannot be called back
		defer close(lines)
		s := bufio.NewScanner(in)
		for s.Scan() {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		t.prompt()
		select {
		case line, ok := <-lines:
			if !ok {
				return ErrQuit
			}
			if err := t.Type(ctx, line); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Type handles one line: a command, the number of a button, an answer to a dialog, or a line that
// begins with a colon and is for the terminal itself.
func (t *Terminal) Type(ctx context.Context, line string) error {
	line = strings.TrimSpace(line)
	t.mu.Lock()
	who, dialog := t.who, t.dialog
	t.mu.Unlock()
	switch {
	case line == ":quit" || line == ":q" || line == "exit":
		return ErrQuit
	case strings.HasPrefix(line, ":"):
		t.colon(strings.Fields(line[1:]))
	case dialog != nil:
		t.answerDialog(ctx, line)
	case line == "":
	default:
		t.echo(who, line)
		if n, err := strconv.Atoi(line); err == nil {
			t.press(ctx, n)
			return nil
		}
		text := strings.TrimSpace(strings.TrimPrefix(line, t.cfg.Trigger))
		t.send(ctx, chat.Incoming{Kind: chat.Command, Text: text})
	}
	return nil
}

func (t *Terminal) echo(who Person, line string) {
	t.add(&Post{Author: who.Name, Message: chat.Message{Summary: line, Blocks: []chat.Block{{Kind: chat.Paragraph, Text: chat.Text{{Text: line}}}}}})
}

func (t *Terminal) colon(ws []string) {
	switch {
	case len(ws) == 2 && ws[0] == "as":
		for _, p := range t.cfg.People {
			if strings.EqualFold(p.Name, ws[1]) {
				t.mu.Lock()
				t.who, t.dialog = p, nil
				t.mu.Unlock()
				t.Say("You are " + p.Name + " now.")
				return
			}
		}
		t.Say("There is nobody of that name. " + t.people())
	case len(ws) == 1 && ws[0] == "people":
		t.Say(t.people())
	case len(ws) == 1 && ws[0] == "esc":
		t.mu.Lock()
		t.dialog = nil
		t.mu.Unlock()
		t.Say("Closed.")
	default:
		t.Say("Type " + t.cfg.Trigger + " help, the number of a button, :as NAME, :people, :esc to close a form, or :quit.")
	}
}

func (t *Terminal) people() string {
	var names []string
	for _, p := range t.cfg.People {
		names = append(names, p.Name)
	}
	return "People: " + strings.Join(names, ", ") + "."
}

func (t *Terminal) press(ctx context.Context, n int) {
	t.mu.Lock()
	if n < 1 || n > len(t.numbers) {
		t.mu.Unlock()
		t.Say(fmt.Sprintf("There is no button %d.", n))
		return
	}
	was := t.numbers[n-1].label
	ref, token, ok := t.numbered(n)
	t.mu.Unlock()
	if !ok {
		t.Say(fmt.Sprintf("Button %d, %s, is gone; nothing was done.", n, chat.Clean(was)))
		return
	}
	t.send(ctx, chat.Incoming{Kind: chat.Click, Button: token, Message: ref})
}

// send hands one request of the current person to the handler and shows the answer.
func (t *Terminal) send(ctx context.Context, in chat.Incoming) chat.Answer {
	t.mu.Lock()
	t.count++
	in.Key = fmt.Sprintf("terminal:%s-%d", t.epoch, t.count)
	who := t.who
	t.mu.Unlock()
	in.Actor = ops.Actor{Platform: Name, Workspace: t.cfg.Workspace, UserID: who.ID}
	in.ActorName, in.From = who.Name, t.Here()
	in.Reply = replier{t, who}
	ans := t.handler.Handle(ctx, in)
	if ans.Message != nil {
		t.add(&Post{Private: who.Name, Message: *ans.Message})
	}
	return ans
}

type replier struct {
	t   *Terminal
	who Person
}

// OpenDialog implements [chat.Replier].
func (r replier) OpenDialog(_ context.Context, d chat.Dialog) error {
	r.t.openDialog(d)
	return nil
}

// Later implements [chat.Replier].
func (r replier) Later(_ context.Context, m chat.Message) error {
	r.t.add(&Post{Private: r.who.Name, Message: m})
	return nil
}
