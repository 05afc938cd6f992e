package slacktest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slack-go/slack"

	"ocim/adapters/slack/slacktest"
)

// form calls a method as slack-go does and returns the decoded answer with its status.
func (w world) form(t *testing.T, method, body string) (int, map[string]any) {
	t.Helper()
	return w.call(t, method, "application/x-www-form-urlencoded", "token="+w.BotToken()+"&"+body)
}

func (w world) call(t *testing.T, method, contentType, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, w.APIURL()+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if contentType == "application/json" {
		req.Header.Set("Authorization", "Bearer "+w.BotToken())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, decode[map[string]any](t, b)
}

func TestEveryMethodBySlackGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *slacktest.Options) {
		o.Scopes = []string{
			"chat:write", "im:write", "users:read", "users:read.email", "usergroups:read", "files:write",
			"channels:read", "channels:history", "im:history",
		}
	})
	ctx := within(t)
	ts := w.post(t, slack.MsgOptionText("root", false), slack.MsgOptionMetadata(slack.SlackMetadata{
		EventType: "ocim_card", EventPayload: map[string]any{"key": "k1"},
	}))
	check := func(name string, got, want any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}

	auth, err := w.api.AuthTestContext(ctx)
	check("auth.test", auth.UserID, bot, err)
	_, err = w.api.PostEphemeralContext(ctx, ops, ann, slack.MsgOptionText("psst", false))
	check("chat.postEphemeral", len(w.Ephemerals(ann)), 1, err)
	check("chat.postEphemeral for others", len(w.Ephemerals(ben)), 0, nil)
	link, err := w.api.GetPermalinkContext(ctx, &slack.PermalinkParameters{Channel: ops, Ts: ts})
	check("chat.getPermalink", link, "https://example.slack.com/archives/"+ops+"/p"+strings.ReplaceAll(ts, ".", ""), err)
	_, reply, err := w.api.PostMessageContext(ctx, ops, slack.MsgOptionText("reply", false), slack.MsgOptionTS(ts))
	check("reply", len(w.Thread(ops, ts)), 2, err)

	h, err := w.api.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{ChannelID: ops, IncludeAllMetadata: true})
	check("conversations.history", len(h.Messages), 1, err)
	check("metadata", h.Messages[0].Metadata.EventPayload["key"], any("k1"), nil)
	replies, _, _, err := w.api.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{ChannelID: ops, Timestamp: ts})
	check("conversations.replies", len(replies), 2, err)
	info, err := w.api.GetConversationInfoContext(ctx, &slack.GetConversationInfoInput{ChannelID: ops})
	check("conversations.info", info.Name, "ops", err)
	members, _, err := w.api.GetUsersInConversationContext(ctx, &slack.GetUsersInConversationParameters{ChannelID: ops})
	check("conversations.members", len(members), 4, err)
	im, _, _, err := w.api.OpenConversationContext(ctx, &slack.OpenConversationParameters{Users: []string{ann}})
	check("conversations.open", im.ID[:1], "D", err)
	_, _, err = w.api.PostMessageContext(ctx, im.ID, slack.MsgOptionText("hello", false))
	check("direct message", len(w.Messages(im.ID)), 1, err)

	user, err := w.api.GetUserInfoContext(ctx, ann)
	check("users.info", user.Name, "ann", err)
	user, err = w.api.GetUserByEmailContext(ctx, "BEN@example.com")
	check("users.lookupByEmail", user.ID, ben, err)
	groups, err := w.api.GetUserGroupsContext(ctx, slack.GetUserGroupsOptionIncludeUsers(true))
	check("usergroups.list", groups[0].Users, []string{ann}, err)
	ids, err := w.api.GetUserGroupMembersContext(ctx, groups[0].ID)
	check("usergroups.users.list", ids, []string{ann}, err)

	up, err := w.api.UploadFileContext(ctx, slack.UploadFileParameters{
		Content: "log tail", FileSize: 8, Filename: "job.log", Title: "job", Channel: ops, ThreadTimestamp: ts, InitialComment: "tail",
	})
	check("files upload", string(w.Files()[0].Content), "log tail", err)
	check("files title", up.Title, "job", nil)
	check("file message", w.Read(w.Thread(ops, ts)[2]), "tail\n[job.log]", nil)

	_, _, err = w.api.DeleteMessageContext(ctx, ops, reply)
	check("chat.delete", len(w.Thread(ops, ts)), 2, err)
	check("calls without error", len(w.Calls()) > 15, true, nil)
	for _, c := range w.Calls() {
		if c.Error != "" || c.Status != http.StatusOK || !c.Committed {
			t.Errorf("%s: got error %q, status %d, want a plain success", c.Method, c.Error, c.Status)
		}
	}
}

func TestErrorsOfTheWebAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ts := w.post(t, slack.MsgOptionText("mine", false))
	person, err := w.Say(ann, ops, "hers", "")
	if err != nil {
		t.Fatal(err)
	}
	w.SetChannel(slacktest.Channel{ID: "C0OLD0001", Name: "old", Archived: true, Members: []string{bot}})
	w.SetChannel(slacktest.Channel{ID: "C0HIDDEN1", Name: "hidden", Private: true, Members: []string{ann}})
	w.SetUser(slacktest.User{ID: "U0GONE001", Name: "gone", Deleted: true})
	at := "channel=" + ops + "&ts=" + ts
	tests := []struct{ name, method, body, want string }{
		{"post without channel", "chat.postMessage", "text=x", "invalid_arguments"},
		{"post to nowhere", "chat.postMessage", "channel=C0NONE&text=x", "channel_not_found"},
		{"post by name", "chat.postMessage", "channel=%23ops&text=x", "channel_not_found"},
		{"post uninvited", "chat.postMessage", "channel=C0RANDOM1&text=x", "not_in_channel"},
		{"post to a channel out of sight", "chat.postMessage", "channel=C0HIDDEN1&text=x", "channel_not_found"},
		{"post to the archive", "chat.postMessage", "channel=C0OLD0001&text=x", "is_archived"},
		{"post nothing", "chat.postMessage", "channel=" + ops, "no_text"},
		{"post bad json", "chat.postMessage", "channel=" + ops + "&blocks={", "invalid_blocks_format"},
		{"post into no thread", "chat.postMessage", "channel=" + ops + "&text=x&thread_ts=1.000000", "cannot_reply_to_message"},
		{"markdown and text", "chat.postMessage", "channel=" + ops + "&text=x&markdown_text=y", "markdown_text_conflict"},
		{"bad metadata", "chat.postMessage", "channel=" + ops + `&text=x&metadata={"event_type":"x"}`, "invalid_metadata_schema"},
		{"update what is not there", "chat.update", "channel=" + ops + "&ts=1.000000&text=x", "message_not_found"},
		{"update another's", "chat.update", "channel=" + ops + "&ts=" + person.TS + "&text=x", "cant_update_message"},
		{"update with nothing", "chat.update", at, "no_text"},
		{"update with much text", "chat.update", at + "&text=" + strings.Repeat("x", 4001), "msg_too_long"},
		{"delete another's", "chat.delete", "channel=" + ops + "&ts=" + person.TS, "cant_delete_message"},
		{"ephemeral to an outsider", "chat.postEphemeral", "channel=C0SECRET1&user=" + ben + "&text=x", "user_not_in_channel"},
		{"open a chat with nobody", "conversations.open", "users=U0NOBODY1", "user_not_found"},
		{"open a chat with the gone", "conversations.open", "users=U0GONE001", "user_disabled"},
		{"history without scope", "conversations.history", "channel=" + ops, "missing_scope"},
		{"info without scope", "conversations.info", "channel=" + ops, "missing_scope"},
		{"no such user", "users.info", "user=U0NOBODY1", "user_not_found"},
		{"no such method", "chat.everything", "", "unknown_method"},
		{"empty file", "files.getUploadURLExternal", "filename=a&length=0", "invalid_arguments"},
		{"large snippet", "files.getUploadURLExternal", "filename=a&length=1048577&snippet_type=text", "snippet_too_large"},
		{"complete nothing", "files.completeUploadExternal", `files=[{"id":"F0NONE"}]`, "file_not_found"},
		{"app method with the bot token", "apps.connections.open", "", "not_allowed_token_type"},
		{"view without trigger", "views.open", `view={}`, "invalid_arguments"},
		{"view with a made-up trigger", "views.open", `trigger_id=1.2.x&view={}`, "invalid_trigger_id"},
		{"update no view", "views.update", "view_id=V0NONE&view={}", "not_found"},
	}
	for _, tt := range tests {
		status, answer := w.form(t, tt.method, tt.body)
		if got := answer["error"]; status != http.StatusOK || got != tt.want {
			t.Errorf("%s: got %d %v, want 200 %s", tt.name, status, answer, tt.want)
		}
	}
	if got, want := len(w.Messages(ops)), 2; got != want {
		t.Errorf("got %d messages after refusals, want %d", got, want)
	}
}

func TestTokensAndScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := within(t)
	code := func(token string) string {
		_, err := slack.New(token, slack.OptionAPIURL(w.APIURL())).AuthTestContext(ctx)
		if err == nil {
			return ""
		}
		return err.Error()
	}
	if got, want := code("xoxb-other"), "invalid_auth"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, answer := w.call(t, "auth.test", "application/x-www-form-urlencoded", ""); answer["error"] != "not_authed" {
		t.Errorf("got %v without a token, want not_authed", answer)
	}
	w.RevokeTokens("token_revoked")
	if got, want := code(w.BotToken()), "token_revoked"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.RevokeTokens("")
	w.SetScopes("commands", "chat:write")
	_, err := w.api.GetUserGroupsContext(ctx)
	var refused slack.SlackErrorResponse
	if !errors.As(err, &refused) || refused.Err != "missing_scope" || refused.Needed != "usergroups:read" || refused.Provided != "commands,chat:write" {
		t.Errorf("got %+v, want missing_scope with needed and provided", err)
	}
	w.SetScopes("usergroups:read")
	w.SetFreePlan(true)
	if _, err := w.api.GetUserGroupsContext(ctx); err == nil || err.Error() != "plan_upgrade_required" {
		t.Errorf("got %v, want plan_upgrade_required", err)
	}
}

// TestErrorShapesFollowTheSamples wants our refusals to be the published ones, word by word.
func TestErrorShapesFollowTheSamples(t *testing.T) {
	t.Parallel()
	samples := decode[map[string]struct {
		Status int
		Body   json.RawMessage
	}](t, fixture(t, "api_errors.json"))
	w := newWorld(t)
	w.SetScopes("chat:write", "commands")
	long := `[{"type":"section","text":{"type":"mrkdwn","text":"` + strings.Repeat("x", 3001) + `"}}]`
	many := "[" + strings.TrimSuffix(strings.Repeat(`{"type":"section","text":{"type":"mrkdwn","text":"`+strings.Repeat("x", 2999)+`"}},`, 5), ",") + "]"
	tests := []struct{ sample, method, body string }{
		{"invalid_blocks_text_too_long", "chat.postMessage", "channel=" + ops + "&blocks=" + long},
		{"msg_blocks_too_long", "chat.postMessage", "channel=" + ops + "&blocks=" + many},
		{"missing_scope", "usergroups.list", ""},
		{"not_in_channel", "chat.postMessage", "channel=C0RANDOM1&text=x"},
		{"message_not_found", "chat.update", "channel=" + ops + "&ts=1.0&text=x"},
		{"invalid_arguments__views.open", "views.open", "view={}"},
		{"invalid_arguments__views.publish", "views.publish", "view={}"},
		{"not_found__views.update", "views.update", "view_id=V0&view={}"},
	}
	for _, tt := range tests {
		status, got := w.form(t, tt.method, tt.body)
		sample, ok := samples[tt.sample]
		if !ok {
			t.Errorf("no sample %s", tt.sample)
			continue
		}
		want := decode[map[string]any](t, sample.Body)
		if tt.sample == "missing_scope" {
			want["provided"] = "chat:write,commands"
		}
		if diff := cmp.Diff(want, got); diff != "" || status != sample.Status {
			t.Errorf("%s: got status %d, want %d, -want +got\n%s", tt.sample, status, sample.Status, diff)
		}
	}
}

// TestAnswerShapesFollowTheSamples wants every key of the published answers in ours.
func TestAnswerShapesFollowTheSamples(t *testing.T) {
	t.Parallel()
	samples := decode[map[string]map[string]any](t, fixture(t, "api_ok.json"))
	w := newWorld(t, func(o *slacktest.Options) {
		o.Scopes = []string{"chat:write", "im:write", "users:read", "users:read.email", "usergroups:read", "files:write"}
	})
	ts := w.post(t, slack.MsgOptionText("x", false))
	view := func(typ string) string {
		return `{"type":"` + typ + `","title":{"type":"plain_text","text":"t"},"blocks":[]}`
	}
	home := `{"type":"home","blocks":[]}`
	trigger := make(chan string, 1)
	w.serve(t, func(_ http.ResponseWriter, r *http.Request) { trigger <- r.PostFormValue("trigger_id") })
	receive(t, w.command(t, "x"))
	tests := []struct{ method, body string }{
		{"auth.test", ""},
		{"chat.postMessage", "channel=" + ops + "&text=x"},
		{"chat.update", "channel=" + ops + "&text=y&ts=" + ts},
		{"chat.postEphemeral", "channel=" + ops + "&text=x&user=" + ann},
		{"chat.getPermalink", "channel=" + ops + "&message_ts=" + ts},
		{"conversations.open", "users=" + ann},
		{"users.info", "user=" + ann},
		{"users.lookupByEmail", "email=ann@example.com"},
		{"usergroups.list", ""},
		{"usergroups.users.list", "usergroup=S0DEPLOY1"},
		{"views.open", "trigger_id=" + receive(t, trigger) + "&view=" + view("modal")},
		{"views.publish", "user_id=" + ann + "&view=" + home},
		{"files.getUploadURLExternal", "filename=a&length=1"},
	}
	// Keys of the samples that a bot has no use for, or that belong to messages of another kind.
	skip := map[string]bool{
		"message/attachments": true, "message/subtype": true, "message/username": true,
		"user/color": true, "user/has_2fa": true, "user/profile/image_48": true,
		"user/profile/status_emoji": true, "user/profile/status_text": true,
	}
	for _, tt := range tests {
		_, got := w.form(t, tt.method, tt.body)
		if got["ok"] != true {
			t.Errorf("%s: got %v, want ok", tt.method, got)
			continue
		}
		for _, missing := range missingKeys("", samples[tt.method], got, skip) {
			t.Errorf("%s: the answer has no %s", tt.method, missing)
		}
	}
}

// missingKeys lists the keys of want that got lacks, in objects of objects.
func missingKeys(at string, want, got map[string]any, skip map[string]bool) []string {
	var out []string
	for k, v := range want {
		if skip[at+k] {
			continue
		}
		g, ok := got[k]
		if !ok {
			out = append(out, at+k)
			continue
		}
		wo, isObject := v.(map[string]any)
		gobj, gotObject := g.(map[string]any)
		if isObject && gotObject && k != "prefs" && k != "element" {
			out = append(out, missingKeys(at+k+"/", wo, gobj, skip)...)
		}
	}
	return out
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		fault  slacktest.Fault
		posted int
		check  func(error) bool
	}{
		{"429", slacktest.Fault{Kind: slacktest.TooMany, RetryAfter: 30e9}, 0, func(err error) bool {
			var limited *slack.RateLimitedError
			return errors.As(err, &limited) && limited.RetryAfter == 30e9
		}},
		{"429 without header", slacktest.Fault{Kind: slacktest.TooManyBare}, 0, isStatus(429)},
		{"200 rate_limited", slacktest.Fault{Kind: slacktest.RateLimited}, 0, isCode("rate_limited")},
		{"503 html", slacktest.Fault{Kind: slacktest.ServerError}, 0, isStatus(503)},
		{"502 html", slacktest.Fault{Kind: slacktest.ServerError, Status: 502}, 0, isStatus(502)},
		{"refused", slacktest.Fault{Kind: slacktest.Refuse, Error: "is_archived"}, 0, isCode("is_archived")},
		{"cut", slacktest.Fault{Kind: slacktest.Cut}, 0, isTransport},
		{"lost answer", slacktest.Fault{Kind: slacktest.Lost}, 1, isTransport},
		{"only in another channel", slacktest.Fault{Kind: slacktest.Cut, Channel: "C0SECRET1"}, 1, func(err error) bool { return err == nil }},
		{"only for another method", slacktest.Fault{Kind: slacktest.Cut, Method: "chat.update"}, 1, func(err error) bool { return err == nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.fault.Times = 1
			w.Fail(tt.fault)
			_, _, err := w.api.PostMessageContext(within(t), ops, slack.MsgOptionText("x", false))
			if !tt.check(err) {
				t.Errorf("got error %v (%T)", err, err)
			}
			if got := len(w.Messages(ops)); got != tt.posted {
				t.Errorf("got %d messages, want %d", got, tt.posted)
			}
			if got := w.Calls("chat.postMessage"); len(got) != 1 || got[0].Committed != (tt.posted == 1) {
				t.Errorf("got calls %+v, want one, committed %v", got, tt.posted == 1)
			}
			w.Heal()
			w.post(t, slack.MsgOptionText("again", false))
		})
	}
}

func isStatus(want int) func(error) bool {
	return func(err error) bool {
		var status slack.StatusCodeError
		return errors.As(err, &status) && status.Code == want
	}
}

func isCode(want string) func(error) bool {
	return func(err error) bool {
		var refused slack.SlackErrorResponse
		return errors.As(err, &refused) && refused.Err == want
	}
}

func isTransport(err error) bool {
	var refused slack.SlackErrorResponse
	return err != nil && !errors.As(err, &refused)
}

func TestHangingFaultsEndWithTheCaller(t *testing.T) {
	t.Parallel()
	for _, kind := range []slacktest.FaultKind{slacktest.Hang, slacktest.HangAfter, slacktest.Endless} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Fail(slacktest.Fault{Kind: kind, Method: "chat.postMessage"})
			ctx, cancel := context.WithCancel(within(t))
			done := make(chan error, 1)
			go func() {
				_, _, err := w.api.PostMessageContext(ctx, ops, slack.MsgOptionText("x", false))
				done <- err
			}()
			if err := w.Until(within(t), func() bool { return len(w.Calls()) == 1 }); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := receive(t, done); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the caller's cancellation", err)
			}
		})
	}
}

func TestSlowFaultWaitsOnTheClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Fail(slacktest.Fault{Kind: slacktest.Slow, Delay: 7e9})
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, _, err := w.api.PostMessageContext(ctx, ops, slack.MsgOptionText("x", false))
		done <- err
	}()
	if err := w.clock.Waiting(ctx, 1); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(7e9)
	if err := receive(t, done); err != nil {
		t.Errorf("got %v after the delay, want success", err)
	}
}

func TestLossIsRepeatable(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) string {
		w := newWorld(t, func(o *slacktest.Options) { o.Seed = seed })
		w.Fail(slacktest.Fault{Kind: slacktest.RateLimited, Probability: 0.5})
		var b strings.Builder
		for range 32 {
			_, _, err := w.api.PostMessageContext(within(t), ops, slack.MsgOptionText("x", false))
			fmt.Fprint(&b, err != nil)
		}
		return b.String()
	}
	one := run(1)
	if run(1) != one {
		t.Error("the same seed gave other faults")
	}
	if run(2) == one || !strings.Contains(one, "true") || !strings.Contains(one, "false") {
		t.Errorf("got %s, want a mixture that depends on the seed", one)
	}
}

func TestRealRateLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetRealLimits(true)
	ctx := within(t)
	ts := w.post(t, slack.MsgOptionText("x", false))
	count := func(most int, call func() error) (ok int, last error) {
		for range most {
			if last = call(); last != nil {
				return ok, last
			}
			ok++
		}
		return ok, nil
	}
	post := func(channel string) func() error {
		return func() error {
			_, _, err := w.api.PostMessageContext(ctx, channel, slack.MsgOptionText("x", false))
			return err
		}
	}
	ok, err := count(10, post(ops))
	var limited *slack.RateLimitedError
	if ok != 4 || !errors.As(err, &limited) || limited.RetryAfter != 5e9 {
		t.Errorf("got %d more posts, then %v, want 4, then a wait of 5 s", ok, err)
	}
	if err := post("C0SECRET1")(); err != nil {
		t.Errorf("got %v in another channel, want success", err)
	}
	w.clock.Advance(5e9)
	if err := post(ops)(); err != nil {
		t.Errorf("got %v after the wait, want success", err)
	}
	ok, err = count(60, func() error {
		_, _, _, err := w.api.UpdateMessageContext(ctx, ops, ts, slack.MsgOptionText("y", false))
		return err
	})
	if ok != 50 || !errors.As(err, &limited) || limited.RetryAfter != 60e9 {
		t.Errorf("got %d updates, then %v, want 50, then a wait of 60 s", ok, err)
	}
}
