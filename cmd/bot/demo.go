package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"ocim/adapters/terminal"
)

// demoTimeout bounds one step of the story; each takes a few seconds.
const demoTimeout = 60 * time.Second

// runDemo plays a story with one person at the keyboard of the sandbox, prints what they see, and
// fails if anything comes out otherwise than told.
func runDemo(ctx context.Context, opt sandboxOptions) error {
	dir, err := os.MkdirTemp("", "ocim-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a scratch folder
	opt.data, opt.plain, opt.speed = dir, true, max(opt.speed, 240)
	s, err := newSandbox(ctx, opt)
	if err != nil {
		return err
	}
	d := &demo{sandbox: s, out: opt.out}
	err = s.Run(ctx, d.story)
	if errors.Is(err, context.Canceled) && d.done {
		err = nil
	}
	if err == nil {
		_, _ = fmt.Fprintln(opt.out, "The story went as told.")
	}
	return err
}

type demo struct {
	*sandbox
	out  interface{ Write([]byte) (int, error) }
	done bool
}

func (d *demo) story(ctx context.Context) error {
	steps := []func(context.Context) error{d.help, d.deploy, d.refusals, d.failure, d.retry, d.cancel, d.ledger}
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(ctx, demoTimeout)
		err := step(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("the story went wrong: %w", err)
		}
	}
	d.done = true
	return nil
}

func (d *demo) tell(chapter string) {
	_, _ = fmt.Fprintf(d.out, "── %s ──\n\n", chapter)
}

// typed types a line and waits for a message that holds every one of the words.
func (d *demo) typed(ctx context.Context, line string, words ...string) error {
	before := len(d.term.Posts())
	if err := d.term.Type(ctx, line); err != nil {
		return err
	}
	return d.until(ctx, before, "after "+line, words...)
}

func (d *demo) until(ctx context.Context, from int, what string, words ...string) error {
	err := d.term.Until(ctx, func(posts []terminal.Post) bool {
		for _, p := range posts[min(from, len(posts)):] {
			if holds(p, words) {
				return true
			}
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("%s: no message with %q: %w", what, words, err)
	}
	return nil
}

func holds(p terminal.Post, words []string) bool {
	if p.Author != "" {
		return false
	}
	var text strings.Builder
	text.WriteString(p.Message.Summary)
	for _, b := range p.Message.Blocks {
		text.WriteString("\n" + b.Text.String() + "\n" + b.Code)
		for _, f := range b.Fields {
			text.WriteString("\n" + f.Label + " " + f.Text.String())
		}
	}
	for _, w := range words {
		if !strings.Contains(text.String(), w) {
			return false
		}
	}
	return true
}

func (d *demo) help(ctx context.Context) error {
	d.tell("Alice asks what the bot can do")
	return d.typed(ctx, "/ocim help", "/ocim deploy")
}

func (d *demo) deploy(ctx context.Context) error {
	d.tell("She looks at what a deploy would send, and deploys: one card, edited in place")
	if err := d.typed(ctx, "/ocim deploy demo --plan", "Nothing was sent", "INSTANCE_NAME"); err != nil {
		return err
	}
	from := len(d.term.Posts())
	if err := d.typed(ctx, "/ocim deploy demo version=21.0.1 why=\"new theme\"", "Accepted"); err != nil {
		return err
	}
	if err := d.until(ctx, from, "deploy of demo", "deploy demo · succeeded"); err != nil {
		return err
	}
	return d.until(ctx, from, "end of demo", "deploy of demo on eu succeeded")
}

func (d *demo) refusals(ctx context.Context) error {
	d.tell("A slip is met with a suggestion; Bob may look, not touch")
	if err := d.typed(ctx, "/ocim deploy dmeo", "Did you mean", "demo"); err != nil {
		return err
	}
	if err := d.term.Type(ctx, ":as bob"); err != nil {
		return err
	}
	if err := d.typed(ctx, "/ocim deploy demo", "You may not start operations", "not_allowed", ":as alice"); err != nil {
		return err
	}
	return d.term.Type(ctx, ":as alice")
}

func (d *demo) failure(ctx context.Context) error {
	d.tell("The first deploy of shop fails; the card says where, the thread holds the log, secrets redacted")
	from := len(d.term.Posts())
	if err := d.typed(ctx, "/ocim deploy shop", "Accepted"); err != nil {
		return err
	}
	if err := d.until(ctx, from, "deploy of shop", "deploy shop · failed", "init"); err != nil {
		return err
	}
	if err := d.until(ctx, from, "log of shop", "Last lines of", "secrets redacted"); err != nil {
		return err
	}
	return d.until(ctx, from, "end of shop", "deploy of shop on eu failed")
}

func (d *demo) retry(ctx context.Context) error {
	d.tell("She types retry; the same card goes through a second run")
	from := len(d.term.Posts())
	if err := d.typed(ctx, "/ocim retry shop", "Run 2"); err != nil {
		return err
	}
	if err := d.until(ctx, 0, "retry of shop", "deploy shop · succeeded", "run 2 by alice"); err != nil {
		return err
	}
	return d.until(ctx, from, "end of the retry", "deploy of shop on eu succeeded")
}

func (d *demo) cancel(ctx context.Context) error {
	d.tell("A deploy of campus is canceled while it runs: its children are canceled too")
	from := len(d.term.Posts())
	if err := d.typed(ctx, "/ocim deploy campus", "Accepted"); err != nil {
		return err
	}
	if err := d.until(ctx, from, "deploy of campus", "deploy campus · running"); err != nil {
		return err
	}
	if err := d.typed(ctx, "/ocim cancel campus", "Cancel is on its way"); err != nil {
		return err
	}
	if err := d.until(ctx, from, "cancel of campus", "deploy campus · canceled"); err != nil {
		return err
	}
	if err := d.until(ctx, from, "end of the cancel", "deploy of campus on eu was canceled"); err != nil {
		return err
	}
	return d.typed(ctx, "/ocim operations", "Last operations")
}

// ledger asks the other side: GitLab's own book says what was really started, and the terminal
// what was really posted.
func (d *demo) ledger(context.Context) error {
	d.tell("What GitLab has in its book")
	keys := d.lab.Keys()
	for key, pipelines := range keys {
		if len(pipelines) != 1 {
			return fmt.Errorf("key %s has pipelines %v, want exactly one", key, pipelines)
		}
	}
	cards := 0
	for _, p := range d.term.Posts() {
		if strings.HasSuffix(p.Message.Key, ".card.0") {
			cards++
		}
	}
	const requests, operations = 4, 3
	if len(keys) != requests || cards != operations {
		return fmt.Errorf("got %d started pipelines and %d cards, want %d and %d", len(keys), cards, requests, operations)
	}
	_, _ = fmt.Fprintf(d.out, "%d requests, %d pipelines started by them, %d cards.\n\n", requests, len(keys), cards)
	return nil
}
