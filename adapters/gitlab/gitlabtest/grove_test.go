package gitlabtest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab/gitlabtest"
)

func TestGroveDeploymentIsFourPipelines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.trigger("demo", "1731", "k1")
	if id != 9001 {
		t.Errorf("first pipeline: got id %d, want 9001", id)
	}
	w.pass(90 * time.Second)
	if got := w.status(id); got != "success" {
		t.Fatalf("first pipeline after 90 s: got %s, want success", got)
	}
	w.pass(30 * time.Minute)
	type row struct {
		ID, Parent     int64
		Source, Status string
	}
	var got []row
	for _, p := range w.Pipelines(42) {
		got = append(got, row{p.ID, p.Parent, p.Source, p.Status})
	}
	want := []row{
		{9001, 0, "trigger", "success"},
		{9002, 0, "push", "success"},
		{9003, 9002, "parent_pipeline", "success"},
		{9004, 9002, "parent_pipeline", "success"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("pipelines (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]int64{9001}, w.PipelinesByKey("k1")); d != "" {
		t.Errorf("pipelines by key (-want +got):\n%s", d)
	}
	if n := len(w.Writes()); n != 1 {
		t.Errorf("writes in the ledger: got %d, want 1", n)
	}
	if d := cmp.Diff(map[string]string{"deployment/demo/1731": "merged"}, w.MergeRequests(42)); d != "" {
		t.Errorf("merge requests (-want +got):\n%s", d)
	}
	var commits []struct{ Title string }
	w.want(200, "GET", "projects/42/repository/commits", readToken, nil, &commits)
	if want := "Merge branch 'deployment/demo/1731' into 'main'"; commits[0].Title != want {
		t.Errorf("newest commit: got %q, want %q", commits[0].Title, want)
	}
}

func TestOperationHasAGapBetweenItsPipelines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "k")
	w.pass(87 * time.Second)
	if n := len(w.Pipelines(42)); n != 1 || w.status(9001) != "success" {
		t.Fatalf("after the merge: got %d pipelines and %s, want 1 and success", n, w.status(9001))
	}
	w.pass(2 * time.Second)
	if n := len(w.Pipelines(42)); n != 2 {
		t.Errorf("after the delay: got %d pipelines, want 2", n)
	}
}

func TestTerraformRunsOneAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "a")
	w.trigger("campus", "2", "b")
	w.pass(3 * time.Minute)
	waiting := 0
	for _, p := range w.Pipelines(42) {
		if p.Source == "push" && p.Status == "waiting_for_resource" {
			waiting++
		}
	}
	if waiting != 1 {
		t.Errorf("second deployments that wait for the resource: got %d, want 1", waiting)
	}
	w.pass(40 * time.Minute)
	for _, p := range w.Pipelines(42) {
		if p.Status != "success" {
			t.Errorf("pipeline %d at the end: got %s, want success", p.ID, p.Status)
		}
	}
}

func TestFailureInAChildFailsTheParentAndRetryHealsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Override(42, gitlabtest.Override{Instance: "demo", FailJob: "deploy"})
	w.trigger("demo", "1", "a")
	w.pass(40 * time.Minute)
	if a, b := w.status(9002), w.status(9004); a != "failed" || b != "failed" {
		t.Fatalf("got parent %s and child %s, want both failed", a, b)
	}
	var jobs []struct {
		ID            int64
		Name, Status  string
		FailureReason string `json:"failure_reason"`
	}
	w.want(200, "GET", "projects/42/pipelines/9004/jobs?scope=failed", readToken, nil, &jobs)
	if len(jobs) != 1 || jobs[0].Name != "deploy" || jobs[0].FailureReason != "script_failure" {
		t.Fatalf("failed jobs: got %+v, want deploy with script_failure", jobs)
	}
	log := w.want(200, "GET", "projects/42/jobs/"+itoa(jobs[0].ID)+"/trace", readToken, nil, nil)
	for _, part := range []string{"MYSQL_PASSWORD=", "section_start:", "\x1b[31;1mERROR: Job failed", "Traceback"} {
		if !strings.Contains(string(log.body), part) {
			t.Errorf("trace: got no %q in it", part)
		}
	}
	w.want(201, "POST", "projects/42/pipelines/9004/retry", writeToken, nil, nil)
	if got := w.status(9002); got != "running" {
		t.Errorf("parent after the retry of its child: got %s, want running", got)
	}
	w.pass(20 * time.Minute)
	if a, b := w.status(9002), w.status(9004); a != "success" || b != "success" {
		t.Errorf("after the retry: got parent %s and child %s, want both success", a, b)
	}
}

func TestCancelReachesChildren(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "a")
	w.pass(8 * time.Minute)
	w.want(200, "POST", "projects/42/pipelines/9002/cancel", writeToken, nil, nil)
	w.pass(time.Second)
	for _, p := range w.Pipelines(42)[1:] {
		if p.Status != "canceled" && p.Status != "success" {
			t.Errorf("pipeline %d: got %s, want canceled or success", p.ID, p.Status)
		}
	}
	if got := w.status(9002); got != "canceled" {
		t.Errorf("parent: got %s, want canceled", got)
	}
	w.want(200, "POST", "projects/42/pipelines/9002/cancel", writeToken, nil, nil)
}

func TestOverridesOfGrove(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		override gitlabtest.Override
		last     string
		count    int
		merge    string
	}{
		{"merge request left open", gitlabtest.Override{LeaveMergeRequestOpen: true}, "success", 1, "opened"},
		{"no second pipeline", gitlabtest.Override{NoFollowUp: true}, "success", 1, "merged"},
		{"manual job blocks", gitlabtest.Override{ManualJob: "push-branch"}, "manual", 1, ""},
		{"another instance", gitlabtest.Override{Instance: "campus", NoFollowUp: true}, "success", 4, "merged"},
		{"first job fails", gitlabtest.Override{FailJob: "prepare", FailureReason: "runner_system_failure"}, "failed", 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Override(42, tt.override)
			w.trigger("demo", "7", "k")
			w.pass(time.Hour)
			all := w.Pipelines(42)
			if len(all) != tt.count || all[len(all)-1].Status != tt.last {
				t.Errorf("got %d pipelines, the last %s, want %d and %s", len(all), all[len(all)-1].Status, tt.count, tt.last)
			}
			if got := w.MergeRequests(42)["deployment/demo/7"]; got != tt.merge {
				t.Errorf("merge request: got %q, want %q", got, tt.merge)
			}
		})
	}
}

func TestTriggerPayloadBringsUnknownParametersBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.trigger("demo", "1731", "0123456789abcdef")
	var vars []struct {
		Key, Value string
		Kind       string `json:"variable_type"`
	}
	w.want(200, "GET", "projects/42/pipelines/"+itoa(id)+"/variables", readToken, nil, &vars)
	found := false
	for _, v := range vars {
		if strings.Contains(v.Value, triggerToken) {
			t.Errorf("variable %s holds the trigger token", v.Key)
		}
		if v.Key != "TRIGGER_PAYLOAD" {
			continue
		}
		found = true
		var payload map[string]any
		if err := json.Unmarshal([]byte(v.Value), &payload); err != nil {
			t.Fatalf("decode TRIGGER_PAYLOAD: %v", err)
		}
		if v.Kind != "file" || payload["ocim_key"] != "0123456789abcdef" || payload["id"] != "42" || payload["ref"] != "main" {
			t.Errorf("TRIGGER_PAYLOAD: got %s %v, want a file with ocim_key, id and ref", v.Kind, payload)
		}
	}
	if !found {
		t.Error("variables: got no TRIGGER_PAYLOAD")
	}
}

func TestPipelinesCanBeDrivenByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *gitlabtest.Options) { o.Frozen = true })
	id := w.trigger("demo", "1", "k")
	w.pass(time.Hour)
	if got := w.status(id); got != "pending" {
		t.Errorf("frozen pipeline after an hour: got %s, want pending", got)
	}
	if err := w.Finish(id, "success"); err != nil {
		t.Fatal(err)
	}
	w.pass(3 * time.Second)
	if err := w.Finish(9002, "success"); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.Pipelines(42) {
		if p.Status != "success" {
			t.Errorf("pipeline %d: got %s, want success", p.ID, p.Status)
		}
	}
	if n := len(w.Pipelines(42)); n != 4 {
		t.Errorf("got %d pipelines, want 4", n)
	}
	if err := w.SetStatus(id, "quarantined"); err != nil {
		t.Fatal(err)
	}
	if got := w.status(id); got != "quarantined" {
		t.Errorf("got %s, want the status that was set", got)
	}
	other := w.trigger("demo", "2", "k2")
	if err := w.Finish(other, "failed"); err != nil {
		t.Fatal(err)
	}
	if got := w.status(other); got != "failed" {
		t.Errorf("got %s, want failed", got)
	}
}
