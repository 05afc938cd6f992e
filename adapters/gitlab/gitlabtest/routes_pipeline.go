package gitlabtest

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pipelineSources are the values of source that the list accepts (OpenAPI document 19.5).
func pipelineSources() []string {
	return []string{
		"unknown", "push", "web", "trigger", "schedule", "api", "external", "pipeline", "chat", "webide",
		"merge_request_event", "external_pull_request_event", "parent_pipeline", "ondemand_dast_scan",
		"ondemand_dast_validation", "security_orchestration_policy", "container_registry_push", "duo_workflow",
		"pipeline_execution_policy_schedule", "dependency_management_security_update",
	}
}

// filter are the conditions of a pipeline list.
type filter struct {
	ref, status, source, name, username, sha, scope string
	createdAfter, createdBefore                     time.Time
	updatedAfter, updatedBefore                     time.Time
	yamlErrors                                      string
}

func (f *filter) wants(p *pipeline, m moment) bool {
	within := func(t, after, before time.Time) bool {
		return (after.IsZero() || !t.Before(after)) && (before.IsZero() || !t.After(before))
	}
	equal := func(want, have string) bool { return want == "" || want == have }
	switch {
	case f.source == "" && p.source == "parent_pipeline":
		return false
	case !equal(f.ref, p.ref), !equal(f.status, m.status), !equal(f.source, p.source), !equal(f.name, p.name),
		!equal(f.username, p.user.username), !equal(f.sha, p.sha):
		return false
	case f.yamlErrors != "" && (p.yamlErrors != "") != (f.yamlErrors == "true"):
		return false
	case f.scope == "running" && m.status != stRunning, f.scope == "pending" && m.status != stPending,
		f.scope == "finished" && !complete(m.status), f.scope == "tags" && !p.tag:
		return false
	}
	return within(p.created, f.createdAfter, f.createdBefore) && within(m.updated, f.updatedAfter, f.updatedBefore)
}

// listPipelines is GET projects/:id/pipelines.
func listPipelines(c *call) *reply {
	q := c.query()
	f := filter{
		ref: q.str("ref"), name: q.str("name"), username: q.str("username"), sha: q.str("sha"),
		status:       oneStatus(q, "status"),
		source:       q.oneOf("source", pipelineSources()...),
		scope:        q.oneOf("scope", "running", "pending", "finished", "branches", "tags"),
		createdAfter: q.instant("created_after"), createdBefore: q.instant("created_before"),
		updatedAfter: q.instant("updated_after"), updatedBefore: q.instant("updated_before"),
		yamlErrors: q.oneOf("yaml_errors", "true", "false"),
	}
	orderBy := q.oneOf("order_by", "id", "status", "ref", "updated_at", "user_id")
	sort := q.oneOf("sort", "asc", "desc")
	pg := c.page(q)
	if refused := q.refusal(); refused != nil {
		return refused
	}
	var found []listed
	for _, p := range slices.Backward(c.project.pipelines) {
		if m, visible := c.view(p); visible && f.wants(p, m) {
			found = append(found, listed{p, m})
		}
	}
	arrange(found, orderBy, sort == "asc")
	part, header := cut(c, pg, found)
	entities := make([]listedPipelineEntity, len(part))
	for i, x := range part {
		entities[i] = listedPipelineEntity{pipelineEntity: c.pipelineEntity(x.p, x.m), Name: optional(x.p.name)}
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

// listed is a pipeline in the state a caller may see.
type listed struct {
	p *pipeline
	m moment
}

// arrange sorts pipelines that come newest first.
func arrange(found []listed, orderBy string, ascending bool) {
	by := func(compare func(a, b listed) int) {
		slices.SortStableFunc(found, func(a, b listed) int { return -compare(a, b) })
	}
	switch orderBy {
	case "updated_at":
		by(func(a, b listed) int { return a.m.updated.Compare(b.m.updated) })
	case "status":
		by(func(a, b listed) int { return cmp.Compare(a.m.status, b.m.status) })
	case "ref":
		by(func(a, b listed) int { return cmp.Compare(a.p.ref, b.p.ref) })
	case "user_id":
		by(func(a, b listed) int { return cmp.Compare(a.p.user.id, b.p.user.id) })
	}
	if ascending {
		slices.Reverse(found)
	}
}

func oneStatus(q *query, name string) string {
	st := q.str(name)
	if st != "" && !knownStatus(st) {
		q.wrong = append(q.wrong, name+" does not have a valid value")
	}
	return st
}

// view is the state of a pipeline as the caller sees it, by way of lag. It is not visible if it did
// not exist at the time the caller sees.
func (c *call) view(p *pipeline) (moment, bool) {
	if c.at.Before(p.created.Add(c.lag.unseen)) {
		return moment{}, false
	}
	if c.lag.stale == 0 {
		return p.moment, true
	}
	m, ok := p.asOf(c.at.Add(-c.lag.stale))
	if !ok {
		return p.history[0], true
	}
	return m, true
}

// pipelineOf finds the pipeline of the path, in the state the caller sees.
func (c *call) pipelineOf() (*pipeline, moment, *reply) {
	id, _ := parseID(c.path["pipeline_id"])
	p := c.pipelines[id]
	if p == nil || p.project != c.project {
		return nil, moment{}, missingRecord()
	}
	m, visible := c.view(p)
	if !visible {
		return nil, moment{}, missingRecord()
	}
	return p, m, nil
}

// getPipeline is GET projects/:id/pipelines/:pipeline_id.
func getPipeline(c *call) *reply {
	p, m, refused := c.pipelineOf()
	if refused != nil {
		return refused
	}
	return ok(namedPipelineEntity{fullPipelineEntity: c.fullPipelineEntity(p, m), Name: optional(p.name)})
}

// getVariables is GET projects/:id/pipelines/:pipeline_id/variables. It needs Maintainer, or a
// Developer who is the one that started the pipeline (app/policies/ci/pipeline_policy.rb).
func getVariables(c *call) *reply {
	p, _, refused := c.pipelineOf()
	if refused != nil {
		return refused
	}
	if c.role < Maintainer && (c.role < Developer || c.token.user != p.user) {
		return forbidden("")
	}
	list := make([]variableEntity, len(p.variables))
	for i, v := range p.variables {
		list[i] = variableEntity{Key: v.key, Value: v.value, Kind: v.kind}
	}
	return ok(list)
}

// listJobs is GET projects/:id/pipelines/:pipeline_id/jobs, newest first.
func listJobs(c *call) *reply {
	q := c.query()
	retried := q.boolean("include_retried")
	found, pg, refused := c.jobsOf(q, func(j *job) bool { return !j.bridge() && (retried || !j.retried) })
	if refused != nil {
		return refused
	}
	part, header := cut(c, pg, found)
	entities := make([]fullJobEntity, len(part))
	for i, j := range part {
		entities[i] = c.fullJobEntity(j)
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

// listBridges is GET projects/:id/pipelines/:pipeline_id/bridges, and trigger_jobs of 19.2.
func listBridges(c *call) *reply {
	found, pg, refused := c.jobsOf(c.query(), func(j *job) bool { return j.bridge() && !j.retried })
	if refused != nil {
		return refused
	}
	part, header := cut(c, pg, found)
	entities := make([]bridgeEntity, len(part))
	for i, j := range part {
		entities[i] = c.bridgeEntity(j)
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

// jobsOf are the jobs of the path's pipeline that fit the query, newest first.
func (c *call) jobsOf(q *query, want func(*job) bool) ([]*job, page, *reply) {
	scope := q.list("scope", knownStatus)
	pg := c.page(q)
	if refused := q.refusal(); refused != nil {
		return nil, pg, refused
	}
	p, _, refused := c.pipelineOf()
	if refused != nil {
		return nil, pg, refused
	}
	var found []*job
	for _, j := range slices.Backward(p.jobs) {
		if want(j) && (len(scope) == 0 || slices.Contains(scope, j.status)) {
			found = append(found, j)
		}
	}
	return found, pg, nil
}

// cancelPipeline is POST projects/:id/pipelines/:pipeline_id/cancel, which answers 200 whatever the
// state is.
func cancelPipeline(c *call) *reply {
	p, _, refused := c.pipelineOf()
	if refused != nil {
		return refused
	}
	c.cancelPipeline(p, !p.project.CancelKeepsChildren)
	return ok(c.fullPipelineEntity(p, p.moment))
}

// retryPipeline is POST projects/:id/pipelines/:pipeline_id/retry.
func retryPipeline(c *call) *reply {
	p, _, refused := c.pipelineOf()
	if refused != nil {
		return refused
	}
	c.retryPipeline(p)
	return &reply{status: http.StatusCreated, body: c.fullPipelineEntity(p, p.moment)}
}

// listMyPipelines is GET pipelines of 19.5: everything the token's user started, newest first.
func listMyPipelines(c *call) *reply {
	q := c.query()
	source := q.oneOf("source", pipelineSources()...)
	after, before := q.instant("created_after"), q.instant("created_before")
	perPage := min(max(q.number("per_page", 20), 1), 100)
	cursor := q.number("cursor", 0)
	if refused := q.refusal(); refused != nil {
		return refused
	}
	f := filter{source: source, createdAfter: after, createdBefore: before}
	entities := []listedPipelineEntity{}
	header := http.Header{}
	for _, p := range slices.Backward(c.order) {
		m, visible := c.view(p)
		if !visible || p.user != c.token.user || !f.wants(p, m) || cursor > 0 && p.id >= int64(cursor) {
			continue
		}
		if len(entities) == perPage {
			next := c.r.URL.Query()
			next.Set("cursor", fmt.Sprint(entities[perPage-1].ID))
			header.Set("Link", c.link(next, "next"))
			break
		}
		entities = append(entities, listedPipelineEntity{pipelineEntity: c.pipelineEntity(p, m), Name: optional(p.name)})
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

// page is the wanted part of a list.
type page struct{ number, size int }

func (c *call) page(q *query) page {
	return page{number: max(q.number("page", 1), 1), size: min(max(q.number("per_page", 20), 1), 100)}
}

// cut returns the wanted part of a list, with the headers of offset pagination
// (lib/gitlab/pagination/offset_header_builder.rb).
func cut[T any](c *call, pg page, all []T) ([]T, http.Header) {
	total := len(all)
	pages := max((total+pg.size-1)/pg.size, 1)
	from := min((pg.number-1)*pg.size, total)
	to := min(from+pg.size, total)
	h := http.Header{}
	h.Set("X-Page", strconv.Itoa(pg.number))
	h.Set("X-Per-Page", strconv.Itoa(pg.size))
	h.Set("X-Next-Page", "")
	h.Set("X-Prev-Page", "")
	if total <= 10000 {
		h.Set("X-Total", strconv.Itoa(total))
		h.Set("X-Total-Pages", strconv.Itoa(pages))
	}
	var links []string
	link := func(number int, rel string) {
		q := c.r.URL.Query()
		q.Set("page", strconv.Itoa(number))
		q.Set("per_page", strconv.Itoa(pg.size))
		links = append(links, c.link(q, rel))
	}
	if pg.number > 1 {
		h.Set("X-Prev-Page", strconv.Itoa(pg.number-1))
		link(pg.number-1, "prev")
	}
	if pg.number < pages {
		h.Set("X-Next-Page", strconv.Itoa(pg.number+1))
		link(pg.number+1, "next")
	}
	link(1, "first")
	if total <= 10000 {
		link(pages, "last")
	}
	h.Set("Link", strings.Join(links, ", "))
	return all[from:to], h
}

func (c *call) link(q url.Values, rel string) string {
	return fmt.Sprintf(`<%s%s?%s>; rel="%s"`, c.baseURL, c.r.URL.EscapedPath(), q.Encode(), rel)
}
