package mattermost_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/secret"
	"ocim/ops"
)

func TestRegisterCreatesTheCommandOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		if err := r.bot.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cmds := r.fake.Commands()
	if len(cmds) != 1 {
		t.Fatalf("%d commands, want 1", len(cmds))
	}
	c := cmds[0]
	if want := r.url + route("commands"); c.URL != want || c.Method != "P" || c.Trigger != "ocim" || !c.AutoComplete || c.AutoCompleteHint == "" {
		t.Errorf("command is %+v, want POST to %s with a hint", c, want)
	}
	if n := len(r.fake.CallsTo(http.MethodPut, "/commands/*")) + len(r.fake.CallsTo(http.MethodPut, "/commands/*/regen_token")); n != 0 {
		t.Errorf("%d changes of a command that was right, want none", n)
	}
	stored := r.store.m["mattermost/main/"+r.TeamID]
	if !stored.Equal(c.Token) {
		t.Error("the stored token is not the server's")
	}
}

func TestRegisterRepairsAChangedCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.fake.Commands()[0]
	c.URL, c.Method, c.AutoCompleteHint = "http://127.0.0.1:1/old", "G", "old"
	if a, err := r.Do(t.Context(), mattermosttest.Admin, http.MethodPut, "/commands/"+c.ID, c); err != nil || a.Err() != nil {
		t.Fatalf("change the command: %v, %v", err, a.Err())
	}
	if err := r.bot.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := r.fake.Commands()
	if len(got) != 1 || got[0].URL != r.url+route("commands") || got[0].Method != "P" || got[0].AutoCompleteHint == "old" {
		t.Errorf("commands are %+v, want the one repaired", got)
	}
	r.handled()
	if _, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim help"); err != nil || len(r.handled()) != 1 {
		t.Errorf("the repaired command does not work: %v", err)
	}
}

func TestUnknownTokenIsRenewedAndTheOldOneAcceptedForAMinute(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := r.form(t, "old")
	// Somebody presses "regenerate token" in the server's settings.
	if a, err := r.Do(t.Context(), mattermosttest.Admin, http.MethodPut, "/commands/"+r.fake.Commands()[0].ID+"/regen_token", nil); err != nil || a.Err() != nil {
		t.Fatalf("regenerate: %v, %v", err, a.Err())
	}
	got, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim help")
	if err != nil || !strings.Contains(got.Text(), "could not be verified") || len(r.handled()) != 0 {
		t.Fatalf("with an unknown token: %q, %v; want a clear refusal", got.Text(), err)
	}
	if err := r.bot.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err = r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim help"); err != nil || len(r.handled()) != 1 {
		t.Errorf("after the renewal: %q, %v; want it handled", got.Text(), err)
	}
	if _, _ = r.sendForm(t, before); len(r.handled()) != 1 {
		t.Error("a request with the old token was refused right after the change")
	}
	r.clock.Advance(61 * time.Second)
	if _, _ = r.sendForm(t, before); len(r.handled()) != 0 {
		t.Error("the old token still works after a minute")
	}
}

func TestTokenIsNotTrustedBeforeItIsStored(t *testing.T) {
	t.Parallel()
	r := newQuietRig(t)
	r.store.fail = errDisk
	if err := r.bot.Register(t.Context()); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("register: %v, want the error of the store", err)
	}
	if _, _ = r.sendForm(t, r.form(t, "t1")); len(r.handled()) != 0 {
		t.Error("a token that was not stored was accepted")
	}
	r.store.fail = nil
	if err := r.bot.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _ = r.sendForm(t, r.form(t, "t2")); len(r.handled()) != 1 || len(r.fake.Commands()) != 1 {
		t.Error("the next registration did not heal it")
	}
}

func TestStoredTokenWorksBeforeTheServerIsReached(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	again := newQuietRig(t, func(c *mattermost.Config) { c.Tokens = r.store })
	form := r.form(t, "t1")
	if _, _ = again.sendForm(t, form); len(again.handled()) != 1 {
		t.Error("a restarted bot refused a valid command before it registered")
	}
	form.Set("token", strings.Repeat("x", 26))
	if _, _ = again.sendForm(t, form); len(again.handled()) != 0 {
		t.Error("a restarted bot accepted a wrong token")
	}
}

func TestStoredTokenWorksWhileTheBotRegisters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	blocked := &blockedTokens{memTokens: r.store, reached: make(chan struct{}), release: make(chan struct{})}
	again := newQuietRig(t, func(c *mattermost.Config) {
		c.Tokens, c.Servers[0].URL = blocked, r.fake.URL
		c.Servers[0].BotToken = secret.New(r.Accounts[mattermosttest.Bot].Token)
	})
	done := make(chan error, 1)
	go func() { done <- again.bot.Register(t.Context()) }()
	<-blocked.reached
	if _, _ = again.sendForm(t, r.form(t, "t1")); len(again.handled()) != 1 {
		t.Error("a valid command was refused while the bot read its token")
	}
	close(blocked.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// blockedTokens holds up the first reader.
type blockedTokens struct {
	*memTokens
	read             atomic.Bool
	reached, release chan struct{}
}

func (s *blockedTokens) Get(ctx context.Context, name string) (secret.Secret, bool, error) {
	if !s.read.Swap(true) {
		close(s.reached)
		<-s.release
	}
	return s.memTokens.Get(ctx, name)
}

func TestTakenTriggerIsAClearError(t *testing.T) {
	t.Parallel()
	r := newQuietRig(t)
	a, err := r.Do(t.Context(), mattermosttest.Admin, http.MethodPost, "/commands", map[string]any{
		"team_id": r.TeamID, "trigger": "ocim", "method": "P", "url": "http://127.0.0.1:1/theirs",
	})
	if err != nil || a.Err() != nil {
		t.Fatalf("create: %v, %v", err, a.Err())
	}
	err = r.bot.Register(t.Context())
	if ops.CodeOf(err) != ops.CodeConflict || !strings.Contains(err.Error(), "/ocim") || !strings.Contains(err.Error(), mattermosttest.Team) {
		t.Errorf("register: %v, want a conflict that names command and team", err)
	}
	if got := r.fake.Commands(); len(got) != 1 || got[0].URL != "http://127.0.0.1:1/theirs" {
		t.Errorf("commands are %+v, want somebody else's untouched", got)
	}
}

func TestRegisterNamesEveryTeamThatFails(t *testing.T) {
	t.Parallel()
	r := newQuietRig(t, func(c *mattermost.Config) { c.Servers[0].Teams = []string{"absent", mattermosttest.Team, "foreign"} })
	r.fake.AddTeam("foreign", []string{"alice"})
	err := r.bot.Register(t.Context())
	if err == nil || !strings.Contains(err.Error(), "absent") || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("register: %v, want both teams named", err)
	}
	if len(r.fake.Commands()) != 1 {
		t.Errorf("%d commands, want that of the team that works", len(r.fake.Commands()))
	}
}

func TestRunRegistersAgain(t *testing.T) {
	t.Parallel()
	r := newQuietRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.bot.Run(ctx) }()
	registrations := func() int { return len(r.fake.CallsTo(http.MethodGet, "/users/me")) }
	for i, step := range []time.Duration{15 * time.Second, 5 * time.Minute, 15 * time.Second} {
		if err := r.clock.Waiting(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if want := []int{1, 1, 2}[i]; registrations() != want {
			t.Fatalf("step %d: %d registrations, want %d", i, registrations(), want)
		}
		r.clock.Advance(step)
	}
	if err := r.clock.Waiting(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	// A refused token asks for a registration at once.
	r.fake.RevokeTokens(mattermosttest.Bot)
	if _, err := r.bot.Post(t.Context(), r.channel(), card("k")); ops.CodeOf(err) != ops.CodeDenied {
		t.Fatalf("post: %v, want denied", err)
	}
	if err := r.clock.Waiting(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v, want nil", err)
	}
	if registrations() < 3 {
		t.Errorf("%d registrations, want one more after the refused token", registrations())
	}
}

func TestSetupStepsNameWhatAnAdministratorNeeds(t *testing.T) {
	t.Parallel()
	got := mattermost.SetupSteps(mattermost.Server{
		Name: "main", URL: "https://chat.example.org", Teams: []string{"ops", "dev"},
		BotToken: secret.New("bot-token-canary"), PathSecret: secret.New("path-secret-canary"),
	}, "https://ocim.example.org/")
	for _, want := range []string{
		"https://ocim.example.org/mattermost/", "ops, dev", "manage_slash_commands", "create_post_ephemeral", "untrusted internal",
		"mmctl permissions role assign system_custom_group_admin ocim", "admin of",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("steps do not mention %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "canary") {
		t.Error("steps show a secret")
	}
}

// The page of the documentation says what ocim setup says.
func TestSetupStepsAreThoseOfTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/setup-mattermost.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "<!-- steps, checked by a test -->\n```text\n")
	got, _, end := strings.Cut(rest, "```\n")
	if !ok || !end {
		t.Fatal("docs/setup-mattermost.md has no steps")
	}
	want := mattermost.SetupSteps(mattermost.Server{Name: "chat", URL: "https://chat.example.org", Teams: []string{"ops"}}, "https://ocim.example.org")
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("the steps of docs/setup-mattermost.md are not those of ocim setup; got (-), want (+):\n%s", diff)
	}
}
