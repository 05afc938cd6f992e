package ops

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// tailBytes bounds the evidence that is kept of a failed job.
	tailBytes = 6000
	// tailContext is how much of a log is read before the part that is kept: what is secret is told
	// by what stands before it.
	tailContext = 64 << 10
	// tailTimeout ends the reading of evidence. A run has ended also if its log cannot be had.
	tailTimeout = 5 * time.Second
)

// Tail returns the end of a job's log as people may see it: at most limit bytes, secrets redacted.
func (s *Service) Tail(ctx context.Context, op Operation, j Job, limit int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	text, err := s.Pipelines.Tail(ctx, j.Project, j.ID, limit+tailContext)
	if err != nil {
		return "", err
	}
	return lastBytes(s.RedactFor(op, text), limit), nil
}

// lastBytes is the end of text from the beginning of a line, or of a character if it is all one line.
func lastBytes(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	text = text[len(text)-limit:]
	if _, rest, ok := strings.Cut(text, "\n"); ok && rest != "" {
		return rest
	}
	return strings.TrimLeftFunc(text, func(r rune) bool { return r == utf8.RuneError })
}

// evidence reads the tail of the first failed job, once all pipelines have ended.
func (s *Service) evidence(ctx context.Context, op Operation, snap Snapshot) *Failure {
	if len(snap.FailedJobs) == 0 || slices.ContainsFunc(snap.Pipelines, func(p Pipeline) bool { return !PipelineFinal(p.Status) }) {
		return nil
	}
	j := snap.FailedJobs[0]
	f := &Failure{Pipeline: j.Pipeline, JobID: j.ID, Job: j.Name, Stage: j.Stage, Reason: j.FailureReason, URL: j.URL}
	tail, err := s.Tail(ctx, op, j, tailBytes)
	if err != nil {
		f.NoTail = "The log is not retrievable: " + s.RedactFor(op, UserMsg(err))
		return f
	}
	f.Tail = tail
	f.Last = lastLine(f.Tail)
	if f.Tail == "" {
		f.NoTail = "The job has written no log."
	}
	return f
}

func lastLine(s string) string {
	for _, l := range slices.Backward(strings.Split(s, "\n")) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "ERROR: Job failed") && !strings.HasPrefix(l, "Cleaning up") {
			return l
		}
	}
	return ""
}
