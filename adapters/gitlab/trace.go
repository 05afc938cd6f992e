package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"ocim/ops"
)

const (
	// maxTrace bounds how much of a log is read, in bytes. GitLab always sends a log from its
	// beginning; its own limit is 100 MB by default (doc/administration/instance_limits.md).
	maxTrace = 64 << 20
	// defaultTail is how much Tail returns if it is not told, in bytes.
	defaultTail = 4 << 10
	// rawTail is how much of the end of a log is kept before it is cleaned, in bytes: colours and
	// progress bars take many times the room of their text.
	rawTail = 256 << 10
)

var (
	// escape matches terminal codes: ECMA-48 control sequences, operating system commands, and
	// the short escapes.
	escape = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[ -/]*[0-~])")
	// section matches the marks of collapsible sections (GitLab doc/ci/jobs/job_logs.md).
	section = regexp.MustCompile(`^section_(?:start|end):\d+:\S*$`)
	// lineStamp matches the times that runners put before lines, a + meaning that the line goes on
	// the one before (GitLab doc/ci/jobs/job_logs.md, timestamps).
	lineStamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z [0-9a-f]{2}[OE]([+ ]?)`)
)

// Tail implements [ops.Pipelines]. It reads the log from its beginning, since GitLab has no other
// way, and keeps its end. A log of more than 64 MiB is not read: what was kept would not be its end.
func (a *Adapter) Tail(ctx context.Context, name string, job int64, limit int) (string, error) {
	p, err := a.project(name)
	if err != nil {
		return "", err
	}
	if limit <= 0 {
		limit = defaultTail
	}
	end := &tail{size: max(rawTail, 2*limit)}
	ans, err := a.call(ctx, p, request{
		method: http.MethodGet, path: p.path("jobs", job, "trace"), token: p.Token, out: end, limit: maxTrace,
		doing: fmt.Sprintf("read the log of job %d", job), missing: ops.ReasonGitLabDenied,
	})
	var e *ops.Error
	switch {
	case errors.As(err, &e) && end.total >= maxTrace:
		return "", &ops.Error{
			Code: ops.CodeInvalid, Reason: ops.ReasonGitLabRefused,
			Msg: fmt.Sprintf("The log of job %d is larger than %d MiB.", job, maxTrace>>20), Next: "Read it in GitLab.",
		}
	case errors.As(err, &e) && (e.Code == ops.CodeNotFound || e.Code == ops.CodeDenied):
		e.Msg = fmt.Sprintf("GitLab does not show the log of job %d to ocim.", job)
		return "", e
	case err != nil:
		return "", err
	case strings.HasPrefix(ans.Header.Get("Content-Type"), "text/html"):
		return "", &ops.Error{
			Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable,
			Msg: fmt.Sprintf("GitLab answered with a web page instead of the log of job %d.", job),
		}
	}
	text := lastBytes(cleanLog(end.bytes()), limit)
	if text == "" {
		return "", &ops.Error{
			Code: ops.CodeNotFound, Reason: ops.ReasonGitLabRefused,
			Msg: fmt.Sprintf("The log of job %d is empty.", job),
		}
	}
	return text, nil
}

// tail is a writer that keeps the last size bytes.
type tail struct {
	size  int
	total int64
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.total += int64(len(p))
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.size {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.size:]...)
	}
	return len(p), nil
}

// bytes returns what was kept, from the beginning of a line if something was dropped.
func (t *tail) bytes() string {
	b := t.buf[max(0, len(t.buf)-t.size):]
	s := string(b)
	if t.total > int64(len(b)) {
		if _, rest, ok := strings.Cut(s, "\n"); ok {
			s = rest
		}
	}
	return s
}

// cleanLog makes plain text of a log as a terminal would show it in the end: without codes and
// section marks, and with the last state of every line that was written over.
func cleanLog(s string) string {
	var lines []string
	for line := range strings.SplitSeq(strings.ToValidUTF8(s, "\uFFFD"), "\n") {
		joins := false
		if m := lineStamp.FindStringSubmatch(line); m != nil {
			line, joins = line[len(m[0]):], m[1] == "+"
		}
		line = cleanLine(line)
		if joins && len(lines) > 0 {
			lines[len(lines)-1] += line
			continue
		}
		lines = append(lines, line)
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n \t")
}

func cleanLine(line string) string {
	line = escape.ReplaceAllString(line, "")
	last := ""
	for part := range strings.SplitSeq(line, "\r") {
		if part != "" && !section.MatchString(part) {
			last = part
		}
	}
	last = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return -1
		}
		return r
	}, last)
	return strings.TrimRight(last, " \t")
}

// lastBytes returns at most n bytes of the end of s, whole lines if there is room for one.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := len(s) - n
	atLine := s[cut-1] == '\n'
	for cut < len(s) && !utf8.RuneStart(s[cut]) {
		cut++
	}
	s = s[cut:]
	if _, rest, ok := strings.Cut(s, "\n"); ok && !atLine {
		s = rest
	}
	return s
}
