package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ocim/internal/clock"
)

// The shape of the load, the same in all measurements.
const (
	conns   = 16
	perSec  = 300 // of the open loop: far above what any team types
	warmUp  = 300 * time.Millisecond
	tracked = 10_000
	mib     = 1 << 20
	// acceptedText is what stands in the answer to a deploy that is on disk.
	acceptedText = "Accepted: deploy of"
	// perSecond is more commands than the bot takes in a second, maxNames what its ocim.yaml can list.
	perSecond = 25_000
	maxNames  = 90_000
)

// commands measures B1 and B2: what one processor does of slash commands, all accepted ones on disk.
func (b *bench) commands(ctx context.Context) ([]row, error) {
	yard, err := b.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = yard.stop() }()
	var rs rounds
	for range b.rounds {
		var r round
		var count atomic.Int64
		closed(ctx, yard.address(), newCommands(&count, ""), conns, warmUp)
		r.bare = b.measure(ctx, "B1 bare", yard, func() outcome {
			return closed(ctx, yard.address(), newCommands(&count, ""), conns, b.duration)
		})
		if r.bot, err = b.commandRound(ctx); err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	rs, note := rs.clean()
	speed := rs.ratio(func(s stretch) float64 { return s.rate() })
	cpu := rs.ratio(func(s stretch) float64 { return float64(s.perRequest()) })
	return []row{
		{"B1", "durable acks of slash commands, 16 connections, ratio to bare", ">= 0.15", fmt.Sprintf("%.3f", speed), speed >= 0.15, note + "; every ack found on disk after a kill"},
		{"B2", "CPU for each of them, ratio to bare", "<= 5", fmt.Sprintf("%.1f", cpu), cpu <= 5, note},
	}, nil
}

// commandRound starts a bot with an empty store, loads it, kills it, and counts what is on disk.
func (b *bench) commandRound(ctx context.Context) (s stretch, err error) {
	names := min(maxNames, int(perSecond*(b.duration+warmUp).Seconds()))
	r, err := b.startBot(ctx, setup{instances: names})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	var count atomic.Int64
	warm := closed(ctx, r.address(), newCommands(&count, acceptedText), conns, warmUp)
	s = b.measure(ctx, "B1 ocim", r, func() outcome {
		return closed(ctx, r.address(), newCommands(&count, acceptedText), conns, b.duration)
	})
	if b.verbose {
		b.debugf("%s", r.work())
	}
	if err := r.stop(); err != nil {
		return s, err
	}
	acked := len(warm.took) + len(s.took)
	stored, err := accepted(ctx, r.dir)
	if err == nil && stored < acked {
		b.wrong = append(b.wrong, fmt.Sprintf("B1: %d commands acknowledged, %d on disk", acked, stored))
	}
	return s, err
}

// hooks measures B4: webhooks about pipelines that nobody was about to look at, so that each one
// changes something on disk before it is answered.
func (b *bench) hooks(ctx context.Context) (_ []row, err error) {
	yard, err := b.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = yard.stop() }()
	seeded, err := b.seed(ctx, seeds{running: int(20_000 * (b.duration + warmUp).Seconds()), due: asleep})
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(seeded)
	var rs rounds
	for range b.rounds {
		var r round
		var count atomic.Int64
		closed(ctx, yard.address(), newHooks(&count), conns, warmUp)
		r.bare = b.measure(ctx, "B4 bare", yard, func() outcome {
			return closed(ctx, yard.address(), newHooks(&count), conns, b.duration)
		})
		err := b.with(ctx, setup{store: seeded}, func(bot *bot) error {
			var count atomic.Int64
			closed(ctx, bot.address(), newHooks(&count), conns, warmUp)
			r.bot = b.measure(ctx, "B4 ocim", bot, func() outcome {
				return closed(ctx, bot.address(), newHooks(&count), conns, b.duration)
			})
			return nil
		})
		if err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	rs, note := rs.clean()
	speed := rs.ratio(func(s stretch) float64 { return s.rate() })
	return []row{{"B4", "webhooks to disk, 16 connections, ratio to bare", ">= 0.35", fmt.Sprintf("%.3f", speed), speed >= 0.35, note}}, nil
}

// people measures B3 and B7: what people feel at 300 commands a second, as usual, while strangers
// send as much that must be refused, and while neither GitLab nor chat answers.
func (b *bench) people(ctx context.Context) ([]row, error) {
	yard, err := b.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = yard.stop() }()
	d := 2 * b.duration
	var usual, attacked, hung rounds
	refused := 0
	names := min(maxNames, int(perSec*float64(b.rounds)*3*d.Seconds())+10_000)
	err = b.with(ctx, setup{instances: names}, func(bot *bot) error {
		var ignored, count atomic.Int64
		load := func(s server, count *atomic.Int64, accept string) func() outcome {
			return func() outcome { return open(ctx, s.address(), newCommands(count, accept), conns, perSec, d) }
		}
		open(ctx, bot.address(), newCommands(&count, acceptedText), conns, perSec, warmUp)
		valid := func() stretch { return b.measure(ctx, "B3 ocim", bot, load(bot, &count, acceptedText)) }
		mixed := func() stretch {
			return b.measure(ctx, "B7 ocim, half hostile", bot, func() outcome {
				over := make(chan outcome)
				go func() { over <- open(ctx, bot.address(), newHostile(), conns, perSec, d) }()
				o := load(bot, &count, acceptedText)()
				h := <-over
				refused += len(h.took)
				if h.bad > 0 {
					b.wrong = append(b.wrong, fmt.Sprintf("B7: %d hostile requests were not refused; the first: %s", h.bad, h.first))
				}
				return o
			})
		}
		for n := range b.rounds {
			plain := b.measure(ctx, "B3 bare", yard, load(yard, &ignored, ""))
			var v, m stretch
			if n%2 == 0 { // what comes second meets the work that the first has left
				v, m = valid(), mixed()
			} else {
				m, v = mixed(), valid()
			}
			usual = append(usual, round{plain, v})
			attacked = append(attacked, round{v, m})
		}
		if b.verbose {
			b.debugf("%s", bot.work())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if hung, err = b.hung(ctx, d); err != nil {
		return nil, err
	}
	p99 := func(s stretch) float64 { return float64(s.quantile(.99)) }
	kept, note := usual.clean()
	slow := kept.ratio(p99)
	var bots []time.Duration
	for _, r := range kept {
		bots = append(bots, r.bot.quantile(.99))
	}
	absolute := median(bots)
	var all []time.Duration
	for _, r := range hung {
		all = append(all, r.bot.took...)
	}
	slices.Sort(all)
	worst := quantile(all, .999)
	kept, noteHostile := attacked.clean()
	cost := kept.ratio(p99)
	return []row{
		{"B3", "p99 at 300/s, ratio to bare", "<= 4, < 10 ms", fmt.Sprintf("%.1f, %s", slow, ms(absolute)), slow <= 4 && absolute < 10*time.Millisecond, note},
		{"B3", "p99.9 at 300/s while GitLab and chat hang", "< 500 ms", ms(worst), worst < 500*time.Millisecond, fmt.Sprintf("%d requests", len(all))},
		{"B7", "p99 with as much hostile traffic, ratio to without", "< 2", fmt.Sprintf("%.2f", cost), cost < 2, fmt.Sprintf("%s; %d refused, 0 accepted", noteHostile, refused)},
	}, nil
}

// hung loads a bot whose peers take requests and never answer. Half of the time it has never seen
// the list of instances, which GitLab has.
func (b *bench) hung(ctx context.Context, d time.Duration) (rs rounds, err error) {
	defer b.peers.hang.Store(false)
	for range max(1, b.rounds/2) {
		for _, names := range []int{0, 10_000} {
			b.peers.hang.Store(true)
			err := b.with(ctx, setup{instances: names}, func(bot *bot) error {
				var count atomic.Int64
				s := b.measure(ctx, fmt.Sprintf("B3 ocim, peers hang, %d known", names), bot, func() outcome {
					return open(ctx, bot.address(), newCommands(&count, acceptedText), 4*conns, perSec, d)
				})
				rs = append(rs, round{bot: s})
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return rs, nil
}

// starts measures B5.
func (b *bench) starts(ctx context.Context) ([]row, error) {
	seeded, err := b.seed(ctx, seeds{running: tracked})
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(seeded)
	var rows []row
	for _, t := range []struct {
		what, store string
		want        time.Duration
	}{
		{"start to first ack, empty store", "", 100 * time.Millisecond},
		{"start to first ack, 10,000 open operations", seeded, 500 * time.Millisecond},
	} {
		var all []time.Duration
		for range 2 * b.rounds {
			took, err := b.firstAck(ctx, t.store)
			if err != nil {
				return nil, err
			}
			b.debugf("B5 %s: %v", t.what, took)
			all = append(all, took)
		}
		m := median(all)
		note := fmt.Sprintf("median of %d, %s to %s", len(all), ms(slices.Min(all)), ms(slices.Max(all)))
		rows = append(rows, row{"B5", t.what, "< " + ms(t.want), ms(m), m < t.want, note})
	}
	return rows, nil
}

func (b *bench) firstAck(ctx context.Context, seeded string) (took time.Duration, err error) {
	r, err := b.newBot(ctx, setup{store: seeded, instances: 100})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	b.idle(ctx)
	if err := r.Start(ctx); err != nil {
		return 0, err
	}
	c, s := newClient(r.address()), newCommands(new(atomic.Int64), acceptedText)()
	defer c.close()
	status, body, err := c.do(s.next(nil))
	took = time.Since(r.Began())
	if err == nil && !s.good(status, body) {
		b.wrong = append(b.wrong, fmt.Sprintf("B5: the first command was answered %d %.200q", status, body))
	}
	return took, err
}

// memory measures B6.
func (b *bench) memory(ctx context.Context) ([]row, error) {
	wait := 5 * time.Second
	if b.short {
		wait = 2 * time.Second
	}
	var idle, full footprint
	err := b.with(ctx, setup{}, func(bot *bot) error {
		var count atomic.Int64
		o := counted(ctx, bot.address(), newCommands(&count, ""), 1, 1)
		idle = memoryOf(bot, wait, o)
		return nil
	})
	if err != nil {
		return nil, err
	}
	seeded, err := b.seed(ctx, seeds{running: tracked, due: asleep})
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(seeded)
	err = b.with(ctx, setup{store: seeded}, func(bot *bot) error {
		var count atomic.Int64
		o := counted(ctx, bot.address(), newHooks(&count), conns, tracked)
		full = memoryOf(bot, wait, o)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []row{
		{"B6", "resident memory, idle", "< 40 MiB", mebibytes(idle.rss), idle.rss < 40*mib, idle.note()},
		{"B6", "resident memory, 10,000 tracked pipelines after a webhook for each", "< 64 MiB", mebibytes(full.rss), full.rss < 64*mib, full.note()},
	}, nil
}

// footprint is the memory of a bot: what is resident, the most that ever was, and what of it is not
// the program's own file, which the kernel shares and may drop.
type footprint struct{ rss, peak, anonymous int64 }

func memoryOf(r *bot, wait time.Duration, o outcome) footprint {
	_ = clock.Sleep(context.Background(), clock.System{}, wait)
	u, err := r.Usage()
	if err != nil || o.bad > 0 {
		return footprint{rss: 1 << 40}
	}
	return footprint{u.RSS, u.PeakRSS, anonymous(r.pid())}
}

func anonymous(pid int) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "RssAnon:")
	var kib int64
	_, _ = fmt.Sscan(after, &kib)
	return kib << 10
}

func (f footprint) note() string {
	return fmt.Sprintf("%s without the program's file, peak %s", mebibytes(f.anonymous), mebibytes(f.peak))
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/mib) }

// with runs f with a bot that has started.
func (b *bench) with(ctx context.Context, s setup, f func(*bot) error) error {
	r, err := b.startBot(ctx, s)
	if err != nil {
		return err
	}
	return errors.Join(f(r), r.remove())
}

// seed makes a store in a folder of its own.
func (b *bench) seed(ctx context.Context, s seeds) (string, error) {
	dir, err := os.MkdirTemp(b.dir, "store-")
	if err != nil {
		return "", err
	}
	return dir, s.fill(ctx, dir)
}
