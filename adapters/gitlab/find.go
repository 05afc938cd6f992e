package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	gl "gitlab.com/gitlab-org/api/client-go/v2"

	"ocim/ops"
)

const (
	// findOverlap is how far before the given instant Find looks, for clocks that differ.
	findOverlap = time.Minute
	// findPages bounds the list that Find reads: 2,000 pipelines.
	findPages = 20
	// recentMax bounds the pipelines that Recent looks into.
	recentMax = 200
	// triggerPayload is the file variable in which GitLab keeps the body of a trigger call. Source:
	// GitLab app/services/ci/pipeline_trigger_service.rb.
	triggerPayload = "TRIGGER_PAYLOAD"
)

// Find implements [ops.Pipelines]. It lists the pipelines that were made by our kind of request since
// a minute before s.CreatedAfter, and reads the variables of each that is not another operation's. What the configuration says by now
// of branch and way to start plays no part: the request may have been made before it said so.
//
// CodeDenied with ReasonOutcomeUnknown means that a pipeline was there which ocim may not look into:
// it may be the one.
func (a *Adapter) Find(ctx context.Context, s ops.PipelineSpec, others func(ops.PipelineRef) bool) ([]ops.Pipeline, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	p, err := a.project(s.Project)
	if err != nil {
		return nil, err
	}
	candidates, err := a.candidates(ctx, p, s)
	if err != nil {
		return nil, err
	}
	var found []ops.Pipeline
	var doubt error
	for _, c := range slices.Backward(candidates) { // they come newest first
		if others(c.pipeline(p.name, "").Ref) {
			continue
		}
		ours, err := a.isOurs(ctx, p, c, s)
		switch {
		case err != nil && ops.CodeOf(err) == ops.CodeUnavailable:
			return nil, err
		case err != nil:
			doubt = err
		case ours:
			found = append(found, c.pipeline(p.name, ops.RoleRoot))
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, doubt
}

// candidates are the pipelines that could be s, newest first, each once.
func (a *Adapter) candidates(ctx context.Context, p *project, s ops.PipelineSpec) ([]pipelineJSON, error) {
	opts := &gl.ListProjectPipelinesOptions{
		ListOptions: gl.ListOptions{PerPage: perPage}, OrderBy: new("id"), Sort: new("desc"),
	}
	if !s.CreatedAfter.IsZero() {
		opts.CreatedAfter = new(s.CreatedAfter.Add(-findOverlap).UTC())
	}
	all, complete, err := a.pipelines(ctx, p, opts, findPages)
	if err != nil {
		return nil, err
	}
	if !complete {
		return nil, &ops.Error{
			Code: ops.CodeUnavailable, Reason: ops.ReasonOutcomeUnknown,
			Msg: fmt.Sprintf("Project %s has more than %d new pipelines; ocim could not look through them all.", p.name, len(all)),
		}
	}
	return slices.DeleteFunc(all, func(j pipelineJSON) bool { return j.Source != "" && j.Source != "trigger" && j.Source != "api" }), nil
}

// pipelines lists pipelines, each once: a pipeline that is made meanwhile shifts the pages.
func (a *Adapter) pipelines(ctx context.Context, p *project, opts *gl.ListProjectPipelinesOptions, maxPages int) ([]pipelineJSON, bool, error) {
	var all []pipelineJSON
	seen := map[int64]bool{}
	complete, err := list(ctx, a, p, request{
		method: http.MethodGet, path: p.path("pipelines"), opts: opts, token: p.Token,
		doing: "list pipelines of project " + p.name, missing: ops.ReasonGitLabDenied,
	}, maxPages, func(page []pipelineJSON) bool {
		for _, j := range page {
			if !seen[j.ID] {
				seen[j.ID] = true
				all = append(all, j)
			}
		}
		return true
	})
	return all, complete, err
}

// isOurs reports whether the pipeline carries s.Key.
func (a *Adapter) isOurs(ctx context.Context, p *project, c pipelineJSON, s ops.PipelineSpec) (bool, error) {
	if isKey(s.Key) && strings.Contains(c.Name, s.Key) {
		return true, nil
	}
	id := pipelineID{p.host.origin, c.ID}
	if keys, known := a.carried.get(id); known && isKey(s.Key) {
		return slices.Contains(keys, s.Key), nil
	}
	values, err := a.values(ctx, p, id)
	if err != nil {
		if s.KeyInName && c.Name != "" && ops.CodeOf(err) == ops.CodeDenied {
			return false, nil // its name would have shown the key
		}
		return false, err
	}
	return slices.Contains(values, s.Key), nil
}

// values reads what a pipeline was started with, and remembers the keys in it. When many look for
// theirs at the same time, as after a restart, one of them reads for all.
func (a *Adapter) values(ctx context.Context, p *project, id pipelineID) ([]string, error) {
	v, err, _ := a.reading.Do(fmt.Sprintf("%s %d %d", id.host, p.ID, id.id), func() (any, error) {
		vars, err := a.variables(ctx, p, id.id)
		if err != nil {
			return nil, err
		}
		values := valuesOf(vars)
		if len(vars) > 0 {
			// Variables never change. None at all may be a replica that is behind: look again then.
			a.carried.put(id, slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !isKey(v) }))
		}
		return values, nil
	})
	values, _ := v.([]string)
	return values, err
}

// isKey reports whether v looks like a key: only such values are worth remembering.
func isKey(v string) bool { return len(v) == 32 && isHex(v) }

// valuesOf lists the values of the variables, and the strings in the body of the trigger call.
func valuesOf(vars []variableJSON) []string {
	var all []string
	for _, v := range vars {
		if v.Key != triggerPayload {
			all = append(all, v.Value)
			continue
		}
		var body map[string]any
		if json.Unmarshal([]byte(v.Value), &body) == nil {
			all = append(all, stringsIn(body)...)
		}
	}
	return all
}

// stringsIn lists the strings at the top of a trigger's body, and one level below: variables and inputs.
func stringsIn(body map[string]any) []string {
	var all []string
	for _, v := range body {
		switch v := v.(type) {
		case string:
			all = append(all, v)
		case map[string]any:
			for _, w := range v {
				if s, ok := w.(string); ok {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// variables reads what a pipeline was started with. A pipeline that ocim may not look into is
// CodeDenied; one that is gone, or not yet to be seen everywhere, is CodeUnavailable.
func (a *Adapter) variables(ctx context.Context, p *project, id int64) ([]variableJSON, error) {
	var vars []variableJSON
	doing := fmt.Sprintf("read the variables of pipeline %d", id)
	_, err := a.call(ctx, p, request{
		method: http.MethodGet, path: p.path("pipelines", id, "variables"), token: p.Token, out: &vars,
		doing: doing, missing: ops.ReasonOutcomeUnknown,
	})
	if err == nil {
		return vars, nil
	}
	code := ops.CodeOf(err)
	if code == ops.CodeNotFound {
		// GitLab hides what may not be read behind a 404 as well. Of a young pipeline a 404 proves
		// nothing, even when another answer shows it: the two may come from different replicas.
		code = ops.CodeUnavailable
		if j, again := a.pipeline(ctx, p, id); again == nil && a.clock.Now().Sub(j.pipeline(p.name, "").CreatedAt) > settled {
			code = ops.CodeDenied
		}
	} else if code != ops.CodeDenied {
		return nil, err
	}
	e := &ops.Error{
		Code: code, Reason: ops.ReasonOutcomeUnknown,
		Msg: fmt.Sprintf("GitLab does not let ocim %s, so it cannot tell whether it is its own.", doing),
		Err: err,
	}
	if code == ops.CodeDenied {
		e.Next = fmt.Sprintf("Let the token of project %s belong to the owner of the trigger token, or give it the role Maintainer.", p.name)
	}
	return nil, e
}

// pipeline reads one pipeline.
func (a *Adapter) pipeline(ctx context.Context, p *project, id int64) (pipelineJSON, error) {
	var got pipelineJSON
	_, err := a.call(ctx, p, request{
		method: http.MethodGet, path: p.path("pipelines", id), token: p.Token, out: &got,
		doing: fmt.Sprintf("read pipeline %d of project %s", id, p.name), missing: ops.ReasonPipelineDeleted,
	})
	if err == nil && got.ID != id {
		err = &ops.Error{
			Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable,
			Msg: fmt.Sprintf("GitLab's answer is not about pipeline %d.", id),
		}
	}
	return got, err
}

// Recent implements [ops.Repos]. The reference is the string in the payload's key ocim_ref, or in a
// variable OCIM_REF where the pipeline was not started by a trigger. It looks into the 200 pipelines
// that were changed last, and skips those whose variables it may not read.
func (a *Adapter) Recent(ctx context.Context, name string, since time.Time, known func(ops.PipelineRef) bool) ([]ops.Found, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	p, err := a.project(name)
	if err != nil {
		return nil, err
	}
	var found []ops.Found
	for _, source := range []string{"trigger", "api"} {
		all, _, err := a.pipelines(ctx, p, &gl.ListProjectPipelinesOptions{
			ListOptions: gl.ListOptions{PerPage: perPage},
			Source:      new(source), UpdatedAfter: new(since.UTC()),
			OrderBy: new("updated_at"), Sort: new("desc"),
		}, recentMax/perPage)
		if err != nil {
			return found, err
		}
		for _, j := range all {
			// What was read is remembered, so that the next try gets further.
			id := pipelineID{p.host.origin, j.ID}
			if _, bare := a.bare.get(id); bare || known(j.pipeline(p.name, ops.RoleRoot).Ref) {
				continue
			}
			vars, err := a.variables(ctx, p, j.ID)
			var e *ops.Error
			if errors.As(err, &e) && e.Reason == ops.ReasonOutcomeUnknown {
				a.log.WarnContext(ctx, "a pipeline may not be looked into; it is not restored",
					"project", p.name, "pipeline", j.ID)
				if e.Code == ops.CodeDenied {
					a.bare.put(id, true)
				}
				continue
			}
			if err != nil {
				return found, err
			}
			if ref := reference(vars); ref != "" {
				found = append(found, ops.Found{Pipeline: j.pipeline(p.name, ops.RoleRoot), Reference: ref})
			} else if len(vars) > 0 {
				a.bare.put(id, true)
			}
		}
	}
	return found, nil
}

func reference(vars []variableJSON) string {
	for _, v := range vars {
		switch v.Key {
		case "OCIM_REF":
			return v.Value
		case triggerPayload:
			var body struct {
				Ref string `json:"ocim_ref"`
			}
			if json.Unmarshal([]byte(v.Value), &body) == nil && body.Ref != "" {
				return body.Ref
			}
		}
	}
	return ""
}

// Latest implements [ops.Repos].
func (a *Adapter) Latest(ctx context.Context, name string) (ops.Pipeline, bool, error) {
	p, err := a.project(name)
	if err != nil {
		return ops.Pipeline{}, false, err
	}
	// Not pipelines/latest: that is about one branch's newest commit, and answers 403 if it has none
	// (gitlab-org/gitlab issue 428343).
	var page []pipelineJSON
	_, err = a.call(ctx, p, request{
		method: http.MethodGet, path: p.path("pipelines"), token: p.Token, out: &page,
		opts: &gl.ListProjectPipelinesOptions{
			ListOptions: gl.ListOptions{PerPage: 1}, OrderBy: new("id"), Sort: new("desc"),
		},
		doing: "read the newest pipeline of project " + p.name, missing: ops.ReasonGitLabDenied,
	})
	if err != nil || len(page) == 0 {
		return ops.Pipeline{}, false, err
	}
	// The list has no times of start and end.
	whole, err := a.pipeline(ctx, p, page[0].ID)
	if err != nil {
		return ops.Pipeline{}, false, err
	}
	return whole.pipeline(p.name, ""), true, nil
}
