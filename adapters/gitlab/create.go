package gitlab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"ocim/internal/crash"
	"ocim/internal/secret"
	"ocim/ops"
)

// errNoKey: see carries.
var errNoKey = errors.New("the request does not carry its key")

// Create implements [ops.Pipelines]. It sends one request, never two, and follows no redirect.
//
// A trigger token goes into the body and nowhere else, and nothing else authenticates the call:
// the pipeline runs as the token's owner.
func (a *Adapter) Create(ctx context.Context, s ops.PipelineSpec) (ops.Pipeline, error) {
	p, err := a.project(s.Project)
	if err != nil {
		return ops.Pipeline{}, err
	}
	r := request{kind: kindCreate, method: http.MethodPost, doing: "start a pipeline in project " + p.name}
	switch s.Start {
	case ops.StartTrigger:
		if p.TriggerToken.Empty() {
			return ops.Pipeline{}, missingToken(p, "trigger_token", "start pipelines")
		}
		r.path = p.path("trigger", "pipeline")
		r.opts, err = triggerBody(s, p.TriggerToken)
	case ops.StartPipeline:
		if p.WriteToken.Empty() {
			return ops.Pipeline{}, missingToken(p, "write_token", "start pipelines")
		}
		r.path, r.token = p.path("pipeline"), p.WriteToken
		r.opts, err = pipelineBody(s)
	default:
		err = fmt.Errorf("unknown way to start a pipeline: %q", s.Start)
	}
	if err != nil {
		return ops.Pipeline{}, &ops.Error{
			Code: ops.CodeInternal, Reason: ops.ReasonInternal,
			Msg: "ocim could not form the request for the pipeline, and sent none.", Err: err,
		}
	}
	var got pipelineJSON
	r.out = &got
	crash.Point("gitlab.create.before")
	_, err = a.call(ctx, p, r)
	crash.Point("gitlab.create.after")
	if err != nil {
		return ops.Pipeline{}, err
	}
	if got.ID <= 0 || got.ProjectID != 0 && got.ProjectID != p.ID {
		// What a proxy made of it may be anything. Whether there is a pipeline is found by its key.
		return ops.Pipeline{}, &ops.Error{
			Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable,
			Msg: "GitLab accepted the request but its answer names no pipeline of the project.",
		}
	}
	return got.pipeline(p.name, ops.RoleRoot), nil
}

func missingToken(p *project, field, what string) *ops.Error {
	return &ops.Error{
		Code: ops.CodeDenied, Reason: ops.ReasonGitLabDenied,
		Msg:  fmt.Sprintf("ocim has no token that may %s in project %s.", what, p.name),
		Next: fmt.Sprintf("Set %s of the project in the configuration.", field),
	}
}

// triggerBody is the body of POST trigger/pipeline. Every further top-level key comes back in the
// pipeline's file variable TRIGGER_PAYLOAD. Source: GitLab app/services/ci/pipeline_trigger_service.rb.
func triggerBody(s ops.PipelineSpec, token secret.Secret) (map[string]any, error) {
	body := map[string]any{"ref": s.GitRef, "token": token.Reveal()}
	if len(s.Variables) > 0 {
		body["variables"] = s.Variables
	}
	if len(s.Inputs) > 0 {
		body["inputs"] = s.Inputs
	}
	for k, v := range s.Payload {
		switch k {
		case "id", "ref", "token", "variables", "inputs", "private_token", "access_token", "job_token", "sudo":
			// They are parameters of the call itself, or would authenticate it.
			return nil, fmt.Errorf("payload key %q has a meaning of its own in GitLab", k)
		}
		body[k] = v
	}
	if !carries(s.Key, s.Payload, s.Variables, s.Inputs) {
		return nil, errNoKey
	}
	return body, nil
}

// pipelineBody is the body of POST pipeline, which takes variables as a list and nothing unknown.
// Source: GitLab lib/api/ci/pipelines.rb.
func pipelineBody(s ops.PipelineSpec) (map[string]any, error) {
	body := map[string]any{"ref": s.GitRef}
	if len(s.Variables) > 0 {
		list := make([]variableJSON, 0, len(s.Variables))
		for _, k := range slices.Sorted(maps.Keys(s.Variables)) {
			list = append(list, variableJSON{Key: k, Value: s.Variables[k]})
		}
		body["variables"] = list
	}
	if len(s.Inputs) > 0 {
		body["inputs"] = s.Inputs
	}
	inputs := s.Inputs
	if !s.KeyInName {
		inputs = nil // GitLab does not show them afterwards
	}
	if !carries(s.Key, nil, s.Variables, inputs) {
		return nil, errNoKey
	}
	return body, nil
}

// carries reports whether the key is somewhere in the request, so that Find can see it later. A
// request without it is never sent: if its answer were lost, nothing would lead to its pipeline.
func carries(key string, payload, variables map[string]string, inputs map[string]any) bool {
	if key == "" {
		return false
	}
	for _, v := range payload {
		if v == key {
			return true
		}
	}
	for _, v := range variables {
		if v == key {
			return true
		}
	}
	for _, v := range inputs {
		if s, ok := v.(string); ok && strings.Contains(s, key) {
			return true
		}
	}
	return false
}
