package gitlab

import (
	"encoding/json"
	"errors"
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

// event is a webhook, as far as ocim reads it. Sources: GitLab lib/gitlab/data_builder/pipeline.rb and
// build.rb. The kind stands in the body; the header that repeats it is not covered by the signature.
type event struct {
	Kind    string `json:"object_kind"`
	Project struct {
		ID int64 `json:"id"`
	} `json:"project"`
	ProjectID  int64 `json:"project_id"`  // of jobs
	PipelineID int64 `json:"pipeline_id"` // of jobs, in newer versions
	Attributes struct {
		ID        int64          `json:"id"`
		Variables []variableJSON `json:"variables"`
	} `json:"object_attributes"`
	Commit struct {
		ID      json.RawMessage `json:"id"` // a commit's sum, but in a job's event the pipeline's number
		Message string          `json:"message"`
	} `json:"commit"`
	Source struct {
		PipelineID int64 `json:"pipeline_id"`
	} `json:"source_pipeline"`
}

// parseEvent decodes a webhook. Fields of a wrong type are as if they were missing.
func parseEvent(body []byte) (event, error) {
	var e event
	err := json.Unmarshal(body, &e)
	var typed *json.UnmarshalTypeError
	if err != nil && !errors.As(err, &typed) {
		return event{}, fmt.Errorf("decode: %w", err)
	}
	return e, nil
}

// project is GitLab's number of the project that the event is about.
func (e *event) project() int64 {
	if e.Project.ID != 0 {
		return e.Project.ID
	}
	return e.ProjectID
}

// hints lists what there is to look at. Pushes and merge requests lead to pipelines that have events
// of their own.
func (e *event) hints(project string) []Hint {
	h := Hint{Project: project, Event: e.Kind, ParentID: e.Source.PipelineID}
	switch e.Kind {
	case "pipeline":
		h.PipelineID = e.Attributes.ID
	case "build":
		h.PipelineID = e.PipelineID
		if h.PipelineID == 0 && json.Unmarshal(e.Commit.ID, &h.PipelineID) != nil {
			h.PipelineID = 0
		}
	}
	if h.PipelineID <= 0 {
		return nil
	}
	for _, v := range e.Attributes.Variables {
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
	for _, m := range mentions(e.Commit.Message) {
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
