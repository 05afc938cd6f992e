package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"ocim/adapters/terminal"
)

// sit runs a sandbox on the folder while f is at its keyboard, and returns what f saw.
func sit(t *testing.T, folder string, f func(context.Context, *demo) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	out := &bytes.Buffer{}
	s, err := newSandbox(ctx, sandboxOptions{data: folder, speed: 600, out: out, plain: true})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(ctx, func(ctx context.Context) error {
		if err := f(ctx, &demo{sandbox: s, out: out}); err != nil {
			return err
		}
		return terminal.ErrQuit
	})
	if !errors.Is(err, terminal.ErrQuit) {
		t.Fatalf("got %v, want the person to leave\n%s", err, out.String())
	}
	return out.String()
}

func TestSandboxGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var first int64
	sit(t, folder, func(ctx context.Context, d *demo) error {
		from := len(d.term.Posts())
		if err := d.typed(ctx, "/ocim deploy demo", "Accepted"); err != nil {
			return err
		}
		if err := d.until(ctx, from, "deploy of demo", "deploy demo · running"); err != nil {
			return err
		}
		first = d.lab.Pipelines(sandboxProject)[0].ID
		for _, p := range d.term.Posts() {
			if holds(p, []string{"not verified"}) {
				t.Errorf("got %+v, want no word of a real project", p)
			}
		}
		return nil
	})
	sit(t, folder, func(ctx context.Context, d *demo) error {
		if got := d.lab.Pipelines(sandboxProject)[0].ID; got != first {
			t.Errorf("got first pipeline %d after a restart, want %d", got, first)
		}
		if err := d.until(ctx, 0, "deploy of demo after a restart", "demo", "succeeded"); err != nil {
			return err
		}
		return d.typed(ctx, "/ocim operations", "Last operations", "succeeded")
	})
}

func TestSandboxTellsWhatHelpsThere(t *testing.T) {
	t.Parallel()
	saw := sit(t, t.TempDir(), func(ctx context.Context, d *demo) error {
		if err := d.term.Type(ctx, ":as bob"); err != nil {
			return err
		}
		return d.typed(ctx, "/ocim deploy demo", "You may not start operations", ":as alice")
	})
	if strings.Contains(saw, "ocim.yaml") {
		t.Errorf("got\n%s\nwant no word of a file that is not there", saw)
	}
}

// TestDemoEndsWithTheBook: what happened is told before it is counted.
func TestDemoEndsWithTheBook(t *testing.T) {
	t.Parallel()
	out := &bytes.Buffer{}
	if err := runDemo(t.Context(), sandboxOptions{speed: 400, out: out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	story, book, ok := strings.Cut(out.String(), "── What GitLab has in its book ──")
	if !ok || strings.ContainsAny(book, "┃┊") {
		t.Errorf("got %q at the end, want nothing of the story", book)
	}
	for _, want := range []string{"demo on eu succeeded", "shop on eu failed", "shop on eu succeeded", "campus on eu was canceled"} {
		if n := strings.Count(story, want); n != 1 {
			t.Errorf("got %q told %d times, want once", want, n)
		}
	}
}
