package slack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ocim/adapters/chat"
	"ocim/adapters/slack/slacktest"
	"ocim/internal/clock"
	"ocim/ops"
)

func TestCommandIsAnsweredPrivately(t *testing.T) {
	t.Parallel()
	var got chat.Incoming
	r := newRig(t, rigOptions{handler: func(_ context.Context, in chat.Incoming) chat.Answer {
		got = in
		m := note("deployed")
		m.Buttons = []chat.Button{{Label: "Logs", Verb: "logs", Token: "sealed"}}
		return chat.Answer{Message: &m}
	}})
	reply, err := r.slack.Command(ctxOf(t), slacktest.CommandOpts{User: ann, Channel: ops1, Text: "deploy demo & more @ben"})
	if err != nil {
		t.Fatal(err)
	}
	want := chat.Incoming{
		Kind: chat.Command, Actor: ops.Actor{Platform: "slack", Workspace: team, UserID: ann}, ActorName: "ann",
		From: inOps(), Trigger: "/ocim", Text: "deploy demo & more @U0BEN0001",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(chat.Incoming{}, "Key", "Reply")); diff != "" {
		t.Errorf("incoming differs (-want +got):\n%s", diff)
	}
	if reply.Message == nil || !reply.Message.Ephemeral() || reply.Message.Text != "deployed" || len(reply.Message.Blocks) != 2 {
		t.Errorf("got reply %+v, want a private one with two blocks", reply)
	}
}

func TestClickReachesTheHandlerAndIsAnsweredLater(t *testing.T) {
	t.Parallel()
	seen := make(chan chat.Incoming, 1)
	r := newRig(t, rigOptions{handler: func(_ context.Context, in chat.Incoming) chat.Answer {
		seen <- in
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "cancelled")}
	}})
	ctx := ctxOf(t)
	m := note("card")
	m.Buttons = []chat.Button{
		{Label: "Cancel", Verb: "cancel", Token: "sealed.token", Style: chat.ButtonDanger},
		{Label: "Pipeline", Verb: "open", URL: "https://gitlab.example.com/p/1"},
	}
	root, err := r.Post(ctx, inOps(), note("root"))
	if err != nil {
		t.Fatal(err)
	}
	thread := inOps()
	thread.Thread = root
	ref, err := r.Post(ctx, thread, m)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := r.slack.Click(ctx, ann, ops1, ref, "ocim_open_1"); err != nil || !a.OK() || len(seen) != 0 {
		t.Errorf("link button: got %+v, %v and %d requests; want a bare acknowledgement", a, err, len(seen))
	}
	a, err := r.slack.Click(ctx, ann, ops1, ref, "ocim_cancel_0")
	if err != nil || !a.OK() || len(a.Body) != 0 {
		t.Fatalf("got %+v, %v, want an empty acknowledgement", a, err)
	}
	got := <-seen
	want := chat.Incoming{
		Kind: chat.Click, Actor: ops.Actor{Platform: "slack", Workspace: team, UserID: ann}, ActorName: "ann",
		From: thread, Button: "sealed.token", Message: ref,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(chat.Incoming{}, "Key", "Reply")); diff != "" {
		t.Errorf("incoming differs (-want +got):\n%s", diff)
	}
	if e := untilEphemeral(t, r, 1); e.Text != "cancelled" {
		t.Errorf("got private message %q, want %q", e.Text, "cancelled")
	}
	if msgs := r.slack.Messages(ops1); len(msgs) != 2 {
		t.Errorf("got %d messages in the channel, want 2: the answer must not replace the card", len(msgs))
	}
}

func testDialog() chat.Dialog {
	return chat.Dialog{
		Name: "deploy", Title: "Deploy an instance", Submit: "Deploy", State: "sealed.state", Intro: "Which one?",
		Fields: []chat.Field{
			{Name: "instance", Label: "Instance", Kind: chat.FieldSearch, Hint: "type to search"},
			{Name: "size", Label: "Size", Kind: chat.FieldChoice, Default: "s", Options: []chat.Option{{Label: "Small", Value: "s"}, {Label: "Large", Value: "l"}}},
			{Name: "why", Label: "Why", Kind: chat.FieldLines, Optional: true, MaxLen: 500},
			{Name: "tag", Label: "Tag", Kind: chat.FieldText, Default: "v1", Optional: true},
		},
	}
}

func TestDialogFromCommandToAnswer(t *testing.T) {
	t.Parallel()
	incoming := make(chan chat.Incoming, 4)
	r := newRig(t, rigOptions{handler: func(ctx context.Context, in chat.Incoming) chat.Answer {
		switch in.Kind {
		case chat.Command:
			if err := in.Reply.OpenDialog(ctx, testDialog()); err != nil {
				return chat.Answer{Message: chat.Notice(chat.ToneBad, err.Error())}
			}
			return chat.Answer{}
		case chat.Suggest:
			incoming <- in
			return chat.Answer{Options: []chat.Option{{Label: "demo on prod", Value: "prod/demo"}, {Label: "", Value: "x"}}}
		case chat.Submit:
			incoming <- in
			if in.Values["tag"] == "bad" {
				return chat.Answer{Errors: map[string]string{"tag": "no such tag\x1b[31m"}}
			}
			return chat.Answer{Message: chat.Notice(chat.ToneGood, "started")}
		case chat.Click:
		}
		return chat.Answer{}
	}})
	ctx := ctxOf(t)
	reply, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "deploy"})
	if err != nil || reply.Error != "" || reply.Message != nil {
		t.Fatalf("got %+v, %v, want a silent answer", reply, err)
	}
	views := r.slack.Views(ann)
	if len(views) != 1 {
		t.Fatalf("got %d views, want 1", len(views))
	}
	v := views[0]
	opts, _, err := r.slack.Suggest(ctx, ann, slacktest.Where{ViewID: v.ID}, "instance/"+inputID, "")
	if err != nil || len(opts) != 1 || opts[0].Value != "prod/demo" {
		t.Fatalf("got options %v, %v, want prod/demo alone", opts, err)
	}
	if in := <-incoming; in.Field != "instance" || in.Dialog != "deploy" || in.State != "sealed.state" {
		t.Errorf("got %+v, want the field, the dialog and its state", in)
	}
	values := map[string]any{"instance": "prod/demo", "tag": "bad"}
	sub, err := r.slack.SubmitView(ctx, ann, v.ID, values)
	if err != nil || sub.Errors["tag"] != "no such tag[31m" || sub.Closed {
		t.Fatalf("got %+v, %v, want an error under tag", sub, err)
	}
	<-incoming
	values["tag"] = "v2"
	sub, err = r.slack.SubmitView(ctx, ann, v.ID, values)
	if err != nil || !sub.Closed || sub.Error != "" {
		t.Fatalf("got %+v, %v, want the dialog closed", sub, err)
	}
	in := <-incoming
	want := map[string]string{"instance": "prod/demo", "size": "s", "why": "", "tag": "v2"}
	if diff := cmp.Diff(want, in.Values); diff != "" {
		t.Errorf("values differ (-want +got):\n%s", diff)
	}
	if in.State != "sealed.state" || in.From.Channel != "" || in.From.Workspace != team {
		t.Errorf("got state %q from %+v, want the sealed state and no channel that nobody vouches for", in.State, in.From)
	}
	if e := untilEphemeral(t, r, 1); e.Text != "started" || e.Channel != ops1 {
		t.Errorf("got %q in %s, want the answer where the dialog was opened", e.Text, e.Channel)
	}
}

func TestDialogIsRefusedAfterThreeSeconds(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Unix(1_700_000_000, 0))
	r := newRig(t, rigOptions{clock: clk})
	rep := r.newReplier(r.order[0], ann)
	rep.trigger = "1.2.3"
	clk.Advance(3 * time.Second)
	err := rep.OpenDialog(ctxOf(t), testDialog())
	if ops.CodeOf(err) != ops.CodeInvalid || len(r.slack.Calls("views.open")) != 0 {
		t.Errorf("got %v and %d calls, want a refusal without a call", err, len(r.slack.Calls("views.open")))
	}
	rep = r.newReplier(r.order[0], ann)
	rep.trigger = "1.2.3" // Slack does not know it
	if err := rep.OpenDialog(ctxOf(t), testDialog()); ops.CodeOf(err) != ops.CodeInvalid {
		t.Errorf("got %v, want invalid", err)
	}
	if err := rep.OpenDialog(ctxOf(t), testDialog()); ops.CodeOf(err) != ops.CodeInvalid || len(r.slack.Calls("views.open")) != 1 {
		t.Errorf("second use: got %v and %d calls, want a refusal without a second call", err, len(r.slack.Calls("views.open")))
	}
}

func TestSlowHandlerIsAcknowledgedInTime(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Unix(1_700_000_000, 0))
	release := make(chan struct{})
	r := newRig(t, rigOptions{clock: clk, handler: func(ctx context.Context, _ chat.Incoming) chat.Answer {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "done at last")}
	}})
	ctx := ctxOf(t)
	replies := make(chan slacktest.Reply, 1)
	go func() {
		reply, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "status"})
		if err != nil {
			reply.Error = err.Error()
		}
		replies <- reply
	}()
	if err := clk.Waiting(ctx, 2); err != nil { // the budget and Slack's own deadline
		t.Fatal(err)
	}
	clk.Advance(defaultAckBudget)
	reply := <-replies
	if reply.Error != "" || reply.Message == nil || !strings.Contains(reply.Message.Text, "Still working") {
		t.Fatalf("got %+v, want a note within the deadline", reply)
	}
	close(release)
	if e := untilEphemeral(t, r, 2); e.Text != "done at last" {
		t.Errorf("got %q, want the answer", e.Text)
	}
}

func TestLaterFallsBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		channel string
		faults  []string
		where   string // the method that delivers it
	}{
		{"no response_url", ops1, nil, "chat.postEphemeral"},
		{"bot not in the channel", "C0RANDOM1", nil, "chat.postMessage"},
		{"no channel", "", nil, "chat.postMessage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			rep := r.newReplier(r.order[0], ann)
			rep.channel = tt.channel
			if err := rep.Later(ctxOf(t), note("hello")); err != nil {
				t.Fatal(err)
			}
			calls := r.slack.Calls()
			if last := calls[len(calls)-1]; last.Method != tt.where || last.Error != "" {
				t.Errorf("got %s (%s), want %s", last.Method, last.Error, tt.where)
			}
		})
	}
}

func TestResponseURLIsUsedFiveTimesIn30Minutes(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Unix(1_700_000_000, 0))
	repliers := make(chan chat.Replier, 1)
	r := newRig(t, rigOptions{clock: clk, handler: func(_ context.Context, in chat.Incoming) chat.Answer {
		repliers <- in.Reply
		return chat.Answer{}
	}})
	ctx := ctxOf(t)
	command := func() chat.Replier {
		t.Helper()
		if _, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "x"}); err != nil {
			t.Fatal(err)
		}
		return <-repliers
	}
	rep := command()
	for range 7 {
		if err := rep.Later(ctx, note("x")); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(r.slack.Calls("response_url")); got != 5 {
		t.Errorf("got %d uses, want 5", got)
	}
	rep = command()
	clk.Advance(30 * time.Minute)
	if err := rep.Later(ctx, note("x")); err != nil {
		t.Fatal(err)
	}
	if got := len(r.slack.Calls("response_url")); got != 5 {
		t.Errorf("got %d uses after 30 minutes, want none more", got)
	}
}

func TestChecksOfSlackItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{handler: func(context.Context, chat.Incoming) chat.Answer {
		t.Error("the handler was called")
		return chat.Answer{}
	}})
	ctx := ctxOf(t)
	if a, err := r.slack.SSLCheck(ctx); err != nil || !a.OK() {
		t.Errorf("ssl_check: got %+v, %v, want 200", a, err)
	}
	a, err := r.slack.VerifyURL(ctx)
	if err != nil || !a.OK() || !strings.Contains(string(a.Body), "challenge") {
		t.Errorf("url_verification: got %+v, %v, want the challenge", a, err)
	}
	if res, err := r.slack.Event(ctx, slacktest.Object{"type": "tokens_revoked"}); err != nil {
		t.Errorf("event: got %+v, %v, want no error", res, err)
	}
	if !strings.Contains(r.log.String(), "tokens_revoked") {
		t.Error("a revoked token is not in the log")
	}
}

// TestFixturesDecode sends every inbound sample through the routes.
func TestFixturesDecode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file string
		kind chat.Kind // empty: acknowledged without a request
		code int
		want func(chat.Incoming) string
	}{
		{"slash_command.form", "", http.StatusForbidden, nil}, // of another team
		{"slash_command_enterprise.form", chat.Command, 200, nil},
		{"slash_command_escaped_entities.form", chat.Command, 200, func(in chat.Incoming) string { return in.Text }},
		{"slash_command_ssl_check.form", "", 200, nil},
		{"block_actions_button_attachment.json", "", http.StatusForbidden, nil},
		{"block_actions_button_message.json", chat.Click, 200, func(in chat.Incoming) string { return in.From.Channel + " " + in.Message + " " + in.Button }},
		{"block_actions_button_thread.json", chat.Click, 200, func(in chat.Incoming) string { return in.From.Thread }},
		{"block_actions_button_ephemeral.form", chat.Click, 200, nil},
		{"block_actions_button_confirm_home.json", "", http.StatusForbidden, nil},
		{"block_actions_button_home.json", "", http.StatusForbidden, nil},
		{"block_actions_select_message.json", "", 200, nil},
		{"block_suggestion.json", chat.Suggest, 200, func(in chat.Incoming) string { return in.Dialog + " " + in.Field + " " + in.Text }},
		{"view_submission.json", chat.Submit, 200, nil},
		{"view_submission_inputs.json", "", http.StatusForbidden, nil},
		{"view_submission_response_urls.json", chat.Submit, 200, nil},
		{"view_closed.json", "", 200, nil},
		{"shortcut_global.json", "", 200, nil},
		{"shortcut_message.json", "", 200, nil},
		{"event_url_verification.json", "", 200, nil},
		{"event_app_home_opened_home_tab.json", "", http.StatusForbidden, nil},
		{"event_app_home_opened_org.json", "", 200, nil},
		{"event_app_rate_limited.json", "", http.StatusForbidden, nil},
		{"event_tokens_revoked.json", "", 200, nil},
		{"event_subteam_members_changed.json", "", http.StatusForbidden, nil},
	}
	wants := map[string]string{
		"slash_command_escaped_entities.form": "deploy @U012ABCDEF to #public-channel-01 #C987654321 https://example.com/a?b=1&c=2 & \"quoted\" @channel `x`",
		"block_actions_button_message.json":   "C111 1700455285.968429 click_me_123",
		"block_actions_button_thread.json":    "1693616242.466609",
		"block_suggestion.json":               "view-id es_b search word",
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			raw := strings.TrimSpace(string(fixture(t, tt.file)))
			var got *chat.Incoming
			a, clk := newTest(t, func(_ context.Context, in chat.Incoming) chat.Answer { got = &in; return chat.Answer{} })
			path, contentType, body := "/slack/interactions", formType, raw
			switch {
			case strings.HasPrefix(tt.file, "event_"):
				path, contentType = "/slack/events", jsonType
			case strings.HasPrefix(tt.file, "slash_"):
				path = "/slack/commands"
			case filepath.Ext(tt.file) == ".json":
				body = "payload=" + queryEscape(raw)
			}
			w := serve(a, sign(path, contentType, testSecret, clk.Now(), body))
			if w.Code != tt.code {
				t.Fatalf("got status %d, want %d", w.Code, tt.code)
			}
			if (got != nil) != (tt.kind != "") {
				t.Fatalf("got request %+v, want kind %q", got, tt.kind)
			}
			if got == nil {
				return
			}
			if got.Kind != tt.kind || !strings.HasPrefix(got.Actor.String(), "slack:T111:") {
				t.Errorf("got %s by %s, want %s by somebody of T111", got.Kind, got.Actor, tt.kind)
			}
			if tt.want != nil && tt.want(*got) != wants[tt.file] {
				t.Errorf("got %q, want %q", tt.want(*got), wants[tt.file])
			}
		})
	}
}

// TestViewSubmissionInputsFlatten covers the sample that belongs to another team.
func TestViewSubmissionInputsFlatten(t *testing.T) {
	t.Parallel()
	in, err := decodeInteraction(fixture(t, "view_submission_inputs.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"date-of-visit": "2019-09-23", "rating": "3", "comment": "Just amazing!"}
	if diff := cmp.Diff(want, in.values()); diff != "" {
		t.Errorf("values differ (-want +got):\n%s", diff)
	}
}

func TestForeignMessageButtonIsRefused(t *testing.T) {
	t.Parallel()
	id := &identity{userID: "UBOT", botID: "BBOT"}
	tests := []struct {
		name, message string
		id            *identity
		want          bool
	}{
		{"ephemeral", ``, id, true},
		{"our bot id", `"bot_id":"BBOT"`, id, true},
		{"our user id", `"user":"UBOT"`, id, true},
		{"our app", `"app_id":"A1"`, nil, true},
		{"another bot", `"bot_id":"BX","user":"UX","app_id":"AX"`, id, false},
		{"a person", `"user":"UX"`, id, false},
		{"nothing known", `"user":"UX"`, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			payload := `{"api_app_id":"A1"}`
			if tt.message != "" {
				payload = `{"api_app_id":"A1","message":{` + tt.message + `}}`
			}
			in, err := decodeInteraction([]byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			if got := in.ours(tt.id); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCommandText(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain", "deploy demo", "deploy demo"},
		{"recognised domain", "deploy <http://demo.example.com|demo.example.com> x", "deploy demo.example.com x"},
		{"recognised URL", "url=<https://a.b/c?d=1&amp;e=2>", "url=https://a.b/c?d=1&e=2"},
		{"mail", "<mailto:a@b.c|a@b.c>", "a@b.c"},
		{"people", "why=<@U1> <@W2|bob> and <@U3|>", "why=@U1 @bob and @U3"},
		{"channels", "<#C1|ops> <#C2|> <#C3>", "#ops #C2 #C3"},
		{"everybody", "<!here> <!channel|@channel> <!everyone>", "@here @channel @everyone"},
		{"groups", "<!subteam^S1|@team> <!subteam^S2>", "@team @S2"},
		{"dates", "<!date^1392734382^{date_num}|2014-02-18>", "2014-02-18"},
		{"half a mention", "<@> <!> <#|>", "@ @ #"},
		{"typed as it looks", "&lt;@U1&gt;", "<@U1>"},
		{"entities once", "&amp;lt; &lt;b&gt;", "&lt; <b>"},
		{"open bracket", "a < b", "a < b"},
		{"empty brackets", "<>", "<>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := commandText(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDialogState(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, state, channel string }{
		{"ours", `{"c":"C1","s":"abc.def"}`, "abc.def", "C1"},
		{"a hostile channel", `{"c":"<!channel>","s":"x"}`, "x", ""},
		{"bare", "abc.def", "abc.def", ""},
		{"empty", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			state, channel := dialogState(tt.in)
			if state != tt.state || channel != tt.channel {
				t.Errorf("got %q, %q, want %q, %q", state, channel, tt.state, tt.channel)
			}
		})
	}
}

func TestDialogWithoutFieldsIsAQuestion(t *testing.T) {
	t.Parallel()
	incoming := make(chan chat.Incoming, 1)
	r := newRig(t, rigOptions{handler: func(ctx context.Context, in chat.Incoming) chat.Answer {
		if in.Kind == chat.Submit {
			incoming <- in
			return chat.Answer{}
		}
		question := testDialog()
		question.Fields = nil
		if err := in.Reply.OpenDialog(ctx, question); err != nil {
			t.Errorf("open: %v", err)
		}
		return chat.Answer{}
	}})
	ctx := ctxOf(t)
	if _, err := r.slack.Command(ctx, slacktest.CommandOpts{User: ann, Channel: ops1, Text: "deploy"}); err != nil {
		t.Fatal(err)
	}
	views := r.slack.Views(ann)
	if len(views) != 1 || !strings.Contains(r.slack.ReadView(views[0]), "Which one?") || views[0].Submit != "Deploy" {
		t.Fatalf("got %+v, want one question", views)
	}
	if got, err := r.slack.SubmitView(ctx, ann, views[0].ID, nil); err != nil || !got.Closed {
		t.Errorf("submit: %v, %+v", err, got)
	}
	if in := <-incoming; in.State != "sealed.state" || len(in.Values) != 0 {
		t.Errorf("got %+v, want an answer without values", in)
	}
}

func TestDialogsThatSlackWouldRefuseAreRefusedHere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*chat.Dialog)
	}{
		{"state too long", func(d *chat.Dialog) { d.State = strings.Repeat("x", 3000) }},
		{"no name", func(d *chat.Dialog) { d.Name = "" }},
		{"no content", func(d *chat.Dialog) { d.Fields, d.Intro = nil, "" }},
		{"field twice", func(d *chat.Dialog) { d.Fields = append(d.Fields, d.Fields[0]) }},
		{"choice without options", func(d *chat.Dialog) { d.Fields[1].Options = nil }},
		{"unknown kind", func(d *chat.Dialog) { d.Fields[0].Kind = "x" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := testDialog()
			tt.change(&d)
			if _, err := renderDialog(d, ops1); err == nil {
				t.Error("got no error, want one")
			}
		})
	}
	long := testDialog()
	long.Title, long.Submit, long.Intro = strings.Repeat("t", 100), strings.Repeat("s", 100), strings.Repeat("i", 9000)
	for i := range long.Fields {
		f := &long.Fields[i]
		f.Label, f.Hint, f.Default = strings.Repeat("l", 9000), strings.Repeat("h", 9000), strings.Repeat("d", 9000)
		for j := range 300 {
			f.Options = append(f.Options, chat.Option{Label: strings.Repeat("😀", 90), Value: strings.Repeat("v", j%80)})
		}
	}
	view, err := renderDialog(long, ops1)
	if err != nil {
		t.Fatal(err)
	}
	var o slacktest.Object
	remarshal(t, view, &o)
	if p := slacktest.ValidateView(o); len(p) != 0 {
		t.Errorf("got problems %v, want none", p)
	}
}

// remarshal turns in into JSON and that into out.
func remarshal(tb testing.TB, in, out any) {
	tb.Helper()
	b, err := json.Marshal(in)
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// queryEscape escapes what would end or change a form value.
func queryEscape(s string) string {
	return strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", "\n", "%0A").Replace(s)
}

func TestPanickingHandlerIsContained(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{handler: func(context.Context, chat.Incoming) chat.Answer { panic(errors.New("boom")) }})
	reply, err := r.slack.Command(ctxOf(t), slacktest.CommandOpts{User: ann, Channel: ops1, Text: "x"})
	if err != nil || reply.Message == nil || !strings.Contains(reply.Message.Text, "internal_error") {
		t.Errorf("got %+v, %v, want a private apology", reply, err)
	}
}
