package gitlabtest

import (
	"slices"
	"strings"
	"time"
)

// Statuses of pipelines and jobs (GitLab: app/models/concerns/ci/has_status.rb).
const (
	stCreated            = "created"
	stWaitingForResource = "waiting_for_resource"
	stPreparing          = "preparing"
	stCallback           = "waiting_for_callback"
	stPending            = "pending"
	stRunning            = "running"
	stSuccess            = "success"
	stFailed             = "failed"
	stCanceling          = "canceling"
	stCanceled           = "canceled"
	stSkipped            = "skipped"
	stManual             = "manual"
	stScheduled          = "scheduled"
)

// knownStatus says whether GitLab knows the status.
func knownStatus(st string) bool {
	switch st {
	case stCreated, stWaitingForResource, stPreparing, stCallback, stPending, stRunning, stSuccess, stFailed, stCanceling, stCanceled,
		stSkipped, stManual, stScheduled:
		return true
	}
	return false
}

// complete says whether a status is one of an end, for now.
func complete(st string) bool {
	return st == stSuccess || st == stFailed || st == stCanceled || st == stSkipped
}

// variable is a pipeline variable.
type variable struct {
	key, value, kind string
}

// moment is what a pipeline looked like from an instant on; reads that lag are served from it.
type moment struct {
	from                       time.Time
	status                     string
	updated, started, finished time.Time
}

// story is what the pipelines of one operation have in common.
type story struct {
	instance  string
	request   string // DEPLOYMENT_REQUEST_ID
	overrides []*Override
}

// pipeline is a pipeline.
type pipeline struct {
	moment
	id, iid    int64
	project    *project
	ref        string
	sha        string
	before     string
	tag        bool
	source     string
	name       string
	user       *user
	variables  []variable
	inputs     map[string]any
	yamlErrors string
	created    time.Time
	script     Script
	jobs       []*job // retried ones included, oldest first
	parent     *job   // the bridge that started it
	story      *story
	forced     bool // SetStatus has taken over
	history    []moment
}

// job is a job or a bridge.
type job struct {
	Job
	id         int64
	pipeline   *pipeline
	stage      int
	status     string
	attempt    int
	retried    bool
	played     bool
	generation int // counts changes of status: an event of an older one is void
	reason     string
	created    time.Time
	queued     time.Time
	started    time.Time
	finished   time.Time
	downstream *pipeline
}

// request is what a new pipeline is made from.
type request struct {
	project    *project
	ref        string
	source     string
	user       *user
	commit     *commit
	variables  []variable
	inputs     map[string]any
	script     Script
	story      *story
	parent     *job
	yamlErrors string
}

// newPipeline creates a pipeline, which starts moving right after. The caller holds mu.
func (s *Server) newPipeline(r request) *pipeline {
	s.ids.pipeline++
	r.project.lastIID++
	p := &pipeline{
		id: s.ids.pipeline, iid: r.project.lastIID, project: r.project, ref: r.ref, sha: r.commit.id,
		before: zeroSHA, tag: r.project.repo.tags[r.ref], source: r.source, user: r.user,
		variables: r.variables, inputs: r.inputs, yamlErrors: r.yamlErrors, created: s.at, script: r.script,
		parent: r.parent, story: r.story,
	}
	if r.source == "push" && len(r.commit.parents) > 0 {
		p.before = r.commit.parents[0].id
	}
	p.name = expand(r.script.Name, p)
	p.moment = moment{from: s.at, status: stCreated, updated: s.at}
	p.history = append(p.history, p.moment)
	s.pipelines[p.id] = p
	s.order = append(s.order, p)
	r.project.pipelines = append(r.project.pipelines, p)
	if p.yamlErrors != "" {
		s.setPipeline(p, stFailed)
		return p
	}
	for i, stage := range r.script.Stages {
		for _, spec := range stage.Jobs {
			if p.story != nil {
				for _, o := range p.story.overrides {
					spec = o.apply(spec)
				}
			}
			s.newJob(p, i, spec, 1)
		}
	}
	s.after(0, func() { s.settle(p) })
	return p
}

func (s *Server) newJob(p *pipeline, stage int, spec Job, attempt int) *job {
	s.ids.job++
	j := &job{Job: spec, id: s.ids.job, pipeline: p, stage: stage, status: stCreated, attempt: attempt, created: s.at}
	p.jobs = append(p.jobs, j)
	s.jobs[j.id] = j
	return j
}

// expand fills in a workflow:name template.
func expand(template string, p *pipeline) string {
	if template == "" {
		return ""
	}
	pairs := make([]string, 0, 4*len(p.variables))
	for _, v := range p.variables {
		pairs = append(pairs, "$"+v.key, v.value, "${"+v.key+"}", v.value)
	}
	for k, v := range p.inputs {
		pairs = append(pairs, "$[[ inputs."+k+" ]]", text(v), "$[["+"inputs."+k+"]]", text(v))
	}
	return strings.NewReplacer(pairs...).Replace(template)
}

// latest are the jobs of a pipeline that were not retried; stage -1 is all stages.
func (p *pipeline) latest(stage int) []*job {
	var found []*job
	for _, j := range p.jobs {
		if !j.retried && (stage < 0 || j.stage == stage) {
			found = append(found, j)
		}
	}
	return found
}

// bridge says whether the job is a trigger job.
func (j *job) bridge() bool { return j.Child != nil }

// ignored says whether the job counts as neither good nor bad.
func (j *job) ignored() bool {
	return j.AllowFailure && (j.status == stFailed || j.status == stCanceled || j.status == stManual)
}

// settle starts what may start in a pipeline, derives its status, and tells the parent. The caller
// holds mu.
func (s *Server) settle(p *pipeline) {
	if p.yamlErrors != "" {
		return
	}
	stopped := false
	for i := range p.script.Stages {
		open := false
		for _, j := range p.latest(i) {
			if j.status == stCreated && stopped {
				s.setJob(j, stSkipped)
			}
			if j.status == stCreated {
				s.begin(j)
			}
			switch {
			case j.ignored():
			case !complete(j.status):
				open = true
			case j.status == stFailed || j.status == stCanceled:
				stopped = true
			}
		}
		if open {
			break
		}
	}
	if !p.forced {
		s.setPipeline(p, composite(p.latest(-1)))
	}
}

// composite is the status of a pipeline with these jobs, by the order of precedence of
// GitLab's lib/gitlab/ci/status/composite.rb.
func composite(jobs []*job) string {
	seen := map[string]bool{}
	for _, j := range jobs {
		if !j.ignored() {
			seen[j.status] = true
		}
	}
	only := func(allowed ...string) bool {
		for st := range seen {
			if !slices.Contains(allowed, st) {
				return false
			}
		}
		return true
	}
	switch {
	case len(seen) == 1 && seen[stSkipped]:
		return stSkipped
	case only(stSuccess, stSkipped):
		return stSuccess
	case only(stCreated):
		return stCreated
	case only(stPreparing):
		return stPreparing
	case only(stCanceled, stSuccess, stSkipped):
		return stCanceled
	case only(stPending, stCreated, stSkipped, stSuccess) && seen[stPending] && !seen[stSuccess]:
		return stPending
	}
	for _, st := range []string{stCanceling, stRunning, stPending, stWaitingForResource, stManual, stScheduled, stPreparing} {
		if seen[st] {
			if st == stPending {
				return stRunning
			}
			return st
		}
	}
	if seen[stCreated] {
		return stRunning
	}
	return stFailed
}

// begin moves a created job on, as far as it can go. The caller holds mu.
func (s *Server) begin(j *job) {
	if j.Manual && !j.played {
		s.setJob(j, stManual)
		return
	}
	if j.ResourceGroup != "" {
		r := j.pipeline.project.resources[j.ResourceGroup]
		if r == nil {
			r = &resource{}
			j.pipeline.project.resources[j.ResourceGroup] = r
		}
		if r.holder != nil && r.holder != j {
			r.waiting = append(r.waiting, j)
			s.setJob(j, stWaitingForResource)
			return
		}
		r.holder = j
	}
	s.enqueue(j)
}

// enqueue makes a job pending and lets a runner pick it up later. The caller holds mu.
func (s *Server) enqueue(j *job) {
	s.setJob(j, stPending)
	if s.opts.Frozen {
		return
	}
	s.later(j, j.Queue, func() {
		s.execute(j)
		s.settle(j.pipeline)
	})
}

// later does f after d of script time, unless the job's status changes before. The caller holds mu.
func (s *Server) later(j *job, d time.Duration, f func()) {
	generation := j.generation
	s.after(s.scaled(d), func() {
		if j.generation == generation {
			f()
		}
	})
}

// execute makes a job run. The caller holds mu and settles the pipeline afterwards.
func (s *Server) execute(j *job) {
	s.setJob(j, stRunning)
	if j.bridge() {
		s.startChild(j)
		if j.Detached {
			s.setJob(j, stSuccess)
		}
		return
	}
	if s.opts.Frozen {
		return
	}
	s.later(j, j.Duration, func() {
		s.finish(j)
		s.settle(j.pipeline)
	})
}

// startChild creates the downstream pipeline of a bridge.
func (s *Server) startChild(j *job) {
	up := j.pipeline
	at := up.project.repo.commits[up.sha]
	j.downstream = s.newPipeline(request{
		project: up.project, ref: up.ref, source: "parent_pipeline", user: up.user, commit: at,
		script: *j.Child, story: up.story, parent: j,
	})
}

// finish ends a running job as its script says.
func (s *Server) finish(j *job) {
	if j.Fails != "" && (j.Failures < 0 || j.attempt <= max(j.Failures, 1)) {
		s.fail(j, j.Fails)
		return
	}
	s.succeed(j)
}

func (s *Server) fail(j *job, reason string) {
	j.reason = reason
	s.setJob(j, stFailed)
}

func (s *Server) succeed(j *job) {
	if j.started.IsZero() {
		j.started = s.at
	}
	s.setJob(j, stSuccess)
	if j.effect != nil {
		j.effect(s, j)
	}
}

// setJob changes a job's status, with stamps, hook and resource. The caller holds mu.
func (s *Server) setJob(j *job, st string) {
	if j.status == st {
		return
	}
	j.status = st
	j.generation++
	switch {
	case st == stPending && j.queued.IsZero():
		j.queued = s.at
	case st == stRunning:
		if j.started.IsZero() {
			j.started = s.at
		}
		j.finished = time.Time{}
	case complete(st):
		j.finished = s.at
		s.release(j)
	}
	s.queueJobHook(j)
}

// release gives the resource of an ended job to the next in the queue.
func (s *Server) release(j *job) {
	r := j.pipeline.project.resources[j.ResourceGroup]
	if j.ResourceGroup == "" || r == nil || r.holder != j {
		return
	}
	r.holder = nil
	s.after(0, func() {
		for r.holder == nil && len(r.waiting) > 0 {
			next := r.waiting[0]
			r.waiting = r.waiting[1:]
			if next.status != stWaitingForResource {
				continue
			}
			r.holder = next
			s.enqueue(next)
			s.settle(next.pipeline)
		}
	})
}

// setPipeline changes a pipeline's status, with stamps, hook and effect on the parent.
func (s *Server) setPipeline(p *pipeline, st string) {
	if p.status == st {
		return
	}
	restarted := complete(p.status)
	p.status, p.from, p.updated = st, s.at, s.at
	switch {
	case complete(st):
		p.finished = s.at
	case st == stRunning && p.started.IsZero():
		p.started = s.at
		p.finished = time.Time{}
	default:
		p.finished = time.Time{}
	}
	p.history = append(p.history, p.moment)
	s.queuePipelineHook(p)
	s.tellParent(p, restarted)
}

// tellParent makes a bridge that depends on a pipeline follow it, also back from an end. A canceled
// bridge moves again only if its child was restarted.
func (s *Server) tellParent(p *pipeline, restarted bool) {
	b := p.parent
	if b == nil || b.Detached || b.retried || b.status == stCanceled && !restarted {
		return
	}
	switch {
	case p.status == stSuccess || p.status == stSkipped:
		s.setJob(b, stSuccess)
	case complete(p.status):
		if p.status == stFailed {
			b.reason = "downstream_pipeline_creation_failed"
			if p.yamlErrors == "" {
				b.reason = ""
			}
		}
		s.setJob(b, p.status)
	case complete(b.status):
		s.setJob(b, stRunning)
		s.unskip(b.pipeline, b.stage)
	}
	up := b.pipeline
	s.after(0, func() { s.settle(up) })
}

// unskip lets jobs after a stage run again that were skipped because of it.
func (s *Server) unskip(p *pipeline, stage int) {
	for _, j := range p.latest(-1) {
		if j.stage > stage && j.status == stSkipped {
			j.finished = time.Time{}
			s.setJob(j, stCreated)
		}
	}
}

// asOf is the pipeline's state as it was at an instant; ok is false before its creation.
func (p *pipeline) asOf(t time.Time) (m moment, ok bool) {
	for _, v := range slices.Backward(p.history) {
		if !v.from.After(t) {
			return v, true
		}
	}
	return moment{}, false
}

// duration is the running time in whole seconds, and queue the time before it.
func (p *pipeline) duration(m moment) (ran, queue *int64) {
	if !m.started.IsZero() {
		if !m.finished.IsZero() {
			n := int64(m.finished.Sub(m.started) / time.Second)
			ran = &n
		}
		// GitLab: app/models/ci/pipeline.rb queued_duration, which turns zero into null.
		if n := int64(m.started.Sub(p.created) / time.Second); n > 0 {
			queue = &n
		}
	}
	return ran, queue
}
