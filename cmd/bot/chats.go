package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"

	"github.com/spf13/cobra"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost"
	"ocim/adapters/slack"
	"ocim/adapters/terminal"
	"ocim/config"
	"ocim/internal/clock"
	"ocim/internal/redact"
	"ocim/internal/secret"
	"ocim/ops"
	"ocim/store"
)

// platforms builds the chat platforms and puts their routes on the public listener.
func (a *App) platforms(signer *ops.Signer) error {
	maps.Copy(a.chats, a.opt.chats)
	if t := a.opt.terminal; t != nil {
		t.Bind(a.commands)
		a.chats[terminal.Name] = t
	}
	if len(a.cfg.Slack) > 0 {
		s, err := slack.New(a.slackConfig(), handler{a.commands, a.reins})
		if err != nil {
			return err
		}
		a.chats[slack.Platform] = s
		a.runners = append(a.runners, s)
		for path, h := range s.Routes() {
			a.mux.Handle("POST "+path, h)
		}
	}
	if len(a.cfg.Mattermost) > 0 {
		m, err := mattermost.New(a.mattermostConfig(signer), handler{a.commands, a.reins})
		if err != nil {
			return err
		}
		a.chats[mattermost.Platform] = m
		a.runners = append(a.runners, m)
		a.mux.Handle("/mattermost/", m.Handler())
	}
	if len(a.chats) == 0 {
		return errors.New("no chat platform is configured: add slack or mattermost to the configuration")
	}
	return nil
}

func (a *App) slackConfig() slack.Config {
	c := slack.Config{Clock: a.opt.clock, Logger: a.opt.log, MaxBody: a.cfg.Limits.ChatBody}
	for _, w := range a.cfg.Slack {
		c.Workspaces = append(c.Workspaces, slack.Workspace{
			TeamID: w.Workspace, SigningSecrets: w.SigningSecrets, BotToken: w.BotToken, AppToken: w.AppToken,
			Socket: w.Mode == config.ModeSocket, Sockets: w.Sockets, APIURL: w.APIURL, History: w.History,
		})
	}
	return c
}

func mattermostServers(cfg *config.Config) []mattermost.Server {
	var out []mattermost.Server
	for _, m := range cfg.Mattermost {
		out = append(out, mattermost.Server{Name: m.Name, URL: m.URL, BotToken: m.BotToken, Teams: m.Teams, Command: m.Command, PathSecret: m.PathSecret})
	}
	return out
}

func (a *App) mattermostConfig(signer *ops.Signer) mattermost.Config {
	return mattermost.Config{
		Servers: mattermostServers(a.cfg), CallbackURL: a.callbackURL(), Signer: signer, Clock: a.opt.clock, Logger: a.opt.log,
		MaxBody: a.cfg.Limits.ChatBody, Tokens: tokens{a.store, a.box, a.opt.redact},
		Hint: "help | deploy <instance> | status | logs <operation>", About: "Deploy application instances and follow what happens",
	}
}

func (a *App) callbackURL() string { return a.cfg.PublicURL }

// tokens keeps the command tokens that Mattermost servers give, encrypted.
type tokens struct {
	store  *store.Store
	box    *store.Box
	redact *redact.Redactor
}

// Get implements [mattermost.TokenStore].
func (t tokens) Get(ctx context.Context, name string) (secret.Secret, bool, error) {
	text, err := t.store.Secret(ctx, name)
	if errors.Is(err, ops.ErrNotFound) {
		return secret.Secret{}, false, nil
	}
	if err != nil {
		return secret.Secret{}, false, err
	}
	s, err := t.box.Open(name, text)
	if errors.Is(err, store.ErrBox) {
		return secret.Secret{}, false, nil // encrypted under a key that is gone: a new token is made
	}
	t.redact.Add(s)
	return s, err == nil, err
}

// Put implements [mattermost.TokenStore].
func (t tokens) Put(ctx context.Context, name string, s secret.Secret) error {
	t.redact.Add(s)
	return t.store.PutSecret(ctx, name, t.box.Seal(name, s))
}

func setupCommand() *cobra.Command {
	c := &cobra.Command{Use: "setup", Short: "print what to set up in Slack, Mattermost and GitLab", Args: noArgs}
	path := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, missing, err := outline(*path)
		if err != nil {
			return err
		}
		if err := printSetup(cfg, c.OutOrStdout()); err != nil {
			return err
		}
		printMissing(missing, c.OutOrStdout())
		return nil
	}
	return c
}

// printMissing lists the secrets that are yet to be made. Whoever asks for the steps that make them
// cannot have them all.
func printMissing(missing config.Problems, out io.Writer) {
	if len(missing) == 0 {
		_, _ = fmt.Fprintln(out, "Every secret is in its place. Next: ocim check --connect")
		return
	}
	_, _ = fmt.Fprintln(out, "Still to do: these secrets are not in their places yet. key you make yourself: openssl rand -base64 48")
	for _, m := range missing {
		_, _ = fmt.Fprintln(out, "  "+m.String())
	}
	_, _ = fmt.Fprintln(out, "Then: ocim check --connect")
}

func printSetup(cfg *config.Config, out io.Writer) error {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	for _, w := range cfg.Slack {
		m, err := slack.Manifest(cfg.PublicURL, w.Mode == config.ModeSocket)
		if err != nil {
			return fmt.Errorf("manifest for Slack workspace %s: %w", w.Workspace, err)
		}
		p("Slack workspace %s\n", w.Workspace)
		p("1. https://api.slack.com/apps > Create New App > From a manifest. Choose the workspace and paste:\n\n%s\n", m)
		p("2. Install it to the workspace, and keep the bot token (xoxb-…) in the secret that bot_token names.")
		if w.Mode == config.ModeSocket {
			p("3. Basic Information > App-Level Tokens: make one with connections:write, for app_token.")
		} else {
			p("3. Basic Information > Signing Secret: keep it in the secret that signing_secrets names.")
		}
		p("4. Invite the bot to each channel it shall post in: /invite @ocim")
		p("5. With the scopes channels:history and groups:history, and history: true, a message whose post had no answer is looked for before it is sent again.\n")
	}
	for _, s := range mattermostServers(cfg) {
		p("%s", mattermost.SetupSteps(s, cfg.PublicURL))
	}
	for _, pr := range cfg.Projects {
		p("GitLab project %s (id %d)\n", pr.Name, pr.ID)
		p("1. A user of its own for the bot, Developer in the project, with the right to run pipelines on %s.", pr.Ref)
		p("2. As that user: a token with scope read_api for token, and one with scope api for write_token: it cancels")
		p("   pipelines, and starts them where an operation says start: pipeline. Without it ocim does neither.")
		p("3. As that user: Settings > CI/CD > Pipeline trigger tokens: make one for trigger_token. The token that reads must belong to the same")
		p("   user, since GitLab shows a pipeline's variables only to Maintainers and to whoever triggered it.")
		if cfg.PublicURL != "" {
			p("4. Settings > Webhooks: URL %s/gitlab/webhook, Pipeline events, and a secret token (webhook_tokens) or", cfg.PublicURL)
			p("   a signing token (webhook_signing_tokens, GitLab 19.1 or newer). Without a webhook everything works by polling, up to 30 s later.\n")
		}
	}
	return nil
}

// chatTries are the harmless questions that check --connect asks chat platforms, each workspace on
// its own, so that one does not hide another.
func chatTries(cfg *config.Config, m *mattermost.Adapter) ([]connectionTry, error) {
	var out []connectionTry
	all := (&App{cfg: cfg, opt: appOptions{clock: clock.System{}, log: slog.New(slog.DiscardHandler)}}).slackConfig()
	for i, w := range all.Workspaces {
		one := all
		one.Workspaces = all.Workspaces[i : i+1]
		s, err := slack.New(one, silentHandler{})
		if err != nil {
			return nil, err
		}
		at := fmt.Sprintf("slack[%d]", i)
		out = append(out, connectionTry{"slack workspace " + w.TeamID, at + ".api_url", at + ".bot_token", func(ctx context.Context) (string, error) {
			return "", s.Check(ctx)
		}})
	}
	for i, server := range cfg.Mattermost {
		at := fmt.Sprintf("mattermost[%d]", i)
		out = append(out, connectionTry{"mattermost server " + server.Name, at + ".url", at + ".bot_token", func(ctx context.Context) (string, error) {
			return "", m.Check(ctx, server.Name)
		}})
	}
	return out, nil
}

// buildChats makes the chat platforms as serve does, but with nothing behind them, and returns
// Mattermost, nil if there is none. No call is made.
func buildChats(cfg *config.Config) (m *mattermost.Adapter, err error) {
	app := &App{cfg: cfg, opt: appOptions{clock: clock.System{}, log: slog.New(slog.DiscardHandler)}}
	if len(cfg.Slack) > 0 {
		if _, err := slack.New(app.slackConfig(), silentHandler{}); err != nil {
			return nil, err
		}
	}
	if len(cfg.Mattermost) > 0 {
		signer, err := newSigner(cfg)
		if err != nil {
			return nil, err
		}
		c := app.mattermostConfig(signer)
		c.Tokens = noTokens{}
		if m, err = mattermost.New(c, silentHandler{}); err != nil {
			return nil, err
		}
	}
	return m, nil
}

type silentHandler struct{}

// Handle implements [chat.Handler].
func (silentHandler) Handle(context.Context, chat.Incoming) chat.Answer { return chat.Answer{} }

type noTokens struct{}

// Get implements [mattermost.TokenStore].
func (noTokens) Get(context.Context, string) (secret.Secret, bool, error) {
	return secret.Secret{}, false, nil
}

// Put implements [mattermost.TokenStore].
func (noTokens) Put(context.Context, string, secret.Secret) error { return nil }
