package gitlabtest

import "time"

// Script is a pipeline as a configuration file would describe it.
type Script struct {
	// Name is the template of workflow:name; "$[[ inputs.x ]]" and "$VARIABLE" are replaced.
	// Empty leaves the pipeline without a name.
	Name string
	// Stages run one after the other; the jobs of a stage run at the same time.
	Stages []Stage
}

// Stage is a named step of a Script.
type Stage struct {
	Name string
	Jobs []Job
}

// Job is one job of a stage, or, with a Child, a trigger job (a bridge).
type Job struct {
	Name string
	// Queue is the time from pending to running and Duration that from running to the end;
	// both are divided by Options.Speed.
	Queue, Duration time.Duration
	// Fails is the failure_reason with which the job fails; empty succeeds. Failures is the
	// number of attempts that fail: zero is one, negative is all of them.
	Fails    string
	Failures int
	// Trace is the text of the log; empty is a plausible text by the job's name.
	Trace string
	// Manual makes the job wait in status manual until it is played. With AllowFailure it does
	// not block the pipeline.
	Manual       bool
	AllowFailure bool
	// Environment is the deployment environment's name, or empty.
	Environment string
	// ResourceGroup makes jobs of the same group in one project run one at a time; the others
	// wait in waiting_for_resource.
	ResourceGroup string
	// Child makes the job a bridge that starts this pipeline in the same project. The bridge
	// ends as the child does (strategy: depend) unless Detached, when it succeeds as soon as the
	// child exists.
	Child    *Script
	Detached bool

	// effect happens when the job succeeds.
	effect func(*Server, *job)
}

// Override changes what the next pipelines of a project do. It follows an operation through
// follow-up and child pipelines.
type Override struct {
	// Instance limits the override to operations on that instance; empty is all.
	Instance string
	// Operations is the number of root pipelines it applies to; zero is all until removed.
	Operations int

	// FailJob names a job that fails with FailureReason (script_failure if empty), with Trace as
	// its log (a plausible one if empty). Failures is the number of attempts that fail: zero is
	// one, negative is all.
	FailJob       string
	FailureReason string
	Trace         string
	Failures      int
	// ManualJob names a job that becomes manual and blocks the pipeline until played.
	ManualJob string
	// Durations replaces durations by job name, before Options.Speed is applied.
	Durations map[string]time.Duration
	// LeaveMergeRequestOpen makes a Grove pipeline open its merge request but not merge it.
	LeaveMergeRequestOpen bool
	// NoFollowUp makes a Grove merge start no second pipeline.
	NoFollowUp bool
}

// apply returns the job as the overrides change it.
func (o *Override) apply(j Job) Job {
	if d, ok := o.Durations[j.Name]; ok {
		j.Duration = d
	}
	if o.FailJob != "" && o.FailJob == j.Name {
		j.Fails, j.Failures = o.FailureReason, o.Failures
		if j.Fails == "" {
			j.Fails = "script_failure"
		}
		if o.Trace != "" {
			j.Trace = o.Trace
		}
	}
	if o.ManualJob != "" && o.ManualJob == j.Name {
		j.Manual, j.AllowFailure = true, false
	}
	return j
}

// Override adds o to a project and returns a function that takes it away again for pipelines that
// have not begun.
func (s *Server) Override(projectID int64, o Override) (remove func()) {
	rule := &override{Override: o, left: o.Operations}
	s.do(func() {
		if p := s.projects[projectID]; p != nil {
			p.overrides = append(p.overrides, rule)
		}
	})
	return func() { s.do(func() { rule.gone = true }) }
}

// override is an Override with what is left of it.
type override struct {
	Override

	left int
	gone bool
}

// takeOverrides returns the overrides that apply to a new operation and counts them down.
func (p *project) takeOverrides(instance string) []*Override {
	var taken []*Override
	for _, r := range p.overrides {
		if r.gone || r.Instance != "" && r.Instance != instance || r.Operations > 0 && r.left == 0 {
			continue
		}
		r.left--
		taken = append(taken, &r.Override)
	}
	return taken
}
