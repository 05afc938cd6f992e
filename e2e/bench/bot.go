package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ocim/e2e/process"
)

// bot is the real program with its folder.
type bot struct {
	*process.Bot
	dir string
}

// setup says how a bot begins.
type setup struct {
	instances int    // of the only cluster, as ocim.yaml lists them; 0: they are read from GitLab
	store     string // folder of a store to begin with, empty for none
	teams     int    // Slack workspaces; 0 is one
}

// newBot makes a bot that does not run yet.
func (b *bench) newBot(ctx context.Context, s setup) (*bot, error) {
	dir, err := os.MkdirTemp(b.dir, "bot-")
	if err != nil {
		return nil, err
	}
	program := b.program
	if b.pinned {
		if program, err = pinned(dir, b.program); err != nil {
			return nil, err
		}
	}
	c := process.Config{GitLab: process.GitLab{
		URL: b.peers.gitlab, Project: projectID, Token: readToken, TriggerToken: triggerToken, HookToken: hookToken,
	}, Operations: "{deploy: {follow: none}}"}
	for n := range s.instances {
		c.GitLab.Instances = append(c.GitLab.Instances, instance(int64(n)))
	}
	var people []string
	for n := range users {
		people = append(people, user(n))
	}
	for n := range max(1, s.teams) {
		c.Slack = append(c.Slack, process.Slack{
			Workspace: team(n), SigningSecret: signingSecret, BotToken: botToken(n), APIURL: b.peers.slack, Users: people,
		})
	}
	if s.store != "" {
		if err := copyStore(s.store, dir); err != nil {
			return nil, err
		}
	}
	p, err := process.New(ctx, process.Options{Dir: dir, Program: program, Config: c})
	if err != nil {
		return nil, err
	}
	return &bot{p, dir}, nil
}

// startBot makes a bot and starts it.
func (b *bench) startBot(ctx context.Context, s setup) (*bot, error) {
	r, err := b.newBot(ctx, s)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.Start(within); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.Tail(5))
	}
	return r, nil
}

func (r *bot) address() string { return strings.TrimPrefix(r.PublicURL(), "http://") }

func (r *bot) cpu() time.Duration {
	u, err := r.Usage()
	if err != nil {
		return 0
	}
	return u.CPU
}

// work is what the bot says it has done beside answering, for a look behind the numbers.
func (r *bot) work() string {
	c := newClient(strings.TrimPrefix(r.AdminURL(), "http://"))
	defer c.close()
	_, body, err := c.do([]byte("GET /metrics HTTP/1.1\r\nHost: ocim.bench\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"))
	if err != nil {
		return err.Error()
	}
	var found []string
	for line := range strings.Lines(string(body)) {
		for _, prefix := range []string{"ocim_job_seconds_count", "ocim_store_commit_updates_count", "ocim_store_commit_updates_sum", "ocim_store_commit_seconds_sum"} {
			if strings.HasPrefix(line, prefix) {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(found, "; ")
}

// pid is the number of its process, 0 if it does not run.
func (r *bot) pid() int {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0
	}
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte("\x00serve\x00")) && bytes.Contains(line, []byte(r.dir)) {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return n
		}
	}
	return 0
}

// stop kills it, as a power cut would: what was acknowledged must be on disk.
func (r *bot) stop() error { return r.Kill() }

// remove kills the bot and forgets its folder.
func (r *bot) remove() error { return errors.Join(r.stop(), os.RemoveAll(r.dir)) }
