package mattermost

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

const fixtureDir = "../../../shared/fixtures/mattermost"

// fixtures are recorded bodies of real servers, 11.1 and 9.9. They live beside the project and are
// not part of it.
func fixtures(tb testing.TB, pattern string) map[string][]byte {
	tb.Helper()
	out := map[string][]byte{}
	for _, dir := range []string{"", "9.9.0"} {
		names, err := filepath.Glob(filepath.Join(fixtureDir, dir, pattern))
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".headers.json") {
				continue
			}
			b, err := os.ReadFile(name)
			if err != nil {
				tb.Fatal(err)
			}
			out[filepath.Join(dir, filepath.Base(name))] = b
		}
	}
	return out
}

// needFixtures skips when there are none.
func needFixtures(tb testing.TB, pattern string) map[string][]byte {
	tb.Helper()
	out := fixtures(tb, pattern)
	if len(out) == 0 {
		tb.Skipf("no recorded bodies in %s", fixtureDir)
	}
	return out
}

func TestRecordedCommandsDecode(t *testing.T) {
	t.Parallel()
	for name, body := range needFixtures(t, "slash_command*.form") {
		c, err := decodeCommand(body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.UserName != "alice" || c.Token == "" || c.ResponseURL == "" || !validID(c.TeamID) {
			t.Errorf("%s: %+v", name, c)
		}
		thread := strings.Contains(name, "thread") && !strings.HasPrefix(name, "9.9.0")
		if got := c.RootID != ""; got != thread {
			t.Errorf("%s: root id %q, want one: %v", name, c.RootID, thread)
		}
	}
}

func TestRecordedClicksDecode(t *testing.T) {
	t.Parallel()
	for name, body := range needFixtures(t, "action_*.json") {
		c, err := decodeClick(body)
		if err != nil || c.UserName != "alice" || !validID(c.PostID) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestRecordedDialogsDecode(t *testing.T) {
	t.Parallel()
	for name, body := range needFixtures(t, "dialog_*.json") {
		s, err := decodeSubmission(body)
		if err != nil || s.Type == "" || s.state == "" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if want := strings.Contains(name, "cancelled"); s.Cancelled != want {
			t.Errorf("%s: cancelled %v, want %v", name, s.Cancelled, want)
		}
		values, wrong := fieldValues([]dialogField{{"title", 80}, {"desc", 3000}, {"sev", 3000}, {"page", 150}}, s.Values)
		if len(wrong) > 0 || strings.HasSuffix(name, "dialog_submission.json") && (values["title"] != "db down" || values["page"] != "true") {
			t.Errorf("%s: values %v, wrong %v", name, values, wrong)
		}
	}
}

func TestRecordedErrorsAreUnderstood(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	want := map[string]ops.Code{
		"rest_error_401.json": ops.CodeDenied, "rest_error_403_ephemeral_by_plain_bot.json": ops.CodeDenied,
		"rest_error_403_post_not_member.json": ops.CodeDenied, "rest_error_404_post.json": ops.CodeNotFound,
		"rest_error_404_action.json": ops.CodeNotFound, "rest_error_429.json": ops.CodeUnavailable,
		"rest_error_dialog_bad_trigger.json": ops.CodeInvalid, "rest_error_dialog_trigger_expired.json": ops.CodeInvalid,
	}
	for name, body := range needFixtures(t, "rest_error_*.json") {
		var f struct {
			ID     string      `json:"id"`
			Code   int         `json:"status_code"`
			Status int         `json:"status"`
			Header http.Header `json:"header"`
			Body   string      `json:"body"`
		}
		if err := json.Unmarshal(body, &f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		status, text := f.Code, string(body)
		if f.Status != 0 {
			status, text = f.Status, f.Body
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), f.Header)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}))
		client := model.NewAPIv4Client(srv.URL)
		_, resp, err := client.GetMe(t.Context(), "")
		s := &server{clock: clock.NewFake(now)}
		e := s.explain("test", resp, err)
		srv.Close()
		code, ok := want[name]
		if !ok && status >= 500 {
			code = ops.CodeUnavailable
		} else if !ok {
			code = ops.CodeInvalid
		}
		if e.Code != code {
			t.Errorf("%s: code %s, want %s", name, e.Code, code)
		}
		if got := apiErrorID(e); got != f.ID {
			t.Errorf("%s: id %q, want %q", name, got, f.ID)
		}
		if name == "rest_error_429.json" && (!e.NotSent || !e.RetryAt.Equal(now.Add(time.Second))) {
			t.Errorf("%s: NotSent %v, RetryAt %v; want a second from now", name, e.NotSent, e.RetryAt)
		}
	}
}

func TestRecordedPostsDecode(t *testing.T) {
	t.Parallel()
	for name, body := range needFixtures(t, "rest_create_post*_response.json") {
		var p model.Post
		if err := json.Unmarshal(body, &p); err != nil || !validID(p.Id) || !validID(p.UserId) {
			t.Errorf("%s: %+v, %v", name, p.Id, err)
		}
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"none", http.Header{}, 5 * time.Second},
		{"one", http.Header{"Retry-After": {"1"}}, time.Second},
		{"zero", http.Header{"Retry-After": {"0"}}, time.Second},
		{"year", http.Header{"Retry-After": {"31536000"}}, 5 * time.Minute},
		{"negative", http.Header{"Retry-After": {"-1"}}, 5 * time.Second},
		{"overflow", http.Header{"Retry-After": {"9223372036854775807"}}, 5 * time.Minute},
		{"reset", http.Header{"X-Ratelimit-Reset": {"11"}}, 11 * time.Second},
		{"date", http.Header{"Retry-After": {"Sat, 21 Nov 2026 10:04:50 GMT"}}, 5 * time.Second},
	} {
		if got := retryAfter(tt.header); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestErrorsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := &server{clock: clock.NewFake(time.Time{})}
	if e := s.explain("test", nil, errors.New("reset")); e.Code != ops.CodeUnavailable || e.NotSent {
		t.Errorf("%+v, want unavailable with an unknown outcome", e)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"user_id":"jpk3sjf317f19ecrzy4stz9mxr","context":{"t":"a","m":"b"}}`))
	f.Add([]byte("token=a&team_id=b"))
	for _, pattern := range []string{"slash_command*.form", "action_*.json", "dialog_*.json"} {
		for _, body := range fixtures(f, pattern) {
			f.Add(body)
		}
	}
	signer, err := ops.NewSigner([]byte(strings.Repeat("k", 32)))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if c, err := decodeCommand(body); err == nil && (!validID(c.UserID) || !validID(c.ChannelID) || c.TriggerID == "") {
			t.Errorf("command %+v was accepted", c)
		}
		if c, err := decodeClick(body); err == nil {
			if !validID(c.PostID) {
				t.Errorf("click %+v was accepted", c)
			}
			if _, err := openAction(signer, "main", c.ChannelID, c.Token, c.Seal); err == nil {
				t.Errorf("seal %q was accepted", c.Seal)
			}
		}
		if s, err := decodeSubmission(body); err == nil {
			values, wrong := fieldValues([]dialogField{{"title", 10}, {"why", 10}}, s.Values)
			if len(values)+len(wrong) > 2 {
				t.Errorf("values %v, wrong %v of two fields", values, wrong)
			}
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("@all <x> http://evil.example")
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		escape(&b, s, 0, 0)
		if strings.Count(b.String(), "@") != strings.Count(b.String(), "@"+zwsp) {
			t.Errorf("%q has a live @", b.String())
		}
		if strings.ContainsAny(b.String(), "\n\r<$") {
			t.Errorf("%q has a bare line break, < or $", b.String())
		}
		if got := codeSpan(s); got != "" && strings.Contains(chat.Clean(s), strings.Repeat("`", longestRun(got, '`'))) {
			t.Errorf("%q is closed by its own text", got)
		}
	})
}

func TestCommandWaitsWhileItsTokenChanges(t *testing.T) {
	t.Parallel()
	ours := &team{id: "b7dqi7xhbtb58nk5o79rzc8m3e", token: secret.New("old")}
	s := &server{
		clock: clock.NewFake(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)), registered: true,
		teams: map[string]*team{},
	}
	s.teams[ours.id] = ours
	a := &Adapter{tokens: acceptAll{}}
	done := s.changing(ours)
	answer := make(chan bool, 1)
	go func() { answer <- s.accepts(t.Context(), a.tokens, ours.id, "new") }()
	if !s.accepts(t.Context(), a.tokens, ours.id, "old") {
		t.Error("the old token was refused during the change")
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if s.accepts(impatient, a.tokens, ours.id, "new") {
		t.Error("the new token was accepted before it was stored")
	}
	if err := a.keep(t.Context(), s, ours, secret.New("new"), ""); err != nil {
		t.Fatal(err)
	}
	done()
	if !<-answer {
		t.Error("the command that came during the change was refused")
	}
}

// acceptAll stores nothing and says yes.
type acceptAll struct{}

func (acceptAll) Get(context.Context, string) (secret.Secret, bool, error) {
	return secret.Secret{}, false, nil
}
func (acceptAll) Put(context.Context, string, secret.Secret) error { return nil }
