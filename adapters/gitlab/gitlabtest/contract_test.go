package gitlabtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"ocim/adapters/gitlab/gitlabtest"
)

// exchange is one call whose answer is checked against GitLab's OpenAPI document.
type exchange struct {
	template string // the document's path, below /api/v4
	method   string
	path     string
	token    string
	body     any
	status   int
	list     bool
}

// exchanges drive every route that the document knows, on the world of prepare.
func exchanges(hook int64) []exchange {
	const (
		pr  = "projects/{id}"
		prs = "projects/42"
		pl  = pr + "/pipelines/{pipeline_id}"
		fl  = pr + "/repository/files/{file_path}"
		jb  = pr + "/jobs/{job_id}"
	)
	jobs := prs + "/jobs/"
	return []exchange{
		{pr + "/(ref/{ref}/)trigger/pipeline", "POST", prs + "/trigger/pipeline", "", deploy("demo", "2", "k2"), 201, false},
		{pr + "/(ref/{ref}/)trigger/pipeline", "POST", prs + "/ref/feature%2Fx/trigger/pipeline", "", deploy("demo", "3", "k3"), 201, false},
		{pr + "/pipeline", "POST", "projects/43/pipeline", writeToken, map[string]any{"ref": "main"}, 201, false},
		{pr + "/pipelines", "GET", prs + "/pipelines", readToken, nil, 200, true},
		{pr + "/pipelines", "GET", prs + "/pipelines?source=parent_pipeline&order_by=updated_at&sort=asc", readToken, nil, 200, true},
		{pl, "GET", prs + "/pipelines/9001", readToken, nil, 200, false},
		{pl, "GET", prs + "/pipelines/9004", readToken, nil, 200, false},
		{pl + "/jobs", "GET", prs + "/pipelines/9004/jobs?include_retried=true", readToken, nil, 200, true},
		{pl + "/bridges", "GET", prs + "/pipelines/9002/bridges", readToken, nil, 200, true},
		{pl + "/variables", "GET", prs + "/pipelines/9001/variables", readToken, nil, 200, true},
		{pl + "/retry", "POST", prs + "/pipelines/9004/retry", writeToken, nil, 201, false},
		{pl + "/cancel", "POST", prs + "/pipelines/9004/cancel", writeToken, nil, 200, false},
		{jb, "GET", jobs + "{prepare}", readToken, nil, 200, false},
		{jb + "/trace", "GET", jobs + "{prepare}/trace", readToken, nil, 200, false},
		{jb + "/retry", "POST", jobs + "{prepare}/retry", writeToken, nil, 201, false},
		{jb + "/cancel", "POST", jobs + "{retried}/cancel", writeToken, nil, 201, false},
		{jb + "/play", "POST", "projects/43/jobs/{release}/play", writeToken, nil, 200, false},
		{pr, "GET", prs, readToken, nil, 200, false},
		{pr + "/repository/tree", "GET", prs + "/repository/tree?path=instances", readToken, nil, 200, true},
		{fl, "GET", prs + "/repository/files/instances%2Fdemo%2Fconfig.yml?ref=main", readToken, nil, 200, false},
		{fl + "/raw", "GET", prs + "/repository/files/cluster.yml/raw", readToken, nil, 200, false},
		{pr + "/repository/commits", "GET", prs + "/repository/commits", readToken, nil, 200, true},
		{pr + "/repository/commits/{sha}", "GET", prs + "/repository/commits/main", readToken, nil, 200, false},
		{pr + "/repository/commits", "POST", prs + "/repository/commits", writeToken, map[string]any{
			"branch": "main", "commit_message": "[AutoDeploy][Update] demo|4",
			"actions": []map[string]any{{"action": "update", "file_path": "cluster.yml", "content": "TF_VAR_cluster_name: a\n"}},
		}, 201, false},
		{pr + "/merge_requests", "GET", prs + "/merge_requests?source_branch=deployment%2Fdemo%2F1", readToken, nil, 200, true},
		{pr + "/hooks", "POST", prs + "/hooks", ownerToken, map[string]any{
			"url": "http://127.0.0.1:9/x", "token": "t", "pipeline_events": true,
		}, 201, false},
		{pr + "/hooks", "GET", prs + "/hooks", ownerToken, nil, 200, true},
		{pr + "/hooks/{hook_id}", "GET", prs + "/hooks/" + itoa(hook), ownerToken, nil, 200, false},
		{pr + "/hooks/{hook_id}", "PUT", prs + "/hooks/" + itoa(hook), ownerToken, map[string]any{"url": "http://127.0.0.1:9/y"}, 200, false},
		{pr + "/hooks/{hook_id}/test/{trigger}", "POST", prs + "/hooks/" + itoa(hook) + "/test/pipeline_events", ownerToken, nil, 201, false},
		{pr + "/hooks/{hook_id}", "DELETE", prs + "/hooks/" + itoa(hook), ownerToken, nil, 204, false},
		{"personal_access_tokens/self", "GET", "personal_access_tokens/self", readToken, nil, 200, false},
		{"version", "GET", "version", readToken, nil, 200, false},
		{"metadata", "GET", "metadata", readToken, nil, 200, false},
	}
}

// prepare brings the world to where every route has something to show, and returns the jobs that
// exchanges name and a hook.
func prepare(t *testing.T, w *world) (jobs map[string]int64, hook int64) {
	t.Helper()
	hook = w.AddHook(42, gitlabtest.Hook{URL: "http://127.0.0.1:9/", Token: "x"})
	w.SetHookRules(gitlabtest.HookRules{Drop: true})
	w.Override(42, gitlabtest.Override{FailJob: "deploy", Operations: 1})
	w.trigger("demo", "1", "k")
	w.pass(45 * time.Minute)
	var plain struct{ ID int64 }
	w.want(201, "POST", "projects/43/pipeline", writeToken, map[string]any{"ref": "main"}, &plain)
	w.pass(2 * time.Minute)
	jobs = map[string]int64{}
	for _, id := range []int64{9001, plain.ID} {
		p, err := w.Pipeline(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range p.Jobs {
			jobs[j.Name] = j.ID
		}
	}
	return jobs, hook
}

func TestAnswersKeepGitLabsOpenAPIDocument(t *testing.T) {
	t.Parallel()
	doc := loadDocument(t)
	for _, e := range exceptions() {
		if e.change != nil {
			e.change(doc)
		}
	}
	w := newWorld(t)
	jobs, hook := prepare(t, w)
	for _, x := range exchanges(hook) {
		path := x.path
		for name, id := range jobs {
			path = strings.ReplaceAll(path, "{"+name+"}", itoa(id))
		}
		a := w.want(x.status, x.method, path, x.token, x.body, nil)
		if x.template == "projects/{id}/jobs/{job_id}/retry" {
			var j struct{ ID int64 }
			if err := json.Unmarshal(a.body, &j); err != nil {
				t.Fatal(err)
			}
			jobs["retried"] = j.ID
		}
		checkExchange(t, doc, x, a)
	}
}

// checkExchange compares an answer with the document.
func checkExchange(t *testing.T, doc *openapi3.T, x exchange, a answer) {
	t.Helper()
	where := x.method + " " + x.template
	item := doc.Paths.Value("/api/v4/" + x.template)
	if item == nil || item.GetOperation(x.method) == nil {
		t.Errorf("%s: the document does not know it", where)
		return
	}
	r := item.GetOperation(x.method).Responses.Value(fmt.Sprint(x.status))
	if r == nil {
		t.Errorf("%s: the document has no answer %d", where, x.status)
		return
	}
	if len(r.Value.Content) == 0 {
		return
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	media := r.Value.Content.Get(kind)
	if err != nil || media == nil {
		t.Errorf("%s: got content type %q, which the document does not have", where, a.header.Get("Content-Type"))
		return
	}
	if kind != "application/json" {
		return
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Errorf("%s: decode: %v", where, err)
		return
	}
	if rows, ok := v.([]any); x.list && (!ok || len(rows) == 0) {
		t.Errorf("%s: got %s, want a list with something in it", where, a.body)
	}
	for _, line := range complaints(media.Schema.Value.VisitJSON(v, openapi3.MultiErrors())) {
		t.Errorf("%s: %s", where, line)
	}
	for _, key := range unknownKeys("", v, media.Schema.Value) {
		t.Errorf("%s: got key %s, which the document does not have", where, key)
	}
}

// complaints are the errors of a validation, one line each, without the schema.
func complaints(err error) []string {
	var many openapi3.MultiError
	if !errors.As(err, &many) {
		if err == nil {
			return nil
		}
		return []string{err.Error()}
	}
	var lines []string
	for _, e := range many {
		if one, ok := errors.AsType[*openapi3.SchemaError](e); ok {
			lines = append(lines, "/"+strings.Join(one.JSONPointer(), "/")+": "+one.Reason)
			continue
		}
		lines = append(lines, complaints(e)...)
	}
	return lines
}

// unknownKeys lists the keys of a value for which a schema has no property.
func unknownKeys(at string, v any, schema *openapi3.Schema) []string {
	var unknown []string
	switch v := v.(type) {
	case []any:
		if schema.Items != nil {
			for _, x := range v {
				unknown = append(unknown, unknownKeys(at+"[]", x, schema.Items.Value)...)
			}
		}
	case map[string]any:
		if len(schema.Properties) == 0 {
			return nil
		}
		for k, x := range v {
			p := schema.Properties[k]
			if p == nil {
				unknown = append(unknown, at+"."+k)
				continue
			}
			unknown = append(unknown, unknownKeys(at+"."+k, x, p.Value)...)
		}
	}
	slices.Sort(unknown)
	return slices.Compact(unknown)
}

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	raw, err := os.ReadFile(fixtures + "openapi/openapi_v2_as_3.0-18.9-trimmed.yaml")
	if err != nil {
		t.Skipf("the shared fixtures are not here: %v", err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatalf("load the document: %v", err)
	}
	return doc
}

// exception is a place where GitLab's document is known not to be the truth. The numbers are those
// of the list in the fixtures' README; those after 12 were found here, by what the official client
// decodes.
type exception struct {
	number int
	why    string
	change func(*openapi3.T)
}

func exceptions() []exception {
	return []exception{
		{1, "no property is nullable in the document, many are null in answers", everythingNullable},
		{2, "coverage of a pipeline is a string", func(doc *openapi3.T) {
			for _, name := range []string{"Ci_Pipeline", "Ci_PipelineWithMetadata"} {
				property(doc, name, "coverage").Type = &openapi3.Types{"string"}
			}
		}},
		{3, "id and project_id of a hook are integers", func(doc *openapi3.T) {
			property(doc, "ProjectHook", "id").Type = &openapi3.Types{"integer"}
			property(doc, "ProjectHook", "project_id").Type = &openapi3.Types{"integer"}
		}},
		{4, "variables of a schedule are a list: not served here", nil},
		{5, "creating a commit answers 201", func(doc *openapi3.T) {
			moveAnswer(doc, "projects/{id}/repository/commits", "POST", "200", "201")
		}},
		{6, "trace and raw files are plain bytes", func(doc *openapi3.T) {
			for _, path := range []string{"projects/{id}/jobs/{job_id}/trace", "projects/{id}/repository/files/{file_path}/raw"} {
				r := doc.Paths.Value("/api/v4/" + path).Get.Responses.Value("200").Value
				if len(r.Content) > 0 {
					r.Content = openapi3.Content{"text/plain": openapi3.NewMediaType()}
				}
			}
		}},
		{7, "cancel answers 200", func(doc *openapi3.T) {
			moveAnswer(doc, "projects/{id}/pipelines/{pipeline_id}/cancel", "POST", "201", "200")
		}},
		{8, "the trigger path has an optional part: the exchanges name it as the document does", nil},
		{9, "a listed pipeline has a name", func(doc *openapi3.T) {
			addProperty(doc, "Ci_PipelineBasic", "name", openapi3.NewStringSchema().WithNullable())
		}},
		{10, "project of a job is a flag", func(doc *openapi3.T) {
			for _, name := range []string{"Ci_Job", "Ci_JobBasic", "Ci_Bridge"} {
				property(doc, name, "project").Properties["ci_job_token_scope_enabled"].Value.Type = &openapi3.Types{"boolean"}
			}
		}},
		{11, "401, 422 and 429 are missing: errors have no schema and are checked by their recorded bodies", nil},
		{12, "files have no schema: checked by the recorded body", nil},
		{13, "a tree is a list of its entity", func(doc *openapi3.T) {
			media := doc.Paths.Value("/api/v4/projects/{id}/repository/tree").Get.Responses.Value("200").Value.Content.Get("application/json")
			list := openapi3.NewArraySchema()
			list.Items = media.Schema
			media.Schema = list.NewRef()
		}},
		{14, "fields of a merge request whose type the document does not know are shown as strings", untype("MergeRequestBasic",
			"user_notes_count", "upvotes", "downvotes", "source_project_id", "target_project_id", "labels", "draft",
			"imported", "work_in_progress", "merge_when_pipeline_succeeds", "discussion_locked",
			"should_remove_source_branch", "force_remove_source_branch", "squash", "squash_on_merge",
			"task_completion_status", "has_conflicts", "blocking_discussions_resolved", "assignees", "reviewers")},
		{15, "a hook has token_present and signing_token_present since 19.0", func(doc *openapi3.T) {
			addProperty(doc, "ProjectHook", "token_present", openapi3.NewBoolSchema())
			addProperty(doc, "ProjectHook", "signing_token_present", openapi3.NewBoolSchema())
		}},
		{16, "access levels are numbers", untype("ProjectAccess", "access_level", "notification_level")},
		{
			17, "expires_at of a token is a date (api/project-access-token.rotated.json)",
			untype("PersonalAccessTokenWithLastUsedIps", "expires_at"),
		},
	}
}

func component(doc *openapi3.T, name string) *openapi3.Schema {
	return doc.Components.Schemas["API_Entities_"+name].Value
}

func property(doc *openapi3.T, entity, name string) *openapi3.Schema {
	return component(doc, entity).Properties[name].Value
}

func addProperty(doc *openapi3.T, entity, name string, s *openapi3.Schema) {
	component(doc, entity).Properties[name] = s.NewRef()
}

func untype(entity string, names ...string) func(*openapi3.T) {
	return func(doc *openapi3.T) {
		for _, name := range names {
			component(doc, entity).Properties[name] = openapi3.NewSchema().WithNullable().NewRef()
		}
	}
}

func moveAnswer(doc *openapi3.T, path, method, from, to string) {
	rs := doc.Paths.Value("/api/v4/" + path).GetOperation(method).Responses
	rs.Set(to, rs.Value(from))
}

func everythingNullable(doc *openapi3.T) {
	var visit func(s *openapi3.Schema)
	visit = func(s *openapi3.Schema) {
		for _, p := range s.Properties {
			if p.Ref == "" {
				visit(p.Value)
			}
			p.Value.Nullable = true
		}
	}
	for _, s := range doc.Components.Schemas {
		visit(s.Value)
	}
}

func TestRoutesOf195AreServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "k")
	w.pass(10 * time.Minute)
	var mine []struct{ ID int64 }
	a := w.want(200, "GET", "pipelines?per_page=1", readToken, nil, &mine)
	if len(mine) != 1 || mine[0].ID != 9002 || !strings.Contains(a.header.Get("Link"), `rel="next"`) {
		t.Errorf("first page: got %+v and Link %q, want 9002 and a next page", mine, a.header.Get("Link"))
	}
	link, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"+w.URL()+"/api/v4/"), ">")
	w.want(200, "GET", link, readToken, nil, &mine)
	if len(mine) != 1 || mine[0].ID != 9001 {
		t.Errorf("second page: got %+v, want 9001", mine)
	}
	var bridges []struct {
		Downstream *struct{ ID int64 } `json:"downstream_pipeline"`
	}
	w.want(200, "GET", "projects/42/pipelines/9002/trigger_jobs", readToken, nil, &bridges)
	if len(bridges) != 2 || bridges[0].Downstream == nil || bridges[0].Downstream.ID != 9004 {
		t.Errorf("trigger jobs: got %+v, want two, the newest with 9004", bridges)
	}
	if a.header.Get("Date") != w.clock.Now().Format(http.TimeFormat) {
		t.Errorf("Date: got %s, want the server's clock", a.header.Get("Date"))
	}
}
