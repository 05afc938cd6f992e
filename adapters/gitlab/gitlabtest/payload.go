package gitlabtest

import (
	"fmt"
	"slices"
	"time"
)

// hookTime is how webhooks write an instant (lib/gitlab/data_builder).
const hookTime = "2006-01-02 15:04:05 UTC"

func hookStamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format(hookTime)
	return &text
}

// object is a JSON object of a payload.
type object = map[string]any

// pipelinePayload is a Pipeline Hook (lib/gitlab/data_builder/pipeline.rb) of the pipeline as it is
// now. The caller holds mu.
func (s *Server) pipelinePayload(p *pipeline) object {
	ran, queued := p.duration(p.moment)
	stages := []string{}
	builds := []object{}
	variables := []object{}
	for _, st := range p.script.Stages {
		stages = append(stages, st.Name)
	}
	for _, j := range slices.Backward(p.latest(-1)) {
		if !j.bridge() {
			builds = append(builds, s.buildPayload(j))
		}
	}
	for _, v := range p.variables {
		variables = append(variables, object{"key": v.key, "value": v.value})
	}
	payload := object{
		"object_kind": "pipeline",
		"object_attributes": object{
			"id": p.id, "iid": p.iid, "name": optional(p.name), "ref": p.ref, "tag": p.tag, "sha": p.sha,
			"before_sha": p.before, "source": p.source, "status": p.status,
			"detailed_status": p.detailed(p.status).Label, "stages": stages, "created_at": hookStamp(p.created),
			"finished_at": hookStamp(p.finished), "duration": ran, "queued_duration": queued,
			"protected_ref": p.ref == p.project.DefaultBranch, "variables": variables,
			"url": fmt.Sprintf("%s/-/pipelines/%d", s.webURL(p.project), p.id),
		},
		"merge_request": nil,
		"user":          s.userPayload(p.user),
		"project":       s.projectPayload(p.project),
		"commit":        s.commitPayload(p.project, p.project.repo.commits[p.sha]),
		"builds":        builds,
	}
	s.addSource(payload, p)
	return payload
}

// addSource adds source_pipeline, which is missing when there is none.
func (s *Server) addSource(payload object, p *pipeline) {
	if p.parent == nil {
		return
	}
	up := p.parent.pipeline
	payload["source_pipeline"] = object{
		"project": object{
			"id": up.project.ID, "web_url": s.webURL(up.project), "path_with_namespace": up.project.Path,
		},
		"job_id": p.parent.id, "pipeline_id": up.id,
	}
}

func (s *Server) buildPayload(j *job) object {
	ran, queued := j.times(s.at)
	var reason *string
	if j.status == stFailed {
		reason = optional(j.reason)
	}
	when := "on_success"
	if j.Manual {
		when = "manual"
	}
	return object{
		"id": j.id, "stage": j.stageName(), "name": j.Name, "status": j.status, "created_at": hookStamp(j.created),
		"started_at": hookStamp(j.started), "finished_at": hookStamp(j.finished), "duration": ran,
		"queued_duration": queued, "failure_reason": reason, "when": when, "manual": j.Manual,
		"allow_failure": j.AllowFailure, "user": s.userPayload(j.pipeline.user), "runner": runnerPayload(j),
		"artifacts_file": object{"filename": nil, "size": nil}, "environment": environmentPayload(j),
	}
}

func runnerPayload(j *job) any {
	if j.started.IsZero() {
		return nil
	}
	r := theRunner()
	return object{
		"id": r.ID, "description": r.Description, "active": r.Active, "runner_type": r.RunnerType,
		"is_shared": r.IsShared, "tags": []string{"docker"},
	}
}

func environmentPayload(j *job) any {
	if j.Environment == "" {
		return nil
	}
	return object{"name": j.Environment, "action": "start", "deployment_tier": "production"}
}

func (s *Server) userPayload(u *user) object {
	return object{
		"id": u.id, "name": u.name, "username": u.username, "avatar_url": s.userEntity(u).AvatarURL,
		"email": "[REDACTED]",
	}
}

func (s *Server) projectPayload(p *project) object {
	return object{
		"id": p.ID, "name": lastPart(p.Path), "description": "", "web_url": s.webURL(p), "avatar_url": nil,
		"git_ssh_url": "git@gitlab.example:" + p.Path + ".git", "git_http_url": s.webURL(p) + ".git",
		"namespace": p.Path[:max(len(p.Path)-len(lastPart(p.Path))-1, 0)], "visibility_level": 0,
		"path_with_namespace": p.Path, "default_branch": p.DefaultBranch, "ci_config_path": nil,
	}
}

func (s *Server) commitPayload(p *project, c *commit) object {
	return object{
		"id": c.id, "message": c.message, "title": hookTitle(c), "timestamp": c.at.UTC().Format(time.RFC3339),
		"url": s.webURL(p) + "/-/commit/" + c.id, "author": object{"name": c.author.name, "email": email(c.author)},
	}
}

// hookTitle is the title of a commit in a webhook, which GitLab cuts (app/models/commit.rb, title).
func hookTitle(c *commit) string {
	title := []rune(c.title())
	if len(title) < 100 {
		return string(title)
	}
	return string(title[:77]) + "..."
}

// jobPayload is a Job Hook (lib/gitlab/data_builder/build.rb).
func (s *Server) jobPayload(j *job) object {
	p := j.pipeline
	ran, queued := j.times(s.at)
	pipelineRan, _ := p.duration(p.moment)
	reason := j.reason
	if j.status != stFailed {
		// GitLab: issue 214465, the field is only true of failed jobs.
		reason = "unknown_failure"
	}
	payload := object{
		"object_kind": "build", "ref": p.ref, "tag": p.tag, "before_sha": p.before, "sha": p.sha,
		"retries_count": j.attempt - 1, "build_id": j.id, "build_name": j.Name, "build_stage": j.stageName(),
		"build_status": j.status, "build_created_at": hookStamp(j.created), "build_started_at": hookStamp(j.started),
		"build_finished_at": hookStamp(j.finished), "build_created_at_iso": stamp(j.created),
		"build_started_at_iso": stamp(j.started), "build_finished_at_iso": stamp(j.finished),
		"build_duration": ran, "build_queued_duration": queued, "build_allow_failure": j.AllowFailure,
		"build_failure_reason": reason, "pipeline_id": p.id, "runner": runnerPayload(j), "project_id": p.project.ID,
		"project_name": p.project.Path, "user": s.userPayload(p.user),
		"commit": object{
			"id": p.id, "name": optional(p.name), "sha": p.sha, "message": p.project.repo.commits[p.sha].message,
			"author_name": p.user.name, "author_email": "[REDACTED]", "author_url": s.userEntity(p.user).WebURL,
			"status": p.status, "duration": pipelineRan, "started_at": hookStamp(p.started),
			"finished_at": hookStamp(p.finished), "started_at_iso": stamp(p.started), "finished_at_iso": stamp(p.finished),
		},
		"repository": s.repositoryPayload(p.project), "project": s.projectPayload(p.project),
		"environment": environmentPayload(j),
	}
	s.addSource(payload, p)
	return payload
}

func (s *Server) repositoryPayload(p *project) object {
	return object{
		"name": lastPart(p.Path), "url": "git@gitlab.example:" + p.Path + ".git", "description": "",
		"homepage": s.webURL(p), "git_http_url": s.webURL(p) + ".git",
		"git_ssh_url": "git@gitlab.example:" + p.Path + ".git", "visibility_level": 0,
	}
}

// pushPayload is a Push Hook (lib/gitlab/data_builder/push.rb).
func (s *Server) pushPayload(p *project, branch string, c *commit, by *user) object {
	one := s.commitPayload(p, c)
	added, modified, removed := []string{}, []string{}, []string{}
	for path, content := range c.changes {
		switch {
		case content == nil:
			removed = append(removed, path)
		case len(c.parents) > 0 && c.parents[0].lastChange(path).changes[path] != nil:
			modified = append(modified, path)
		default:
			added = append(added, path)
		}
	}
	slices.Sort(added)
	slices.Sort(modified)
	slices.Sort(removed)
	one["added"], one["modified"], one["removed"] = added, modified, removed
	before := zeroSHA
	if len(c.parents) > 0 {
		before = c.parents[0].id
	}
	whole := s.projectPayload(p)
	whole["homepage"], whole["url"] = s.webURL(p), whole["git_ssh_url"]
	whole["ssh_url"], whole["http_url"] = whole["git_ssh_url"], whole["git_http_url"]
	return object{
		"object_kind": "push", "event_name": "push", "before": before, "after": c.id, "ref": "refs/heads/" + branch,
		"ref_protected": branch == p.DefaultBranch, "checkout_sha": c.id, "user_id": by.id, "user_name": by.name,
		"user_username": by.username, "user_email": "", "user_avatar": s.userEntity(by).AvatarURL,
		"project_id": p.ID, "project": whole, "repository": s.repositoryPayload(p), "commits": []object{one},
		"total_commits_count": 1, "push_options": object{},
	}
}
