//go:build e2e

package story

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
)

// The foreign text of the story: none of it may notify anybody, be a link, or be shown whole.
const (
	hostileWhy = "new theme @channel @here <!channel> ~deploys *bold*"
	canary     = "hunter2-canary"
	hostileLog = "migrating\nMYSQL_PASSWORD=" + canary + "\ncloning https://x:" + "glpat-canarycanarycanary12" +
		"@gitlab.example/a.git\n\x1b[31mOperationalError: (1205, 'Lock wait timeout')\x1b[0m @channel <!channel> @bob\n"
)

// look is what people do who want to know what the bot can: nothing of it reaches GitLab but
// questions.
func (s *tale) look() {
	s.types(alice, "help", "/ocim", "deploy", "status", "cancel")
	s.types(alice, "help deploy", "deploy [instance]", "--plan")
	s.types(alice, "whoami", "You may: start", "cancel", "retry")
	s.types(bob, "whoami", "look, but not change anything")
	s.types(alice, "deply demo", "There is no command", "Did you mean deploy?")
	s.types(alice, "deploy dmeo", "Did you mean", "demo")
	s.types(alice, "Status", "Nothing is under way")
	s.types(alice, "operations", "No operation yet")
	s.types(alice, "status eu", "no pipeline yet")
	s.types(alice, "logs k7m2qx", "There is no operation")
	s.types(alice, "deploy demo version=19.0.2 --plan", "Nothing was sent", `"INSTANCENAME": "demo"`, `"TUTORVERSION": "19.0.2"`, `"ref": "main"`)
	s.types(bob, "deploy demo", "not")
	s.types(alice, "deploy demo color=red", "color")
	if w := s.lab.Writes(); len(w) != 0 {
		s.t.Errorf("looking around made writes to GitLab: %+v", w)
	}
	if all, err := s.chat.messages(s.ctx); err != nil || len(all) != 0 {
		s.t.Errorf("looking around left %d messages in the channel, %v", len(all), err)
	}
}

// deploy is the main job: one command, one trigger, one card that is edited until it has succeeded.
func (s *tale) deploy() {
	id := s.accepted(s.types(alice, `deploy demo version=19.0.2 why="`+hostileWhy+`"`, "Accepted", "demo on eu"))
	live := s.card(id, "running", "demo", "jobs", "[Cancel]")
	s.types(alice, "deploy demo", "busy", id)
	if got, err := s.chat.typed(s.ctx, bob, "status "+id); err != nil || !containsAll(got.String(), []string{"demo on eu", "Asked by: alice"}) {
		s.t.Errorf("bob asks where it stands: %v, got\n%s", err, got) // how far it is differs
	}
	card := s.card(id, "succeeded", "[Logs]")
	if card.id != live.id || card.edits == 0 || s.cards(id) != 1 {
		s.t.Errorf("got %d cards, the last with %d edits, want one that was edited", s.cards(id), card.edits)
	}
	if slices.Contains(card.buttons, "Cancel") {
		s.t.Errorf("the final card still has its buttons: %s", card)
	}
	if len(card.pings)+len(live.pings) > 0 {
		s.t.Errorf("the card notifies %v %v", live.pings, card.pings)
	}
	s.readAll("card of demo", card)
	end := s.reply(card, "alice: deploy of demo on eu succeeded")
	if end.thread != card.id || end.channel || !slices.Equal(end.pings, []string{alice}) {
		s.t.Errorf("got %+v, want the end told to alice in the card's thread alone", end)
	}
	s.readAll("end of demo", end)
	s.types(alice, "status "+id, "succeeded", "as it was when it ended")
	s.types(alice, "status demo", "succeeded")
	s.types(alice, "operations", id, "succeeded")
	s.types(alice, "logs demo deploy", "deploy", "success")
	s.types(alice, "retry demo", "nothing to retry")
	s.clicks(bob, card, "Logs", "other jobs")

	sent := s.lab.Triggers()
	if len(sent) != 1 || len(s.lab.Writes()) != 1 {
		s.t.Fatalf("got %d triggers in %d writes, want the trigger alone", len(sent), len(s.lab.Writes()))
	}
	vars, _ := sent[0].Body["variables"].(map[string]any)
	number, _ := vars["DEPLOYMENT_REQUEST_ID"].(string)
	if vars["INSTANCE_NAME"] != "demo" || vars["NEW_INSTANCE_TRIGGER"] != "1" || len(vars) != 3 ||
		!regexp.MustCompile(`^[0-9]+$`).MatchString(number) || sent[0].Body["TUTOR_VERSION"] != "19.0.2" || sent[0].Body["ref"] != "main" {
		s.t.Errorf("got trigger %v", sent[0].Body)
	}
	for key, pipelines := range s.lab.Keys() {
		if len(pipelines) != 1 || sent[0].Body["ocim_key"] != key {
			s.t.Errorf("key %s started pipelines %v", key, pipelines)
		}
	}
}

// fail is a deploy that fails: told in the channel, with the log in the thread. The bot is killed
// before the button is pressed.
func (s *tale) fail() {
	s.lab.Override(project, gitlabtest.Override{Instance: "shop", Operations: 1, FailJob: "init", Trace: hostileLog})
	id := s.accepted(s.types(alice, "deploy shop", "Accepted"))
	card := s.card(id, "failed", "init", "[Retry]")
	s.readAll("card of shop", card)
	log := s.reply(card, "Last lines of init", "OperationalError: (1205")
	end := s.reply(card, "alice: deploy of shop on eu failed")
	s.readAll("log of shop", log)
	s.readAll("end of shop", end)
	if log.thread != card.id || log.channel || len(log.pings) > 0 {
		s.t.Errorf("got %+v, want the log in the card's thread alone, notifying nobody", log)
	}
	if !end.channel || !slices.Equal(end.pings, []string{alice}) {
		s.t.Errorf("got %+v, want the failure told in the channel, and alice alone notified", end)
	}
	s.clicks(bob, card, "Retry", "not")
	s.clicks(bob, card, "Logs", "OperationalError")

	if err := s.bot.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.start()
	s.clicks(alice, card, "Retry", "Run 2", "accepted")
	again := s.card(id, "succeeded", "run 2 by alice")
	if again.id != card.id || s.cards(id) != 1 {
		s.t.Errorf("got %d cards after a kill and a retry, want the one from before", s.cards(id))
	}
	s.readAll("card of shop, run 2", again)
	if n := len(s.lab.Triggers()); n != 3 {
		s.t.Errorf("got %d triggers, want 3", n)
	}
}

// pick is a deploy from the list of instances, which is canceled after a question.
func (s *tale) pick() {
	s.lab.Override(project, gitlabtest.Override{Instance: "campus", Durations: map[string]time.Duration{"build-openedx": 1000 * time.Hour}})
	got := s.types(alice, "deploy")
	form := s.opened(got)
	if want := []string{"Instance", "Parameters", "Why"}; !slices.Equal(form.fields, want) {
		s.t.Errorf("got the fields %q, want %q", form.fields, want)
	}
	wrong, err := s.chat.submit(s.ctx, alice, form, map[string]string{"instance": "eu/campus", "params": "color=red"})
	if err != nil || wrong.errors["params"] == "" {
		s.t.Fatalf("an unknown parameter: got %+v, %v, want it said at the field", wrong, err)
	}
	s.read("an unknown parameter", unmarked(wrong.errors["params"]))
	if right, err := s.chat.submit(s.ctx, alice, form, map[string]string{"instance": "eu/campus", "params": "version=20.0", "why": "from the list"}); err != nil || len(right.errors) > 0 {
		s.t.Fatalf("a right form: got %+v, %v", right, err)
	}
	card := s.message("the card of campus", func(m message) bool {
		return containsAll(m.String(), []string{"Instance: campus on eu", "Asked by: alice", "from the list", "build-openedx", "[Cancel]"})
	})
	id := ""
	for _, l := range card.lines {
		if after, ok := strings.CutPrefix(l, "Operation: "); ok {
			id = after
			s.ids = append(s.ids, id)
		}
	}
	s.clicks(bob, card, "Cancel", "not")
	question := s.opened(s.clicks(alice, card, "Cancel"))
	mustContain(s.t, "the question", strings.Join(question.lines, "\n"), "eu/campus", "pipelines")
	if _, err := s.chat.submit(s.ctx, alice, question, nil); err != nil {
		s.t.Fatal(err)
	}
	canceled := s.card(id, "canceled", "[Retry]")
	if canceled.id != card.id || s.cards(id) != 1 {
		s.t.Errorf("got %d cards, want one", s.cards(id))
	}
	s.readAll("card of campus", canceled)
	for _, p := range s.lab.Pipelines(project) {
		if p.Instance == "campus" && p.Status != "success" && p.Status != "canceled" {
			s.t.Errorf("pipeline %d of the canceled operation is %s", p.ID, p.Status)
		}
	}
	s.tooLate(id, canceled)
}

// tooLate answers a question after somebody else has answered it.
func (s *tale) tooLate(id string, card message) {
	s.clicks(alice, card, "Retry", "Run 2")
	card = s.card(id, "running", "run 2", "build-openedx", "[Cancel]")
	question := s.opened(s.clicks(alice, card, "Cancel"))
	s.types(alice, "cancel campus", "on its way")
	s.readAll("card of campus, run 2", s.card(id, "canceled", "run 2"))
	late, err := s.chat.submit(s.ctx, alice, question, nil)
	if err != nil || !strings.Contains(late.String(), "There is nothing to cancel") {
		s.t.Errorf("the question is answered too late: %v, told\n%s", err, late)
	}
	s.types(alice, "cancel campus", "There is nothing to cancel")
}

func (s *tale) opened(got told) dialog {
	s.t.Helper()
	if len(got.dialogs) != 1 {
		s.t.Fatalf("got %d dialogs, want one; told %s", len(got.dialogs), got)
	}
	d := got.dialogs[0]
	s.read("dialog "+d.title, append(slices.Clone(d.lines), d.fields...))
	return d
}

// secrets looks for them in all that was said.
func (s *tale) secrets() {
	all, err := s.chat.messages(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	said := s.bot.Logs()
	for _, m := range all {
		said += m.String()
	}
	for _, l := range s.said {
		said += strings.Join(l.Text, "\n")
	}
	for _, secret := range []string{readToken, writeToken, triggerToken, hookToken, canary, "glpat-canary", "\x1b"} {
		if strings.Contains(said, secret) {
			s.t.Errorf("%q was shown or logged", secret)
		}
	}
}
