package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// writes counts the calls that change something in GitLab or in chat.
func (r *rig) writes() int {
	return r.lab.Calls("create") + r.lab.Calls("cancel") + r.chat.Calls("post") + r.chat.Calls("update")
}

// Every verb that changes something shows with --plan what it would do, and sends nothing, changes
// nothing and wakes nothing, however long one waits. The same line without --plan does it.
func TestPlanSendsNothing(t *testing.T) {
	t.Parallel()
	lines := map[string]string{"deploy": "deploy campus version=21", "cancel": "cancel demo", "retry": "retry eu/shop"}
	for _, cmd := range table() {
		if !cmd.Mutates {
			continue
		}
		t.Run(cmd.Name, func(t *testing.T) {
			t.Parallel()
			line, ok := lines[cmd.Name]
			if !ok {
				t.Fatalf("%s changes something and has no line in this test", cmd.Name)
			}
			r := newRig(t)
			r.typed("alice", "deploy eu/shop")
			r.settle()
			r.clock.Advance(3 * time.Second)
			r.settle()
			roots, _ := r.lab.Roots()
			r.lab.SetStatus(roots[0].Ref.ID, "failed")
			for range 60 {
				r.clock.Advance(time.Minute)
				r.settle()
			}
			r.typed("alice", "deploy demo")
			r.settle()
			r.clock.Advance(3 * time.Second)
			r.settle()
			before, rows := r.writes(), shape(r.all())

			for _, form := range []string{line + " --plan", line + " —plan", strings.Replace(line, " ", " --plan ", 1)} {
				got := r.says("alice", form)
				if !strings.Contains(got, "Plan: ") || !strings.Contains(got, "Nothing was sent") {
					t.Errorf("%q: got %q, want a plan", form, got)
				}
			}
			r.settle()
			if n := r.writes() - before; n != 0 {
				t.Errorf("the plan made %d calls that change something, want none", n)
			}
			if got := shape(r.all()); got != rows {
				t.Errorf("the plan left %s, want %s", got, rows)
			}

			r.typed("alice", line)
			r.settle()
			r.clock.Advance(3 * time.Second)
			r.settle()
			if r.writes() == before || shape(r.all()) == rows {
				t.Errorf("%q did nothing: the counters of this test count nothing", line)
			}
		})
	}
}

func shape(all []ops.Operation) string {
	var b strings.Builder
	for _, op := range all {
		b.WriteString(op.ID + " " + string(op.State) + " " + op.Key + "; ")
	}
	return b.String()
}

// What deploy --plan shows is what is then sent: the same fields with the same values, but for those
// that are new each time.
func TestPlanIsWhatIsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	plan := r.says("alice", `deploy demo version=21 note="a <b> & c" --plan`)
	r.typed("alice", `deploy demo version=21 note="a <b> & c"`)
	r.settle()
	r.clock.Advance(3 * time.Second)
	r.settle()
	_, specs := r.lab.Roots()
	if len(specs) != 1 {
		t.Fatalf("got %d pipelines, want 1", len(specs))
	}
	body := planBody(specs[0])
	for line := range strings.SplitSeq(body, "\n") {
		if strings.Contains(line, "ocim_key") || strings.Contains(line, "ocim_ref") || strings.Contains(line, "DEPLOYMENT_REQUEST_ID") {
			continue
		}
		if !strings.Contains(plan, line) {
			t.Errorf("%q is sent and not in the plan:\n%s", line, plan)
		}
	}
	if strings.Count(plan, "\n  \"") != strings.Count(body, "\n  \"") {
		t.Errorf("the plan has other fields than what is sent:\n%s\n%s", plan, body)
	}
}

// A secret is taken by the form, reaches GitLab, and stands nowhere else: no card, answer, log line
// or file.
func TestSecretParameterIsShownNowhere(t *testing.T) {
	t.Parallel()
	const hush = "open-sesame-and-more"
	dir := t.TempDir()
	r := newRigIn(t, dir)
	var seen strings.Builder
	show := func(a chat.Answer) {
		seen.WriteString(shown(a))
		for _, o := range a.Options {
			seen.WriteString(o.Label)
		}
	}
	r.typed("alice", "deploy")
	show(r.sends("alice", map[string]string{"instance": "eu/demo", "params": "password=short color=red"}))
	show(r.sends("alice", map[string]string{"instance": "eu/demo", "params": "password=" + hush + " color=red", "why": "test"}))
	r.settle()
	r.clock.Advance(3 * time.Second)
	r.settle()
	_, specs := r.lab.Roots()
	if len(specs) != 1 || specs[0].Payload["PASSWORD"] != hush {
		t.Fatalf("GitLab got %+v, want the password", specs)
	}
	roots, _ := r.lab.Roots()
	r.lab.AddJob(ops.Job{Name: "init", Status: "failed", Pipeline: roots[0].Ref.ID}, "the password is "+hush)
	show(r.typed("alice", "logs demo"))
	r.lab.SetStatus(roots[0].Ref.ID, "failed")
	for range 30 {
		r.clock.Advance(10 * time.Second)
		r.settle()
	}
	for _, line := range []string{"status demo", "operations", "operations demo", "logs demo", "retry demo --plan", "retry demo", "cancel demo --plan"} {
		show(r.typed("alice", line))
	}
	r.settle()
	card := ""
	for _, s := range r.chat.Sent() {
		for _, v := range s.Versions {
			card += read(&v)
			seen.WriteString(v.Summary)
		}
	}
	seen.WriteString(card)
	if !strings.Contains(card, "password=***") || !strings.Contains(card, "color=red") {
		t.Errorf("got card %q, want it to tell that a password was given", card)
	}
	if !strings.Contains(seen.String(), "the password is ***") || !strings.Contains(seen.String(), `"PASSWORD": "***"`) {
		t.Errorf("got %q, want log and plan with the secret masked", seen.String())
	}
	if strings.Contains(seen.String(), hush) {
		t.Errorf("people are shown the secret: %s", seen.String())
	}
	if strings.Contains(r.logs.String(), hush) {
		t.Error("the secret is in the log")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got files %v, %v, want the store's", files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), hush) {
			t.Errorf("the secret is in %s", filepath.Base(path))
		}
	}
}
