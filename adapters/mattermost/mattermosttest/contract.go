package mattermosttest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// contractTimeout bounds each case, in real time. One case lets 31 seconds
// pass.
const contractTimeout = 90 * time.Second

// RunContract checks that a server behaves as Mattermost 11.1 was observed
// to, in everything that a bot relies on. newPeer is called for each case,
// many at a time. It returns the set-up that the package's constants describe,
// on a server that may be shared and that may call integrations on 127.0.0.1.
func RunContract(t *testing.T, newPeer func(testing.TB) *Peer) {
	t.Helper()
	for _, suite := range [][]contractCase{commandCases(), actionCases(), dialogCases(), postCases(), accessCases(), clientCases()} {
		for _, c := range suite {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(newBench(t, newPeer(t)))
			})
		}
	}
}

type contractCase struct {
	name string
	run  func(b *bench)
}

// bench is what a case works with: a channel of its own with alice, bob and
// the bot in it, and an integration of its own. It lives for one case, and so
// does its context.
type bench struct {
	*testing.T
	*Peer
	ctx     context.Context
	channel string
	app     *app
	command SlashCommand
}

func newBench(t *testing.T, p *Peer) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), contractTimeout)
	t.Cleanup(cancel)
	b := &bench{T: t, Peer: p, ctx: ctx, app: newApp(t)}
	b.channel = b.must(p.NewChannel(ctx, "O", "contract", "alice", "bob", Bot))
	b.command = b.register("c" + newID())
	return b
}

// must ends the case on an error of the connection or of a set-up step.
func (b *bench) must(v string, err error) string {
	b.Helper()
	b.ok(err)
	return v
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// register makes the bot register a command that goes to the case's
// integration.
func (b *bench) register(trigger string) SlashCommand {
	b.Helper()
	cmd, err := do[SlashCommand](b.ctx, b.Peer, Bot, http.MethodPost, "/commands", SlashCommand{
		TeamID: b.TeamID, Trigger: trigger, Method: "P", URL: b.app.url + "/command", AutoComplete: true,
	})
	b.ok(err)
	return cmd
}

// types makes alice type the case's command with text.
func (b *bench) types(text string) Reply {
	b.Helper()
	r, err := b.Command(b.ctx, "alice", b.channel, "", "/"+b.command.Trigger+text)
	b.ok(err)
	return r
}

// post makes the bot post in the case's channel.
func (b *bench) post(in Post) Post {
	b.Helper()
	in.ChannelID = b.channel
	p, err := b.CreatePost(b.ctx, Bot, in)
	b.ok(err)
	return p
}

// card makes the bot post a message with these actions, all of which go to
// the case's integration.
func (b *bench) card(actions ...Action) Post {
	b.Helper()
	for i := range actions {
		if actions[i].Integration == nil {
			actions[i].Integration = &Integration{URL: b.app.url + "/action", Context: map[string]any{"op": "noop"}}
		}
	}
	return b.post(Post{Message: "card", Props: map[string]any{
		"attachments": []*Attachment{{Text: "text", Actions: actions}},
	}})
}

func (b *bench) clicks(user string, p Post, action, selected string) Reply {
	b.Helper()
	r, err := b.Click(b.ctx, user, p, action, selected)
	b.ok(err)
	return r
}

func (b *bench) read(id string) Post {
	b.Helper()
	p, err := b.Post(b.ctx, id)
	b.ok(err)
	return p
}

func (b *bench) call(user, method, path string, body any) Answer {
	b.Helper()
	a, err := b.Do(b.ctx, user, method, path, body)
	b.ok(err)
	return a
}

// newest is the newest post of the case's channel that a person or a bot
// wrote.
func (b *bench) newest() Post {
	b.Helper()
	posts, err := b.Posts(b.ctx, b.channel)
	b.ok(err)
	for _, p := range slices.Backward(posts) {
		if !strings.HasPrefix(p.Type, "system_") {
			return p
		}
	}
	return Post{}
}

// refused checks an API error by status and id.
func (b *bench) refused(what string, got *APIError, status int, id string) {
	b.Helper()
	switch {
	case got == nil:
		b.Errorf("%s: got no error, want %d %s", what, status, id)
	case got.StatusCode != status || got.ID != id:
		b.Errorf("%s: got %d %s (%s), want %d %s", what, got.StatusCode, got.ID, got.Message, status, id)
	}
}

func (b *bench) fine(what string, r Reply) {
	b.Helper()
	if r.Err != nil {
		b.Errorf("%s: got %v, want success", what, r.Err)
	}
}

// app is an integration of one case. It answers from a queue, or with
// nothing, and keeps what it received.
type app struct {
	url string

	mu      sync.Mutex
	answers []func(w http.ResponseWriter, r *http.Request)
	got     []received
}

// received is one request to the app.
type received struct {
	path   string
	header http.Header
	body   []byte
}

func newApp(t *testing.T) *app {
	t.Helper()
	a := &app{}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	a.url = srv.URL
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxReply))
	a.mu.Lock()
	a.got = append(a.got, received{path: r.URL.Path, header: r.Header.Clone(), body: body})
	var next func(http.ResponseWriter, *http.Request)
	if len(a.answers) > 0 {
		next, a.answers = a.answers[0], a.answers[1:]
	}
	a.mu.Unlock()
	if next != nil {
		next(w, r)
	}
}

// answer queues an answer to the next request.
func (a *app) answer(status int, contentType, body string) {
	a.answerWith(func(w http.ResponseWriter, _ *http.Request) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func (a *app) answerWith(f func(w http.ResponseWriter, r *http.Request)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = append(a.answers, f)
}

// answerJSON queues a 200 with JSON.
func (a *app) answerJSON(body string) { a.answer(http.StatusOK, "application/json", body) }

// requests is what came so far.
func (a *app) requests() []received {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

func (a *app) last() received {
	got := a.requests()
	if len(got) == 0 {
		return received{}
	}
	return got[len(got)-1]
}

func (r received) form() url.Values {
	v, _ := url.ParseQuery(string(r.body))
	return v
}

func (r received) click() Click {
	var c Click
	_ = json.Unmarshal(r.body, &c)
	return c
}

func (r received) submission() Submission {
	var s Submission
	_ = json.Unmarshal(r.body, &s)
	return s
}
