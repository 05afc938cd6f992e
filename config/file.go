package config

import "time"

// File is what may be written in ocim.yaml. The comment on each field is its text in sample.yaml;
// the tag default is the value of a field that is not written.
type File struct {
	// Where ocim listens.
	Listen Listen `yaml:"listen"`
	// How Mattermost and GitLab reach the public listener. Needed for Mattermost, whose buttons and
	// dialogs call back.
	PublicURL string `yaml:"public_url"`
	// Where operations are kept.
	Store Store `yaml:"store"`
	// At least 32 bytes. Signs buttons and references, and encrypts the tokens that servers give to
	// ocim at run time. Make one with: openssl rand -base64 48
	Key SecretRef `yaml:"key"`
	// Keys that were used before and are still accepted when something is verified or decrypted.
	PreviousKeys []SecretRef `yaml:"previous_keys"`
	// Folder with message templates that replace the built-in ones of the same file name. Empty: none.
	Templates string `yaml:"templates"`
	// What is logged, and how.
	Log Log `yaml:"log"`
	// Slack workspaces.
	Slack []FileSlack `yaml:"slack"`
	// Mattermost servers.
	Mattermost []FileMattermost `yaml:"mattermost"`
	// GitLab servers.
	GitLab []FileGitLab `yaml:"gitlab"`
	// GitLab projects whose pipelines do the work.
	Projects []FileProject `yaml:"projects"`
	// Clusters and their instances.
	Clusters []Cluster `yaml:"clusters"`
	// What each verb sends to GitLab. What is written here is laid over the built-in table: single
	// values and lists replace, maps are merged key by key, and a key with the value null is removed.
	// Values may hold {instance}, {cluster}, {number}, {operation} and {actor}.
	Operations map[string]FileOperation `yaml:"operations"`
	// How often GitLab is asked, whether or not webhooks arrive.
	Polling Polling `yaml:"polling"`
	// Bounds on what is let in.
	Limits Limits `yaml:"limits"`
}

// SecretRef says where a secret is: env:NAME or file:/path. The text of a SecretRef is never
// printed, since people paste the secret itself.
type SecretRef string

// Listen holds the addresses of the two listeners.
type Listen struct {
	// Address for chat platforms and GitLab, as host:port.
	Public string `yaml:"public" default:"127.0.0.1:8080"`
	// Address for /healthz, /readyz and /metrics, as host:port. It asks for no password.
	Admin string `yaml:"admin" default:"127.0.0.1:9090"`
	// Let the admin listener have an address that other machines reach.
	AdminAnywhere bool `yaml:"admin_anywhere"`
}

// Store says where operations are kept.
type Store struct {
	// SQLite file. Its folder is made when it is missing. One running ocim per file.
	Path string `yaml:"path" default:"./data/ocim.db"`
}

// Log says what is logged.
type Log struct {
	// Lowest level that is logged: debug, info, warn or error.
	Level string `yaml:"level" default:"info"`
	// One record a line, as json or text.
	Format string `yaml:"format" default:"json"`
}

// May lists who may do what, by user id. Ids decide, since names can be changed. An empty list
// means nobody.
type May struct {
	// Who may start an operation.
	Start []string `yaml:"start"`
	// Who may cancel one, whoever started it.
	Cancel []string `yaml:"cancel"`
	// Who may run one again.
	Retry []string `yaml:"retry"`
}

// FileSlack is one Slack workspace as written.
type FileSlack struct {
	// Team id. What the secrets below verify counts as coming from this workspace and no other.
	Workspace string `yaml:"workspace"`
	// How Slack reaches ocim: http (signed requests to the public listener) or socket (ocim opens
	// a connection; no address of its own is needed).
	Mode string `yaml:"mode" default:"http"`
	// Signing secrets of the app, for http. More than one while a secret is being replaced.
	SigningSecrets []SecretRef `yaml:"signing_secrets"`
	// Bot token, xoxb-…
	BotToken SecretRef `yaml:"bot_token"`
	// App-level token, xapp-…, for socket.
	AppToken SecretRef `yaml:"app_token"`
	// How many connections ocim keeps open, for socket: 1 to 10. With two, one stays while Slack
	// renews the other.
	Sockets int `yaml:"sockets" default:"2"`
	// Base address of Slack's API.
	APIURL string `yaml:"api_url" default:"https://slack.com/api/"`
	// The app has the scope channels:history. Then a message whose answer was lost is looked for
	// before it is sent again.
	History bool `yaml:"history"`
	// Who may do what, by user id. An empty list means nobody.
	May May `yaml:"may"`
}

// FileMattermost is one Mattermost server as written.
type FileMattermost struct {
	// Our name for this server.
	Name string `yaml:"name"`
	// Address of the server.
	URL string `yaml:"url"`
	// Token of the bot account.
	BotToken SecretRef `yaml:"bot_token"`
	// Names (not display names) of the teams that get the slash command.
	Teams []string `yaml:"teams"`
	// The slash command, without the slash.
	Command string `yaml:"command" default:"ocim"`
	// What the secret parts of the addresses that the server calls back are made from: at least 16
	// letters, digits, - and _.
	PathSecret SecretRef `yaml:"path_secret"`
	// Who may do what, by user id. An empty list means nobody.
	May May `yaml:"may"`
}

// FileGitLab is one GitLab server as written.
type FileGitLab struct {
	// Our name for this server.
	Name string `yaml:"name"`
	// Address of the server.
	URL string `yaml:"url"`
	// Token with scope read_api, of the user who owns the trigger tokens.
	Token SecretRef `yaml:"token"`
	// Token with scope api, to cancel pipelines and to start them without a trigger token. Without
	// it ocim does neither.
	WriteToken SecretRef `yaml:"write_token"`
	// Secret tokens of the project webhooks. Without any webhook ocim relies on polling.
	WebhookTokens []SecretRef `yaml:"webhook_tokens"`
	// Signing tokens of the project webhooks, whsec_…
	WebhookSigningTokens []SecretRef `yaml:"webhook_signing_tokens"`
	// Calls per second, 1 to 100; three times as many may come at once. Half as many come on top for
	// what people wait for. GitLab.com allows 33 a second.
	Rate int64 `yaml:"rate" default:"20"`
	// How long one call may take.
	Timeout time.Duration `yaml:"timeout" default:"20s"`
	// How long a request whose answer was lost may still reach GitLab. Only after it is a pipeline
	// that cannot be found taken as not started.
	Linger time.Duration `yaml:"linger" default:"90s"`
}

// FileProject is one GitLab project as written.
type FileProject struct {
	// Our name for this project.
	Name string `yaml:"name"`
	// Name of a server above.
	GitLab string `yaml:"gitlab"`
	// Project id, from the project's page.
	ID int64 `yaml:"id"`
	// Branch or tag whose pipelines are started.
	Ref string `yaml:"ref" default:"main"`
	// Pipeline trigger token. Needed when an operation starts by trigger.
	TriggerToken SecretRef `yaml:"trigger_token"`
	// Replaces the server's token for this project.
	Token SecretRef `yaml:"token"`
	// Replaces the server's write_token for this project.
	WriteToken SecretRef `yaml:"write_token"`
	// Changes to the table of operations for this project, by verb.
	Operations map[string]FileOperation `yaml:"operations"`
}

// Cluster is one cluster and its instances. Exactly one of Instances and InstancesFrom is set.
type Cluster struct {
	// Name by which people call the cluster.
	Name string `yaml:"name"`
	// Name of a project above.
	Project string `yaml:"project"`
	// Names of the instances, when they are listed here.
	Instances []string `yaml:"instances"`
	// Folder of the repository with one folder per instance, when they are read from there.
	InstancesFrom string `yaml:"instances_from"`
}

// FileOperation is what is written about one verb. A nil field leaves the layer below as it is.
type FileOperation struct {
	// Which call starts the pipeline: trigger (needs the project's trigger_token) or pipeline
	// (needs a write_token).
	Start *string `yaml:"start"`
	// CI/CD variables. GitLab shows them to maintainers: never put a secret here.
	Variables map[string]*string `yaml:"variables"`
	// Pipeline inputs, for projects that declare spec:inputs.
	Inputs map[string]any `yaml:"inputs"`
	// More top-level keys of the trigger call. They reach the pipeline in the file TRIGGER_PAYLOAD.
	Payload map[string]*string `yaml:"payload"`
	// Which further pipelines belong to the operation: none, or merge_request (what the merge
	// commit of the first pipeline's merge request starts).
	Follow *string `yaml:"follow"`
	// How long after the first pipeline a further one may begin.
	FollowWithin *time.Duration `yaml:"follow_within"`
	// For start: pipeline. The variable that carries ocim's key, by which a pipeline is found again.
	KeyVariable *string `yaml:"key_variable"`
	// For start: pipeline, instead of key_variable: the input that carries the key. The project's
	// workflow:name must show it.
	KeyInput *string `yaml:"key_input"`
	// Nobody has seen this row work with the real project; cards and plans say so.
	Unverified *bool `yaml:"unverified"`
	// What people may set, as name=value after the instance.
	Params []Param `yaml:"params"`
}

// Param is one thing that people may set when they ask for an operation.
type Param struct {
	// What people type before the equals sign.
	Name string `yaml:"name"`
	// Where the value goes: variable:NAME, input:NAME or payload:NAME.
	To string `yaml:"to"`
	// string, integer or boolean.
	Type string `yaml:"type" default:"string"`
	// Regular expression (RE2) that the whole value must match.
	Pattern string `yaml:"pattern"`
	// The values that are allowed. Empty: any.
	Choices []string `yaml:"choices"`
	// An operation without it is refused.
	Required bool `yaml:"required"`
	// Value when people give none. Empty: nothing is sent.
	Default string `yaml:"default"`
	// Never show the value, keep it encrypted, and take it from the form only: chat platforms keep
	// the text of commands. Not for variables, which GitLab shows to maintainers.
	Secret bool `yaml:"secret"`
	// One line for the help text.
	Help string `yaml:"help"`
}

// Polling says how often GitLab is asked.
type Polling struct {
	// While the pipelines of an operation change.
	Fast time.Duration `yaml:"fast" default:"5s"`
	// While they stand still.
	Slow time.Duration `yaml:"slow" default:"30s"`
}

// Limits bounds what is taken in.
type Limits struct {
	// Largest request body of a chat platform, in bytes.
	ChatBody int64 `yaml:"chat_body" default:"1048576"`
	// Largest webhook body, in bytes.
	GitLabBody int64 `yaml:"gitlab_body" default:"4194304"`
	// Requests worked on at the same time, of chat and of webhooks each. More are answered 503 and come again.
	InFlight int `yaml:"in_flight" default:"256"`
	// Requests of one person in a minute: commands, clicks, forms, and what is looked up while
	// somebody types. More are refused with the time to come again. 0: no bound.
	PerPerson int `yaml:"per_person" default:"120"`
}
