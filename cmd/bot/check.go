package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab"
	"ocim/config"
	"ocim/internal/clock"
	"ocim/internal/redact"
	"ocim/internal/secret"
	"ocim/ops"
	"ocim/templates"
)

func checkCommand() *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "check the configuration and print what is in force", Args: noArgs}
	path := configFlag(c)
	connect := c.Flags().Bool("connect", false, "also try every connection; nothing is changed anywhere")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(*path)
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		if err := cfg.Print(out); err != nil {
			return err
		}
		for _, w := range cfg.Warnings {
			_, _ = fmt.Fprintln(out, "warning:", w)
		}
		if _, err := chat.LoadTemplates(templates.FS, cfg.Templates); err != nil {
			return fmt.Errorf("%w: templates: %w", errUsage, err)
		}
		if _, err := projects(cfg); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		m, err := buildChats(cfg)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if !*connect {
			return nil
		}
		chats, err := chatTries(cfg, m)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return tryConnections(c.Context(), cfg, chats, out)
	}
	return c
}

// connectTimeout bounds one try.
const connectTimeout = 10 * time.Second

// connectionTry is one harmless question to a peer.
type connectionTry struct {
	what    string
	address string // the key of the configuration to look at when nobody answers
	right   string // and when the peer refuses
	ask     func(context.Context) (string, error)
}

// gitlabToken is a token of the configuration that GitLab can be asked about.
type gitlabToken struct {
	project string
	use     gitlab.Use
	key     string // where it is written
	server  string // where its server is written
}

// gitlabTokens lists the tokens of all projects. One that several projects share is listed for each.
func gitlabTokens(cfg *config.Config) []gitlabToken {
	var out []gitlabToken
	for i, p := range cfg.Projects {
		j := slices.IndexFunc(cfg.GitLab, func(g config.GitLab) bool { return g.Name == p.GitLab })
		server, own := fmt.Sprintf("gitlab[%d]", j), fmt.Sprintf("projects[%d]", i)
		add := func(use gitlab.Use, token, shared secret.Secret) {
			at := own
			if shared.Equal(token.Reveal()) {
				at = server
			}
			if !token.Empty() {
				out = append(out, gitlabToken{project: p.Name, use: use, key: at + "." + string(use), server: server})
			}
		}
		add(gitlab.UseRead, p.Token, cfg.GitLab[j].Token)
		add(gitlab.UseWrite, p.WriteToken, cfg.GitLab[j].WriteToken)
	}
	return out
}

// gitlabTries are the questions to GitLab: does it take each token, and are there instances.
func gitlabTries(cfg *config.Config) ([]connectionTry, error) {
	gl, err := gitlab.New(gitlab.Config{Projects: gitlabProjects(cfg), Rates: gitlabRates(cfg), Timeout: connectTimeout, Clock: clock.System{}})
	if err != nil {
		return nil, err
	}
	var out []connectionTry
	servers := map[string]string{}
	for _, t := range gitlabTokens(cfg) {
		if t.use == gitlab.UseRead {
			servers[t.project] = t.server
			out = append(out, connectionTry{"gitlab project " + t.project, t.server + ".url", t.key, func(ctx context.Context) (string, error) {
				at, err := gl.Probe(ctx, t.project)
				return fmt.Sprintf(", clock %s apart", at.Sub(clock.System{}.Now()).Round(time.Second)), err
			}})
		}
		out = append(out, connectionTry{t.key + " for project " + t.project, t.server + ".url", t.key, func(ctx context.Context) (string, error) {
			info, err := gl.CheckToken(ctx, t.project, t.use)
			said := ": " + strings.Join(info.Scopes, ", ")
			if !info.Expires.IsZero() {
				said += ", until " + info.Expires.Format(time.DateOnly)
			}
			return said, err
		}})
	}
	for i, c := range cfg.Clusters {
		if c.InstancesFrom != "" {
			key := fmt.Sprintf("clusters[%d].instances_from", i)
			out = append(out, connectionTry{"instances of " + c.Name, servers[c.Project] + ".url", key, func(ctx context.Context) (string, error) {
				names, err := gl.Instances(ctx, c.Project, c.InstancesFrom)
				return fmt.Sprintf(": %d", len(names)), err
			}})
		}
	}
	return out, nil
}

// tryConnections asks every peer and prints how each try went.
func tryConnections(ctx context.Context, cfg *config.Config, chats []connectionTry, out io.Writer) error {
	tries, err := gitlabTries(cfg)
	if err != nil {
		return err
	}
	hide := redact.New(cfg.Secrets()...)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	failed := 0
	for _, t := range append(tries, chats...) {
		said, err := t.try(ctx)
		if err == nil {
			p("ok      %s%s", t.what, chat.Clean(hide.String(said)))
			continue
		}
		failed++
		p("FAILED  %s: %s (%s)", t.what, chat.Clean(hide.String(ops.UserMsg(err))), ops.ReasonOf(err))
		e, ours := errors.AsType[*ops.Error](err)
		if ours && e.Next != "" {
			p("        %s", e.Next)
		}
		if ours && e.Err != nil {
			err = e.Err
		}
		if !ours || e.Err != nil {
			p("        Cause: %s", chat.Clean(hide.String(err.Error())))
		}
		key := t.right
		if ops.CodeOf(err) == ops.CodeUnavailable || ours && e.Code == ops.CodeUnavailable {
			key = t.address + ", and the way there"
		}
		p("        Look at: %s", key)
	}
	for i, pr := range cfg.Projects {
		if !pr.TriggerToken.Empty() {
			p("-       projects[%d].trigger_token: cannot be tried without starting a pipeline", i)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of the connections failed", failed)
	}
	return nil
}

func (t connectionTry) try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return t.ask(ctx)
}
