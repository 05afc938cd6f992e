package process

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Config is what the bot is told in ocim.yaml, as far as tests care: one GitLab server with one
// project and one cluster, and any number of chats. Fields left zero take the bot's defaults,
// except where a comment says otherwise.
type Config struct {
	Slack      []Slack
	Mattermost []Mattermost
	GitLab     GitLab

	// PublicURL is how Mattermost reaches the bot. When empty it is the public listener's address.
	PublicURL string
	// Fast and Slow are the intervals of polling; the bot takes nothing below a second.
	Fast, Slow time.Duration
	// InFlight is how many requests the bot works on at the same time.
	InFlight int
	// LogLevel is info when empty. Above info the bot does not say that it is up, and Start fails.
	LogLevel string
	// Operations is laid over the built-in table of operations, in YAML's flow style, such as
	// "{deploy: {follow: none}}".
	Operations string
	// More is added to the end of ocim.yaml: further keys at the top level.
	More string
}

// GitLab is the server and its project. Start refuses a configuration without URL, Project, Token
// or TriggerToken.
type GitLab struct {
	URL     string
	Project int64
	// Token reads, WriteToken (may be empty) cancels, TriggerToken starts.
	Token, WriteToken, TriggerToken string
	// HookToken and HookSigningToken check webhooks; without both GitLab is polled only.
	HookToken, HookSigningToken string
	// Timeout bounds a call (1 s to 25 s), Linger is how long a call may reach GitLab late.
	Timeout, Linger time.Duration
	// Instances are those of the cluster eu. When there are none they are read from the
	// repository's folder instances.
	Instances []string
}

// Slack is one workspace.
type Slack struct {
	Workspace string
	// AppToken makes it Socket Mode; otherwise requests are signed with SigningSecret.
	SigningSecret, AppToken string
	BotToken                string
	APIURL                  string
	// History lets the bot look for messages whose answer was lost.
	History bool
	// Users may start, cancel and retry.
	Users []string
}

// Mattermost is one server.
type Mattermost struct {
	Name, URL, BotToken string
	// Teams are the names of the teams that get the slash command, which is ocim unless Command
	// says otherwise.
	Teams      []string
	Command    string
	PathSecret string
	// Users may start, cancel and retry.
	Users []string
}

// key signs the bot's buttons in tests.
const key = "key-of-the-process-tests-0123456789abcdef"

// text is ocim.yaml and the environment with the secrets that it names. The listeners take the
// addresses given, the store is a file beside ocim.yaml.
func (c Config) text(public, admin, database string) (yaml string, env []string) {
	var b strings.Builder
	secrets := map[string]string{}
	secret := func(name, value string) string {
		secrets[name] = value
		return "env:" + name
	}
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("listen: {public: %q, admin: %q}", public, admin)
	line("store: {path: %q}", database)
	line("key: %s", secret("KEY", key))
	if c.LogLevel != "" {
		line("log: {level: %s}", c.LogLevel)
	}
	if c.PublicURL == "" {
		c.PublicURL = "http://" + public
	}
	line("public_url: %q", c.PublicURL)
	c.chats(line, secret)
	c.pipelines(line, secret)
	if c.Operations != "" {
		line("operations: %s", c.Operations)
	}
	polling := optional("fast", c.Fast) + optional("slow", c.Slow)
	line("polling: {%s}", strings.TrimPrefix(polling, ", "))
	limits := "per_person: 0" // a few people stand for thousands
	if c.InFlight > 0 {
		limits += fmt.Sprintf(", in_flight: %d", c.InFlight)
	}
	line("limits: {%s}", limits)
	line("%s", c.More)
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		env = append(env, name+"="+secrets[name])
	}
	return b.String(), env
}

func (c Config) chats(line func(string, ...any), secret func(name, value string) string) {
	for i, s := range c.Slack {
		if i == 0 {
			line("slack:")
		}
		how := fmt.Sprintf("mode: http, signing_secrets: [%q]", secret(fmt.Sprintf("SLACK%d_SIGNING", i), s.SigningSecret))
		if s.AppToken != "" {
			how = fmt.Sprintf("mode: socket, app_token: %q", secret(fmt.Sprintf("SLACK%d_APP", i), s.AppToken))
		}
		line("  - {workspace: %q, %s, bot_token: %q, api_url: %q, history: %t, may: %s}", s.Workspace, how,
			secret(fmt.Sprintf("SLACK%d_BOT", i), s.BotToken), s.APIURL, s.History, may(s.Users))
	}
	for i, m := range c.Mattermost {
		if i == 0 {
			line("mattermost:")
		}
		if m.Command == "" {
			m.Command = "ocim"
		}
		line("  - {name: %q, url: %q, teams: %s, command: %q, bot_token: %q, path_secret: %q, may: %s}", m.Name, m.URL,
			list(m.Teams), m.Command, secret(fmt.Sprintf("MATTERMOST%d_BOT", i), m.BotToken),
			secret(fmt.Sprintf("MATTERMOST%d_PATH", i), m.PathSecret), may(m.Users))
	}
}

func (c Config) pipelines(line func(string, ...any), secret func(name, value string) string) {
	g := c.GitLab
	line("gitlab:")
	server := fmt.Sprintf("name: gitlab, url: %q, token: %q", g.URL, secret("GITLAB_READ", g.Token))
	if g.WriteToken != "" {
		server += fmt.Sprintf(", write_token: %q", secret("GITLAB_WRITE", g.WriteToken))
	}
	if g.HookToken != "" {
		server += fmt.Sprintf(", webhook_tokens: [%q]", secret("GITLAB_HOOK", g.HookToken))
	}
	if g.HookSigningToken != "" {
		server += fmt.Sprintf(", webhook_signing_tokens: [%q]", secret("GITLAB_SIGNING", g.HookSigningToken))
	}
	line("  - {%s%s%s}", server, optional("timeout", g.Timeout), optional("linger", g.Linger))
	line("projects:")
	line("  - {name: grove, gitlab: gitlab, id: %d, trigger_token: %q}", g.Project, secret("GITLAB_TRIGGER", g.TriggerToken))
	line("clusters:")
	if len(g.Instances) > 0 {
		line("  - {name: eu, project: grove, instances: %s}", list(g.Instances))
	} else {
		line("  - {name: eu, project: grove, instances_from: instances}")
	}
}

func optional(name string, d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(", %s: %s", name, d)
}

func may(users []string) string {
	all := list(users)
	return fmt.Sprintf("{start: %s, cancel: %s, retry: %s}", all, all, all)
}

func list(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
