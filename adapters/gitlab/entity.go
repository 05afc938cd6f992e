package gitlab

import (
	"strings"
	"time"

	"ocim/ops"
)

// The answers of GitLab, as far as ocim reads them. They are structs of our own, since the client's
// fail as a whole on a field that nobody reads: a fraction in queued_duration, a number in coverage.
// Fields: GitLab lib/api/entities/ci/pipeline.rb, job.rb and bridge.rb.

type pipelineJSON struct {
	ID         int64  `json:"id"`
	ProjectID  int64  `json:"project_id"`
	Name       string `json:"name"`
	Ref        string `json:"ref"`
	SHA        string `json:"sha"`
	Status     string `json:"status"`
	Source     string `json:"source"`
	WebURL     string `json:"web_url"`
	YAMLErrors string `json:"yaml_errors"`
	CreatedAt  stamp  `json:"created_at"`
	UpdatedAt  stamp  `json:"updated_at"`
	StartedAt  stamp  `json:"started_at"`
	FinishedAt stamp  `json:"finished_at"`
}

func (j pipelineJSON) pipeline(project string, role ops.Role) ops.Pipeline {
	return ops.Pipeline{
		Ref:        ops.PipelineRef{Project: project, ID: j.ID},
		Role:       role,
		Source:     clip(j.Source, 100),
		Status:     clip(j.Status, 100),
		GitRef:     clip(j.Ref, 255),
		SHA:        clip(j.SHA, 64),
		URL:        webURL(j.WebURL),
		CreatedAt:  j.CreatedAt.Time,
		UpdatedAt:  j.UpdatedAt.Time,
		StartedAt:  j.StartedAt.Time,
		FinishedAt: j.FinishedAt.Time,
		YAMLErrors: clip(j.YAMLErrors, maxForeign),
	}
}

type jobJSON struct {
	ID            int64         `json:"id"`
	Name          string        `json:"name"`
	Stage         string        `json:"stage"`
	Status        string        `json:"status"`
	FailureReason string        `json:"failure_reason"`
	AllowFailure  bool          `json:"allow_failure"`
	WebURL        string        `json:"web_url"`
	StartedAt     stamp         `json:"started_at"`
	FinishedAt    stamp         `json:"finished_at"`
	Downstream    *pipelineJSON `json:"downstream_pipeline"` // of a bridge; null until it is created
}

func (j jobJSON) job(r ops.PipelineRef) ops.Job {
	return ops.Job{
		ID:            j.ID,
		Project:       r.Project,
		Pipeline:      r.ID,
		Name:          clip(j.Name, 255),
		Stage:         clip(j.Stage, 255),
		Status:        clip(j.Status, 100),
		FailureReason: clip(j.FailureReason, 100),
		AllowFailure:  j.AllowFailure,
		URL:           webURL(j.WebURL),
		StartedAt:     j.StartedAt.Time,
		FinishedAt:    j.FinishedAt.Time,
	}
}

type variableJSON struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type mergeRequestJSON struct {
	IID             int64  `json:"iid"`
	State           string `json:"state"`
	WebURL          string `json:"web_url"`
	TargetBranch    string `json:"target_branch"`
	SourceProjectID int64  `json:"source_project_id"`
	SHA             string `json:"sha"`
	MergedAt        stamp  `json:"merged_at"`
	MergeCommitSHA  string `json:"merge_commit_sha"`
	SquashCommitSHA string `json:"squash_commit_sha"`
}

// landed is the commit that the merge put on the target branch. A fast-forward merge makes none of
// its own: there it is the last commit of the source branch.
func (m mergeRequestJSON) landed() string {
	switch {
	case m.State != "merged":
		return ""
	case m.MergeCommitSHA != "":
		return m.MergeCommitSHA
	case m.SquashCommitSHA != "":
		return m.SquashCommitSHA
	}
	return m.SHA
}

// stamp is a time in any of the forms that GitLab sends; null and anything else is the zero time,
// since no time is worth losing an answer for.
type stamp struct{ time.Time }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *stamp) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	for _, form := range []string{time.RFC3339Nano, "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700", time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			s.Time = t.UTC()
			return nil
		}
	}
	s.Time = time.Time{}
	return nil
}

// webURL lets only web addresses through: the text ends as a link in chat.
func webURL(s string) string {
	if len(s) > 2048 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") {
		return ""
	}
	return s
}

// isSHA reports whether s can stand in a path of the API as a commit.
func isSHA(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	return isHex(s)
}

func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
}
