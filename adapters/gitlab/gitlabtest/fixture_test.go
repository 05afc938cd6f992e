package gitlabtest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab/gitlabtest"
)

// missingKeys lists the keys of want that got has not. Lists are compared by their first elements;
// null on either side ends the comparison, since an entity may be absent.
func missingKeys(at string, want, got any) []string {
	var missing []string
	switch want := want.(type) {
	case []any:
		rows, ok := got.([]any)
		if !ok {
			return []string{at + " is no list"}
		}
		if len(want) > 0 && len(rows) > 0 {
			return missingKeys(at+"[]", want[0], rows[0])
		}
	case map[string]any:
		if got == nil {
			return nil
		}
		object, ok := got.(map[string]any)
		if !ok {
			return []string{at + " is no object"}
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			v, ok := object[k]
			if !ok {
				missing = append(missing, at+"."+k)
				continue
			}
			missing = append(missing, missingKeys(at+"."+k, want[k], v)...)
		}
	}
	return missing
}

// dropKeys removes keys that are excused.
func dropKeys(keys []string, excused ...string) []string {
	return slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(excused, k) })
}

func TestAnswersHaveTheKeysOfRecordedBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	jobs, hook := prepare(t, w)
	// User objects of GitLab 8 to 10, which the documentation still shows, had these.
	old := []string{".user.skype", "[].user.skype"}
	tests := []struct {
		fixture, method, path, token string
		body                         any
		status                       int
		excused                      []string
	}{
		{"trigger-pipeline.201", "POST", "projects/42/trigger/pipeline", "", deploy("demo", "2", "k2"), 201, nil},
		{"pipeline.get", "GET", "projects/42/pipelines/9001", readToken, nil, 200, nil},
		{"pipeline.pending-with-nulls", "GET", "projects/42/pipelines/9001", readToken, nil, 200, nil},
		{"pipelines.list", "GET", "projects/42/pipelines", readToken, nil, 200, nil},
		{"pipeline-variables.list", "GET", "projects/42/pipelines/9001/variables", readToken, nil, 200, nil},
		{"pipeline-jobs.list", "GET", "projects/42/pipelines/9004/jobs?scope=failed", readToken, nil, 200, nil},
		{"pipeline-bridges.list", "GET", "projects/42/pipelines/9002/bridges", readToken, nil, 200, old},
		{"job.get", "GET", "projects/42/jobs/{deploy}", readToken, nil, 200, append(old,
			".artifacts_file", ".project.created_at", ".project.description", ".project.id", ".project.name",
			".project.name_with_namespace", ".project.path", ".project.path_with_namespace")},
		{"project-hooks.list", "GET", "projects/42/hooks", ownerToken, nil, 200, nil},
		{"repository-file.get", "GET", "projects/42/repository/files/cluster.yml?ref=main", readToken, nil, 200, nil},
		{"repository-tree.list", "GET", "projects/42/repository/tree", readToken, nil, 200, nil},
		{"commit.create", "GET", "projects/42/repository/commits/main", readToken, nil, 200, nil},
		{"project-access-token.rotated", "GET", "personal_access_tokens/self", readToken, nil, 200, []string{".access_level", ".token"}},
	}
	p, err := w.Pipeline(9004)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range p.Jobs {
		jobs[j.Name] = j.ID
	}
	if hook == 0 {
		t.Fatal("there is no hook")
	}
	for _, tt := range tests {
		var want, got any
		readFixture(t, "api/"+tt.fixture+".json", &want)
		path := tt.path
		for name, id := range jobs {
			path = strings.ReplaceAll(path, "{"+name+"}", itoa(id))
		}
		w.want(tt.status, tt.method, path, tt.token, tt.body, &got)
		for _, key := range dropKeys(missingKeys("", want, got), tt.excused...) {
			t.Errorf("%s: got no %s", tt.fixture, key)
		}
	}
}

func TestHooksHaveTheKeysOfCapturedOnes(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.AddHook(42, gitlabtest.Hook{URL: r.URL, Token: "t", SigningToken: signingToken(), Jobs: true, Pushes: true})
	w.SetHookRules(gitlabtest.HookRules{Early: true})
	w.Override(42, gitlabtest.Override{FailJob: "deploy", Operations: 1})
	w.trigger("demo", "1", "k")
	w.pass(45 * time.Minute)
	w.Deliver(within(t))
	// pick returns a hook of a kind in which some value occurs.
	pick := func(kind string, parts ...string) any {
		t.Helper()
		for _, x := range slices.Backward(r.all()) {
			all := x.header.Get("X-Gitlab-Event") == kind
			for _, p := range parts {
				all = all && strings.Contains(string(x.body), p)
			}
			if all {
				var v any
				if err := json.Unmarshal(x.body, &v); err != nil {
					t.Fatal(err)
				}
				return v
			}
		}
		t.Fatalf("got no %s with %q", kind, parts)
		return nil
	}
	tests := []struct {
		fixture string
		hook    any
		excused []string
	}{
		{"pipeline-pending.captured", pick("Pipeline Hook", `"status":"pending"`), nil},
		{"pipeline-running.captured", pick("Pipeline Hook", `"status":"running"`), nil},
		{"pipeline-success.captured", pick("Pipeline Hook", `"status":"success"`), nil},
		{"pipeline-failed.captured", pick("Pipeline Hook", `"status":"failed"`), nil},
		{"pipeline.docs", pick("Pipeline Hook", `"status":"success"`, "source_pipeline"), nil},
		{"pipeline-child-failed.derived", pick("Pipeline Hook", `"status":"failed"`, "source_pipeline"), nil},
		// The environment and the source pipeline were added to the capture by hand.
		{"job-success.captured", pick("Job Hook", `"build_status":"success"`, "source_pipeline"), nil},
		{"job-created.docs", pick("Job Hook", "source_pipeline"), nil},
		{"push.client-go", pick("Push Hook"), nil},
	}
	for _, tt := range tests {
		var want any
		readFixture(t, "webhooks/"+tt.fixture+".json", &want)
		for _, key := range dropKeys(missingKeys("", want, tt.hook), tt.excused...) {
			t.Errorf("%s: got no %s", tt.fixture, key)
		}
	}
	var recorded struct {
		Headers map[string]string `json:"pipeline_hook_delivery"`
	}
	readFixture(t, "webhooks/headers.json", &recorded)
	for name := range recorded.Headers {
		if r.all()[0].header.Get(name) == "" {
			t.Errorf("headers: got no %s", name)
		}
	}
}

// recordedError is an entry of errors.json.
type recordedError struct {
	Area, Case  string
	Status      int
	ContentType string `json:"content_type"`
	Body        any
}

// provocation is how a recorded error is brought about.
type provocation struct {
	method, path, token string
	body                any
	header              [2]string
	prepare             func(*world)
}

func project42(change func(*gitlabtest.Project)) func(*world) {
	return func(w *world) { w.UpdateProject(42, change) }
}

func trigger42(change func(map[string]any)) provocation {
	body := deploy("demo", "1", "k")
	change(body)
	return provocation{method: "POST", path: "projects/42/trigger/pipeline", body: body}
}

func with(p provocation, prepare func(*world)) provocation {
	p.prepare = prepare
	return p
}

func commit42(branch string, action map[string]any) provocation {
	return provocation{method: "POST", path: "projects/42/repository/commits", token: writeToken, body: map[string]any{
		"branch": branch, "commit_message": "m", "actions": []any{action},
	}}
}

// provocations maps "area: case" of errors.json to how it comes about here.
func provocations() map[string]provocation {
	same := func(map[string]any) {}
	const badYAML = "jobs config should contain at least one visible job"
	broken := project42(func(p *gitlabtest.Project) { p.ConfigError = badYAML })
	create := func(body map[string]any) provocation {
		return provocation{method: "POST", path: "projects/42/pipeline", token: writeToken, body: body}
	}
	get := func(path, token string) provocation { return provocation{method: "GET", path: path, token: token} }
	stale := commit42("main", map[string]any{
		"action": "update", "file_path": "test/test-009.md", "content": "x", "last_commit_id": "0ff3ae198f8601a285adcf5c0fff204ee6fba5fd",
	})
	loopGuard := trigger42(same)
	loopGuard.header = [2]string{"X-Gitlab-Event", "Pipeline Hook"}
	branchExists := commit42("instance-a", map[string]any{"action": "create", "file_path": "a", "content": "x"})
	branchExists.body.(map[string]any)["start_branch"] = "main"
	add := map[string]any{"action": "create", "file_path": "a", "content": "x"}
	return map[string]provocation{
		"trigger: token parameter missing": trigger42(func(b map[string]any) { delete(b, "token") }),
		"trigger: ref parameter missing":   trigger42(func(b map[string]any) { delete(b, "ref") }),
		"trigger: ref parameter empty":     trigger42(func(b map[string]any) { b["ref"] = "" }),
		"trigger: unknown token, or token of another project, or project does not exist": trigger42(
			func(b map[string]any) { b["token"] = "glptt-plain" }),
		"trigger: variables is not a map":           trigger42(func(b map[string]any) { b["variables"] = "x" }),
		"trigger: a variable value is not a string": trigger42(func(b map[string]any) { b["variables"] = map[string]any{"A": 1} }),
		"trigger: ref does not exist":               trigger42(func(b map[string]any) { b["ref"] = "nowhere" }),
		"trigger: project restricts pipeline variables": with(trigger42(same),
			project42(func(p *gitlabtest.Project) { p.VariablesForbidden = true })),
		"trigger: pipeline creation rate limit (project+user+sha, or user)": with(trigger42(same), func(w *world) {
			w.Inject(gitlabtest.Fault{Do: gitlabtest.TooManyPipelines()})
		}),
		"trigger: no job left after rules": with(trigger42(same), project42(func(p *gitlabtest.Project) { p.NoJobs = true })),
		"trigger: invalid .gitlab-ci.yml (pipeline IS created, status failed, yaml_errors set)":        with(trigger42(same), broken),
		"trigger: request made from a pipeline webhook (X-Gitlab-Event: Pipeline Hook header present)": loopGuard,
		"create pipeline: ref does not exist":                                                          create(map[string]any{"ref": "nowhere"}),
		"create pipeline: invalid .gitlab-ci.yml (nothing is saved: save_on_errors false)": with(
			create(map[string]any{"ref": "main"}), broken),
		"create pipeline: user may not run a pipeline on this protected ref": with(create(map[string]any{"ref": "main"}),
			project42(func(p *gitlabtest.Project) { p.MaintainersOnly = true })),
		"jobs: retry of a job that cannot be retried": {method: "POST", path: "projects/42/jobs/{push-branch}/retry", token: writeToken},
		"jobs: play of a job that is not playable":    {method: "POST", path: "projects/42/jobs/{push-branch}/play", token: writeToken},
		"any: Rack::Attack throttle (requests per user or per IP)": with(get("projects/42", readToken), func(w *world) {
			w.Inject(gitlabtest.Fault{Do: gitlabtest.RateLimited(30 * time.Second)})
		}),
		"any: no token or revoked token":        get("projects/42", ""),
		"any: project not visible to the token": get("projects/42", strangerToken),
		"commits: last_commit_id is stale (update, move, delete, chmod)": with(stale, func(w *world) {
			text := "x"
			w.SetFile(42, "test/test-009.md", &text)
		}),
		"commits: create of a file that exists": commit42("main", map[string]any{
			"action": "create", "file_path": "cluster.yml", "content": "x",
		}),
		"commits: update or delete of a file that does not exist": commit42("main", map[string]any{
			"action": "delete", "file_path": "no.yml",
		}),
		"commits: start_branch or start_sha given, branch already exists, no force": branchExists,
		"commits: branch does not exist and no start_branch":                        commit42("nowhere", add),
		"commits: token may not push to the branch": with(
			commit42("main", add),
			project42(func(p *gitlabtest.Project) { p.MaintainersOnly = true })),
		"files: file not found at ref":                     get("projects/42/repository/files/no.yml?ref=main", readToken),
		"files: ref not found":                             get("projects/42/repository/files/cluster.yml?ref=nowhere", readToken),
		"tree: path missing or is a file (17.7 and later)": get("projects/42/repository/tree?path=cluster.yml", readToken),
	}
}

func TestErrorsAreTheRecordedOnes(t *testing.T) {
	t.Parallel()
	var all []recordedError
	readFixture(t, "api/errors.json", &all)
	// Routes that are not served here.
	elsewhere := []string{
		"pipelines/latest: no pipeline for the newest commit of the ref",
		"jobs: list of project jobs over its own rate limit",
		"files: PUT with a stale last_commit_id",
	}
	known := provocations()
	for _, e := range all {
		name := e.Area + ": " + e.Case
		if slices.Contains(elsewhere, name) {
			continue
		}
		p, ok := known[name]
		if !ok {
			t.Errorf("%s: nothing here brings it about", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkError(t, p, e)
		})
	}
}

func checkError(t *testing.T, p provocation, e recordedError) {
	t.Helper()
	w := newWorld(t)
	w.AddBranch(42, "instance-a")
	id := w.trigger("demo", "9", "earlier")
	w.pass(10 * time.Second)
	if p.prepare != nil {
		p.prepare(w)
	}
	before, err := w.Pipeline(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range before.Jobs {
		p.path = strings.ReplaceAll(p.path, "{"+j.Name+"}", itoa(j.ID))
	}
	a, err := w.tryWith(p.method, p.path, p.token, p.body, p.header)
	if err != nil {
		t.Fatal(err)
	}
	if a.status != e.Status || !strings.HasPrefix(a.header.Get("Content-Type"), e.ContentType) {
		t.Errorf("got %d %s, want %d %s; body %s", a.status, a.header.Get("Content-Type"), e.Status, e.ContentType, a.body)
	}
	var got any = string(a.body)
	if e.ContentType == "application/json" {
		if err := json.Unmarshal(a.body, &got); err != nil {
			t.Fatalf("decode %s: %v", a.body, err)
		}
	}
	if d := cmp.Diff(e.Body, got); d != "" {
		t.Errorf("body (-want +got):\n%s", d)
	}
	wantNew := 0
	if e.Status == 422 {
		wantNew = 1
	}
	if n := len(w.Pipelines(42)) - 1; n != wantNew {
		t.Errorf("pipelines made: got %d, want %d", n, wantNew)
	}
}

func TestInvalidConfigurationLeavesAFailedPipelineBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.UpdateProject(42, func(p *gitlabtest.Project) { p.ConfigError = "bad" })
	w.want(422, "POST", "projects/42/trigger/pipeline", "", deploy("demo", "1", "k"), nil)
	ids := w.PipelinesByKey("k")
	if len(ids) != 1 {
		t.Fatalf("pipelines with the key: got %v, want one", ids)
	}
	var p struct {
		Status     string
		YAMLErrors string `json:"yaml_errors"`
	}
	w.want(200, "GET", fmt.Sprintf("projects/42/pipelines/%d", ids[0]), readToken, nil, &p)
	if p.Status != "failed" || p.YAMLErrors != "bad" {
		t.Errorf("got %+v, want failed with the error", p)
	}
}
