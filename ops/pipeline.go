package ops

import "time"

// PipelineRef names a pipeline: the project as the configuration calls it, and GitLab's id.
type PipelineRef struct {
	Project string `json:"project"`
	ID      int64  `json:"id"`
}

// Role says how a pipeline belongs to its operation.
type Role string

// The roles.
const (
	RoleRoot   Role = "root"   // the one that our request created
	RoleFollow Role = "follow" // started by the merge that the root made
	RoleChild  Role = "child"  // started by a bridge job of another pipeline of the operation
	RoleExtra  Role = "extra"  // a second one with the same key: not wanted, canceled, counts for nothing
)

// Pipeline is one GitLab pipeline of an operation as it was last seen. Status holds GitLab's own
// word, also one that is not known here.
type Pipeline struct {
	Ref          PipelineRef
	Role         Role
	Parent       int64 // the pipeline whose bridge started this child, else 0
	Bridge       string
	AllowFailure bool // the bridge lets this child fail
	Source       string
	Status       string
	GitRef       string
	SHA          string
	URL          string
	CreatedAt    time.Time
	UpdatedAt    time.Time
	StartedAt    time.Time
	FinishedAt   time.Time
	YAMLErrors   string
	Jobs         Jobs
}

// Jobs sums up the jobs of one pipeline for the card. It is a last-seen summary, not a history:
// stages and jobs are read from GitLab when somebody asks.
type Jobs struct {
	Total   int    `json:"total,omitempty"`
	Done    int    `json:"done,omitempty"` // success, failed, canceled or skipped
	Running string `json:"running,omitempty"`
	Stage   string `json:"stage,omitempty"` // of the running job
	Manual  string `json:"manual,omitempty"`
	MaxID   int64  `json:"max_id,omitempty"` // highest job id: a retry in GitLab makes new ones
}

// PipelineFinal reports whether GitLab's word means that the pipeline has ended. A word that is
// not known here counts as not final. Source: GitLab app/models/concerns/ci/has_status.rb.
func PipelineFinal(status string) bool {
	switch status {
	case "success", "failed", "canceled", "skipped":
		return true
	}
	return false
}

// PipelineBlocked reports whether the pipeline waits for a person or a clock.
func PipelineBlocked(status string) bool { return status == "manual" || status == "scheduled" }

// Job is one GitLab job, read on demand.
type Job struct {
	ID            int64
	Project       string // as the configuration calls it: a child may run in another than the root
	Pipeline      int64
	Name          string
	Stage         string
	Status        string
	FailureReason string
	AllowFailure  bool
	URL           string
	StartedAt     time.Time
	FinishedAt    time.Time
}

// MergeRequest is the merge request that a root pipeline opened, if one was found.
type MergeRequest struct {
	IID   int64
	State string // opened, merged, closed, locked
	URL   string
	// MergedAt is zero unless it was merged.
	MergedAt time.Time
}

// Snapshot is one consistent look at all pipelines of an operation.
type Snapshot struct {
	Pipelines    []Pipeline // root first, parents before children
	FailedJobs   []Job      // failed and not allowed to fail, oldest first
	MergeRequest *MergeRequest
	Gone         []PipelineRef // known pipelines below the root that GitLab does not show
}

// Start says which GitLab call begins a pipeline.
type Start string

// The ways to start.
const (
	StartTrigger  Start = "trigger"  // POST /projects/:id/trigger/pipeline with a trigger token
	StartPipeline Start = "pipeline" // POST /projects/:id/pipeline with an API token
)

// Follow says which further pipelines belong to an operation.
type Follow string

// The ways to follow.
const (
	FollowNone         Follow = "none"
	FollowMergeRequest Follow = "merge_request" // Grove: the root merges deployment/<instance>/<number>
)

// PipelineSpec is all that is sent to GitLab to create one pipeline, and all that is needed to
// find it again. The same spec is shown by --plan.
type PipelineSpec struct {
	Project      string
	Start        Start
	GitRef       string
	Variables    map[string]string
	Inputs       map[string]any
	Payload      map[string]string // extra top-level keys of the trigger call, ocim_key among them
	Key          string            // 32 hex digits of 128 random bits, unique to the run
	KeyInName    bool              // the key is an input that workflow:name prints
	CreatedAfter time.Time         // GitLab's clock before the first POST; lower bound for Find
}

// TreeSpec tells which pipelines belong together.
type TreeSpec struct {
	Root   PipelineRef
	Known  []Pipeline // as last seen; pipelines that are final and unchanged need no further reads
	Follow Follow
	Target Target
	Number int64
}
