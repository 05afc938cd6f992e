package gitlabtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab/gitlabtest"
)

func TestWhoMayWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.AddToken(42, gitlabtest.Token{Value: "glpat-revoked", User: "ron", Role: gitlabtest.Owner, Revoked: true})
	w.AddToken(42, gitlabtest.Token{Value: "glpat-old", User: "otto", Role: gitlabtest.Owner, ExpiresAt: start().Add(-time.Hour)})
	w.AddToken(42, gitlabtest.Token{Value: "glpat-repo", User: "rita", Role: gitlabtest.Developer, Scopes: []string{"read_repository"}})
	w.AddToken(42, gitlabtest.Token{Value: "glpat-dora", User: "dora", Role: gitlabtest.Developer, Scopes: []string{"read_api"}})
	w.trigger("demo", "1", "k")
	tests := []struct {
		name, method, path, token string
		want                      int
	}{
		{"nobody", "GET", "projects/42", "", 401},
		{"unknown token", "GET", "projects/42", "glpat-what", 401},
		{"revoked token", "GET", "projects/42", "glpat-revoked", 401},
		{"expired token", "GET", "projects/42", "glpat-old", 401},
		{"stranger", "GET", "projects/42", strangerToken, 404},
		{"unknown project", "GET", "projects/999", readToken, 404},
		{"project by path", "GET", "projects/opencraft%2Fcluster-1", readToken, 200},
		{"guest reads pipelines", "GET", "projects/42/pipelines", guestToken, 403},
		{"reader cancels", "POST", "projects/42/pipelines/9001/cancel", readToken, 403},
		{"repository scope reads files", "GET", "projects/42/repository/tree", "glpat-repo", 200},
		{"repository scope reads pipelines", "GET", "projects/42/pipelines", "glpat-repo", 403},
		{"developer reads hooks", "GET", "projects/42/hooks", writeToken, 403},
		{"who started it reads variables", "GET", "projects/42/pipelines/9001/variables", readToken, 200},
		{"maintainer reads variables", "GET", "projects/42/pipelines/9001/variables", ownerToken, 200},
		{"another developer reads variables", "GET", "projects/42/pipelines/9001/variables", "glpat-dora", 403},
		{"pipeline of another project", "GET", "projects/43/pipelines/9001", writeToken, 404},
		{"no such pipeline", "GET", "projects/42/pipelines/1", readToken, 404},
		{"no such route", "GET", "projects/42/nonsense", readToken, 404},
		{"no such method", "DELETE", "projects/42/pipelines", readToken, 405},
	}
	for _, tt := range tests {
		a, err := w.try(tt.method, tt.path, tt.token, nil)
		if err != nil || a.status != tt.want {
			t.Errorf("%s: got %d %s, %v, want %d", tt.name, a.status, a.body, err, tt.want)
		}
	}
	bearer, err := w.tryWith("GET", "projects/42", "", nil, [2]string{"Authorization", "Bearer " + readToken})
	if err != nil || bearer.status != 200 {
		t.Errorf("bearer token: got %d, %v, want 200", bearer.status, err)
	}
}

func TestPipelineListFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "a")
	w.pass(10 * time.Minute) // 9002 pushed, 9003 and 9004 are children
	w.want(201, "POST", "projects/42/ref/feature%2Fx/trigger/pipeline", "", deploy("campus", "2", "b"), nil)
	since := w.clock.Now().Add(-time.Minute).Format(time.RFC3339)
	tests := []struct {
		query string
		want  []int64
	}{
		{"", []int64{9005, 9002, 9001}},
		{"?unknown=1&ref=main", []int64{9002, 9001}},
		{"?ref=feature%2Fx", []int64{9005}},
		{"?source=trigger", []int64{9005, 9001}},
		{"?source=parent_pipeline", []int64{9004, 9003}},
		{"?status=success", []int64{9001}},
		{"?username=olga", nil},
		{"?username=grove-bot&sort=asc", []int64{9001, 9002, 9005}},
		{"?created_after=" + since, []int64{9005}},
		{"?created_before=" + since, []int64{9002, 9001}},
		{"?updated_before=2026-05-04T10:01:29Z", []int64{9001}},
		{"?order_by=updated_at&sort=asc", []int64{9001, 9002, 9005}},
		{"?name=nothing", nil},
		{"?per_page=2", []int64{9005, 9002}},
		{"?per_page=2&page=2", []int64{9001}},
	}
	for _, tt := range tests {
		var list []struct{ ID int64 }
		w.want(200, "GET", "projects/42/pipelines"+tt.query, readToken, nil, &list)
		var got []int64
		for _, p := range list {
			got = append(got, p.ID)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", tt.query, d)
		}
	}
	a := w.want(200, "GET", "projects/42/pipelines?per_page=2", readToken, nil, nil)
	if a.header.Get("X-Next-Page") != "2" || a.header.Get("X-Total") != "3" ||
		!strings.Contains(a.header.Get("Link"), `page=2&per_page=2>; rel="next"`) {
		t.Errorf("pagination: got %v", a.header)
	}
}

func TestWrongParametersAreRefusedAsByGrape(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.trigger("demo", "1", "k")
	tests := []struct{ method, path, want string }{
		{"GET", "projects/42/pipelines?status=done", "status does not have a valid value"},
		{"GET", "projects/42/pipelines?source=x&sort=up", "source does not have a valid value, sort does not have a valid value"},
		{"GET", "projects/42/pipelines?page=x", "page is invalid"},
		{"GET", "projects/42/pipelines?updated_after=yesterday", "updated_after is invalid"},
		{"GET", "projects/42/pipelines/" + itoa(id) + "/jobs?scope[]=failed&scope[]=x", "scope does not have a valid value"},
		{"GET", "projects/42/repository/files/cluster.yml", "ref is missing"},
		{"POST", "projects/42/pipeline", "ref is missing"},
	}
	for _, tt := range tests {
		var e struct{ Error string }
		w.want(400, tt.method, tt.path, writeToken, nil, &e)
		if e.Error != tt.want {
			t.Errorf("%s: got %q, want %q", tt.path, e.Error, tt.want)
		}
	}
}

func TestTriggerTakesFormsAndTokensInTheQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var p struct{ ID int64 }
	w.want(201, "POST", "projects/42/trigger/pipeline?token="+triggerToken, "",
		"ref=main&ocim_key=k1&variables[INSTANCE_NAME]=demo&variables[DEPLOYMENT_REQUEST_ID]=3", &p)
	got, err := w.Pipeline(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Variables["INSTANCE_NAME"] != "demo" || got.Instance != "demo" {
		t.Errorf("variables: got %v", got.Variables)
	}
	var payload map[string]any
	if err := json.Unmarshal([]byte(got.Variables["TRIGGER_PAYLOAD"]), &payload); err != nil {
		t.Fatal(err)
	}
	if payload["ocim_key"] != "k1" || payload["token"] != nil {
		t.Errorf("TRIGGER_PAYLOAD: got %v, want the key and no token", payload)
	}
	if e := w.Triggers()[0]; e.Query.Get("token") != "***" {
		t.Errorf("ledger: got query %v, want a masked token", e.Query)
	}
	a, err := w.tryWith("POST", "projects/42/trigger/pipeline", "", "x", [2]string{"Content-Type", "text/plain"})
	if err != nil || a.status != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: got %d, %v, want 415", a.status, err)
	}
}

func TestCancelingTakesTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.UpdateProject(42, func(p *gitlabtest.Project) { p.CancelGrace = 10 * time.Second })
	id := w.trigger("demo", "1", "k")
	w.pass(5 * time.Second)
	w.want(200, "POST", "projects/42/pipelines/"+itoa(id)+"/cancel", writeToken, nil, nil)
	if got := w.status(id); got != "canceling" {
		t.Errorf("right after: got %s, want canceling", got)
	}
	w.pass(10 * time.Second)
	if got := w.status(id); got != "canceled" {
		t.Errorf("after the grace: got %s, want canceled", got)
	}
}

func TestAbortPipelineCancelsTheChildren(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "k")
	w.pass(8 * time.Minute)
	w.want(201, "POST", "projects/42/trigger/pipeline", "", map[string]any{
		"ref": "main", "token": triggerToken,
		"variables": map[string]string{"ABORT_DEPLOYMENT_TRIGGER": "1", "PIPELINE_ID": "9002"},
	}, nil)
	w.pass(time.Minute)
	if got := w.status(9004); got != "canceled" {
		t.Errorf("child: got %s, want canceled", got)
	}
}

func TestTraceGrowsWhileAJobRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.trigger("demo", "1", "k")
	w.pass(8 * time.Minute)
	var sizes []int
	var id int64
	for range 6 {
		w.pass(2 * time.Minute)
		p, err := w.Pipeline(9004)
		if err != nil {
			t.Fatal(err)
		}
		id = p.Jobs[0].ID
		log, err := w.Trace(id)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(log))
	}
	if !slices.IsSorted(sizes) || sizes[0] == sizes[len(sizes)-1] {
		t.Errorf("sizes: got %v, want a growing log", sizes)
	}
	if log, _ := w.Trace(id); !strings.HasSuffix(log, "\x1b[32;1mJob succeeded\x1b[0;m\n") {
		t.Errorf("end: got %q", log[max(len(log)-80, 0):])
	}
}

func TestRequiredAndUnknownInputs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		inputs map[string]any
		status int
		text   string
	}{
		{"given", map[string]any{"ocim_key": "k", "size": 3}, 201, `"status":"created"`},
		{"required is missing", map[string]any{"ocim_key": "k"}, 400, "required value has not been provided"},
		{"unknown", map[string]any{"size": 3, "color": "red"}, 400, "unknown input arguments: color"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.UpdateProject(43, func(p *gitlabtest.Project) { p.Inputs = append(p.Inputs, gitlabtest.Input{Name: "size"}) })
			a := w.want(tt.status, "POST", "projects/43/pipeline", writeToken, map[string]any{"ref": "main", "inputs": tt.inputs}, nil)
			if !strings.Contains(string(a.body), tt.text) {
				t.Errorf("got %s, want %q in it", a.body, tt.text)
			}
		})
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t, func(o *gitlabtest.Options) { o.HookWorkers = 4 }), newReceiver(t)
	w.AddHook(42, gitlabtest.Hook{URL: r.URL, Jobs: true})
	w.Inject(gitlabtest.Fault{Route: "trigger", Probability: 0.3, Do: gitlabtest.DropAfter()})
	done := make(chan struct{})
	ctx := within(t)
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	var wg sync.WaitGroup
	const callers = 8
	for i := range callers {
		wg.Go(func() {
			for n := range 10 {
				key := fmt.Sprintf("k-%d-%d", i, n)
				if _, err := w.try("POST", "projects/42/trigger/pipeline", "", deploy("demo", itoa(int64(i*10+n+1)), key)); err != nil {
					continue // the answer was lost
				}
				if _, err := w.try("GET", "projects/42/pipelines", readToken, nil); err != nil {
					t.Errorf("list: %v", err)
				}
				w.clock.Advance(time.Second)
			}
		})
	}
	wg.Wait()
	if n := len(w.Triggers()); n != callers*10 {
		t.Errorf("triggers in the ledger: got %d, want %d", n, callers*10)
	}
	for key, ids := range w.Keys() {
		if len(ids) != 1 {
			t.Errorf("key %s: got %d pipelines, want one", key, len(ids))
		}
	}
	if n := len(w.Keys()); n != callers*10 {
		t.Errorf("keys: got %d, want %d, since lost answers do not undo", n, callers*10)
	}
	w.Close()
	if _, err := w.try("GET", "version", readToken, nil); err == nil {
		t.Error("closed server: got an answer")
	}
}

func TestHeadTellsOfAFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.want(http.StatusOK, "HEAD", "projects/42/repository/files/cluster.yml?ref=main", readToken, nil, nil)
	if a.header.Get("X-Gitlab-Last-Commit-Id") == "" || len(a.body) != 0 {
		t.Errorf("got %v and %d bytes, want headers alone", a.header, len(a.body))
	}
}

func TestTreeByKeyset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next := "projects/42/repository/tree?recursive=true&pagination=keyset&per_page=3"
	var got []string
	for next != "" {
		var rows []struct{ Path string }
		a := w.want(200, "GET", next, readToken, nil, &rows)
		for _, r := range rows {
			got = append(got, r.Path)
		}
		link, _, _ := strings.Cut(a.header.Get("Link"), ">")
		next = strings.TrimPrefix(link, "<"+w.URL()+"/api/v4/")
	}
	want := []string{
		"instances", "instances/campus", "instances/demo", ".gitlab-ci.yml", "README.md", "cluster.yml",
		"instances/campus/config.yml", "instances/campus/grove.yml", "instances/demo/config.yml", "instances/demo/grove.yml",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("paths (-want +got):\n%s", d)
	}
}
