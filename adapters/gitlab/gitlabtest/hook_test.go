package gitlabtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab/gitlabtest"
)

// receiver collects webhooks.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	got    []received
	status int
}

type received struct {
	header http.Header
	body   []byte
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("read a webhook: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, received{req.Header.Clone(), body})
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answerWith(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// event is what tests look at in a Pipeline Hook.
type event struct {
	Attributes struct {
		ID     int64
		Status string
	} `json:"object_attributes"`
	Source *struct {
		PipelineID int64 `json:"pipeline_id"`
	} `json:"source_pipeline"`
}

func (r *receiver) events(t *testing.T) []event {
	t.Helper()
	var all []event
	for _, x := range r.all() {
		var e event
		if err := json.Unmarshal(x.body, &e); err != nil {
			t.Fatalf("decode a webhook: %v", err)
		}
		all = append(all, e)
	}
	return all
}

func signingToken() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte("testtesttesttesttesttesttesttest"))
}

func TestPipelineHookTellsEveryChangeOfStatus(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.AddHook(42, gitlabtest.Hook{URL: r.URL, Token: "shared", SigningToken: signingToken()})
	id := w.trigger("demo", "1", "k")
	w.pass(0)
	w.Deliver(within(t))
	w.pass(3 * time.Second)
	w.Deliver(within(t))
	w.pass(2 * time.Minute)
	w.Deliver(within(t))
	var got []string
	for _, e := range r.events(t) {
		if e.Attributes.ID == id {
			got = append(got, e.Attributes.Status)
		}
	}
	if d := cmp.Diff([]string{"pending", "running", "success"}, got); d != "" {
		t.Errorf("statuses of the first pipeline (-want +got):\n%s", d)
	}
	h := r.all()[0].header
	if h.Get("X-Gitlab-Event") != "Pipeline Hook" || h.Get("X-Gitlab-Token") != "shared" ||
		h.Get("Idempotency-Key") == "" || h.Get("Idempotency-Key") != h.Get("Webhook-Id") || h.Get("X-Gitlab-Instance") != w.URL() {
		t.Errorf("headers: got %v", h)
	}
}

func TestPayloadIsBuiltLate(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.AddHook(42, gitlabtest.Hook{URL: r.URL})
	w.trigger("demo", "1", "k")
	w.pass(5 * time.Second)
	w.Deliver(within(t))
	var got []string
	for _, e := range r.events(t) {
		got = append(got, e.Attributes.Status)
	}
	if d := cmp.Diff([]string{"running", "running"}, got); d != "" {
		t.Errorf("two changes before one delivery (-want +got):\n%s", d)
	}
}

func TestHookRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		rules      gitlabtest.HookRules
		wantEvents int
		wantKeys   int
	}{
		{"plain", gitlabtest.HookRules{}, 2, 2},
		{"dropped", gitlabtest.HookRules{Drop: true}, 0, 0},
		{"copies are events of their own", gitlabtest.HookRules{Copies: 2}, 6, 6},
		{"copies of one event", gitlabtest.HookRules{Copies: 2, SameKey: true}, 6, 2},
		{"shuffled", gitlabtest.HookRules{Shuffle: true}, 2, 2},
		{"held back", gitlabtest.HookRules{Delay: time.Hour}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newReceiver(t)
			w.AddHook(42, gitlabtest.Hook{URL: r.URL})
			w.SetHookRules(tt.rules)
			w.trigger("demo", "1", "k")
			w.pass(5 * time.Second)
			w.Deliver(within(t))
			keys := map[string]bool{}
			for _, x := range r.all() {
				keys[x.header.Get("Idempotency-Key")] = true
			}
			if n := len(r.all()); n != tt.wantEvents || len(keys) != tt.wantKeys {
				t.Errorf("got %d events with %d keys, want %d and %d", n, len(keys), tt.wantEvents, tt.wantKeys)
			}
		})
	}
}

func TestHookCanComeBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.AddHook(42, gitlabtest.Hook{URL: r.URL})
	w.SetHookRules(gitlabtest.HookRules{BeforeAnswer: true})
	id := w.trigger("demo", "1", "k")
	events := r.events(t)
	if len(events) != 1 || events[0].Attributes.ID != id {
		t.Errorf("webhooks when the answer is there: got %+v, want one about %d", events, id)
	}
}

func TestFailingHookIsSwitchedOff(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answerWith(http.StatusInternalServerError)
	id := w.AddHook(42, gitlabtest.Hook{URL: r.URL})
	pipeline := w.trigger("demo", "1", "k")
	alert := func() string {
		var h struct {
			Status string `json:"alert_status"`
		}
		w.want(200, "GET", "projects/42/hooks/"+itoa(id), ownerToken, nil, &h)
		return h.Status
	}
	fail := func() {
		for _, st := range []string{"running", "pending"} {
			if p, _ := w.Pipeline(pipeline); p.Status != st {
				if err := w.SetStatus(pipeline, st); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		w.Deliver(within(t))
	}
	w.Deliver(within(t))
	fail()
	fail()
	if got := alert(); got != "executable" || len(r.all()) != 3 {
		t.Fatalf("after three failures: got %s and %d deliveries, want executable and 3", got, len(r.all()))
	}
	fail()
	if got := alert(); got != "temporarily_disabled" {
		t.Fatalf("after four failures: got %s, want temporarily_disabled", got)
	}
	fail()
	if n := len(r.all()); n != 4 {
		t.Errorf("deliveries while disabled: got %d, want still 4", n)
	}
	for range 40 {
		w.pass(25 * time.Hour)
		fail()
	}
	if got := alert(); got != "disabled" {
		t.Fatalf("after forty failures: got %s, want disabled", got)
	}
	r.answerWith(http.StatusOK)
	w.want(201, "POST", "projects/42/hooks/"+itoa(id)+"/test/pipeline_events", ownerToken, nil, nil)
	w.Deliver(within(t))
	if got := alert(); got != "executable" {
		t.Errorf("after a good test: got %s, want executable", got)
	}
}

func TestMissedWebhooksCanBeFoundAndSentAgain(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answerWith(http.StatusBadGateway)
	id := w.AddHook(42, gitlabtest.Hook{URL: r.URL, Token: "secret"})
	w.trigger("demo", "1", "k")
	w.Deliver(within(t))
	r.answerWith(http.StatusOK)
	path := "projects/42/hooks/" + itoa(id) + "/events"
	var missed []struct {
		ID      int64
		Headers map[string]string `json:"request_headers"`
	}
	w.want(200, "GET", path+"?status=server_failure", ownerToken, nil, &missed)
	if len(missed) != 1 || missed[0].Headers["X-Gitlab-Token"] == "secret" {
		t.Fatalf("missed: got %+v, want one without the token", missed)
	}
	w.want(201, "POST", path+"/"+itoa(missed[0].ID)+"/resend", ownerToken, nil, nil)
	w.Deliver(within(t))
	got := r.all()
	if len(got) != 2 || got[0].header.Get("Idempotency-Key") != got[1].header.Get("Idempotency-Key") ||
		string(got[0].body) != string(got[1].body) {
		t.Errorf("got %d webhooks, want the same one twice with its key", len(got))
	}
	w.want(200, "GET", path+"?status=successful", ownerToken, nil, &missed)
	if len(missed) != 1 {
		t.Errorf("delivered: got %d, want 1", len(missed))
	}
}

func TestRunAdvancesAndDelivers(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t, func(o *gitlabtest.Options) { o.HookWorkers = 4 }), newReceiver(t)
	w.AddHook(42, gitlabtest.Hook{URL: r.URL, Jobs: true, Pushes: true})
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	w.trigger("demo", "1", "k")
	for w.status(9001) != "success" {
		if err := w.clock.Waiting(ctx, 1); err != nil {
			t.Fatalf("wait for the loop: %v", err)
		}
		w.clock.Advance(10 * time.Second)
	}
	cancel()
	<-done
	if len(r.all()) == 0 {
		t.Error("got no webhook from the loop")
	}
}

func TestSigningVector(t *testing.T) {
	t.Parallel()
	var v struct {
		Key       string `json:"key_utf8"`
		ID        string `json:"webhook-id"`
		Body      string `json:"body"`
		Signature string `json:"webhook-signature"`
	}
	readFixture(t, "webhooks/signing-vector.derived.json", &v)
	token := "whsec_" + base64.StdEncoding.EncodeToString([]byte(v.Key))
	if got := gitlabtest.Sign(token, v.ID, time.Unix(1744100000, 0), []byte(v.Body)); got != v.Signature {
		t.Errorf("signature: got %s, want %s", got, v.Signature)
	}
}

const fixtures = "../../../../shared/fixtures/gitlab/"

// readFixture decodes a file of the shared fixtures, or skips the test where they are not.
func readFixture(t *testing.T, name string, out any) {
	t.Helper()
	raw, err := os.ReadFile(fixtures + name)
	if err != nil {
		t.Skipf("the shared fixtures are not here: %v", err)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		t.Fatalf("decode %s: %v", name, err)
	}
}
