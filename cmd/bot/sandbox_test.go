package main

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"ocim/adapters/terminal"
)

// sit runs a sandbox on the folder while f is at its keyboard.
func sit(t *testing.T, folder string, f func(context.Context, *demo) error) {
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
