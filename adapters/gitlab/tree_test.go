package gitlab_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

// shape is a snapshot's pipelines in few words: role, id, parent, status and jobs.
func shape(snap ops.Snapshot) []string {
	var all []string
	for _, p := range snap.Pipelines {
		s := fmt.Sprintf("%s %s/%d", p.Role, p.Ref.Project, p.Ref.ID)
		if p.Parent != 0 {
			s += fmt.Sprintf(" of %d by %s", p.Parent, p.Bridge)
		}
		all = append(all, fmt.Sprintf("%s %s %s %d/%d", s, p.Source, p.Status, p.Jobs.Done, p.Jobs.Total))
	}
	return all
}

// TestTreeFollowsADeployToItsEnd reads one Grove deploy from its trigger to the last child.
func TestTreeFollowsADeployToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.create(spec()).Ref
	steps := []struct {
		after time.Duration
		want  []string
	}{
		{time.Second, []string{"root cluster/9001 trigger pending 0/3"}},
		{10 * time.Second, []string{"root cluster/9001 trigger running 0/3"}},
		{76 * time.Second, []string{"root cluster/9001 trigger success 3/3"}},
		{40 * time.Second, []string{
			"root cluster/9001 trigger success 3/3",
			"follow cluster/9002 push running 1/1",
			"child cluster/9003 of 9002 by terraform parent_pipeline running 0/3",
		}},
		{time.Hour, []string{
			"root cluster/9001 trigger success 3/3",
			"follow cluster/9002 push success 1/1",
			"child cluster/9003 of 9002 by terraform parent_pipeline success 3/3",
			"child cluster/9004 of 9002 by deploy-instance parent_pipeline success 6/6",
		}},
	}
	var known []ops.Pipeline
	for i, step := range steps {
		w.clock.Advance(step.after)
		snap := w.tree(tree(root, known...))
		if diff := cmp.Diff(step.want, shape(snap)); diff != "" {
			t.Fatalf("step %d (-want +got):\n%s", i, diff)
		}
		if i == 1 {
			if j := snap.Pipelines[0].Jobs; j.Running != "prepare" || j.Stage != "prepare" || j.MaxID == 0 {
				t.Errorf("running job: got %+v, want prepare", j)
			}
		}
		if i >= 2 && (snap.MergeRequest == nil || snap.MergeRequest.State != "merged" || snap.MergeRequest.URL == "") {
			t.Errorf("step %d: merge request: got %+v, want a merged one", i, snap.MergeRequest)
		}
		if len(snap.FailedJobs) != 0 {
			t.Errorf("step %d: failed jobs: got %v, want none", i, snap.FailedJobs)
		}
		known = snap.Pipelines
	}

	w.clock.Advance(2 * time.Minute)
	before := len(w.server.Ledger())
	again := w.tree(tree(root, known...))
	if diff := cmp.Diff(known, again.Pipelines); diff != "" {
		t.Errorf("second look (-first +second):\n%s", diff)
	}
	for _, e := range w.server.Ledger()[before:] {
		if e.Route == "pipeline_jobs" || strings.HasSuffix(e.Path, "/jobs") || strings.HasSuffix(e.Path, "/bridges") {
			t.Errorf("second look read %s, which cannot have changed", e.Path)
		}
	}
}

// TestTreeIgnoresOtherDeploysOnTheSameCommit: the next deploy's root runs on our merge commit.
func TestTreeIgnoresOtherDeploysOnTheSameCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.create(spec()).Ref
	w.clock.Advance(100 * time.Second)
	other := withKey(strings.Repeat("a", 32))
	other.Variables = map[string]string{"INSTANCE_NAME": "campus", "DEPLOYMENT_REQUEST_ID": "1732", "NEW_INSTANCE_TRIGGER": "1"}
	w.create(other)
	w.clock.Advance(2 * time.Hour)
	for _, p := range w.tree(tree(root)).Pipelines {
		if got, err := w.server.Pipeline(p.Ref.ID); err != nil || got.Instance != "demo" {
			t.Errorf("pipeline %d is of %q (%v), want demo's only", p.Ref.ID, got.Instance, err)
		}
	}
}

func TestTreeReportsFailedJobsAndAnOpenMergeRequest(t *testing.T) {
	t.Parallel()
	t.Run("failed job in a child", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.server.Override(42, gitlabtest.Override{FailJob: "deploy", FailureReason: "runner_system_failure"})
		root := w.create(spec()).Ref
		w.clock.Advance(2 * time.Hour)
		snap := w.tree(tree(root))
		if len(snap.FailedJobs) != 1 {
			t.Fatalf("failed jobs: got %+v, want one", snap.FailedJobs)
		}
		j := snap.FailedJobs[0]
		if j.Name != "deploy" || j.FailureReason != "runner_system_failure" || j.Pipeline != 9004 || j.URL == "" {
			t.Errorf("failed job: got %+v, want deploy of 9004", j)
		}
		w.clock.Advance(time.Hour)
		if again := w.tree(tree(root, snap.Pipelines...)); len(again.FailedJobs) != 1 {
			t.Errorf("failed jobs of the second look: got %v, want the evidence again", again.FailedJobs)
		}
	})
	t.Run("merge request left open", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.server.Override(42, gitlabtest.Override{LeaveMergeRequestOpen: true})
		root := w.create(spec()).Ref
		w.clock.Advance(2 * time.Hour)
		snap := w.tree(tree(root))
		if len(snap.Pipelines) != 1 || snap.MergeRequest == nil || snap.MergeRequest.State != "opened" {
			t.Errorf("got %v and %+v, want the root and an open merge request", shape(snap), snap.MergeRequest)
		}
	})
	t.Run("manual job", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.server.Override(42, gitlabtest.Override{ManualJob: "merge-request"})
		root := w.create(spec()).Ref
		w.clock.Advance(2 * time.Hour)
		p := w.tree(tree(root)).Pipelines[0]
		if p.Status != "manual" || p.Jobs.Manual != "merge-request" {
			t.Errorf("got %s, manual job %q, want manual, merge-request", p.Status, p.Jobs.Manual)
		}
	})
}

// TestO66_UnknownStatusIsKeptAsItIs covers words of GitLab that are newer than ocim.
func TestO66_UnknownStatusIsKeptAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.create(spec()).Ref
	for _, status := range []string{
		"created", "waiting_for_resource", "preparing", "waiting_for_callback", "pending", "running", "success", "failed",
		"canceling", "canceled", "skipped", "manual", "scheduled", "contemplating",
	} {
		w.must(w.server.SetStatus(root.ID, status))
		if got := w.tree(ops.TreeSpec{Root: root}).Pipelines[0].Status; got != status {
			t.Errorf("status: got %q, want %q", got, status)
		}
	}
}

func TestTreeTellsAMissingRootFromAMissingChild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.create(spec()).Ref
	w.clock.Advance(2 * time.Hour)
	var faults []*gitlabtest.Injected
	for _, p := range []string{"/pipelines/9003", "/pipelines/9004"} {
		faults = append(faults, w.server.Inject(gitlabtest.Fault{
			Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, p) },
			Do:    gitlabtest.Answer(404, gitlabtest.JSONHeader(), `{"message":"404 Not found"}`),
		}))
	}
	want := []string{
		"root cluster/9001 trigger success 3/3",
		"follow cluster/9002 push success 1/1",
		"child cluster/9003 of 9002 by terraform parent_pipeline success 0/0",
		"child cluster/9004 of 9002 by deploy-instance parent_pipeline success 0/0",
	}
	if diff := cmp.Diff(want, shape(w.tree(tree(root)))); diff != "" {
		t.Errorf("children that lag (-want +got):\n%s", diff)
	}
	faults = append(faults, w.server.Inject(gitlabtest.Fault{
		Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/pipelines/9002/jobs") },
		Do:    gitlabtest.Answer(404, gitlabtest.JSONHeader(), `{"message":"404 Not found"}`),
	}))
	if _, err := w.Tree(t.Context(), tree(root)); ops.CodeOf(err) != ops.CodeUnavailable {
		t.Errorf("404 below the root: got %v, want unavailable", err)
	}
	for _, f := range faults {
		f.Remove()
	}
	w.must(w.server.DeletePipeline(root.ID))
	if _, err := w.Tree(t.Context(), tree(root)); ops.CodeOf(err) != ops.CodeNotFound || ops.ReasonOf(err) != ops.ReasonPipelineDeleted {
		t.Errorf("deleted root: got %v, want not_found pipeline_deleted", err)
	}
}

// canned answers GET requests by path and query.
func canned(t *testing.T, answers map[string]string) (*gitlab.Adapter, *clock.Fake) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/api/v4/projects/")
		if q := r.URL.Query(); q.Get("sha") != "" {
			path += "?sha"
		} else if q.Get("source") != "" {
			path += "?" + q.Get("source")
		}
		body, ok := answers[path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			body = `{"message":"404 Not Found"}`
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(srv.Close)
	clk := clock.NewFake(start())
	return newAdapter(t, gitlab.Config{Clock: clk, Rate: 1000, Burst: 1000, Projects: map[string]gitlab.Project{
		"cluster": {BaseURL: srv.URL, ID: 42, Token: secret.New(readToken)},
		"other":   {BaseURL: srv.URL, ID: 50, Token: secret.New(readToken)},
	}}), clk
}

// TestTreeFollowsCommitsByTheirTitle covers merges whose request is gone, and Grove's commit forms.
func TestTreeFollowsCommitsByTheirTitle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, message string
		want          bool
	}{
		{"merge", "Merge branch 'deployment/demo/1731' into 'main'\n\nbody", true},
		{"autodeploy", "[AutoDeploy][Update] demo|1731", true},
		{"autodeploy of several", "[AutoDeploy][Create] campus|1730,demo|1731", true},
		{"legacy", "[AutoDeploy] demo:1731 - deploy new instance :rocket:", true},
		{"another number", "[AutoDeploy][Update] demo|1732", false},
		{"another instance", "Merge branch 'deployment/demo2/1731' into 'main'", false},
		{"no number", "[AutoDeploy][Update] demo", false},
		{"body only", "Fix\n\n[AutoDeploy][Update] demo|1731", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sha := strings.Repeat("ab", 20)
			a, _ := canned(t, map[string]string{
				"42/pipelines/7":               `{"id":7,"ref":"main","status":"success","source":"trigger","started_at":"2026-05-04T10:00:00Z"}`,
				"42/pipelines/8":               `{"id":8,"ref":"main","status":"running","source":"push"}`,
				"42/pipelines/7/jobs":          `[]`,
				"42/pipelines/8/jobs":          `[]`,
				"42/pipelines/7/bridges":       `[]`,
				"42/pipelines/8/bridges":       `[]`,
				"42/merge_requests":            `[]`,
				"42/pipelines?push":            `[{"id":8,"ref":"main","source":"push","sha":"` + sha + `"},{"id":9,"ref":"main","source":"push","sha":"../../user"}]`,
				"42/repository/commits/" + sha: fmt.Sprintf(`{"message":%q,"title":"cut..."}`, tt.message),
			})
			snap, err := a.Tree(t.Context(), tree(ops.PipelineRef{Project: "cluster", ID: 7}))
			if err != nil {
				t.Fatalf("Tree: %v", err)
			}
			want := []string{"root cluster/7 trigger success 0/0"}
			if tt.want {
				want = append(want, "follow cluster/8 push running 0/0")
			}
			if diff := cmp.Diff(want, shape(snap)); diff != "" {
				t.Errorf("pipelines (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTreeShowsPipelinesOfOtherProjects: one in a configured project is read, one elsewhere is shown
// as its bridge shows it, and a bridge without a pipeline is waited for or blamed.
func TestTreeShowsPipelinesOfOtherProjects(t *testing.T) {
	t.Parallel()
	a, _ := canned(t, map[string]string{
		"42/pipelines/7":      `{"id":7,"status":"failed","source":"trigger"}`,
		"42/pipelines/7/jobs": `[{"id":3,"name":"b","status":"failed","finished_at":"2026-05-04T10:00:05.123Z"},{"id":2,"name":"a","status":"failed","allow_failure":true,"duration":0.5,"queued_duration":0.1}]`,
		"42/pipelines/7/trigger_jobs": `[
			{"id":10,"name":"here","status":"success","downstream_pipeline":{"id":70,"project_id":50,"status":"running"}},
			{"id":11,"name":"there","status":"failed","finished_at":"2026-05-04 10:00:04 UTC","downstream_pipeline":{"id":71,"project_id":77,"status":"failed","web_url":"https://gitlab.example.com/x/-/pipelines/71"}},
			{"id":12,"name":"not yet","status":"pending","downstream_pipeline":null},
			{"id":13,"name":"never","status":"failed","failure_reason":"downstream_pipeline_creation_failed","finished_at":"2026-05-04T12:00:00+02:00"},
			{"id":14,"name":"loop","status":"running","downstream_pipeline":{"id":7,"project_id":42,"status":"running"}}]`,
		"50/pipelines/70":         `{"id":70,"status":"success","source":"pipeline"}`,
		"50/pipelines/70/jobs":    `[{"id":20,"status":"success","name":"c"}]`,
		"50/pipelines/70/bridges": `[]`,
	})
	snap, err := a.Tree(t.Context(), ops.TreeSpec{Root: ops.PipelineRef{Project: "cluster", ID: 7}})
	if err != nil {
		t.Fatalf("Tree: %v", err)
	}
	want := []string{
		"root cluster/7 trigger failed 2/2",
		"child other/70 of 7 by here pipeline success 1/1",
		"child id:77/71 of 7 by there  failed 0/0",
	}
	if diff := cmp.Diff(want, shape(snap)); diff != "" {
		t.Errorf("pipelines (-want +got):\n%s", diff)
	}
	var failed []string
	for _, j := range snap.FailedJobs {
		failed = append(failed, j.Name)
	}
	if diff := cmp.Diff([]string{"never", "there", "b"}, failed); diff != "" {
		t.Errorf("failed jobs, oldest first (-want +got):\n%s", diff)
	}
	if err := a.Cancel(t.Context(), snap.Pipelines[2].Ref); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("cancel in a project that is not configured: got %v, want denied", err)
	}
}

func TestCancelEndsAPipeline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.create(spec()).Ref
	for range 2 { // GitLab answers 200 also when nothing is left to cancel
		if err := w.Cancel(t.Context(), root); err != nil {
			t.Fatalf("Cancel: %v", err)
		}
	}
	if got := w.tree(tree(root)).Pipelines[0].Status; got != "canceled" {
		t.Errorf("status: got %s, want canceled", got)
	}
	if err := w.Cancel(t.Context(), ops.PipelineRef{Project: "cluster", ID: 1}); ops.CodeOf(err) != ops.CodeNotFound {
		t.Errorf("unknown pipeline: got %v, want not_found", err)
	}
	w.server.RevokeToken(writeToken)
	if err := w.Cancel(t.Context(), root); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("revoked token: got %v, want denied", err)
	}
}

func TestJobsAreListedOldestFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.create(spec()).Ref
	jobs, err := w.Jobs(t.Context(), root)
	if err != nil || len(jobs) != 3 {
		t.Fatalf("got %v %v, want three jobs", jobs, err)
	}
	var names []string
	for _, j := range jobs {
		names = append(names, j.Stage+"/"+j.Name)
	}
	if diff := cmp.Diff([]string{"prepare/prepare", "configure/push-branch", "merge/merge-request"}, names); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if _, err := w.Jobs(t.Context(), ops.PipelineRef{Project: "cluster", ID: 1}); ops.CodeOf(err) != ops.CodeNotFound {
		t.Errorf("unknown pipeline: got %v, want not_found", err)
	}
}

// Of a bridge that was retried, nothing that its first pipeline started is read any more.
func TestTreeLeavesOutWhatARetriedBridgeHadStarted(t *testing.T) {
	t.Parallel()
	pipeline := func(id int, status string) string {
		return fmt.Sprintf(`{"id":%d,"project_id":42,"status":%q,"ref":"main","sha":"x","created_at":"2026-05-04T09:00:00Z","updated_at":"2026-05-04T09:50:00Z"}`, id, status)
	}
	bridge := func(id, down int, name string) string {
		return fmt.Sprintf(`[{"id":%d,"name":%q,"stage":"a","status":"success","downstream_pipeline":%s}]`, id, name, pipeline(down, "success"))
	}
	answers := map[string]string{
		"1": pipeline(1, "success"), "1/jobs": "[]", "1/bridges": bridge(11, 4, "deploy"),
		"4": pipeline(4, "success"), "4/jobs": "[]", "4/bridges": bridge(12, 5, "helm"),
		"5": pipeline(5, "success"), "5/jobs": "[]", "5/bridges": "[]",
		"2": pipeline(2, "failed"), "2/jobs": "[]", "2/bridges": "[]",
		"3": pipeline(3, "failed"), "3/jobs": `[{"id":7,"name":"old","stage":"a","status":"failed"}]`, "3/bridges": "[]",
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[strings.TrimPrefix(r.URL.Path, "/api/v4/projects/42/pipelines/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			body = `{"message":"404 Not Found"}`
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(srv.Close)
	a := newAdapter(t, gitlab.Config{Clock: clock.NewFake(start()), Rate: 1000, Burst: 1000, Projects: map[string]gitlab.Project{
		"cluster": {BaseURL: srv.URL, ID: 42, Token: secret.New(readToken)},
	}})
	ref := func(id int64) ops.PipelineRef { return ops.PipelineRef{Project: "cluster", ID: id} }
	snap, err := a.Tree(t.Context(), ops.TreeSpec{Root: ref(1), Known: []ops.Pipeline{
		{Ref: ref(1), Role: ops.RoleRoot, Status: "running"},
		{Ref: ref(2), Role: ops.RoleChild, Parent: 1, Bridge: "deploy", Status: "failed"},
		{Ref: ref(3), Role: ops.RoleChild, Parent: 2, Bridge: "helm", Status: "failed"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Pipelines) != 3 || len(snap.FailedJobs) > 0 || len(snap.Gone) > 0 {
		t.Errorf("got %d pipelines, failed jobs %v and %v gone, want the three that count", len(snap.Pipelines), snap.FailedJobs, snap.Gone)
	}
}
