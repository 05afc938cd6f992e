package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"ocim/internal/clock"
)

// The load of B8. Each operation's card changes every few seconds, below what the bot lets itself
// send to chat (a card every 3 s, 40 edits a minute in a workspace after 20 at once) and to GitLab
// (10 calls a second): those limits are politeness, not speed.
const (
	cardTeams  = 8
	cardOps    = 40
	cardsEvery = 500 * time.Millisecond
)

// cards measures B8: from a webhook to the edit of the card that shows what it told of.
func (b *bench) cards(ctx context.Context) ([]row, error) {
	seeded, err := b.seed(ctx, seeds{running: cardOps, due: asleep, teams: cardTeams})
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(seeded)
	total := 80
	if b.short {
		total = 16
	}
	var w watch
	w.begin(b.peers)
	defer b.peers.edited.Store(nil)
	err = b.with(ctx, setup{store: seeded, teams: cardTeams}, func(bot *bot) error {
		_ = clock.Sleep(ctx, clock.System{}, 2*time.Second) // what it does at the start is over
		c := newClient(bot.address())
		defer c.close()
		for i := range total {
			n := i % cardOps
			b.peers.done.Store(pipelineID(int64(n)), i/cardOps+1)
			w.sent(cardTS(n))
			status, _, err := c.do(appendHook(nil, int64(n)))
			if err != nil || status != 200 {
				return fmt.Errorf("a webhook was answered %d: %w\n%s", status, err, bot.Tail(5))
			}
			_ = clock.Sleep(ctx, clock.System{}, cardsEvery/2+rand.N(cardsEvery))
		}
		_ = clock.Sleep(ctx, clock.System{}, time.Second)
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	took := w.end()
	p99 := quantile(took, .99)
	if len(took) < total {
		p99 = time.Hour // an edit that never came
	}
	return []row{{
		"B8", "webhook to the edit of the card, p99", "< 250 ms", ms(p99), p99 < 250*time.Millisecond,
		fmt.Sprintf("%d of %d edits, p50 %s, worst %s", len(took), total, ms(quantile(took, .5)), ms(quantile(took, 1))),
	}}, nil
}

// watch pairs webhooks with the edits that follow.
type watch struct {
	mu   sync.Mutex
	open map[string]time.Time // by message: when its webhook was sent
	took []time.Duration
}

func (w *watch) begin(p *peers) {
	w.open = map[string]time.Time{}
	f := func(ts string, at time.Time) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if from, ok := w.open[ts]; ok {
			delete(w.open, ts)
			w.took = append(w.took, at.Sub(from))
		}
	}
	p.edited.Store(&f)
}

func (w *watch) sent(ts string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[ts] = time.Now()
}

func (w *watch) end() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.took)
	return w.took
}

// idleCPU measures B9: 10,000 pipelines in the store, 20 of which run.
func (b *bench) idleCPU(ctx context.Context) ([]row, error) {
	const running = 20
	settle, d := 5*time.Second, 15*time.Second
	if b.short {
		settle, d = 2*time.Second, 4*time.Second
	}
	seeded, err := b.seed(ctx, seeds{running: running, spread: 30 * time.Second, ended: tracked - running})
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(seeded)
	var used time.Duration
	var calls int64
	err = b.with(ctx, setup{store: seeded}, func(bot *bot) error {
		if err := clock.Sleep(ctx, clock.System{}, settle); err != nil {
			return err
		}
		from, asked := bot.cpu(), b.peers.gitlabCalls.Load()
		if err := clock.Sleep(ctx, clock.System{}, d); err != nil {
			return err
		}
		used, calls = bot.cpu()-from, b.peers.gitlabCalls.Load()-asked
		return nil
	})
	if err != nil {
		return nil, err
	}
	share := 100 * float64(used) / float64(d)
	return []row{{
		"B9", "CPU of one core, idle with 10,000 tracked pipelines, 20 of them running", "< 2 %", fmt.Sprintf("%.2f %%", share), share < 2,
		fmt.Sprintf("%.1f calls a minute to GitLab for each that runs", float64(calls)/d.Minutes()/running),
	}}, nil
}
