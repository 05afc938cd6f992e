//go:build e2e

package story

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocim/e2e/process"
)

// goodConfig has one platform of each kind. Nothing answers at its addresses.
const goodConfig = `
listen: {public: "127.0.0.1:0", admin: "127.0.0.1:0"}
public_url: https://ocim.example.org
store: {path: data/ocim.db}
key: env:KEY
slack:
  - {workspace: T0HTTP001, mode: http, signing_secrets: ["env:SIGNING"], bot_token: "env:BOT", api_url: "http://127.0.0.1:1/api/", may: {start: [U1]}}
  - {workspace: T0SOCKET1, mode: socket, app_token: "env:APP", bot_token: "env:BOT2", api_url: "http://127.0.0.1:1/api/", may: {start: [U1]}}
mattermost:
  - {name: chat, url: "http://127.0.0.1:1", bot_token: "env:MM", teams: [ops], command: ocim, path_secret: "env:PATH_SECRET"}
gitlab:
  - {name: gitlab, url: "http://127.0.0.1:1", token: "env:READ", webhook_tokens: ["env:HOOK"]}
projects:
  - {name: grove-eu, gitlab: gitlab, id: 42, trigger_token: "env:TRIGGER"}
clusters:
  - {name: eu, project: grove-eu, instances: [demo]}
`

func goodEnv() []string {
	return []string{
		"KEY=key-canary-0123456789abcdef0123456789", "SIGNING=signing-canary-0123456789abcdef", "BOT=xoxb-canary-0123456789",
		"BOT2=xoxb-canary-9876543210", "APP=xapp-canary-0123456789", "MM=mattermost-canary-0123456789", "PATH_SECRET=path-canary-0123456789abcdef",
		"READ=glpat-canary-0123456789", "HOOK=hook-canary-0123456789abcdef", "TRIGGER=glptt-canary-0123456789",
	}
}

// shell is a folder in which a stranger types commands.
type shell struct {
	t       *testing.T
	dir     string
	program string
	env     []string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	program, err := process.Program(false)
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, dir: t.TempDir(), program: program, env: goodEnv()}
	s.write("ocim.yaml", goodConfig)
	return s
}

func (s *shell) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run runs the program to its end and returns its exit code and all that it printed.
func (s *shell) run(args ...string) (code int, out, errOut string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Dir, cmd.Env = s.dir, append([]string{"PATH=" + os.Getenv("PATH")}, s.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		s.t.Fatalf("ocim %s: %v, %v\n%s%s", strings.Join(args, " "), err, ctx.Err(), stdout.String(), stderr.String())
	}
	for _, secret := range s.env {
		_, value, _ := strings.Cut(secret, "=")
		if len(value) > 8 && strings.Contains(stdout.String()+stderr.String(), value) {
			s.t.Errorf("ocim %s prints the secret %s", strings.Join(args, " "), secret)
		}
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestCheckTellsAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.write("ocim.yaml", strings.NewReplacer(
		`public: "127.0.0.1:0"`, `public: "nonsense"`, "key: env:KEY", "key: env:NOPE\ncolour: red", "id: 42", "id: 0", "gitlab: gitlab,", "gitlab: other,",
	).Replace(goodConfig))
	code, out, errOut := s.run("check")
	if code != 2 || out != "" {
		t.Errorf("got exit code %d and %q on standard output, want 2 and nothing", code, out)
	}
	mustContain(t, "check", errOut,
		"ocim.yaml:2: listen.public", "ocim.yaml:5: key: environment variable NOPE is not set", "ocim.yaml:6: colour: unknown key",
		`projects[0].gitlab: there is no "other"`, "projects[0].id")
}

func TestCheckPrintsWhatIsInForce(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	code, out, errOut := s.run("check")
	if code != 0 || errOut != "" {
		t.Errorf("got exit code %d and errors %q, want none", code, errOut)
	}
	mustContain(t, "check", out, "public_url: https://ocim.example.org", "key: '***'", "grove-eu", "instances: [demo]")
	if code, out, errOut = s.run("check", "--connect"); code != 1 {
		t.Errorf("nothing answers: got exit code %d, want 1", code)
	}
	mustContain(t, "check --connect", out+errOut, "FAILED  gitlab project grove-eu", "FAILED  slack", "FAILED  mattermost server chat")
}

func TestSetupPrintsWhatToDoOnEachPlatform(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	code, out, _ := s.run("setup")
	if code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
	mustContain(t, "setup", out,
		"Slack workspace T0HTTP001", `"url": "https://ocim.example.org/slack/commands"`, "Signing Secret",
		"Slack workspace T0SOCKET1", `"socket_mode_enabled": true`, "connections:write",
		"Mattermost server chat", "https://ocim.example.org/mattermost/", "manage_slash_commands",
		"GitLab project grove-eu", "https://ocim.example.org/gitlab/webhook",
	)
}

func TestMistypedCommandLineIsUsage(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"version", []string{"version"}, 0, "ocim "},
		{"nothing", nil, 0, "Available Commands"},
		{"unknown command", []string{"sevre"}, 2, `unknown command "sevre"`},
		{"unknown flag", []string{"serve", "--nope"}, 2, "unknown flag"},
		{"argument too many", []string{"serve", "now"}, 2, "now"},
		{"no such file", []string{"check", "--config", "nowhere.yaml"}, 2, "does not exist"},
		{"bad speed", []string{"sandbox", "--demo", "--speed", "0"}, 2, "--speed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, errOut := s.run(tt.args...)
			if code != tt.code {
				t.Errorf("got exit code %d, want %d", code, tt.code)
			}
			mustContain(t, tt.name, out+errOut, tt.want)
		})
	}
}

func TestServeRefusesEmptyAndShortSecrets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"KEY", "SIGNING", "BOT", "APP", "MM", "PATH_SECRET", "READ", "HOOK", "TRIGGER"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t)
			s.env = append(s.env, name+"=")
			code, _, errOut := s.run("serve")
			if code != 2 {
				t.Errorf("got exit code %d with an empty %s, want 2", code, name)
			}
			mustContain(t, name, errOut, name)
		})
	}
	s := newShell(t)
	s.env = append(s.env, "SIGNING=short")
	if code, _, errOut := s.run("serve"); code != 2 || !strings.Contains(errOut, "signing_secrets") {
		t.Errorf("short secret: got exit code %d, %q, want it refused", code, errOut)
	}
}

// The first bot goes on when a second is started beside it on the same store.
func TestSecondBotOnTheSameStoreIsRefused(t *testing.T) {
	t.Parallel()
	cfg := process.Config{
		Slack:  []process.Slack{{Workspace: "T0HTTP", SigningSecret: "signing-secret-of-the-tests", BotToken: "xoxb-token-of-the-tests", APIURL: "http://127.0.0.1:1/api/"}},
		GitLab: process.GitLab{URL: "http://127.0.0.1:1", Project: 1, Token: readToken, TriggerToken: triggerToken, Instances: []string{"demo"}},
	}
	first, err := process.New(t.Context(), process.Options{Dir: t.TempDir(), Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := first.Kill(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), stepTime)
	defer cancel()
	if err := first.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s := newShell(t)
	s.write("ocim.yaml", strings.Replace(goodConfig, "data/ocim.db", first.Database(), 1))
	code, _, errOut := s.run("serve")
	if code != 1 || !first.Running() {
		t.Errorf("got exit code %d, the first one runs: %v; want 1, true", code, first.Running())
	}
	mustContain(t, "second serve", errOut, first.Database(), "another")
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := first.Start(ctx); err != nil {
		t.Errorf("after a kill the store cannot be opened again: %v", err)
	}
}

func TestDemoTellsItsStory(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	code, out, errOut := s.run("sandbox", "--demo", "--data", filepath.Join(s.dir, "data"))
	if code != 0 {
		t.Errorf("got exit code %d, want 0\n%s\n%s", code, out, errOut)
	}
	mustContain(t, "demo", out, "/ocim deploy demo", "succeeded", "failed", "Retry")
}
