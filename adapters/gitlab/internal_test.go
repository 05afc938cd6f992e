package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"ocim/internal/clock"
	"ocim/ops"
)

const sharedFixtures = "../../../shared/fixtures/gitlab"

func TestLimiterSpreadsCallsAndGivesUpWithTheContext(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC))
	l := &limiter{clock: clk, bucket: rate.NewLimiter(10, 2), patience: time.Second}
	for i := range 2 {
		if err := l.Wait(t.Context()); err != nil {
			t.Fatalf("call %d of the burst: %v", i, err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- l.Wait(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := clk.Waiting(ctx, 1); err != nil {
		t.Fatalf("third call does not wait: %v", err)
	}
	clk.Advance(100 * time.Millisecond)
	if err := <-done; err != nil {
		t.Errorf("third call: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := l.Wait(ended); !errors.Is(err, errWaiting) || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled while waiting: got %v", err)
	}
}

// Polling that has used up its calls keeps nobody waiting who has asked for something.
func TestLimiterKeepsAReserveForPeople(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC))
	l := &limiter{clock: clk, bucket: rate.NewLimiter(1, 1), reserve: rate.NewLimiter(1, 2), patience: time.Millisecond}
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := l.Wait(t.Context()); !errors.Is(err, errWaiting) {
			t.Errorf("poll: got %v, want it put off", err)
		}
		if err := l.Wait(ops.Urgent(t.Context())); (err == nil) != (i < 2) {
			t.Errorf("urgent call %d: got %v, want the first two let through", i, err)
		}
	}
}

// Those who would wait too long do not stand in the queue, and so take nobody's turn.
func TestLimiterTurnsAwayWhomItCannotServe(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC))
	l := &limiter{clock: clk, bucket: rate.NewLimiter(10, 1), patience: 50 * time.Millisecond}
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		var queue *queueError
		if err := l.Wait(t.Context()); !errors.As(err, &queue) || !errors.Is(err, errWaiting) || queue.until != clk.Now().Add(100*time.Millisecond) {
			t.Fatalf("got %v, want to be turned away until the next turn", err)
		}
	}
	clk.Advance(100 * time.Millisecond)
	if err := l.Wait(t.Context()); err != nil {
		t.Errorf("after 1000 were turned away: %v, want a turn", err)
	}
}

func TestLimiterLearnsFromTheAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	theirs := now.Add(-time.Hour) // GitLab's clock
	tests := []struct {
		name   string
		status int
		header map[string]string
		want   time.Duration
	}{
		{"seconds", 429, map[string]string{"Retry-After": "30"}, 30 * time.Second},
		{"date on their clock", 503, map[string]string{"Retry-After": theirs.Add(20 * time.Second).Format(http.TimeFormat)}, 20 * time.Second},
		{"reset on their clock", 429, map[string]string{"RateLimit-Reset": fmt.Sprint(theirs.Add(40 * time.Second).Unix())}, 40 * time.Second},
		{"Retry-After goes first", 429, map[string]string{"Retry-After": "3", "RateLimit-Reset": fmt.Sprint(theirs.Add(time.Minute).Unix())}, 3 * time.Second},
		{"far too long", 429, map[string]string{"Retry-After": "2000000000"}, maxPause},
		{"past", 429, map[string]string{"Retry-After": "-5"}, 0},
		{"garbage", 429, map[string]string{"Retry-After": "soon", "RateLimit-Reset": "later"}, 0},
		{"nothing", 429, nil, 0},
		{"good answer with headers", 200, map[string]string{"RateLimit-Reset": fmt.Sprint(theirs.Add(time.Minute).Unix())}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &limiter{clock: clock.NewFake(now), bucket: rate.NewLimiter(10, 2), patience: time.Second}
			resp := &http.Response{StatusCode: tt.status, Header: http.Header{"Date": {theirs.Format(http.TimeFormat)}}}
			for k, v := range tt.header {
				resp.Header.Set(k, v)
			}
			var want time.Time
			if tt.want > 0 {
				want = now.Add(tt.want)
			}
			if got := l.learn(resp); !got.Equal(want) || !l.until.Equal(want) {
				t.Errorf("got %v and a pause until %v, want %v", got, l.until, want)
			}
		})
	}
}

func TestNextPageTakesParametersOnly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		header http.Header
		want   url.Values
	}{
		{"none", http.Header{}, url.Values{}},
		{"empty", http.Header{"X-Next-Page": {""}}, url.Values{}},
		{"offset", http.Header{"X-Next-Page": {"3"}}, url.Values{"page": {"3"}}},
		{"keyset", http.Header{"Link": {`<https://evil.example/x?a=1,2&page_token=ab%2Fc&ref=evil&private_token=x>; rel="next"`}}, url.Values{"page_token": {"ab/c"}}},
		{"among others", http.Header{"Link": {`<https://x/?page=1>; rel="first", <https://x/?page=2>; rel="next"`}}, url.Values{"page": {"2"}}},
		{"garbage", http.Header{"Link": {`<<<>>>;rel="next",,;<`}}, url.Values{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, nextPage(tt.header)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStampReadsEveryFormOfGitLab(t *testing.T) {
	t.Parallel()
	at := time.Date(2016, 8, 12, 15, 23, 28, 0, time.UTC)
	tests := map[string]time.Time{
		`"2016-08-12 15:23:28 UTC"`:       at,
		`"2016-08-12T15:23:28Z"`:          at,
		`"2016-08-12T15:23:28.123Z"`:      at.Add(123 * time.Millisecond),
		`"2016-08-12T17:23:28.000+02:00"`: at,
		`"2016-08-12 17:23:28 +0200"`:     at,
		`"2016-08-12"`:                    time.Date(2016, 8, 12, 0, 0, 0, 0, time.UTC),
		`null`:                            {},
		`""`:                              {},
		`"yesterday"`:                     {},
		`12`:                              {},
		`{"a":1}`:                         {},
	}
	for raw, want := range tests {
		got := stamp{time.Unix(1, 0)}
		if err := json.Unmarshal([]byte(raw), &got); err != nil || !got.Equal(want) && raw != "null" {
			t.Errorf("%s: got %v %v, want %v", raw, got, err, want)
		}
	}
}

// TestAPIFixturesDecode reads what GitLab and its clients publish as answers.
func TestAPIFixturesDecode(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(sharedFixtures); err != nil {
		t.Skipf("the shared fixtures are not here: %v", err)
	}
	for name, into := range map[string]any{
		"trigger-pipeline.201.json":        &pipelineJSON{},
		"pipeline.get.json":                &pipelineJSON{},
		"pipeline.pending-with-nulls.json": &pipelineJSON{},
		"pipelines.list.json":              &[]pipelineJSON{},
		"pipeline-jobs.list.json":          &[]jobJSON{},
		"pipeline-bridges.list.json":       &[]jobJSON{},
		"job.get.json":                     &jobJSON{},
		"pipeline-variables.list.json":     &[]variableJSON{},
		"repository-tree.list.json":        &[]treeJSON{},
	} {
		raw, err := os.ReadFile(filepath.Join(sharedFixtures, "api", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if p, ok := into.(*pipelineJSON); ok && (p.ID == 0 || p.Status == "" || p.CreatedAt.IsZero()) {
			t.Errorf("%s: got %+v, want id, status and time", name, p)
		}
	}
}

// TestErrorFixturesAreUnderstood: every error body that GitLab's sources assert yields its sentence.
func TestErrorFixturesAreUnderstood(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(sharedFixtures, "api/errors.json"))
	if err != nil {
		t.Skipf("the shared fixtures are not here: %v", err)
	}
	var all []struct {
		Case string          `json:"case"`
		Type string          `json:"content_type"`
		Body json.RawMessage `json:"body"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	a := &Adapter{scrub: scrubber(nil)}
	for _, c := range all {
		got := a.said(c.Body)
		if got == "" || strings.ContainsAny(got, "{}[]\n") {
			t.Errorf("%s: got %q, want a sentence", c.Case, got)
		}
	}
}

// TestScannerAgreesWithEncodingJSON compares what is read of every webhook fixture.
func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob(filepath.Join(sharedFixtures, "webhooks/*.json"))
	if len(files) == 0 {
		t.Skip("the shared fixtures are not here")
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		got := map[string]json.RawMessage{}
		if err := members(raw, func(name, value []byte) { got[string(name)] = value }); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-encoding/json +members):\n%s", filepath.Base(file), diff)
		}
	}
}

func TestScannerRefusesWhatIsNoObject(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", " ", "[]", "7", `"x"`, "{", `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a" 1}`, `{a:1}`,
		`{"a":"\"}`, `{"a":[}`, `{"a":{"b":1}`,
	} {
		if err := members([]byte(raw), func([]byte, []byte) {}); err == nil {
			t.Errorf("%q: got no error", raw)
		}
	}
	for raw, want := range map[string]string{
		`{}`: "",
		` { "a" : "x\\\"}" , "b":[{"]":"}"}] } trailing`: `a="x\\\"}" b=[{"]":"}"}] `,
	} {
		var got strings.Builder
		err := members([]byte(raw), func(name, value []byte) { fmt.Fprintf(&got, "%s=%s ", name, value) })
		if err != nil || got.String() != want {
			t.Errorf("%q: got %q %v, want %q", raw, got.String(), err, want)
		}
	}
}

func FuzzMentions(f *testing.F) {
	f.Add("Merge branch 'deployment/demo/1731' into 'main'")
	f.Add("[AutoDeploy][Create] a|1,b,c|3")
	f.Add("[AutoDeploy] demo:12 - deploy new instance :rocket:")
	f.Fuzz(func(t *testing.T, message string) {
		all := mentions(message)
		if len(all) > maxMentions {
			t.Errorf("got %d mentions, want at most %d", len(all), maxMentions)
		}
		for _, m := range all {
			if m.Instance == "" || m.Number < 0 || !strings.Contains(message, m.Instance) {
				t.Errorf("%q: got %+v", message, m)
			}
		}
	})
}

func TestMemoForgetsTheOldest(t *testing.T) {
	t.Parallel()
	m := newMemo[int, int](3)
	for i := range 10 {
		m.put(i, i)
		m.put(i, i*i)
	}
	for i := range 10 {
		v, ok := m.get(i)
		if want := i >= 7; ok != want || ok && v != i*i {
			t.Errorf("get %d: got %d %v, want known %v", i, v, ok, want)
		}
	}
	if len(m.values) != 3 || len(m.order) != 3 {
		t.Errorf("size: got %d and %d, want 3", len(m.values), len(m.order))
	}
}
