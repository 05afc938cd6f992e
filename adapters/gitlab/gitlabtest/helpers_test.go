package gitlabtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
)

const (
	readToken     = "glpat-read-by-bot"
	writeToken    = "glpat-write-by-bot"
	ownerToken    = "glpat-maintainer"
	strangerToken = "glpat-stranger"
	guestToken    = "glpat-guest"
	triggerToken  = "glptt-of-grove-bot"
	grovePath     = "opencraft/cluster-1"
)

// world is a server with a Grove project 42 and a plain project 43 on a clock that stands still.
type world struct {
	*gitlabtest.Server

	clock *clock.Fake
	t     *testing.T
}

func start() time.Time { return time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC) }

func newWorld(t *testing.T, change ...func(*gitlabtest.Options)) *world {
	t.Helper()
	clk := clock.NewFake(start())
	opts := gitlabtest.Options{Clock: clk, Seed: 1}
	for _, c := range change {
		c(&opts)
	}
	s := gitlabtest.New(opts)
	s.AddProject(gitlabtest.Project{
		ID: 42, Path: grovePath, TriggerToken: triggerToken, TriggerOwner: "grove-bot",
		Instances: []string{"demo", "campus"}, Behaviour: gitlabtest.Grove(), Branches: []string{"feature/x"},
		Tokens: []gitlabtest.Token{
			{Value: readToken, User: "grove-bot", Role: gitlabtest.Developer, Scopes: []string{"read_api"}},
			{Value: writeToken, User: "grove-bot", Role: gitlabtest.Developer},
			{Value: ownerToken, User: "olga", Role: gitlabtest.Maintainer},
			{Value: guestToken, User: "gus", Role: gitlabtest.Guest},
		},
	})
	region := "fra1"
	s.AddProject(gitlabtest.Project{
		ID: 43, Path: "opencraft/plain", TriggerToken: "glptt-plain",
		Tokens: []gitlabtest.Token{
			{Value: writeToken, User: "grove-bot", Role: gitlabtest.Developer},
			{Value: strangerToken, User: "sten", Role: gitlabtest.Developer},
		},
		Inputs: []gitlabtest.Input{{Name: "ocim_key", Default: new(string)}, {Name: "region", Default: &region}},
		Behaviour: gitlabtest.Plain(gitlabtest.Script{
			Name: "deploy [$[[ inputs.ocim_key ]]]",
			Stages: []gitlabtest.Stage{
				{Name: "build", Jobs: []gitlabtest.Job{{Name: "build", Queue: time.Second, Duration: time.Minute}}},
				{Name: "release", Jobs: []gitlabtest.Job{{Name: "release", Manual: true, Duration: time.Minute}}},
			},
		}),
	})
	if err := s.Start(""); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(s.Close)
	return &world{Server: s, clock: clk, t: t}
}

// answer is what came back from a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// try makes a request; body is sent as JSON unless it is a string, which is sent as a form.
func (w *world) try(method, path, token string, body any) (answer, error) {
	w.t.Helper()
	return w.tryWith(method, path, token, body, [2]string{})
}

// tryWith is try with one more header.
func (w *world) tryWith(method, path, token string, body any, header [2]string) (answer, error) {
	w.t.Helper()
	var r io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case string:
		r, kind = strings.NewReader(b), "application/x-www-form-urlencoded"
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			w.t.Fatalf("encode the body: %v", err)
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL()+"/api/v4/"+path, r)
	if err != nil {
		w.t.Fatalf("make the request: %v", err)
	}
	if r != nil {
		req.Header.Set("Content-Type", kind)
	}
	if header[0] != "" {
		req.Header.Set(header[0], header[1])
	}
	if token != "" {
		req.Header.Set("PRIVATE-TOKEN", token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("request: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: raw}, err
}

// want makes a request that must be answered with status and decodes the answer into out.
func (w *world) want(status int, method, path, token string, body, out any) answer {
	w.t.Helper()
	a, err := w.try(method, path, token, body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != status {
		w.t.Fatalf("%s %s: got status %d, want %d; body %s", method, path, a.status, status, a.body)
	}
	if out != nil {
		if err := json.Unmarshal(a.body, out); err != nil {
			w.t.Fatalf("%s %s: decode %s: %v", method, path, a.body, err)
		}
	}
	return a
}

// deploy is the body of a Grove trigger call.
func deploy(instance, request, key string) map[string]any {
	return map[string]any{
		"ref": "main", "token": triggerToken, "ocim_key": key,
		"variables": map[string]string{
			"INSTANCE_NAME": instance, "DEPLOYMENT_REQUEST_ID": request, "NEW_INSTANCE_TRIGGER": "1",
		},
	}
}

// trigger starts a deployment and returns the pipeline's id.
func (w *world) trigger(instance, request, key string) int64 {
	w.t.Helper()
	var p struct{ ID int64 }
	w.want(201, "POST", "projects/42/trigger/pipeline", "", deploy(instance, request, key), &p)
	return p.ID
}

// pass moves the clock in small steps, so that everything happens in its order.
func (w *world) pass(d time.Duration) {
	w.clock.Advance(d)
	w.Tick()
}

func (w *world) status(id int64) string {
	w.t.Helper()
	p, err := w.Pipeline(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Status
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func itoa(id int64) string { return fmt.Sprint(id) }
