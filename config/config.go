package config

import (
	"io"
	"slices"
	"time"

	"ocim/internal/secret"
)

// Config is a checked configuration: defaults are filled in, secrets are read, every name that
// refers to another block does so. It is not changed after Load and may be shared.
type Config struct {
	Listen       Listen               `yaml:"listen"`
	PublicURL    string               `yaml:"public_url"` // without a trailing slash; empty when not set
	Store        Store                `yaml:"store"`
	Key          secret.Secret        `yaml:"key"`
	PreviousKeys []secret.Secret      `yaml:"previous_keys"`
	Templates    string               `yaml:"templates"`
	Log          Log                  `yaml:"log"`
	Slack        []Slack              `yaml:"slack"`
	Mattermost   []Mattermost         `yaml:"mattermost"`
	GitLab       []GitLab             `yaml:"gitlab"`
	Projects     []Project            `yaml:"projects"`
	Clusters     []Cluster            `yaml:"clusters"`
	Operations   map[string]Operation `yaml:"operations"` // by verb, before any project's changes
	Polling      Polling              `yaml:"polling"`
	Limits       Limits               `yaml:"limits"`

	// Warnings are worth a look and stop nothing.
	Warnings Problems `yaml:"-"`
}

// The values of Slack.Mode.
const (
	ModeHTTP   = "http"
	ModeSocket = "socket"
)

// Slack is one workspace. In mode http there is at least one signing secret, in mode socket an
// app token.
type Slack struct {
	Workspace      string          `yaml:"workspace"`
	Mode           string          `yaml:"mode"`
	SigningSecrets []secret.Secret `yaml:"signing_secrets"`
	BotToken       secret.Secret   `yaml:"bot_token"`
	AppToken       secret.Secret   `yaml:"app_token"`
	Sockets        int             `yaml:"sockets"` // 1 to 10, for mode socket
	APIURL         string          `yaml:"api_url"` // with a trailing slash
	History        bool            `yaml:"history"`
	May            May             `yaml:"may"`
}

// Mattermost is one server. Name is the workspace of its actors.
type Mattermost struct {
	Name       string        `yaml:"name"`
	URL        string        `yaml:"url"` // without a trailing slash
	BotToken   secret.Secret `yaml:"bot_token"`
	Teams      []string      `yaml:"teams"`
	Command    string        `yaml:"command"`
	PathSecret secret.Secret `yaml:"path_secret"`
	May        May           `yaml:"may"`
}

// GitLab is one server. WriteToken may be empty, as may both lists of webhook secrets.
type GitLab struct {
	Name                 string          `yaml:"name"`
	URL                  string          `yaml:"url"` // without a trailing slash and without /api/v4
	Token                secret.Secret   `yaml:"token"`
	WriteToken           secret.Secret   `yaml:"write_token"`
	WebhookTokens        []secret.Secret `yaml:"webhook_tokens"`
	WebhookSigningTokens []secret.Secret `yaml:"webhook_signing_tokens"` // with the prefix whsec_
	Rate                 int64           `yaml:"rate"`                   // calls per second, 1 to 100
	Timeout              time.Duration   `yaml:"timeout"`
	Linger               time.Duration   `yaml:"linger"`
}

// Project is one GitLab project. Token and WriteToken are the server's unless the project has its
// own; WriteToken and TriggerToken may be empty when no operation needs them.
type Project struct {
	Name         string               `yaml:"name"`
	GitLab       string               `yaml:"gitlab"`
	ID           int64                `yaml:"id"`
	Ref          string               `yaml:"ref"`
	TriggerToken secret.Secret        `yaml:"trigger_token"`
	Token        secret.Secret        `yaml:"token"`
	WriteToken   secret.Secret        `yaml:"write_token"`
	Operations   map[string]Operation `yaml:"operations"` // only the verbs that this project changes, complete
}

// The values of Operation.Start and Operation.Follow.
const (
	StartTrigger       = "trigger"
	StartPipeline      = "pipeline"
	FollowNone         = "none"
	FollowMergeRequest = "merge_request"
)

// Operation is what one verb sends to GitLab. Strings in Variables, Inputs and Payload may hold
// the placeholders {instance}, {cluster}, {number}, {operation} and {actor}.
type Operation struct {
	Start        string            `yaml:"start"`
	Variables    map[string]string `yaml:"variables"`
	Inputs       map[string]any    `yaml:"inputs"` // string, bool, int64, float64, []any, map[string]any
	Payload      map[string]string `yaml:"payload"`
	Follow       string            `yaml:"follow"`
	FollowWithin time.Duration     `yaml:"follow_within"`
	KeyVariable  string            `yaml:"key_variable"`
	KeyInput     string            `yaml:"key_input"`
	Unverified   bool              `yaml:"unverified"`
	Params       []Param           `yaml:"params"`
}

// Operation returns what verb means on a cluster: the table of operations with the changes of the
// cluster's project. False if there is no such cluster or verb.
func (c *Config) Operation(cluster, verb string) (Operation, bool) {
	p, ok := c.Project(cluster)
	if !ok {
		return Operation{}, false
	}
	if op, ok := p.Operations[verb]; ok {
		return op, true
	}
	op, ok := c.Operations[verb]
	return op, ok
}

// Project returns the project of a cluster. False if there is no such cluster.
func (c *Config) Project(cluster string) (Project, bool) {
	i := slices.IndexFunc(c.Clusters, func(cl Cluster) bool { return cl.Name == cluster })
	if i < 0 {
		return Project{}, false
	}
	j := slices.IndexFunc(c.Projects, func(p Project) bool { return p.Name == c.Clusters[i].Project })
	if j < 0 {
		return Project{}, false
	}
	return c.Projects[j], true
}

// Secrets lists every secret that was read, for a redactor.
func (c *Config) Secrets() []secret.Secret {
	all := append([]secret.Secret{c.Key}, c.PreviousKeys...)
	for _, s := range c.Slack {
		all = append(append(all, s.SigningSecrets...), s.BotToken, s.AppToken)
	}
	for _, m := range c.Mattermost {
		all = append(all, m.BotToken, m.PathSecret)
	}
	for _, g := range c.GitLab {
		all = append(append(all, g.Token, g.WriteToken), g.WebhookTokens...)
		all = append(all, g.WebhookSigningTokens...)
	}
	for _, p := range c.Projects {
		all = append(all, p.TriggerToken, p.Token, p.WriteToken)
	}
	return slices.DeleteFunc(all, secret.Secret.Empty)
}

// Print writes the effective values as YAML, with *** for each secret that is set.
func (c *Config) Print(w io.Writer) error { return dump(w, c) }
