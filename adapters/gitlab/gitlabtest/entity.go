package gitlabtest

import (
	"fmt"
	"slices"
	"time"
)

// apiTime is how the REST API writes an instant.
const apiTime = "2006-01-02T15:04:05.000Z"

// stamp is an instant for the REST API, or null if it has not come.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format(apiTime)
	return &text
}

// The types below are GitLab's entities (lib/api/entities), with every field that its OpenAPI
// document shows and that a client may look at. Pointers are null where the real answer is.

type userEntity struct {
	ID          int64  `json:"id"`
	Username    string `json:"username"`
	PublicEmail string `json:"public_email"`
	Name        string `json:"name"`
	State       string `json:"state"`
	Locked      bool   `json:"locked"`
	AvatarURL   string `json:"avatar_url"`
	WebURL      string `json:"web_url"`
}

type fullUserEntity struct {
	userEntity

	CreatedAt    *string `json:"created_at"`
	Bio          string  `json:"bio"`
	Location     string  `json:"location"`
	Linkedin     string  `json:"linkedin"`
	Twitter      string  `json:"twitter"`
	WebsiteURL   string  `json:"website_url"`
	Organization string  `json:"organization"`
	JobTitle     string  `json:"job_title"`
	Pronouns     *string `json:"pronouns"`
}

type pipelineEntity struct {
	ID        int64   `json:"id"`
	IID       int64   `json:"iid"`
	ProjectID int64   `json:"project_id"`
	SHA       string  `json:"sha"`
	Ref       string  `json:"ref"`
	Status    string  `json:"status"`
	Source    string  `json:"source"`
	CreatedAt *string `json:"created_at"`
	UpdatedAt *string `json:"updated_at"`
	WebURL    string  `json:"web_url"`
}

type listedPipelineEntity struct {
	pipelineEntity

	Name *string `json:"name"`
}

type fullPipelineEntity struct {
	pipelineEntity

	BeforeSHA      string               `json:"before_sha"`
	Tag            bool                 `json:"tag"`
	YAMLErrors     *string              `json:"yaml_errors"`
	User           userEntity           `json:"user"`
	StartedAt      *string              `json:"started_at"`
	FinishedAt     *string              `json:"finished_at"`
	CommittedAt    *string              `json:"committed_at"`
	Duration       *int64               `json:"duration"`
	QueuedDuration *int64               `json:"queued_duration"`
	Coverage       *string              `json:"coverage"`
	DetailedStatus detailedStatusEntity `json:"detailed_status"`
	Archived       bool                 `json:"archived"`
}

type namedPipelineEntity struct {
	fullPipelineEntity

	Name *string `json:"name"`
}

type detailedStatusEntity struct {
	Icon         string         `json:"icon"`
	Text         string         `json:"text"`
	Label        string         `json:"label"`
	Group        string         `json:"group"`
	Tooltip      string         `json:"tooltip"`
	HasDetails   bool           `json:"has_details"`
	DetailsPath  string         `json:"details_path"`
	Illustration map[string]any `json:"illustration"`
	Favicon      string         `json:"favicon"`
}

type variableEntity struct {
	Kind  string `json:"variable_type"`
	Key   string `json:"key"`
	Value string `json:"value"`
	Raw   bool   `json:"raw"`
}

type commitEntity struct {
	ID               string         `json:"id"`
	ShortID          string         `json:"short_id"`
	CreatedAt        *string        `json:"created_at"`
	ParentIDs        []string       `json:"parent_ids"`
	Title            string         `json:"title"`
	Message          string         `json:"message"`
	AuthorName       string         `json:"author_name"`
	AuthorEmail      string         `json:"author_email"`
	AuthoredDate     *string        `json:"authored_date"`
	CommitterName    string         `json:"committer_name"`
	CommitterEmail   string         `json:"committer_email"`
	CommittedDate    *string        `json:"committed_date"`
	Trailers         map[string]any `json:"trailers"`
	ExtendedTrailers map[string]any `json:"extended_trailers"`
	WebURL           string         `json:"web_url"`
}

type jobEntity struct {
	ID             int64           `json:"id"`
	Status         string          `json:"status"`
	Stage          string          `json:"stage"`
	Name           string          `json:"name"`
	Ref            string          `json:"ref"`
	Tag            bool            `json:"tag"`
	Coverage       *float64        `json:"coverage"`
	AllowFailure   bool            `json:"allow_failure"`
	CreatedAt      *string         `json:"created_at"`
	StartedAt      *string         `json:"started_at"`
	FinishedAt     *string         `json:"finished_at"`
	ErasedAt       *string         `json:"erased_at"`
	Duration       *float64        `json:"duration"`
	QueuedDuration *float64        `json:"queued_duration"`
	User           fullUserEntity  `json:"user"`
	Commit         commitEntity    `json:"commit"`
	Pipeline       pipelineEntity  `json:"pipeline"`
	FailureReason  *string         `json:"failure_reason,omitempty"`
	WebURL         string          `json:"web_url"`
	Project        map[string]bool `json:"project"`
}

type fullJobEntity struct {
	jobEntity

	ArtifactsFile     *artifactEntity  `json:"artifacts_file,omitempty"`
	Artifacts         []artifactEntity `json:"artifacts"`
	Runner            *runnerEntity    `json:"runner"`
	RunnerManager     *struct{}        `json:"runner_manager"`
	ArtifactsExpireAt *string          `json:"artifacts_expire_at"`
	Archived          bool             `json:"archived"`
	TagList           []string         `json:"tag_list"`
}

type bridgeEntity struct {
	jobEntity

	Downstream *pipelineEntity `json:"downstream_pipeline"`
}

type artifactEntity struct {
	FileType string  `json:"file_type,omitempty"`
	Size     int64   `json:"size"`
	Filename string  `json:"filename"`
	Format   *string `json:"file_format,omitempty"`
}

type runnerEntity struct {
	ID          int64  `json:"id"`
	Description string `json:"description"`
	Active      bool   `json:"active"`
	Paused      bool   `json:"paused"`
	IsShared    bool   `json:"is_shared"`
	RunnerType  string `json:"runner_type"`
	Name        string `json:"name"`
	Online      bool   `json:"online"`
	Status      string `json:"status"`
}

func (s *Server) userEntity(u *user) userEntity {
	return userEntity{
		ID: u.id, Username: u.username, Name: u.name, State: "active",
		AvatarURL: s.baseURL + "/uploads/-/system/user/avatar/" + fmt.Sprint(u.id) + "/avatar.png",
		WebURL:    s.baseURL + "/" + u.username,
	}
}

func (s *Server) fullUserEntity(u *user) fullUserEntity {
	return fullUserEntity{userEntity: s.userEntity(u), CreatedAt: stamp(firstDay())}
}

// firstDay is when everything older than the simulation was made.
func firstDay() time.Time { return time.Date(2024, 3, 4, 9, 0, 0, 0, time.UTC) }

func (s *Server) webURL(p *project) string { return s.baseURL + "/" + p.Path }

// pipelineEntity is a pipeline in the state m.
func (s *Server) pipelineEntity(p *pipeline, m moment) pipelineEntity {
	return pipelineEntity{
		ID: p.id, IID: p.iid, ProjectID: p.project.ID, SHA: p.sha, Ref: p.ref, Status: m.status, Source: p.source,
		CreatedAt: stamp(p.created), UpdatedAt: stamp(m.updated),
		WebURL: fmt.Sprintf("%s/-/pipelines/%d", s.webURL(p.project), p.id),
	}
}

func (s *Server) fullPipelineEntity(p *pipeline, m moment) fullPipelineEntity {
	ran, queued := p.duration(m)
	return fullPipelineEntity{
		pipelineEntity: s.pipelineEntity(p, m), BeforeSHA: p.before, Tag: p.tag, YAMLErrors: optional(p.yamlErrors),
		User: s.userEntity(p.user), StartedAt: stamp(m.started), FinishedAt: stamp(m.finished), Duration: ran,
		QueuedDuration: queued, DetailedStatus: p.detailed(m.status),
	}
}

// detailed is the status for people. Its words are for display and may differ between versions.
func (p *pipeline) detailed(status string) detailedStatusEntity {
	icon, word, label := status, status, status
	switch status {
	case stSuccess:
		word, label = "passed", "passed"
		if slices.ContainsFunc(p.latest(-1), func(j *job) bool { return j.AllowFailure && j.status == stFailed }) {
			icon, word, label = "warning", "warning", "passed with warnings"
		}
	case stManual:
		word, label = "blocked", "waiting for manual action"
	case stWaitingForResource:
		icon, word, label = "pending", "waiting", "waiting for resource"
	case stScheduled:
		label = "waiting for delayed job"
	}
	group := status
	if icon == "warning" {
		group = "success-with-warnings"
	}
	return detailedStatusEntity{
		Icon: "status_" + icon, Text: word, Label: label, Group: group, Tooltip: word, HasDetails: true,
		DetailsPath: fmt.Sprintf("/%s/-/pipelines/%d", p.project.Path, p.id),
		Favicon:     "/assets/ci_favicons/favicon_status_" + icon + ".png",
	}
}

func (s *Server) commitEntity(p *project, c *commit) commitEntity {
	e := commitEntity{
		ID: c.id, ShortID: c.id[:8], CreatedAt: stamp(c.at), ParentIDs: []string{}, Title: c.title(), Message: c.message,
		AuthorName: c.author.name, AuthorEmail: email(c.author), AuthoredDate: stamp(c.at),
		CommitterName: c.author.name, CommitterEmail: email(c.author), CommittedDate: stamp(c.at),
		Trailers: map[string]any{}, ExtendedTrailers: map[string]any{},
		WebURL: s.webURL(p) + "/-/commit/" + c.id,
	}
	for _, parent := range c.parents {
		if parent != nil {
			e.ParentIDs = append(e.ParentIDs, parent.id)
		}
	}
	return e
}

func email(u *user) string { return u.username + "@noreply.gitlab.example" }

func (s *Server) jobEntity(j *job) jobEntity {
	p := j.pipeline
	e := jobEntity{
		ID: j.id, Status: j.status, Stage: j.stageName(), Name: j.Name, Ref: p.ref, Tag: p.tag,
		AllowFailure: j.AllowFailure, CreatedAt: stamp(j.created), StartedAt: stamp(j.started),
		FinishedAt: stamp(j.finished), User: s.fullUserEntity(p.user),
		Commit:   s.commitEntity(p.project, p.project.repo.commits[p.sha]),
		Pipeline: s.pipelineEntity(p, p.moment),
		WebURL:   fmt.Sprintf("%s/-/jobs/%d", s.webURL(p.project), j.id),
		Project:  map[string]bool{"ci_job_token_scope_enabled": false},
	}
	e.Duration, e.QueuedDuration = j.times(s.at)
	if j.status == stFailed {
		e.FailureReason = optional(j.reason)
	}
	return e
}

// times are the seconds a job ran (so far) and waited before.
func (j *job) times(now time.Time) (ran, queued *float64) {
	if j.started.IsZero() {
		return nil, nil
	}
	end := j.finished
	if end.IsZero() {
		end = now
	}
	r := end.Sub(j.started).Seconds()
	ran = &r
	if !j.queued.IsZero() {
		q := j.started.Sub(j.queued).Seconds()
		queued = &q
	}
	return ran, queued
}

func (s *Server) fullJobEntity(j *job) fullJobEntity {
	e := fullJobEntity{jobEntity: s.jobEntity(j), Artifacts: []artifactEntity{}, TagList: []string{"docker"}}
	if !j.started.IsZero() {
		e.Runner = theRunner()
	}
	if complete(j.status) && !j.started.IsZero() {
		raw := "raw"
		e.Artifacts = append(e.Artifacts, artifactEntity{
			FileType: "trace", Size: int64(len(s.trace(j))), Filename: "job.log", Format: &raw,
		})
	}
	return e
}

func theRunner() *runnerEntity {
	return &runnerEntity{
		ID: 31, Description: "cluster-runner", Active: true, IsShared: true, RunnerType: "instance_type",
		Name: "gitlab-runner", Online: true, Status: "online",
	}
}

func (s *Server) bridgeEntity(j *job) bridgeEntity {
	e := bridgeEntity{jobEntity: s.jobEntity(j)}
	if j.downstream != nil {
		down := s.pipelineEntity(j.downstream, j.downstream.moment)
		e.Downstream = &down
	}
	return e
}

// optional is null for an empty text.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
