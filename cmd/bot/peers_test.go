package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/adapters/slack/slacktest"
	"ocim/ops"
)

// The same signed request, again and again, between others: one operation, one answer for all.
func TestT02I05_ReplayedRequestsOverHTTPActOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, talking, plain(gitlabtest.Script{}))
	l := r.run().online()
	deploy, status := r.talk.slackCommand("deploy demo"), r.talk.slackCommand("operations")
	typed := r.talk.matterCommand("one-trigger", "deploy shop")
	if got := l.sendSlack(deploy); got.status != 200 || !strings.Contains(got.body, "Accepted") {
		t.Fatalf("got %d %s, want it accepted", got.status, got.body)
	}
	random := rand.New(rand.NewPCG(5, 2))
	replay := func() {
		t.Helper()
		var got answer
		want := "Accepted"
		switch random.IntN(4) {
		case 0:
			got, want = l.sendSlack(status), "demo"
		case 1:
			got = l.send(matterPath("commands"), formHeader(), []byte(typed.Encode()))
		default:
			got = l.sendSlack(deploy)
		}
		if got.status != 200 || !strings.Contains(got.body, want) {
			t.Fatalf("got %d %s, want the answer of the first time", got.status, got.body)
		}
		l.clock.Advance(100 * time.Millisecond)
	}
	for range 100 {
		replay()
	}
	l.send(matterPath("commands"), formHeader(), []byte(typed.Encode())) // if chance has not
	l.pump(func() bool { return l.ended(2) })
	for range 100 { // nothing is busy any more: a replay that counted would start something
		replay()
	}
	l.pump(l.asleep)
	r.exactlyOnce(2)
	if n := len(r.lab.Triggers()); n != 2 {
		t.Errorf("got %d triggers, want 2", n)
	}
}

// ended reports whether so many operations are known and all have succeeded.
func (l *live) ended(n int) bool {
	l.t.Helper()
	var all []ops.Operation
	if err := l.app.store.View(l.t.Context(), func(r ops.Reader) (err error) {
		all, err = r.Operations(l.t.Context(), ops.Filter{Limit: 100})
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	return len(all) == n && !slices.ContainsFunc(all, func(op ops.Operation) bool { return op.State != ops.Succeeded })
}

// A press that is delivered twice decides once, also when what it decided is over by then.
func TestT02I05_ReplayedDecisionsActOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.lab.Override(rigProject, gitlabtest.Override{FailJob: "build"})
	id := r.deploy("alice", "demo")
	r.until(id, ops.Failed)
	r.settle()
	again := r.incoming("alice")
	card := r.card(id)
	again.Kind, again.Message, again.From = chat.Click, card.Ref, card.To
	for _, b := range card.Now().Buttons {
		if b.Verb == "retry" {
			again.Button = b.Token
		}
	}
	typed := r.incoming("alice")
	typed.Kind, typed.Text = chat.Command, "retry "+id
	for i, in := range []chat.Incoming{again, typed} {
		mustContain(t, read(r.app.commands.Handle(t.Context(), in).Message), fmt.Sprint("Run ", i+2))
		r.until(id, ops.Failed)
		r.settle()
		for range 10 {
			r.app.commands.Handle(t.Context(), in)
		}
		r.pass(time.Minute)
		if op := r.op(id); op.Run != i+2 || op.State != ops.Failed {
			t.Errorf("after the repetitions: got run %d %s, want run %d, failed", op.Run, op.State, i+2)
		}
	}
	r.exactlyOnce(3)
}

// GitLab answers reads in every way it should not, for a while, in the middle of an operation.
func TestF07I01I11_BadAnswersToReadsLoseNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   gitlabtest.Action
	}{
		{"400", gitlabtest.Answer(400, jsonHeader(), `{"message":"400 Bad request"}`)},
		{"401", gitlabtest.Answer(401, jsonHeader(), `{"message":"401 Unauthorized"}`)},
		{"403", gitlabtest.Answer(403, jsonHeader(), `{"message":"403 Forbidden"}`)},
		{"404", gitlabtest.Answer(404, jsonHeader(), `{"message":"404 Not found"}`)},
		{"422", gitlabtest.Answer(422, jsonHeader(), `{"message":"422"}`)},
		{"429", gitlabtest.RateLimited(10 * time.Second)},
		{"500", gitlabtest.Answer(500, jsonHeader(), `{"message":"500 Internal Server Error"}`)},
		{"502", gitlabtest.Answer(502, nil, "<html>bad gateway</html>")},
		{"HTML instead of JSON", gitlabtest.HTML()},
		{"empty 200", gitlabtest.Answer(200, jsonHeader(), "")},
		{"null", gitlabtest.Answer(200, jsonHeader(), "null")},
		{"other types", gitlabtest.Answer(200, jsonHeader(), `{"id":"x","status":7,"jobs":{}}`)},
		{"deep", gitlabtest.Answer(200, jsonHeader(), deep(20_000))},
		{"not UTF-8", gitlabtest.Answer(200, jsonHeader(), "{\"id\":9001,\"status\":\"\xff\xfe\"}")},
		{"cut off", gitlabtest.Truncate(20)},
		{"reset", gitlabtest.DropBefore()},
		{"echoed secrets", gitlabtest.EchoHeaders(500)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: 2 * time.Minute}}}}}))
			id := r.deploy("alice", "demo")
			r.until(id, ops.Running)
			lines := strings.Count(r.logs.String(), "\n")
			fault := r.lab.Inject(gitlabtest.Fault{Do: tc.do})
			r.pass(50 * time.Second)
			looks := fault.Hits()
			fault.Remove()
			if looks == 0 {
				t.Fatal("GitLab was not asked at all")
			}
			if op := r.op(id); op.State != ops.Running {
				t.Errorf("a bad answer moved it to %s (%s: %s)", op.State, op.Reason, op.Detail)
			}
			if n := strings.Count(r.logs.String(), "\n") - lines; n > looks || n == 0 && tc.name != "null" {
				t.Errorf("got %d lines in the log for %d bad answers, want one for each look", n, looks)
			}
			r.until(id, ops.Succeeded)
			r.pass(time.Minute)
			mustContain(t, read(new(r.card(id).Now())), "succeeded")
			r.exactlyOnce(1)
			for _, s := range []string{rigRead, rigWrite, rigTrigger} {
				if strings.Contains(r.logs.String(), s) || strings.Contains(jsonText(t, r.chat.Sent()), s) {
					t.Errorf("secret %s is in the log or in chat", s)
				}
			}
		})
	}
}

// GitLab answers the one call that starts something in every way it should not, after it has taken
// it: each operation still has one pipeline.
func TestF05I01_BadAnswersToTheTriggerStartNothingTwice(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   gitlabtest.Action
	}{
		{"HTML", gitlabtest.AnswerAfter(200, nil, "<html>sign in</html>")},
		{"null", gitlabtest.AnswerAfter(201, jsonHeader(), "null")},
		{"other types", gitlabtest.AnswerAfter(201, jsonHeader(), `{"id":"9001"}`)},
		{"nothing of ours", gitlabtest.AnswerAfter(201, jsonHeader(), `{"id":1,"project_id":7,"status":"success"}`)},
		{"deep", gitlabtest.AnswerAfter(201, jsonHeader(), deep(20_000))},
		{"429 after commit", gitlabtest.AnswerAfter(503, nil, "")},
		{"cut off", gitlabtest.Truncate(30)},
		{"endless", gitlabtest.Flood(64 << 20)},
		{"never", gitlabtest.HangAfter()},
		{"redirect", gitlabtest.AnswerAfter(302, map[string][]string{"Location": {"http://127.0.0.1:1/"}}, "")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			fault := r.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: tc.do})
			defer fault.Release()
			id := r.deploy("alice", "demo")
			r.until(id, ops.Succeeded)
			r.exactlyOnce(1)
		})
	}
}

// Slack and Mattermost limit, fail, cut and lose answers, on every call that shows something. Each
// operation still has one card, which is right in the end; a lost answer costs no second one.
func TestF13I04_BadAnswersOfChatLoseNothing(t *testing.T) {
	t.Parallel()
	for i, faults := range []struct {
		name   string
		slack  slacktest.Fault
		matter mattermosttest.Fault
	}{
		{"429", slacktest.Fault{Kind: slacktest.TooMany, RetryAfter: 5 * time.Second}, mattermosttest.Fault{Kind: mattermosttest.RateLimited, RetryAfter: 5 * time.Second}},
		{"rate_limited in a 200", slacktest.Fault{Kind: slacktest.RateLimited}, mattermosttest.Fault{Kind: mattermosttest.RateLimited}},
		{"503", slacktest.Fault{Kind: slacktest.ServerError}, mattermosttest.Fault{Kind: mattermosttest.Unavailable}},
		{"502 with a page", slacktest.Fault{Kind: slacktest.ServerError, Status: 502}, mattermosttest.Fault{Kind: mattermosttest.HTMLPage}},
		{"answer lost", slacktest.Fault{Kind: slacktest.Lost}, mattermosttest.Fault{Kind: mattermosttest.LostAnswer}},
		{"answer cut", slacktest.Fault{Kind: slacktest.Cut}, mattermosttest.Fault{Kind: mattermosttest.CutAnswer}},
		{"endless answer", slacktest.Fault{Kind: slacktest.Endless}, mattermosttest.Fault{Kind: mattermosttest.Endless}},
	} {
		t.Run(faults.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, talking, plain(gitlabtest.Script{}))
			l := r.run().online()
			for _, s := range []*slacktest.Server{r.talk.http, r.talk.socket} {
				for _, method := range []string{"chat.postMessage", "chat.update"} {
					f := faults.slack
					f.Method, f.Times = method, 2
					s.Fail(f)
				}
			}
			for _, c := range [][2]string{{"POST", "/posts"}, {"PUT", "/posts/*/patch"}, {"PUT", "/posts/*"}} {
				f := faults.matter
				f.Method, f.Path, f.Times = c[0], c[1], 2
				r.talk.matter.Fail(f)
			}
			if got := l.sendSlack(r.talk.slackCommand("deploy demo")); got.status != 200 {
				t.Fatalf("slack: got %d, want 200", got.status)
			}
			typed := r.talk.matterCommand(fmt.Sprint("trigger-", i), "deploy shop")
			if got := l.send(matterPath("commands"), formHeader(), []byte(typed.Encode())); got.status != 200 {
				t.Fatalf("mattermost: got %d, want 200", got.status)
			}
			done := make(chan error, 1)
			go func() {
				_, err := r.talk.socket.Command(t.Context(), slacktest.CommandOpts{User: ann, Channel: slackOps, Text: "deploy campus"})
				done <- err
			}()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			cards := func() (all, final int) {
				see := func(text string) {
					all++
					if strings.Contains(text, "succeeded") {
						final++
					}
				}
				for _, s := range []*slacktest.Server{r.talk.http, r.talk.socket} {
					for _, m := range s.Messages(slackOps) {
						if m.ThreadTS == "" {
							see(s.Read(m))
						}
					}
				}
				for _, id := range r.talk.peer.Channels {
					for _, post := range r.talk.matter.Posts(id) {
						if post.RootID == "" && len(post.Attachments()) > 0 {
							see(mattermosttest.Read(post))
						}
					}
				}
				return all, final
			}
			l.pump(func() bool { _, final := cards(); return final == 3 })
			end := l.clock.Now().Add(time.Minute)
			l.pump(func() bool { return l.clock.Now().After(end) })
			if all, final := cards(); all != 3 || final != 3 {
				t.Errorf("got %d cards, %d of them final, want 3 and 3", all, final)
			}
			r.exactlyOnce(3)
		})
	}
}
