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

// posted is a card that the bot wrote to the channel.
func (r *rig) posted(t *testing.T, key string) mattermosttest.Post {
	t.Helper()
	ref, err := r.bot.Post(t.Context(), r.channel(), card(key))
	if err != nil {
		t.Fatalf("post: %v", err)
	}
	p, ok := r.fake.Post(ref)
	if !ok {
		t.Fatalf("post %s is not on the server", ref)
	}
	return p
}

// clickBody is a click as the server sends it.
func (r *rig) clickBody(user, channel, post, trigger string, context map[string]any) string {
	b, _ := json.Marshal(mattermosttest.Click{
		UserID: r.Accounts[user].ID, UserName: user, ChannelID: channel, TeamID: r.TeamID,
		PostID: post, TriggerID: trigger, Type: "button", Context: context,
	})
	return string(b)
}

func TestClickReachesTheHandlerAndIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	m := card("answer")
	m.Buttons = nil
	r.says(&m)
	got, err := r.Click(t.Context(), "bob", p, "cancel", "")
	if err != nil || got.Err != nil {
		t.Fatalf("click: %v, %v", err, got.Err)
	}
	if want := "**Deploy demo**\n\n**State:** running\n**Instance:** `prod/demo`\n\noperation 7KQ2"; got.Text() != want {
		t.Errorf("shown to bob: %q, want %q", got.Text(), want)
	}
	want := []chat.Incoming{{
		Kind: chat.Click, Actor: r.actor("bob"), ActorName: "bob", From: r.channel(), Trigger: "/ocim", Button: "token-of-k1", Message: p.ID,
	}}
	seen := r.handled()
	if d := cmp.Diff(seen, want, cmpopts.IgnoreFields(chat.Incoming{}, "Reply", "Key")); d != "" {
		t.Errorf("incoming (-got +want):\n%s", d)
	}
	if again, err := r.Click(t.Context(), "bob", p, "cancel", ""); err != nil || again.Err != nil {
		t.Fatal(err, again.Err)
	}
	if second := r.handled(); len(second) != 1 || second[0].Key == seen[0].Key {
		t.Error("two clicks have the same key: the second would be taken for a repetition")
	}
}

func TestT11_ForgedAndStolenButtonsAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ours := r.posted(t, "k1")
	context := ours.Actions()[0].Integration.Context
	stranger, err := r.CreatePost(t.Context(), "bob", mattermosttest.Post{ChannelID: r.channel().Channel, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := r.NewChannel(t.Context(), "O", "other", "alice", mattermosttest.Bot)
	if err != nil {
		t.Fatal(err)
	}
	there := r.channel()
	there.Channel = elsewhere
	thereRef, err := r.bot.Post(t.Context(), there, card("k2"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(key string, value any) map[string]any {
		out := map[string]any{"t": context["t"], "m": context["m"]}
		out[key] = value
		return out
	}
	seal, _ := context["m"].(string)
	main := r.channel().Channel
	// A restarted bot remembers no post and asks the server about each.
	for _, bot := range []*rig{r, r.restarted(t)} {
		for _, tt := range []struct {
			name, channel, post string
			context             map[string]any
		}{
			{"no context", main, ours.ID, nil},
			{"no seal", main, ours.ID, map[string]any{"t": context["t"]}},
			{"token changed", main, ours.ID, with("t", "token-of-k2")},
			{"token of another type", main, ours.ID, with("t", 7)},
			{"seal cut", main, ours.ID, with("m", seal[:len(seal)-1])},
			{"seal flipped", main, ours.ID, with("m", strings.Replace(seal, seal[:4], "AAAA", 1))},
			{"seal of another key", main, ours.ID, with("m", signer(t, "x").Seal("mattermost-action", []byte("{}")))},
			{"seal of another purpose", main, ours.ID, with("m", r.sign.Seal(ops.PurposeButton, []byte("{}")))},
			{"on somebody else's post", main, stranger.ID, context},
			{"in another channel", elsewhere, ours.ID, context},
			{"on another post of ours in another channel", elsewhere, thereRef, context},
			{"on another post of ours, claimed here", main, thereRef, context},
			{"on a post that does not exist", main, strings.Repeat("z", 26), context},
		} {
			body := r.clickBody("alice", tt.channel, tt.post, "trigger-"+tt.name, tt.context)
			status, answer := bot.send(t, route("actions"), "application/json", strings.NewReader(body))
			if seen := bot.handled(); len(seen) != 0 {
				t.Errorf("%s: handled %+v, want a refusal", tt.name, seen)
			}
			if status != http.StatusOK || !strings.Contains(answer, "nothing was done") {
				t.Errorf("%s: answered %d %s, want a neutral refusal", tt.name, status, answer)
			}
		}
		// The genuine one passes, so that the refusals above prove something.
		body := r.clickBody("alice", main, ours.ID, "genuine", context)
		if _, answer := bot.send(t, route("actions"), "application/json", strings.NewReader(body)); len(bot.handled()) != 1 {
			t.Errorf("the genuine click was refused: %s", answer)
		}
	}
}

// restarted is another bot on the same server, store and keys, that remembers nothing.
func (r *rig) restarted(t *testing.T) *rig {
	t.Helper()
	return newQuietRig(t, func(c *mattermost.Config) {
		c.Servers[0].URL, c.Servers[0].BotToken = r.fake.URL, secret.New(r.Accounts[mattermosttest.Bot].Token)
		c.Signer, c.Tokens = r.sign, r.store
	})
}

func TestT11_ButtonOfAPrivateAnswerWorksForItsReaderAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := card("k1")
	r.says(&m)
	got, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim status")
	if err != nil || len(got.Ephemeral) != 1 {
		t.Fatalf("command: %v, %d posts", err, len(got.Ephemeral))
	}
	r.handled()
	private := got.Ephemeral[0]
	for _, tt := range []struct {
		user string
		want int
	}{{"bob", 0}, {"alice", 1}} {
		if _, err := r.Click(t.Context(), tt.user, private, "cancel", ""); err != nil {
			t.Fatal(err)
		}
		if seen := r.handled(); len(seen) != tt.want {
			t.Errorf("%s clicked alice's button: handled %d, want %d", tt.user, len(seen), tt.want)
		}
	}
}

func TestT13_ButtonsOfACopiedCardAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	// Mallory knows even what the server hides: address and context of the button.
	in := p.Actions()[0].Integration
	forged, err := r.Forge(t.Context(), "bob", r.channel().Channel, in.URL, in.Context)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Click(t.Context(), "alice", forged, "forged", "")
	if err != nil || len(r.handled()) != 0 {
		t.Fatalf("a copied card was accepted: %v", err)
	}
	if !strings.Contains(got.Text(), "nothing was done") {
		t.Errorf("alice was told %q, want a neutral refusal", got.Text())
	}
}

func TestClickFailsClosedWhileTheServerCannotBeAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	again := r.restarted(t)
	r.fake.Fail(mattermosttest.Fault{Kind: mattermosttest.Unavailable, Method: http.MethodGet, Path: "/posts/*"})
	body := r.clickBody("alice", r.channel().Channel, p.ID, "t", p.Actions()[0].Integration.Context)
	_, answer := again.send(t, route("actions"), "application/json", strings.NewReader(body))
	if len(again.handled()) != 0 || !strings.Contains(answer, "Try again") {
		t.Errorf("answered %s, want to be asked to try again", answer)
	}
	r.fake.ClearFaults()
	for range 3 {
		again.send(t, route("actions"), "application/json", strings.NewReader(body))
	}
	if got := len(again.handled()); got != 3 {
		t.Errorf("handled %d clicks, want 3", got)
	}
	if got := len(r.fake.CallsTo(http.MethodGet, "/posts/*")); got != 2 {
		t.Errorf("asked %d times for the post, want once after the failure", got)
	}
}

func TestMalformedClicksAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	good := r.clickBody("alice", r.channel().Channel, p.ID, "t", p.Actions()[0].Integration.Context)
	for _, tt := range []struct{ name, body string }{
		{"empty", ""},
		{"null", "null"},
		{"array", "[]"},
		{"cut", good[:len(good)/2]},
		{"two", good + good},
		{"no user", strings.Replace(good, r.Accounts["alice"].ID, "", 1)},
		{"path as post", strings.Replace(good, p.ID, "../../users/me", 1)},
		{"deep", strings.Repeat("[", 100_000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _ := r.send(t, route("actions"), "application/json", strings.NewReader(tt.body))
			if status != http.StatusBadRequest || len(r.handled()) != 0 {
				t.Errorf("status %d, want 400 and nothing handled", status)
			}
		})
	}
}

func TestAnswerWithButtonsGoesWhereButtonsWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	m := card("confirm")
	r.says(&m)
	got, err := r.Click(t.Context(), "alice", p, "cancel", "")
	if err != nil || !strings.Contains(got.Text(), "direct message") {
		t.Fatalf("told %q, %v; want a pointer to the direct message", got.Text(), err)
	}
	direct, err := r.bot.Direct(t.Context(), r.actor("alice"))
	if err != nil {
		t.Fatal(err)
	}
	posts := r.fake.Posts(direct.Channel)
	if len(posts) != 1 {
		t.Fatalf("%d direct messages, want 1", len(posts))
	}
	r.handled()
	if _, err := r.Click(t.Context(), "alice", posts[0], "cancel", ""); err != nil || len(r.handled()) != 1 {
		t.Errorf("the button in the direct message does not work: %v", err)
	}
}

func TestLateAnswerToAClickReachesThePerson(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.posted(t, "k1")
	release := make(chan struct{})
	r.answers(func(context.Context, chat.Incoming) chat.Answer {
		<-release
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "canceled")}
	})
	done := make(chan string, 1)
	go func() {
		got, _ := r.Click(t.Context(), "alice", p, "cancel", "")
		done <- got.Text()
	}()
	if err := r.clock.Waiting(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	r.clock.Advance(3 * time.Second)
	if first := <-done; !strings.Contains(first, "Still working") {
		t.Errorf("first answer %q, want a note that it comes later", first)
	}
	close(release)
	r.bot.Wait()
	direct, err := r.bot.Direct(t.Context(), r.actor("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if posts := r.fake.Posts(direct.Channel); len(posts) != 1 || !strings.Contains(mattermosttest.Read(posts[0]), "canceled") {
		t.Errorf("direct messages %+v, want the answer", posts)
	}
}
