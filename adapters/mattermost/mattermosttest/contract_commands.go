package mattermosttest

import (
	"net/http"
	"strings"
)

const (
	errIDPermission  = "api.context.permissions.app_error"
	errIDFailed      = "api.command.execute_command.failed.app_error"
	errIDFailedResp  = "api.command.execute_command.failed_resp.app_error"
	errIDPostFailed  = "api.command.execute_command.create_post_failed.app_error"
	errIDIntegration = "api.post.do_action.action_integration.app_error"
)

func commandCases() []contractCase {
	return []contractCase{
		{"a command arrives as a form with its token", commandForm},
		{"a command's text keeps case, spaces and lines", commandText},
		{"a command names people and channels it mentions", commandMentions},
		{"a command in a thread", commandInThread},
		{"a command in a direct channel", commandInDirect},
		{"a command needs membership of the channel", commandMembership},
		{"a command may be answered with 200 alone", commandStatuses},
		{"a command's answer is JSON only if it says so", commandContentTypes},
		{"an ephemeral answer is for one user and is not stored", commandEphemeral},
		{"an unknown response type shows nothing", commandUnknownType},
		{"an answer in the channel belongs to the user", commandInChannel},
		{"an answer in another channel", commandOtherChannel},
		{"Slack markup is rewritten unless switched off", commandSlackMarkup},
		{"an answer can hold buttons with cookies", commandButtons},
		{"a redirect is followed with body and token", commandRedirect},
		{"a response_url works five times", commandResponseURL},
		{"registering, listing, changing and deleting", commandLifecycle},
		{"a trigger belongs to one command", commandDuplicate},
		{"a new token replaces the old at once", commandRegenToken},
		{"a user may not manage commands", commandPermissions},
		{"a bad registration is refused", commandValidation},
		{"an unknown command", commandUnknown},
	}
}

func commandForm(b *bench) {
	b.fine("command", b.types(""))
	got := b.app.last()
	for key, want := range map[string]string{
		"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json",
		"User-Agent": "Mattermost-Bot/1.1", "Authorization": "Token " + b.command.Token,
	} {
		if v := got.header.Get(key); v != want {
			b.Errorf("header %s: got %q, want %q", key, v, want)
		}
	}
	form := got.form()
	for key, want := range map[string]string{
		"channel_id": b.channel, "command": "/" + b.command.Trigger, "root_id": "", "team_domain": Team,
		"team_id": b.TeamID, "text": "", "token": b.command.Token, "user_id": b.Accounts["alice"].ID,
		"user_name": "alice",
	} {
		if v, present := form[key]; !present || v[0] != want {
			b.Errorf("form field %s: got %q, want %q", key, v, want)
		}
	}
	if u := form.Get("response_url"); !strings.HasPrefix(u, b.URL+"/hooks/commands/") {
		b.Errorf("response_url: got %q, want one below %s/hooks/commands/", u, b.URL)
	}
	if len(form) != 12 || form.Get("trigger_id") == "" || form.Get("channel_name") == "" {
		b.Errorf("form: got %d fields %v, want 12 with trigger_id and channel_name", len(form), form)
	}
}

func commandText(b *bench) {
	for typed, want := range map[string]string{
		"  List   x ": " List   x ", "\nsecond Line": "second Line", " ünï ✓": "ünï ✓",
	} {
		r, err := b.Command(b.ctx, "alice", b.channel, "", "/"+strings.ToUpper(b.command.Trigger)+typed)
		b.ok(err)
		b.fine("command", r)
		form := b.app.last().form()
		if got := form.Get("text"); got != want {
			b.Errorf("text of %q: got %q, want %q", typed, got, want)
		}
		if got := form.Get("command"); got != "/"+b.command.Trigger {
			b.Errorf("command: got %q, want it in lower case", got)
		}
	}
}

func commandMentions(b *bench) {
	b.fine("command", b.types(" @bob @nobody ~"+Channel))
	form := b.app.last().form()
	for key, want := range map[string]string{
		"user_mentions": "bob", "user_mentions_ids": b.Accounts["bob"].ID,
		"channel_mentions": Channel, "channel_mentions_ids": b.Channels[Channel],
	} {
		if got := strings.Join(form[key], " "); got != want {
			b.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
}

func commandInThread(b *bench) {
	root := b.post(Post{Message: "root"})
	b.app.answerJSON(`{"response_type":"in_channel","text":"in thread"}`)
	r, err := b.Command(b.ctx, "alice", b.channel, root.ID, "/"+b.command.Trigger+" x")
	b.ok(err)
	b.fine("command", r)
	if got := b.app.last().form().Get("root_id"); got != root.ID {
		b.Errorf("root_id: got %q, want %q", got, root.ID)
	}
	if got := b.newest(); got.RootID != root.ID || got.Message != "in thread" {
		b.Errorf("answer: got %q in thread %q, want it in %q", got.Message, got.RootID, root.ID)
	}
}

func commandInDirect(b *bench) {
	direct := b.must(b.Direct(b.ctx, "alice", Bot))
	r, err := b.Command(b.ctx, "alice", direct, "", "/"+b.command.Trigger+" dm")
	b.ok(err)
	b.fine("command", r)
	form := b.app.last().form()
	if form.Get("channel_id") != direct || form.Get("team_id") != b.TeamID {
		b.Errorf("got channel %q of team %q, want the direct channel and the client's team",
			form.Get("channel_id"), form.Get("team_id"))
	}
	a := b.call("alice", http.MethodPost, "/commands/execute",
		map[string]string{"channel_id": direct, "command": "/" + b.command.Trigger})
	b.refused("without a team", a.Err(), http.StatusForbidden, errIDPermission)
}

func commandMembership(b *bench) {
	r, err := b.Command(b.ctx, "carol", b.channel, "", "/"+b.command.Trigger)
	b.ok(err)
	b.refused("command of a stranger", r.Err, http.StatusForbidden, errIDPermission)
	if n := len(b.app.requests()); n != 0 {
		b.Errorf("requests: got %d, want none", n)
	}
}

func commandStatuses(b *bench) {
	for _, status := range []int{201, 202, 204, 400, 404, 429, 500, 503} {
		b.app.answer(status, "", "")
		r := b.types("")
		b.refused("answer "+http.StatusText(status), r.Err, http.StatusInternalServerError, errIDFailedResp)
	}
	b.app.answer(500, "text/plain", "the reason")
	if r := b.types(""); r.Err == nil || strings.Contains(r.Err.Message, "the reason") {
		b.Errorf("answer 500 with text: got %v, want an error without the text", r.Err)
	}
	b.app.answer(200, "", "")
	r := b.types("")
	b.fine("empty 200", r)
	if len(r.Ephemeral) != 0 {
		b.Errorf("empty 200: got %q shown, want silence", r.Text())
	}
	b.app.answerWith(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.refused("dropped connection", b.types("").Err, http.StatusInternalServerError, errIDFailed)
}

func commandContentTypes(b *bench) {
	for _, c := range []struct{ kind, body, want string }{
		{"application/json", `{"text":"hi"}`, "hi"},
		{"application/json; charset=utf-8", `{"text":"hi"}`, "hi"},
		{"text/plain", `{"text":"hi"}`, `{"text":"hi"}`},
		{"", "plain", "plain"},
	} {
		b.app.answer(200, c.kind, c.body)
		r := b.types("")
		b.fine(c.kind, r)
		if got := r.Text(); got != c.want {
			b.Errorf("answer of type %q: got %q shown, want %q", c.kind, got, c.want)
		}
	}
	for name, body := range map[string]string{
		"empty": "", "broken": `{"text":`, "over 1 MiB": `{"text":"` + strings.Repeat("a", 1<<20) + `"}`,
	} {
		b.app.answerJSON(body)
		b.refused(name+" JSON", b.types("").Err, http.StatusInternalServerError, errIDFailed)
	}
}

func commandEphemeral(b *bench) {
	b.ok(b.Watch(b.ctx, "bob"))
	for _, text := range []string{"just you", strings.Repeat("x", 20000)} {
		b.app.answerJSON(`{"response_type":"ephemeral","text":"` + text + `"}`)
		r := b.types("")
		b.fine("command", r)
		if len(r.Ephemeral) != 1 || r.Ephemeral[0].Message != text {
			b.Fatalf("got %d posts shown, want the one of %d characters", len(r.Ephemeral), len(text))
		}
		p := r.Ephemeral[0]
		if p.Type != "system_ephemeral" || p.UserID != b.Accounts["alice"].ID || p.ChannelID != b.channel {
			b.Errorf("got type %q of user %q in %q, want an ephemeral post of the invoker here",
				p.Type, p.UserID, p.ChannelID)
		}
		b.refused("read it", b.call(Admin, http.MethodGet, "/posts/"+p.ID, nil).Err(), 404, "app.post.get.app_error")
	}
	events, err := b.Events(b.ctx, "bob")
	b.ok(err)
	for _, e := range events {
		if p, isPost := e.post(); isPost && e.Event == "ephemeral_message" && p.ChannelID == b.channel {
			b.Errorf("bob: got shown %q, want nothing", p.Message)
		}
	}
}

func commandUnknownType(b *bench) {
	b.app.answerJSON(`{"response_type":"sideways","text":"hi"}`)
	r := b.types("")
	b.fine("unknown type", r)
	if r.Text() != "" || b.newest().ID != "" {
		b.Errorf("got %q shown and %q posted, want nothing", r.Text(), b.newest().Message)
	}
}

func commandInChannel(b *bench) {
	b.app.answerJSON(`{"response_type":"in_channel","text":"for all","username":"somebody","props":{"k":"v"}}`)
	b.fine("command", b.types(""))
	p := b.newest()
	if p.UserID != b.Accounts["alice"].ID || p.Message != "for all" {
		b.Fatalf("got %q of user %q, want alice's post", p.Message, p.UserID)
	}
	for key, want := range map[string]string{"from_webhook": "true", "override_username": "somebody", "k": "v"} {
		if p.Props[key] != want {
			b.Errorf("prop %s: got %v, want %q", key, p.Props[key], want)
		}
	}
	a := b.call(Bot, http.MethodPut, "/posts/"+p.ID+"/patch", map[string]string{"message": "changed"})
	b.refused("bot edits it", a.Err(), http.StatusForbidden, errIDPermission)

	b.app.answerJSON(`{"response_type":"in_channel","text":"` + strings.Repeat("é", maxMessageRunes) + `"}`)
	b.fine("longest message", b.types(""))
	b.app.answerJSON(`{"response_type":"in_channel","text":"` + strings.Repeat("é", maxMessageRunes+1) + `"}`)
	b.refused("too long", b.types("").Err, http.StatusInternalServerError, errIDPostFailed)
}

func commandOtherChannel(b *bench) {
	other := b.must(b.NewChannel(b.ctx, "O", "other", "alice"))
	b.app.answerJSON(`{"response_type":"in_channel","text":"over there","channel_id":"` + other + `"}`)
	b.fine("channel of the invoker", b.types(""))
	posts, err := b.Posts(b.ctx, other)
	b.ok(err)
	if got := posts[len(posts)-1].Message; got != "over there" {
		b.Errorf("other channel: got %q, want the answer", got)
	}
	b.ok(b.Leave(b.ctx, other, "alice"))
	b.app.answerJSON(`{"response_type":"in_channel","text":"again","channel_id":"` + other + `"}`)
	b.refused("channel of others", b.types("").Err, http.StatusInternalServerError, errIDPostFailed)
}

func commandSlackMarkup(b *bench) {
	const text = `<https://example.com|here> <!channel>`
	for _, c := range []struct{ extra, want string }{
		{``, "[here](https://example.com) @channel"},
		{`,"skip_slack_parsing":true`, text},
	} {
		b.app.answerJSON(`{"text":"` + text + `"` + c.extra + `}`)
		if got := b.types("").Text(); got != c.want {
			b.Errorf("answer%s: got %q, want %q", c.extra, got, c.want)
		}
	}
	// Links in attachments are rewritten even so.
	b.app.answerJSON(`{"skip_slack_parsing":true,"attachments":[{"text":"` + text + `"}]}`)
	if got, want := b.types("").Text(), "[here](https://example.com) <!channel>"; got != want {
		b.Errorf("attachment: got %q, want %q", got, want)
	}
}

func commandButtons(b *bench) {
	b.app.answerJSON(`{"text":"choose","attachments":[{"actions":[{"id":"go","type":"button","name":"Go",
		"integration":{"url":"` + b.app.url + `/action","context":{"op":"go"}}}]}]}`)
	r := b.types("")
	b.fine("command", r)
	if len(r.Ephemeral) != 1 {
		b.Fatalf("got %d posts shown, want 1", len(r.Ephemeral))
	}
	p := r.Ephemeral[0]
	if a := p.Actions(); len(a) != 1 || a[0].Cookie == "" || a[0].Integration != nil {
		b.Fatalf("got actions %+v, want one with a cookie and no integration", a)
	}
	b.app.answerJSON(`{"ephemeral_text":"went"}`)
	r = b.clicks("alice", p, "go", "")
	b.fine("click", r)
	if got := b.app.last().click(); got.Context["op"] != "go" || got.PostID != p.ID || got.UserID != b.Accounts["alice"].ID {
		b.Errorf("got %+v, want the context, the post and alice", got)
	}
	if r.Text() != "went" {
		b.Errorf("got %q shown, want %q", r.Text(), "went")
	}
	b.fine("another member with the same cookie", b.clicks("bob", p, "go", ""))
	if got := b.app.last().click().UserName; got != "bob" {
		b.Errorf("second click: got it from %q, want bob", got)
	}
	b.refused("a stranger", b.stranger(p), http.StatusForbidden, errIDPermission)
	b.app.answerJSON(`{"update":{"message":"changed"}}`)
	b.refused("update", b.clicks("alice", p, "go", "").Err, http.StatusNotFound, "app.post.get.app_error")
	p.Props = nil
	b.refused("no cookie", b.clicks("alice", p, "go", "").Err, http.StatusForbidden, errIDPermission)
}

// stranger clicks with the cookie from outside a private channel: carol is in
// the team, so an open channel would let her.
func (b *bench) stranger(open Post) *APIError {
	b.Helper()
	private := b.must(b.NewChannel(b.ctx, "P", "private", "alice"))
	b.app.answerJSON(`{"text":"x","attachments":[{"actions":[{"id":"go","type":"button","name":"Go",
		"integration":{"url":"` + b.app.url + `/action"}}]}]}`)
	r, err := b.Command(b.ctx, "alice", private, "", "/"+b.command.Trigger)
	b.ok(err)
	if len(r.Ephemeral) != 1 {
		b.Fatalf("private channel: got %d posts shown, want 1 (beside %s)", len(r.Ephemeral), open.ID)
	}
	return b.clicks("carol", r.Ephemeral[0], "go", "").Err
}

func commandRedirect(b *bench) {
	b.app.answerWith(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	b.fine("redirected", b.types(" x"))
	got := b.app.last()
	if got.path != "/elsewhere" || got.form().Get("text") != "x" || got.header.Get("Authorization") == "" {
		b.Errorf("got %s with text %q and token %q, want all of it again",
			got.path, got.form().Get("text"), got.header.Get("Authorization"))
	}
}

func commandResponseURL(b *bench) {
	root := b.post(Post{Message: "root"})
	r, err := b.Command(b.ctx, "alice", b.channel, root.ID, "/"+b.command.Trigger)
	b.ok(err)
	b.fine("command", r)
	path := strings.TrimPrefix(b.app.last().form().Get("response_url"), b.URL)
	for i := range responseURLUses {
		a := b.call("", http.MethodPost, path, map[string]string{"response_type": "in_channel", "text": "later"})
		if a.Status != http.StatusOK || string(a.Body) != "ok" {
			b.Fatalf("use %d: got %d %s, want 200 ok", i+1, a.Status, a.Body)
		}
	}
	if p := b.newest(); p.Message != "later" || p.RootID != root.ID || p.UserID != b.Accounts["alice"].ID {
		b.Errorf("got %q in thread %q, want alice's answer in %q", p.Message, p.RootID, root.ID)
	}
	a := b.call("", http.MethodPost, path, map[string]string{"text": "once more"})
	b.refused("sixth use", a.Err(), http.StatusBadRequest, "web.command_webhook.general.app_error")
	a = b.call("", http.MethodPost, "/hooks/commands/"+newID(), map[string]string{"text": "x"})
	b.refused("unknown", a.Err(), http.StatusNotFound, "web.command_webhook.general.app_error")
}

func commandLifecycle(b *bench) {
	if c := b.command; !validID(c.Token) || c.CreatorID != b.Accounts[Bot].ID || c.TeamID != b.TeamID {
		b.Errorf("created: got %+v, want a token, the bot and the team", c)
	}
	list, err := do[[]SlashCommand](b.ctx, b.Peer, Bot, http.MethodGet, "/commands?custom_only=true&team_id="+b.TeamID, nil)
	b.ok(err)
	found := false
	for _, c := range list {
		if c.ID == b.command.ID {
			found = c.Token == b.command.Token && c.URL == b.command.URL
		}
	}
	if !found {
		b.Errorf("list: got %d commands, want mine among them, with its token", len(list))
	}
	changed := b.command
	changed.URL, changed.Token = b.app.url+"/moved", newID()
	got, err := do[SlashCommand](b.ctx, b.Peer, Bot, http.MethodPut, "/commands/"+changed.ID, changed)
	b.ok(err)
	if got.Token != b.command.Token || got.URL != changed.URL {
		b.Errorf("changed: got %+v, want the new URL and the old token", got)
	}
	b.fine("command", b.types(""))
	if p := b.app.last().path; p != "/moved" {
		b.Errorf("went to %s, want /moved", p)
	}
	if a := b.call(Bot, http.MethodDelete, "/commands/"+changed.ID, nil); a.Status != http.StatusOK {
		b.Errorf("delete: got %d, want 200", a.Status)
	}
	b.refused("deleted", b.types("").Err, 404, "api.command.execute_command.not_found.app_error")
	a := b.call(Bot, http.MethodGet, "/commands/"+changed.ID, nil)
	b.refused("read it", a.Err(), http.StatusNotFound, "store.sql_command.save.get.app_error")
}

func commandDuplicate(b *bench) {
	for _, trigger := range []string{b.command.Trigger, strings.ToUpper(b.command.Trigger), "help", "me"} {
		a := b.call(Bot, http.MethodPost, "/commands", SlashCommand{
			TeamID: b.TeamID, Trigger: trigger, Method: "P", URL: b.app.url,
		})
		b.refused("trigger "+trigger, a.Err(), http.StatusBadRequest, "api.command.duplicate_trigger.app_error")
	}
}

func commandRegenToken(b *bench) {
	got, err := do[struct{ Token string }](b.ctx, b.Peer, Bot, http.MethodPut, "/commands/"+b.command.ID+"/regen_token", nil)
	b.ok(err)
	if got.Token == b.command.Token || !validID(got.Token) {
		b.Fatalf("got token %q, want a new one", got.Token)
	}
	b.fine("command", b.types(""))
	if v := b.app.last().form().Get("token"); v != got.Token {
		b.Errorf("form: got token %q, want the new one", v)
	}
}

func commandPermissions(b *bench) {
	a := b.call("alice", http.MethodPost, "/commands", SlashCommand{
		TeamID: b.TeamID, Trigger: "x" + newID(), Method: "P", URL: b.app.url,
	})
	b.refused("create", a.Err(), http.StatusForbidden, errIDPermission)
	a = b.call("alice", http.MethodGet, "/commands?custom_only=true&team_id="+b.TeamID, nil)
	b.refused("list", a.Err(), http.StatusForbidden, errIDPermission)
	const missing = "store.sql_command.save.get.app_error"
	b.refused("read", b.call("alice", http.MethodGet, "/commands/"+b.command.ID, nil).Err(), 404, missing)
	b.refused("change", b.call("alice", http.MethodPut, "/commands/"+b.command.ID, b.command).Err(), 404, missing)
	b.refused("delete", b.call("alice", http.MethodDelete, "/commands/"+b.command.ID, nil).Err(), 404, missing)
	b.refused("new token", b.call("alice", http.MethodPut, "/commands/"+b.command.ID+"/regen_token", nil).Err(), 404, missing)
	list, err := do[[]SlashCommand](b.ctx, b.Peer, "alice", http.MethodGet, "/commands?team_id="+b.TeamID, nil)
	b.ok(err)
	for _, c := range list {
		if c.Token != "" || c.URL != "" {
			b.Errorf("a user's list: got %+v, want no token and no URL", c)
		}
	}
}

func commandValidation(b *bench) {
	base := SlashCommand{TeamID: b.TeamID, Trigger: "x" + newID(), Method: "P", URL: b.app.url}
	for name, c := range map[string]struct {
		change func(*SlashCommand)
		id     string
	}{
		"a slash in front": {func(c *SlashCommand) { c.Trigger = "/x" }, "model.command.is_valid.trigger.app_error"},
		"no URL":           {func(c *SlashCommand) { c.URL = "" }, "model.command.is_valid.url.app_error"},
		"no method":        {func(c *SlashCommand) { c.Method = "" }, "model.command.is_valid.method.app_error"},
		"another scheme":   {func(c *SlashCommand) { c.URL = "ftp://x/" }, "model.command.is_valid.url_http.app_error"},
	} {
		cmd := base
		c.change(&cmd)
		b.refused(name, b.call(Bot, http.MethodPost, "/commands", cmd).Err(), http.StatusBadRequest, c.id)
	}
}

func commandUnknown(b *bench) {
	r, err := b.Command(b.ctx, "alice", b.channel, "", "/nonesuch"+newID())
	b.ok(err)
	b.refused("unknown", r.Err, http.StatusNotFound, "api.command.execute_command.not_found.app_error")
	r, err = b.Command(b.ctx, "alice", b.channel, "", "no slash")
	b.ok(err)
	b.refused("no slash", r.Err, http.StatusBadRequest, "api.command.execute_command.start.app_error")
}
