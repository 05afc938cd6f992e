// Package opstest has what tests of the domain need: a GitLab in memory, which does what it is
// told. Tests of how GitLab is spoken to use gitlabtest instead.
package opstest

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"ocim/ops"
)

// Fault is how one call goes wrong. With Lost the call takes effect all the same.
type Fault struct {
	Err  error
	Lost bool
}

// Lab implements [ops.Pipelines] and [ops.Repos]. Safe for concurrent use.
type Lab struct {
	clock ops.Clock

	mu        sync.Mutex
	pipelines []ops.Pipeline
	specs     map[int64]ops.PipelineSpec // of the roots
	jobs      map[int64][]ops.Job        // by pipeline
	tails     map[int64]string           // by job
	instances map[string][]string        // by project
	merge     *ops.MergeRequest
	hidden    bool
	faults    map[string][]Fault
	calls     map[string]int
	canceled  []int64
	before    map[string]func()
}

var (
	_ ops.Pipelines = (*Lab)(nil)
	_ ops.Repos     = (*Lab)(nil)
)

// NewLab returns an empty GitLab.
func NewLab(clock ops.Clock) *Lab {
	return &Lab{
		clock: clock, specs: map[int64]ops.PipelineSpec{}, jobs: map[int64][]ops.Job{}, tails: map[int64]string{},
		instances: map[string][]string{}, faults: map[string][]Fault{}, calls: map[string]int{}, before: map[string]func(){},
	}
}

// Fail queues faults for a method, which is named in lower case: probe, find, create, tree, cancel,
// jobs, tail, instances, latest or recent.
func (l *Lab) Fail(method string, faults ...Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults[method] = append(l.faults[method], faults...)
}

// Before runs f at the beginning of each call of a method, so that a test can act in between.
func (l *Lab) Before(method string, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before[method] = f
}

// Heal takes all faults of a method back.
func (l *Lab) Heal(method string) { l.mu.Lock(); delete(l.faults, method); l.mu.Unlock() }

// Hide makes Find see nothing, as a list that lags.
func (l *Lab) Hide(hidden bool) { l.mu.Lock(); l.hidden = hidden; l.mu.Unlock() }

// SetInstances sets what a project's repository holds.
func (l *Lab) SetInstances(project string, names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.instances[project] = names
}

// SetMergeRequest sets what Tree says of the merge request.
func (l *Lab) SetMergeRequest(m *ops.MergeRequest) { l.mu.Lock(); l.merge = m; l.mu.Unlock() }

// SetStatus changes a pipeline's status, now.
func (l *Lab) SetStatus(id int64, status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.pipelines {
		if p := &l.pipelines[i]; p.Ref.ID == id {
			p.Status, p.UpdatedAt, p.FinishedAt = status, l.clock.Now(), time.Time{}
			if ops.PipelineFinal(status) {
				p.FinishedAt = p.UpdatedAt
			}
		}
	}
}

// Break makes a pipeline fail for what its configuration holds.
func (l *Lab) Break(id int64, why string) {
	l.SetStatus(id, "failed")
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.pipelines {
		if l.pipelines[i].Ref.ID == id {
			l.pipelines[i].YAMLErrors = why
		}
	}
}

// AddPipeline adds a child or follow-up pipeline and returns its id.
func (l *Lab) AddPipeline(p ops.Pipeline) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(p)
}

func (l *Lab) add(p ops.Pipeline) int64 {
	p.Ref.ID = int64(101 + len(l.pipelines))
	p.URL = "https://gitlab.example/p/" + strconv.FormatInt(p.Ref.ID, 10)
	p.CreatedAt, p.UpdatedAt = l.clock.Now(), l.clock.Now()
	l.pipelines = append(l.pipelines, p)
	return p.Ref.ID
}

// Remove deletes a pipeline.
func (l *Lab) Remove(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pipelines = slices.DeleteFunc(l.pipelines, func(p ops.Pipeline) bool { return p.Ref.ID == id })
}

// AddJob adds a job with its log to a pipeline and returns its id.
func (l *Lab) AddJob(j ops.Job, log string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	j.ID = int64(9001 + len(l.tails))
	j.URL = "https://gitlab.example/j/" + strconv.FormatInt(j.ID, 10)
	for _, p := range l.pipelines {
		if p.Ref.ID == j.Pipeline {
			j.Project = p.Ref.Project
		}
	}
	l.jobs[j.Pipeline] = append(l.jobs[j.Pipeline], j)
	l.tails[j.ID] = log
	return j.ID
}

// Roots are the pipelines that requests of ours made, oldest first, and what was sent for each.
func (l *Lab) Roots() (pipelines []ops.Pipeline, specs []ops.PipelineSpec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pipelines {
		if s, ok := l.specs[p.Ref.ID]; ok {
			pipelines, specs = append(pipelines, p), append(specs, s)
		}
	}
	return pipelines, specs
}

// Canceled lists the pipelines that were asked to end, in order.
func (l *Lab) Canceled() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.canceled)
}

// Calls is how often a method was called.
func (l *Lab) Calls(method string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[method]
}

// enter begins a call; the caller unlocks. A fault that is not Lost ends it.
func (l *Lab) enter(ctx context.Context, method string) (lost, err error) {
	l.mu.Lock()
	l.calls[method]++
	if f := l.before[method]; f != nil {
		l.mu.Unlock()
		f()
		l.mu.Lock()
	}
	if err := ctx.Err(); err != nil {
		return nil, &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, Msg: "GitLab does not answer.", Err: err}
	}
	q := l.faults[method]
	if len(q) == 0 {
		return nil, nil
	}
	l.faults[method] = q[1:]
	if q[0].Lost {
		return q[0].Err, nil
	}
	return nil, q[0].Err
}

// Probe implements [ops.Pipelines].
func (l *Lab) Probe(ctx context.Context, _ string) (time.Time, error) {
	_, err := l.enter(ctx, "probe")
	defer l.mu.Unlock()
	return l.clock.Now(), err
}

// Find implements [ops.Pipelines].
func (l *Lab) Find(ctx context.Context, s ops.PipelineSpec, others func(ops.PipelineRef) bool) ([]ops.Pipeline, error) {
	_, err := l.enter(ctx, "find")
	defer l.mu.Unlock()
	if err != nil || l.hidden {
		return nil, err
	}
	var found []ops.Pipeline
	for _, p := range l.pipelines {
		if l.specs[p.Ref.ID].Key == s.Key && s.Key != "" && !others(p.Ref) {
			found = append(found, p)
		}
	}
	return found, nil
}

// Create implements [ops.Pipelines].
func (l *Lab) Create(ctx context.Context, s ops.PipelineSpec) (ops.Pipeline, error) {
	lost, err := l.enter(ctx, "create")
	defer l.mu.Unlock()
	if err != nil {
		return ops.Pipeline{}, err
	}
	id := l.add(ops.Pipeline{Ref: ops.PipelineRef{Project: s.Project}, Role: ops.RoleRoot, Status: "created", Source: string(s.Start), GitRef: s.GitRef})
	l.specs[id] = s
	if lost != nil {
		return ops.Pipeline{}, lost
	}
	return l.pipelines[len(l.pipelines)-1], nil
}

// Tree implements [ops.Pipelines]: the root, and what has it as parent.
func (l *Lab) Tree(ctx context.Context, s ops.TreeSpec) (ops.Snapshot, error) {
	_, err := l.enter(ctx, "tree")
	defer l.mu.Unlock()
	snap := ops.Snapshot{MergeRequest: l.merge}
	if err != nil {
		return snap, err
	}
	for _, p := range l.pipelines {
		if p.Ref.ID != s.Root.ID && p.Parent != s.Root.ID {
			continue
		}
		snap.Pipelines = append(snap.Pipelines, p)
		for _, j := range l.jobs[p.Ref.ID] {
			if j.Status == "failed" && !j.AllowFailure {
				snap.FailedJobs = append(snap.FailedJobs, j)
			}
		}
	}
	for _, k := range s.Known {
		if k.Role != ops.RoleRoot && !slices.ContainsFunc(l.pipelines, func(p ops.Pipeline) bool { return p.Ref == k.Ref }) {
			snap.Gone = append(snap.Gone, k.Ref)
		}
	}
	if len(snap.Pipelines) == 0 || snap.Pipelines[0].Ref.ID != s.Root.ID {
		return snap, &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonPipelineDeleted, Msg: "The pipeline is not there."}
	}
	return snap, nil
}

// Cancel implements [ops.Pipelines]. The pipeline ends when the test says so.
func (l *Lab) Cancel(ctx context.Context, r ops.PipelineRef) error {
	_, err := l.enter(ctx, "cancel")
	defer l.mu.Unlock()
	l.canceled = append(l.canceled, r.ID)
	return err
}

// Jobs implements [ops.Pipelines].
func (l *Lab) Jobs(ctx context.Context, r ops.PipelineRef) ([]ops.Job, error) {
	_, err := l.enter(ctx, "jobs")
	defer l.mu.Unlock()
	return slices.Clone(l.jobs[r.ID]), err
}

// Tail implements [ops.Pipelines].
func (l *Lab) Tail(ctx context.Context, project string, job int64, limit int) (string, error) {
	_, err := l.enter(ctx, "tail")
	defer l.mu.Unlock()
	for _, js := range l.jobs {
		for _, j := range js {
			if j.ID == job && j.Project != project {
				return "", &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonPipelineDeleted, Msg: "There is no such job."}
			}
		}
	}
	tail := l.tails[job]
	return tail[max(0, len(tail)-limit):], err
}

// Instances implements [ops.Repos].
func (l *Lab) Instances(ctx context.Context, project, _ string) ([]string, error) {
	_, err := l.enter(ctx, "instances")
	defer l.mu.Unlock()
	return slices.Clone(l.instances[project]), err
}

// Latest implements [ops.Repos].
func (l *Lab) Latest(ctx context.Context, project string) (ops.Pipeline, bool, error) {
	_, err := l.enter(ctx, "latest")
	defer l.mu.Unlock()
	for _, p := range slices.Backward(l.pipelines) {
		if p.Ref.Project == project {
			return p, true, err
		}
	}
	return ops.Pipeline{}, false, err
}

// Recent implements [ops.Repos].
func (l *Lab) Recent(ctx context.Context, project string, since time.Time, known func(ops.PipelineRef) bool) ([]ops.Found, error) {
	_, err := l.enter(ctx, "recent")
	defer l.mu.Unlock()
	var out []ops.Found
	for _, p := range l.pipelines {
		if s, ok := l.specs[p.Ref.ID]; ok && p.Ref.Project == project && !p.CreatedAt.Before(since) && !known(p.Ref) {
			out = append(out, ops.Found{Pipeline: p, Reference: s.Payload["ocim_ref"]})
		}
	}
	return out, err
}
