package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab"
	"ocim/adapters/terminal"
	"ocim/commands"
	"ocim/config"
	"ocim/internal/clock"
	"ocim/internal/redact"
	"ocim/notifier"
	"ocim/ops"
	"ocim/store"
	"ocim/templates"
)

// appOptions is what an App takes besides the configuration: the sandbox and tests give their own.
type appOptions struct {
	clock    clock.Clock
	log      *slog.Logger
	redact   *redact.Redactor // the log's; nil makes one
	timing   ops.Timing
	trigger  string
	terminal *terminal.Terminal
	policy   *ops.StaticPolicy        // nil: from the configuration
	chats    map[string]chat.Platform // further platforms, for tests
}

// runner is a part that works in the background until ctx ends.
type runner interface {
	Run(ctx context.Context) error
}

// App is the whole program, wired. This file is the only place where everything meets.
type App struct {
	cfg      *config.Config
	opt      appOptions
	metrics  *metrics
	store    *store.Store
	box      *store.Box
	service  *ops.Service
	notifier *notifier.Notifier
	commands *commands.Commands
	gitlab   *gitlab.Adapter
	mux      *http.ServeMux
	chats    map[string]chat.Platform
	runners  []runner
	reins    *reins
	reached  *health

	public, adminL net.Listener
}

// newApp opens the store and builds every part. Nothing talks to a peer yet.
func newApp(ctx context.Context, cfg *config.Config, opt appOptions) (_ *App, err error) {
	if opt.trigger == "" {
		opt.trigger = "/ocim"
	}
	if opt.redact == nil {
		opt.redact = redact.New(cfg.Secrets()...)
	}
	a := &App{cfg: cfg, opt: opt, metrics: newMetrics(), mux: http.NewServeMux(), chats: map[string]chat.Platform{}, reins: &reins{}}
	a.store, err = store.Open(ctx, store.Options{Path: cfg.Store.Path, Clock: opt.clock, Logger: opt.log, Metrics: a.metrics.store()})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.store.Close(context.WithoutCancel(ctx)))
		}
	}()
	signer, err := newSigner(cfg)
	if err != nil {
		return nil, err
	}
	if a.box, err = store.NewBox(cfg.Key, cfg.PreviousKeys...); err != nil {
		return nil, err
	}
	text, err := chat.LoadTemplates(templates.FS, cfg.Templates)
	if err != nil {
		return nil, err
	}
	if err := a.domain(signer); err != nil {
		return nil, err
	}
	a.commands = commands.New(commands.Config{
		Service: a.service, Templates: text, Trigger: opt.trigger, Log: opt.log, PerMinute: a.cfg.Limits.PerPerson,
		Platforms: func(name string) (chat.Platform, bool) { p, ok := a.chats[name]; return p, ok },
	})
	if err := a.platforms(signer); err != nil {
		return nil, err
	}
	a.reached = newHealth(a.chats, a.gitlab.Degraded, a.metrics.registry)
	if err := a.hooks(); err != nil {
		return nil, err
	}
	a.notifier = notifier.New(notifier.Config{
		Store: a.store, Platforms: a.chats, Templates: text, Signer: signer, Clock: opt.clock, Log: opt.log, Unverified: a.unverified,
	})
	return a, nil
}

// unverified reports whether the row of the operation table that op uses is marked so.
func (a *App) unverified(op ops.Operation) bool {
	_, action, err := a.service.Fleet.Action(op.Request.Target.Cluster, op.Request.Action)
	return err == nil && action.Unverified
}

func newSigner(cfg *config.Config) (*ops.Signer, error) {
	var previous [][]byte
	for _, k := range cfg.PreviousKeys {
		previous = append(previous, []byte(k.Reveal()))
	}
	return ops.NewSigner([]byte(cfg.Key.Reveal()), previous...)
}

// domain builds the service over GitLab.
func (a *App) domain(signer *ops.Signer) error {
	ps, err := projects(a.cfg)
	if err != nil {
		return err
	}
	timing := a.opt.timing
	timeout := time.Duration(0)
	for _, g := range a.cfg.GitLab {
		timing.Linger = max(timing.Linger, g.Linger)
		timeout = max(timeout, g.Timeout)
	}
	if timing.Fast == 0 {
		timing.Fast, timing.Slow = a.cfg.Polling.Fast, a.cfg.Polling.Slow
	}
	a.gitlab, err = gitlab.New(gitlab.Config{
		Projects: gitlabProjects(a.cfg), Rates: gitlabRates(a.cfg), Timeout: timeout, Clock: a.opt.clock, Logger: a.opt.log,
	})
	if err != nil {
		return err
	}
	rights := a.opt.policy
	if rights == nil {
		rights = policy(a.cfg)
	}
	a.service = ops.NewService(ops.Config{
		Store: a.store, Pipelines: a.gitlab, Repos: a.gitlab, Policy: rights, Signer: signer, Clock: a.opt.clock, Log: a.opt.log,
		Fleet: ops.NewFleet(ps, clusters(a.cfg), a.gitlab, a.opt.clock), Redact: a.opt.redact.String, Timing: timing,
	})
	return nil
}

// hooks puts GitLab's webhooks on the public listener, if there is a secret to check them with.
func (a *App) hooks() error {
	h, err := gitlab.NewHooks(gitlab.HooksConfig{
		Hosts: hookHosts(a.cfg), Projects: gitlabProjects(a.cfg), MaxBody: a.cfg.Limits.GitLabBody, Clock: a.opt.clock, Logger: a.opt.log,
		Sink: func(ctx context.Context, h gitlab.Hint) error {
			return a.mark(ctx, h)
		},
	})
	if errors.Is(err, gitlab.ErrNoHookSecret) {
		a.opt.log.Info("no webhook secret is configured: GitLab is polled only")
		return nil
	}
	if err != nil {
		return err
	}
	a.mux.Handle("POST /gitlab/webhook", h)
	return nil
}

// Listen opens both listeners, so that a port that is taken stops the start.
func (a *App) Listen(ctx context.Context) (err error) {
	if a.public, err = listen(ctx, a.cfg.Listen.Public); err != nil {
		return err
	}
	a.adminL, err = listen(ctx, a.cfg.Listen.Admin)
	if err != nil {
		return errors.Join(err, a.public.Close())
	}
	return nil
}

// Run works until ctx ends or a part fails: it answers, advances and delivers. Then it stops in the
// order in which requests flow: the public listener, what works behind it, the store. What has begun
// may come to its end; what takes longer than 15 s is cut off, and taken up at the next start.
func (a *App) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	behind, stopBehind := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBehind()
	last, stopLast := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLast()
	front, back, admins := &parts{fail: fail}, &parts{fail: fail}, &parts{fail: fail}

	places := max(1, a.cfg.Limits.InFlight)
	crowd := newCrowd(a.public, a.opt.clock, connections(places), a.metrics)
	public := newGuard(a.mux, places, crowd.makeRoom, a.metrics, a.opt.clock, a.opt.log)
	admins.start(func() error {
		inner := admin(a.metrics, func(c context.Context) error { return a.ready(c, ctx) })
		return serve(last, a.adminL, a.reached.tell(inner), a.opt.clock, a.opt.log)
	})
	back.start(func() error { return a.store.Work(behind, ops.JobAdvance, 10, a.reins.job(a.service.Advance)) })
	back.start(func() error { return a.store.Work(behind, ops.JobDeliver, 10, a.reins.job(a.notifier.Deliver)) })
	back.start(func() error { return a.tick(behind) })
	back.start(func() error { a.watchTokens(behind); return nil })
	for _, r := range a.runners {
		back.start(func() error { return r.Run(behind) })
	}
	front.start(func() error { return serve(ctx, crowd, public, a.opt.clock, a.opt.log) })
	a.opt.log.Info("ocim is up", "public", a.public.Addr().String(), "admin", a.adminL.Addr().String())

	<-ctx.Done()
	a.opt.log.Info("ocim stops")
	ended := func() {
		front.running.Wait()
		stopBehind()
		public.close()
		back.running.Wait()
		for _, r := range a.runners {
			if w, ok := r.(interface{ Wait() }); ok {
				w.Wait() // answers that outlived their request
			}
		}
	}
	a.drain(ended)
	stopLast()
	wait(a.opt.clock, closeTime, admins.running.Wait)
	err := a.closeStore(context.WithoutCancel(ctx))
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	a.opt.log.Info("ocim has stopped")
	return err
}

// connections is how many connections the public listener keeps for so many places of a class: a
// burst of several times the places is told to come again rather than cut off.
func connections(places int) int { return 8*places + 64 }

// drain gives what has begun its time, then cuts it off.
func (a *App) drain(ended func()) {
	done := make(chan struct{})
	go func() { ended(); close(done) }()
	await := func() { <-done }
	if wait(a.opt.clock, drainTime, await) {
		return
	}
	a.opt.log.Warn("work was cut off to stop in time; the next start takes it up")
	a.reins.cutAll()
	if !wait(a.opt.clock, cutTime, await) {
		a.opt.log.Error("work did not end when it was cut off")
	}
}

func (a *App) closeStore(ctx context.Context) error {
	ctx, cancel := clock.WithTimeout(ctx, a.opt.clock, closeTime)
	defer cancel()
	return a.store.Close(ctx)
}

// ready says whether requests can be answered; running ends when they are taken no longer.
func (a *App) ready(ctx, running context.Context) error {
	if running.Err() != nil {
		return errors.New("stopping")
	}
	if err := a.reached.ready(); err != nil {
		return err
	}
	return a.store.View(ctx, func(ops.Reader) error { return nil })
}

// tickEvery is how often the store is swept for work that has lost its wake-up. Nothing depends on
// it while everything works.
const tickEvery = 30 * time.Second

// recover fills a lost store again from what the pipelines carry, and reports whether all of them
// could be read: a GitLab that is away when the bot starts is asked again.
func (a *App) recover(ctx context.Context) bool {
	n, err := a.service.Recover(ctx)
	if n > 0 {
		a.opt.log.Info("recovered operations from GitLab", "count", n)
	}
	if err != nil {
		a.opt.log.Warn("look for operations of a lost store", "err", err)
	}
	return err == nil
}

func (a *App) tick(ctx context.Context) error {
	recovered, try := false, 0
	for n := 0; ; n++ {
		if woken, err := a.store.Sweep(ctx); err != nil {
			a.opt.log.Warn("sweep", "err", err)
		} else if woken > 0 {
			a.opt.log.Info("swept", "count", woken)
		}
		if !recovered && n >= try {
			recovered = a.recover(ctx)
			try = n + min(max(1, n), 120) // each time after twice as long, at last once an hour
		}
		if n%120 == 0 { // once an hour
			if err := a.store.Prune(ctx); err != nil {
				a.opt.log.Warn("prune", "err", err)
			}
		}
		if err := clock.Sleep(ctx, a.opt.clock, tickEvery); err != nil {
			return nil //nolint:nilerr // the end of ctx is how it ends
		}
	}
}

// markWithin bounds how long a webhook waits for the store. GitLab waits for 10 s, and switches a
// webhook off that fails again and again.
const markWithin = 2500 * time.Millisecond

// mark turns a webhook into a wake-up. Nothing that it says is believed.
func (a *App) mark(ctx context.Context, h gitlab.Hint) error {
	ctx, cancel := clock.WithTimeout(ctx, a.opt.clock, markWithin)
	defer cancel()
	n, err := a.store.MarkHook(ctx, store.Hook{Project: h.Project, Pipeline: h.PipelineID, Parent: h.ParentID, Number: h.Number, Key: h.Key})
	if err == nil && n == 0 {
		a.opt.log.Debug("webhook of a pipeline that is not ours", "project", h.Project, "pipeline", h.PipelineID)
	}
	return err
}
