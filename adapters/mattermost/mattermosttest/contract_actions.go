package mattermosttest

import (
	"net/http"
	"strings"
	"sync"
)

func button(id string) Action { return Action{ID: id, Type: "button", Name: "Press " + id} }

func actionCases() []contractCase {
	return []contractCase{
		{"a click arrives as JSON without any proof", actionRequest},
		{"a click in a direct channel has no team", actionInDirect},
		{"an action id of more than letters and digits is dead", actionIDs},
		{"an action without an id gets one", actionGeneratedID},
		{"of two actions with one id the first wins", actionDuplicateID},
		{"nobody gets an integration back", actionHidden},
		{"a menu's choice is not checked", actionSelect},
		{"anybody can make a button for our URL", actionForged},
		{"only members of the channel click", actionMembership},
		{"parallel clicks are as many requests", actionParallel},
		{"an answer must be 200 and empty or JSON", actionAnswers},
		{"an update without props keeps the buttons", actionUpdateKeeps},
		{"an update with empty props clears them", actionUpdateClears},
		{"an update of props alone empties the message", actionUpdatePropsOnly},
		{"an update keeps pin and thread and is an edit", actionUpdateKeepsRest},
		{"too long an update changes nothing", actionUpdateTooLong},
		{"an ephemeral text is for the clicker", actionEphemeralText},
		{"a deleted post cannot be clicked", actionDeleted},
		{"writing back what was read kills the buttons", actionReadBack},
		{"context numbers are floating point", actionNumbers},
	}
}

func actionRequest(b *bench) {
	p := b.card(Action{ID: "go", Type: "button", Name: "Go", Integration: &Integration{
		URL: b.app.url + "/action", Context: map[string]any{"op": "go", "deep": map[string]any{"a": []any{"x", true}}},
	}})
	r := b.clicks("alice", p, "go", "")
	b.fine("click", r)
	got := b.app.last()
	if got.header.Get("Authorization") != "" || got.header.Get("Content-Type") != "application/json" ||
		got.header.Get("User-Agent") != "Mattermost-Bot/1.1" {
		b.Errorf("headers: got %v, want JSON from the server without authorization", got.header)
	}
	c := got.click()
	if c.UserID != b.Accounts["alice"].ID || c.UserName != "alice" || c.ChannelID != b.channel || c.PostID != p.ID ||
		c.TeamID != b.TeamID || c.TeamDomain != Team || c.Type != "button" || c.DataSource != "" || c.TriggerID == "" {
		b.Errorf("got %+v, want alice, the channel, the team and the post", c)
	}
	if mustJSON(c.Context) != `{"deep":{"a":["x",true]},"op":"go"}` {
		b.Errorf("context: got %s, want what was posted", mustJSON(c.Context))
	}
}

func actionInDirect(b *bench) {
	direct := b.must(b.Direct(b.ctx, "alice", Bot))
	p, err := b.CreatePost(b.ctx, Bot, Post{ChannelID: direct, Message: "x", Props: map[string]any{
		"attachments": []*Attachment{{Actions: []Action{{
			ID: "go", Type: "button", Name: "Go", Integration: &Integration{URL: b.app.url + "/action"},
		}}}},
	}})
	b.ok(err)
	b.fine("click", b.clicks("alice", p, "go", ""))
	if c := b.app.last().click(); c.TeamID != "" || c.TeamDomain != "" || c.ChannelID != direct {
		b.Errorf("got team %q (%q) and channel %q, want no team", c.TeamID, c.TeamDomain, c.ChannelID)
	}
}

func actionIDs(b *bench) {
	p := b.card(button("ack"), button("Ack1"), button("ack_1"), button("ack-1"), button("ack.1"))
	for _, id := range []string{"ack", "Ack1"} {
		b.fine(id, b.clicks("alice", p, id, ""))
	}
	sent := len(b.app.requests())
	for _, id := range []string{"ack_1", "ack-1", "ack.1"} {
		b.refused(id, b.clicks("alice", p, id, "").Err, http.StatusNotFound, "api.context.404.app_error")
	}
	b.refused("unknown", b.clicks("alice", p, "nonesuch", "").Err, 404, "api.post.do_action.action_id.app_error")
	if n := len(b.app.requests()); n != sent {
		b.Errorf("requests: got %d, want %d", n, sent)
	}
}

func actionGeneratedID(b *bench) {
	p := b.card(button(""))
	id := p.Actions()[0].ID
	if !validID(id) {
		b.Fatalf("got id %q, want one made by the server", id)
	}
	b.fine("click", b.clicks("alice", p, id, ""))
}

func actionDuplicateID(b *bench) {
	first, second := button("go"), button("go")
	first.Integration = &Integration{URL: b.app.url + "/first"}
	second.Integration = &Integration{URL: b.app.url + "/second"}
	b.fine("click", b.clicks("alice", b.card(first, second), "go", ""))
	if got := b.app.last().path; got != "/first" {
		b.Errorf("went to %s, want /first", got)
	}
}

func actionHidden(b *bench) {
	p := b.card(button("go"))
	for name, got := range map[string]Post{"create": p, "admin reads": b.read(p.ID)} {
		if a := got.Actions(); len(a) != 1 || a[0].Integration != nil || a[0].Name != "Press go" {
			b.Errorf("%s: got %+v, want the button without its integration", name, a)
		}
	}
	mine, err := do[Post](b.ctx, b.Peer, Bot, http.MethodGet, "/posts/"+p.ID, nil)
	b.ok(err)
	if a := mine.Actions(); len(a) != 1 || a[0].Integration != nil {
		b.Errorf("its author reads: got %+v, want no integration", a)
	}
}

func actionSelect(b *bench) {
	p := b.card(
		Action{ID: "pick", Type: "select", Name: "Pick", Options: []Option{{"One", "1"}, {"Two", "2"}}},
		Action{ID: "who", Type: "select", Name: "Who", DataSource: "users"},
	)
	for _, c := range []struct{ action, choice, source string }{
		{"pick", "2", ""}, {"pick", "made up", ""}, {"who", b.Accounts["bob"].ID, "users"},
	} {
		b.fine(c.choice, b.clicks("alice", p, c.action, c.choice))
		got := b.app.last().click()
		if got.Context["selected_option"] != c.choice || got.Type != "select" || got.DataSource != c.source {
			b.Errorf("chose %q: got %+v", c.choice, got)
		}
		if got.Context["op"] != "noop" {
			b.Errorf("chose %q: got context %v, want the rest of it too", c.choice, got.Context)
		}
	}
}

func actionForged(b *bench) {
	p, err := b.Forge(b.ctx, "bob", b.channel, b.app.url+"/action", map[string]any{"op": "destroy"})
	b.ok(err)
	if p.UserID != b.Accounts["bob"].ID {
		b.Errorf("author: got %q, want bob", p.UserID)
	}
	b.fine("click", b.clicks("alice", p, "forged", ""))
	got := b.app.last().click()
	if got.UserName != "alice" || got.Context["op"] != "destroy" || got.PostID != p.ID {
		b.Errorf("got %+v, want alice's click with bob's context", got)
	}
	// The marks of a bot's post are free for all; only user_id is true.
	fake, err := b.CreatePost(b.ctx, "bob", Post{ChannelID: b.channel, Message: "I am a bot", Props: map[string]any{
		"from_bot": "true", "from_webhook": "true", "override_username": Bot,
	}})
	b.ok(err)
	if fake.Props["from_bot"] != "true" || fake.UserID != b.Accounts["bob"].ID {
		b.Errorf("got props %v of %q, want from_bot on bob's post", fake.Props, fake.UserID)
	}
}

func actionMembership(b *bench) {
	p := b.card(button("go"))
	b.refused("carol", b.clicks("carol", p, "go", "").Err, http.StatusForbidden, errIDPermission)
	b.fine("bob", b.clicks("bob", p, "go", ""))
	b.fine("the bot itself", b.clicks(Bot, p, "go", ""))
	a := b.call("", http.MethodPost, "/posts/"+p.ID+"/actions/go", map[string]string{})
	b.refused("nobody", a.Err(), http.StatusUnauthorized, "api.context.session_expired.app_error")
}

func actionParallel(b *bench) {
	p := b.card(button("go"))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if r, err := b.Click(b.ctx, "alice", p, "go", ""); err != nil || r.Err != nil {
				b.Errorf("click: got %v %v, want success", err, r.Err)
			}
		})
	}
	wg.Wait()
	if n := len(b.app.requests()); n != 3 {
		b.Errorf("requests: got %d, want 3", n)
	}
}

func actionAnswers(b *bench) {
	p := b.card(button("go"))
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"201": {201, `{}`}, "202": {202, ``}, "204": {204, ``}, "400": {400, `{"ephemeral_text":"no"}`},
		"403": {403, `no`}, "500": {500, ``}, "text": {200, `fine`}, "broken": {200, `{"update":`},
	} {
		b.app.answer(c.status, "application/json", c.body)
		r := b.clicks("alice", p, "go", "")
		b.refused(name, r.Err, http.StatusBadRequest, errIDIntegration)
		if r.Text() != "" {
			b.Errorf("%s: got %q shown, want nothing", name, r.Text())
		}
	}
	for _, body := range []string{``, `{}`, `{"error":{"message":"no"}}`, `{"unknown":1}`} {
		b.app.answer(200, "text/plain", body)
		b.fine(body, b.clicks("alice", p, "go", ""))
	}
	b.app.answerWith(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.refused("dropped", b.clicks("alice", p, "go", "").Err, http.StatusBadRequest, errIDIntegration)
}

func actionUpdateKeeps(b *bench) {
	p := b.card(button("go"))
	for range 2 {
		b.app.answerJSON(`{"update":{"message":"changed"}}`)
		b.fine("click", b.clicks("alice", p, "go", ""))
		got := b.read(p.ID)
		if got.Message != "changed" || len(got.Actions()) != 1 || got.Props["from_bot"] != "true" {
			b.Errorf("got %q with %d buttons, want the new text and the old button", got.Message, len(got.Actions()))
		}
	}
}

func actionUpdateClears(b *bench) {
	p := b.card(button("go"))
	b.app.answerJSON(`{"update":{"message":"done","props":{}}}`)
	b.fine("click", b.clicks("alice", p, "go", ""))
	if got := b.read(p.ID); got.Message != "done" || len(got.Attachments()) != 0 || got.Props["from_bot"] != nil {
		b.Errorf("got %q with props %v, want no props", got.Message, got.Props)
	}
	b.refused("again", b.clicks("alice", p, "go", "").Err, 404, "api.post.do_action.action_id.app_error")
}

func actionUpdatePropsOnly(b *bench) {
	p := b.card(button("go"))
	b.app.answerJSON(`{"update":{"props":{"attachments":[{"text":"new"}]}}}`)
	b.fine("click", b.clicks("alice", p, "go", ""))
	if got := b.read(p.ID); got.Message != "" || Read(got) != "new" {
		b.Errorf("got %q, want an empty message above the attachment", Read(got))
	}
}

func actionUpdateKeepsRest(b *bench) {
	root := b.post(Post{Message: "root"})
	p, err := b.CreatePost(b.ctx, Bot, Post{
		ChannelID: b.channel, RootID: root.ID, Message: "reply", Props: map[string]any{
			"attachments": []*Attachment{{Actions: []Action{{
				ID: "go", Type: "button", Name: "Go", Integration: &Integration{URL: b.app.url},
			}}}},
		},
	})
	b.ok(err)
	a := b.call(Bot, http.MethodPut, "/posts/"+p.ID+"/patch", map[string]bool{"is_pinned": true})
	if a.Status != http.StatusOK {
		b.Fatalf("pin: got %d, want 200", a.Status)
	}
	b.app.answerJSON(`{"update":{"message":"new","id":"x","user_id":"x","channel_id":"x","root_id":"","is_pinned":false}}`)
	b.fine("click", b.clicks("alice", p, "go", ""))
	got := b.read(p.ID)
	if !got.IsPinned || got.RootID != root.ID || got.UserID != p.UserID || got.ChannelID != b.channel {
		b.Errorf("got %+v, want pin, thread, author and channel as they were", got)
	}
	if got.EditAt == 0 || got.UpdateAt < got.EditAt || got.CreateAt != p.CreateAt {
		b.Errorf("got created %d, edited %d, updated %d, want an edit", got.CreateAt, got.EditAt, got.UpdateAt)
	}
}

func actionUpdateTooLong(b *bench) {
	p := b.card(button("go"))
	b.app.answerJSON(`{"update":{"message":"` + strings.Repeat("x", maxMessageRunes+1) + `"}}`)
	r := b.clicks("alice", p, "go", "")
	b.refused("too long", r.Err, http.StatusBadRequest, "model.post.is_valid.message_length.app_error")
	if got := b.read(p.ID); got.Message != "card" || got.EditAt != 0 {
		b.Errorf("got %d characters, edited %d, want the post as it was", len(got.Message), got.EditAt)
	}
}

func actionEphemeralText(b *bench) {
	p := b.card(button("go"))
	b.app.answerJSON(`{"ephemeral_text":"<https://example.com|no>"}`)
	r := b.clicks("alice", p, "go", "")
	b.fine("click", r)
	if len(r.Ephemeral) != 1 || r.Text() != "[no](https://example.com)" || r.Ephemeral[0].RootID != p.ID {
		b.Errorf("got %q in thread %+v, want the text below the card", r.Text(), r.Ephemeral)
	}
	b.app.answerJSON(`{"ephemeral_text":"<https://example.com|no>","skip_slack_parsing":true}`)
	if got := b.clicks("alice", p, "go", "").Text(); got != "<https://example.com|no>" {
		b.Errorf("unparsed: got %q, want it as sent", got)
	}
}

func actionDeleted(b *bench) {
	p := b.card(button("go"))
	if a := b.call(Bot, http.MethodDelete, "/posts/"+p.ID, nil); a.Status != http.StatusOK {
		b.Fatalf("delete: got %d, want 200", a.Status)
	}
	r := b.clicks("alice", p, "go", "")
	b.refused("deleted", r.Err, http.StatusNotFound, "app.post.get.app_error")
	if len(b.app.requests()) != 0 {
		b.Error("got a request for a deleted post, want none")
	}
}

func actionReadBack(b *bench) {
	p := b.card(button("go"))
	seen := b.read(p.ID)
	a := b.call(Bot, http.MethodPut, "/posts/"+p.ID+"/patch", map[string]any{"props": seen.Props})
	if a.Status != http.StatusOK {
		b.Fatalf("patch: got %d, want 200", a.Status)
	}
	if got := b.read(p.ID); len(got.Actions()) != 1 {
		b.Errorf("got %d buttons, want the look of one", len(got.Actions()))
	}
	b.refused("click", b.clicks("alice", p, "go", "").Err, 404, "api.post.do_action.action_id.app_error")
}

func actionNumbers(b *bench) {
	p := b.card(Action{ID: "go", Type: "button", Name: "Go", Integration: &Integration{
		URL: b.app.url, Context: map[string]any{"n": int64(9007199254740993)},
	}})
	b.fine("click", b.clicks("alice", p, "go", ""))
	if body := string(b.app.last().body); !strings.Contains(body, `"n":9007199254740992`) {
		b.Errorf("got %s, want the number rounded", body)
	}
}
