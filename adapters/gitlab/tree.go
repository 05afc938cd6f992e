package gitlab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	gl "gitlab.com/gitlab-org/api/client-go/v2"

	"ocim/ops"
)

const (
	// maxDepth bounds how deep bridges are followed. GitLab allows two levels of child pipelines
	// below the first (doc/ci/pipelines/downstream_pipelines.md); other projects come on top.
	maxDepth = 6
	// maxTree bounds the pipelines of one operation.
	maxTree = 100
	// maxJobPages bounds the jobs of one pipeline: 1,000.
	maxJobPages = 10
	// settled is how long a pipeline must have rested before it is taken as unchanged: until then
	// a replica of GitLab's database may not show all of it.
	settled = time.Minute
)

// Tree implements [ops.Pipelines]. It reads the root and everything below it, one call after the
// other, so the picture is not of one instant: a pipeline is read before its jobs.
//
// A pipeline in s.Known that has ended, has not failed, and has not changed for a minute is read,
// but its jobs and bridges are not. A child in a project that is not configured is shown as its
// bridge shows it, with the project "id:" and GitLab's number; ocim can do nothing else with it.
func (a *Adapter) Tree(ctx context.Context, s ops.TreeSpec) (ops.Snapshot, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	p, err := a.project(s.Root.Project)
	if err != nil {
		return ops.Snapshot{}, err
	}
	root, err := a.pipeline(ctx, p, s.Root.ID)
	if err != nil {
		return ops.Snapshot{}, err
	}
	w := &walk{a: a, spec: s, known: map[int64]ops.Pipeline{}, seen: map[int64]bool{}}
	for _, k := range s.Known {
		w.known[k.Ref.ID] = k
	}
	if err := w.visit(ctx, p, root, ops.Pipeline{Role: ops.RoleRoot}, 0); err != nil {
		return ops.Snapshot{}, inside(err)
	}
	if s.Follow == ops.FollowMergeRequest && s.Number > 0 && s.Target.Instance != "" {
		if err := w.follow(ctx, p, root); err != nil {
			return ops.Snapshot{}, inside(err)
		}
	}
	if err := w.rest(ctx); err != nil {
		return ops.Snapshot{}, err
	}
	slices.SortStableFunc(w.out.FailedJobs, func(x, y ops.Job) int {
		return cmp.Or(x.FinishedAt.Compare(y.FinishedAt), cmp.Compare(x.ID, y.ID))
	})
	return w.out, nil
}

// rest reads the known pipelines to which nothing led this time: their bridge or their merge request
// may not be shown any more, or not yet again, and they may still run. Of a bridge that has been
// retried only the last pipeline counts.
func (w *walk) rest(ctx context.Context) error {
	for _, k := range w.spec.Known {
		home := w.a.projects[k.Ref.Project]
		if home == nil || w.seen[k.Ref.ID] || ops.Replaced(k, slices.Concat(w.out.Pipelines, w.spec.Known)) {
			continue
		}
		j, err := w.a.pipeline(ctx, home, k.Ref.ID)
		switch code := ops.CodeOf(err); {
		case code == ops.CodeNotFound:
			w.out.Gone = append(w.out.Gone, k.Ref)
		case err != nil && code != ops.CodeDenied:
			return err
		case err == nil && k.Role == ops.RoleExtra:
			w.seen[j.ID] = true
			w.out.Pipelines = append(w.out.Pipelines, j.pipeline(home.name, k.Role))
		case err == nil:
			if err := w.visit(ctx, home, j, k, 1); err != nil {
				return inside(err)
			}
		}
	}
	return nil
}

// inside keeps a 404 below the root from being taken for the root's.
func inside(err error) error {
	var e *ops.Error
	if !errors.As(err, &e) || e.Code != ops.CodeNotFound {
		return err
	}
	return &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable,
		Msg: "The pipelines changed while ocim read them.", Err: err,
	}
}

// walk collects the pipelines of one operation.
type walk struct {
	a     *Adapter
	spec  ops.TreeSpec
	known map[int64]ops.Pipeline
	seen  map[int64]bool
	out   ops.Snapshot
}

// visit adds a pipeline and what is below it. like holds what the pipeline itself does not tell:
// role, parent and bridge.
func (w *walk) visit(ctx context.Context, p *project, j pipelineJSON, like ops.Pipeline, depth int) error {
	if w.seen[j.ID] || len(w.out.Pipelines) >= maxTree {
		return nil
	}
	w.seen[j.ID] = true
	pl := j.pipeline(p.name, like.Role)
	pl.Parent, pl.Bridge, pl.AllowFailure = like.Parent, like.Bridge, like.AllowFailure
	at := len(w.out.Pipelines)
	w.out.Pipelines = append(w.out.Pipelines, pl)

	if children, ok := w.unchanged(pl); ok {
		w.out.Pipelines[at].Jobs = w.known[j.ID].Jobs
		for _, c := range children {
			if err := w.child(ctx, p, c, pipelineJSON{}, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	jobs, err := w.a.jobs(ctx, p, j.ID, "jobs")
	if err != nil {
		return err
	}
	bridges, err := w.a.bridges(ctx, p, j.ID)
	if err != nil {
		return err
	}
	w.out.Pipelines[at].Jobs = summary(pl.Status, jobs, bridges)
	w.failed(pl, jobs)
	for _, b := range bridges {
		if b.Downstream == nil || b.Downstream.ID <= 0 {
			w.failed(pl, []jobJSON{b})
			continue
		}
		like := ops.Pipeline{
			Ref:    ops.PipelineRef{ID: b.Downstream.ID},
			Role:   ops.RoleChild,
			Parent: j.ID, Bridge: clip(b.Name, 255), AllowFailure: b.AllowFailure || pl.AllowFailure,
		}
		read := len(w.out.Pipelines)
		if err := w.child(ctx, p, like, *b.Downstream, depth+1); err != nil {
			return err
		}
		if len(w.out.Pipelines) > read && w.out.Pipelines[read].Jobs == (ops.Jobs{}) {
			w.failed(pl, []jobJSON{b}) // nothing below it can be read
		}
	}
	return nil
}

// child adds the pipeline that a bridge started. seen is what the bridge says of it, which may be
// nothing.
func (w *walk) child(ctx context.Context, p *project, like ops.Pipeline, seen pipelineJSON, depth int) error {
	id := like.Ref.ID
	if w.seen[id] || len(w.out.Pipelines) >= maxTree {
		return nil
	}
	home := w.home(p, like, seen)
	if home != nil && depth <= maxDepth {
		j, err := w.a.pipeline(ctx, home, id)
		switch code := ops.CodeOf(err); {
		case err == nil:
			return w.visit(ctx, home, j, like, depth)
		case code != ops.CodeNotFound && code != ops.CodeDenied:
			return err
		}
	}
	if seen.ID == 0 {
		return nil // it was deleted
	}
	name := fmt.Sprintf("id:%d", seen.ProjectID)
	if home != nil {
		name = home.name
	}
	w.seen[id] = true
	pl := seen.pipeline(name, like.Role)
	pl.Parent, pl.Bridge, pl.AllowFailure = like.Parent, like.Bridge, like.AllowFailure
	w.out.Pipelines = append(w.out.Pipelines, pl)
	return nil
}

// home is the project of a child, nil if it is not configured.
func (w *walk) home(p *project, like ops.Pipeline, seen pipelineJSON) *project {
	switch {
	case like.Ref.Project != "":
		return w.a.projects[like.Ref.Project]
	case seen.ProjectID == 0 || seen.ProjectID == p.ID:
		return p // GitLab before 13.6 does not name the project
	}
	return p.host.projects[seen.ProjectID]
}

// unchanged reports whether all that is below the pipeline is known already, and returns its
// children. Those are read all the same: a retry in a child need not show in its parent.
func (w *walk) unchanged(now ops.Pipeline) ([]ops.Pipeline, bool) {
	was, ok := w.known[now.Ref.ID]
	switch {
	case !ok, was.Status != now.Status, !was.UpdatedAt.Equal(now.UpdatedAt), now.UpdatedAt.IsZero():
		return nil, false
	case !ops.PipelineFinal(now.Status), now.Status == "failed":
		// The failed jobs are the evidence that the caller wants, at whatever time it asks.
		return nil, false
	case w.a.clock.Now().Sub(now.UpdatedAt) < settled:
		return nil, false
	}
	var children []ops.Pipeline
	for _, k := range w.spec.Known {
		if k.Role != ops.RoleChild || k.Parent != now.Ref.ID {
			continue
		}
		if w.a.projects[k.Ref.Project] == nil {
			return nil, false // only its bridge tells of it
		}
		children = append(children, k)
	}
	return children, true
}

// failed notes the jobs that make a pipeline fail.
func (w *walk) failed(pl ops.Pipeline, jobs []jobJSON) {
	for _, j := range jobs {
		if j.Status == "failed" && !j.AllowFailure && !pl.AllowFailure {
			w.out.FailedJobs = append(w.out.FailedJobs, j.job(pl.Ref))
		}
	}
}

// summary sums up jobs for the card. Bridges count only where a person has to start one.
func summary(status string, jobs, bridges []jobJSON) ops.Jobs {
	var s ops.Jobs
	var manual string
	for _, j := range jobs {
		s.Total++
		if ops.PipelineFinal(j.Status) {
			s.Done++
		}
		if j.Status == "running" && s.Running == "" {
			s.Running, s.Stage = clip(j.Name, 255), clip(j.Stage, 255)
		}
	}
	for _, j := range slices.Concat(jobs, bridges) {
		s.MaxID = max(s.MaxID, j.ID)
		if j.Status != "manual" {
			continue
		}
		if s.Manual == "" && !j.AllowFailure {
			s.Manual = clip(j.Name, 255)
		}
		if manual == "" {
			manual = clip(j.Name, 255)
		}
	}
	if s.Manual == "" && status == "manual" {
		s.Manual = manual
	}
	return s
}

// jobs lists the jobs or bridges of a pipeline, oldest first. Retried ones are hidden, as they are
// by default.
func (a *Adapter) jobs(ctx context.Context, p *project, pipeline int64, which string) ([]jobJSON, error) {
	var all []jobJSON
	seen := map[int64]bool{}
	complete, err := list(ctx, a, p, request{
		method: http.MethodGet, path: p.path("pipelines", pipeline, which),
		opts:  &gl.ListJobsOptions{ListOptions: gl.ListOptions{PerPage: perPage}},
		token: p.Token, doing: fmt.Sprintf("read the jobs of pipeline %d", pipeline), missing: ops.ReasonPipelineDeleted,
	}, maxJobPages, func(page []jobJSON) bool {
		for _, j := range page {
			if !seen[j.ID] {
				seen[j.ID] = true
				all = append(all, j)
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if !complete {
		a.log.WarnContext(ctx, "a pipeline has more jobs than ocim reads", "project", p.name, "pipeline", pipeline, "read", len(all))
	}
	slices.SortFunc(all, func(x, y jobJSON) int { return cmp.Compare(x.ID, y.ID) })
	return all, nil
}

// bridges lists the trigger jobs of a pipeline. The old name of the call is deprecated since GitLab
// 19.2 in favour of trigger_jobs, which older servers lack.
func (a *Adapter) bridges(ctx context.Context, p *project, pipeline int64) ([]jobJSON, error) {
	all, err := a.jobs(ctx, p, pipeline, "bridges")
	if ops.CodeOf(err) == ops.CodeNotFound {
		return a.jobs(ctx, p, pipeline, "trigger_jobs")
	}
	return all, err
}

// Jobs implements [ops.Pipelines].
func (a *Adapter) Jobs(ctx context.Context, r ops.PipelineRef) ([]ops.Job, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	p, err := a.project(r.Project)
	if err != nil {
		return nil, err
	}
	all, err := a.jobs(ctx, p, r.ID, "jobs")
	if err != nil {
		return nil, err
	}
	jobs := make([]ops.Job, 0, len(all))
	for _, j := range all {
		jobs = append(jobs, j.job(r))
	}
	return jobs, nil
}
