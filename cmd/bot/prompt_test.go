package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/adapters/slack/slacktest"
	"ocim/ops"
)

// inhabited is a program with one running operation and one open dialog on every platform.
type inhabited struct {
	*live
	cards   [2]slacktest.Message // of the Slack with HTTP, and of the one with sockets
	views   [2]slacktest.View
	post    mattermosttest.Post
	dialog  mattermosttest.OpenDialog
	ids     []string
	trigger int
}

func (l *live) inhabit() *inhabited {
	l.t.Helper()
	k, p := l.talk, &inhabited{live: l}
	channel := k.peer.Channels[mattermosttest.Channel]
	do := func(f func() error) {
		l.t.Helper()
		done := make(chan error, 1)
		go func() { done <- f() }()
		if err := <-done; err != nil {
			l.t.Fatal(err)
		}
	}
	for i, s := range []*slacktest.Server{k.http, k.socket} {
		do(func() error {
			_, err := s.Command(l.t.Context(), slacktest.CommandOpts{User: ann, Channel: slackOps, Text: "deploy " + []string{"demo", "shop"}[i]})
			return err
		})
	}
	do(func() error {
		_, err := k.peer.Command(l.t.Context(), "alice", channel, "", "/ocim deploy campus")
		return err
	})
	if err := l.app.store.View(l.t.Context(), func(r ops.Reader) error {
		all, err := r.Operations(l.t.Context(), ops.Filter{Unfinished: true})
		for _, op := range all {
			p.ids = append(p.ids, op.ID)
		}
		return err
	}); err != nil || len(p.ids) != 3 {
		l.t.Fatalf("got operations %v, %v, want 3", p.ids, err)
	}
	l.pump(func() bool {
		return l.in(p.ids[0], ops.Running) && l.in(p.ids[1], ops.Running) && l.in(p.ids[2], ops.Running)
	})
	l.pump(func() bool { return l.asleep() && p.find() })
	for i, s := range []*slacktest.Server{k.http, k.socket} {
		do(func() error {
			_, err := s.Command(l.t.Context(), slacktest.CommandOpts{User: ann, Channel: slackOps, Text: "deploy"})
			return err
		})
		p.views[i] = s.Views(ann)[0]
	}
	do(func() error {
		rep, err := k.peer.Command(l.t.Context(), "alice", channel, "", "/ocim deploy")
		if err == nil {
			p.dialog = rep.Dialogs[0]
		}
		return err
	})
	return p
}

// find reports whether all three cards stand and can be canceled.
func (p *inhabited) find() bool {
	for i, s := range []*slacktest.Server{p.talk.http, p.talk.socket} {
		found := false
		for _, m := range s.Messages(slackOps) {
			if m.ThreadTS == "" && strings.Contains(fmt.Sprint(slacktest.Buttons(m)), "Cancel") {
				p.cards[i], found = m, true
			}
		}
		if !found {
			return false
		}
	}
	for _, post := range p.talk.matter.Posts(p.talk.peer.Channels[mattermosttest.Channel]) {
		if len(post.Actions()) > 0 && post.Actions()[0].Name == "Cancel" {
			p.post = post
			return true
		}
	}
	return false
}

// buttonID is the action id of a card's button.
func buttonID(t *testing.T, m slacktest.Message, label string) string {
	t.Helper()
	var blocks []struct {
		Elements []struct {
			ActionID string `json:"action_id"`
			Text     any    `json:"text"`
		} `json:"elements"`
	}
	if err := json.Unmarshal([]byte(jsonText(t, m.Blocks)), &blocks); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		for _, e := range b.Elements {
			if strings.Contains(fmt.Sprint(e.Text), label) {
				return e.ActionID
			}
		}
	}
	t.Fatalf("no button %s", label)
	return ""
}

// heard is what a person got for one request.
type heard struct {
	ok   bool
	text string
}

func heardSlack(a slacktest.Answer) heard {
	return heard{a.OK(), fmt.Sprintf("%d %s %s", a.Status, a.Body, a.Err)}
}

func heardHTTP(a answer) heard { return heard{a.status == 200, fmt.Sprint(a.status, " ", a.body)} }

// requests are all kinds of requests on all ways in.
func (p *inhabited) requests() map[string]func() heard {
	k := p.talk
	all := map[string]func() heard{}
	for i, name := range []string{"slack", "socket"} {
		s := []*slacktest.Server{k.http, k.socket}[i]
		command := func(text string) func() heard {
			return func() heard {
				r, err := s.Command(context.Background(), slacktest.CommandOpts{User: ann, Channel: slackOps, Text: text})
				return heard{err == nil && r.Error == "" && r.Message != nil, fmt.Sprint(string(r.Answer.Body), r.Error, err)}
			}
		}
		for _, text := range []string{"deploy campus", "status", "status demo", "status eu", "cancel demo", "retry demo", "logs demo", "operations", "whoami", "help", "deploy dmeo", "nonsense"} {
			all[name+" command "+text] = command(text)
		}
		// The payload is taken now: another of the requests may take the button away.
		click, err := s.ClickPayload(ann, slackOps, p.cards[i].TS, buttonID(p.t, p.cards[i], "Cancel"))
		if err != nil {
			p.t.Fatal(err)
		}
		all[name+" click"] = func() heard {
			a, err := s.ClickRaw(context.Background(), click)
			return heard{err == nil && a.OK(), fmt.Sprint(a.Status, a.Err, err)}
		}
		all[name+" dialog"] = func() heard {
			sub, err := s.SubmitView(context.Background(), ann, p.views[i].ID, map[string]any{"why": "a test"})
			if err != nil { // an instance has to be chosen first: send what the client would
				a, err := s.ClickRaw(context.Background(), p.submission(i))
				return heard{err == nil && a.OK(), fmt.Sprint(a.Status, a.Err, err)}
			}
			return heardSlack(sub.Answer)
		}
		all[name+" options"] = func() heard {
			_, a, err := s.Suggest(context.Background(), ann, slacktest.Where{ViewID: p.views[i].ID}, "instance/value", "dem")
			if err != nil { // the question of a click has taken the place of the list: send what the client sent before
				o := p.submission(i)
				o["type"], o["block_id"], o["action_id"], o["value"] = "block_suggestion", "instance", "value", "dem"
				a, err = s.ClickRaw(context.Background(), o)
			}
			return heard{err == nil && a.OK(), fmt.Sprint(a.Status, string(a.Body), a.Err, err)}
		}
	}
	for _, text := range []string{"deploy campus", "status", "status demo", "status eu", "cancel demo", "logs demo", "help", "nonsense"} {
		all["mattermost command "+text] = func() heard {
			return heardHTTP(p.send(matterPath("commands"), formHeader(), []byte(k.matterCommand(p.next(), text).Encode())))
		}
	}
	all["mattermost click"] = func() heard { return heardHTTP(p.sendJSON(matterPath("actions"), p.matterClick())) }
	all["mattermost dialog"] = func() heard {
		return heardHTTP(p.sendJSON(matterPath("dialogs"), p.matterSubmission("dialog_submission", map[string]any{"instance": "eu/demo"})))
	}
	all["mattermost options"] = func() heard {
		return heardHTTP(p.sendJSON(matterPath("dialogs"), p.matterSubmission("dialog_lookup", map[string]any{"selected_field": "instance", "query": "de"})))
	}
	hook := p.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	header, body, err := p.lab.BuildHook(hook, p.op(p.ids[0]).Pipelines[0].Ref.ID)
	if err != nil {
		p.t.Fatal(err)
	}
	all["webhook"] = func() heard {
		a := p.send("/gitlab/webhook", header, body)
		return heard{a.status == 200 || a.status == 503, fmt.Sprint(a.status)} // 503: GitLab counts it as failed, and polling makes it good
	}
	return all
}

func (p *inhabited) submission(i int) slacktest.Object {
	ws := []string{slackTeam, socketTeam}[i]
	return slacktest.Object{
		"type": "view_submission", "team": slacktest.Object{"id": ws}, "user": slacktest.Object{"id": ann, "username": "ann"},
		"trigger_id": p.next(), "api_app_id": "A0OCIM001",
		"view": slacktest.Object{
			"callback_id": p.views[i].CallbackID, "private_metadata": p.views[i].PrivateMetadata,
			"state": slacktest.Object{"values": slacktest.Object{"instance": slacktest.Object{"value": slacktest.Object{
				"type": "external_select", "selected_option": slacktest.Object{"value": "eu/demo"},
			}}}},
		},
	}
}

// next is a trigger id that nobody has used.
func (p *inhabited) next() string {
	p.trigger++
	return fmt.Sprint("trigger-", p.trigger)
}

func (p *inhabited) matterClick() mattermosttest.Click {
	return mattermosttest.Click{
		UserID: p.talk.peer.Accounts["alice"].ID, UserName: "alice", ChannelID: p.post.ChannelID, PostID: p.post.ID,
		TriggerID: p.next(), Type: "button", Context: p.post.Actions()[0].Integration.Context,
	}
}

func (p *inhabited) matterSubmission(kind string, values map[string]any) mattermosttest.Submission {
	return mattermosttest.Submission{
		Type: kind, CallbackID: p.dialog.Dialog.CallbackID, State: p.dialog.Dialog.State, UserID: p.talk.peer.Accounts["alice"].ID,
		ChannelID: p.post.ChannelID, TeamID: p.talk.peer.TeamID, Submission: values,
	}
}

func (l *live) sendJSON(path string, v any) answer {
	l.t.Helper()
	return l.send(path, http.Header{"Content-Type": {"application/json"}}, []byte(jsonText(l.t, v)))
}

// waiters is how many timers wait on the clock.
func (l *live) waiters() int {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	n := 0
	for l.clock.Waiting(gone, n+1) == nil {
		n++
	}
	return n
}

// Whatever hangs, every request of every kind on every way in is answered before the platform gives
// up on it: 3 s. Time is moved by hand, so that nothing but the bot's own deadlines can end a wait.
func TestI13W04F15_EverybodyIsAnsweredInTimeWhateverHangs(t *testing.T) {
	t.Parallel()
	for _, hangs := range []string{"gitlab", "chat", "store", "gitlab chat store"} {
		t.Run(hangs, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, talking, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: 100 * time.Hour}}}}}))
			first := r.run().online().inhabit()
			// A program that has just started remembers no post, token or list: it has to ask.
			first.stop()
			first.pump(first.stopped)
			r.restart()
			l := r.run().online()
			p := *first
			p.live = l
			l.pump(l.asleep)
			requests := p.requests()
			if strings.Contains(hangs, "gitlab") {
				defer r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Hang()}).Release()
			}
			if strings.Contains(hangs, "chat") {
				defer r.talk.http.Fail(slacktest.Fault{Kind: slacktest.Hang})()
				defer r.talk.socket.Fail(slacktest.Fault{Kind: slacktest.Hang})()
				r.talk.matter.Fail(mattermosttest.Fault{Kind: mattermosttest.Hang})
				defer r.talk.matter.ClearFaults()
			}
			if strings.Contains(hangs, "store") {
				defer r.hangStore()()
			}
			l.clock.Advance(61 * time.Second) // what is cached is old now
			for name, request := range requests {
				got := l.within(name, 2900*time.Millisecond, request)
				if !got.ok {
					t.Errorf("%s while %s: got %.300s, want an answer in time", name, hangs, got.text)
				}
			}
		})
	}
}

// within makes one request and lets d go by as soon as it has come to wait for something.
func (l *live) within(name string, d time.Duration, request func() heard) heard {
	l.t.Helper()
	before := l.waiters()
	done := make(chan heard, 1)
	go func() { done <- request() }()
	inside, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	for n := 0; inside.Err() == nil && (n < 10 || l.waiters() < before+2); n++ {
		select {
		case got := <-done:
			return got
		default:
			l.pause()
		}
	}
	const steps = 25
	for range steps { // timers of others come and go: this one's may not be there yet
		l.clock.Advance(d / steps)
		for range 4 {
			l.pause()
		}
	}
	// What is left to do takes no time of its own. A wait for a peer takes 2 s and more.
	soon, cancel := context.WithTimeout(context.Background(), 1200*time.Millisecond)
	defer cancel()
	select {
	case got := <-done:
		return got
	case <-soon.Done():
		l.t.Errorf("%s: %s have passed, and it still waits", name, d)
	}
	l.clock.Advance(time.Minute)
	return <-done
}

// A webhook whose operation sleeps has to be written down.
func TestI13F15_WebhookIsAnsweredInTimeWhileTheStoreHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: time.Hour}}}}}))
	l := r.run()
	id := r.deploy("alice", "demo")
	l.pump(func() bool { return l.in(id, ops.Running) && l.asleep() })
	hook := r.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	header, body, err := r.lab.BuildHook(hook, r.op(id).Pipelines[0].Ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	release := r.hangStore()
	got := l.within("webhook", 2900*time.Millisecond, func() heard {
		a := l.send("/gitlab/webhook", header, body)
		return heard{a.status == 503, fmt.Sprint(a.status)}
	})
	if !got.ok {
		t.Errorf("got %s, want 503 in time: nothing is on disk", got.text)
	}
	release()
	if a := l.send("/gitlab/webhook", header, body); a.status != 200 {
		t.Errorf("once the store answers: got %d, want 200", a.status)
	}
}
