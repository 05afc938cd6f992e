//go:build e2e

package chaos

import (
	"context"
	"slices"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
)

// drain is how long the program may take to end in good order.
const drain = 20 * time.Second

// TestF04_TerminatedMidWork ends the program with SIGTERM again and again while people ask and work
// is under way. It ends by itself in time, everything that it accepted is done after the next
// start, and, since nothing was cut off, no message stands twice.
func TestF04_TerminatedMidWork(t *testing.T) {
	t.Parallel()
	s := seed(t)
	w, err := newWorld(t, setup{seed: s, instances: 12, findable: 1, blind: 1, hooks: true})
	if err != nil {
		t.Fatal(err)
	}
	w.lab.Inject(gitlabtest.Fault{Route: "trigger", Probability: .2, Do: gitlabtest.DropAfter()})
	w.lab.Inject(gitlabtest.Fault{Route: "trigger", Probability: .3, Do: gitlabtest.Delay(300 * time.Millisecond)})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	wait := w.load(ctx, t, 6, 300*time.Millisecond)
	var ends []time.Duration
	for range max(5, number(t, "KILLS", 0)/10) {
		if err := w.bot.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.sleep(t.Context(), time.Duration(50+w.roll(1000))*time.Millisecond)
		ends = append(ends, w.terminate(t))
	}
	stop()
	wait()
	if err := w.bot.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, took, err := w.finish(t.Context())
	if err != nil {
		t.Error(err)
	}
	w.report(t, v, took)
	median, most := spread(ends)
	t.Logf("%d ends by SIGTERM, %s median %s max", len(ends), median, most)
	if v.Accepted < len(ends) {
		t.Errorf("got %d deploys accepted, want at least %d: the load was no load", v.Accepted, len(ends))
	}
}

// terminate ends the program and returns how long it took.
func (w *world) terminate(t *testing.T) time.Duration {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), drain)
	defer stop()
	from := w.clock.Now()
	code, err := w.bot.Terminate(ctx)
	if err != nil || code != 0 {
		t.Errorf("SIGTERM: got exit code %d, %v after %s, want 0 within %s", code, err, w.clock.Now().Sub(from), drain)
	}
	return w.clock.Now().Sub(from)
}

// TestF04_TerminatedWhileGitLabHangs ends the program while GitLab, with the longest time-out that
// can be configured, has taken a request and does not answer it. The program does not wait for it,
// and finds the pipeline after the next start.
func TestF04_TerminatedWhileGitLabHangs(t *testing.T) {
	t.Parallel()
	w, err := newWorld(t, setup{seed: seed(t), instances: 1, findable: 1, timeout: 25 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: gitlabtest.HangAfter()})
	if err := w.bot.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := w.request()
	if err := w.ask(t.Context(), r, 0); err != nil || r.Said != Accepted {
		t.Fatalf("deploy: got %v, %v, want it accepted", r.Said, err)
	}
	if err := w.started(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	took := w.terminate(t)
	if w.bot.Running() {
		t.Fatal("the bot still runs")
	}
	if err := w.bot.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, quiet, err := w.finish(t.Context())
	if err != nil {
		t.Error(err)
	}
	w.report(t, v, quiet)
	if !slices.ContainsFunc(w.pipelines(), func(p Pipeline) bool { return p.Token == r.Token }) {
		t.Error("the pipeline is gone")
	}
	t.Logf("ended after %s", took.Round(time.Millisecond))
}
