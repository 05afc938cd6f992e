package gitlab_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
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

// TestO02_TriggerCallIsSentAsGroveExpectsIt checks every byte of the call's body, and that the
// trigger token stands nowhere else and nothing else authenticates the call.
func TestO02_TriggerCallIsSentAsGroveExpectsIt(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":9001,"status":"created","queued_duration":0.01,"coverage":98.29}`)
	}))
	t.Cleanup(srv.Close)
	a := newAdapter(t, gitlab.Config{
		Clock: clock.NewFake(start()),
		Projects: map[string]gitlab.Project{"cluster": {
			BaseURL: srv.URL + "/gitlab", ID: 42, Token: secret.New(readToken), WriteToken: secret.New(writeToken),
			TriggerToken: secret.New(triggerToken),
		}},
	})
	p, err := a.Create(t.Context(), spec())
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if p.Ref != (ops.PipelineRef{Project: "cluster", ID: 9001}) || p.Role != ops.RoleRoot || p.Status != "created" {
		t.Errorf("pipeline: got %+v, want 9001 as root, created", p)
	}
	want := `{"ocim_key":"` + key + `","ocim_ref":"sealed-reference","ref":"main","token":"` + triggerToken + `",` +
		`"variables":{"DEPLOYMENT_REQUEST_ID":"1731","INSTANCE_NAME":"demo","NEW_INSTANCE_TRIGGER":"1"}}`
	if string(body) != want {
		t.Errorf("body: got %s, want %s", body, want)
	}
	if line := got.Method + " " + got.RequestURI; line != "POST /gitlab/api/v4/projects/42/trigger/pipeline" {
		t.Errorf("request line: got %s", line)
	}
	wantHeader := http.Header{
		"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}, "Content-Type": {"application/json"},
		"User-Agent": {"ocim"}, "Content-Length": {got.Header.Get("Content-Length")},
	}
	if diff := cmp.Diff(wantHeader, got.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestO02_PipelinesAPITakesVariablesAsAListAndInputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := ops.PipelineSpec{
		Project: "plain", Start: ops.StartPipeline, GitRef: "main", Key: key, KeyInName: true, CreatedAfter: start(),
		Variables: map[string]string{"B": "2", "A": "1"}, Inputs: map[string]any{"ocim_key": key},
	}
	p := w.create(s)
	want := map[string]any{
		"ref": "main", "inputs": map[string]any{"ocim_key": key},
		"variables": []any{map[string]any{"key": "A", "value": "1"}, map[string]any{"key": "B", "value": "2"}},
	}
	writes := w.server.Writes()
	if len(writes) != 1 || writes[0].User != "grove-bot" {
		t.Fatalf("writes: got %+v, want one by grove-bot", writes)
	}
	if diff := cmp.Diff(want, writes[0].Body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	found, ok, err := w.Find(t.Context(), s)
	if err != nil || !ok || found.Ref != p.Ref {
		t.Errorf("Find by name: got %v %v %v, want %v", found.Ref, ok, err, p.Ref)
	}
	s.Key = strings.Repeat("f", 32)
	if found, ok, err := w.Find(t.Context(), s); err != nil || ok {
		t.Errorf("Find another key: got %v %v %v, want none", found.Ref, ok, err)
	}
}

func TestCreateSendsNothingItCouldNotFindAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tests := []struct {
		name   string
		change func(*ops.PipelineSpec)
	}{
		{"no key", func(s *ops.PipelineSpec) { s.Key = "" }},
		{"key in nothing that is sent", func(s *ops.PipelineSpec) { s.Payload = nil }},
		{"key in an input that nobody sees", func(s *ops.PipelineSpec) {
			s.Project, s.Start, s.Payload, s.Inputs = "plain", ops.StartPipeline, nil, map[string]any{"ocim_key": key}
		}},
		{"payload that would replace the token", func(s *ops.PipelineSpec) { s.Payload["token"] = "x" }},
		{"payload that would authenticate", func(s *ops.PipelineSpec) { s.Payload["private_token"] = "x" }},
		{"unknown start", func(s *ops.PipelineSpec) { s.Start = "commit" }},
		{"unknown project", func(s *ops.PipelineSpec) { s.Project = "other" }},
		{"project without trigger token", func(s *ops.PipelineSpec) { s.Project = "plain" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := spec()
			tt.change(&s)
			_, err := w.Create(t.Context(), s)
			if e := opsError(t, err); e.Code == ops.CodeUnavailable || e.Msg == "" {
				t.Errorf("error: got %v, want one that is for good", e)
			}
		})
	}
	t.Cleanup(func() {
		if got := w.server.Writes(); len(got) != 0 {
			t.Errorf("writes: got %+v, want none", got)
		}
	})
}

// TestF05_PipelineWhoseAnswerWasLostIsFoundByItsKey loses the answer in every way the fake knows:
// Create must call the outcome unknown, and Find must find the one pipeline.
func TestF05_PipelineWhoseAnswerWasLostIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   gitlabtest.Action
	}{
		{"reset after commit", gitlabtest.DropAfter()},
		{"no answer", gitlabtest.HangAfter()},
		{"cut answer", gitlabtest.Truncate(20)},
		{"500 after commit", gitlabtest.AnswerAfter(500, gitlabtest.JSONHeader(), `{"message":"500 Internal Server Error"}`)},
		{"502 of a proxy", gitlabtest.AnswerAfter(502, http.Header{"Content-Type": {"text/html"}}, "<html>Bad Gateway</html>")},
		{"504 of a proxy", gitlabtest.AnswerAfter(504, nil, "")},
		{"empty 201", gitlabtest.AnswerAfter(201, nil, "")},
		{"201 without id", gitlabtest.AnswerAfter(201, gitlabtest.JSONHeader(), `{}`)},
		{"HTML instead of JSON", gitlabtest.AnswerAfter(200, nil, "<html>")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *gitlab.Config) { c.Timeout = time.Second })
			w.server.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: tt.do})
			_, err := w.Create(short(t), spec())
			e := opsError(t, err)
			if e.Code != ops.CodeUnavailable || e.NotSent {
				t.Errorf("Create: got %v, NotSent %v, want unavailable with unknown outcome", e, e.NotSent)
			}
			if got := len(w.server.Triggers()); got != 1 {
				t.Errorf("trigger calls: got %d, want 1", got)
			}
			found, ok, err := w.Find(short(t), spec())
			if err != nil || !ok || !slices.Equal(w.server.PipelinesByKey(key), []int64{found.Ref.ID}) {
				t.Errorf("Find: got %v %v %v, want %v", found.Ref, ok, err, w.server.PipelinesByKey(key))
			}
		})
	}
}

// TestF07_TroubleOfGitLabIsToldApartByWhatItMayHaveDone checks, for answers that may pass, whether the
// request surely was not carried out, and when GitLab wants to be asked again.
func TestF07_TroubleOfGitLabIsToldApartByWhatItMayHaveDone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		do      gitlabtest.Action
		reason  ops.Reason
		notSent bool
		retryAt time.Time
	}{
		{name: "429", do: gitlabtest.RateLimited(30 * time.Second), reason: ops.ReasonRateLimited, notSent: true, retryAt: start().Add(30 * time.Second)},
		{name: "429 with reset only", do: gitlabtest.Answer(429, http.Header{"Ratelimit-Reset": {"1777888845"}}, "Retry later\n"), reason: ops.ReasonRateLimited, notSent: true, retryAt: start().Add(45 * time.Second)},
		{name: "429 of a feature", do: gitlabtest.Answer(429, gitlabtest.JSONHeader(), `{"message":{"error":"This endpoint has been requested too many times. Try again later."}}`), reason: ops.ReasonRateLimited, notSent: true},
		{name: "400 that is a rate limit", do: gitlabtest.TooManyPipelines(), reason: ops.ReasonRateLimited, notSent: true, retryAt: start().Add(time.Minute)},
		{name: "500", do: gitlabtest.Answer(500, nil, "oops"), reason: ops.ReasonGitLabUnavailable},
		{name: "503 with Retry-After", do: gitlabtest.Answer(503, http.Header{"Retry-After": {"5"}}, ""), reason: ops.ReasonGitLabUnavailable, retryAt: start().Add(5 * time.Second)},
		{name: "409", do: gitlabtest.Answer(409, nil, ""), reason: ops.ReasonGitLabUnavailable},
		{name: "no answer at all", do: gitlabtest.Hang(), reason: ops.ReasonGitLabUnavailable},
		{name: "reset before GitLab saw it", do: gitlabtest.DropBefore(), reason: ops.ReasonGitLabUnavailable},
		{name: "sign-in page", do: gitlabtest.HTML(), reason: ops.ReasonGitLabUnavailable},
		{name: "empty 200", do: gitlabtest.Answer(200, nil, ""), reason: ops.ReasonGitLabUnavailable},
		{name: "304", do: gitlabtest.Answer(304, nil, ""), reason: ops.ReasonGitLabUnavailable},
		{name: "redirect", do: gitlabtest.Answer(307, http.Header{"Location": {"/elsewhere"}}, ""), reason: ops.ReasonGitLabUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *gitlab.Config) { c.Timeout = time.Second })
			w.server.Inject(gitlabtest.Fault{Route: "trigger", Do: tt.do})
			_, err := w.Create(short(t), spec())
			e := opsError(t, err)
			if e.Code != ops.CodeUnavailable || e.Reason != tt.reason || e.NotSent != tt.notSent || !e.RetryAt.Equal(tt.retryAt) {
				t.Errorf("got %s %s NotSent=%v RetryAt=%v, want unavailable %s %v %v", e.Code, e.Reason, e.NotSent, e.RetryAt, tt.reason, tt.notSent, tt.retryAt)
			}
			if got := len(w.server.Ledger()); got != 1 {
				t.Errorf("requests: got %d, want 1: nothing is repeated here", got)
			}
		})
	}
}

// TestF07_HostIsLeftAloneForAsLongAsItAsks proves that a 429 with a time silences every call.
func TestF07_HostIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.Inject(gitlabtest.Fault{Times: 1, Do: gitlabtest.RateLimited(30 * time.Second)})
	if _, err := w.Probe(t.Context(), "plain"); ops.ReasonOf(err) != ops.ReasonRateLimited {
		t.Fatalf("Probe: got %v, want rate_limited", err)
	}
	w.clock.Advance(29 * time.Second)
	_, err := w.Create(t.Context(), spec())
	if e := opsError(t, err); !e.NotSent || !e.RetryAt.Equal(start().Add(30*time.Second)) {
		t.Errorf("Create during the pause: got %v, NotSent %v, RetryAt %v", e, e.NotSent, e.RetryAt)
	}
	if got := len(w.server.Ledger()); got != 1 {
		t.Errorf("requests during the pause: got %d, want 1", got)
	}
	w.clock.Advance(time.Second)
	w.create(spec())
}

func TestF07_UnreachableGitLabSurelyGotNothing(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	gone := srv.URL
	srv.Close()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	tls.StartTLS()
	t.Cleanup(tls.Close)
	for name, base := range map[string]string{
		"connection refused": gone, "unknown name": "http://gitlab.invalid", "untrusted certificate": tls.URL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdapter(t, gitlab.Config{Clock: clock.NewFake(start()), Projects: map[string]gitlab.Project{
				"cluster": {BaseURL: base, ID: 42, TriggerToken: secret.New(triggerToken)},
			}})
			_, err := a.Create(short(t), spec())
			if e := opsError(t, err); e.Code != ops.CodeUnavailable || !e.NotSent {
				t.Errorf("got %v, NotSent %v, want unavailable and not sent", e, e.NotSent)
			}
		})
	}
}

// TestF08_RefusalsAreForGoodAndSayWhy checks the answers after which the same request can never work.
func TestF08_RefusalsAreForGoodAndSayWhy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*world, *ops.PipelineSpec)
		code   ops.Code
		reason ops.Reason
		says   string
	}{
		{"ref is gone", func(_ *world, s *ops.PipelineSpec) { s.GitRef = "gone" }, ops.CodeInvalid, ops.ReasonGitLabRefused, "Reference not found"},
		{"rules leave no job", func(w *world, _ *ops.PipelineSpec) {
			w.server.UpdateProject(42, func(p *gitlabtest.Project) { p.NoJobs = true })
		}, ops.CodeInvalid, ops.ReasonGitLabRefused, "rules configuration prevented any jobs"},
		{"variables are forbidden", func(w *world, _ *ops.PipelineSpec) {
			w.server.UpdateProject(42, func(p *gitlabtest.Project) { p.VariablesForbidden = true })
		}, ops.CodeInvalid, ops.ReasonGitLabRefused, "Insufficient permissions to set pipeline variables"},
		{"protected branch", func(w *world, _ *ops.PipelineSpec) {
			w.server.UpdateProject(42, func(p *gitlabtest.Project) { p.MaintainersOnly = true })
		}, ops.CodeInvalid, ops.ReasonGitLabRefused, "sufficient permission"},
		{"broken .gitlab-ci.yml", func(w *world, _ *ops.PipelineSpec) {
			w.server.UpdateProject(42, func(p *gitlabtest.Project) { p.ConfigError = "jobs config should contain at least one visible job" })
		}, ops.CodeInvalid, ops.ReasonConfigError, "visible job"},
		{"trigger token revoked", func(w *world, _ *ops.PipelineSpec) { w.server.RevokeToken(triggerToken) }, ops.CodeDenied, ops.ReasonGitLabDenied, "404"},
		{"401", answerTrigger(401, `{"message":"401 Unauthorized"}`), ops.CodeDenied, ops.ReasonGitLabDenied, "401"},
		{"403", answerTrigger(403, `{"message":"403 Forbidden"}`), ops.CodeDenied, ops.ReasonGitLabDenied, "403"},
		{"400 that is no JSON", answerTrigger(400, "<html>bad</html>"), ops.CodeInvalid, ops.ReasonGitLabRefused, "GitLab refused"},
		{"413", answerTrigger(413, ""), ops.CodeInvalid, ops.ReasonGitLabRefused, "GitLab refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := spec()
			tt.change(w, &s)
			_, err := w.Create(t.Context(), s)
			e := opsError(t, err)
			if e.Code != tt.code || e.Reason != tt.reason || !strings.Contains(e.Msg, tt.says) {
				t.Errorf("got %s %s %q, want %s %s with %q", e.Code, e.Reason, e.Msg, tt.code, tt.reason, tt.says)
			}
			if strings.Contains(e.Msg, "<") {
				t.Errorf("message holds markup: %s", e.Msg)
			}
		})
	}
}

func answerTrigger(status int, body string) func(*world, *ops.PipelineSpec) {
	return func(w *world, _ *ops.PipelineSpec) {
		w.server.Inject(gitlabtest.Fault{Route: "trigger", Do: gitlabtest.Answer(status, nil, body)})
	}
}

// TestF08_PipelineLeftByBrokenConfigurationIsFound: the trigger API answers 422 and leaves a failed
// pipeline behind.
func TestF08_PipelineLeftByBrokenConfigurationIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.UpdateProject(42, func(p *gitlabtest.Project) { p.ConfigError = "broken" })
	if _, err := w.Create(t.Context(), spec()); ops.ReasonOf(err) != ops.ReasonConfigError {
		t.Fatalf("Create: got %v, want config_error", err)
	}
	p, ok, err := w.Find(t.Context(), spec())
	if err != nil || !ok || p.Status != "failed" {
		t.Fatalf("Find: got %+v %v %v, want the failed pipeline", p, ok, err)
	}
	snap := w.tree(tree(p.Ref))
	if got := snap.Pipelines[0].YAMLErrors; got != "broken" {
		t.Errorf("yaml errors: got %q, want broken", got)
	}
}
