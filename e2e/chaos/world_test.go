//go:build e2e

package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/slack/slacktest"
	"ocim/e2e/process"
	"ocim/internal/clock"
	"ocim/ops"
	"ocim/store"
)

const (
	project   = 42
	user      = "U0ANN0001"
	channels  = 3
	lingering = 5 * time.Second
	hookToken = "hook-secret-of-the-chaos-tests"
)

// world is the bot's program with everything around it: GitLab, chats, and people who ask.
type world struct {
	bot   *process.Bot
	lab   *gitlabtest.Server
	chats []*workspace
	clock clock.System
	grove bool

	mu        sync.Mutex
	rand      *rand.Rand
	requests  []*Request
	instances []string
	turn      int
	kills     int
	acked     time.Time       // start of the life whose first answer has come
	firstAcks []time.Duration // from each start to the first answer
	slowest   time.Duration   // answer of all
	puzzling  []string        // answers that tell neither yes nor no
}

// workspace is one Slack.
type workspace struct {
	*slacktest.Server
	place    *Place
	channels []string
}

// setup says how a world is made.
type setup struct {
	seed      uint64
	instances int
	// findable and blind are the numbers of workspaces in which the bot may and may not look
	// through what it has posted.
	findable, blind int
	// grove makes pipelines as Grove does: four for each deploy.
	grove   bool
	timeout time.Duration
	hooks   bool
}

// newWorld starts the fakes and prepares the bot, which does not run yet. It may be called from any
// goroutine.
func newWorld(t *testing.T, s setup) (*world, error) {
	t.Helper()
	w := &world{grove: s.grove, rand: rand.New(rand.NewPCG(s.seed, 1))}
	opts := gitlabtest.Options{Seed: int64(s.seed), HookWorkers: 4, LedgerReads: 1000}
	behaviour := gitlabtest.Plain(gitlabtest.Script{Stages: []gitlabtest.Stage{
		{Name: "build", Jobs: []gitlabtest.Job{{Name: "build", Queue: 50 * time.Millisecond, Duration: 300 * time.Millisecond}}},
		{Name: "deploy", Jobs: []gitlabtest.Job{{Name: "deploy", Queue: 50 * time.Millisecond, Duration: 700 * time.Millisecond}}},
	}})
	if s.grove {
		behaviour, opts.Speed = gitlabtest.Grove(), 600
	}
	w.lab = gitlabtest.New(opts)
	if err := w.lab.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	t.Cleanup(w.lab.Close)
	for i := range s.instances {
		w.instances = append(w.instances, fmt.Sprintf("shop-%02d", i+1))
	}
	const read, write, trigger = "glpat-readtokenofthetests0001", "glpat-writetokenofthetests001", "glptt-triggertokenofthetests"
	w.lab.AddProject(gitlabtest.Project{
		ID: project, Path: "ops/grove-eu", DefaultBranch: "main", Behaviour: behaviour,
		TriggerToken: trigger, TriggerOwner: "ocim-bot", Instances: w.instances,
		Tokens: []gitlabtest.Token{
			{Value: read, User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"read_api"}},
			{Value: write, User: "ocim-bot", Role: gitlabtest.Developer, Scopes: []string{"api"}},
		},
	})
	c := process.Config{
		GitLab: process.GitLab{
			URL: w.lab.URL(), Project: project, Token: read, WriteToken: write, TriggerToken: trigger, HookToken: hookToken,
			Timeout: cmp.Or(s.timeout, time.Second), Linger: max(lingering, s.timeout), Instances: w.instances,
		},
		Fast: time.Second, Slow: 2 * time.Second,
	}
	if s.grove {
		c.Fast = 2 * time.Second // each look at four pipelines is a dozen calls
	}
	follow := "none"
	if s.grove {
		follow = "merge_request"
	}
	c.Operations = "{deploy: {follow: " + follow + ", params: [{name: version, to: 'payload:TUTOR_VERSION'}]}}"
	for i := range s.findable + s.blind {
		ws, err := newWorkspace(t, i, i < s.findable)
		if err != nil {
			return nil, err
		}
		w.chats = append(w.chats, ws)
		c.Slack = append(c.Slack, process.Slack{
			Workspace: ws.Workspace().ID, SigningSecret: ws.SigningSecret(), BotToken: ws.BotToken(), APIURL: ws.APIURL(),
			History: ws.place.Findable, Users: []string{user},
		})
	}
	return w, w.prepare(t, c, s.hooks)
}

func newWorkspace(t *testing.T, i int, findable bool) (*workspace, error) {
	t.Helper()
	ws := slacktest.DefaultWorkspace()
	ws.ID = fmt.Sprintf("T0CHAOS%d", i)
	out := &workspace{place: &Place{Name: ws.ID, Findable: findable}}
	for n := range channels {
		id := fmt.Sprintf("C0CHAOS%d", n)
		ws.Channels = append(ws.Channels, slacktest.Channel{ID: id, Name: fmt.Sprintf("chaos-%d", n), Members: []string{user, ws.BotUser}})
		out.channels = append(out.channels, id)
	}
	scopes := []string{"commands", "chat:write", "im:write", "users:read"}
	if findable {
		scopes = append(scopes, "channels:history")
	}
	srv, err := slacktest.New(slacktest.Options{
		Workspace: &ws, Scopes: scopes, Seed: uint64(i) + 1,
		SigningSecret: fmt.Sprintf("%032d", i+1), BotToken: fmt.Sprintf("xoxb-token-of-workspace-%d", i),
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(srv.Close)
	out.Server = srv
	return out, nil
}

func (w *world) prepare(t *testing.T, c process.Config, hooks bool) error {
	t.Helper()
	var err error
	if w.bot, err = process.New(t.Context(), process.Options{Dir: t.TempDir(), Crash: true, Config: c}); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.lab.Run(ctx)
	}()
	t.Cleanup(func() {
		if err := w.bot.Kill(); err != nil {
			t.Error(err)
		}
		stop()
		<-done
		keep(t, w.bot)
	})
	for _, ws := range w.chats {
		ws.SetBotURL(w.bot.PublicURL())
	}
	if hooks {
		w.lab.AddHook(project, gitlabtest.Hook{URL: w.bot.PublicURL() + "/gitlab/webhook", Token: hookToken})
	}
	return nil
}

// keep saves the bot's log where CHAOS_LOGS names a folder for it; without, a failed test shows the
// end.
func keep(t *testing.T, b *process.Bot) {
	t.Helper()
	dir := os.Getenv("CHAOS_LOGS")
	if dir == "" {
		if t.Failed() {
			t.Logf("the end of the bot's log (set CHAOS_LOGS to a folder to have all of it):\n%s", b.Tail(10))
		}
		return
	}
	f, err := os.CreateTemp(dir, "ocim-*.log")
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	_, _ = f.WriteString(b.Logs())
	t.Logf("the bot's log: %s", f.Name())
}

// roll returns a number from 0 to n-1.
func (w *world) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

// chance is true in so many of a hundred cases.
func (w *world) chance(percent int) bool { return w.roll(100) < percent }

func (w *world) sleep(ctx context.Context, d time.Duration) { _ = clock.Sleep(ctx, w.clock, d) }

// request makes a new request for the instance whose turn it is.
func (w *world) request() *Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &Request{Token: "7." + strconv.Itoa(len(w.requests)+1), Instance: w.instances[w.turn%len(w.instances)]}
	w.turn++
	w.requests = append(w.requests, r)
	return r
}

var (
	acceptedText = regexp.MustCompile(`Accepted: `)
	operationID  = regexp.MustCompile(`status ([a-z0-9]{6})`)
)

// read tells what an answer means for the person who reads it.
func read(a slacktest.Answer) (said Said, operation string) {
	body := string(a.Body)
	switch {
	case !a.OK():
	case acceptedText.MatchString(body):
		if m := operationID.FindStringSubmatch(body); m != nil {
			return Accepted, m[1]
		}
	case strings.Contains(body, string(ops.ReasonInstanceBusy)):
		return Refused, ""
	}
	return Unanswered, ""
}

// ask types a deploy. When nothing comes back, some people's requests are delivered again, the
// very same bytes, as a network may do it.
func (w *world) ask(ctx context.Context, r *Request, again int) error {
	ws := w.chats[w.roll(len(w.chats))]
	o := slacktest.CommandOpts{
		User: user, Channel: ws.channels[w.roll(len(ws.channels))], Text: fmt.Sprintf("deploy %s version=%s", r.Instance, r.Token),
	}
	req, err := ws.CommandRequest(o)
	if err != nil {
		return err
	}
	said, op := w.send(ctx, ws, req)
	for n := 0; said == Unanswered && n < again && ctx.Err() == nil; n++ {
		w.sleep(ctx, 50*time.Millisecond)
		said, op = w.send(ctx, ws, req)
	}
	w.mu.Lock()
	r.Said, r.Operation = said, op
	w.mu.Unlock()
	return nil
}

// cancel asks to end what was accepted.
func (w *world) cancel(ctx context.Context, r *Request, again int) error {
	w.mu.Lock()
	r.Canceled = true
	w.mu.Unlock()
	ws := w.chats[0] // any: the person may do so everywhere
	req, err := ws.CommandRequest(slacktest.CommandOpts{User: user, Channel: ws.channels[0], Text: "cancel " + r.Operation})
	if err != nil {
		return err
	}
	for n := 0; n <= again && ctx.Err() == nil; n++ {
		if a := ws.Send(ctx, req); a.OK() {
			return nil
		}
		w.sleep(ctx, 50*time.Millisecond)
	}
	return nil
}

// send delivers a request and notes how long the first answer of a life took.
func (w *world) send(ctx context.Context, ws *workspace, req slacktest.Request) (Said, string) {
	began := w.bot.Began()
	a := ws.Send(ctx, req)
	if a.OK() {
		w.mu.Lock()
		w.slowest = max(w.slowest, a.Took)
		if said, _ := read(a); said == Unanswered && len(w.puzzling) < 5 {
			w.puzzling = append(w.puzzling, string(a.Body))
		}
		if began.After(w.acked) {
			w.acked = began
			w.firstAcks = append(w.firstAcks, w.clock.Now().Sub(began))
		}
		w.mu.Unlock()
	}
	return read(a)
}

// load lets people ask until ctx ends, and returns a function that waits for the last answers.
func (w *world) load(ctx context.Context, t *testing.T, people int, pause time.Duration) (wait func()) {
	t.Helper()
	var all sync.WaitGroup
	for range people {
		all.Go(func() {
			for ctx.Err() == nil {
				w.sleep(ctx, pause/2+time.Duration(w.roll(int(pause))))
				if ctx.Err() != nil {
					return
				}
				again := 0
				if w.chance(50) {
					again = 20
				}
				r := w.request()
				// What was sent is waited for also when the load ends.
				if err := w.ask(context.WithoutCancel(ctx), r, again); err != nil {
					t.Error(err)
					return
				}
				if r.Said == Accepted && w.chance(10) {
					if err := w.cancel(context.WithoutCancel(ctx), r, again); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	return all.Wait
}

// heal ends all faults.
func (w *world) heal() {
	w.lab.Heal()
	w.lab.SetHookRules(gitlabtest.HookRules{})
	for _, ws := range w.chats {
		ws.Heal()
	}
}

// history is what was seen from outside so far.
func (w *world) history() History {
	w.mu.Lock()
	h := History{Kills: w.kills}
	for _, r := range w.requests {
		h.Requests = append(h.Requests, *r)
	}
	w.mu.Unlock()
	h.Pipelines = w.pipelines()
	for _, ws := range w.chats {
		lost := 0
		for _, c := range ws.Calls("chat.postMessage") {
			if c.Committed && (c.Fault == slacktest.Lost || c.Fault == slacktest.HangAfter) {
				lost++
			}
		}
		place := &Place{Name: ws.place.Name, Findable: ws.place.Findable, Lost: lost}
		for _, c := range ws.channels {
			for _, m := range ws.Messages(c) {
				payload, _ := m.Metadata["event_payload"].(slacktest.Object)
				key, _ := payload["key"].(string)
				h.Messages = append(h.Messages, Message{Place: place, Key: key, Summary: m.Text, Body: ws.Read(m)})
			}
		}
	}
	return h
}

// pipelines are those that GitLab made of the bot's POST requests, answered or not.
func (w *world) pipelines() []Pipeline {
	all := w.lab.Pipelines(project)
	byID := map[int64]gitlabtest.Pipeline{}
	for _, p := range all {
		byID[p.ID] = p
	}
	var out []Pipeline
	for _, e := range w.lab.Triggers() {
		if e.PipelineID == 0 {
			continue
		}
		text := func(name string) string { s, _ := e.Body[name].(string); return s }
		p := byID[e.PipelineID]
		out = append(out, Pipeline{
			ID: p.ID, Token: text("TUTOR_VERSION"), Key: text("ocim_key"),
			Instance: p.Variables["INSTANCE_NAME"], Number: p.Variables["DEPLOYMENT_REQUEST_ID"], Status: w.status(p, all),
		})
	}
	return out
}

// status is the pipeline's, or, for Grove, that of all pipelines that followed from it: those of
// its instance that came before the next request for that instance.
func (w *world) status(root gitlabtest.Pipeline, all []gitlabtest.Pipeline) string {
	if !w.grove {
		return root.Status
	}
	status, followed := root.Status, false
	for _, p := range all {
		if p.ID <= root.ID || p.Instance != root.Instance {
			continue
		}
		if p.Source == "trigger" {
			break
		}
		followed = true
		if status == "success" {
			status = p.Status
		}
	}
	if status == "success" && !followed {
		return "waiting for the pipeline of the merge"
	}
	return status
}

// settle is how long nothing may happen before a world is taken as quiet, and patience how long
// recovery may take once all faults are over: twice the poll, the longest backoff, and what the
// budget of edits costs after a storm.
const (
	settle   = 3 * time.Second
	patience = 90 * time.Second
)

// quiet waits until every promise is kept and nothing happens any more, and returns the verdict and
// how long that took.
func (w *world) quiet(ctx context.Context) (Verdict, time.Duration) {
	began := w.clock.Now()
	var since time.Time
	var before string
	for {
		h := w.history()
		v := Check(h)
		now := w.clock.Now()
		state := fmt.Sprint(len(w.lab.Writes()), len(h.Messages), w.edits(), len(v.Problems))
		if state != before {
			before, since = state, now
		}
		if len(v.Problems) == 0 && now.Sub(since) >= settle {
			return v, since.Sub(began)
		}
		if now.Sub(began) > patience || ctx.Err() != nil {
			return v, now.Sub(began)
		}
		w.sleep(ctx, 250*time.Millisecond)
	}
}

func (w *world) edits() int {
	n := 0
	for _, ws := range w.chats {
		n += len(ws.Calls("chat.update"))
	}
	return n
}

// finish heals the world, waits for quiet, ends the bot in good order and judges what was seen,
// and at last compares it with what the store holds.
func (w *world) finish(ctx context.Context) (Verdict, time.Duration, error) {
	w.heal()
	v, took := w.quiet(ctx)
	end, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	code, err := w.bot.Terminate(end)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if err == nil {
		err = w.inspect(ctx, &v)
	}
	return v, took, err
}

// inspect opens the store that the bot has left: what was answered is there, and nothing in it is
// unfinished.
func (w *world) inspect(ctx context.Context, v *Verdict) (err error) {
	s, err := store.Open(ctx, store.Options{Path: w.bot.Database(), Clock: w.clock})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	return s.View(ctx, func(r ops.Reader) error {
		left, err := r.Operations(ctx, ops.Filter{Unfinished: true, Limit: 100})
		if err != nil {
			return err
		}
		for _, op := range left {
			v.Problems = append(v.Problems, fmt.Sprintf("operation %s was left %s in the store", op.ID, op.State))
		}
		for _, q := range w.requests {
			if q.Said != Accepted {
				continue
			}
			if op, err := r.Operation(ctx, q.Operation); err != nil || op.Request.Params["version"] != q.Token {
				v.Problems = append(v.Problems, fmt.Sprintf("request %s was accepted as %s, and the store does not have it: %v", q.Token, q.Operation, err))
			}
		}
		return nil
	})
}

// spread is the median and the largest of some durations.
func spread(ds []time.Duration) (median, most time.Duration) {
	if len(ds) == 0 {
		return 0, 0
	}
	s := slices.Sorted(slices.Values(ds))
	return s[len(s)/2].Round(time.Millisecond), s[len(s)-1].Round(time.Millisecond)
}

// report prints the numbers of a run and fails it for every problem.
func (w *world) report(t *testing.T, v Verdict, took time.Duration) {
	t.Helper()
	for _, p := range v.Problems {
		t.Error(p)
	}
	w.explain(t)
	for _, text := range w.puzzling {
		t.Logf("an answer that is neither yes nor no: %.600s", text)
	}
	median, most := spread(w.firstAcks)
	t.Logf("kills %d, deploys accepted %d, refused as busy %d, unanswered %d, pipelines %d, duplicate messages %d, "+
		"start to first answer %s median %s max, slowest answer %s, quiet after %s",
		w.kills, v.Accepted, v.Refused, v.Unanswered, len(w.pipelines()), v.Duplicates, median, most,
		w.slowest.Round(time.Millisecond), took.Round(time.Millisecond))
}

// explain prints what chat saw of messages that stand twice where the bot can look.
func (w *world) explain(t *testing.T) {
	t.Helper()
	for _, ws := range w.chats {
		calls := ws.Calls("chat.postMessage", "conversations.history", "conversations.replies")
		posts := map[string][]slacktest.Call{}
		for _, c := range calls {
			if key := c.Args["metadata"]; c.Committed && c.TS != "" {
				posts[key] = append(posts[key], c)
			}
		}
		for key, twice := range posts {
			if len(twice) < 2 || !ws.place.Findable {
				continue
			}
			for _, c := range calls {
				if c.Args["metadata"] == key || c.Args["metadata"] == "" && c.Args["channel"] == twice[0].Args["channel"] {
					t.Logf("%s %s %s channel %s thread %s %s: status %d %s, committed %t, fault %q, ts %s", key, c.At.Format("15:04:05.000000"), c.Method,
						c.Args["channel"], c.Args["thread_ts"], c.Args["ts"], c.Status, c.Error, c.Committed, c.Fault, c.TS)
				}
			}
		}
	}
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// seed is SEED, or a new one; a failed run says which it was.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(number(t, "SEED", 0))
	if s == 0 {
		s = rand.Uint64N(1_000_000) + 1
	}
	t.Logf("SEED=%d", s)
	return s
}

// storm makes GitLab and chat as bad as they can be without ceasing to be GitLab and chat.
func (w *world) storm() {
	page := http.Header{"Content-Type": {"text/html"}}
	on := func(route string, p float64, do gitlabtest.Action) {
		w.lab.Inject(gitlabtest.Fault{Route: route, Probability: p, Do: do})
	}
	on("trigger", .15, gitlabtest.DropAfter())
	on("trigger", .08, gitlabtest.AnswerAfter(http.StatusBadGateway, page, "<html>502</html>"))
	on("trigger", .04, gitlabtest.HangAfter())
	on("trigger", .03, gitlabtest.Truncate(20))
	on("trigger", .05, gitlabtest.DropBefore())
	on("trigger", .04, gitlabtest.Answer(http.StatusServiceUnavailable, page, "<html>503</html>"))
	on("trigger", .10, gitlabtest.Delay(300*time.Millisecond))
	reads := func(p float64, do gitlabtest.Action) {
		w.lab.Inject(gitlabtest.Fault{Method: http.MethodGet, Probability: p, Do: do})
	}
	reads(.03, gitlabtest.Answer(http.StatusInternalServerError, page, "<html>500</html>"))
	reads(.02, gitlabtest.DropBefore())
	reads(.02, gitlabtest.HTML())
	reads(.05, gitlabtest.Delay(200*time.Millisecond))
	reads(.05, gitlabtest.Stale(time.Second))
	reads(.05, gitlabtest.Unseen(time.Second))
	for _, ws := range w.chats {
		for _, f := range []slacktest.Fault{
			{Kind: slacktest.Lost, Probability: .08},
			{Kind: slacktest.Cut, Probability: .04},
			{Kind: slacktest.ServerError, Probability: .05},
			{Kind: slacktest.TooMany, Probability: .03, RetryAfter: time.Second},
			{Kind: slacktest.HangAfter, Probability: .01},
			{Kind: slacktest.Slow, Probability: .10, Delay: 150 * time.Millisecond},
		} {
			for _, method := range []string{"chat.postMessage", "chat.update", "conversations.history", "conversations.replies"} {
				f.Method = method
				ws.Fail(f)
			}
		}
	}
}
