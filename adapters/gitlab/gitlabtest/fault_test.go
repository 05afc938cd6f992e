package gitlabtest_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
)

func TestFaultsOnTrigger(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		do        gitlabtest.Action
		created   int
		status    int // zero is no answer
		body      string
		header    string
		wantSent  int
		wantState int
	}{
		{"500 before", gitlabtest.Answer(500, gitlabtest.JSONHeader(), `{"message":"500"}`), 0, 500, `{"message":"500"}`, "", 500, 0},
		{"502 after", gitlabtest.AnswerAfter(502, nil, "bad gateway"), 1, 502, "bad gateway", "", 502, 201},
		{"429", gitlabtest.RateLimited(30 * time.Second), 0, 429, "Retry later\n", "Retry-After", 429, 0},
		{"too many pipelines", gitlabtest.TooManyPipelines(), 0, 400, "Too many pipelines", "", 400, 0},
		{"html", gitlabtest.HTML(), 0, 200, "<!DOCTYPE html>", "", 200, 0},
		{"echo", gitlabtest.EchoHeaders(400), 0, 400, "Content-Type: application/json", "", 400, 0},
		{"drop before", gitlabtest.DropBefore(), 0, 0, "", "", 0, 0},
		{"drop after", gitlabtest.DropAfter(), 1, 0, "", "", 0, 201},
		{"truncated", gitlabtest.Truncate(20), 1, 0, "", "", 201, 201},
		{"flood", gitlabtest.Flood(100000), 0, 200, `{"message":"all work`, "", 200, 0},
		{"garbage", gitlabtest.Answer(201, gitlabtest.JSONHeader(), `{"id":`), 0, 201, `{"id":`, "", 201, 0},
		{"empty", gitlabtest.Answer(200, nil, ""), 0, 200, "", "", 200, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			in := w.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: tt.do})
			a, err := w.try("POST", "projects/42/trigger/pipeline", "", deploy("demo", "1", "k"))
			if (err == nil) != (tt.status != 0) {
				t.Errorf("error: got %v, want one only if the answer is lost", err)
			}
			if err == nil && (a.status != tt.status || !strings.Contains(string(a.body), tt.body)) {
				t.Errorf("got %d %.80q, want %d with %q", a.status, a.body, tt.status, tt.body)
			}
			if tt.header != "" && a.header.Get(tt.header) == "" {
				t.Errorf("got no header %s", tt.header)
			}
			if got := len(w.PipelinesByKey("k")); got != tt.created {
				t.Errorf("pipelines with the key: got %d, want %d", got, tt.created)
			}
			e := w.Triggers()[0]
			if e.Sent != tt.wantSent || e.Status != tt.wantState || e.Fault == "" || in.Hits() != 1 {
				t.Errorf("ledger: got sent %d, status %d, fault %q, want %d, %d and a name", e.Sent, e.Status, e.Fault,
					tt.wantSent, tt.wantState)
			}
			w.want(201, "POST", "projects/42/trigger/pipeline", "", deploy("demo", "1", "k2"), nil)
		})
	}
}

func TestHangAndDelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := w.Inject(gitlabtest.Fault{Path: regexp.MustCompile(`/trigger/`), Do: gitlabtest.Hang()})
	done := make(chan int, 2)
	call := func() {
		a, err := w.try("POST", "projects/42/trigger/pipeline", "", deploy("demo", "1", "k"))
		if err != nil {
			t.Errorf("request: %v", err)
		}
		done <- a.status
	}
	go call()
	ctx := within(t)
	if err := w.Until(ctx, func() bool { return slow.Hits() > 0 }); err != nil {
		t.Fatal(err)
	}
	if n := w.Created(); n != 0 {
		t.Errorf("pipelines while the request hangs: got %d, want 0", n)
	}
	slow.Remove()
	if got := <-done; got != http.StatusCreated {
		t.Errorf("released: got %d, want 201", got)
	}
	w.Inject(gitlabtest.Fault{Method: "POST", Do: gitlabtest.Delay(9 * time.Second)})
	go call()
	if err := w.clock.Waiting(ctx, 1); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(9 * time.Second)
	if got := <-done; got != http.StatusCreated {
		t.Errorf("delayed: got %d, want 201", got)
	}
}

func TestReadsCanLag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unseen := w.Inject(gitlabtest.Fault{Method: "GET", Do: gitlabtest.Unseen(5 * time.Second)})
	id := w.trigger("demo", "1", "k")
	path := "projects/42/pipelines/" + itoa(id)
	w.want(404, "GET", path, readToken, nil, nil)
	var list []struct {
		ID        int64
		Status    string
		UpdatedAt time.Time `json:"updated_at"`
	}
	w.want(200, "GET", "projects/42/pipelines", readToken, nil, &list)
	if len(list) != 0 {
		t.Errorf("list: got %d pipelines, want none yet", len(list))
	}
	w.pass(5 * time.Second)
	w.want(200, "GET", path, readToken, nil, nil)
	unseen.Remove()

	w.pass(2 * time.Minute)
	var fresh, stale struct {
		Status    string
		UpdatedAt time.Time `json:"updated_at"`
	}
	w.want(200, "GET", path, readToken, nil, &fresh)
	w.Inject(gitlabtest.Fault{Method: "GET", Do: gitlabtest.Stale(100 * time.Second)})
	w.want(200, "GET", path, readToken, nil, &stale)
	if fresh.Status != "success" || stale.Status != "running" || !stale.UpdatedAt.Before(fresh.UpdatedAt) {
		t.Errorf("got fresh %+v and stale %+v, want success, and an older running", fresh, stale)
	}
}

func TestRandomFaultsRepeatBySeed(t *testing.T) {
	t.Parallel()
	run := func() string {
		w := newWorld(t)
		w.Inject(gitlabtest.Fault{Route: "version", Probability: 0.5, Do: gitlabtest.Answer(503, nil, "")})
		var b strings.Builder
		for range 20 {
			a, err := w.try("GET", "version", readToken, nil)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(itoa(int64(a.status)) + " ")
		}
		return b.String()
	}
	first := run()
	if second := run(); first != second {
		t.Errorf("got %s and then %s, want the same", first, second)
	}
	if !strings.Contains(first, "200") || !strings.Contains(first, "503") {
		t.Errorf("got %s, want both answers", first)
	}
}

func TestLedgerForgetsOnlyReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *gitlabtest.Options) { o.LedgerReads = 3 })
	for i := range 10 {
		w.want(200, "GET", "version", readToken, nil, nil)
		w.want(201, "POST", "projects/42/trigger/pipeline", "", deploy("demo", itoa(int64(i+1)), "k"+itoa(int64(i))), nil)
	}
	if got := len(w.Triggers()); got != 10 {
		t.Errorf("triggers in the ledger: got %d, want 10", got)
	}
	if got := len(w.Ledger()) - 10; got < 3 || got > 6 {
		t.Errorf("reads in the ledger: got %d, want 3 to 6", got)
	}
	last := w.Triggers()[9]
	if last.Seq != 20 || last.Body["token"] != "***" || last.PipelineID == 0 {
		t.Errorf("last entry: got %+v, want number 20 with a masked token and a pipeline", last)
	}
}
