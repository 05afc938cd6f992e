package mattermost_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

func TestCommandReachesTheHandlerAndIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := card("k1")
	r.says(&m)
	got, err := r.Command(t.Context(), "alice", r.Channels[mattermosttest.Channel], "", "/OCIM deploy  Demo  x=1")
	if err != nil || got.Err != nil {
		t.Fatalf("command: %v, %v", err, got.Err)
	}
	want := "**Deploy demo**\n[Open in GitLab](https://gitlab.example.org/p/-/pipelines/1)\n" +
		"State: running\nInstance: `prod/demo`\noperation 7KQ2\n[Cancel]"
	if d := cmp.Diff(got.Text(), want); d != "" {
		t.Errorf("shown to alice (-got +want):\n%s", d)
	}
	seen := r.handled()
	if len(seen) != 1 {
		t.Fatalf("handled %d requests, want 1", len(seen))
	}
	key := seen[0].Key
	wantIn := []chat.Incoming{{
		Key: key, Kind: chat.Command, Actor: r.actor("alice"), ActorName: "alice", From: r.channel(), Trigger: "/ocim", Text: "deploy  Demo  x=1",
	}}
	if d := cmp.Diff(seen, wantIn, cmpopts.IgnoreFields(chat.Incoming{}, "Reply")); d != "" {
		t.Errorf("incoming (-got +want):\n%s", d)
	}
	if !strings.HasPrefix(key, "mattermost:main:") || len(key) < 40 {
		t.Errorf("key is %q, want platform, workspace and the trigger id", key)
	}
}

func TestCommandInAThreadSaysWhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root, err := r.CreatePost(t.Context(), "alice", mattermosttest.Post{ChannelID: r.channel().Channel, Message: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Command(t.Context(), "alice", r.channel().Channel, root.ID, "/ocim status"); err != nil {
		t.Fatal(err)
	}
	if seen := r.handled(); len(seen) != 1 || seen[0].From.Thread != root.ID {
		t.Errorf("handled %+v, want one request from thread %s", seen, root.ID)
	}
}

func TestSilentAnswerShowsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	got, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim")
	if err != nil || got.Err != nil || len(got.Ephemeral) != 0 {
		t.Errorf("got %v, %v and %d posts, want success without a post", err, got.Err, len(got.Ephemeral))
	}
}

func TestT05_TokenOfAnotherTeamOrServerIsRefused(t *testing.T) {
	t.Parallel()
	r := newQuietRig(t, func(c *mattermost.Config) {
		c.Servers[0].Teams = append(c.Servers[0].Teams, "blue")
	})
	// The same person, with the same user id, is in both teams.
	blue := r.fake.AddTeam("blue", []string{"alice", mattermosttest.Bot}, mattermosttest.Bot)
	if err := r.bot.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{}
	for _, c := range r.fake.Commands() {
		tokens[c.TeamID] = c.Token
	}
	teams := []string{r.TeamID, blue, strings.Repeat("z", 26)}
	for _, team := range teams {
		for owner, token := range tokens {
			f := r.form(t, "trigger-"+team+owner)
			f.Set("team_id", team)
			f.Set("token", token)
			status, body := r.sendForm(t, f)
			seen := r.handled()
			if want := team == owner; (len(seen) == 1) != want {
				t.Errorf("team %s with token of %s: handled %d requests, want accepted=%v (%d %s)", team, owner, len(seen), want, status, body)
			}
		}
	}
}

func TestT05_WorkspaceIsThatOfTheRouteNotOfThePayload(t *testing.T) {
	t.Parallel()
	other := mattermosttest.New(t, mattermosttest.Options{})
	r := newQuietRig(t, func(c *mattermost.Config) {
		second := c.Servers[0]
		second.Name, second.URL = "second", other.URL
		second.BotToken = secret.New(other.Peer(t).Accounts[mattermosttest.Bot].Token)
		second.PathSecret = secret.New("another-path-secret-0123456789")
		c.Servers = append(c.Servers, second)
	})
	if err := r.bot.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A valid command of the first server, sent to the route of the second.
	body := r.form(t, "t1").Encode()
	for _, path := range []string{
		"/mattermost/commands/second/another-path-secret-0123456789",
		"/mattermost/commands/second/" + pathSecret,
		"/mattermost/commands/" + workspace + "/another-path-secret-0123456789",
	} {
		status, _ := r.send(t, path, "application/x-www-form-urlencoded", strings.NewReader(body))
		if seen := r.handled(); len(seen) != 0 {
			t.Errorf("%s: handled %+v with status %d, want a refusal", path, seen, status)
		}
	}
	if _, _ = r.sendForm(t, r.form(t, "t2")); len(r.handled()) != 1 {
		t.Error("the command on its own route was refused")
	}
}

func TestMalformedCommandsAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good := r.form(t, "t").Encode()
	without := func(key, value string) string {
		f := r.form(t, "t")
		f.Set(key, value)
		return f.Encode()
	}
	const form = "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		name, path, contentType, body string
		status                        int
	}{
		{"json", route("commands"), "application/json", good, http.StatusUnsupportedMediaType},
		{"no content type", route("commands"), "", good, http.StatusUnsupportedMediaType},
		{"multipart", route("commands"), "multipart/form-data; boundary=x", good, http.StatusUnsupportedMediaType},
		{"wrong secret", "/mattermost/commands/main/path-secret-0123456789abcdee", form, good, http.StatusNotFound},
		{"shorter secret", "/mattermost/commands/main/path-secret", form, good, http.StatusNotFound},
		{"no secret", "/mattermost/commands/main/", form, good, http.StatusNotFound},
		{"unknown server", "/mattermost/commands/other/" + pathSecret, form, good, http.StatusNotFound},
		{"not a form", route("commands"), form, "%zz", http.StatusBadRequest},
		{"empty", route("commands"), form, "", http.StatusBadRequest},
		{"no user", route("commands"), form, without("user_id", ""), http.StatusBadRequest},
		{"path as channel", route("commands"), form, without("channel_id", "../../users/me/aaaaaaaaaaa"), http.StatusBadRequest},
		{"bad root", route("commands"), form, without("root_id", "x"), http.StatusBadRequest},
		{"no trigger id", route("commands"), form, without("trigger_id", ""), http.StatusBadRequest},
		{"endless trigger id", route("commands"), form, without("trigger_id", strings.Repeat("x", 5000)), http.StatusBadRequest},
		{"wrong token", route("commands"), form, without("token", strings.Repeat("y", 26)), http.StatusOK},
		{"no token", route("commands"), form, without("token", ""), http.StatusOK},
		{"too long", route("commands"), form, good + "&x=" + strings.Repeat("x", 1<<20), http.StatusRequestEntityTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _ := r.send(t, tt.path, tt.contentType, strings.NewReader(tt.body))
			if status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if seen := r.handled(); len(seen) != 0 {
				t.Errorf("handled %+v, want nothing", seen)
			}
		})
	}
}

func TestT17_BodyIsNotReadBeyondTheLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		name, path, contentType string
		most                    int64
	}{
		{"stranger", "/mattermost/commands/main/guess-guess-guess-guess", "application/x-www-form-urlencoded", 0},
		{"wrong type", route("actions"), "text/plain", 0},
		{"too long", route("commands"), "application/x-www-form-urlencoded", 1<<20 + 1},
		{"too long JSON", route("dialogs"), "application/json", 1<<20 + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := &countingBody{}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", tt.contentType)
			w := &discard{header: http.Header{}}
			r.bot.Handler().ServeHTTP(w, req)
			if body.read > tt.most {
				t.Errorf("read %d bytes, want at most %d", body.read, tt.most)
			}
			if w.status < 400 {
				t.Errorf("status %d, want a refusal", w.status)
			}
		})
	}
}

// countingBody never ends.
type countingBody struct{ read int64 }

func (b *countingBody) Read(p []byte) (int, error) {
	n := min(len(p), 4096)
	copy(p, bytes.Repeat([]byte("a"), n))
	b.read += int64(n)
	if b.read > 1<<26 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

func TestAnswerBudgetCountsFromTheArrivalOfTheRequest(t *testing.T) {
	t.Parallel()
	slow := &slowTokens{memTokens: &memTokens{m: map[string]secret.Secret{}}, took: 1500 * time.Millisecond}
	r := newQuietRig(t, func(c *mattermost.Config) { c.Tokens = slow })
	slow.clock, slow.m["mattermost/main/"+r.TeamID] = r.clock, secret.New("token")
	release := make(chan struct{})
	r.answers(func(context.Context, chat.Incoming) chat.Answer { <-release; return chat.Answer{} })
	done := make(chan string, 1)
	go func() {
		_, answer := r.sendForm(t, r.formWith("token", "t1"))
		done <- answer
	}()
	if err := r.clock.Waiting(t.Context(), 2); err != nil { // the whole request, and the handler
		t.Fatal(err)
	}
	r.clock.Advance(1300 * time.Millisecond) // 2.8 s since it came
	defer close(release)
	patience, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case answer := <-done:
		if !strings.Contains(answer, "Still working") {
			t.Errorf("answered %s, want a note that it comes later", answer)
		}
	case <-patience.Done():
		t.Error("no answer 2.8 s after the request came: the check of the token was not counted")
	}
}

// slowTokens is a store on a slow disk.
type slowTokens struct {
	*memTokens
	clock *clock.Fake
	took  time.Duration
}

func (s *slowTokens) Get(ctx context.Context, name string) (secret.Secret, bool, error) {
	s.clock.Advance(s.took)
	return s.memTokens.Get(ctx, name)
}

func TestRouteSegmentsTellNothingOfEachOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	segment := func(address string) string { return address[strings.LastIndexByte(address, '/')+1:] }
	dialog := segment(r.opened(t, deployDialog()).URL)
	command := segment(r.fake.Commands()[0].URL)
	if dialog == command || strings.Contains(dialog+command, pathSecret) || len(dialog) != 64 {
		t.Errorf("segments %q and %q, want two of 64 digits without the path secret", dialog, command)
	}
	for _, path := range []string{"/mattermost/commands/main/" + dialog, "/mattermost/actions/main/" + dialog, "/mattermost/commands/main/" + pathSecret} {
		if status, _ := r.send(t, path, "application/x-www-form-urlencoded", strings.NewReader(r.form(t, "t").Encode())); status != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(s int)           { d.status = s }

func TestAnswerThatComesLateUsesTheResponseURL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	r.answers(func(context.Context, chat.Incoming) chat.Answer {
		<-release
		return chat.Answer{Message: chat.Notice(chat.ToneNeutral, "here it is")}
	})
	type result struct {
		reply mattermosttest.Reply
		err   error
	}
	done := make(chan result, 1)
	go func() {
		got, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim slow")
		done <- result{got, err}
	}()
	if err := r.clock.Waiting(t.Context(), 2); err != nil { // the server's time-out, and ours
		t.Fatal(err)
	}
	r.clock.Advance(3 * time.Second)
	first := <-done
	if first.err != nil || !strings.Contains(first.reply.Text(), "Still working") {
		t.Fatalf("first answer %q, %v; want a note that it comes later", first.reply.Text(), first.err)
	}
	close(release)
	got, err := r.AwaitPost(t.Context(), "alice", func(p mattermosttest.Post) bool { return strings.Contains(p.Message, "here it is") })
	if err != nil || got.Type == "" {
		t.Errorf("late answer %+v, %v; want an ephemeral post", got, err)
	}
	r.bot.Wait()
	if posts := r.fake.Posts(r.channel().Channel); len(posts) != 0 {
		t.Errorf("%d posts in the channel, want none", len(posts))
	}
}

func TestLateAnswersGoOnWhenTheResponseURLIsUsedUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim x"); err != nil {
		t.Fatal(err)
	}
	reply := r.handled()[0].Reply
	for i := range 7 {
		if err := reply.Later(t.Context(), *chat.Notice(chat.ToneNeutral, "part")); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	direct, err := r.bot.Direct(t.Context(), r.actor("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(r.fake.Posts(direct.Channel)); got != 2 {
		t.Errorf("%d direct messages, want the 2 that the address could no longer take", got)
	}
	if got := len(r.fake.CallsTo(http.MethodPost, "/posts/ephemeral")); got != 1 {
		t.Errorf("%d tries of a private post, want 1: the refusal is remembered", got)
	}
}

func TestT16_NothingIsSentToAnAddressThatARequestNames(t *testing.T) {
	t.Parallel()
	var dialed []string
	r := newRig(t, func(c *mattermost.Config) {
		next := c.Transport
		c.Transport = roundTripper(func(q *http.Request) (*http.Response, error) {
			dialed = append(dialed, q.URL.String())
			return next.RoundTrip(q)
		})
	})
	host := strings.TrimPrefix(r.fake.URL, "http://")
	hook := "/hooks/commands/" + strings.Repeat("x", 26)
	forms := []string{
		"", "x", "http://", "http://evil.example" + hook, "https://" + host + hook, "//" + host + hook, hook,
		"http://" + host + "@evil.example" + hook, "http://user@" + host + hook, "http://u:p@" + host + hook,
		"http://" + host + ":80" + hook, "http://" + host + "." + hook, "http://evil." + host + hook, "http://" + host + "%2eevil" + hook,
		"http://127.0.0.1" + hook, "http://localhost" + hook, "http://[::1]" + hook, "http://0x7f000001" + hook, "http://2130706433" + hook,
		"http://169.254.169.254/latest/meta-data", "http://" + host + "/api/v4/users/me", "http://" + host + "/hooks/commands/",
		"http://" + host + "/hooks/commands/short", "http://" + host + hook + "/../../../api/v4/posts", "http://" + host + "/x" + hook,
		"http://" + host + hook + "?x=1", "http://" + host + hook + "#x", "http://" + host + hook + "?", "http://" + host + hook + "/",
		"http://" + host + "/hooks/commands/" + strings.Repeat("%78", 26), "http://" + host + "/hooks/incoming/" + strings.Repeat("x", 26),
		"http://" + host + "\\@evil.example" + hook, "http://" + host + "\t" + hook, " http://" + host + hook, "http:/" + host + hook,
		"http:" + host + hook, "ftp://" + host + hook, "file:///etc/passwd", "gopher://" + host + hook, "javascript:alert(1)",
		"http://" + host + "//evil.example" + hook, "http://" + host + "/hooks/commands/" + strings.Repeat("X", 26),
		"http://" + host + "/hooks/commands/" + strings.Repeat("x", 25) + "\n", "http://" + host + hook + ";x", "http://" + host + hook + "%00",
		"http://" + host + hook + "%2f..", "HTTP://" + host + "/..;/hooks", "http://" + host + "/hooks/commands/..%2f" + strings.Repeat("x", 20),
		"http://evil.example#@" + host + hook, "http://evil.example?@" + host + hook, "http://evil.example\\@" + host + hook,
		"http://[" + host + "]" + hook, "http://" + host + ":" + hook, "http://" + host + "0" + hook, "data:text/plain,x", "http://例え.jp" + hook,
		"http://" + host + "/./hooks/commands/" + strings.Repeat("x", 26), "http://" + host + "/%68ooks/commands/" + strings.Repeat("x", 26),
		"http://0" + hook, "http://127.1" + hook, "unix:///run/x", "http+unix://x" + hook,
	}
	if len(forms) < 60 {
		t.Fatalf("%d forms, want 60", len(forms))
	}
	for i, form := range forms {
		f := r.form(t, "trigger"+strings.Repeat("i", i))
		f.Set("response_url", form)
		if status, _ := r.sendForm(t, f); status != http.StatusOK {
			t.Fatalf("%q: status %d, want 200", form, status)
		}
		dialed = nil
		in := r.handled()[0]
		if err := in.Reply.Later(t.Context(), *chat.Notice(chat.ToneBad, "late")); err != nil {
			t.Errorf("%q: late answer: %v, want a direct message", form, err)
		}
		for _, to := range dialed {
			if !strings.HasPrefix(to, r.fake.URL+"/api/v4/") {
				t.Errorf("%q made the bot call %s", form, to)
			}
		}
	}
}

func TestT16_RedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var hosts []string
	r := newRig(t, func(c *mattermost.Config) {
		c.Transport = roundTripper(func(q *http.Request) (*http.Response, error) {
			hosts = append(hosts, q.URL.Host)
			if strings.Contains(q.URL.Path, "/posts") || strings.Contains(q.URL.Path, "/hooks") {
				return &http.Response{
					StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"http://evil.example/steal"}},
					Body: io.NopCloser(strings.NewReader("")), Request: q,
				}, nil
			}
			return http.DefaultTransport.RoundTrip(q)
		})
	})
	_, err := r.bot.Post(t.Context(), r.channel(), card("k"))
	if got := ops.CodeOf(err); got != ops.CodeInvalid {
		t.Errorf("post: %v, want invalid", err)
	}
	if _, err := r.Command(t.Context(), "alice", r.channel().Channel, "", "/ocim x"); err != nil {
		t.Fatal(err)
	}
	_ = r.handled()[0].Reply.Later(t.Context(), *chat.Notice(chat.ToneBad, "late"))
	for _, h := range hosts {
		if h == "evil.example" {
			t.Error("a redirect was followed")
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

func TestNewRefusesADangerousConfiguration(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*mattermost.Config)
	}{
		{"no server", func(c *mattermost.Config) { c.Servers = nil }},
		{"no path secret", func(c *mattermost.Config) { c.Servers[0].PathSecret = secret.Secret{} }},
		{"short path secret", func(c *mattermost.Config) { c.Servers[0].PathSecret = secret.New("123456789012345") }},
		{"path secret with a slash", func(c *mattermost.Config) { c.Servers[0].PathSecret = secret.New("0123456789/0123456789") }},
		{"no bot token", func(c *mattermost.Config) { c.Servers[0].BotToken = secret.Secret{} }},
		{"no team", func(c *mattermost.Config) { c.Servers[0].Teams = nil }},
		{"same name twice", func(c *mattermost.Config) { c.Servers = append(c.Servers, c.Servers[0]) }},
		{"name with a slash", func(c *mattermost.Config) { c.Servers[0].Name = "a/b" }},
		{"address with a password", func(c *mattermost.Config) { c.Servers[0].URL = "https://u:p@example.org" }},
		{"address without a scheme", func(c *mattermost.Config) { c.Servers[0].URL = "example.org" }},
		{"callback with a query", func(c *mattermost.Config) { c.CallbackURL = "https://example.org?x=1" }},
		{"no signer", func(c *mattermost.Config) { c.Signer = nil }},
		{"command with a slash", func(c *mattermost.Config) { c.Servers[0].Command = "/ocim" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var cfg mattermost.Config
			newQuietRig(t, func(c *mattermost.Config) { cfg = *c })
			cfg.Servers = append([]mattermost.Server(nil), cfg.Servers...)
			tt.change(&cfg)
			_, err := mattermost.New(cfg, noHandler{})
			if err == nil {
				t.Error("accepted, want an error")
			} else if strings.Contains(err.Error(), "0123456789/") {
				t.Errorf("the error %q shows the secret", err)
			}
		})
	}
}

type noHandler struct{}

func (noHandler) Handle(context.Context, chat.Incoming) chat.Answer { return chat.Answer{} }

// errDisk is what a full disk says.
var errDisk = errors.New("disk full")
