package gitlabtest

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotFound is the error of controls that are given an id nobody has.
var ErrNotFound = errors.New("no such thing in the simulated GitLab")

// Pipeline is a picture of a pipeline, for tests.
type Pipeline struct {
	ID, IID, ProjectID int64
	Status             string
	Source             string
	Ref, SHA           string
	Name               string
	// Parent is the id of the pipeline whose bridge started this one, or zero.
	Parent    int64
	Variables map[string]string
	// Instance is the instance a Grove pipeline works on, or empty.
	Instance  string
	CreatedAt time.Time
	Jobs      []JobState
}

// JobState is a picture of a job. Retried jobs come with Retried set.
type JobState struct {
	ID                     int64
	Stage, Name, Status    string
	FailureReason          string
	Bridge, Retried        bool
	Downstream             int64
	StartedAt, CompletedAt time.Time
}

// Pipelines returns all pipelines of a project in the order of their creation, child pipelines
// included.
func (s *Server) Pipelines(projectID int64) []Pipeline {
	var all []Pipeline
	s.see(func() {
		if p := s.projects[projectID]; p != nil {
			for _, pl := range p.pipelines {
				all = append(all, pl.picture())
			}
		}
	})
	return all
}

// Pipeline returns one pipeline.
func (s *Server) Pipeline(id int64) (Pipeline, error) {
	var found Pipeline
	err := fmt.Errorf("pipeline %d: %w", id, ErrNotFound)
	s.see(func() {
		if p := s.pipelines[id]; p != nil {
			found, err = p.picture(), nil
		}
	})
	return found, err
}

// Created returns the number of pipelines that POST requests created, over all projects.
func (s *Server) Created() int {
	n := 0
	s.see(func() {
		for _, p := range s.order {
			if p.source == "trigger" || p.source == "api" {
				n++
			}
		}
	})
	return n
}

func (p *pipeline) picture() Pipeline {
	v := Pipeline{
		ID: p.id, IID: p.iid, ProjectID: p.project.ID, Status: p.status, Source: p.source, Ref: p.ref, SHA: p.sha,
		Name: p.name, Variables: map[string]string{}, CreatedAt: p.created,
	}
	for _, x := range p.variables {
		v.Variables[x.key] = x.value
	}
	if p.parent != nil {
		v.Parent = p.parent.pipeline.id
	}
	if p.story != nil {
		v.Instance = p.story.instance
	}
	for _, j := range p.jobs {
		st := JobState{
			ID: j.id, Stage: j.stageName(), Name: j.Name, Status: j.status, FailureReason: j.reason,
			Bridge: j.bridge(), Retried: j.retried, StartedAt: j.started, CompletedAt: j.finished,
		}
		if j.downstream != nil {
			st.Downstream = j.downstream.id
		}
		v.Jobs = append(v.Jobs, st)
	}
	return v
}

func (j *job) stageName() string { return j.pipeline.script.Stages[j.stage].Name }

func (s *Server) withPipeline(id int64, f func(*pipeline) error) error {
	err := fmt.Errorf("pipeline %d: %w", id, ErrNotFound)
	s.do(func() {
		if p := s.pipelines[id]; p != nil {
			err = f(p)
		}
	})
	return err
}

func (s *Server) withJob(id int64, f func(*job) error) error {
	err := fmt.Errorf("job %d: %w", id, ErrNotFound)
	s.do(func() {
		if j := s.jobs[id]; j != nil {
			err = f(j)
		}
	})
	return err
}

// Finish ends a pipeline now, without waiting for its script. With success every open job
// succeeds, with everything that follows from it (a Grove merge, for one); bridges start their
// children and the children are finished as well. With failed the first open job fails. With
// canceled it is canceled, children included.
func (s *Server) Finish(pipelineID int64, status string) error {
	return s.withPipeline(pipelineID, func(p *pipeline) error { return s.finishPipeline(p, status) })
}

func (s *Server) finishPipeline(p *pipeline, status string) error {
	switch status {
	case stSuccess:
		s.settle(p)
		for i := range p.script.Stages {
			for _, j := range p.latest(i) {
				if err := s.finishJob(j); err != nil {
					return err
				}
			}
			s.settle(p)
		}
	case stFailed:
		s.settle(p)
		for _, j := range p.latest(-1) {
			if complete(j.status) {
				continue
			}
			if j.downstream != nil && !complete(j.downstream.status) {
				return s.finishPipeline(j.downstream, stFailed)
			}
			s.execute(j)
			s.fail(j, "script_failure")
			break
		}
		s.settle(p)
	case stCanceled:
		s.cancelPipeline(p, true)
	default:
		return fmt.Errorf("finish pipeline %d: %q is not success, failed or canceled", p.id, status)
	}
	s.advance()
	return nil
}

func (s *Server) finishJob(j *job) error {
	if complete(j.status) {
		return nil
	}
	if !j.bridge() {
		s.succeed(j)
		return nil
	}
	if j.downstream == nil {
		s.execute(j)
	}
	if !complete(j.downstream.status) {
		if err := s.finishPipeline(j.downstream, stSuccess); err != nil {
			return err
		}
	}
	return nil
}

// SetStatus gives a pipeline a status, known to GitLab or not, whatever its jobs say. From then on
// the status does not follow the jobs.
func (s *Server) SetStatus(pipelineID int64, status string) error {
	return s.withPipeline(pipelineID, func(p *pipeline) error {
		p.forced = true
		s.setPipeline(p, status)
		return nil
	})
}

// SetJobStatus moves one job; the pipeline follows. With success the job's effects happen.
func (s *Server) SetJobStatus(jobID int64, status, failureReason string) error {
	return s.withJob(jobID, func(j *job) error {
		switch status {
		case stRunning:
			s.execute(j)
		case stFailed:
			s.fail(j, failureReason)
		case stSuccess:
			s.succeed(j)
		default:
			s.setJob(j, status)
		}
		s.settle(j.pipeline)
		return nil
	})
}

// CancelPipeline cancels as a person would in GitLab's own pages.
func (s *Server) CancelPipeline(pipelineID int64) error {
	return s.withPipeline(pipelineID, func(p *pipeline) error {
		s.cancelPipeline(p, !p.project.CancelKeepsChildren)
		return nil
	})
}

// RetryPipeline retries as a person would in GitLab's own pages.
func (s *Server) RetryPipeline(pipelineID int64) error {
	return s.withPipeline(pipelineID, func(p *pipeline) error {
		s.retryPipeline(p)
		return nil
	})
}

// RetryJob retries one job and returns the new job's id.
func (s *Server) RetryJob(jobID int64) (newID int64, err error) {
	err = s.withJob(jobID, func(j *job) error {
		if !j.retryable() {
			return fmt.Errorf("job %d in status %s cannot be retried", j.id, j.status)
		}
		newID = s.retryJob(j).id
		s.settle(j.pipeline)
		return nil
	})
	return newID, err
}

// PlayJob starts a manual job.
func (s *Server) PlayJob(jobID int64) error {
	return s.withJob(jobID, func(j *job) error {
		if j.status != stManual {
			return fmt.Errorf("job %d in status %s cannot be played", j.id, j.status)
		}
		s.playJob(j)
		return nil
	})
}

// DeletePipeline removes a pipeline; no webhook tells of it, as in GitLab.
func (s *Server) DeletePipeline(pipelineID int64) error {
	return s.withPipeline(pipelineID, func(p *pipeline) error {
		s.cancelPipeline(p, true)
		delete(s.pipelines, p.id)
		for i, other := range p.project.pipelines {
			if other == p {
				p.project.pipelines = append(p.project.pipelines[:i:i], p.project.pipelines[i+1:]...)
				break
			}
		}
		return nil
	})
}

// cancelable are the statuses from which a job can be canceled.
func (j *job) cancelable() bool {
	switch j.status {
	case stCreated, stWaitingForResource, stPreparing, stCallback, stPending, stRunning, stScheduled:
		return true
	}
	return false
}

func (j *job) retryable() bool {
	return !j.retried && (complete(j.status) && j.status != stSkipped)
}

// cancelPipeline cancels every job that can be. The caller holds mu.
func (s *Server) cancelPipeline(p *pipeline, cascade bool) {
	for _, j := range p.latest(-1) {
		if j.cancelable() {
			s.cancelJob(j, cascade)
		}
	}
	s.settle(p)
}

func (s *Server) cancelJob(j *job, cascade bool) {
	grace := j.pipeline.project.CancelGrace
	switch {
	case j.bridge():
		down := j.downstream
		s.setJob(j, stCanceled)
		if cascade && down != nil {
			s.cancelPipeline(down, true)
		}
	case j.status == stRunning && grace > 0:
		s.setJob(j, stCanceling)
		s.later(j, grace, func() {
			s.setJob(j, stCanceled)
			s.settle(j.pipeline)
		})
	default:
		s.setJob(j, stCanceled)
	}
}

// retryPipeline retries what failed or was canceled and lets skipped jobs wait again. It does
// nothing if nothing failed.
func (s *Server) retryPipeline(p *pipeline) {
	first := -1
	for _, j := range p.latest(-1) {
		if j.status == stFailed || j.status == stCanceled {
			if first < 0 || j.stage < first {
				first = j.stage
			}
			s.replace(j)
		}
	}
	if first >= 0 {
		p.forced = false
		s.unskip(p, first)
		s.settle(p)
	}
}

// retryJob makes a new job of the same name, which starts at once.
func (s *Server) retryJob(j *job) *job {
	again := s.replace(j)
	j.pipeline.forced = false
	s.unskip(j.pipeline, j.stage)
	s.begin(again)
	return again
}

func (s *Server) replace(j *job) *job {
	j.retried = true
	again := s.newJob(j.pipeline, j.stage, j.Job, j.attempt+1)
	again.played = true
	return again
}

func (s *Server) playJob(j *job) {
	j.played = true
	s.begin(j)
	s.unskip(j.pipeline, j.stage)
	s.settle(j.pipeline)
}
