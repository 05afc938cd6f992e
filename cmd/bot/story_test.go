package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/ops"
)

// One deploy of Grove's kind, from the command to the end: one card edited in place, one trigger,
// all pipelines on the card, and no write to GitLab but that one.
func TestO01O02O07O69O92W01W02W19_DeployIsOneTriggerAndOneCard(t *testing.T) {
	t.Parallel()
	r := newRig(t) // no webhook is registered: everything comes from polling
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Succeeded)

	r.exactlyOnce(1)
	if w := r.lab.Writes(); len(w) != 1 || !strings.HasSuffix(w[0].Path, "/trigger/pipeline") {
		t.Errorf("got writes %+v, want the trigger alone", w)
	}
	body := jsonText(t, r.lab.Triggers()[0].Body)
	mustContain(t, body, `"INSTANCE_NAME":"demo"`, `"NEW_INSTANCE_TRIGGER":"1"`, `"ocim_key":"`+op.Key+`"`, `"DEPLOYMENT_REQUEST_ID":"`)
	if len(op.Pipelines) != 4 {
		t.Errorf("got %d pipelines, want root, merge and two children: %+v", len(op.Pipelines), op.Pipelines)
	}
	card := r.card(id)
	mustContain(t, read(new(card.Now())), "deploy demo · succeeded", "demo on eu", id)
	if len(card.Versions) < 3 {
		t.Errorf("got %d versions of the card, want it edited on the way", len(card.Versions))
	}
	for _, s := range r.chat.Sent() {
		if s.Ref != card.Ref && s.To.Thread != card.Ref {
			t.Errorf("message outside the card's thread: %q", read(new(s.Now())))
		}
	}
}

//go:fix inline

func TestO03_LostStoreFindsCardAndFinalNotice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.deploy("alice", "demo")
	r.until(id, ops.Running)
	r.pass(2 * time.Minute)
	card := r.card(id)

	r.closed()
	for _, f := range []string{"ocim.db", "ocim.db-wal", "ocim.db-shm"} {
		if err := os.Remove(filepath.Join(r.dir, f)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	r.open("")
	if n, err := r.app.service.Recover(t.Context()); err != nil || n != 1 {
		t.Fatalf("recover: got %d, %v, want 1 operation", n, err)
	}
	if n, err := r.app.service.Recover(t.Context()); err != nil || n != 0 {
		t.Fatalf("recover again: got %d, %v, want none", n, err)
	}
	op := r.until(id, ops.Succeeded)
	if op.Request.Actor.UserID != "alice" || op.Request.Target.String() != "eu/demo" {
		t.Errorf("recovered %+v, want alice's deploy of eu/demo", op.Request)
	}
	r.settle()
	if after := r.card(id); after.Ref != card.Ref || !strings.Contains(read(new(after.Now())), "succeeded") {
		t.Errorf("got card %s %q, want the old one %s edited to succeeded", after.Ref, read(new(after.Now())), card.Ref)
	}
	r.exactlyOnce(1)
	if !told(r, card.Ref, "deploy of demo on eu succeeded") {
		t.Error("nobody was told the end")
	}
}

// told reports whether a message in the thread says so.
func told(r *rig, thread, words string) bool {
	for _, s := range r.chat.Sent() {
		if s.To.Thread == thread && strings.Contains(read(new(s.Now())), words) {
			return true
		}
	}
	return false
}

func TestO04O67W24_FailureCarriesJobStageReasonLogAndLinks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.lab.Override(rigProject, gitlabtest.Override{
		Instance: "shop", FailJob: "init", FailureReason: "script_failure",
		Trace: "migrating\nMYSQL_PASSWORD=hunter2-canary\ncloning https://x:glpat-canarycanarycanary12@gitlab.example/a.git\n\x1b[31mOperationalError: (1205, 'Lock wait timeout')\x1b[0m\n@channel <!channel>\n",
	})
	id := r.deploy("alice", "shop")
	op := r.until(id, ops.Failed)
	r.pass(10 * time.Second)

	if op.Failure == nil || op.Failure.Job != "init" || op.Failure.Reason != "script_failure" || op.Failure.Stage == "" || op.Failure.URL == "" {
		t.Fatalf("got failure %+v, want job, stage, reason and link", op.Failure)
	}
	card := r.card(id)
	mustContain(t, read(new(card.Now())), "failed", "init", op.Failure.Stage, "script_failure", "[Retry]", "[Logs]", "[Open in GitLab]")
	if !told(r, card.Ref, "OperationalError: (1205") {
		t.Error("the log's tail is not in the thread")
	}
	loud := 0
	for _, s := range r.chat.Sent() {
		text := jsonText(t, s.Versions)
		for _, canary := range []string{"hunter2-canary", "glpat-canary", "\\u001b"} {
			if strings.Contains(text, canary) {
				t.Errorf("message shows %q: %s", canary, text)
			}
		}
		if s.Now().Broadcast {
			loud++
		}
	}
	if loud != 1 {
		t.Errorf("got %d messages told to the channel, want the failure alone", loud)
	}
	if strings.Contains(r.logs.String(), "canary") {
		t.Error("a secret is in the log")
	}
}

func TestO67_LogThatCannotBeReadIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.lab.Inject(gitlabtest.Fault{Route: "trace", Do: gitlabtest.Answer(403, nil, `{"message":"403 Forbidden"}`)})
	r.lab.Override(rigProject, gitlabtest.Override{FailJob: "build"})
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Failed)
	r.settle()
	mustContain(t, op.Failure.NoTail, "not retrievable")
	if !told(r, r.card(id).Ref, "not retrievable") {
		t.Error("the thread does not say that the log is not retrievable")
	}
}

func TestO33_StatusOfAClusterShowsItsNewestPipeline(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	mustContain(t, r.typed("alice", "status eu"), "no pipeline yet")
	id := r.deploy("alice", "demo")
	r.until(id, ops.Succeeded)
	mustContain(t, r.typed("alice", "status eu"), "success", "ago", "took 1 min", "#9001")
	if n := len(r.lab.Requests("pipeline latest")); n != 0 {
		t.Errorf("got %d calls of pipelines/latest, want none: it is unreliable", n)
	}
}

func TestO42_AnotherInstancesLaterPipelineIsIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.deploy("alice", "demo")
	r.until(first, ops.Succeeded)
	r.lab.Override(rigProject, gitlabtest.Override{Instance: "shop", FailJob: "deploy"})
	second := r.deploy("alice", "shop")
	r.until(second, ops.Failed)
	mustContain(t, r.typed("alice", "status demo"), first, "succeeded")
	mustContain(t, r.typed("alice", "status shop"), second, "failed")
	for _, p := range r.op(first).Pipelines {
		for _, q := range r.op(second).Pipelines {
			if p.Ref == q.Ref {
				t.Errorf("pipeline %d belongs to both operations", p.Ref.ID)
			}
		}
	}
}

func TestO52_TokenThatIsNotEnoughIsSaid(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, status, want string }{
		{"401 revoked", `{"message":"401 Unauthorized"}`, "gitlab_denied"},
		{"403 insufficient", `{"message":"403 Forbidden"}`, "gitlab_denied"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			code := 401
			if strings.HasPrefix(tc.name, "403") {
				code = 403
			}
			r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Answer(code, jsonHeader(), tc.status)})
			mustContain(t, r.typed("alice", "deploy demo"), "token", tc.want) // the list of instances cannot be read
			r.lab.Heal()
			mustContain(t, r.typed("alice", "status eu"), "no pipeline yet")
			r.clock.Advance(20 * time.Second)
			id := r.deploy("alice", "demo")
			r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Answer(code, jsonHeader(), tc.status)})
			op := r.until(id, ops.Refused)
			if string(op.Reason) != tc.want {
				t.Errorf("got reason %s, want %s", op.Reason, tc.want)
			}
			r.settle()
			mustContain(t, read(new(r.card(id).Now())), "token", tc.want, "operator")
			r.exactlyOnce(0)
		})
	}
}

func TestO66_UnknownStatusWordIsKeptAndShown(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Running)
	if err := r.lab.SetStatus(op.Pipelines[0].Ref.ID, "pondering"); err != nil {
		t.Fatal(err)
	}
	r.pass(15 * time.Second)
	if op := r.op(id); op.State != ops.Running || op.Pipelines[0].Status != "pondering" {
		t.Errorf("got %s with pipeline %s, want running with pondering", op.State, op.Pipelines[0].Status)
	}
	mustContain(t, read(new(r.card(id).Now())), "pondering")
}

func TestO68_CardLinksToThePipeline(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Running)
	r.settle()
	found := false
	for _, b := range r.card(id).Now().Buttons {
		if b.Verb == "open" && b.URL == op.Pipelines[0].URL {
			found = true
		}
	}
	if !found || !strings.Contains(op.Pipelines[0].URL, "/-/pipelines/") {
		t.Errorf("got buttons %+v, want a link to %s", r.card(id).Now().Buttons, op.Pipelines[0].URL)
	}
}

func TestO70O71F10_HookIsAHintAndStatusReadsGitLabLive(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Running)
	pid := op.Pipelines[0].Ref.ID
	if err := r.lab.Finish(pid, "failed"); err != nil {
		t.Fatal(err)
	}
	if got := r.op(id).State; got != ops.Running {
		t.Fatalf("got state %s before anybody looked, want running", got)
	}
	mustContain(t, r.typed("bob", "status "+id), "failed", "as GitLab says now")
	if got := r.op(id).State; got != ops.Failed {
		t.Errorf("got state %s after status, want failed", got)
	}
}

func TestO64T03T04_HookNeedsItsSecretAndIsNeverBelieved(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	hook := r.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	id := r.deploy("alice", "demo")
	op := r.until(id, ops.Running)
	r.settle()
	header, body, err := r.lab.BuildHook(hook, op.Pipelines[0].Ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", " ", rigHook[:len(rigHook)-1], rigHook + "x"} {
		bad := header.Clone()
		bad.Set("X-Gitlab-Token", token)
		if got := r.hook(bad, body); got != 401 {
			t.Errorf("token %q: got %d, want 401", token, got)
		}
	}
	forged := []byte(strings.ReplaceAll(string(body), `"status":"running"`, `"status":"success"`))
	before, posts := len(r.lab.Ledger()), len(r.chat.Sent())
	for range 50 {
		if got := r.hook(header, forged); got != 200 {
			t.Fatalf("forged success: got %d, want 200", got)
		}
	}
	r.settle()
	if got := r.op(id).State; got != ops.Running {
		t.Errorf("a forged hook moved the operation to %s", got)
	}
	if calls := len(r.lab.Ledger()) - before; calls > 4 {
		t.Errorf("50 forged hooks cost %d calls, want one look", calls)
	}
	if got := len(r.chat.Sent()); got != posts {
		t.Errorf("a forged hook made %d messages", got-posts)
	}
	stranger := []byte(strings.ReplaceAll(string(body), `"id":42`, `"id":43`))
	if got := r.hook(header, stranger); got != 200 {
		t.Errorf("hook of a stranger's project: got %d, want 200", got)
	}
}

func TestO92_DeployAnswersAtOnceWithAnOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	said := r.typed("alice", "deploy demo")
	mustContain(t, said, "Accepted", "demo", "operation ")
	// A 5xx after GitLab has committed does not make a second pipeline.
	r.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: gitlabtest.AnswerAfter(502, nil, "<html>bad gateway</html>")})
	r.settle()
	r.pass(30 * time.Second)
	r.exactlyOnce(1)
}

func TestPlanWithoutAnInstanceSendsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *rigSetup) {
		s.operations = `operations: {deploy: {follow: none, params: [{name: version, to: "payload:VERSION"}]}}`
	})
	said, form := r.opens("alice", `deploy --plan version=21 why="a new theme"`)
	if said != "" || form == nil {
		t.Fatalf("got %q and form %v, want a form", said, form)
	}
	values := map[string]string{"instance": "eu/demo"}
	for _, f := range form.Fields {
		if f.Default != "" {
			values[f.Name] = f.Default
		}
	}
	said, errs := r.submit("alice", form, values)
	mustContain(t, said, "Plan: deploy demo on eu", "Nothing was sent", `"VERSION": "21"`)
	if len(errs) != 0 {
		t.Errorf("got errors %v, want the plan", errs)
	}
	r.pass(2 * time.Minute)
	if got := len(r.lab.Triggers()); got != 0 {
		t.Errorf("got %d triggers in GitLab, want none", got)
	}
	r.exactlyOnce(0)
	mustContain(t, r.typed("alice", "operations"), "No operation yet")
	if got := len(r.chat.Sent()); got != 0 {
		t.Errorf("got %d messages in the channel, want none", got)
	}

	// Without the plan what was typed is sent.
	_, form = r.opens("alice", `deploy version=22 why="it's time"`)
	values = map[string]string{"instance": "eu/demo", "params": form.Fields[1].Default, "why": form.Fields[2].Default}
	said, _ = r.submit("alice", form, values)
	mustContain(t, said, "Accepted")
	r.pass(10 * time.Second)
	r.exactlyOnce(1)
	card := r.chat.Sent()[0].Now()
	mustContain(t, read(&card), "version=22", "it's time")
}

// An operator may give the command another name; every answer says the one that works.
func TestAnswersSayTheCommandAsItIsTyped(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	for _, text := range []string{"help", "help deploy", "nonsense", "deploy demo", "deploy demo", "status zzz", "whoami", "logs demo"} {
		in := r.incoming("alice")
		in.Kind, in.Text, in.Trigger = chat.Command, text, "/chatops"
		if got := read(r.app.commands.Handle(t.Context(), in).Message); strings.Contains(got, "/ocim") {
			t.Errorf("%s: got %q, want /chatops in it", text, got)
		}
	}
	in := r.incoming("alice")
	in.Kind, in.Text, in.Trigger = chat.Command, "help", "/chatops"
	mustContain(t, read(r.app.commands.Handle(t.Context(), in).Message), "/chatops deploy")
	mustContain(t, r.typed("alice", "help"), "/ocim deploy")
}
