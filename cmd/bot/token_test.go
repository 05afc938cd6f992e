package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocim/adapters/gitlab/gitlabtest"
)

// tokensOf replaces the tokens that the project of the rig knows.
func tokensOf(tokens ...gitlabtest.Token) rigOption {
	return func(s *rigSetup) { s.project.Tokens = tokens }
}

func rigToken(value string, scopes ...string) gitlabtest.Token {
	return gitlabtest.Token{Value: value, User: "ocim-bot", Role: gitlabtest.Developer, Scopes: scopes}
}

// secretFiles puts secrets into files and returns the reference to one.
func secretFiles(t *testing.T, secrets map[string]string) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range secrets {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) string { return "file:" + filepath.Join(dir, name) }
}

// checkConnect runs ocim check --connect against the GitLab of the rig.
func checkConnect(t *testing.T, r *rig) (code int, out, errOut string) {
	t.Helper()
	at := secretFiles(t, map[string]string{"key": rigKey, "read": rigRead, "write": rigWrite, "trigger": rigTrigger})
	return ocim(t, fmt.Sprintf(`
key: %q
gitlab:
  - {name: gl, url: %q, token: %q, write_token: %q}
projects:
  - {name: grove-eu, gitlab: gl, id: %d, trigger_token: %q}
clusters:
  - {name: eu, project: grove-eu, instances: [demo]}
`, at("key"), r.lab.URL(), at("read"), at("write"), rigProject, at("trigger")), "check", "--connect")
}

func TestO52_CheckTellsWhatEachTokenMayDo(t *testing.T) {
	t.Parallel()
	revoked := rigToken(rigWrite, "api")
	revoked.Revoked = true
	for _, tt := range []struct {
		name   string
		tokens []gitlabtest.Token
		code   int
		want   []string
	}{
		{"right", []gitlabtest.Token{rigToken(rigRead, "read_api"), rigToken(rigWrite, "api")}, 0, []string{
			"ok      gitlab[0].token for project grove-eu: read_api, until 20", "ok      gitlab[0].write_token for project grove-eu: api, until 20",
			"projects[0].trigger_token: cannot be tried without starting a pipeline",
		}},
		{"api reads as well", []gitlabtest.Token{rigToken(rigRead, "api"), rigToken(rigWrite, "api")}, 0, []string{"ok      gitlab[0].token"}},
		{"without scopes", []gitlabtest.Token{rigToken(rigRead, "read_repository"), rigToken(rigWrite, "read_api")}, exitFailed, []string{
			"FAILED  gitlab[0].token for project grove-eu: The token of project grove-eu is insufficient: it lacks the scope read_api and has read_repository.",
			"FAILED  gitlab[0].write_token for project grove-eu: The write_token of project grove-eu is insufficient: it lacks the scope api and has read_api.",
			"Look at: gitlab[0].write_token",
		}},
		{"unknown and revoked", []gitlabtest.Token{revoked}, exitFailed, []string{
			"FAILED  gitlab[0].token for project grove-eu: The token of project grove-eu is invalid", "401",
			"FAILED  gitlab[0].write_token for project grove-eu: The write_token of project grove-eu is invalid", "Look at: gitlab[0].token",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tokensOf(tt.tokens...))
			code, out, errOut := checkConnect(t, r)
			if code != tt.code {
				t.Errorf("got exit code %d, want %d", code, tt.code)
			}
			mustContain(t, out, tt.want...)
			for _, secret := range []string{rigRead, rigWrite, rigTrigger} {
				if strings.Contains(out+errOut, secret) {
					t.Errorf("got a secret in %q", out+errOut)
				}
			}
			r.exactlyOnce(0)
		})
	}
}

func TestO52_StartWarnsOfBadTokensAndMarksTheProject(t *testing.T) {
	t.Parallel()
	r := newRig(t, endless(), tokensOf(rigToken(rigWrite, "read_api"))) // the other is unknown
	l := r.run()
	l.pump(func() bool { return strings.Count(r.logs.String(), "token of GitLab cannot do its work") == 2 })
	mustContain(t, r.logs.String(), `"key":"gitlab[0].token"`, "is invalid", `"key":"gitlab[0].write_token"`, "lacks the scope api")
	mustContain(t, page(t, l.adminURL()+"/metrics"), `ocim_gitlab_project_degraded{project="grove-eu"} 1`)
	mustContain(t, page(t, l.adminURL()+"/readyz"), "200 ready\n", "gitlab project grove-eu is degraded: token: GitLab does not let ocim")

	// The mark goes with the first call that GitLab takes.
	r.lab.AddToken(rigProject, rigToken(rigRead, "read_api"))
	if _, err := r.app.gitlab.Probe(t.Context(), "grove-eu"); err != nil {
		t.Fatal(err)
	}
	if got, want := page(t, l.adminURL()+"/readyz"), "200 ready\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	mustContain(t, page(t, l.adminURL()+"/metrics"), `ocim_gitlab_project_degraded{project="grove-eu"} 0`)
}

func TestO52_GitLabThatIsAwayAtTheStartIsAskedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, endless(), tokensOf(rigToken(rigRead, "read_api"), rigToken(rigWrite, "read_api")))
	away := r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Answer(http.StatusBadGateway, nil, "")})
	l := r.run()
	l.pump(func() bool { return away.Hits() > 3 })
	if strings.Contains(r.logs.String(), "token of GitLab") {
		t.Errorf("got a warning of a token from a GitLab that did not answer: %s", r.logs.String())
	}
	r.lab.Heal()
	l.pump(func() bool { return strings.Contains(r.logs.String(), `"key":"gitlab[0].write_token"`) })
}

// Who runs check --connect wants the cause, and the place to mend.
func TestCheckNamesTheCauseAndTheKey(t *testing.T) {
	t.Parallel()
	const bot = "xoxb-bot-token-of-the-tests"
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"ok":false,"error":"invalid_auth"}`))
	}))
	t.Cleanup(refuses.Close)
	at := secretFiles(t, map[string]string{"key": rigKey, "bot": bot, "sign": rigSigning})
	text := "key: " + at("key") + "\nslack:\n"
	for team, address := range map[string]string{"T1": closed.URL, "T2": refuses.URL} {
		text += fmt.Sprintf("  - {workspace: %s, api_url: %q, bot_token: %q, signing_secrets: [%q]}\n", team, address, at("bot"), at("sign"))
	}
	code, out, _ := ocim(t, text, "check", "--connect")
	if code != exitFailed {
		t.Errorf("got exit code %d, want %d", code, exitFailed)
	}
	mustContain(t, out, "FAILED  slack workspace T1: Slack does not answer. (chat_unavailable)", "connection refused", ".api_url, and the way there",
		"FAILED  slack workspace T2", "invalid_auth", ".bot_token")
	if strings.Contains(out, bot) {
		t.Errorf("got the token in %q", out)
	}
}
