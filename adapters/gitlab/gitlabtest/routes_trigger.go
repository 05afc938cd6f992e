package gitlabtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Sentences of GitLab; the comments name where they stand.
const (
	// lib/gitlab/ci/pipeline/chain/validate/repository.rb.
	noReference = "Reference not found"
	// lib/gitlab/ci/pipeline/chain/build/associations.rb, gitlab-org/gitlab issue 557381.
	noVariables = "Insufficient permissions to set pipeline variables"
	// lib/gitlab/ci/pipeline/chain/populate.rb.
	noJobs = "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs " +
		"from being added to the pipeline."
	// lib/api/ci/triggers.rb.
	stringsOnly = "variables needs to be a map of key-valued strings"
)

// order is a request for a pipeline, by either API.
type order struct {
	ref       string
	source    string
	user      *user
	role      Role
	variables []variable
	inputs    map[string]any
	save      bool // keep a failed pipeline for an invalid configuration
}

// triggerPipeline is POST projects/:id/trigger/pipeline (GitLab: lib/api/ci/triggers.rb,
// app/services/ci/pipeline_trigger_service.rb).
func triggerPipeline(c *call) *reply {
	params := maps.Clone(c.params)
	if ref, ok := c.path["ref"]; ok {
		params["ref"] = ref
	}
	if refused := checkTrigger(params); refused != nil {
		return refused
	}
	if c.r.Header.Get("X-Gitlab-Event") == "Pipeline Hook" {
		return forbidden("")
	}
	vars, ok := stringMap(params["variables"])
	if !ok {
		return message(http.StatusBadRequest, stringsOnly)
	}
	p := c.find(c.path["id"])
	if p == nil || p.TriggerToken == "" || text(params["token"]) != p.TriggerToken {
		return notFound("")
	}
	c.project = p
	inputs, _ := params["inputs"].(map[string]any)
	o := order{ref: text(params["ref"]), source: "trigger", user: p.owner, role: p.TriggerRole, inputs: inputs, save: true}
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		o.variables = append(o.variables, variable{key: k, value: vars[k], kind: "env_var"})
	}
	o.variables = append(o.variables, variable{key: "TRIGGER_PAYLOAD", value: payloadOf(params, c.path["id"]), kind: "file"})
	if p.VariablesForbidden && len(vars) > 0 {
		return baseError(http.StatusBadRequest, noVariables)
	}
	return c.createFrom(o)
}

// checkTrigger is Grape's validation of the parameters.
func checkTrigger(params map[string]any) *reply {
	var wrong []string
	if _, ok := params["ref"]; !ok {
		wrong = append(wrong, "ref is missing")
	} else if strings.TrimSpace(text(params["ref"])) == "" {
		wrong = append(wrong, "ref is empty")
	}
	if _, ok := params["token"]; !ok {
		wrong = append(wrong, "token is missing")
	}
	for _, name := range []string{"variables", "inputs"} {
		v, ok := params[name]
		if _, isMap := v.(map[string]any); ok && v != nil && !isMap {
			wrong = append(wrong, name+" is invalid")
		}
	}
	if len(wrong) > 0 {
		return grape(strings.Join(wrong, ", "))
	}
	return nil
}

// stringMap is a map of strings; ok is false if a value is anything else.
func stringMap(v any) (vars map[string]string, ok bool) {
	given, _ := v.(map[string]any)
	vars = map[string]string{}
	for k, x := range given {
		s, isString := x.(string)
		if !isString {
			return nil, false
		}
		vars[k] = s
	}
	return vars, true
}

// payloadOf is the value of TRIGGER_PAYLOAD: every parameter but the token, unknown ones included.
func payloadOf(params map[string]any, id string) string {
	all := maps.Clone(params)
	delete(all, "token")
	all["id"] = id
	if all["variables"] == nil {
		all["variables"] = map[string]any{}
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return "{}"
	}
	return string(raw)
}

// createPipeline is POST projects/:id/pipeline (GitLab: lib/api/ci/pipelines.rb).
func createPipeline(c *call) *reply {
	if _, ok := c.params["ref"]; !ok {
		return grape("ref is missing")
	}
	if strings.TrimSpace(text(c.params["ref"])) == "" {
		return grape("ref is empty")
	}
	vars, refused := listedVariables(c.params["variables"])
	if refused != nil {
		return refused
	}
	inputs, isMap := c.params["inputs"].(map[string]any)
	if c.params["inputs"] != nil && !isMap {
		return grape("inputs is invalid")
	}
	if c.project.VariablesForbidden && len(vars) > 0 {
		return baseError(http.StatusBadRequest, noVariables)
	}
	return c.createFrom(order{
		ref: text(c.params["ref"]), source: "api", user: c.token.user, role: c.role, variables: vars, inputs: inputs,
	})
}

// listedVariables reads the array form of variables. A map is answered with 500, as by GitLab
// (gitlab-org/gitlab issue 23394).
func listedVariables(v any) ([]variable, *reply) {
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, message(http.StatusInternalServerError, "500 Internal Server Error")
	}
	vars := make([]variable, 0, len(list))
	for _, x := range list {
		m, _ := x.(map[string]any)
		one := variable{key: text(m["key"]), value: text(m["value"]), kind: text(m["variable_type"])}
		switch one.kind {
		case "":
			one.kind = "env_var"
		case "env_var", "file":
		default:
			return nil, grape("variables[0][variable_type] does not have a valid value")
		}
		vars = append(vars, one)
	}
	return vars, nil
}

// createFrom makes a pipeline, with GitLab's checks in GitLab's order
// (app/services/ci/create_pipeline_service.rb, SEQUENCE).
func (c *call) createFrom(o order) *reply {
	p := c.project
	if p.MaintainersOnly && o.ref == p.DefaultBranch && o.role < Maintainer || o.role < Developer {
		return baseError(http.StatusBadRequest, fmt.Sprintf("You do not have sufficient permission to run a pipeline on '%s'. "+
			"Please select a different branch or contact your administrator for assistance.", o.ref))
	}
	head := p.repo.branches[o.ref]
	if head == nil {
		return baseError(http.StatusBadRequest, noReference)
	}
	if bad := badVariable(o.variables); bad != "" {
		return message(http.StatusBadRequest, map[string]any{"variables": []string{bad}})
	}
	r := request{
		project: p, ref: o.ref, source: o.source, user: o.user, commit: head, variables: o.variables, inputs: o.inputs,
	}
	if problem := c.configProblem(&r); problem != "" {
		if !o.save {
			return baseError(http.StatusBadRequest, problem)
		}
		r.yamlErrors = problem
		pl := c.newPipeline(r)
		c.remember(pl, c.params)
		answer := baseError(http.StatusUnprocessableEntity, problem)
		answer.pipeline = pl.id
		return answer
	}
	if p.NoJobs {
		return baseError(http.StatusBadRequest, noJobs)
	}
	r.script, r.story = c.plan(p, o.source, head, o.variables)
	pl := c.newPipeline(r)
	c.remember(pl, c.params)
	return &reply{status: http.StatusCreated, body: c.fullPipelineEntity(pl, pl.moment), pipeline: pl.id}
}

// badVariable is what is wrong with the first bad variable (app/models/concerns/ci/has_variable.rb).
func badVariable(vars []variable) string {
	strange := func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	for _, v := range vars {
		if v.key == "" || len(v.key) > 255 || strings.ContainsFunc(v.key, strange) {
			return "is invalid"
		}
	}
	return ""
}

// configProblem is why the configuration does not make a pipeline, or empty. It fills in the
// defaults of inputs. The sentences about inputs are a guess: do not match on them.
func (c *call) configProblem(r *request) string {
	p := r.project
	if p.ConfigError != "" {
		return p.ConfigError
	}
	inputs := map[string]any{}
	for _, in := range p.Inputs {
		v, given := r.inputs[in.Name]
		switch {
		case given:
			inputs[in.Name] = v
		case in.Default != nil:
			inputs[in.Name] = *in.Default
		default:
			return "`.gitlab-ci.yml`: `" + in.Name + "` input: required value has not been provided"
		}
	}
	var unknown []string
	for k := range r.inputs {
		if _, ok := inputs[k]; !ok {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return "`.gitlab-ci.yml`: unknown input arguments: " + strings.Join(unknown, ", ")
	}
	r.inputs = inputs
	return ""
}
