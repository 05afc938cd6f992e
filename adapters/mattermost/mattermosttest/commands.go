package mattermosttest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// responseHook is a response_url.
type responseHook struct {
	commandID, userID, channelID, rootID string
	uses                                 int
	until                                time.Time
}

// builtins are triggers that no command may take (Mattermost:
// channels/app/slashcommands).
func builtins() []string {
	return []string{
		"away", "code", "collapse", "dnd", "echo", "expand", "groupmsg", "header", "help", "invite", "join",
		"kick", "leave", "logout", "marketplace", "me", "msg", "mute", "offline", "online", "open", "purpose",
		"remove", "rename", "search", "settings", "shortcuts", "shrug", "status",
	}
}

func (s *Server) listCommands(c *call) (reply, *APIError) {
	q := c.r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	teamID := q.Get("team_id")
	switch {
	case teamID == "":
		return fail(errBody("team_id"))
	case !s.inTeam(c.user, teamID):
		return fail(errPermission())
	case q.Get("custom_only") == "true" && !s.manages(c.user, teamID):
		return fail(errPermission())
	}
	out := []SlashCommand{}
	for _, cmd := range s.commands {
		if cmd.TeamID != teamID {
			continue
		}
		shown := *cmd
		if q.Get("custom_only") != "true" { // a list for autocompletion, without the private parts
			shown.Token, shown.CreatorID, shown.Method, shown.URL, shown.Username, shown.IconURL = "", "", "", "", "", ""
		}
		if q.Get("custom_only") == "true" || s.manages(c.user, teamID) || shown.AutoComplete {
			out = append(out, shown)
		}
	}
	return ok(out)
}

func (s *Server) createCommand(c *call) (reply, *APIError) {
	var in SlashCommand
	if err := c.decode("command", &in); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.manages(c.user, in.TeamID) {
		return fail(errPermission())
	}
	in.Trigger = strings.ToLower(in.Trigger)
	taken := slices.ContainsFunc(s.commands, func(o *SlashCommand) bool {
		return o.TeamID == in.TeamID && o.Trigger == in.Trigger
	})
	if taken || slices.Contains(builtins(), in.Trigger) {
		return fail(apiError(http.StatusBadRequest, "api.command.duplicate_trigger.app_error",
			"This trigger word is already in use. Please choose another word."))
	}
	if err := validCommand(in); err != nil {
		return fail(err)
	}
	at := s.stamp()
	in.ID, in.Token, in.CreatorID, in.CreateAt, in.UpdateAt, in.DeleteAt = newID(), newID(), c.user.id, at, at, 0
	s.commands = append(s.commands, &in)
	return created(in)
}

func validCommand(in SlashCommand) *APIError {
	bad := func(what, message string) *APIError {
		return apiError(http.StatusBadRequest, "model.command.is_valid."+what+".app_error", message)
	}
	u, err := url.Parse(in.URL)
	switch {
	case in.Trigger == "" || len(in.Trigger) > 128 || strings.HasPrefix(in.Trigger, "/") ||
		strings.Contains(in.Trigger, " "):
		return bad("trigger", "Invalid trigger.")
	case in.URL == "" || len(in.URL) > 1024:
		return bad("url", "Invalid URL.")
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		return bad("url_http", "Invalid URL. Must be a valid URL and start with http:// or https://.")
	case in.Method != "P" && in.Method != "G":
		return bad("method", "Invalid Method.")
	case len(in.DisplayName) > 64:
		return bad("display_name", "Invalid title.")
	case len(in.Description) > 128:
		return bad("description", "Invalid description.")
	}
	return nil
}

// ownCommand finds the command of the route for somebody who may see it. To
// everybody else it does not exist.
func (s *Server) ownCommand(c *call) (*SlashCommand, *APIError) {
	i := slices.IndexFunc(s.commands, func(o *SlashCommand) bool { return o.ID == c.path("id") })
	if i < 0 || !s.manages(c.user, s.commands[i].TeamID) {
		return nil, errCommandMissing()
	}
	return s.commands[i], nil
}

func (s *Server) getCommand(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd, err := s.ownCommand(c)
	if err != nil {
		return fail(err)
	}
	return ok(*cmd)
}

// updateCommand changes what a command says and where it goes. Id, token,
// creator and team stay.
func (s *Server) updateCommand(c *call) (reply, *APIError) {
	var in SlashCommand
	if err := c.decode("command", &in); err != nil || in.ID != c.path("id") {
		return fail(errBody("command"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd, err := s.ownCommand(c)
	if err != nil {
		return fail(err)
	}
	if in.TeamID != cmd.TeamID {
		return fail(apiError(http.StatusBadRequest, "api.command.team_mismatch.app_error",
			"Unable to update commands across teams."))
	}
	in.Trigger = strings.ToLower(in.Trigger)
	in.Token, in.CreatorID, in.CreateAt, in.UpdateAt = cmd.Token, cmd.CreatorID, cmd.CreateAt, s.stamp()
	in.DeleteAt, in.PluginID = cmd.DeleteAt, cmd.PluginID
	if err := validCommand(in); err != nil {
		return fail(err)
	}
	*cmd = in
	return ok(in)
}

func (s *Server) deleteCommand(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd, err := s.ownCommand(c)
	if err != nil {
		return fail(err)
	}
	s.commands = slices.DeleteFunc(s.commands, func(o *SlashCommand) bool { return o == cmd })
	return statusOK()
}

func (s *Server) regenCommandToken(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd, err := s.ownCommand(c)
	if err != nil {
		return fail(err)
	}
	cmd.Token = newID()
	return ok(map[string]string{"token": cmd.Token})
}

func (s *Server) executeCommand(c *call) (reply, *APIError) {
	var in struct {
		ChannelID string `json:"channel_id"`
		TeamID    string `json:"team_id"`
		RootID    string `json:"root_id"`
		Command   string `json:"command"`
	}
	if err := c.decode("command_args", &in); err != nil {
		return fail(err)
	}
	if len(in.Command) <= 1 || in.Command[0] != '/' || !validID(in.ChannelID) {
		return fail(apiError(http.StatusBadRequest, "api.command.execute_command.start.app_error",
			"No command trigger found."))
	}
	s.mu.Lock()
	if !s.writes(c.user, in.ChannelID) {
		s.mu.Unlock()
		return fail(errPermission())
	}
	if ch := s.channels[in.ChannelID]; ch.teamID != "" {
		in.TeamID = ch.teamID
	} else if !s.inTeam(c.user, in.TeamID) {
		s.mu.Unlock()
		return fail(errPermission())
	}
	trigger, text := in.Command[1:], ""
	if i := strings.IndexFunc(trigger, unicode.IsSpace); i >= 0 {
		trigger, text = trigger[:i], trigger[i+1:]
	}
	trigger = strings.ToLower(trigger)
	i := slices.IndexFunc(s.commands, func(o *SlashCommand) bool {
		return o.TeamID == in.TeamID && o.Trigger == trigger
	})
	if i < 0 {
		s.mu.Unlock()
		return fail(apiError(http.StatusNotFound, "api.command.execute_command.not_found.app_error",
			"Command with a trigger of '"+trigger+"' not found. To send a message beginning with \"/\", "+
				"try adding an empty space at the beginning of the message."))
	}
	cmd := *s.commands[i]
	hook := &responseHook{
		commandID: cmd.ID, userID: c.user.id, channelID: in.ChannelID, rootID: in.RootID,
		until: s.clock.Now().Add(responseURLLife),
	}
	short, form := s.commandForm(cmd, c.user, hook, trigger, text)
	s.mu.Unlock()

	got, err := s.callCommand(cmd, form)
	if err != nil {
		return fail(err)
	}
	got.TriggerID = short
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.commandAnswered(c.user, hook, trigger, got); err != nil {
		return fail(err)
	}
	return ok(got)
}

// commandForm is what the integration gets, with a new response_url.
func (s *Server) commandForm(
	cmd SlashCommand, u *user, hook *responseHook, trigger, text string,
) (short string, form url.Values) {
	hookID := newID()
	s.hooks[hookID] = hook
	ch := s.channels[hook.channelID]
	short, full := s.newTrigger(u.id)
	form = url.Values{
		"channel_id": {ch.id}, "channel_name": {ch.name}, "command": {"/" + trigger},
		"response_url": {s.URL + "/hooks/commands/" + hookID}, "root_id": {hook.rootID},
		"team_domain": {s.teams[cmd.TeamID].name}, "team_id": {cmd.TeamID}, "text": {text}, "token": {cmd.Token},
		"trigger_id": {full}, "user_id": {u.id}, "user_name": {u.name},
	}
	for _, m := range commandMention().FindAllStringSubmatch(text, -1) {
		named := s.userByName(strings.TrimRight(strings.ToLower(m[2]), ".-_"))
		if m[1] == "@" && named != nil && s.inTeam(named, cmd.TeamID) {
			form.Add("user_mentions", named.name)
			form.Add("user_mentions_ids", named.id)
		}
		named2 := s.channelByName(cmd.TeamID, m[2])
		if m[1] == "~" && named2 != nil && named2.kind == "O" {
			form.Add("channel_mentions", named2.name)
			form.Add("channel_mentions_ids", named2.id)
		}
	}
	return short, form
}

func commandMention() *regexp.Regexp { return regexp.MustCompile(`\B([@~])([\w.-]+)`) }

func (s *Server) callCommand(cmd SlashCommand, form url.Values) (*commandReply, *APIError) {
	header := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {"Token " + cmd.Token},
	}
	got, err := s.deliver("command", cmd.URL, header, []byte(form.Encode()))
	if err != nil {
		return nil, errCommandFailed(cmd.Trigger)
	}
	if got.status != http.StatusOK {
		return nil, apiError(http.StatusInternalServerError, "api.command.execute_command.failed_resp.app_error",
			"Command with a trigger of '"+cmd.Trigger+"' returned response "+got.statusLine+".")
	}
	out, valid := parseCommandReply(got.contentType, got.body)
	if !valid {
		return nil, errCommandFailed(cmd.Trigger)
	}
	return out, nil
}

// parseCommandReply reads JSON only if the answer says that it is; anything
// else is text.
func parseCommandReply(contentType string, body []byte) (*commandReply, bool) {
	kind, _, _ := strings.Cut(contentType, ";")
	if strings.TrimSpace(kind) != "application/json" {
		return &commandReply{Text: string(body)}, true
	}
	var out commandReply
	if json.Unmarshal(body, &out) != nil {
		return nil, false
	}
	return &out, true
}

// commandAnswered shows the answer and its extra answers. Callers hold mu.
func (s *Server) commandAnswered(u *user, hook *responseHook, trigger string, got *commandReply) *APIError {
	failed := false
	for _, r := range append([]*commandReply{got}, got.ExtraResponses...) {
		if !s.showReply(u, hook, r) {
			failed = true
		}
	}
	if failed {
		return apiError(http.StatusInternalServerError, "api.command.execute_command.create_post_failed.app_error",
			"Command '"+trigger+"' failed to post response. Please contact your System Administrator.")
	}
	return nil
}

func (s *Server) showReply(u *user, hook *responseHook, r *commandReply) bool {
	p := Post{UserID: u.id, ChannelID: hook.channelID, RootID: hook.rootID, Type: r.Type, Props: props(r.Props)}
	if r.ChannelID != "" {
		if ch := s.channels[r.ChannelID]; ch == nil || !ch.members[u.id] {
			return false
		}
		p.ChannelID = r.ChannelID
	}
	if strings.HasPrefix(p.Type, "system_") {
		return false
	}
	if r.Username != "" {
		p.Props["override_username"] = r.Username
	}
	p.Props["override_icon_url"] = r.IconURL
	p.Props["from_webhook"] = "true"
	s.unslack(r)
	p.Message = r.Text
	if r.Attachments != nil {
		if p.Type == "" {
			p.Type = "slack_attachment"
		}
		p.Props["attachments"] = r.Attachments
	}
	if r.ResponseType == "in_channel" {
		_, err := s.addPost(u, newPost{
			ChannelID: p.ChannelID, RootID: p.RootID, Message: p.Message, Type: p.Type, Props: p.Props,
		})
		return err == nil
	}
	if (r.ResponseType == "" || r.ResponseType == "ephemeral") && (r.Text != "" || r.Attachments != nil) {
		shown := s.sendEphemeral(u.id, p)
		if r.Attachments != nil { // the client's answer carries the cookies too
			r.Attachments = shown.Attachments()
		}
	}
	return true
}

// unslack rewrites Slack's markup, unless the integration says that there is
// none: <!channel> becomes a real mention.
func (s *Server) unslack(r *commandReply) {
	whole := func(text string) string {
		for _, word := range []string{"channel", "here", "all"} {
			text = strings.ReplaceAll(text, "<!"+word+">", "@"+word)
		}
		return slackUser().ReplaceAllStringFunc(text, func(m string) string {
			if u := s.users[m[2:len(m)-1]]; u != nil {
				return "@" + u.name
			}
			return m
		})
	}
	if r.SkipSlackParsing {
		whole = func(text string) string { return text }
	} else {
		r.Text = slackLinks(whole(r.Text))
	}
	for _, a := range r.Attachments {
		a.Text, a.Pretext, a.Title = slackLinks(whole(a.Text)), slackLinks(whole(a.Pretext)), whole(a.Title)
		for _, f := range a.Fields {
			if v, isText := f.Value.(string); isText {
				f.Value = slackLinks(whole(v))
			}
		}
	}
}

func slackUser() *regexp.Regexp { return regexp.MustCompile(`<@[a-z0-9]{26}>`) }

// slackLinks turns <url|text> into a Markdown link.
func slackLinks(text string) string {
	return regexp.MustCompile(`<([^<|]+)\|([^>]+)>`).ReplaceAllString(text, "[${2}](${1})")
}

// useResponseURL is the deferred answer: no session, responseURLUses times
// within responseURLLife.
func (s *Server) useResponseURL(c *call) (reply, *APIError) {
	id := c.path("id")
	failed := func(status int) (reply, *APIError) {
		return fail(apiError(status, "web.command_webhook.general.app_error",
			"Failed to handle command webhook "+id+"."))
	}
	got, valid := parseCommandReply(c.r.Header.Get("Content-Type"), c.body)
	if !valid || !utf8.Valid(c.body) {
		return fail(apiError(http.StatusBadRequest, "web.command_webhook.parse.app_error",
			"Unable to parse incoming data for webhook "+id+"."))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	hook := s.hooks[id]
	if hook == nil || s.clock.Now().After(hook.until) {
		return failed(http.StatusNotFound)
	}
	if !slices.ContainsFunc(s.commands, func(o *SlashCommand) bool { return o.ID == hook.commandID }) ||
		hook.uses >= responseURLUses {
		return failed(http.StatusBadRequest)
	}
	hook.uses++
	if err := s.commandAnswered(s.users[hook.userID], hook, "", got); err != nil {
		return failed(err.StatusCode)
	}
	return reply{status: http.StatusOK, body: []byte("ok"), contentType: "text/plain"}, nil
}
