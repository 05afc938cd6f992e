package mattermosttest

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

func dialogCases() []contractCase {
	return []contractCase{
		{"a dialog opens on its user's screen", dialogOpens},
		{"a dialog opens from inside the command", dialogInsideCommand},
		{"a dialog is submitted and cancelled", dialogSubmit},
		{"a trigger works more than once and expires", dialogTriggerLife},
		{"a bad trigger is refused", dialogBadTrigger},
		{"a bad dialog opens all the same", dialogUnchecked},
		{"a submission can be made up", dialogForged},
		{"a submission needs channel and team", dialogAccess},
		{"a dialog's answers", dialogAnswers},
	}
}

// trigger gets a trigger id of alice's from a command.
func (b *bench) trigger() string {
	b.Helper()
	b.fine("command", b.types(""))
	return b.app.last().form().Get("trigger_id")
}

func (b *bench) dialog() Dialog {
	return Dialog{
		CallbackID: "cb", Title: "Deploy", State: "state", SubmitLabel: "Go", NotifyOnCancel: true,
		Elements: []Element{{DisplayName: "Instance", Name: "instance", Type: "text"}},
	}
}

// open opens a dialog with nobody's session.
func (b *bench) open(trigger string, d Dialog) Answer {
	b.Helper()
	return b.call("", http.MethodPost, "/actions/dialogs/open",
		OpenDialog{TriggerID: trigger, URL: b.app.url + "/dialog", Dialog: d})
}

// shown is the case's own dialog on alice's screen; cases share alice.
func (b *bench) shown() []OpenDialog {
	b.Helper()
	all, err := b.Dialogs(b.ctx, "alice")
	b.ok(err)
	var mine []OpenDialog
	for _, d := range all {
		if strings.HasPrefix(d.URL, b.app.url) {
			mine = append(mine, d)
		}
	}
	return mine
}

func dialogOpens(b *bench) {
	b.ok(b.Watch(b.ctx, "bob"))
	trigger := b.trigger()
	if a := b.open(trigger, b.dialog()); a.Status != http.StatusOK {
		b.Fatalf("open: got %d %s, want 200", a.Status, a.Body)
	}
	got := b.shown()
	if len(got) != 1 {
		b.Fatalf("alice: got %d dialogs, want 1", len(got))
	}
	d := got[0]
	if d.TriggerID == trigger || !validID(d.TriggerID) || d.Dialog.State != "state" || d.Dialog.Title != "Deploy" {
		b.Errorf("got %+v, want the dialog with its state and a short trigger id", d)
	}
	for _, other := range []string{"bob"} {
		all, err := b.Dialogs(b.ctx, other)
		b.ok(err)
		for _, d := range all {
			if strings.HasPrefix(d.URL, b.app.url) {
				b.Errorf("%s: got a dialog, want none", other)
			}
		}
	}
	p := b.card(button("go"))
	b.fine("click", b.clicks("alice", p, "go", ""))
	if a := b.open(b.app.last().click().TriggerID, b.dialog()); a.Status != http.StatusOK {
		b.Errorf("open from a click: got %d, want 200", a.Status)
	}
}

func dialogInsideCommand(b *bench) {
	b.app.answerWith(func(http.ResponseWriter, *http.Request) {
		if a := b.open(b.app.last().form().Get("trigger_id"), b.dialog()); a.Status != http.StatusOK {
			b.Errorf("open: got %d, want 200", a.Status)
		}
	})
	b.fine("command", b.types(""))
	if n := len(b.shown()); n != 1 {
		b.Errorf("got %d dialogs, want 1", n)
	}
}

func dialogSubmit(b *bench) {
	b.open(b.trigger(), b.dialog())
	shown := b.shown()
	if len(shown) != 1 {
		b.Fatalf("got %d dialogs, want 1", len(shown))
	}
	values := map[string]any{"instance": "demo", "page": true, "empty": nil, "n": 3.5}
	r, err := b.SubmitDialog(b.ctx, "alice", b.channel, shown[0], values)
	b.ok(err)
	b.fine("submit", r)
	got := b.app.last().submission()
	if got.Type != "dialog_submission" || got.CallbackID != "cb" || got.State != "state" || got.Cancelled ||
		got.UserID != b.Accounts["alice"].ID || got.ChannelID != b.channel || got.TeamID != b.TeamID || got.URL != "" {
		b.Errorf("got %+v, want alice's submission", got)
	}
	if mustJSON(got.Submission) != mustJSON(values) {
		b.Errorf("values: got %s, want %s", mustJSON(got.Submission), mustJSON(values))
	}
	if n := len(b.shown()); n != 0 {
		b.Errorf("after it: got %d dialogs open, want none", n)
	}
	r, err = b.CancelDialog(b.ctx, "alice", b.channel, shown[0])
	b.ok(err)
	b.fine("cancel", r)
	if got := b.app.last().submission(); !got.Cancelled || len(got.Submission) != 0 || got.Type != "dialog_submission" {
		b.Errorf("cancelled: got %+v", got)
	}
}

// dialogTriggerLife also checks what else lives for 30 seconds, so that the
// time passes once: an idempotent create.
func dialogTriggerLife(b *bench) {
	if b.Wait == nil {
		b.Skip("this peer cannot let time pass")
	}
	trigger, pending := b.trigger(), newID()
	for range 2 {
		if a := b.open(trigger, b.dialog()); a.Status != http.StatusOK {
			b.Fatalf("open: got %d %s, want 200", a.Status, a.Body)
		}
	}
	first := b.post(Post{Message: "once", PendingPostID: pending})
	b.ok(b.Wait(b.ctx, defaultTimeout+2*time.Second))
	a := b.open(trigger, b.dialog())
	b.refused("old trigger", a.Err(), http.StatusBadRequest, "interactive_message.decode_trigger_id.expired")
	if again := b.post(Post{Message: "once", PendingPostID: pending}); again.ID == first.ID {
		b.Error("pending_post_id: got the old post after 30 s, want a new one")
	}
}

func dialogBadTrigger(b *bench) {
	const prefix = "interactive_message.decode_trigger_id."
	good := b.trigger()
	for name, c := range map[string]struct{ trigger, id string }{
		"not base64":   {"***", "base64_decode_failed"},
		"no parts":     {"aGVsbG8=", "missing_data"},
		"empty":        {"", "missing_data"},
		"other's sign": {resign(good), "verify_signature_failed"},
	} {
		b.refused(name, b.open(c.trigger, b.dialog()).Err(), http.StatusBadRequest, prefix+c.id)
	}
	a := b.call("", http.MethodPost, "/actions/dialogs/open", OpenDialog{TriggerID: good, Dialog: b.dialog()})
	b.refused("no URL", a.Err(), http.StatusBadRequest, "api.context.invalid_body_param.app_error")
}

// resign makes a trigger id of another user that keeps the signature.
func resign(trigger string) string {
	raw, _ := base64.StdEncoding.DecodeString(trigger)
	parts := strings.Split(string(raw), ":")
	if len(parts) == 4 {
		parts[1] = newID()
	}
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, ":")))
}

func dialogUnchecked(b *bench) {
	trigger := b.trigger()
	long, none, many := b.dialog(), b.dialog(), b.dialog()
	long.Title = strings.Repeat("x", 40)
	none.Title, none.Elements = "", nil
	for range 11 {
		many.Elements = append(many.Elements, Element{DisplayName: "e", Name: "e", Type: "nonesuch"})
	}
	for name, d := range map[string]Dialog{"long title": long, "nothing": none, "many elements": many} {
		if a := b.open(trigger, d); a.Status != http.StatusOK {
			b.Errorf("%s: got %d, want 200", name, a.Status)
		}
	}
}

func dialogForged(b *bench) {
	r, err := b.SubmitDialogRaw(b.ctx, "bob", Submission{
		URL: b.app.url + "/dialog", Type: "made_up", CallbackID: "any", State: "any", UserID: b.Accounts["alice"].ID,
		ChannelID: b.channel, TeamID: b.TeamID, Submission: map[string]any{"instance": 5.0, "extra": "x"},
	})
	b.ok(err)
	b.fine("submit", r)
	got := b.app.last().submission()
	if got.UserID != b.Accounts["bob"].ID || got.State != "any" || got.Type != "dialog_submission" {
		b.Errorf("got %+v, want bob's values with bob's id", got)
	}
	if got.Submission["extra"] != "x" {
		b.Errorf("values: got %v, want them unchecked", got.Submission)
	}
	if h := b.app.last().header.Get("Authorization"); h != "" {
		b.Errorf("authorization: got %q, want none", h)
	}
}

func dialogAccess(b *bench) {
	private := b.must(b.NewChannel(b.ctx, "P", "private"))
	in := Submission{URL: b.app.url, ChannelID: b.channel, TeamID: b.TeamID}
	for name, c := range map[string]struct {
		change func(*Submission)
		status int
		id     string
	}{
		"no URL":          {func(s *Submission) { s.URL = "" }, 400, "api.context.invalid_body_param.app_error"},
		"no team":         {func(s *Submission) { s.TeamID = "" }, 403, errIDPermission},
		"private channel": {func(s *Submission) { s.ChannelID = private }, 403, errIDPermission},
		"unknown channel": {func(s *Submission) { s.ChannelID = newID() }, 404, "app.channel.get.existing.app_error"},
	} {
		s := in
		c.change(&s)
		r, err := b.SubmitDialogRaw(b.ctx, "alice", s)
		b.ok(err)
		b.refused(name, r.Err, c.status, c.id)
	}
	if n := len(b.app.requests()); n != 0 {
		b.Errorf("requests: got %d, want none", n)
	}
}

func dialogAnswers(b *bench) {
	in := Submission{URL: b.app.url, ChannelID: b.channel, TeamID: b.TeamID, Submission: map[string]any{}}
	submit := func() Reply {
		r, err := b.SubmitDialogRaw(b.ctx, "alice", in)
		b.ok(err)
		return r
	}
	b.app.answerJSON(`{"errors":{"instance":"unknown"}}`)
	if r := submit(); r.FieldErrors["instance"] != "unknown" {
		b.Errorf("field error: got %v", r.FieldErrors)
	}
	b.app.answerJSON(`{"error":"not now"}`)
	if r := submit(); r.DialogError != "not now" {
		b.Errorf("error: got %q", r.DialogError)
	}
	b.app.answerJSON(`{"type":"form","form":{"title":"Next","state":"2","elements":[]}}`)
	if r := submit(); r.Next == nil || r.Next.State != "2" {
		b.Errorf("form: got %+v, want the next step", r.Next)
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   int
		id     string
	}{
		"204":          {204, ``, 400, errIDIntegration},
		"400":          {400, `{"error":"no"}`, 400, errIDIntegration},
		"500":          {500, ``, 400, errIDIntegration},
		"text":         {200, `fine`, 500, "app.submit_interactive_dialog.decode_json_error"},
		"unknown type": {200, `{"type":"x"}`, 400, "app.submit_interactive_dialog.invalid_response"},
		"form missing": {200, `{"type":"form"}`, 400, "app.submit_interactive_dialog.invalid_response"},
	} {
		b.app.answer(c.status, "application/json", c.body)
		b.refused(name, submit().Err, c.want, c.id)
	}
	for _, body := range []string{``, `{}`, `{"type":"ok"}`} {
		b.app.answerJSON(body)
		b.fine("answer "+body, submit())
	}
}
