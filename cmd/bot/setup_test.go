package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocim/adapters/gitlab"
	"ocim/config"
	"ocim/ops"
)

// ocim runs a command on a configuration.
func ocim(t *testing.T, text string, args ...string) (code int, out, errOut string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ocim.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append(args, "--config", file), nil, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// Whoever asks how the secrets are made does not have them.
func TestSetupNeedsNoSecrets(t *testing.T) {
	t.Parallel()
	code, out, errOut := ocim(t, config.Sample(), "setup")
	if code != 0 || errOut != "" {
		t.Fatalf("got exit code %d and %q, want 0 and nothing", code, errOut)
	}
	mustContain(t, out, "Slack workspace T024BE7LD", "Mattermost server chat", "GitLab project grove-eu", "Still to do",
		"slack[0].bot_token: environment variable SLACK_BOT_TOKEN is not set",
		"mattermost[0].path_secret: environment variable MATTERMOST_PATH_SECRET is not set",
		"projects[0].trigger_token: environment variable GITLAB_TRIGGER_TOKEN is not set")
}

func TestSetupRefusesWhatIsNotAboutSecrets(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("  - workspace: T024BE7LD", "  - workspace: nobody", "key: env:OCIM_KEY", "key: hunter2hunter2").Replace(config.Sample())
	code, out, errOut := ocim(t, text, "setup")
	if code != exitUsage || out != "" {
		t.Errorf("got exit code %d and %q, want %d and nothing", code, out, exitUsage)
	}
	mustContain(t, errOut, "slack[0].workspace", "key: a secret is never written here")
	if strings.Contains(errOut, "hunter2") || strings.Contains(errOut, "is not set") {
		t.Errorf("got %q, want neither the secret nor those that are missing", errOut)
	}
}

func TestRateOfTheConfigurationBoundsTheCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config("")
	if got := cfg.GitLab[0].Rate; got != 20 {
		t.Errorf("got %d calls per second, want 20 when nothing is written", got)
	}
	cfg.GitLab[0].Rate = 1
	gl, err := gitlab.New(gitlab.Config{Projects: gitlabProjects(cfg), Rates: gitlabRates(cfg), Timeout: time.Second, Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := gl.Probe(t.Context(), "grove-eu"); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if _, err := gl.Probe(t.Context(), "grove-eu"); ops.CodeOf(err) != ops.CodeUnavailable {
		t.Errorf("a fourth call at once: got %v, want that it has no turn", err)
	}
}
