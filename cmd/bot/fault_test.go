package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
	"ocim/ops"
)

func TestF05I01_AnswerLostAfterCommitIsAdoptedNotRepeated(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   gitlabtest.Action
	}{
		{"connection reset", gitlabtest.DropAfter()},
		{"502 after commit", gitlabtest.AnswerAfter(502, nil, "<html>")},
		{"garbage", gitlabtest.AnswerAfter(201, jsonHeader(), `{"id":`)},
		{"empty 200", gitlabtest.AnswerAfter(200, jsonHeader(), ``)},
		{"500 after commit", gitlabtest.AnswerAfter(500, jsonHeader(), `{"message":"500 Internal Server Error"}`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			r.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: tc.do})
			id := r.deploy("alice", "demo")
			r.until(id, ops.Succeeded)
			r.exactlyOnce(1)
			if got := len(r.lab.Triggers()); got != 1 {
				t.Errorf("got %d triggers, want 1: what is there is adopted", got)
			}
			adopted := false
			for _, e := range r.events(id) {
				adopted = adopted || e.Kind == ops.EventAdopted
			}
			if !adopted {
				t.Error("the pipeline was not adopted")
			}
		})
	}
}

func TestI01_RequestThatNeverArrivedIsSentAgainOnlyAfterLinger(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: gitlabtest.DropBefore()})
	id := r.deploy("alice", "demo")
	r.settle()
	r.pass(85 * time.Second)
	if got := len(r.lab.Triggers()); got != 1 {
		t.Fatalf("got %d triggers before the request can no longer be on its way, want 1", got)
	}
	r.until(id, ops.Succeeded)
	r.exactlyOnce(1)
	keys := map[any]bool{}
	for _, e := range r.lab.Triggers() {
		keys[strings.Split(strings.Split(jsonText(t, e.Body), `"ocim_key":"`)[1], `"`)[0]] = true
	}
	if len(r.lab.Triggers()) != 2 || len(keys) != 1 {
		t.Errorf("got %d triggers with keys %v, want 2 with the same key", len(r.lab.Triggers()), keys)
	}
}

func TestF08_RefusalForGoodFailsAndSaysWhy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		do     gitlabtest.Action
		reason ops.Reason
		says   string
	}{
		{"400 ref gone", gitlabtest.Answer(400, jsonHeader(), `{"message":{"base":["Reference not found"]}}`), ops.ReasonGitLabRefused, "Reference not found"},
		{"400 rules", gitlabtest.Answer(400, jsonHeader(), `{"message":{"base":["Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to the pipeline."]}}`), ops.ReasonGitLabRefused, "rules configuration"},
		{"401", gitlabtest.Answer(401, jsonHeader(), `{"message":"401 Unauthorized"}`), ops.ReasonGitLabDenied, "token"},
		{"403", gitlabtest.Answer(403, jsonHeader(), `{"message":"403 Forbidden"}`), ops.ReasonGitLabDenied, "start a pipeline"},
		{"404", gitlabtest.Answer(404, jsonHeader(), `{"message":"404 Not Found"}`), ops.ReasonGitLabDenied, "start a pipeline"},
		{"422", gitlabtest.Answer(422, jsonHeader(), `{"message":"config_error"}`), ops.ReasonConfigError, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			r.lab.Inject(gitlabtest.Fault{Route: "trigger", Do: tc.do})
			id := r.deploy("alice", "demo")
			op := r.until(id, ops.Failed)
			r.pass(5 * time.Minute)
			if op.Reason != tc.reason {
				t.Errorf("got reason %s, want %s", op.Reason, tc.reason)
			}
			mustContain(t, read(new(r.card(id).Now())), tc.says, string(tc.reason), "[Retry]")
			r.exactlyOnce(0)
			// The instance is free again: the next request is taken.
			r.lab.Heal()
			r.until(r.deploy("alice", "demo"), ops.Succeeded)
		})
	}
}

func TestF07S20_GitLabDownAtStartWaitsVisiblyAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   gitlabtest.Action
	}{
		{"429", gitlabtest.RateLimited(30 * time.Second)},
		{"500", gitlabtest.Answer(500, jsonHeader(), `{"message":"500 Internal Server Error"}`)},
		{"503", gitlabtest.Answer(503, nil, "<html>maintenance</html>")},
		{"HTML instead of JSON", gitlabtest.HTML()},
		{"reset", gitlabtest.DropBefore()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			mustContain(t, r.typed("alice", "status eu"), "no pipeline")
			_, _ = r.app.service.Fleet.Instances(t.Context())
			r.lab.Inject(gitlabtest.Fault{Do: tc.do})
			id := r.deploy("alice", "demo")
			r.pass(2 * time.Minute)
			op := r.op(id)
			if op.State != ops.Queued || (op.Reason != ops.ReasonGitLabUnavailable && op.Reason != ops.ReasonRateLimited) {
				t.Fatalf("got %s (%s), want queued while GitLab is away", op.State, op.Reason)
			}
			mustContain(t, read(new(r.card(id).Now())), "queued", string(op.Reason), "[Cancel]")
			if n := len(r.lab.Ledger()); n > 60 {
				t.Errorf("got %d calls in two minutes of outage, want back-off", n)
			}
			r.lab.Heal()
			r.until(id, ops.Succeeded)
			r.exactlyOnce(1)
		})
	}
}

func TestF07_TriggerRateLimitsAreWaitedForWithoutALookUp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   gitlabtest.Action
	}{{"429", gitlabtest.RateLimited(30 * time.Second)}, {"400 too many pipelines", gitlabtest.TooManyPipelines()}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			r.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 2, Do: tc.do})
			id := r.deploy("alice", "demo")
			r.until(id, ops.Succeeded)
			r.exactlyOnce(1)
		})
	}
}

func TestF09I11_WithoutAnyHookPollingTellsTheEndWithin30Seconds(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: 3 * time.Hour}}}}}))
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Running)
	r.pass(20 * time.Minute) // the slowest polling has been reached
	if err := r.lab.Finish(op.Pipelines[0].Ref.ID, "success"); err != nil {
		t.Fatal(err)
	}
	r.pass(35 * time.Second)
	if got := r.op(id).State; got != ops.Succeeded {
		t.Errorf("got %s half a minute after the end, want succeeded", got)
	}
	mustContain(t, read(new(r.card(id).Now())), "succeeded")
}

func TestI05F10I06_HooksRepeatedAndShuffledChangeNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{
		{Name: "a", Jobs: []gitlabtest.Job{{Name: "one", Duration: time.Minute}}},
		{Name: "b", Jobs: []gitlabtest.Job{{Name: "two", Duration: time.Minute}}},
	}}))
	hook := r.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	id := r.deploy("alice", "demo")
	type sentHook struct {
		h http.Header
		b []byte
	}
	var hooks []sentHook
	for range 200 {
		r.settle()
		op := r.op(id)
		if len(op.Pipelines) > 0 {
			h, b, err := r.lab.BuildHook(hook, op.Pipelines[0].Ref.ID)
			if err != nil {
				t.Fatal(err)
			}
			hooks = append(hooks, sentHook{h, b})
		}
		if op.State == ops.Succeeded {
			break
		}
		r.clock.Advance(5 * time.Second)
	}
	r.settle()
	before := state(r, id)
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		h := hooks[random.IntN(len(hooks))]
		if got := r.hook(h.h, h.b); got != 200 {
			t.Fatalf("hook: got %d, want 200", got)
		}
		if random.IntN(20) == 0 {
			r.clock.Advance(time.Second) // calls to GitLab are paced by the clock
			r.settle()
		}
	}
	r.settle()
	if after := state(r, id); after != before {
		t.Errorf("state after 1,000 hooks:\n%s\nbefore:\n%s", after, before)
	}
	r.exactlyOnce(1)
}

// state is everything that can be seen of an operation, from the store and from chat.
func state(r *rig, id string) string {
	op := r.op(id)
	return fmt.Sprintf("%s %s v%d\n%s\n%s", op.State, op.Reason, op.Version, jsonText(r.t, r.events(id)), jsonText(r.t, r.chat.Sent()))
}

func TestF11_HookBeforeTheAnswerIsMatchedLater(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	hook := r.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	// The answer is lost, and GitLab's lists lag; the hook comes first and carries the key.
	r.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: gitlabtest.DropAfter()})
	id := r.deploy("alice", "demo")
	for range 50 {
		if _, err := r.app.store.Drain(t.Context(), ops.JobDeliver, r.app.notifier.Deliver); err != nil {
			t.Fatal(err)
		}
		if _, err := r.app.store.Drain(t.Context(), ops.JobAdvance, r.app.service.Advance); err != nil {
			t.Fatal(err)
		}
		if len(r.lab.Keys()) > 0 {
			break
		}
	}
	var pid int64
	for _, ps := range r.lab.Keys() {
		pid = ps[0]
	}
	h, b, err := r.lab.BuildHook(hook, pid)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.hook(h, b); got != 200 {
		t.Fatalf("got %d, want 200", got)
	}
	r.settle() // no time has passed: the hook alone makes it look
	if op := r.op(id); op.State != ops.Running || len(op.Pipelines) != 1 || op.Pipelines[0].Ref.ID != pid {
		t.Errorf("got %s with %+v, want running with pipeline %d", op.State, op.Pipelines, pid)
	}
	r.exactlyOnce(1)
}

func TestF29I06_StaleReadIsIgnoredAndARealRetryOpensTheNextRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.lab.Override(rigProject, gitlabtest.Override{FailJob: "build"})
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Failed)
	pid := op.Pipelines[0].Ref.ID

	lag := r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Stale(50 * time.Second)})
	r.pass(2 * time.Minute)
	if got := r.op(id); got.State != ops.Failed || got.Run != 1 {
		t.Fatalf("a stale read moved it to %s, run %d", got.State, got.Run)
	}
	lag.Remove()

	if err := r.lab.RetryPipeline(pid); err != nil {
		t.Fatal(err)
	}
	r.pass(time.Minute + 5*time.Second)
	if got := r.op(id); got.Run != 2 || got.State.Final() && got.State != ops.Succeeded {
		t.Fatalf("got run %d %s after a retry in GitLab, want run 2 under way", got.Run, got.State)
	}
	r.until(id, ops.Succeeded)
	r.settle()
	mustContain(t, read(new(r.card(id).Now())), "succeeded")
	for _, e := range r.events(id) {
		if e.Kind == ops.EventMoved && e.From != "" && !e.From.CanBecome(e.To) {
			t.Errorf("event %s -> %s is no edge of the table", e.From, e.To)
		}
	}
	r.exactlyOnce(1)
}

func TestW03F13I04_ChatFaultsLoseNothingAndDoubleAtMostOnce(t *testing.T) {
	t.Parallel()
	lost := &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "no answer"}
	limited := &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited, Msg: "slow down", NotSent: true}
	for _, tc := range []struct {
		name   string
		faults []chattest.Fault
		blind  bool
		cards  int
	}{
		{"429 twice", []chattest.Fault{{Err: limited}, {Err: limited}}, false, 1},
		{"answer lost, can look", []chattest.Fault{{Err: lost, Lost: true}}, false, 1},
		{"request lost, can look", []chattest.Fault{{Err: lost}}, false, 1},
		{"answer lost, cannot look", []chattest.Fault{{Err: lost, Lost: true}}, true, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			if tc.blind {
				r.chat.CannotFind()
			}
			r.chat.Fail("post", tc.faults...)
			r.chat.Fail("update", chattest.Fault{Err: limited}, chattest.Fault{Err: lost, Lost: true})
			id := r.deploy("alice", "demo")
			r.until(id, ops.Succeeded)
			r.pass(time.Minute)
			cards, final := 0, 0
			for _, s := range r.chat.Sent() {
				if s.Now().Key == id+".card.0" {
					cards++
					if strings.Contains(read(new(s.Now())), "succeeded") {
						final++
					}
				}
			}
			if cards != tc.cards || final != 1 {
				t.Errorf("got %d cards, %d of them final, want %d and 1", cards, final, tc.cards)
			}
		})
	}
}

func TestF13_DeletedCardIsReplacedAndForbiddenChannelGoesToThePerson(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	r.until(id, ops.Running)
	r.chat.Delete(r.card(id).Ref)
	r.until(id, ops.Succeeded)
	r.pass(10 * time.Second)
	mustContain(t, read(new(r.card(id).Now())), "succeeded")

	denied := &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonChatUnavailable, Msg: "not in channel"}
	r.chat.Fail("post", chattest.Fault{Err: denied})
	second := r.deploy("alice", "shop")
	r.until(second, ops.Succeeded)
	r.settle()
	if got := r.card(second).To.Channel; got != "Dalice" {
		t.Errorf("got the card in %s, want it with the person who asked", got)
	}
}

// The clock stands still: what is answered is answered by what the program knows and by what it
// gives up waiting for, not by the end of the budget that a platform leaves it.
func TestW04S18_AnsweredWhileGitLabAndChatBlockForEver(t *testing.T) {
	t.Parallel()
	const budget = 2200 * time.Millisecond // the shortest of the platforms'
	r := newRig(t, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "a", Jobs: []gitlabtest.Job{{Name: "long", Duration: time.Hour}}}}}))
	r.until(r.deploy("carol", "shop"), ops.Running)
	hang := r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Hang()})
	defer hang.Release()
	defer r.chat.Hang()()
	wait := clock.NewFake(r.clock.Now()) // the budget's own: only its timer waits there
	a := chat.NewAcker(r.app.commands, wait, budget, time.Minute, r.app.opt.log)
	defer a.Wait()
	defer hang.Release()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asks := func(text string) chat.Answer {
		in := r.incoming("alice")
		in.Kind, in.Text = chat.Command, text
		return a.Answer(ctx, in)
	}
	began := wait.Now()
	for _, tc := range []struct{ text, want string }{
		{"deploy demo", "Accepted: deploy of demo on eu."},
		{"operations", "demo on eu: requested"},
		{"status", "demo on eu: requested"},
		{"status demo", "deploy demo on eu · requested"},
		{"status shop", "as last seen: GitLab"},
		{"status eu", "could not be read: GitLab"},
		{"deploy demo", "instance_busy"},
		{"deploy dmeo", "Did you mean demo?"},
		{"deploy campus --plan", "Nothing was sent."},
		{"cancel nothing", "unknown_operation"},
		{"cancel demo", "Canceled: deploy of demo on eu, before anything ran."},
		{"help", "What /ocim can do"},
		{"whoami", "alice"},
	} {
		ans := asks(tc.text)
		if got := read(ans.Message); ans.Pending || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.text, got, tc.want)
		}
	}
	if got := wait.Now().Sub(began) + r.clock.Now().Sub(began); got != 0 || hang.Hits() == 0 {
		t.Errorf("got %s gone by and %d calls that hang, want none and some", got, hang.Hits())
	}

	// What only GitLab knows is not waited for beyond the budget.
	done := make(chan chat.Answer, 1)
	go func() { done <- asks("logs shop") }()
	if err := wait.Waiting(ctx, 1); err != nil {
		t.Fatal(err)
	}
	wait.Advance(budget)
	select {
	case ans := <-done:
		if got := read(ans.Message); !ans.Pending && !strings.Contains(got, "GitLab") {
			t.Errorf("logs: got %q, want that it takes longer, or why it does not work", got)
		}
	case <-ctx.Done():
		t.Error("logs: no answer when the budget has passed")
	}
}

func TestF25_PanicInATemplateOrHandlerIsContained(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	a := chat.NewAcker(panicking{}, r.clock, time.Second, time.Second, r.app.opt.log)
	got := a.Answer(t.Context(), r.incoming("alice"))
	mustContain(t, read(got.Message), "internal_error")
	id := r.deploy("alice", "demo")
	bad := func(context.Context, string) (time.Time, error) { panic("in the renderer") }
	if _, err := r.app.store.Drain(t.Context(), ops.JobDeliver, bad); err != nil {
		t.Fatal(err)
	}
	r.clock.Advance(2 * time.Minute)
	r.until(id, ops.Succeeded)
	r.pass(time.Minute)
	mustContain(t, read(new(r.card(id).Now())), "succeeded")
}

type panicking struct{}

func (panicking) Handle(context.Context, chat.Incoming) chat.Answer { panic("in the handler") }

// A replica that lags shows a pipeline as it was before. A card does not go back to that.
func TestF29I06_StaleReadDoesNotUnblockAnOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{
		{Name: "a", Jobs: []gitlabtest.Job{{Name: "first", Duration: 30 * time.Second}}},
		{Name: "b", Jobs: []gitlabtest.Job{{Name: "gate", Manual: true, Duration: time.Minute}}},
	}}))
	id := r.deploy("alice", "demo")
	r.until(id, ops.Blocked)
	events := len(r.events(id))
	lag := r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Stale(20 * time.Second)})
	r.pass(15 * time.Second)
	lag.Remove()
	if op := r.op(id); op.State != ops.Blocked || len(r.events(id)) != events {
		t.Errorf("got %s with %d events more, want it blocked as before", op.State, len(r.events(id))-events)
	}
}

// A kill may come between the record that a reply stands and the record that it is done with. It
// is not sent again then.
func TestF01_ReplyThatStandsIsNotSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	r.until(id, ops.Succeeded)
	r.settle()
	end := func() (d ops.Delivery) {
		t.Helper()
		if err := r.app.store.View(t.Context(), func(rd ops.Reader) error {
			all, err := rd.Deliveries(t.Context(), id)
			for _, one := range all {
				if one.Kind == ops.DeliverEnd {
					d = one
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := end()
	if d.Ref == "" || !d.Done {
		t.Fatalf("got %+v, want the end told", d)
	}
	d.Done = false
	if err := r.app.store.Update(t.Context(), func(tx ops.Tx) error {
		if err := tx.PutDelivery(t.Context(), d); err != nil {
			return err
		}
		return tx.Wake(t.Context(), ops.JobDeliver, id, r.clock.Now())
	}); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.settle()
	n := 0
	for _, s := range r.chat.Sent() {
		if s.Now().Key == d.Key {
			n++
		}
	}
	if n != 1 || !end().Done {
		t.Errorf("got the end told %d times and done %t, want once and true", n, end().Done)
	}
}
