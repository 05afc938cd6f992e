package gitlabtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab/gitlabtest"
)

// plainWorld is a server with one plain project, 7, that runs the script.
func plainWorld(t *testing.T, script gitlabtest.Script) *world {
	t.Helper()
	w := newWorld(t)
	w.AddProject(gitlabtest.Project{
		ID: 7, TriggerToken: "glptt-7", Behaviour: gitlabtest.Plain(script),
		Tokens: []gitlabtest.Token{{Value: writeToken, User: "grove-bot", Role: gitlabtest.Maintainer}},
	})
	return w
}

// run starts a pipeline of project 7.
func (w *world) run() int64 {
	w.t.Helper()
	var p struct{ ID int64 }
	w.want(201, "POST", "projects/7/trigger/pipeline", "", map[string]any{"ref": "main", "token": "glptt-7"}, &p)
	return p.ID
}

func one(stage string, jobs ...gitlabtest.Job) gitlabtest.Stage {
	return gitlabtest.Stage{Name: stage, Jobs: jobs}
}

func TestStatusFollowsTheJobs(t *testing.T) {
	t.Parallel()
	minute := func(name string) gitlabtest.Job { return gitlabtest.Job{Name: name, Duration: time.Minute} }
	tolerated, optional, broken := minute("lint"), minute("docs"), minute("unit")
	tolerated.Fails, tolerated.AllowFailure = "script_failure", true
	optional.Manual, optional.AllowFailure = true, true
	broken.Fails = "runner_system_failure"
	child := &gitlabtest.Script{Stages: []gitlabtest.Stage{one("x", broken)}}
	tests := []struct {
		name   string
		stages []gitlabtest.Stage
		status string
		label  string
		jobs   []string
	}{
		{"all good", []gitlabtest.Stage{one("a", minute("a")), one("b", minute("b"))}, "success", "passed", []string{"success", "success"}},
		{
			"tolerated failure",
			[]gitlabtest.Stage{one("a", tolerated), one("b", minute("b"))},
			"success", "passed with warnings",
			[]string{"failed", "success"},
		},
		{"optional manual job", []gitlabtest.Stage{one("a", optional), one("b", minute("b"))}, "success", "passed", []string{"manual", "success"}},
		{"failure stops the rest", []gitlabtest.Stage{one("a", broken), one("b", minute("b"))}, "failed", "failed", []string{"failed", "skipped"}},
		{
			"a child that is waited for",
			[]gitlabtest.Stage{one("a", gitlabtest.Job{Name: "child", Child: child})},
			"failed", "failed",
			[]string{"failed"},
		},
		{
			"a child that is let go",
			[]gitlabtest.Stage{one("a", gitlabtest.Job{Name: "child", Child: child, Detached: true})},
			"success", "passed",
			[]string{"success"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := plainWorld(t, gitlabtest.Script{Stages: tt.stages})
			id := w.run()
			w.pass(10 * time.Minute)
			var p struct {
				Status string
				Detail struct{ Label string } `json:"detailed_status"`
			}
			w.want(200, "GET", "projects/7/pipelines/"+itoa(id), writeToken, nil, &p)
			if p.Status != tt.status || p.Detail.Label != tt.label {
				t.Errorf("got %s (%s), want %s (%s)", p.Status, p.Detail.Label, tt.status, tt.label)
			}
			state, err := w.Pipeline(id)
			if err != nil {
				t.Fatal(err)
			}
			var jobs []string
			for _, j := range state.Jobs {
				jobs = append(jobs, j.Status)
			}
			if d := cmp.Diff(tt.jobs, jobs); d != "" {
				t.Errorf("jobs (-want +got):\n%s", d)
			}
		})
	}
}

func TestAnEndIsNotFinal(t *testing.T) {
	t.Parallel()
	late := gitlabtest.Job{Name: "purge", Manual: true, AllowFailure: true, Duration: time.Minute}
	w := plainWorld(t, gitlabtest.Script{Stages: []gitlabtest.Stage{one("a", gitlabtest.Job{Name: "a"}), one("b", late)}})
	id := w.run()
	w.pass(time.Minute)
	if got := w.status(id); got != "success" {
		t.Fatalf("got %s, want success", got)
	}
	p, err := w.Pipeline(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.PlayJob(p.Jobs[1].ID); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if got := w.status(id); got != "running" {
		t.Errorf("after the manual job was played: got %s, want running", got)
	}
	w.pass(2 * time.Minute)
	again, err := w.RetryJob(p.Jobs[0].ID)
	if err != nil || again == p.Jobs[0].ID {
		t.Errorf("retry: got job %d, %v, want a new one", again, err)
	}
	w.pass(time.Second)
	if got := w.status(id); got != "success" {
		t.Errorf("after the retry: got %s, want success", got)
	}
}

func TestControlsByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *gitlabtest.Options) { o.Frozen = true })
	id := w.trigger("demo", "1", "k")
	w.pass(0)
	p, err := w.Pipeline(id)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct{ job, want string }{{"running", "running"}, {"success", "running"}}
	for _, s := range steps {
		if err := w.SetJobStatus(p.Jobs[0].ID, s.job, ""); err != nil {
			t.Fatal(err)
		}
		if got := w.status(id); got != s.want {
			t.Errorf("pipeline with a job in %s: got %s, want %s", s.job, got, s.want)
		}
	}
	if err := w.SetJobStatus(p.Jobs[1].ID, "failed", "script_failure"); err != nil {
		t.Fatal(err)
	}
	if got := w.status(id); got != "failed" {
		t.Errorf("after a failed job: got %s, want failed", got)
	}
	if err := w.RetryPipeline(id); err != nil {
		t.Fatal(err)
	}
	if err := w.CancelPipeline(id); err != nil {
		t.Fatal(err)
	}
	if got := w.status(id); got != "canceled" {
		t.Errorf("got %s, want canceled", got)
	}
	if err := w.DeletePipeline(id); err != nil {
		t.Fatal(err)
	}
	w.want(404, "GET", "projects/42/pipelines/"+itoa(id), readToken, nil, nil)
	for name, err := range map[string]error{
		"Finish": w.Finish(id, "success"), "SetStatus": w.SetStatus(1, "failed"), "PlayJob": w.PlayJob(1),
		"SetJobStatus": w.SetJobStatus(1, "failed", ""), "Merge": w.Merge(42, "nowhere"),
	} {
		if !errors.Is(err, gitlabtest.ErrNotFound) {
			t.Errorf("%s of something unknown: got %v, want ErrNotFound", name, err)
		}
	}
}

func TestMergeRequestThatWasLeftOpenCanBeMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Override(42, gitlabtest.Override{LeaveMergeRequestOpen: true})
	w.trigger("demo", "4", "k")
	w.pass(time.Hour)
	var open []struct{ Title string }
	w.want(200, "GET", "projects/42/merge_requests?state=opened&source_branch=deployment%2Fdemo%2F4", readToken, nil, &open)
	if len(open) != 1 {
		t.Fatalf("open merge requests: got %d, want 1", len(open))
	}
	if err := w.Merge(42, "deployment/demo/4"); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	if n := len(w.Pipelines(42)); n != 4 {
		t.Errorf("pipelines: got %d, want 4", n)
	}
}

func TestRevokedTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.RevokeToken(readToken)
	w.RevokeToken(triggerToken)
	w.want(401, "GET", "projects/42", readToken, nil, nil)
	w.want(404, "POST", "projects/42/trigger/pipeline", "", deploy("demo", "1", "k"), nil)
}

// TestSpeed runs a whole deployment on the machine's own clock, 25 minutes in a blink.
func TestSpeed(t *testing.T) {
	t.Parallel()
	s := gitlabtest.New(gitlabtest.Options{Speed: 20000})
	s.AddProject(gitlabtest.Project{ID: 42, TriggerToken: triggerToken, Behaviour: gitlabtest.Grove()})
	if err := s.Start(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	w := &world{Server: s, t: t}
	w.trigger("demo", "1", "k")
	over := func() bool {
		all := s.Pipelines(42)
		return len(all) == 4 && all[1].Status == "success"
	}
	if err := s.Until(ctx, over); err != nil {
		t.Errorf("wait for the end: %v", err)
	}
	cancel()
	<-done
}
