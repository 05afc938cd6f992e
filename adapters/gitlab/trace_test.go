package gitlab_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/ops"
)

// TestO67_TailIsThePlainEndOfTheLog covers what runners write, and what to say when there is nothing.
func TestO67_TailIsThePlainEndOfTheLog(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, log, want string }{
		{"plain", "one\ntwo\n", "one\ntwo"},
		{"colours", "\x1b[31;1mERROR\x1b[0;m: \x1b[0Kfailed\x1b[0m\n", "ERROR: failed"},
		{
			"sections", "section_start:1560896352:step\r\x1b[0K\x1b[36;1mHeader\x1b[0;m\nwork\nsection_end:1560896353:step\r\x1b[0KAfter\nsection_end:1:x\r\x1b[0K\n",
			"Header\nwork\nAfter",
		},
		{"collapsed section", "\x1b[0Ksection_start:1:a_b.c[collapsed=true]\r\x1b[0KHead\n", "Head"},
		{"progress", "pull 1%\rpull 50%\rpull 100%\r\ndone\r\n", "pull 100%\ndone"},
		{"links and titles", "\x1b]8;;https://x.example\x1b\\text\x1b]8;;\x07 \x1b]0;title\x07end", "text end"},
		{"line times", "2024-05-22T12:43:46.962646Z 00O one\n2024-05-22T12:43:47.962646Z 01E tw\n2024-05-22T12:43:47.962650Z 01E+o\n", "one\ntwo"},
		{"control characters", "a\x00b\x07c\x08\td\n", "abc\td"},
		{"broken text", "a\xffb\n", "a\uFFFDb"},
		{"unfinished code", "text\x1b[3", "text3"},
		{"last lines only", strings.Repeat("0123456789\n", 100) + "last", strings.TrimSuffix(strings.Repeat("0123456789\n", 8), "\n") + "\nlast"},
		{"one long line", strings.Repeat("ö", 200), strings.Repeat("ö", 50)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				_, _ = io.WriteString(w, tt.log)
			}))
			t.Cleanup(srv.Close)
			got, err := single(t, srv.URL).Tail(t.Context(), "cluster", 1, 100)
			if err != nil || got != tt.want {
				t.Errorf("got %q %v, want %q", got, err, tt.want)
			}
			if len(got) > 100 || !utf8.ValidString(got) {
				t.Errorf("got %d bytes, valid %v, want at most 100 of valid text", len(got), utf8.ValidString(got))
			}
		})
	}
}

func TestO67_LogOfAFailedJobAndWhatIsSaidWithoutOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.Override(42, gitlabtest.Override{FailJob: "push-branch", Trace: "git push\nfatal: denied\n"})
	root := w.create(spec()).Ref
	jobs, err := w.Jobs(t.Context(), root)
	w.must(err)
	if _, err := w.Tail(t.Context(), "cluster", jobs[1].ID, 2000); !strings.Contains(opsError(t, err).Msg, "is empty") {
		t.Errorf("log of a job that has not begun: got %v", err)
	}
	w.clock.Advance(time.Hour)
	tail, err := w.Tail(t.Context(), "cluster", jobs[1].ID, 2000)
	if err != nil || !strings.Contains(tail, "\nfatal: denied\nERROR: Job failed") || strings.ContainsAny(tail, "\x1b\r") {
		t.Errorf("log: got %q %v, want the failure in plain text", tail, err)
	}
	for status, code := range map[int]ops.Code{403: ops.CodeDenied, 404: ops.CodeNotFound, 500: ops.CodeUnavailable} {
		f := w.server.Inject(gitlabtest.Fault{Do: gitlabtest.Answer(status, gitlabtest.JSONHeader(), `{"message":"x"}`)})
		_, err := w.Tail(t.Context(), "cluster", jobs[1].ID, 2000)
		if e := opsError(t, err); e.Code != code || !strings.HasSuffix(e.Msg, ".") {
			t.Errorf("%d: got %v, want %s and a sentence", status, err, code)
		}
		f.Remove()
	}
	w.server.Inject(gitlabtest.Fault{Do: gitlabtest.HTML()})
	if _, err := w.Tail(t.Context(), "cluster", jobs[1].ID, 2000); ops.CodeOf(err) != ops.CodeUnavailable {
		t.Errorf("web page: got %v, want unavailable", err)
	}
}
