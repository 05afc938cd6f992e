// Command ocim runs the life of application instances from chat: it turns slash commands and
// buttons into GitLab pipelines, exactly once each, and keeps one live card for each operation.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"ocim/config"
	"ocim/internal/clock"
	"ocim/internal/redact"
)

// version is set by the linker: -X main.version=….
var version = "dev"

// Exit codes.
const (
	exitFailed = 1 // something went wrong while it worked
	exitUsage  = 2 // the command line or the configuration is wrong
)

// errUsage marks errors of what the operator wrote.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with everything passed in, for tests.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := command(in, out, errOut)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		_, _ = fmt.Fprintln(errOut, err)
		return exitUsage
	}
	_, _ = fmt.Fprintln(errOut, "ocim:", err)
	return exitFailed
}

func command(in io.Reader, out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "ocim", Short: "deploy application instances from chat, through GitLab pipelines",
		SilenceUsage: true, SilenceErrors: true,
		Args: noArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddCommand(serveCommand(), checkCommand(), setupCommand(), sandboxCommand(), versionCommand())
	return root
}

// noArgs refuses arguments, and so commands that do not exist, as a mistake of whoever typed them.
func noArgs(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "ocim %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func configFlag(c *cobra.Command) *string {
	return c.Flags().String("config", "ocim.yaml", "the configuration file")
}

// load reads the configuration; what is wrong with it is the operator's to mend.
func load(path string) (*config.Config, error) {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not usable:\n%w", errUsage, path, err)
	}
	return cfg, nil
}

// outline reads the configuration without its secrets; missing are those that are yet to be made.
func outline(path string) (cfg *config.Config, missing config.Problems, err error) {
	cfg, missing, err = config.Outline(path, os.Environ())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s is not usable:\n%w", errUsage, path, err)
	}
	return cfg, missing, nil
}

// newLog returns a logger that redacts secrets and escapes control characters.
func newLog(cfg *config.Config, r *redact.Redactor, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		level = slog.LevelInfo
	}
	opt := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(w, opt)
	if cfg.Log.Format == "text" {
		h = slog.NewTextHandler(w, opt)
	}
	return slog.New(r.Handler(h))
}

func serveCommand() *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "run the bot", Args: noArgs}
	path := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(*path)
		if err != nil {
			return err
		}
		hide := redact.New(cfg.Secrets()...)
		log := newLog(cfg, hide, c.ErrOrStderr())
		for _, w := range cfg.Warnings {
			log.Warn("configuration", "err", w.String())
		}
		app, err := newApp(c.Context(), cfg, appOptions{clock: clock.System{}, log: log, redact: hide})
		if err != nil {
			return err
		}
		if err := app.Listen(c.Context()); err != nil {
			return errors.Join(err, app.store.Close(c.Context()))
		}
		return app.Run(c.Context())
	}
	return c
}
