package gitlab

import (
	"encoding/json"
	"fmt"
	"strings"
)

// maxHints bounds the hints of one webhook.
const maxHints = 20

// Hint says that something happened to a pipeline. Everything but Project was written by others and
// is only good for finding the operation to look at.
type Hint struct {
	Project    string // as the configuration names it
	PipelineID int64
	ParentID   int64  // the pipeline that started this one, else 0
	Number     int64  // DEPLOYMENT_REQUEST_ID, else 0
	Key        string // ocim_key, may be empty
	Instance   string // may be empty
	Event      string // pipeline or build
}

// event is a webhook, as far as ocim reads it.
type event struct {
	kind      string
	project   int64
	pipeline  int64
	parent    int64
	message   string // of the commit
	variables []variableJSON
}

// parseEvent reads a webhook. Fields of a wrong type are as if they were missing. Sources: GitLab
// lib/gitlab/data_builder/pipeline.rb and build.rb. The kind stands in the body; the header that
// repeats it is not covered by the signature.
func parseEvent(body []byte) (event, error) {
	var e event
	var attributes, commit []byte
	var job, project int64
	err := members(body, func(name, value []byte) {
		switch string(name) {
		case "object_kind":
			e.kind = text(value)
		case "project":
			e.project = member(value, "id")
		case "project_id": // of jobs; older versions have no project
			project = number(value)
		case "pipeline_id": // of jobs, in newer versions
			job = number(value)
		case "object_attributes":
			attributes = value
		case "commit":
			commit = value
		case "source_pipeline":
			e.parent = member(value, "pipeline_id")
		}
	})
	if err != nil {
		return event{}, fmt.Errorf("read the webhook: %w", err)
	}
	if e.project == 0 {
		e.project = project
	}
	if commit != nil {
		// Null where there is none.
		_ = members(commit, func(name, value []byte) {
			switch string(name) {
			case "message":
				e.message = text(value)
			case "id": // a commit's sum, but in a job's event the pipeline's number
				if job == 0 && e.kind == "build" {
					job = number(value)
				}
			}
		})
	}
	switch e.kind {
	case "pipeline":
		_ = members(attributes, func(name, value []byte) {
			switch string(name) {
			case "id":
				e.pipeline = number(value)
			case "variables":
				// A variable of another type than text spoils no other.
				_ = json.Unmarshal(value, &e.variables)
			}
		})
	case "build":
		e.pipeline = job
	}
	return e, nil
}

// member is the integer in one member of a raw object.
func member(raw []byte, which string) (n int64) {
	_ = members(raw, func(name, value []byte) {
		if string(name) == which {
			n = number(value)
		}
	})
	return n
}

// hints lists what there is to look at. Pushes and merge requests lead to pipelines that have events
// of their own.
func (e *event) hints(project string) []Hint {
	h := Hint{Project: project, Event: e.kind, PipelineID: e.pipeline, ParentID: e.parent}
	if h.PipelineID <= 0 {
		return nil
	}
	for _, v := range e.variables {
		switch v.Key {
		case "OCIM_KEY":
			h.Key = short(v.Value)
		case "DEPLOYMENT_REQUEST_ID":
			h.Number, _ = number64(v.Value)
		case "INSTANCE_NAME":
			h.Instance = short(v.Value)
		case triggerPayload:
			if h.Key == "" {
				h.Key = payloadKey(v.Value)
			}
		}
	}
	if h.Number != 0 || h.Key != "" {
		return []Hint{h}
	}
	var all []Hint
	for _, m := range mentions(e.message) {
		if m.Number != 0 && len(all) < maxHints {
			h.Number, h.Instance = m.Number, short(m.Instance)
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		all = append(all, h)
	}
	return all
}

// payloadKey reads ocim_key from the body of a trigger call.
func payloadKey(payload string) string {
	if !strings.Contains(payload, "ocim_key") {
		return ""
	}
	var body struct {
		Key string `json:"ocim_key"`
	}
	if json.Unmarshal([]byte(payload), &body) != nil {
		return ""
	}
	return short(body.Key)
}

// short drops what is too long to be a name or a key of ours.
func short(s string) string {
	if len(s) > 255 {
		return ""
	}
	return s
}
