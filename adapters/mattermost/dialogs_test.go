package mattermost_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/secret"
	"ocim/ops"
)

func deployDialog() chat.Dialog {
	return chat.Dialog{
		Name: "deploy", Title: "Deploy an instance", Submit: "Deploy", State: "handler-state", Intro: "Pick *one* @all",
		Fields: []chat.Field{
			{Name: "instance", Label: "Instance", Kind: chat.FieldChoice, Options: []chat.Option{{Label: "demo", Value: "prod/demo"}, {Label: "test", Value: "prod/test"}}},
			{Name: "why", Label: "Why", Hint: "shown on the card", Kind: chat.FieldText, Optional: true, MaxLen: 20},
			{Name: "notes", Label: "Notes", Kind: chat.FieldLines, Optional: true},
		},
	}
}

// opened is the deploy dialog on alice's screen.
func (r *rig) opened(t *testing.T, d chat.Dialog) mattermosttest.OpenDialog {
	t.Helper()
	r.answers(func(ctx context.Context, in chat.Incoming) chat.Answer {
		if in.Kind == chat.Command {
			if err := in.Reply.OpenDialog(ctx, d); err != nil {
				t.Errorf("open: %v", err)
			}
		}
		return chat.Answer{}
	})
	got, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim deploy")
	if err != nil || len(got.Dialogs) != 1 {
		t.Fatalf("command: %v, %d dialogs, want 1", err, len(got.Dialogs))
	}
	r.handled()
	return got.Dialogs[0]
}

func TestDialogIsOpenedAndSubmitted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.opened(t, deployDialog())
	if d.Dialog.Title != "Deploy an instance" || len(d.Dialog.Elements) != 3 || d.Dialog.Elements[0].Type != "select" || len(d.Dialog.Elements[0].Options) != 2 {
		t.Errorf("dialog is %+v", d.Dialog)
	}
	got, err := r.SubmitDialog(t.Context(), "alice", r.channel().Channel, d, map[string]any{
		"instance": "prod/demo", "why": "new theme", "notes": nil, "surprise": "x",
	})
	if err != nil || got.Err != nil || got.DialogError != "" || len(got.FieldErrors) != 0 {
		t.Fatalf("submit: %v, %+v", err, got)
	}
	want := []chat.Incoming{{
		Kind: chat.Submit, Actor: r.actor("alice"), ActorName: "alice", From: r.channel(), Trigger: "/ocim", Dialog: "deploy", State: "handler-state",
		Values: map[string]string{"instance": "prod/demo", "why": "new theme"},
	}}
	if diff := cmp.Diff(r.handled(), want, cmpopts.IgnoreFields(chat.Incoming{}, "Reply", "Key")); diff != "" {
		t.Errorf("incoming (-got +want):\n%s", diff)
	}
}

func TestDialogWithoutFieldsIsAQuestion(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	question := deployDialog()
	question.Fields = nil
	d := r.opened(t, question)
	if len(d.Dialog.Elements) != 0 || d.Dialog.SubmitLabel != "Deploy" || !strings.Contains(d.Dialog.IntroductionText, "Pick") {
		t.Errorf("got dialog %+v, want the question and its button alone", d.Dialog)
	}
	if got, err := r.SubmitDialog(t.Context(), "alice", r.channel().Channel, d, nil); err != nil || got.Err != nil || got.DialogError != "" {
		t.Errorf("submit: %v, %+v", err, got)
	}
	if seen := r.handled(); len(seen) != 1 || seen[0].State != "handler-state" || len(seen[0].Values) != 0 {
		t.Errorf("got %+v, want one answer without values", seen)
	}
}

func TestDialogDeliveredTwiceHasOneKeyAndACorrectedOneAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.opened(t, deployDialog())
	r.answers(func(context.Context, chat.Incoming) chat.Answer {
		return chat.Answer{Errors: map[string]string{"why": "say more", "": "and this"}}
	})
	var keys []string
	for _, why := range []string{"x", "x", "longer"} {
		got, err := r.SubmitDialog(t.Context(), "alice", r.channel().Channel, d, map[string]any{"why": why})
		if err != nil || got.FieldErrors["why"] != "say more" || got.DialogError != "and this" {
			t.Fatalf("submit: %v, %+v; want the handler's errors", err, got)
		}
		keys = append(keys, r.handled()[0].Key)
	}
	if keys[0] != keys[1] || keys[0] == keys[2] {
		t.Errorf("keys %q, want the first two alike and the third different", keys)
	}
}

func TestT12_SubmissionsThatAreNotOfTheOpenerAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.opened(t, deployDialog())
	other := r.opened(t, chat.Dialog{Name: "other", Title: "Other", Fields: []chat.Field{{Name: "x", Label: "x", Kind: chat.FieldText}}})
	values := map[string]any{"instance": "prod/demo"}
	state := d.Dialog.State
	body, _, _ := strings.Cut(state, ".")
	_, otherSum, _ := strings.Cut(other.Dialog.State, ".")
	for _, tt := range []struct{ name, user, state string }{
		{"another person", "bob", state},
		{"no state", "alice", ""},
		{"handler's own state", "alice", "handler-state"},
		{"seal missing", "alice", body},
		{"seal of another dialog", "alice", body + "." + otherSum},
		{"cut", "alice", state[:len(state)-2]},
		{"sealed as a button", "alice", r.sign.Seal(ops.PurposeButton, []byte(`{}`))},
		{"sealed as a handler's dialog", "alice", r.sign.Seal(ops.PurposeDialog, []byte(`{}`))},
		{"another key", "alice", signer(t, "x").Seal("mattermost-dialog", []byte(`{}`))},
	} {
		got, err := r.SubmitDialogRaw(t.Context(), tt.user, mattermosttest.Submission{
			URL: d.URL, CallbackID: "deploy", State: tt.state, ChannelID: r.channel().Channel, TeamID: r.TeamID, Submission: values,
		})
		if err != nil || !strings.Contains(got.DialogError, "nothing was done") {
			t.Errorf("%s: %v, %+v; want a neutral refusal", tt.name, err, got)
		}
		if seen := r.handled(); len(seen) != 0 {
			t.Errorf("%s: handled %+v", tt.name, seen)
		}
	}
	// Callback id and channel are the client's word; the state's count.
	secretChannel := r.Channels[mattermosttest.Private]
	if _, err := r.SubmitDialogRaw(t.Context(), "alice", mattermosttest.Submission{
		URL: d.URL, CallbackID: "other", State: state, ChannelID: secretChannel, TeamID: r.TeamID, Submission: values,
	}); err != nil {
		t.Fatal(err)
	}
	if seen := r.handled(); len(seen) != 1 || seen[0].Dialog != "deploy" || seen[0].From.Channel != r.channel().Channel {
		t.Errorf("handled %+v, want dialog and channel of the state", seen)
	}
	r.clock.Advance(time.Hour)
	got, err := r.SubmitDialogRaw(t.Context(), "alice", mattermosttest.Submission{
		URL: d.URL, State: state, ChannelID: r.channel().Channel, TeamID: r.TeamID, Submission: values,
	})
	if err != nil || got.DialogError == "" || len(r.handled()) != 0 {
		t.Errorf("expired: %v, %+v; want a refusal", err, got)
	}
}

func TestT12_FieldValuesAreCheckedOneByOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.opened(t, deployDialog())
	for _, tt := range []struct {
		name  string
		value any
		want  string // empty: refused at the field
		ok    bool
	}{
		{"text", "why not", "why not", true},
		{"null", nil, "", true},
		{"bool", true, "true", true},
		{"number", 12, "12", true},
		{"at the limit", strings.Repeat("ü", 20), strings.Repeat("ü", 20), true},
		{"over the limit", strings.Repeat("x", 21), "", false},
		{"endless", strings.Repeat("x", 200_000), "", false},
		{"list", []string{"a"}, "", false},
		{"object", map[string]any{"a": 1}, "", false},
	} {
		got, err := r.SubmitDialogRaw(t.Context(), "alice", mattermosttest.Submission{
			URL: d.URL, State: d.Dialog.State, ChannelID: r.channel().Channel, TeamID: r.TeamID, Submission: map[string]any{"why": tt.value},
		})
		if err != nil || got.Err != nil {
			t.Fatalf("%s: %v, %v", tt.name, err, got.Err)
		}
		seen := r.handled()
		switch {
		case tt.ok && (len(seen) != 1 || seen[0].Values["why"] != tt.want):
			t.Errorf("%s: handled %+v, want %q", tt.name, seen, tt.want)
		case !tt.ok && (len(seen) != 0 || got.FieldErrors["why"] == ""):
			t.Errorf("%s: handled %d, errors %v; want the field refused", tt.name, len(seen), got.FieldErrors)
		}
	}
}

func TestT12_DialogOfAnotherServerIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *mattermost.Config) {
		second := c.Servers[0]
		second.Name, second.PathSecret, second.Command = "second", secret.New("another-path-secret-0123456789"), "ocim2"
		c.Servers = append(c.Servers, second)
	})
	d := r.opened(t, deployDialog())
	body, _ := json.Marshal(mattermosttest.Submission{Type: "dialog_submission", State: d.Dialog.State, UserID: r.Accounts["alice"].ID, Submission: map[string]any{}})
	_, answer := r.send(t, strings.Replace(routeUnder("dialogs", "another-path-secret-0123456789"), "/main/", "/second/", 1), "application/json", strings.NewReader(string(body)))
	if !strings.Contains(answer, "nothing was done") || len(r.handled()) != 0 {
		t.Errorf("answered %s, want a refusal", answer)
	}
}

func TestFailedSubmissionStaysOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.opened(t, deployDialog())
	for _, tt := range []struct {
		name, want string
		message    *chat.Message
	}{
		{"bad", "demo is busy.", chat.Notice(chat.ToneBad, "demo is busy.")},
		{"good", "", chat.Notice(chat.ToneGood, "started")},
		{"silent", "", nil},
	} {
		r.says(tt.message)
		got, err := r.SubmitDialogRaw(t.Context(), "alice", mattermosttest.Submission{
			URL: d.URL, State: d.Dialog.State, ChannelID: r.channel().Channel, TeamID: r.TeamID, Submission: map[string]any{},
		})
		if err != nil || got.Err != nil || got.DialogError != tt.want {
			t.Errorf("%s: %v, error %q, want %q", tt.name, err, got.DialogError, tt.want)
		}
	}
	direct, err := r.bot.Direct(t.Context(), r.actor("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if posts := r.fake.Posts(direct.Channel); len(posts) != 0 {
		t.Errorf("%d direct messages, want none: the card tells of success", len(posts))
	}
}

func TestAnswerToADialogIsNeverLostUnlessTheCardShowsIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tone             chat.Tone
		inDialog, direct bool
	}{{chat.ToneBad, true, false}, {chat.ToneWarn, false, true}, {chat.ToneGood, false, false}} {
		t.Run(string(tt.tone), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			d := r.opened(t, deployDialog())
			r.says(chat.Notice(tt.tone, "what became of it"))
			got, err := r.SubmitDialog(t.Context(), "alice", r.channel().Channel, d, map[string]any{"instance": "prod/demo"})
			if err != nil || got.Err != nil || (got.DialogError == "what became of it") != tt.inDialog {
				t.Errorf("submit: %v, %+v; want it in the dialog: %v", err, got, tt.inDialog)
			}
			r.bot.Wait()
			direct, err := r.bot.Direct(t.Context(), r.actor("alice"))
			if err != nil {
				t.Fatal(err)
			}
			if posts := r.fake.Posts(direct.Channel); (len(posts) == 1) != tt.direct {
				t.Errorf("got direct messages %+v, want one: %v", posts, tt.direct)
			}
		})
	}
}

func TestLateAnswerToADialogReachesThePerson(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.opened(t, deployDialog())
	release := make(chan struct{})
	r.answers(func(context.Context, chat.Incoming) chat.Answer {
		<-release
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "accepted")}
	})
	done := make(chan mattermosttest.Reply, 1)
	go func() {
		got, _ := r.SubmitDialog(t.Context(), "alice", r.channel().Channel, d, map[string]any{"instance": "prod/demo"})
		done <- got
	}()
	if err := r.clock.Waiting(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	r.clock.Advance(3 * time.Second)
	if got := <-done; got.Err != nil || got.DialogError != "" {
		t.Errorf("got %+v, want the dialog closed", got)
	}
	close(release)
	r.bot.Wait()
	direct, err := r.bot.Direct(t.Context(), r.actor("alice"))
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	for _, p := range r.fake.Posts(direct.Channel) {
		told.WriteString(mattermosttest.Read(p) + "\n")
	}
	if !strings.Contains(told.String(), "Still working") || !strings.Contains(told.String(), "accepted") {
		t.Errorf("direct messages %q, want the note and the answer", told.String())
	}
}

func TestSearchingFieldAsksTheHandler(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	search := deployDialog()
	search.Fields[0].Kind = chat.FieldSearch
	d := r.opened(t, search)
	e := d.Dialog.Elements[0]
	if e.DataSource != "dynamic" || e.DataSourceURL != r.url+route("dialogs") || len(e.Options) != 0 {
		t.Fatalf("element is %+v, want a dynamic one", e)
	}
	r.answers(func(_ context.Context, in chat.Incoming) chat.Answer {
		return chat.Answer{Options: []chat.Option{{Label: "demo", Value: "prod/demo"}}}
	})
	lookup := func(user string, values map[string]any) string {
		b, _ := json.Marshal(mattermosttest.Submission{
			Type: "dialog_lookup", State: d.Dialog.State, UserID: r.Accounts[user].ID, ChannelID: r.channel().Channel, Submission: values,
		})
		status, answer := r.send(t, route("dialogs"), "application/json", strings.NewReader(string(b)))
		if status != http.StatusOK {
			t.Errorf("status %d, want 200", status)
		}
		return answer
	}
	if got, want := lookup("alice", map[string]any{"selected_field": "instance", "query": "de"}), `{"items":[{"text":"demo","value":"prod/demo"}]}`; got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
	want := []chat.Incoming{{
		Kind: chat.Suggest, Actor: r.actor("alice"), From: r.channel(), Trigger: "/ocim", Dialog: "deploy", State: "handler-state", Field: "instance", Text: "de",
	}}
	if diff := cmp.Diff(r.handled(), want); diff != "" {
		t.Errorf("incoming (-got +want):\n%s", diff)
	}
	for name, got := range map[string]string{
		"another person": lookup("bob", map[string]any{"selected_field": "instance", "query": "de"}),
		"another field":  lookup("alice", map[string]any{"selected_field": "secret", "query": "de"}),
		"no field":       lookup("alice", map[string]any{}),
		"endless query":  lookup("alice", map[string]any{"selected_field": "instance", "query": strings.Repeat("x", 5000)}),
	} {
		if got != `{"items":[]}` || len(r.handled()) != 0 {
			t.Errorf("%s: answered %s, want nothing", name, got)
		}
	}
}

func TestCancelledDialogIsIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.opened(t, deployDialog())
	for _, body := range []string{
		`{"type":"dialog_submission","state":"` + d.Dialog.State + `","user_id":"` + r.Accounts["alice"].ID + `","cancelled":true}`,
		`{"type":"refresh","state":"` + d.Dialog.State + `","user_id":"` + r.Accounts["alice"].ID + `"}`,
	} {
		if status, answer := r.send(t, route("dialogs"), "application/json", strings.NewReader(body)); status != http.StatusOK || answer != "{}" || len(r.handled()) != 0 {
			t.Errorf("answered %d %s, want an empty success", status, answer)
		}
	}
}

func TestDialogThatMattermostCannotShowIsNotOpened(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim deploy"); err != nil {
		t.Fatal(err)
	}
	reply := r.handled()[0].Reply
	for _, tt := range []struct {
		name   string
		change func(*chat.Dialog)
	}{
		{"no title", func(d *chat.Dialog) { d.Title = "" }},
		{"no content", func(d *chat.Dialog) { d.Fields, d.Intro = nil, "" }},
		{"two fields of a name", func(d *chat.Dialog) { d.Fields[1].Name = "instance" }},
		{"default that is no option", func(d *chat.Dialog) { d.Fields[0].Default = "x" }},
		{"endless state", func(d *chat.Dialog) { d.State = strings.Repeat("x", 2001) }},
	} {
		d := deployDialog()
		tt.change(&d)
		if err := reply.OpenDialog(t.Context(), d); ops.CodeOf(err) != ops.CodeInvalid {
			t.Errorf("%s: %v, want invalid", tt.name, err)
		}
	}
	long := deployDialog()
	long.Title, long.Submit = strings.Repeat("ü", 40), strings.Repeat("é", 40)
	long.Fields[0].Label, long.Fields[1].Hint = strings.Repeat("ß", 40), strings.Repeat("…", 200)
	if err := reply.OpenDialog(t.Context(), long); err != nil {
		t.Errorf("long labels: %v, want them cut", err)
	}
	r.clock.Advance(31 * time.Second)
	if err := reply.OpenDialog(t.Context(), deployDialog()); ops.CodeOf(err) != ops.CodeInvalid || ops.ReasonOf(err) != ops.ReasonChatUnavailable {
		t.Errorf("after 31 s: %v, want invalid, chat_unavailable: the trigger is dead", err)
	}
}
