//go:build e2e

// Package story plays what a team does with the bot, against the real program: commands, buttons
// and dialogs in a chat, pipelines in a simulated GitLab with webhooks, a kill in between. The same
// story is played on every platform, on a real Mattermost server among others, and in the end the
// words that people read are compared: they must be the same everywhere.
package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/e2e/mattermost/rig"
	"ocim/e2e/process"
)

const (
	// storyTime bounds one story; stepTime one wait in it.
	storyTime = 4 * time.Minute
	stepTime  = 60 * time.Second

	project      = 42
	readToken    = "glpat-readtokenofthestory0001"
	writeToken   = "glpat-writetokenofthestory001"
	triggerToken = "glptt-triggertokenofthestory"
	hookToken    = "hook-token-of-the-story-tests"
)

// errRefused ends a wait for an answer that has come in another form.
var errRefused = errors.New("the dialog shows what is wrong")

// tale is one story under way.
type tale struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // the deadline of the whole story
	chat platform
	bot  *process.Bot
	lab  *gitlabtest.Server
	// said is what people read, in the order of the story; ids are the operations, in the same.
	said []line
	ids  []string
}

// line is what was read at one point of the story.
type line struct {
	At   string
	Text []string
}

// comparable is what people read without what differs from story to story.
func (s *tale) comparable() []line {
	names := s.chat.names()
	for i, id := range s.ids {
		names = append(names, id, fmt.Sprintf("operation%d", i+1))
	}
	var out []line
	for _, l := range s.said {
		out = append(out, line{neutral([]string{l.At}, names)[0], sorted(neutral(l.Text, names))})
	}
	return out
}

// begin starts a GitLab and the bot.
func begin(t *testing.T, chat platform) *tale {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), storyTime)
	t.Cleanup(cancel)
	s := &tale{t: t, ctx: ctx, chat: chat, lab: gitlabtest.New(gitlabtest.Options{Seed: 1, Speed: 150})}
	if err := s.lab.Start(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.lab.Close)
	s.lab.AddProject(gitlabtest.Project{
		ID: project, Path: "ops/grove-eu", DefaultBranch: "main", Behaviour: gitlabtest.Grove(),
		TriggerToken: triggerToken, TriggerOwner: "ocim-bot", Instances: []string{"campus", "demo", "shop"},
		Tokens: []gitlabtest.Token{
			{Value: readToken, User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"read_api"}},
			{Value: writeToken, User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"api"}},
		},
	})
	cfg := process.Config{
		GitLab: process.GitLab{
			URL: s.lab.URL(), Project: project, Token: readToken, WriteToken: writeToken, TriggerToken: triggerToken, HookToken: hookToken,
			Timeout: 5 * time.Second, Linger: 5 * time.Second,
		},
		Fast: time.Second, Slow: 5 * time.Second,
		Operations: `{deploy: {params: [{name: version, to: "payload:TUTOR_VERSION", pattern: "[0-9.]+", help: "Release to deploy."}]}}`,
	}
	chat.configure(&cfg)
	var err error
	if s.bot, err = process.New(ctx, process.Options{Dir: t.TempDir(), Config: cfg}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.bot.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the bot's log:\n%s", s.bot.Tail(30))
		}
	})
	s.lab.AddHook(project, gitlabtest.Hook{URL: s.bot.PublicURL() + "/gitlab/webhook", Token: hookToken})
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.lab.Run(running)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	s.start()
	return s
}

func (s *tale) start() {
	s.t.Helper()
	if err := s.bot.Start(s.ctx); err != nil {
		s.t.Fatalf("%v\n%s", err, s.bot.Tail(10))
	}
	ctx, cancel := context.WithTimeout(s.ctx, stepTime)
	defer cancel()
	if err := s.chat.connect(ctx, s.bot); err != nil {
		s.t.Fatalf("connect the chat: %v", err)
	}
}

// read notes what was read for the comparison with other platforms.
func (s *tale) read(at string, lines []string) {
	s.said = append(s.said, line{at, lines})
}

// readAll is read for a message with its buttons.
func (s *tale) readAll(at string, m message) {
	s.read(at, append(slices.Clone(m.lines), "buttons: "+strings.Join(m.buttons, ", ")))
}

// types sends a command that is answered privately, and returns the answer.
func (s *tale) types(who, text string, want ...string) told {
	s.t.Helper()
	return s.got(who+" types "+text, want, func(ctx context.Context) (told, error) { return s.chat.typed(ctx, who, text) })
}

func (s *tale) clicks(who string, m message, label string, want ...string) told {
	s.t.Helper()
	return s.got(who+" clicks "+label, want, func(ctx context.Context) (told, error) { return s.chat.click(ctx, who, m, label) })
}

func (s *tale) got(what string, want []string, act func(context.Context) (told, error)) told {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, stepTime)
	defer cancel()
	got, err := act(ctx)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	mustContain(s.t, what, got.String(), want...)
	s.read(what, got.lines)
	return got
}

// message waits for a message of the bot.
func (s *tale) message(what string, found func(message) bool) message {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, stepTime)
	defer cancel()
	var hit message
	var all []message
	err := until(ctx, func() (bool, error) {
		var err error
		if all, err = s.chat.messages(ctx); err != nil {
			return false, err
		}
		i := slices.IndexFunc(all, func(m message) bool { return m.bot && found(m) })
		if i >= 0 {
			hit = all[i]
		}
		return i >= 0, nil
	})
	if err != nil {
		var b strings.Builder
		for _, m := range all {
			b.WriteString("---\n" + m.String() + "\n")
		}
		s.t.Fatalf("wait for %s: %v; the channel shows:\n%s", what, err, b.String())
	}
	return hit
}

// card waits until the card of an operation is in a state and shows all the words.
func (s *tale) card(id, state string, words ...string) message {
	s.t.Helper()
	return s.message("the card of "+id+", "+state+", with "+strings.Join(words, ", "), func(m message) bool {
		return m.thread == "" && slices.Contains(m.lines, "Operation: "+id) &&
			strings.HasSuffix(m.lines[0], "· "+state) && containsAll(m.String(), words)
	})
}

// reply waits for a message beside the card.
func (s *tale) reply(card message, words ...string) message {
	s.t.Helper()
	return s.message("a reply with "+strings.Join(words, ", "), func(m message) bool {
		return m.id != card.id && !slices.ContainsFunc(m.lines, func(l string) bool { return strings.HasPrefix(l, "Operation: ") }) && containsAll(m.String(), words)
	})
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// cards returns how many cards an operation has; there must never be a second.
func (s *tale) cards(id string) int {
	s.t.Helper()
	all, err := s.chat.messages(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, m := range all {
		if slices.Contains(m.lines, "Operation: "+id) {
			n++
		}
	}
	return n
}

// accepted takes the operation's id from the answer to a deploy.
func (s *tale) accepted(got told) string {
	s.t.Helper()
	for _, l := range got.lines {
		if after, ok := strings.CutPrefix(l, "operation "); ok {
			id, _, _ := strings.Cut(after, " ")
			s.ids = append(s.ids, id)
			return id
		}
	}
	s.t.Fatalf("no operation in the answer:\n%s", got)
	return ""
}

func mustContain(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: got\n%s\nwant it to contain %q", what, got, w)
		}
	}
}

// TestO01O02O07W01W02W19W24I08_OneStoryOnEveryPlatform plays the story everywhere and compares.
func TestO01O02O07W01W02W19W24I08_OneStoryOnEveryPlatform(t *testing.T) {
	t.Parallel()
	stories := map[string]*tale{}
	t.Run("platforms", func(t *testing.T) {
		play := func(name string, chat func(*testing.T) platform) {
			s := &tale{}
			stories[name] = s
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				*s = *begin(t, chat(t))
				s.look()
				s.deploy()
				s.fail()
				s.pick()
				s.secrets()
			})
		}
		play("real Mattermost", func(t *testing.T) platform { return mattermostChat{rig.Start(t).Peer(t)} })
		play("Mattermost fake", func(t *testing.T) platform {
			return mattermostChat{mattermosttest.New(t, mattermosttest.Options{}).Peer(t)}
		})
		for name, socket := range map[string]bool{"Slack HTTP": false, "Slack Socket Mode": true} {
			play(name, func(t *testing.T) platform {
				s, err := newSlack(socket)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Close)
				return s
			})
		}
	})
	want := stories["Slack HTTP"]
	for name, got := range stories {
		if got.t == nil || got.t.Skipped() || got.t.Failed() || want.t.Failed() {
			continue
		}
		if diff := cmp.Diff(want.comparable(), got.comparable()); diff != "" {
			t.Errorf("people read something else on %s (+) than on Slack HTTP (-):\n%s", name, diff)
		}
	}
}
