package gitlab_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
	"ocim/internal/secret"
)

const (
	hookToken = "canary-hook-token"
	fixtures  = "../../../shared/fixtures/gitlab"
	hookBody  = `{"object_kind":"pipeline","object_attributes":{"id":31,"status":"success"},"project":{"id":42}}`
)

func signingToken(fill string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32)))
}

// hooks is a handler with what came through it.
type hooks struct {
	*gitlab.Hooks

	clock *clock.Fake
	log   *logBuffer
	mu    sync.Mutex
	hints []gitlab.Hint
	fail  error
}

func (h *hooks) got() []gitlab.Hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]gitlab.Hint(nil), h.hints...)
}

func newHooks(tb testing.TB, change ...func(*gitlab.HooksConfig)) *hooks {
	tb.Helper()
	h := &hooks{clock: clock.NewFake(start()), log: &logBuffer{}}
	cfg := gitlab.HooksConfig{
		Hosts: []gitlab.HookHost{{BaseURL: "https://gitlab.example.com/", Tokens: []secret.Secret{secret.New(hookToken)}}},
		Projects: map[string]gitlab.Project{
			"cluster": {BaseURL: "https://gitlab.example.com", ID: 42},
			"foreign": {BaseURL: "https://other.example.com", ID: 43},
		},
		Clock: h.clock, Logger: slog.New(slog.NewTextHandler(h.log, nil)),
		Sink: func(_ context.Context, hint gitlab.Hint) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.hints = append(h.hints, hint)
			return h.fail
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if h.Hooks, err = gitlab.NewHooks(cfg); err != nil {
		tb.Fatalf("NewHooks: %v", err)
	}
	return h
}

// post sends body with headers, given as name and value in turn.
func (h *hooks) post(tb testing.TB, body string, header ...string) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/gitlab/webhook", strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// sign returns the headers of a signed webhook.
func sign(token, id string, at time.Time, body string) []string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(token, "whsec_"))
	if err != nil {
		panic(err)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "." + body))
	return []string{
		"webhook-id", id, "webhook-timestamp", stamp,
		"webhook-signature", "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}
}

// TestT03_OnlyTheSecretOpensTheRoute tries everything that is almost the token.
func TestT03_OnlyTheSecretOpensTheRoute(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		header []string
		want   int
	}{
		{"the token", []string{"X-Gitlab-Token", hookToken}, 200},
		{"none", nil, 401},
		{"empty", []string{"X-Gitlab-Token", ""}, 401},
		{"blank", []string{"X-Gitlab-Token", "   "}, 401},
		{"prefix", []string{"X-Gitlab-Token", hookToken[:len(hookToken)-1]}, 401},
		{"longer", []string{"X-Gitlab-Token", hookToken + "x"}, 401},
		{"other case", []string{"X-Gitlab-Token", strings.ToUpper(hookToken)}, 401},
		{"second value", []string{"X-Gitlab-Token", "x", "X-Gitlab-Token", hookToken}, 401},
		{"in another header", []string{"Authorization", "Bearer " + hookToken}, 401},
		{"mask", []string{"X-Gitlab-Token", "***"}, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHooks(t)
			w := h.post(t, hookBody, tt.header...)
			if w.Code != tt.want || w.Body.Len() != 0 {
				t.Errorf("got %d with %d bytes, want %d and an empty body", w.Code, w.Body.Len(), tt.want)
			}
			if passed := len(h.got()) == 1; passed != (tt.want == 200) {
				t.Errorf("hints: got %v", h.got())
			}
			if lines := h.log.lines(); tt.want == 401 && lines != 1 {
				t.Errorf("log lines: got %d, want 1", lines)
			}
			if strings.Contains(h.log.String(), "canary") {
				t.Errorf("log holds the token: %s", h.log)
			}
		})
	}
}

func TestT03_WithoutASecretThereIsNoRoute(t *testing.T) {
	t.Parallel()
	valid := gitlab.HooksConfig{Clock: clock.NewFake(start()), Sink: func(context.Context, gitlab.Hint) error { return nil }}
	for name, host := range map[string]gitlab.HookHost{
		"nothing":              {},
		"blank token":          {Tokens: []secret.Secret{secret.New(" ")}},
		"empty token":          {Tokens: []secret.Secret{{}}},
		"no prefix":            {SigningTokens: []secret.Secret{secret.New(strings.TrimPrefix(signingToken("a"), "whsec_"))}},
		"short signing token":  {SigningTokens: []secret.Secret{secret.New("whsec_YWJj")}},
		"broken signing token": {SigningTokens: []secret.Secret{secret.New("whsec_!!!")}},
	} {
		cfg := valid
		cfg.Hosts = []gitlab.HookHost{host}
		if _, err := gitlab.NewHooks(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := gitlab.NewHooks(valid); !errors.Is(err, gitlab.ErrNoHookSecret) {
		t.Errorf("no host: got %v, want ErrNoHookSecret", err)
	}
}

func TestT03_SignaturesAreCheckedOverTheRawBody(t *testing.T) {
	t.Parallel()
	old, current, wrong := signingToken("o"), signingToken("c"), signingToken("w")
	good := func(at time.Time) []string { return sign(current, "id-1", at, hookBody) }
	with := func(header []string, more ...string) []string {
		return append(append([]string(nil), header...), more...)
	}
	tests := []struct {
		name   string
		body   string
		header []string
		want   int
	}{
		{"signed", hookBody, good(start()), 200},
		{"by the token before", hookBody, sign(old, "id-1", start(), hookBody), 200},
		{"at the edge", hookBody, good(start().Add(-5 * time.Minute)), 200},
		{"too old", hookBody, good(start().Add(-5*time.Minute - time.Second)), 401},
		{"from the future", hookBody, good(start().Add(5*time.Minute + time.Second)), 401},
		{"another body", hookBody + " ", good(start()), 401},
		{"another id", hookBody, append(good(start())[2:], "webhook-id", "id-2"), 401},
		{"no id", hookBody, good(start())[2:], 401},
		{"no time", hookBody, append(good(start())[:2:2], good(start())[4:]...), 401},
		{"wrong signature and right token", hookBody, with(sign(wrong, "id-1", start(), hookBody), "X-Gitlab-Token", hookToken), 401},
		{"empty signature and right token", hookBody, []string{"webhook-signature", "", "X-Gitlab-Token", hookToken}, 401},
		{"stale signature and right token", hookBody, with(good(start().Add(-time.Hour)), "X-Gitlab-Token", hookToken), 401},
		{"token alone", hookBody, []string{"X-Gitlab-Token", hookToken}, 200},
		{"several values, one right", hookBody, with(good(start()), "webhook-signature", "v1,AAAA v2,x"), 200},
		{"right value in one list", hookBody, append(good(start())[:4:4], "webhook-signature", "v1,AAAA "+good(start())[5]), 200},
		{"another version", hookBody, append(good(start())[:4:4], "webhook-signature", "v2,"+good(start())[5][3:]), 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHooks(t, func(c *gitlab.HooksConfig) {
				c.Hosts[0].SigningTokens = []secret.Secret{secret.New(current), secret.New(old)}
			})
			if got := h.post(t, tt.body, tt.header...).Code; got != tt.want {
				t.Errorf("got %d, want %d; log %s", got, tt.want, h.log)
			}
			if passed := len(h.got()) == 1; passed != (tt.want == 200) {
				t.Errorf("hints: got %v", h.got())
			}
		})
	}
}

func TestHookSignatureVector(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(fixtures, "webhooks/signing-vector.derived.json"))
	if err != nil {
		t.Skipf("the shared fixtures are not here: %v", err)
	}
	var v map[string]string
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	at, err := strconv.ParseInt(v["webhook-timestamp"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h := newHooks(t, func(c *gitlab.HooksConfig) {
		c.Clock = clock.NewFake(time.Unix(at, 0))
		c.Hosts[0].SigningTokens = []secret.Secret{secret.New("whsec_" + base64.StdEncoding.EncodeToString([]byte(v["key_utf8"])))}
	})
	w := h.post(t, v["body"], "webhook-id", v["webhook-id"], "webhook-timestamp", v["webhook-timestamp"], "webhook-signature", v["webhook-signature"])
	if w.Code != 200 {
		t.Errorf("got %d, want 200; log %s", w.Code, h.log)
	}
}

// TestT04_WebhookIsAHintForItsOwnProjectOnly: the secret of one GitLab opens no project of another,
// and what a webhook claims about a status goes nowhere.
func TestT04_WebhookIsAHintForItsOwnProjectOnly(t *testing.T) {
	t.Parallel()
	h := newHooks(t, func(c *gitlab.HooksConfig) {
		c.Hosts = append(c.Hosts, gitlab.HookHost{BaseURL: "https://other.example.com", Tokens: []secret.Secret{secret.New("other-token")}})
		c.Projects["same id"] = gitlab.Project{BaseURL: "https://other.example.com", ID: 42}
	})
	tests := []struct {
		token, body string
		want        []gitlab.Hint
	}{
		{hookToken, hookBody, []gitlab.Hint{{Project: "cluster", PipelineID: 31, Event: "pipeline"}}},
		{"other-token", hookBody, []gitlab.Hint{{Project: "same id", PipelineID: 31, Event: "pipeline"}}},
		{hookToken, strings.Replace(hookBody, `"id":42`, `"id":43`, 1), nil},
		{hookToken, strings.Replace(hookBody, `"id":42`, `"id":99`, 1), nil},
		{hookToken, strings.Replace(hookBody, `,"project":{"id":42}`, ``, 1), nil},
	}
	for _, tt := range tests {
		before := len(h.got())
		if got := h.post(t, tt.body, "X-Gitlab-Token", tt.token, "X-Gitlab-Instance", "https://other.example.com").Code; got != 200 {
			t.Errorf("%s: got %d, want 200", tt.body, got)
		}
		if diff := cmp.Diff(tt.want, h.got()[before:], cmp.Transformer("empty", func(x []gitlab.Hint) map[int]gitlab.Hint {
			m := map[int]gitlab.Hint{}
			for i, v := range x {
				m[i] = v
			}
			return m
		})); diff != "" {
			t.Errorf("%s with %s (-want +got):\n%s", tt.body, tt.token, diff)
		}
	}
}

func TestHookContentIsAlwaysTaken(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", "null", "[]", "1", "{", `{"object_kind":`, `{"object_kind":7,"project":{"id":42}}`, "<html>", "\xff\xfe",
		`{"object_kind":"pipeline","project":{"id":42},"object_attributes":null,"commit":null}`,
		`{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":"7"}}`,
		`{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":-7}}`,
		`{"object_kind":"pipeline","project":{"id":42e300},"object_attributes":{"id":7}}`,
		`{"object_kind":"build","project_id":42,"commit":{"id":"abc"}}`,
		`{"object_kind":"push","project":{"id":42}}`, `{"object_kind":"from the future","project":{"id":42}}`,
		strings.Repeat(`[`, 20000), `{"project":` + strings.Repeat(`{"a":`, 20000),
	} {
		h := newHooks(t)
		if w := h.post(t, body, "X-Gitlab-Token", hookToken); w.Code != 200 || w.Body.Len() != 0 {
			t.Errorf("%.40q: got %d with %d bytes, want 200 and an empty body", body, w.Code, w.Body.Len())
		}
		if got := h.got(); len(got) != 0 {
			t.Errorf("%.40q: got hints %v, want none", body, got)
		}
	}
	h := newHooks(t)
	h.fail = errors.New("store is down")
	if w := h.post(t, hookBody, "X-Gitlab-Token", hookToken); w.Code != http.StatusServiceUnavailable {
		t.Errorf("sink fails: got %d, want 503", w.Code)
	}
}

// TestT17_NothingIsReadBeforeItIsWanted: a stranger's body, and one that says it is too large, are not
// touched; one that lies is read up to the limit.
func TestT17_NothingIsReadBeforeItIsWanted(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	tests := []struct {
		name    string
		method  string
		token   string
		length  int64
		want    int
		maxRead int64
	}{
		{"stranger", http.MethodPost, "wrong", -1, 401, 0},
		{"announced too large", http.MethodPost, hookToken, limit + 1, 200, 0},
		{"endless", http.MethodPost, hookToken, -1, 200, limit + 64<<10},
		{"GET", http.MethodGet, hookToken, -1, 405, 0},
		{"PUT", http.MethodPut, hookToken, -1, 405, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHooks(t, func(c *gitlab.HooksConfig) { c.MaxBody = limit })
			body := &endless{}
			r := httptest.NewRequestWithContext(t.Context(), tt.method, "/gitlab/webhook", body)
			r.ContentLength = tt.length
			r.Header.Set("X-Gitlab-Token", tt.token)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want || body.read > tt.maxRead {
				t.Errorf("got %d after %d bytes, want %d after at most %d", w.Code, body.read, tt.want, tt.maxRead)
			}
		})
	}
}

type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += int64(len(p))
	return len(p), nil
}

func (e *endless) Close() error { return nil }

func TestHookBodyCutShortIsRefused(t *testing.T) {
	t.Parallel()
	h := newHooks(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader(hookBody), broken{}))
	r.Header.Set("X-Gitlab-Token", hookToken)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 400 || len(h.got()) != 0 {
		t.Errorf("got %d and %v, want 400 and no hint", w.Code, h.got())
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestHintsSayWhatToLookAt(t *testing.T) {
	t.Parallel()
	payload := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	tests := []struct {
		name, body string
		want       []gitlab.Hint
	}{
		{
			"variables", `{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":9,"variables":[
			{"key":"INSTANCE_NAME","value":"demo"},{"key":"DEPLOYMENT_REQUEST_ID","value":"1731"},{"key":"TRIGGER_PAYLOAD","value":` +
				payload(`{"ref":"main","ocim_key":"`+key+`","variables":{"a":"b"}}`) + `}]}}`,
			[]gitlab.Hint{{Project: "cluster", PipelineID: 9, Number: 1731, Key: key, Instance: "demo", Event: "pipeline"}},
		},
		{
			"merge", `{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":9},"commit":{"id":"abc","title":"Merge branch 'depl...","message":"Merge branch 'deployment/demo/1731' into 'main'\n\nx"}}`,
			[]gitlab.Hint{{Project: "cluster", PipelineID: 9, Number: 1731, Instance: "demo", Event: "pipeline"}},
		},
		{
			"batch", `{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":9},"commit":{"message":"[AutoDeploy][Create] demo|1731,campus|1732,other"}}`,
			[]gitlab.Hint{
				{Project: "cluster", PipelineID: 9, Number: 1731, Instance: "demo", Event: "pipeline"},
				{Project: "cluster", PipelineID: 9, Number: 1732, Instance: "campus", Event: "pipeline"},
			},
		},
		{
			"child", `{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":9},"source_pipeline":{"pipeline_id":8}}`,
			[]gitlab.Hint{{Project: "cluster", PipelineID: 9, ParentID: 8, Event: "pipeline"}},
		},
		{
			"job", `{"object_kind":"build","project_id":42,"build_id":1,"commit":{"id":9,"message":"x"}}`,
			[]gitlab.Hint{{Project: "cluster", PipelineID: 9, Event: "build"}},
		},
		{
			"odd types", `{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":9,"variables":[{"key":"OCIM_KEY","value":7},{"key":"OCIM_KEY","value":"k"}]}}`,
			[]gitlab.Hint{{Project: "cluster", PipelineID: 9, Key: "k", Event: "pipeline"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHooks(t)
			if got := h.post(t, tt.body, "X-Gitlab-Token", hookToken).Code; got != 200 {
				t.Errorf("got %d, want 200", got)
			}
			if diff := cmp.Diff(tt.want, h.got()); diff != "" {
				t.Errorf("hints (-want +got):\n%s", diff)
			}
		})
	}
}

// TestF11_WebhookBeforeTheAnswerNamesTheKey: the webhook of a pipeline whose POST is not yet answered
// already leads to its operation.
func TestF11_WebhookBeforeTheAnswerNamesTheKey(t *testing.T) {
	t.Parallel()
	for name, signed := range map[string]bool{"token": false, "signature": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			signing := signingToken("s")
			h := newHooks(t, func(c *gitlab.HooksConfig) {
				c.Hosts = []gitlab.HookHost{{
					BaseURL: w.server.URL(), Tokens: []secret.Secret{secret.New(hookToken)}, SigningTokens: []secret.Secret{secret.New(signing)},
				}}
				c.Clock = w.clock
				c.Projects = map[string]gitlab.Project{"cluster": {BaseURL: w.server.URL(), ID: 42}}
			})
			srv := httptest.NewServer(h)
			t.Cleanup(srv.Close)
			hook := gitlabtest.Hook{URL: srv.URL, Token: hookToken, Jobs: true}
			if signed {
				hook = gitlabtest.Hook{URL: srv.URL, SigningToken: signing, Jobs: true}
			}
			w.server.AddHook(42, hook)
			w.server.SetHookRules(gitlabtest.HookRules{BeforeAnswer: true})
			answer := w.server.Inject(gitlabtest.Fault{Route: "trigger", Do: gitlabtest.DropAfter()})
			if _, err := w.Create(short(t), spec()); err == nil {
				t.Fatal("Create: got an answer, want it lost")
			}
			answer.Remove()
			found := false
			for _, hint := range h.got() {
				found = found || hint.Key == key && hint.Number == 1731 && hint.Instance == "demo" && hint.PipelineID == 9001
			}
			if !found {
				t.Errorf("hints before the answer: got %+v, want one with the key", h.got())
			}
			w.clock.Advance(2 * time.Hour)
			w.server.Deliver(short(t))
			seen := map[int64]bool{}
			for _, hint := range h.got() {
				seen[hint.PipelineID] = true
			}
			if len(seen) != 4 {
				t.Errorf("pipelines with hints: got %v, want all four of the deploy", seen)
			}
		})
	}
}

func TestHookFixturesGiveHints(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob(filepath.Join(fixtures, "webhooks/*.json"))
	if len(files) == 0 {
		t.Skip("the shared fixtures are not here")
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var ids struct {
			Kind    string `json:"object_kind"`
			Project struct {
				ID int64 `json:"id"`
			} `json:"project"`
			ProjectID int64 `json:"project_id"`
		}
		if err := json.Unmarshal(raw, &ids); err != nil || ids.Kind == "" {
			continue
		}
		h := newHooks(t, func(c *gitlab.HooksConfig) {
			c.Projects = map[string]gitlab.Project{"p": {BaseURL: "https://gitlab.example.com", ID: max(ids.Project.ID, ids.ProjectID)}}
		})
		if got := h.post(t, string(raw), "X-Gitlab-Token", hookToken).Code; got != 200 {
			t.Errorf("%s: got %d, want 200", filepath.Base(file), got)
		}
		want := 0
		if ids.Kind == "pipeline" || ids.Kind == "build" {
			want = 1
		}
		if got := h.got(); len(got) != want {
			t.Errorf("%s: got hints %+v, want %d", filepath.Base(file), got, want)
		}
	}
}

func FuzzHook(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join(fixtures, "webhooks/*.json"))
	for _, file := range files {
		if raw, err := os.ReadFile(file); err == nil {
			f.Add(raw)
		}
	}
	f.Add([]byte(hookBody))
	f.Add([]byte(`{"object_kind":"build","project_id":42,"commit":{"id":9,"message":"[AutoDeploy] demo:1 - x"}}`))
	h := newHooks(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := len(h.got())
		if w := h.post(t, string(body), "X-Gitlab-Token", hookToken); w.Code != 200 {
			t.Errorf("got %d, want 200", w.Code)
		}
		for _, hint := range h.got()[before:] {
			if hint.Project != "cluster" || hint.PipelineID <= 0 || hint.Number < 0 || len(hint.Key) > 255 || len(hint.Instance) > 255 {
				t.Errorf("hint out of bounds: %+v", hint)
			}
		}
		if w := h.post(t, string(body)); w.Code != 401 {
			t.Errorf("without a secret: got %d, want 401", w.Code)
		}
	})
}

func BenchmarkHook(b *testing.B) {
	raw, err := os.ReadFile(filepath.Join(fixtures, "webhooks/pipeline.docs.json"))
	if err != nil {
		b.Skipf("the shared fixtures are not here: %v", err)
	}
	h := newHooks(b, func(c *gitlab.HooksConfig) {
		c.Projects = map[string]gitlab.Project{"p": {BaseURL: "https://gitlab.example.com", ID: 1}}
		c.Sink = func(context.Context, gitlab.Hint) error { return nil }
	})
	body := string(raw)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		h.post(b, body, "X-Gitlab-Token", hookToken)
	}
}
