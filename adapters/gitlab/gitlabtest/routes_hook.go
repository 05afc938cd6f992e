package gitlabtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// listHooks is GET projects/:id/hooks.
func listHooks(c *call) *reply {
	q := c.query()
	pg := c.page(q)
	if refused := q.refusal(); refused != nil {
		return refused
	}
	part, header := cut(c, pg, c.project.hooks)
	entities := make([]object, len(part))
	for i, h := range part {
		entities[i] = c.hookEntity(h)
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

// hookOf finds the hook of the path.
func (c *call) hookOf() (*hook, *reply) {
	id, _ := parseID(c.path["hook_id"])
	for _, h := range c.project.hooks {
		if h.id == id {
			return h, nil
		}
	}
	return nil, missingRecord()
}

// getHook is GET projects/:id/hooks/:hook_id.
func getHook(c *call) *reply {
	h, refused := c.hookOf()
	if refused != nil {
		return refused
	}
	return ok(c.hookEntity(h))
}

// createHook is POST projects/:id/hooks.
func createHook(c *call) *reply {
	if _, given := c.params["url"]; !given {
		return grape("url is missing")
	}
	added := &hook{Hook: Hook{NoPipelines: true}}
	if refused := c.fill(added); refused != nil {
		return refused
	}
	return &reply{status: http.StatusCreated, body: c.hookEntity(c.addHook(c.project, added.Hook))}
}

// editHook is PUT projects/:id/hooks/:hook_id.
func editHook(c *call) *reply {
	h, refused := c.hookOf()
	if refused != nil {
		return refused
	}
	if refused := c.fill(h); refused != nil {
		return refused
	}
	return ok(c.hookEntity(h))
}

// fill sets a hook from the parameters that were given.
func (c *call) fill(h *hook) *reply {
	q := c.query()
	changed := h.Hook
	for name, set := range map[string]func(bool){
		"pipeline_events": func(on bool) { changed.NoPipelines = !on },
		"job_events":      func(on bool) { changed.Jobs = on },
		"push_events":     func(on bool) { changed.Pushes = on },
	} {
		if _, given := c.params[name]; given {
			set(q.boolean(name))
		}
	}
	for name, field := range map[string]*string{
		"url": &changed.URL, "token": &changed.Token, "signing_token": &changed.SigningToken,
	} {
		if v, given := c.params[name]; given {
			*field = text(v)
		}
	}
	if refused := q.refusal(); refused != nil {
		return refused
	}
	// GitLab: lib/api/hooks.rb, handle_project_hook_params and error 422.
	if u, err := url.Parse(changed.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return &reply{status: http.StatusUnprocessableEntity, body: object{"error": "Invalid url given"}}
	}
	h.Hook = changed
	return nil
}

// deleteHook is DELETE projects/:id/hooks/:hook_id.
func deleteHook(c *call) *reply {
	h, refused := c.hookOf()
	if refused != nil {
		return refused
	}
	c.project.hooks = slices.DeleteFunc(c.project.hooks, func(x *hook) bool { return x == h })
	return &reply{status: http.StatusNoContent}
}

// testHook is POST projects/:id/hooks/:hook_id/test/:trigger. The webhook is queued about the
// newest pipeline; a success switches a disabled hook on again.
func testHook(c *call) *reply {
	h, refused := c.hookOf()
	if refused != nil {
		return refused
	}
	if c.path["trigger"] != "pipeline_events" {
		return grape("trigger does not have a valid value")
	}
	if len(c.project.pipelines) == 0 {
		return message(http.StatusUnprocessableEntity, "Ensure the project has CI pipelines.")
	}
	newest := c.project.pipelines[len(c.project.pipelines)-1]
	c.hookQueue = append(c.hookQueue, &delivery{
		project: c.project, hook: h, event: "Pipeline Hook", key: c.uuid(), due: c.at, pipeline: newest.id,
		build: func() any { return c.pipelinePayload(newest) },
	})
	return message(http.StatusCreated, "201 Created")
}

// hookLogAge is how long GitLab keeps the log of a webhook.
const hookLogAge = 48 * time.Hour

// logOf are the deliveries of the path's hook that GitLab still knows, newest first.
func (c *call) logOf() ([]Delivery, *reply) {
	h, refused := c.hookOf()
	if refused != nil {
		return nil, refused
	}
	var found []Delivery
	for _, d := range slices.Backward(c.delivered) {
		if d.HookID == h.id && c.at.Sub(d.Time) < hookLogAge {
			found = append(found, d)
		}
	}
	return found, nil
}

// listHookEvents is GET projects/:id/hooks/:hook_id/events, at most 20 a page.
func listHookEvents(c *call) *reply {
	q := c.query()
	states := q.list("status", func(st string) bool { return len(st) == 3 || strings.Contains(st, "_") || st == "successful" })
	pg := c.page(q)
	if refused := q.refusal(); refused != nil {
		return refused
	}
	found, refused := c.logOf()
	if refused != nil {
		return refused
	}
	found = slices.DeleteFunc(found, func(d Delivery) bool { return len(states) > 0 && !d.fits(states) })
	part, header := cut(c, page{pg.number, min(pg.size, 20)}, found)
	entities := make([]object, len(part))
	for i, d := range part {
		entities[i] = object{
			"id": d.ID, "url": c.hookURL(d.HookID), "trigger": "pipeline_hooks", "request_headers": flat(d.Header),
			"request_data": json.RawMessage(d.Body), "response_headers": object{}, "response_body": d.Err,
			"execution_duration": 0.1, "response_status": fmt.Sprint(d.Status),
		}
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

// fits says whether a delivery has one of the states, which are numbers or words for ranges.
func (d *Delivery) fits(states []string) bool {
	word := "server_failure"
	switch {
	case d.Status >= 200 && d.Status < 400:
		word = "successful"
	case d.Status >= 400 && d.Status < 500:
		word = "client_failure"
	}
	return slices.Contains(states, word) || slices.Contains(states, fmt.Sprint(d.Status))
}

func flat(h http.Header) object {
	one := object{}
	for name, values := range h {
		one[name] = strings.Join(values, ", ")
		if name == "X-Gitlab-Token" {
			one[name] = "[REDACTED]"
		}
	}
	return one
}

func (s *Server) hookURL(id int64) string {
	for _, p := range s.projects {
		for _, h := range p.hooks {
			if h.id == id {
				return h.URL
			}
		}
	}
	return ""
}

// resendHook is POST projects/:id/hooks/:hook_id/events/:hook_log_id/resend: the same body with the
// same Idempotency-Key once more. GitLab sends it before it answers; here it is queued.
func resendHook(c *call) *reply {
	h, refused := c.hookOf()
	if refused != nil {
		return refused
	}
	id, _ := parseID(c.path["hook_log_id"])
	found, _ := c.logOf()
	i := slices.IndexFunc(found, func(d Delivery) bool { return d.ID == id })
	if i < 0 {
		return missingRecord()
	}
	d := found[i]
	c.hookQueue = append(c.hookQueue, &delivery{
		project: c.project, hook: h, event: d.Event, key: d.Header.Get("Idempotency-Key"), due: c.at,
		pipeline: d.PipelineID, early: d.Body,
	})
	return &reply{status: http.StatusCreated, body: object{"response_status": 200}}
}

func (s *Server) hookEntity(h *hook) object {
	e := object{
		"id": h.id, "url": h.URL, "name": fmt.Sprintf("hook %d", h.id), "description": "", "created_at": stamp(h.created),
		"alert_status": h.alert(s.at), "disabled_until": stamp(h.until), "url_variables": []any{}, "project_id": 0,
		"custom_webhook_template": nil, "custom_headers": []any{}, "push_events_branch_filter": nil,
		"branch_filter_strategy": "wildcard", "enable_ssl_verification": true, "pipeline_events": !h.NoPipelines,
		"job_events": h.Jobs, "push_events": h.Pushes, "token_present": h.Token != "",
		"signing_token_present": h.SigningToken != "",
	}
	for _, name := range []string{
		"tag_push_events", "merge_requests_events", "repository_update_events", "issues_events",
		"confidential_issues_events", "note_events", "confidential_note_events", "wiki_page_events",
		"deployment_events", "feature_flag_events", "releases_events", "milestone_events", "emoji_events",
		"resource_access_token_events", "vulnerability_events",
	} {
		e[name] = false
	}
	for _, p := range s.projects {
		if slices.Contains(p.hooks, h) {
			e["project_id"] = p.ID
		}
	}
	return e
}
