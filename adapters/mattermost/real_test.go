//go:build e2e

package mattermost_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	realrig "ocim/e2e/mattermost/rig"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

// realBot is the adapter connected to a real server.
type realBot struct {
	*mattermosttest.Peer
	bot *mattermost.Adapter
	url string
	to  ops.Conversation

	mu     sync.Mutex
	answer func(context.Context, chat.Incoming) chat.Answer
	seen   []chat.Incoming
}

func (r *realBot) Handle(ctx context.Context, in chat.Incoming) chat.Answer {
	r.mu.Lock()
	r.seen = append(r.seen, in)
	answer := r.answer
	r.mu.Unlock()
	return answer(ctx, in)
}

func (r *realBot) answers(f func(context.Context, chat.Incoming) chat.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.seen = f, nil
}

func (r *realBot) handled() []chat.Incoming {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.seen
	r.seen = nil
	return out
}

func newRealBot(t *testing.T) *realBot {
	t.Helper()
	r := &realBot{Peer: realrig.Start(t).Peer(t)}
	r.answers(func(context.Context, chat.Incoming) chat.Answer { return chat.Answer{} })
	r.to = ops.Conversation{Platform: mattermost.Platform, Workspace: workspace, Channel: r.Channels[mattermosttest.Channel]}
	var handler http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { handler.ServeHTTP(w, q) }))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	bot, err := mattermost.New(mattermost.Config{
		Servers: []mattermost.Server{{
			Name: workspace, URL: r.URL, BotToken: secret.New(r.Accounts[mattermosttest.Bot].Token),
			Teams: []string{mattermosttest.Team}, PathSecret: secret.New(pathSecret),
		}},
		CallbackURL: srv.URL, Signer: signer(t, "k"), Tokens: &memTokens{m: map[string]secret.Secret{}}, Clock: clock.System{},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), AckBudget: 300 * time.Millisecond,
	}, r)
	if err != nil {
		t.Fatal(err)
	}
	r.bot, handler = bot, bot.Handler()
	t.Cleanup(bot.Wait)
	for range 2 { // the second finds all in order
		if err := bot.Register(t.Context()); err != nil {
			t.Fatalf("register: %v", err)
		}
	}
	return r
}

func TestRealServer(t *testing.T) {
	r := newRealBot(t)
	t.Run("command", func(t *testing.T) {
		m := card("k1")
		r.answers(func(context.Context, chat.Incoming) chat.Answer { return chat.Answer{Message: &m} })
		got, err := r.Command(t.Context(), "alice", r.to.Channel, "", "/ocim deploy  demo")
		if err != nil || got.Err != nil || !strings.Contains(got.Text(), "State: running") {
			t.Fatalf("command: %v, %v, %q", err, got.Err, got.Text())
		}
		seen := r.handled()
		if len(seen) != 1 || seen[0].Text != "deploy  demo" || seen[0].Actor.UserID != r.Accounts["alice"].ID {
			t.Fatalf("handled %+v", seen)
		}
		for _, tt := range []struct {
			user string
			want int
		}{{"bob", 0}, {"alice", 1}} {
			if _, err := r.Click(t.Context(), tt.user, got.Ephemeral[0], "cancel", ""); err != nil || len(r.handled()) != tt.want {
				t.Errorf("%s clicks alice's private button: %v, want handled %d times", tt.user, err, tt.want)
			}
		}
	})
	t.Run("silent", func(t *testing.T) {
		r.answers(func(context.Context, chat.Incoming) chat.Answer { return chat.Answer{} })
		if got, err := r.Command(t.Context(), "alice", r.to.Channel, "", "/ocim"); err != nil || got.Err != nil || len(got.Ephemeral) != 0 {
			t.Errorf("%v, %v, %d posts; want silence", err, got.Err, len(got.Ephemeral))
		}
	})
	t.Run("late", r.late)
	t.Run("card", r.card)
	t.Run("dialog", r.dialog)
	t.Run("people and places", r.places)
	t.Run("set-up steps", r.setUpSteps)
}

// setUpSteps does what SetupSteps tells an administrator, on a server without a licence and with a
// bot that has nothing yet, and nothing more.
func (r *realBot) setUpSteps(t *testing.T) {
	do := func(as, method, path string, body any) []byte {
		t.Helper()
		a, err := r.Do(t.Context(), as, method, path, body)
		if err != nil || a.Err() != nil {
			t.Fatalf("%s %s: %v, %v", method, path, err, a.Err())
		}
		return a.Body
	}
	read := func(b []byte, v any) {
		t.Helper()
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatal(err)
		}
	}
	const admin, fresh, roleName = mattermosttest.Admin, "fresh", "system_custom_group_admin"
	var account struct {
		ID    string `json:"user_id"`
		Token string `json:"token"`
	}
	read(do(admin, http.MethodPost, "/bots", map[string]string{"username": fresh}), &account)
	read(do(admin, http.MethodPost, "/users/"+account.ID+"/tokens", map[string]string{"description": "setup"}), &account)
	do(admin, http.MethodPost, "/teams/"+r.TeamID+"/members", map[string]string{"team_id": r.TeamID, "user_id": account.ID})
	r.Accounts[fresh] = mattermosttest.Account{ID: account.ID, Token: account.Token}
	bot, err := mattermost.New(mattermost.Config{
		Servers: []mattermost.Server{{
			Name: workspace, URL: r.URL, BotToken: secret.New(account.Token), Teams: []string{mattermosttest.Team},
			Command: fresh, PathSecret: secret.New(pathSecret),
		}},
		CallbackURL: r.url, Signer: signer(t, "k"), Tokens: &memTokens{m: map[string]secret.Secret{}}, Clock: clock.System{},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bot.Wait)
	if err := bot.Register(t.Context()); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("register without the role: %v, want denied", err)
	}
	var role struct {
		ID          string   `json:"id"`
		Permissions []string `json:"permissions"`
	}
	permit := func(permission string) { // mmctl permissions add
		t.Helper()
		read(do(admin, http.MethodGet, "/roles/name/"+roleName, nil), &role)
		do(admin, http.MethodPut, "/roles/"+role.ID+"/patch", map[string][]string{"permissions": append(role.Permissions, permission)})
	}
	permit("manage_slash_commands")
	do(admin, http.MethodPut, "/users/"+account.ID+"/roles", map[string]string{"roles": "system_user " + roleName}) // mmctl permissions role assign
	if err := bot.Register(t.Context()); err != nil {
		t.Errorf("register with the role: %v", err)
	}
	private := r.Channels[mattermosttest.Private]
	if a, err := r.Do(t.Context(), fresh, http.MethodGet, "/channels/"+private+"/posts", nil); err != nil || a.Status != http.StatusForbidden {
		t.Errorf("the bot reads a private channel: %v, status %d, want 403", err, a.Status)
	}
	whisper := map[string]any{"user_id": r.Accounts["alice"].ID, "post": map[string]string{"channel_id": r.to.Channel, "message": "psst"}}
	do(fresh, http.MethodPost, "/channels/"+r.to.Channel+"/members", map[string]string{"user_id": account.ID}) // it joins, as a post would make it
	for _, want := range []int{http.StatusForbidden, http.StatusCreated} {
		if a, err := r.Do(t.Context(), fresh, http.MethodPost, "/posts/ephemeral", whisper); err != nil || a.Status != want {
			t.Errorf("a private post: %v, status %d, want %d", err, a.Status, want)
		}
		permit("create_post_ephemeral")
	}
}

func (r *realBot) late(t *testing.T) {
	release := make(chan struct{})
	r.answers(func(context.Context, chat.Incoming) chat.Answer {
		<-release
		return chat.Answer{Message: chat.Notice(chat.ToneBad, "late at last")}
	})
	got, err := r.Command(t.Context(), "alice", r.to.Channel, "", "/ocim slow")
	if err != nil || !strings.Contains(got.Text(), "Still working") {
		t.Errorf("%v, %q; want a note that it comes later", err, got.Text())
	}
	close(release)
	if _, err := r.AwaitPost(t.Context(), "alice", func(p mattermosttest.Post) bool { return strings.Contains(mattermosttest.Read(p), "late at last") }); err != nil {
		t.Errorf("late answer: %v", err)
	}
}

func (r *realBot) card(t *testing.T) {
	ref, err := r.bot.Post(t.Context(), r.to, card("k2"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.bot.Post(t.Context(), r.to, card("k2")); err != nil || again != ref {
		t.Errorf("repeated: %s, %v; want %s", again, err, ref)
	}
	if found, ok, err := r.bot.Find(t.Context(), r.to, "k2"); err != nil || !ok || found != ref {
		t.Errorf("find: %s, %v, %v; want %s", found, ok, err, ref)
	}
	final := card("k2")
	final.Blocks[1].Fields[0].Text = chat.Text{{Text: "succeeded"}}
	if err := r.bot.Update(t.Context(), r.to, ref, final); err != nil {
		t.Fatal(err)
	}
	post, err := r.Post(t.Context(), ref)
	if err != nil || !strings.Contains(mattermosttest.Read(post), "State: succeeded") {
		t.Errorf("%v, post reads %q", err, mattermosttest.Read(post))
	}
	r.answers(func(context.Context, chat.Incoming) chat.Answer {
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "noted")}
	})
	got, err := r.Click(t.Context(), "bob", post, "cancel", "")
	if seen := r.handled(); err != nil || len(seen) != 1 || seen[0].Button != "token-of-k2" || seen[0].Message != ref || got.Text() != "noted" {
		t.Errorf("click: %v, %+v, told %q", err, seen, got.Text())
	}
	forged, err := r.Forge(t.Context(), "bob", r.to.Channel, r.url+route("actions"), map[string]any{"t": "token-of-k2", "m": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Click(t.Context(), "alice", forged, "forged", ""); err != nil || len(r.handled()) != 0 || !strings.Contains(got.Text(), "nothing was done") {
		t.Errorf("forged button: %v, told %q", err, got.Text())
	}
	thread := r.to
	thread.Thread = ref
	reply, err := r.bot.Post(t.Context(), thread, *chat.Notice(chat.ToneBad, "detail"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.Post(t.Context(), reply); err != nil || p.RootID != ref {
		t.Errorf("reply: %v, root %q, want %q", err, p.RootID, ref)
	}
	if a, err := r.Do(t.Context(), mattermosttest.Admin, http.MethodDelete, "/posts/"+ref, nil); err != nil || a.Err() != nil {
		t.Fatalf("delete: %v, %v", err, a.Err())
	}
	if err := r.bot.Update(t.Context(), r.to, ref, final); ops.CodeOf(err) != ops.CodeNotFound {
		t.Errorf("edit of a deleted post: %v, want not found", err)
	}
	if _, err := r.bot.Post(t.Context(), thread, *chat.Notice(chat.ToneBad, "detail 2")); err != nil {
		t.Errorf("reply to a deleted post: %v, want it in the channel", err)
	}
}

func (r *realBot) dialog(t *testing.T) {
	r.answers(func(ctx context.Context, in chat.Incoming) chat.Answer {
		if in.Kind == chat.Command {
			if err := in.Reply.OpenDialog(ctx, deployDialog()); err != nil {
				t.Errorf("open: %v", err)
			}
			return chat.Answer{}
		}
		if in.Values["why"] == "" {
			return chat.Answer{Errors: map[string]string{"why": "say why"}}
		}
		return chat.Answer{}
	})
	got, err := r.Command(t.Context(), "alice", r.to.Channel, "", "/ocim deploy")
	if err != nil || len(got.Dialogs) != 1 {
		t.Fatalf("%v, %d dialogs, want 1", err, len(got.Dialogs))
	}
	r.handled()
	d := got.Dialogs[0]
	if got, err = r.SubmitDialog(t.Context(), "alice", r.to.Channel, d, map[string]any{"instance": "prod/demo"}); err != nil || got.FieldErrors["why"] != "say why" {
		t.Errorf("%v, %+v; want the field's error", err, got)
	}
	if got, err = r.SubmitDialog(t.Context(), "alice", r.to.Channel, d, map[string]any{"instance": "prod/demo", "why": "x", "notes": nil}); err != nil || got.Err != nil || got.DialogError != "" {
		t.Errorf("%v, %+v; want success", err, got)
	}
	if seen := r.handled(); len(seen) != 2 || seen[1].Values["instance"] != "prod/demo" || seen[1].State != "handler-state" {
		t.Errorf("handled %+v", seen)
	}
	got, err = r.SubmitDialogRaw(t.Context(), "bob", mattermosttest.Submission{
		URL: d.URL, State: d.Dialog.State, ChannelID: r.to.Channel, TeamID: r.TeamID, Submission: map[string]any{"why": "x"},
	})
	if err != nil || !strings.Contains(got.DialogError, "nothing was done") || len(r.handled()) != 0 {
		t.Errorf("bob sends alice's dialog: %v, %+v; want a refusal", err, got)
	}
	search := deployDialog()
	search.Fields[0].Kind = chat.FieldSearch
	r.answers(func(ctx context.Context, in chat.Incoming) chat.Answer {
		if in.Kind == chat.Command {
			if err := in.Reply.OpenDialog(ctx, search); err != nil {
				t.Errorf("open: %v", err)
			}
		}
		return chat.Answer{Options: []chat.Option{{Label: "found " + in.Text, Value: "v"}}}
	})
	if got, err = r.Command(t.Context(), "alice", r.to.Channel, "", "/ocim deploy"); err != nil || len(got.Dialogs) != 1 {
		t.Fatalf("%v, %d dialogs, want 1", err, len(got.Dialogs))
	}
	e := got.Dialogs[0].Dialog.Elements[0]
	a, err := r.Do(t.Context(), "alice", http.MethodPost, "/actions/dialogs/lookup", map[string]any{
		"url": e.DataSourceURL, "callback_id": "deploy", "state": got.Dialogs[0].Dialog.State, "channel_id": r.to.Channel, "team_id": r.TeamID,
		"submission": map[string]any{"selected_field": "instance", "query": "de"},
	})
	if err != nil || a.Err() != nil || !strings.Contains(string(a.Body), "found de") {
		t.Errorf("look-up: %v, %v, %s; want the handler's option", err, a.Err(), a.Body)
	}
}

func (r *realBot) places(t *testing.T) {
	alice := ops.Actor{Platform: mattermost.Platform, Workspace: workspace, UserID: r.Accounts["alice"].ID}
	carol := ops.Actor{Platform: mattermost.Platform, Workspace: workspace, UserID: r.Accounts["carol"].ID}
	for _, tt := range []struct {
		name  string
		actor ops.Actor
		want  chat.Membership
	}{
		{"alice", alice, chat.Membership{Active: true, Member: true}},
		{"carol", carol, chat.Membership{Active: true}},
		{"nobody", ops.Actor{Platform: mattermost.Platform, Workspace: workspace, UserID: strings.Repeat("z", 26)}, chat.Membership{}},
	} {
		if got, err := r.bot.Member(t.Context(), tt.actor, r.to); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
	direct, err := r.bot.Direct(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	m := card("k5")
	m.Blocks = append(m.Blocks, chat.Block{Kind: chat.Paragraph, Text: chat.Text{{Text: "for "}, {Style: chat.Mention, Text: "Alice", User: alice.UserID}}})
	ref, err := r.bot.Post(t.Context(), direct, m)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.Post(t.Context(), ref); err != nil || !strings.Contains(mattermosttest.Read(p), "for @alice") {
		t.Errorf("direct message: %v, %q", err, mattermosttest.Read(p))
	}
	open, err := r.NewChannel(t.Context(), "O", "open", "alice")
	if err != nil {
		t.Fatal(err)
	}
	to := r.to
	to.Channel = open
	if _, err := r.bot.Post(t.Context(), to, card("k6")); err != nil {
		t.Errorf("public channel: %v, want the bot to join", err)
	}
	to.Channel = r.Channels[mattermosttest.Private]
	if _, err := r.bot.Post(t.Context(), to, card("k7")); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("private channel: %v, want denied", err)
	}
}
