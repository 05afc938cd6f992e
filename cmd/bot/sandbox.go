package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/terminal"
	"ocim/config"
	"ocim/internal/clock"
	"ocim/internal/redact"
	"ocim/ops"
)

func sandboxCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sandbox", Short: "try everything here: a simulated GitLab and a chat in this terminal", Args: noArgs,
		Long: "Runs the bot with its embedded store, a simulated GitLab with Grove's pipelines, and a chat in this terminal. Nothing leaves this machine.",
	}
	demo := c.Flags().Bool("demo", false, "play a story without a keyboard and print the transcript")
	data := c.Flags().String("data", "./data", "folder for the store and the log")
	speed := c.Flags().Float64("speed", 60, "how many times faster than life the pipelines run")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *speed <= 0 {
			return fmt.Errorf("%w: --speed must be more than 0", errUsage)
		}
		opt := sandboxOptions{data: *data, speed: *speed, in: c.InOrStdin(), out: c.OutOrStdout()}
		if *demo {
			return runDemo(c.Context(), opt)
		}
		return runSandbox(c.Context(), opt)
	}
	return c
}

type sandboxOptions struct {
	data  string
	speed float64
	in    io.Reader
	out   io.Writer
	plain bool // no painting, whatever out is
}

// sandbox is an App beside a simulated GitLab. It is wired like the real thing: the bot talks to
// GitLab over HTTP and gets its webhooks on the public listener.
type sandbox struct {
	app  *App
	lab  *gitlabtest.Server
	term *terminal.Terminal
	log  *os.File
}

// The sandbox's people: who may do everything, and who may only look.
const (
	sandboxProject = 42
	sandboxCluster = "eu"
)

func people() []terminal.Person {
	return []terminal.Person{{ID: "U-ALICE", Name: "alice"}, {ID: "U-BOB", Name: "bob"}, {ID: "U-CAROL", Name: "carol"}}
}

func newSandbox(ctx context.Context, opt sandboxOptions) (_ *sandbox, err error) {
	if err := os.MkdirAll(opt.data, 0o700); err != nil {
		return nil, fmt.Errorf("make the sandbox's folder: %w", err)
	}
	s := &sandbox{}
	s.log, err = os.OpenFile(filepath.Join(opt.data, "ocim.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's log: %w", err)
	}
	s.lab = gitlabtest.New(gitlabtest.Options{Clock: clock.System{}, Seed: sandboxProject, Speed: opt.speed, LedgerReads: 1000})
	if err := s.lab.Start("127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	defer func() {
		if err != nil {
			s.lab.Close()
			err = errors.Join(err, s.log.Close())
		}
	}()
	cfg, err := sandboxConfig(opt.data, s.lab)
	if err != nil {
		return nil, err
	}
	// The store outlives the process, so the pipelines that it tells of must as well.
	if err := s.lab.Keep(filepath.Join(opt.data, "gitlab.jsonl")); err != nil {
		return nil, fmt.Errorf("%w; to begin anew, remove the folder %s", err, opt.data)
	}
	log := slog.New(redact.New(cfg.Secrets()...).Handler(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelInfo})))
	s.term = terminal.New(terminal.Config{
		Workspace: "sandbox", Channel: "ops", Trigger: "/ocim", People: people(), Out: opt.out, Size: screenSize(opt), Clock: clock.System{}, Log: log,
	})
	rights := ops.NewStaticPolicy()
	for _, p := range []ops.Permission{ops.MayStart, ops.MayCancel, ops.MayRetry} {
		rights.Allow(terminal.Name, "sandbox", p, "U-ALICE", "U-CAROL")
	}
	s.app, err = newApp(ctx, cfg, appOptions{
		clock: clock.System{}, log: log, terminal: s.term, policy: rights,
		timing: ops.Timing{Fast: 500 * time.Millisecond, Slow: 2 * time.Second, Linger: 3 * time.Second, CardWait: time.Second},
	})
	if err != nil {
		return nil, err
	}
	s.term.Bind(guide{s.app.commands})
	if err := s.app.Listen(ctx); err != nil {
		return nil, errors.Join(err, s.app.store.Close(ctx))
	}
	s.lab.AddHook(sandboxProject, gitlabtest.Hook{URL: "http://" + s.app.public.Addr().String() + "/gitlab/webhook", Token: cfg.GitLab[0].WebhookTokens[0].Reveal()})
	return s, nil
}

// guide answers like the bot, except that a remedy in ocim.yaml, of which the sandbox has none,
// becomes one that works here.
type guide struct{ chat.Handler }

// Handle implements [chat.Handler].
func (g guide) Handle(ctx context.Context, in chat.Incoming) chat.Answer {
	ans := g.Handler.Handle(ctx, in)
	if ans.Message == nil {
		return ans
	}
	for _, b := range ans.Message.Blocks {
		for i, s := range b.Text {
			if strings.Contains(s.Text, "under may.") && strings.Contains(s.Text, "ocim.yaml") {
				b.Text[i].Text = "In this sandbox alice and carol may do everything: type :as alice."
			}
		}
	}
	return ans
}

// sandboxConfig writes the configuration as an operator would, and reads it the same way.
func sandboxConfig(data string, lab *gitlabtest.Server) (*config.Config, error) {
	secret := func() string {
		b := make([]byte, 24)
		_, _ = rand.Read(b) // never fails, see crypto/rand
		return hex.EncodeToString(b)
	}
	env := []string{
		"SANDBOX_KEY=" + secret(), "SANDBOX_READ=glpat-" + secret(), "SANDBOX_WRITE=glpat-" + secret(),
		"SANDBOX_TRIGGER=glptt-" + secret(), "SANDBOX_HOOK=" + secret(),
	}
	text := fmt.Sprintf(`
listen: {public: "127.0.0.1:0", admin: "127.0.0.1:0"}
store: {path: %q}
key: env:SANDBOX_KEY
gitlab:
  - {name: sandbox, url: %q, token: "env:SANDBOX_READ", write_token: "env:SANDBOX_WRITE", webhook_tokens: ["env:SANDBOX_HOOK"], rate: 100, timeout: 5s, linger: 5s}
projects:
  - {name: grove-eu, gitlab: sandbox, id: %d, ref: main, trigger_token: "env:SANDBOX_TRIGGER"}
clusters:
  - {name: %s, project: grove-eu, instances_from: instances}
operations:
  deploy:
    unverified: false
    follow_within: 20s
    params:
      - {name: version, to: "payload:TUTOR_VERSION", pattern: "[0-9]+(\\.[0-9]+)*", help: "Tutor version, such as 21.0.1"}
`, filepath.Join(data, "sandbox.db"), lab.URL(), sandboxProject, sandboxCluster)
	cfg, err := config.Parse("sandbox.yaml", []byte(text), env)
	if err != nil {
		return nil, fmt.Errorf("the sandbox's own configuration: %w", err)
	}
	p := cfg.Projects[0]
	lab.AddProject(gitlabtest.Project{
		ID: sandboxProject, Path: "example/grove-eu", DefaultBranch: "main", Behaviour: gitlabtest.Grove(),
		TriggerToken: p.TriggerToken.Reveal(), TriggerOwner: "ocim-bot",
		Instances: []string{"campus", "demo", "shop"},
		Tokens: []gitlabtest.Token{
			{Value: p.Token.Reveal(), User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"read_api"}},
			{Value: p.WriteToken.Reveal(), User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"api"}},
		},
	})
	// The first deploy of shop fails, as first deploys do; its retry works.
	lab.Override(sandboxProject, gitlabtest.Override{Instance: "shop", Operations: 1, FailJob: "init"})
	return cfg, nil
}

// Run works until the person leaves or ctx ends.
func (s *sandbox) Run(ctx context.Context, talk func(context.Context) error) error {
	defer s.log.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		s.lab.Run(ctx)
		s.lab.Close()
		return nil
	})
	g.Go(func() error { return s.app.Run(ctx) })
	g.Go(func() error {
		defer stop()
		return talk(ctx)
	})
	return g.Wait()
}

func runSandbox(ctx context.Context, opt sandboxOptions) error {
	s, err := newSandbox(ctx, opt)
	if err != nil {
		return err
	}
	s.term.Say("This is ocim's sandbox: a chat in which you deploy instances of a simulated cluster. Pipelines run " +
		fmt.Sprint(opt.speed) + " times faster than life. Try: /ocim deploy demo · /ocim deploy · /ocim help · :as bob · :quit")
	err = s.Run(ctx, func(ctx context.Context) error { return s.term.Run(ctx, opt.in) })
	if errors.Is(err, terminal.ErrQuit) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// screenSize returns how to ask for the size of the terminal, or nil if out is none.
func screenSize(opt sandboxOptions) func() (int, int) {
	f, ok := opt.out.(*os.File)
	if !ok || opt.plain {
		return nil
	}
	if _, _, ok := terminalSize(f); !ok {
		return nil
	}
	return func() (int, int) {
		w, h, ok := terminalSize(f)
		if !ok {
			return 80, 24
		}
		return w, h
	}
}
