package slacktest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slack-go/slack"

	"ocim/adapters/slack/slacktest"
)

// answers is a bot that takes one answer after another from a list and keeps what it was sent.
type answers struct {
	bodies  chan string
	payload chan slack.InteractionCallback
	trigger chan string
}

func newAnswers(t *testing.T, w world) *answers {
	t.Helper()
	a := &answers{
		bodies: make(chan string, 16), payload: make(chan slack.InteractionCallback, 16), trigger: make(chan string, 16),
	}
	w.serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("payload") != "" {
			c, err := slack.InteractionCallbackParse(r)
			if err != nil {
				t.Error(err)
			}
			a.payload <- c
			a.trigger <- c.TriggerID
		} else {
			a.trigger <- r.PostFormValue("trigger_id")
		}
		select {
		case body := <-a.bodies:
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, body)
		default:
		}
	})
	return a
}

func deployModal(more func(*slack.ModalViewRequest)) slack.ModalViewRequest {
	text := func(s string) *slack.TextBlockObject {
		return slack.NewTextBlockObject(slack.PlainTextType, s, false, false)
	}
	least := 0
	menu := slack.NewOptionsSelectBlockElement(slack.OptTypeExternal, text("Pick"), "instance")
	menu.MinQueryLength = &least
	reason := slack.NewPlainTextInputBlockElement(nil, "reason")
	reason.MaxLength = 10
	note := slack.NewInputBlock("reason", text("Reason"), nil, reason)
	note.Optional = true
	m := slack.ModalViewRequest{
		Type: slack.VTModal, Title: text("Deploy"), Submit: text("Go"), CallbackID: "deploy", PrivateMetadata: "m-1", NotifyOnClose: true,
		Blocks: slack.Blocks{BlockSet: []slack.Block{slack.NewInputBlock("instance", text("Instance"), nil, menu), note}},
	}
	if more != nil {
		more(&m)
	}
	return m
}

func TestModalFromCommandToSubmit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newAnswers(t, w)
	ctx := within(t)
	receive(t, w.command(t, "deploy"))
	trigger := receive(t, b.trigger)
	opened, err := w.api.OpenViewContext(ctx, trigger, deployModal(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.OpenViewContext(ctx, trigger, deployModal(nil)); err == nil || err.Error() != "exchanged_trigger_id" {
		t.Errorf("got %v for a used trigger, want exchanged_trigger_id", err)
	}
	v := w.Views(ann)[0]
	if got, want := w.ReadView(v), "Deploy\nInstance: [Pick ▾]\nReason: []"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	// What was not offered cannot be chosen, and a required input cannot be left empty.
	if _, err := w.SubmitView(ctx, ann, v.ID, map[string]any{"instance": "demo"}); !errors.Is(err, slacktest.ErrInput) {
		t.Errorf("got %v for an option never offered, want %v", err, slacktest.ErrInput)
	}
	if _, err := w.SubmitView(ctx, ann, v.ID, nil); !errors.Is(err, slacktest.ErrInput) {
		t.Errorf("got %v for an empty input, want %v", err, slacktest.ErrInput)
	}
	b.bodies <- `{"options":[{"text":{"type":"plain_text","text":"Demo"},"value":"demo"}]}`
	options, _, err := w.Suggest(ctx, ann, slacktest.Where{ViewID: v.ID}, "instance", "de")
	if diff := cmp.Diff([]slacktest.Option{{Text: "Demo", Value: "demo"}}, options); err != nil || diff != "" {
		t.Errorf("got %v, -want +got\n%s", err, diff)
	}
	if c := receive(t, b.payload); c.Type != slack.InteractionTypeBlockSuggestion || c.Value != "de" || c.ActionID != "instance" {
		t.Errorf("got suggestion %+v", c)
	}
	if _, err := w.SubmitView(ctx, ann, v.ID, map[string]any{"instance": "demo", "reason": strings.Repeat("x", 11)}); !errors.Is(err, slacktest.ErrInput) {
		t.Errorf("got %v for too long a text, want %v", err, slacktest.ErrInput)
	}

	b.bodies <- `{"response_action":"errors","errors":{"instance":"is busy"}}`
	sub, err := w.SubmitView(ctx, ann, v.ID, map[string]any{"instance": "demo", "reason": "why not"})
	if err != nil || sub.Closed || sub.Errors["instance"] != "is busy" {
		t.Errorf("got %+v, %v, want an error under the input", sub, err)
	}
	c := receive(t, b.payload)
	if got := c.View.State.Values["instance"]["instance"].SelectedOption.Value; got != "demo" || c.View.PrivateMetadata != "m-1" || c.View.Hash != opened.Hash {
		t.Errorf("got value %q, metadata %q, hash %q", got, c.View.PrivateMetadata, c.View.Hash)
	}
	b.bodies <- `{"response_action":"errors","errors":{"nowhere":"x"}}`
	if sub, err := w.SubmitView(ctx, ann, v.ID, nil); err != nil || sub.Error == "" {
		t.Errorf("got %+v, %v for an error on no input, want it shown as failed", sub, err)
	}
	if sub, err := w.SubmitView(ctx, ann, v.ID, nil); err != nil || !sub.Closed {
		t.Errorf("got %+v, %v for an empty answer, want the modal closed", sub, err)
	}
	if got := len(w.Views(ann)); got != 0 {
		t.Errorf("got %d views, want none", got)
	}
}

func TestModalStackUpdateAndClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newAnswers(t, w)
	ctx := within(t)
	open := func(more func(*slack.ModalViewRequest)) *slack.ViewResponse {
		t.Helper()
		receive(t, w.command(t, "deploy"))
		res, err := w.api.OpenViewContext(ctx, receive(t, b.trigger), deployModal(more))
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	noInputs := func(m *slack.ModalViewRequest) { m.Blocks = slack.Blocks{BlockSet: []slack.Block{section("sure?")}} }
	first := open(noInputs)
	next, err := w.api.UpdateViewContext(ctx, deployModal(noInputs), "", first.Hash, first.ID)
	if err != nil || next.Hash == first.Hash {
		t.Errorf("got hash %q, %v, want another than %q", next.Hash, err, first.Hash)
	}
	if _, err := w.api.UpdateViewContext(ctx, deployModal(noInputs), "", first.Hash, first.ID); err == nil || err.Error() != "hash_conflict" {
		t.Errorf("got %v for an old hash, want hash_conflict", err)
	}
	push := `{"response_action":"push","view":{"type":"modal","submit":` + plainX + `,"title":` + plainX + `,"blocks":[]}}`
	top := first.ID
	for depth, want := range []string{"", "", "push_limit_reached"} {
		b.bodies <- push
		sub, err := w.SubmitView(ctx, ann, top, nil)
		if err != nil || sub.Error != want {
			t.Errorf("push %d: got %+v, %v, want error %q", depth, sub, err, want)
		}
		top = sub.Top
		receive(t, b.payload)
	}
	stack := w.Views(ann)
	if len(stack) != 3 || stack[2].PreviousID != stack[1].ID || stack[2].RootID != first.ID {
		t.Errorf("got stack %+v, want three linked views", stack)
	}
	b.bodies <- `{"response_action":"clear"}`
	if sub, err := w.SubmitView(ctx, ann, top, nil); err != nil || !sub.Closed || sub.Top != "" {
		t.Errorf("got %+v, %v, want all gone", sub, err)
	}
	receive(t, b.payload)

	again := open(nil)
	if _, err := w.CloseView(ctx, ann, again.ID); err != nil {
		t.Fatal(err)
	}
	if c := receive(t, b.payload); c.Type != slack.InteractionTypeViewClosed || c.View.ID != again.ID {
		t.Errorf("got %s of %s, want view_closed of %s", c.Type, c.View.ID, again.ID)
	}
	if _, err := w.CloseView(ctx, ann, again.ID); !errors.Is(err, slacktest.ErrNoView) {
		t.Errorf("got %v for a closed view, want %v", err, slacktest.ErrNoView)
	}
}

func TestTriggerExpiresAfterThreeSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newAnswers(t, w)
	receive(t, w.command(t, "deploy"))
	w.clock.Advance(3*time.Second + time.Millisecond)
	if _, err := w.api.OpenViewContext(within(t), receive(t, b.trigger), deployModal(nil)); err == nil || err.Error() != "expired_trigger_id" {
		t.Errorf("got %v, want expired_trigger_id", err)
	}
}

func TestHomeTab(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bodies := make(chan string, 4)
	w.serve(t, func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- string(b)
	})
	ctx := within(t)
	if e, err := w.OpenHome(ctx, ann); err != nil || !e.Delivered {
		t.Fatalf("got %+v, %v, want it acknowledged", e, err)
	}
	if got := receive(t, bodies); !strings.Contains(got, `"app_home_opened"`) || strings.Contains(got, `"view"`) {
		t.Errorf("got %s, want the event without a view", got)
	}
	home := slack.HomeTabViewRequest{Type: slack.VTHomeTab, Blocks: slack.Blocks{BlockSet: []slack.Block{
		slack.NewActionBlock("a", button("deploy", "v", "Deploy")),
	}}}
	published, err := w.api.PublishViewContext(ctx, slack.PublishViewContextRequest{UserID: ann, View: home})
	if err != nil {
		t.Fatal(err)
	}
	stale := "1.x"
	if _, err := w.api.PublishViewContext(ctx, slack.PublishViewContextRequest{UserID: ann, View: home, Hash: &stale}); err == nil || err.Error() != "hash_conflict" {
		t.Errorf("got %v, want hash_conflict", err)
	}
	if a, err := w.ClickView(ctx, ann, published.ID, "deploy", nil); err != nil || !a.OK() {
		t.Errorf("got %+v, %v, want the click acknowledged", a, err)
	}
	receive(t, bodies)
	if v, ok := w.Home(ann); !ok || w.ReadView(v) != "[Deploy]" {
		t.Errorf("got home %+v, want the button", v)
	}
}

func TestResponseURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	urls := make(chan string, 16)
	w.serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("payload") != "" {
			c, err := slack.InteractionCallbackParse(r)
			if err != nil {
				t.Error(err)
			}
			urls <- c.ResponseURL
			return
		}
		urls <- r.PostFormValue("response_url")
	})
	ctx := within(t)
	respond := func(link string, m slack.WebhookMessage) error {
		return slack.PostWebhookContext(ctx, link, &m)
	}
	isNotFound := isStatus(http.StatusNotFound)

	receive(t, w.command(t, "x"))
	link := receive(t, urls)
	for i := range 5 {
		if err := respond(link, slack.WebhookMessage{Text: fmt.Sprint(i)}); err != nil {
			t.Fatalf("use %d: %v", i+1, err)
		}
	}
	if err := respond(link, slack.WebhookMessage{Text: "six"}); !isNotFound(err) {
		t.Errorf("got %v for the sixth use, want status 404", err)
	}
	if got := len(w.Ephemerals(ann)); got != 5 {
		t.Errorf("got %d ephemeral messages, want 5", got)
	}
	if got, want := w.Calls("response_url")[5].Error, "used_url"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	receive(t, w.command(t, "x"))
	link = receive(t, urls)
	w.clock.Advance(30 * time.Minute)
	if err := respond(link, slack.WebhookMessage{Text: "in time", ResponseType: "in_channel"}); err != nil {
		t.Errorf("after 30 min: %v", err)
	}
	w.clock.Advance(time.Second)
	if err := respond(link, slack.WebhookMessage{Text: "late"}); !isNotFound(err) {
		t.Errorf("got %v after 30 min, want status 404", err)
	}

	// The response_url of a click is the only way to change an ephemeral message.
	if _, err := w.api.PostEphemeralContext(ctx, ops, ann, slack.MsgOptionText("sure?", false), slack.MsgOptionBlocks(
		slack.NewActionBlock("a", button("yes", "v", "Yes")))); err != nil {
		t.Fatal(err)
	}
	all := w.Ephemerals(ann)
	asked := all[len(all)-1]
	if _, err := w.Click(ctx, ben, ops, asked.TS, "yes"); !errors.Is(err, slacktest.ErrNoMessage) {
		t.Errorf("got %v for another's click, want %v", err, slacktest.ErrNoMessage)
	}
	if _, err := w.Click(ctx, ann, ops, asked.TS, "yes"); err != nil {
		t.Fatal(err)
	}
	link = receive(t, urls)
	if err := respond(link, slack.WebhookMessage{Text: "done", ReplaceOriginal: true}); err != nil {
		t.Fatal(err)
	}
	if m, _ := w.Message(ops, asked.TS); w.Read(m) != "done" || m.Edits() != 1 {
		t.Errorf("got %q after %d edits, want done after 1", w.Read(m), m.Edits())
	}
	if err := respond(link, slack.WebhookMessage{DeleteOriginal: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := len(w.Ephemerals(ann)), 5; got != want {
		t.Errorf("got %d ephemeral messages after the deletion, want %d", got, want)
	}
}

func TestEventIsRetriedAtOnceAfterOneAndAfterFiveMinutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	start := w.clock.Now()
	type attempt struct {
		Num, Reason string
		At          time.Duration
	}
	seen := make(chan attempt, 8)
	w.serve(t, func(rw http.ResponseWriter, r *http.Request) {
		seen <- attempt{r.Header.Get("X-Slack-Retry-Num"), r.Header.Get("X-Slack-Retry-Reason"), w.clock.Now().Sub(start)}
		rw.WriteHeader(http.StatusInternalServerError)
	})
	ctx := within(t)
	done := make(chan slacktest.EventResult, 1)
	go func() {
		res, err := w.Mention(ctx, ann, ops, "hi", "")
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	want := []attempt{
		{"", "", 0}, {"1", "http_error", 0}, {"2", "http_error", time.Minute}, {"3", "http_error", 6 * time.Minute},
	}
	for i, wait := range []time.Duration{0, 0, time.Minute, 5 * time.Minute} {
		if wait > 0 {
			if err := w.Until(ctx, func() bool { return len(w.Deliveries("events_api")) == i }); err != nil {
				t.Fatal(err)
			}
			if err := w.clock.Waiting(ctx, 1); err != nil {
				t.Fatal(err)
			}
			w.clock.Advance(wait)
		}
		if got := receive(t, seen); got != want[i] {
			t.Errorf("attempt %d: got %+v, want %+v", i+1, got, want[i])
		}
	}
	if res := receive(t, done); res.Delivered || len(res.Answers) != 4 {
		t.Errorf("got %+v, want four failures", res)
	}
}

func TestEventRetriesEndWhenTheBotSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Slack-No-Retry", "1")
		rw.WriteHeader(http.StatusInternalServerError)
	})
	if res, err := w.OpenHome(within(t), ann); err != nil || res.Delivered || len(res.Answers) != 1 {
		t.Errorf("got %+v, %v, want one failure", res, err)
	}
}

func TestPayloadsOfAnOrganisation(t *testing.T) {
	t.Parallel()
	ws := slacktest.DefaultWorkspace()
	ws.EnterpriseID, ws.EnterpriseName, ws.OrgInstall = "E0ORG0001", "Org", true
	ws.Users[0].TeamID = "T0OTHER01"
	w := newWorld(t, func(o *slacktest.Options) { o.Workspace = &ws })
	w.serve(t, func(http.ResponseWriter, *http.Request) {})
	ts := w.post(t, slack.MsgOptionText("x", false), slack.MsgOptionBlocks(slack.NewActionBlock("a", button("b", "v", "B"))))
	p, err := w.ClickPayload(ann, ops, ts, "b")
	if err != nil {
		t.Fatal(err)
	}
	user, _ := p["user"].(map[string]any)
	if p["team"] != nil || p["is_enterprise_install"] != true || user["team_id"] != "T0OTHER01" {
		t.Errorf("got team %v, install %v, user %v", p["team"], p["is_enterprise_install"], user)
	}
	info, err := w.api.GetUserInfoContext(within(t), ann)
	if err != nil || info.TeamID != "T0OTHER01" || !info.IsStranger {
		t.Errorf("got %+v, %v, want a stranger of T0OTHER01", info, err)
	}
	guest, err := w.api.GetUserInfoContext(within(t), "U0GUS0001")
	if err != nil || !guest.IsRestricted {
		t.Errorf("got %+v, %v, want a guest", guest, err)
	}
}

func TestLiveTokens(t *testing.T) {
	t.Parallel()
	block := func(text string, verbatim bool) slack.MsgOption {
		o := slack.NewTextBlockObject(slack.MarkdownType, text, false, verbatim)
		return slack.MsgOptionBlocks(slack.NewSectionBlock(o, nil, nil))
	}
	hostile := "<!channel> <@U0ANN0001> https://evil.example.com @here #ops"
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(hostile)
	tests := []struct {
		name   string
		option slack.MsgOption
		want   []string
	}{
		{"raw and parsed", block(hostile, false), []string{"broadcast channel", "user U0ANN0001", "link https://evil.example.com auto", "broadcast here auto", "channel C0OPS0001 auto"}},
		{"raw and verbatim", block(hostile, true), []string{"broadcast channel", "user U0ANN0001"}},
		{"escaped but parsed", block(escaped, false), []string{"link https://evil.example.com auto", "broadcast here auto", "channel C0OPS0001 auto"}},
		{"escaped and verbatim", block(escaped, true), nil},
		{"escaped twice", block("&amp;lt;!channel&amp;gt;", true), nil},
		{"link with a label", block("<https://ours.example.com/p/1|pipeline 1>", true), []string{"link https://ours.example.com/p/1"}},
		{"group and date", block("<!subteam^S0DEPLOY1> <!date^1^{date}|x>", true), []string{"group S0DEPLOY1", "date 1^{date}"}},
		{"text", slack.MsgOptionText(escaped, false), []string{"link https://evil.example.com auto"}},
		{"text, names linked", slack.MsgOptionCompose(slack.MsgOptionText(escaped, false), slack.MsgOptionLinkNames(true)), []string{"link https://evil.example.com auto", "broadcast here auto", "channel C0OPS0001 auto"}},
		{"text, nothing parsed", slack.MsgOptionCompose(slack.MsgOptionText(escaped, false), slack.MsgOptionParse(false)), nil},
		{"plain text", slack.MsgOptionBlocks(slack.NewHeaderBlock(slack.NewTextBlockObject(slack.PlainTextType, "@here <!channel>", false, false))), nil},
		{"rich text", slack.MsgOptionBlocks(slack.NewRichTextBlock("r", slack.NewRichTextSection(
			slack.NewRichTextSectionTextElement(hostile, nil), slack.NewRichTextSectionUserElement("U0ANN0001", nil)))), []string{"user U0ANN0001"}},
		{"markdown block", slack.MsgOptionBlocks(slack.NewMarkdownBlock("m", "[x](https://a.example/) ![y](https://b.example/)")), []string{"link https://a.example/", "image https://b.example/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			m, _ := w.Message(ops, w.post(t, tt.option))
			var got []string
			for _, l := range w.LiveTokens(m) {
				token := string(l.Kind) + " " + l.Target
				if l.Auto {
					token += " auto"
				}
				got = append(got, token)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
