package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocim/internal/secret"
)

// Spellings. Names of ours are DNS labels, so that they fit into links, metrics and file names.
var (
	ourName        = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	variableName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)
	slackTeam      = regexp.MustCompile(`^[TE][A-Z0-9]{1,20}$`)
	slackUser      = regexp.MustCompile(`^[UW][A-Z0-9]{1,20}$`)
	mattermostUser = regexp.MustCompile(`^[a-z0-9]{26}$`)                    // model.IsValidId
	mattermostTeam = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}[a-z0-9]$`) // model.IsValidTeamName
	slashCommand   = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,127}$`)
	gitRef         = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+-]{0,254}$`)
)

// builder makes the Config from the File and reports what breaks a rule.
type builder struct {
	d        *decoder
	env      map[string]string
	warnings Problems
	outline  bool     // secrets may be missing
	missing  Problems // those that are
}

func newBuilder(d *decoder, env map[string]string) *builder { return &builder{d: d, env: env} }

func (b *builder) warn(path, format string, args ...any) {
	b.warnings = append(b.warnings, b.d.problem(path, format, args...))
}

// faulty reports whether path has a problem already, or stands in something that could not be
// decoded; another problem would only repeat it.
func (b *builder) faulty(path string) bool {
	for up := range parents(path) {
		if b.d.broken[up] {
			return true
		}
	}
	here := func(p Problem) bool { return p.Path == path }
	return slices.ContainsFunc(b.d.problems, here) || slices.ContainsFunc(b.missing, here)
}

func (b *builder) build(f *File) *Config {
	c := &Config{
		Listen: f.Listen, Store: f.Store, Templates: f.Templates, Log: f.Log,
		Polling: f.Polling, Limits: f.Limits, Clusters: f.Clusters,
	}
	b.listen(c.Listen)
	if f.PublicURL != "" {
		c.PublicURL = b.url(f.PublicURL, "public_url")
	}
	b.need(f.Store.Path, "store.path")
	c.Key = b.secret(f.Key, "key", rule{min: minKey, binary: true})
	c.PreviousKeys = b.secrets(f.PreviousKeys, "previous_keys", rule{min: minKey, binary: true})
	for i, k := range c.PreviousKeys {
		if c.Key.Equal(k.Reveal()) {
			b.warn(fmt.Sprintf("previous_keys[%d]", i), "is the same as key")
		}
	}
	b.oneOf(f.Log.Level, "log.level", "debug", "info", "warn", "error")
	b.oneOf(f.Log.Format, "log.format", "json", "text")
	b.slack(f, c)
	b.mattermost(f, c)
	b.gitlab(f, c)
	b.projects(f, c)
	b.clusters(c)
	b.between(f.Polling.Fast, "polling.fast", time.Second, 5*time.Minute)
	b.between(f.Polling.Slow, "polling.slow", max(time.Second, f.Polling.Fast), time.Hour)
	b.size(f.Limits.ChatBody, "limits.chat_body", 64<<10, 16<<20)
	b.size(f.Limits.GitLabBody, "limits.gitlab_body", 64<<10, 64<<20)
	b.size(int64(f.Limits.InFlight), "limits.in_flight", 1, 100_000)
	b.size(int64(f.Limits.PerPerson), "limits.per_person", 0, 1_000_000)
	return c
}

func (b *builder) listen(l Listen) {
	b.address(l.Public, "listen.public")
	ok := b.address(l.Admin, "listen.admin")
	if ok && l.Public == l.Admin && !strings.HasSuffix(l.Admin, ":0") { // port 0: the system picks two
		b.d.report("listen.admin", "is the same address as listen.public")
	}
	if host, _, err := net.SplitHostPort(l.Admin); err == nil && ok && !l.AdminAnywhere && !loopback(host) {
		b.d.report("listen.admin", "can be reached from other machines and asks for no password: use 127.0.0.1, or set listen.admin_anywhere")
	}
}

func (b *builder) address(value, path string) bool {
	host, port, err := net.SplitHostPort(value)
	_, errPort := strconv.ParseUint(port, 10, 16) // 0 is good: the system picks a port
	if err != nil || errPort != nil || strings.ContainsAny(host, " /") {
		if !b.faulty(path) {
			b.d.report(path, "%q is not an address: write host:port, such as 127.0.0.1:8080", show(value))
		}
		return false
	}
	return true
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// url checks an address of a server and returns it without a trailing slash. It never repeats the
// value, which may hold a password.
func (b *builder) url(value, path string) string {
	if !b.need(value, path) {
		return ""
	}
	u, err := url.Parse(value)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		b.d.report(path, "is not an address of the form https://host")
	case u.User != nil:
		b.d.report(path, "contains a user name or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		b.d.report(path, "contains a query or a fragment (? or #)")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		b.warn(path, "tokens and commands travel unencrypted over http")
	}
	return strings.TrimRight(value, "/")
}

func (b *builder) slack(f *File, c *Config) {
	seen := names{}
	for i, s := range f.Slack {
		at := fmt.Sprintf("slack[%d]", i)
		b.spelling(s.Workspace, at+".workspace", slackTeam, "a team id such as T024BE7LD")
		b.unique(seen, s.Workspace, at+".workspace")
		b.oneOf(s.Mode, at+".mode", ModeHTTP, ModeSocket)
		out := Slack{
			Workspace: s.Workspace, Mode: s.Mode, Sockets: s.Sockets, History: s.History, May: s.May,
			SigningSecrets: b.secrets(s.SigningSecrets, at+".signing_secrets", rule{}),
			BotToken:       b.secret(s.BotToken, at+".bot_token", rule{prefix: "xoxb-"}),
			AppToken:       b.secret(s.AppToken, at+".app_token", rule{prefix: "xapp-", optional: s.Mode != ModeSocket}),
			APIURL:         b.url(s.APIURL, at+".api_url") + "/",
		}
		b.size(int64(s.Sockets), at+".sockets", 1, 10)
		if s.Mode == ModeHTTP && len(s.SigningSecrets) == 0 {
			b.d.report(at+".signing_secrets", "is missing: mode http needs at least one, as env:NAME or file:/path")
		}
		b.may(s.May, at+".may", slackUser, "a user id such as U024BE7LH; names are not accepted")
		c.Slack = append(c.Slack, out)
	}
}

func (b *builder) mattermost(f *File, c *Config) {
	seen := names{}
	if len(f.Mattermost) > 0 && f.PublicURL == "" && !b.faulty("public_url") {
		b.d.report("public_url", "is missing: Mattermost calls ocim back at this address")
	}
	for i, m := range f.Mattermost {
		at := fmt.Sprintf("mattermost[%d]", i)
		b.name(seen, m.Name, at+".name")
		b.spelling(m.Command, at+".command", slashCommand, "a word in lowercase, without the slash")
		if len(m.Teams) == 0 && !b.faulty(at+".teams") {
			b.d.report(at+".teams", "is missing: name at least one team")
		}
		teams := names{}
		for j, t := range m.Teams {
			p := fmt.Sprintf("%s.teams[%d]", at, j)
			b.spelling(t, p, mattermostTeam, "the name of a team as in its address, in lowercase")
			b.unique(teams, t, p)
		}
		out := Mattermost{
			Name: m.Name, Teams: m.Teams, Command: m.Command, May: m.May,
			URL:        b.url(m.URL, at+".url"),
			BotToken:   b.secret(m.BotToken, at+".bot_token", rule{}),
			PathSecret: b.secret(m.PathSecret, at+".path_secret", rule{segment: true}),
		}
		for j, other := range c.Mattermost {
			if other.PathSecret.Equal(out.PathSecret.Reveal()) {
				b.d.report(at+".path_secret", "is the secret of mattermost[%d]; each server needs its own, since it tells them apart", j)
			}
		}
		b.may(m.May, at+".may", mattermostUser, "a user id of 26 lowercase letters and digits; names are not accepted")
		c.Mattermost = append(c.Mattermost, out)
	}
}

func (b *builder) gitlab(f *File, c *Config) {
	seen := names{}
	for i, g := range f.GitLab {
		at := fmt.Sprintf("gitlab[%d]", i)
		b.name(seen, g.Name, at+".name")
		b.size(g.Rate, at+".rate", 1, 100)
		// Below the 30 s that a job may take, with room for what follows the call.
		b.between(g.Timeout, at+".timeout", time.Second, 25*time.Second)
		b.between(g.Linger, at+".linger", max(time.Second, g.Timeout), 30*time.Minute)
		if g.Linger < g.Timeout+time.Minute {
			// GitLab works for up to a minute on a request after the client has gone away.
			b.warn(at+".linger", "below timeout + 1m a request without an answer may be sent again while GitLab still works on it")
		}
		out := GitLab{
			Name: g.Name, Rate: g.Rate, Timeout: g.Timeout, Linger: g.Linger,
			URL:                  b.url(g.URL, at+".url"),
			Token:                b.secret(g.Token, at+".token", rule{}),
			WriteToken:           b.secret(g.WriteToken, at+".write_token", rule{optional: true}),
			WebhookTokens:        b.secrets(g.WebhookTokens, at+".webhook_tokens", rule{}),
			WebhookSigningTokens: b.secrets(g.WebhookSigningTokens, at+".webhook_signing_tokens", rule{prefix: "whsec_", signing: true}),
		}
		if strings.HasSuffix(out.URL, "/api/v4") {
			b.d.report(at+".url", "is the address of the API: leave out /api/v4")
		}
		for j, other := range c.GitLab {
			if shared(other.WebhookTokens, out.WebhookTokens) || shared(other.WebhookSigningTokens, out.WebhookSigningTokens) {
				b.d.report(at, "shares a webhook secret with gitlab[%d]; each server needs its own, since it tells them apart", j)
			}
		}
		c.GitLab = append(c.GitLab, out)
	}
}

func shared(a, b []secret.Secret) bool {
	return slices.ContainsFunc(a, func(s secret.Secret) bool {
		return slices.ContainsFunc(b, func(t secret.Secret) bool { return s.Equal(t.Reveal()) })
	})
}

func (b *builder) projects(f *File, c *Config) {
	c.Operations = b.operations(defaultOperations(), f.Operations, "operations")
	seen, ids := names{}, names{}
	for i, p := range f.Projects {
		at := fmt.Sprintf("projects[%d]", i)
		b.name(seen, p.Name, at+".name")
		g, server := b.server(p, c, at+".gitlab")
		switch {
		case b.faulty(at + ".id"):
		case p.ID == 0 && !b.d.written(at+".id"):
			b.d.report(at+".id", "is missing")
		case p.ID <= 0:
			b.d.report(at+".id", "is %d, want the project's id, a number above 0", p.ID)
		default:
			b.unique(ids, fmt.Sprintf("%s project %d", p.GitLab, p.ID), at+".id")
		}
		b.spelling(p.Ref, at+".ref", gitRef, "the name of a branch or tag")
		out := Project{
			Name: p.Name, GitLab: p.GitLab, ID: p.ID, Ref: p.Ref,
			TriggerToken: b.secret(p.TriggerToken, at+".trigger_token", rule{optional: true}),
			Token:        b.secret(p.Token, at+".token", rule{optional: true}),
			WriteToken:   b.secret(p.WriteToken, at+".write_token", rule{optional: true}),
			Operations:   b.operations(c.Operations, p.Operations, at+".operations"),
		}
		maps.DeleteFunc(out.Operations, func(verb string, _ Operation) bool {
			_, changed := p.Operations[verb]
			return !changed
		})
		if p.Token == "" {
			out.Token = g.Token
		}
		if p.WriteToken == "" {
			out.WriteToken = g.WriteToken
		}
		c.Projects = append(c.Projects, out)
		b.tokens(c, out, at, b.faulty(server+".write_token"))
	}
}

// server finds the GitLab server that a project names, and its path.
func (b *builder) server(p FileProject, c *Config, path string) (GitLab, string) {
	known := make([]string, len(c.GitLab))
	for i, g := range c.GitLab {
		if known[i] = g.Name; g.Name == p.GitLab && p.GitLab != "" {
			return g, fmt.Sprintf("gitlab[%d]", i)
		}
	}
	b.refers(p.GitLab, path, "gitlab", known)
	return GitLab{}, ""
}

// tokens reports the tokens that the operations of a project cannot do without. A token that is
// written but faulty, here or at the server, has its own problem.
func (b *builder) tokens(c *Config, p Project, at string, serverFaulty bool) {
	first := map[string]string{} // by start: the first verb that starts so
	for _, verb := range verbs(c.Operations, p.Operations) {
		op, ok := p.Operations[verb]
		if !ok {
			op = c.Operations[verb]
		}
		if first[op.Start] == "" {
			first[op.Start] = verb
		}
	}
	if verb := first[StartTrigger]; verb != "" && p.TriggerToken.Empty() && !b.faulty(at+".trigger_token") {
		b.d.report(at+".trigger_token", "is missing: operation %s starts by trigger", verb)
	}
	if verb := first[StartPipeline]; verb != "" && p.WriteToken.Empty() && !b.faulty(at+".write_token") && !serverFaulty {
		b.d.report(at+".write_token", "is missing here and at the server: operation %s starts by the pipelines API", verb)
	}
}

func (b *builder) clusters(c *Config) {
	known := make([]string, len(c.Projects))
	for i, p := range c.Projects {
		known[i] = p.Name
	}
	seen := names{}
	for i, cl := range c.Clusters {
		at := fmt.Sprintf("clusters[%d]", i)
		b.name(seen, cl.Name, at+".name")
		if cl.Project == "" || !slices.Contains(known, cl.Project) {
			b.refers(cl.Project, at+".project", "projects", known)
		}
		switch listed, read := len(cl.Instances) > 0, cl.InstancesFrom != ""; {
		case listed && read:
			b.d.report(at+".instances_from", "stands beside instances: the list or the folder, not both")
		case !listed && !read && !b.faulty(at) && !b.faulty(at+".instances") && !b.faulty(at+".instances_from"):
			b.d.report(at, "has neither instances nor instances_from")
		case read && (!path.IsAbs(cl.InstancesFrom) && path.Clean(cl.InstancesFrom) == cl.InstancesFrom && !strings.HasPrefix(cl.InstancesFrom, "..")):
		case read:
			b.d.report(at+".instances_from", "%q is not a folder of the repository, such as instances", show(cl.InstancesFrom))
		}
		instances := names{}
		for j, name := range cl.Instances {
			p := fmt.Sprintf("%s.instances[%d]", at, j)
			b.instance(cl.Name, name, p)
			b.unique(instances, name, p)
		}
	}
	if len(c.Clusters) == 0 && !b.faulty("clusters") {
		b.warn("clusters", "there are none, so nothing can be deployed")
	}
	if len(c.Slack)+len(c.Mattermost) == 0 && !b.faulty("slack") && !b.faulty("mattermost") {
		b.warn("", "there is neither slack nor mattermost, so nobody can reach ocim")
	}
}
