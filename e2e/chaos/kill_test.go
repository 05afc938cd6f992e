//go:build e2e

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/e2e/process"
)

// Kills in an ordinary run; make chaos asks for 200.
const fewKills = 25

// TestF02_KilledAtRandomUnderLoad kills the program KILLS times while people ask for deploys and
// GitLab and chat lose answers, fail and dawdle. Afterwards each deploy that was accepted has
// exactly one pipeline, each card is final and right, and no message stands twice more often than
// the bot was killed or not answered.
func TestF02_KilledAtRandomUnderLoad(t *testing.T) {
	t.Parallel()
	kills := number(t, "KILLS", fewKills)
	s := seed(t)
	w, err := newWorld(t, setup{seed: s, instances: 24, findable: 2, blind: 1, hooks: true})
	if err != nil {
		t.Fatal(err)
	}
	w.storm()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	wait := w.load(ctx, t, 6, 300*time.Millisecond)
	when := rand.New(rand.NewPCG(s, 2)) // of its own, so that a seed gives the same moments
	recovering := 0
	for range kills {
		early, err := w.life(t.Context(), when)
		if err != nil {
			t.Fatal(err)
		}
		recovering += early
		// Now and then a deploy fails, so that failures are told rightly as well.
		if when.IntN(3) == 0 {
			w.lab.Override(project, gitlabtest.Override{FailJob: "deploy", Operations: 1})
		}
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
	t.Logf("%d kills in the first 100 ms of a start", recovering)
	w.report(t, v, took)
	if want := max(20, kills/4); v.Accepted < want {
		t.Errorf("got %d deploys accepted, want at least %d: the load was no load", v.Accepted, want)
	}
}

// life starts the program and kills it: in one life of five while it starts and recovers, in one of
// ten after it has worked for a while, and otherwise 5 to 400 ms after it was up.
func (w *world) life(ctx context.Context, when *rand.Rand) (early int, err error) {
	ms := func(from, to int) time.Duration { return time.Duration(from+when.IntN(to-from)) * time.Millisecond }
	w.kills++
	switch kind := when.IntN(10); {
	case kind < 2:
		started := make(chan error, 1)
		after := ms(5, 100)
		go func() { started <- w.bot.Start(ctx) }()
		w.sleep(ctx, after)
		killed := w.bot.Kill()
		if err := <-started; err != nil && !errors.Is(err, process.ErrEnded) {
			return 0, err
		}
		// The kill may have come before there was anything to kill.
		return 1, errors.Join(killed, w.bot.Kill())
	case kind < 3:
		if err := w.bot.Start(ctx); err != nil {
			return 0, err
		}
		w.sleep(ctx, ms(1500, 3000))
	default:
		if err := w.bot.Start(ctx); err != nil {
			return 0, err
		}
		w.sleep(ctx, ms(5, 400))
	}
	return 0, w.bot.Kill()
}
