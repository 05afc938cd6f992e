package gitlabtest

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// getProject is GET projects/:id.
func getProject(c *call) *reply {
	p := c.project
	web := c.webURL(p)
	api := fmt.Sprintf("%s%sprojects/%d", c.baseURL, apiPrefix, p.ID)
	group, _, _ := strings.Cut(p.Path, "/")
	namespace := p.Path[:max(len(p.Path)-len(lastPart(p.Path))-1, 0)]
	return ok(object{
		"id": p.ID, "description": "", "name": lastPart(p.Path),
		"name_with_namespace": strings.ReplaceAll(p.Path, "/", " / "), "path": lastPart(p.Path),
		"path_with_namespace": p.Path, "created_at": stamp(p.created), "default_branch": p.DefaultBranch,
		"tag_list": []string{}, "topics": []string{}, "ssh_url_to_repo": "git@gitlab.example:" + p.Path + ".git",
		"http_url_to_repo": web + ".git", "web_url": web, "readme_url": web + "/-/blob/" + p.DefaultBranch + "/README.md",
		"forks_count": 0, "avatar_url": nil, "star_count": 0, "last_activity_at": stamp(c.at), "visibility": "private",
		"namespace": object{
			"id": 1, "name": group, "path": lastPart(namespace), "kind": "group", "full_path": namespace,
			"parent_id": nil, "avatar_url": nil, "web_url": c.baseURL + "/groups/" + namespace,
		},
		"_links": object{
			"self": api, "issues": api + "/issues", "merge_requests": api + "/merge_requests",
			"repo_branches": api + "/repository/branches", "labels": api + "/labels", "events": api + "/events",
			"members": api + "/members", "cluster_agents": api + "/cluster_agents",
		},
		"empty_repo": false, "archived": false, "jobs_enabled": true, "merge_requests_enabled": true,
		"builds_access_level": "enabled", "ci_config_path": nil, "public_jobs": false,
		"ci_pipeline_variables_minimum_override_role": variableRole(p), "updated_at": stamp(c.at),
		"permissions": object{
			"project_access": object{"access_level": int(c.role), "notification_level": 3}, "group_access": nil,
		},
	})
}

func variableRole(p *project) string {
	if p.VariablesForbidden {
		return "no_one_allowed"
	}
	return "developer"
}

// getTokenSelf is GET personal_access_tokens/self, which works for every kind of access token.
func getTokenSelf(c *call) *reply {
	t := c.token
	return ok(object{
		"id": t.id, "name": t.user.name + " token", "revoked": false, "created_at": stamp(t.created), "description": nil,
		"scopes": t.Scopes, "user_id": t.user.id, "last_used_at": stamp(c.at), "active": true,
		"expires_at": t.ExpiresAt.UTC().Format(time.DateOnly), "last_used_ips": []string{"127.0.0.1"},
	})
}

// getUser is GET user.
func getUser(c *call) *reply { return ok(c.fullUserEntity(c.token.user)) }

// getVersion is GET version and GET metadata.
func getVersion(*call) *reply {
	return ok(object{
		"version": version, "revision": "5ac3a9a5d1f", "enterprise": true,
		"kas": object{
			"enabled": false, "externalUrl": nil, "externalK8sProxyUrl": nil, "version": nil,
		},
	})
}

// listMergeRequests is GET projects/:id/merge_requests, newest first.
func listMergeRequests(c *call) *reply {
	q := c.query()
	state := q.oneOf("state", "opened", "closed", "locked", "merged", "all")
	sort := q.oneOf("sort", "asc", "desc")
	source, target := q.str("source_branch"), q.str("target_branch")
	pg := c.page(q)
	if refused := q.refusal(); refused != nil {
		return refused
	}
	var found []*mergeRequest
	for i := range c.project.requests {
		mr := c.project.requests[len(c.project.requests)-1-i]
		if sort == "asc" {
			mr = c.project.requests[i]
		}
		if (state == "" || state == "all" || state == mr.state) && (source == "" || source == mr.source) &&
			(target == "" || target == mr.target) {
			found = append(found, mr)
		}
	}
	part, header := cut(c, pg, found)
	entities := make([]object, len(part))
	for i, mr := range part {
		entities[i] = c.mergeRequestEntity(mr)
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

func (s *Server) mergeRequestEntity(mr *mergeRequest) object {
	e := object{
		"id": mr.id, "iid": mr.iid, "project_id": mr.project.ID, "title": mr.title, "description": "",
		"state": mr.state, "created_at": stamp(mr.created), "updated_at": stamp(mr.updated), "merged_by": nil,
		"merge_user": nil, "merged_at": stamp(mr.merged), "closed_by": nil, "closed_at": nil,
		"target_branch": mr.target, "source_branch": mr.source, "user_notes_count": 0, "upvotes": 0, "downvotes": 0,
		"author": s.userEntity(mr.author), "assignees": []any{}, "assignee": nil, "reviewers": []any{},
		"source_project_id": mr.project.ID, "target_project_id": mr.project.ID, "labels": []string{}, "draft": false,
		"imported": false, "imported_from": "none", "work_in_progress": false, "milestone": nil,
		"merge_when_pipeline_succeeds": false, "merge_status": "can_be_merged",
		"detailed_merge_status": "mergeable", "merge_after": nil, "sha": nil, "merge_commit_sha": nil,
		"squash_commit_sha": nil, "discussion_locked": nil, "should_remove_source_branch": nil,
		"force_remove_source_branch": true, "prepared_at": stamp(mr.created), "reference": fmt.Sprintf("!%d", mr.iid),
		"references": object{
			"short": fmt.Sprintf("!%d", mr.iid), "relative": fmt.Sprintf("!%d", mr.iid),
			"full": fmt.Sprintf("%s!%d", mr.project.Path, mr.iid),
		},
		"web_url": fmt.Sprintf("%s/-/merge_requests/%d", s.webURL(mr.project), mr.iid),
		"time_stats": object{
			"time_estimate": 0, "total_time_spent": 0, "human_time_estimate": nil, "human_total_time_spent": nil,
		},
		"squash": false, "squash_on_merge": false, "task_completion_status": object{"count": 0, "completed_count": 0},
		"has_conflicts": false, "blocking_discussions_resolved": true,
	}
	if mr.head != nil {
		e["sha"] = mr.head.id
	}
	if mr.merge != nil {
		e["merged_by"], e["merge_user"] = s.userEntity(mr.author), s.userEntity(mr.author)
		e["merge_commit_sha"], e["detailed_merge_status"] = mr.merge.id, "not_open"
	}
	return e
}
