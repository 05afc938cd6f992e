package gitlabtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"ocim/adapters/gitlab/gitlabtest"
)

// client returns the official client, with its own decisions on what to retry but without its waits.
func (w *world) client(token string, options ...gitlab.ClientOptionFunc) *gitlab.Client {
	w.t.Helper()
	noWait := func(time.Duration, time.Duration, int, *http.Response) time.Duration { return 0 }
	var source gitlab.AuthSource = gitlab.Unauthenticated{}
	if token != "" {
		source = gitlab.AccessTokenAuthSource{Token: token}
	}
	c, err := gitlab.NewAuthSourceClient(source, append([]gitlab.ClientOptionFunc{
		gitlab.WithBaseURL(w.URL()), gitlab.WithCustomBackoff(noWait),
	}, options...)...)
	if err != nil {
		w.t.Fatalf("make a client: %v", err)
	}
	return c
}

// must fails the test on an error.
func must[T any](t *testing.T) func(v T, _ *gitlab.Response, err error) T {
	t.Helper()
	return func(v T, _ *gitlab.Response, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestOfficialClientDrivesPipelines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(writeToken)
	p := must[*gitlab.Pipeline](t)(w.client("").PipelineTriggers.RunPipelineTrigger(grovePath, &gitlab.RunPipelineTriggerOptions{
		Ref: new("main"), Token: new(triggerToken),
		Variables: map[string]string{"INSTANCE_NAME": "demo", "DEPLOYMENT_REQUEST_ID": "5"},
	}))
	if p.ID != 9001 || p.Status != "created" || p.Source != "trigger" {
		t.Errorf("trigger: got %d %s %s, want 9001 created trigger", p.ID, p.Status, p.Source)
	}
	w.pass(10 * time.Minute)
	list := must[[]*gitlab.PipelineInfo](t)(c.Pipelines.ListProjectPipelines(42, &gitlab.ListProjectPipelinesOptions{
		Source: new("trigger"), CreatedAfter: new(start().Add(-time.Minute)), OrderBy: new("id"),
	}))
	if len(list) != 1 || list[0].ID != p.ID {
		t.Errorf("list: got %d pipelines, want the one", len(list))
	}
	if got := must[*gitlab.Pipeline](t)(c.Pipelines.GetPipeline(42, p.ID)); got.Status != "success" || got.Duration == 0 {
		t.Errorf("get: got %s after %d s, want success and a duration", got.Status, got.Duration)
	}
	if vars := must[[]*gitlab.PipelineVariable](t)(c.Pipelines.GetPipelineVariables(42, p.ID)); len(vars) != 3 {
		t.Errorf("variables: got %d, want 3", len(vars))
	}
	bridges := must[[]*gitlab.Bridge](t)(c.Jobs.ListPipelineBridges(42, 9002, nil))
	if len(bridges) != 2 || bridges[0].DownstreamPipeline == nil || bridges[0].DownstreamPipeline.ID != 9004 {
		t.Errorf("bridges: got %d, want two, the newest with 9004", len(bridges))
	}
	must[*gitlab.Pipeline](t)(c.Pipelines.CancelPipelineBuild(42, 9002))
	w.pass(time.Second)
	must[*gitlab.Pipeline](t)(c.Pipelines.RetryPipelineBuild(42, 9002))
	plain := must[*gitlab.Pipeline](t)(c.Pipelines.CreatePipeline(43, &gitlab.CreatePipelineOptions{
		Ref: new("main"), Inputs: gitlab.PipelineInputsOption{"ocim_key": gitlab.NewPipelineInputValue("abc")},
		Variables: &[]*gitlab.PipelineVariableOptions{{Key: new("A"), Value: new("b")}},
	}))
	got := must[*gitlab.Pipeline](t)(c.Pipelines.GetPipeline(43, plain.ID))
	if got.Name != "deploy [abc]" {
		t.Errorf("name: got %q, want the input in it", got.Name)
	}
	if d := cmp.Diff([]int64{plain.ID}, w.PipelinesByKey("abc")); d != "" {
		t.Errorf("pipelines by key (-want +got):\n%s", d)
	}
}

func TestOfficialClientDrivesJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(writeToken)
	p := must[*gitlab.Pipeline](t)(c.Pipelines.CreatePipeline(43, &gitlab.CreatePipelineOptions{Ref: new("main")}))
	w.pass(10 * time.Second)
	jobs := must[[]*gitlab.Job](t)(c.Jobs.ListPipelineJobs(43, p.ID, nil))
	if len(jobs) != 2 || jobs[0].Name != "release" || jobs[1].Status != "running" {
		t.Fatalf("jobs: got %d, want release and a running build", len(jobs))
	}
	build := jobs[1].ID
	trace, err := io.ReadAll(must[interface{ Read([]byte) (int, error) }](t)(traceOf(c, build)))
	if err != nil || !strings.Contains(string(trace), "Running with gitlab-runner") {
		t.Errorf("trace: got %.80q, %v", trace, err)
	}
	must[*gitlab.Job](t)(c.Jobs.CancelJob(43, build))
	again := must[*gitlab.Job](t)(c.Jobs.RetryJob(43, build))
	if again.ID == build {
		t.Error("retry: got the old job id, want a new one")
	}
	w.pass(2 * time.Minute)
	if st := must[*gitlab.Pipeline](t)(c.Pipelines.GetPipeline(43, p.ID)).Status; st != "manual" {
		t.Errorf("pipeline before the manual job: got %s, want manual", st)
	}
	must[*gitlab.Job](t)(c.Jobs.PlayJob(43, jobs[0].ID, nil))
	w.pass(2 * time.Minute)
	if st := must[*gitlab.Job](t)(c.Jobs.GetJob(43, jobs[0].ID)).Status; st != "success" {
		t.Errorf("played job: got %s, want success", st)
	}
	all := must[[]*gitlab.Job](t)(c.Jobs.ListPipelineJobs(43, p.ID, &gitlab.ListJobsOptions{IncludeRetried: new(true)}))
	if len(all) != 3 {
		t.Errorf("jobs with retried ones: got %d, want 3", len(all))
	}
}

func traceOf(c *gitlab.Client, job int64) (interface{ Read([]byte) (int, error) }, *gitlab.Response, error) {
	r, resp, err := c.Jobs.GetTraceFile(43, job)
	return r, resp, err
}

func TestOfficialClientReadsTheRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "k")
	w.pass(2 * time.Minute)
	c, admin := w.client(writeToken), w.client(ownerToken)
	if p := must[*gitlab.Project](t)(c.Projects.GetProject(grovePath, nil)); p.ID != 42 || p.DefaultBranch != "main" {
		t.Errorf("project: got %d %s, want 42 main", p.ID, p.DefaultBranch)
	}
	tree := must[[]*gitlab.TreeNode](t)(c.Repositories.ListTree(42, &gitlab.ListTreeOptions{Path: new("instances")}))
	if len(tree) != 2 || tree[0].Name != "campus" || tree[0].Type != "tree" {
		t.Errorf("tree: got %d rows, want campus and demo", len(tree))
	}
	file := must[*gitlab.File](t)(c.RepositoryFiles.GetFile(42, "instances/demo/config.yml", &gitlab.GetFileOptions{Ref: new("main")}))
	if file.LastCommitID == "" || file.FileName != "config.yml" {
		t.Errorf("file: got %+v", file)
	}
	if raw := must[[]byte](t)(c.RepositoryFiles.GetRawFile(42, "instances/demo/config.yml", nil)); !strings.Contains(string(raw), "LMS_HOST") {
		t.Errorf("raw file: got %q", raw)
	}
	commits := must[[]*gitlab.Commit](t)(c.Commits.ListCommits(42, &gitlab.ListCommitsOptions{Path: new("instances/demo")}))
	if len(commits) != 3 {
		t.Errorf("commits below instances/demo: got %d, want the merge, its branch and the root", len(commits))
	}
	if head := must[*gitlab.Commit](t)(c.Commits.GetCommit(42, "main", nil)); head.LastPipeline == nil || head.LastPipeline.ID != 9002 {
		t.Errorf("commit: got no last pipeline 9002")
	}
	mrs := must[[]*gitlab.BasicMergeRequest](t)(c.MergeRequests.ListProjectMergeRequests(42, &gitlab.ListProjectMergeRequestsOptions{
		SourceBranch: new("deployment/demo/1"),
	}))
	if len(mrs) != 1 || mrs[0].State != "merged" {
		t.Errorf("merge requests: got %d, want one that is merged", len(mrs))
	}
	hook := must[*gitlab.ProjectHook](t)(admin.Projects.AddProjectHook(42, &gitlab.AddProjectHookOptions{
		URL: new("http://127.0.0.1:9/hook"), Token: new("t"), PipelineEvents: new(true),
	}))
	hooks := must[[]*gitlab.ProjectHook](t)(admin.Projects.ListProjectHooks(42, nil))
	if len(hooks) != 1 || hooks[0].ID != hook.ID || !hook.TokenPresent || hook.SigningTokenPresent || hook.AlertStatus != "executable" {
		t.Errorf("hooks: got %+v", hook)
	}
	if me := must[*gitlab.PersonalAccessToken](t)(c.PersonalAccessTokens.GetSinglePersonalAccessToken()); !me.Active || me.ExpiresAt == nil {
		t.Errorf("token: got %+v, want active with an end", me)
	}
	if u := must[*gitlab.User](t)(c.Users.CurrentUser()); u.Username != "grove-bot" {
		t.Errorf("user: got %s, want grove-bot", u.Username)
	}
	if v := must[*gitlab.Version](t)(c.Version.GetVersion()); !strings.HasPrefix(v.Version, "19.") {
		t.Errorf("version: got %s", v.Version)
	}
	x := must[*gitlab.Commit](t)(c.Commits.CreateCommit(42, &gitlab.CreateCommitOptions{
		Branch: new("main"), CommitMessage: new("[AutoDeploy][Update] demo|9"),
		Actions: []*gitlab.CommitActionOptions{{
			Action: gitlab.Ptr(gitlab.FileUpdate), FilePath: new("cluster.yml"), Content: new("a: b\n"),
		}},
	}))
	if x.LastPipeline == nil || x.LastPipeline.Source != "push" {
		t.Error("commit on the default branch: got no pipeline of source push")
	}
}

func TestOfficialClientParsesOurWebhooks(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	id := w.AddHook(42, gitlabtest.Hook{URL: r.URL, Token: "t", Jobs: true, Pushes: true})
	pipeline := w.trigger("demo", "1", "k")
	w.pass(2 * time.Minute)
	w.Deliver(within(t))
	for _, x := range r.all() {
		if _, err := gitlab.ParseWebhook(gitlab.EventType(x.header.Get("X-Gitlab-Event")), x.body); err != nil {
			t.Errorf("%s: %v", x.header.Get("X-Gitlab-Event"), err)
		}
	}
	header, body, err := w.BuildHook(id, pipeline)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := gitlab.ParseWebhook(gitlab.EventType(header.Get("X-Gitlab-Event")), body)
	if err != nil {
		t.Fatal(err)
	}
	e, isPipeline := parsed.(*gitlab.PipelineEvent)
	if !isPipeline || e.ObjectAttributes.ID != pipeline || e.ObjectAttributes.Status != "success" || len(e.Builds) != 3 {
		t.Errorf("got %T with %+v", parsed, parsed)
	}
}

// The tests below measure the official client itself, since ocim's own client stands on what they
// show.

func TestOfficialClientRepeatsAPostUnlessTold(t *testing.T) {
	t.Parallel()
	never := gitlab.WithRequestRetry(neverRetry)
	tests := []struct {
		name    string
		do      gitlabtest.Action
		client  []gitlab.ClientOptionFunc
		request []gitlab.RequestOptionFunc
		want    int
	}{
		{"500 before, by default", gitlabtest.Answer(500, nil, ""), nil, nil, 6},
		{"502 after, by default", gitlabtest.AnswerAfter(502, nil, ""), nil, nil, 6},
		{"429, by default", gitlabtest.RateLimited(0), nil, nil, 6},
		{"connection lost after, by default", gitlabtest.DropAfter(), nil, nil, 1},
		{"500, request without retries", gitlabtest.Answer(500, nil, ""), nil, []gitlab.RequestOptionFunc{never}, 1},
		{"502 after, request without retries", gitlabtest.AnswerAfter(502, nil, ""), nil, []gitlab.RequestOptionFunc{never}, 1},
		{"429, request without retries", gitlabtest.RateLimited(0), nil, []gitlab.RequestOptionFunc{never}, 1},
		{"500, client without retries", gitlabtest.Answer(500, nil, ""), []gitlab.ClientOptionFunc{gitlab.WithoutRetries()}, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Inject(gitlabtest.Fault{Route: "trigger", Do: tt.do})
			_, _, err := w.client("", tt.client...).PipelineTriggers.RunPipelineTrigger(42, &gitlab.RunPipelineTriggerOptions{
				Ref: new("main"), Token: new(triggerToken),
			}, tt.request...)
			if err == nil {
				t.Error("got no error, want one")
			}
			if got := len(w.Triggers()); got != tt.want {
				t.Errorf("requests: got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestOfficialClientThrowsTheBodyOfA404Away(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, err := w.client(readToken).Pipelines.GetPipeline(42, 1)
	if !errors.Is(err, gitlab.ErrNotFound) {
		t.Errorf("unknown pipeline: got %v, want ErrNotFound", err)
	}
	_, _, bad := w.client("").PipelineTriggers.RunPipelineTrigger(42, &gitlab.RunPipelineTriggerOptions{
		Ref: new("main"), Token: new("wrong"),
	})
	if !errors.Is(bad, gitlab.ErrNotFound) || bad.Error() != err.Error() {
		t.Errorf("wrong trigger token: got %v, want the same as %v", bad, err)
	}
}

func TestOfficialClientKeepsTheBodyOfOtherErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, err := w.client("").PipelineTriggers.RunPipelineTrigger(42, &gitlab.RunPipelineTriggerOptions{
		Ref: new("nowhere"), Token: new(triggerToken),
	})
	var e *gitlab.ErrorResponse
	if !errors.As(err, &e) || string(e.Body) != `{"message":{"base":["Reference not found"]}}` {
		t.Errorf("got %v, want an ErrorResponse with GitLab's body", err)
	}
}

func TestOfficialClientSendsItsOwnTokenWithATrigger(t *testing.T) {
	t.Parallel()
	var got http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		w.WriteHeader(http.StatusBadRequest)
	}))
	t.Cleanup(s.Close)
	for token, want := range map[string]string{"": "", readToken: readToken} {
		w := newWorld(t)
		_, _, err := w.client(token, gitlab.WithBaseURL(s.URL)).PipelineTriggers.RunPipelineTrigger(42,
			&gitlab.RunPipelineTriggerOptions{Ref: new("main"), Token: new(triggerToken)})
		if err == nil {
			t.Error("got no error, want one")
		}
		if got.Get("Private-Token") != want {
			t.Errorf("PRIVATE-TOKEN: got %q, want %q", got.Get("Private-Token"), want)
		}
	}
}

func neverRetry(_ context.Context, _ *http.Response, err error) (bool, error) { return false, err }
