package gitlabtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// followUpDelay is the script time between a merge and the pipeline it starts: for that long an
// operation has no running pipeline although it is not over.
const followUpDelay = 2 * time.Second

// Behaviour is what the pipelines of a project do. The zero value is Plain of an empty script.
type Behaviour struct {
	grove  bool
	script Script
}

// Plain makes every pipeline of a project run the script; a script without stages becomes one job
// "build" of one minute.
func Plain(script Script) Behaviour { return Behaviour{script: script} }

// Grove makes a project behave like a Grove cluster repository. A trigger with INSTANCE_NAME starts
// a first pipeline (jobs prepare, push-branch, merge-request), which pushes the branch
// deployment/<instance>/<request> and merges it through a merge request; the merge commit starts a
// second pipeline with source push (job generate, bridges terraform and deploy-instance), with two
// child pipelines: terraform-init, terraform-plan, terraform-apply; and build-openedx, build-mfe,
// init, deploy, restart-redis, restart-services. In all about 25 minutes of script time.
//
// The order of things is Grove's documentation; the names of stages and jobs are invented, since
// Grove's are not public.
func Grove() Behaviour { return Behaviour{grove: true} }

// plan is what a new root pipeline will do, and for whom.
func (s *Server) plan(p *project, source string, at *commit, vars []variable) (Script, *story) {
	if !p.Behaviour.grove {
		script := p.Behaviour.script
		if len(script.Stages) == 0 {
			script.Stages = []Stage{{Name: "build", Jobs: []Job{{Name: "build", Duration: time.Minute}}}}
		}
		return script, &story{overrides: p.takeOverrides("")}
	}
	get := func(key string) string {
		for _, v := range vars {
			if v.key == key {
				return v.value
			}
		}
		return ""
	}
	st := &story{instance: get("INSTANCE_NAME"), request: get("DEPLOYMENT_REQUEST_ID")}
	if source == "push" {
		st.instance, st.request = namedIn(at.message)
	}
	if st.request == "" {
		st.request = "1"
	}
	switch {
	case get("ABORT_DEPLOYMENT_TRIGGER") != "":
		return abortScript(get("PIPELINE_ID")), st
	case st.instance == "":
		return Script{Stages: []Stage{{Name: "dummy", Jobs: []Job{{Name: "dummy", Duration: 5 * time.Second}}}}}, st
	}
	st.overrides = p.takeOverrides(st.instance)
	if source == "push" {
		return deployScript(st), st
	}
	return triggerScript(), st
}

// namedIn finds the instance and the request in a commit message, in both forms Grove uses.
func namedIn(message string) (instance, request string) {
	first, _, _ := strings.Cut(message, "\n")
	if m := regexp.MustCompile(`^Merge branch 'deployment/([^/]+)/([^']+)'`).FindStringSubmatch(first); m != nil {
		return m[1], m[2]
	}
	if m := regexp.MustCompile(`^\[AutoDeploy\]\[(?:Create|Update)\] ([^|,]+)(?:\|(\d+))?`).FindStringSubmatch(first); m != nil {
		return m[1], m[2]
	}
	return "", ""
}

// triggerScript is the first pipeline of a Grove deployment.
func triggerScript() Script {
	return Script{Stages: []Stage{
		{Name: "prepare", Jobs: []Job{{Name: "prepare", Queue: 2 * time.Second, Duration: 20 * time.Second}}},
		{Name: "configure", Jobs: []Job{
			{Name: "push-branch", Queue: 2 * time.Second, Duration: 35 * time.Second, effect: pushBranch},
		}},
		{Name: "merge", Jobs: []Job{
			{Name: "merge-request", Queue: 2 * time.Second, Duration: 25 * time.Second, effect: openAndMerge},
		}},
	}}
}

// deployScript is the second pipeline of a Grove deployment, with its children.
func deployScript(st *story) Script {
	const q = 3 * time.Second
	terraform := &Script{Stages: []Stage{
		{Name: "init", Jobs: []Job{{Name: "terraform-init", Queue: q, Duration: 35 * time.Second}}},
		{Name: "plan", Jobs: []Job{{Name: "terraform-plan", Queue: q, Duration: 80 * time.Second}}},
		{Name: "apply", Jobs: []Job{{Name: "terraform-apply", Queue: q, Duration: 150 * time.Second}}},
	}}
	instance := &Script{Stages: []Stage{
		{Name: "image", Jobs: []Job{
			{Name: "build-openedx", Queue: q, Duration: 7 * time.Minute},
			{Name: "build-mfe", Queue: q, Duration: 5 * time.Minute},
		}},
		{Name: "init", Jobs: []Job{{Name: "init", Queue: q, Duration: 4 * time.Minute}}},
		{Name: "deploy", Jobs: []Job{
			{Name: "deploy", Queue: q, Duration: 5 * time.Minute, Environment: st.instance},
		}},
		{Name: "postdeploy", Jobs: []Job{
			{Name: "restart-redis", Queue: q, Duration: 40 * time.Second},
			{Name: "restart-services", Queue: q, Duration: 110 * time.Second},
		}},
	}}
	return Script{Stages: []Stage{
		{Name: "generate", Jobs: []Job{{Name: "generate", Queue: q, Duration: 25 * time.Second}}},
		{Name: "infrastructure", Jobs: []Job{
			{Name: "terraform", Queue: time.Second, ResourceGroup: "terraform", Child: terraform},
		}},
		{Name: "instances", Jobs: []Job{{Name: "deploy-instance", Queue: time.Second, Child: instance}}},
	}}
}

// abortScript cancels the children of another pipeline, as Grove's abort pipeline does.
func abortScript(target string) Script {
	cancel := func(s *Server, _ *job) {
		id, _ := parseID(target)
		p := s.pipelines[id]
		if p == nil {
			return
		}
		for _, b := range p.latest(-1) {
			if b.downstream != nil {
				s.cancelPipeline(b.downstream, true)
			}
		}
	}
	return Script{Stages: []Stage{{Name: "abort", Jobs: []Job{
		{Name: "abort", Queue: time.Second, Duration: 10 * time.Second, effect: cancel},
	}}}}
}

// pushBranch is the effect of the job of that name.
func pushBranch(s *Server, j *job) {
	p, st := j.pipeline.project, j.pipeline.story
	branch := "deployment/" + st.instance + "/" + st.request
	changes := map[string]*string{}
	head := p.repo.branches[p.DefaultBranch]
	if !slices.Contains(p.Instances, st.instance) {
		p.Instances = append(p.Instances, st.instance)
		instanceFiles(st.instance, func(path, content string) { changes[path] = &content })
	}
	note := "deployment_request: " + st.request + "\npipeline: " + fmt.Sprint(j.pipeline.id) + "\n"
	changes["instances/"+st.instance+"/.deployment"] = &note
	p.repo.branches[branch] = s.newCommit(p.repo, []*commit{head}, j.pipeline.user,
		"Configure "+st.instance+" for deployment "+st.request, changes)
}

// openAndMerge is the effect of the job merge-request.
func openAndMerge(s *Server, j *job) {
	p, st := j.pipeline.project, j.pipeline.story
	branch := "deployment/" + st.instance + "/" + st.request
	n := int64(len(p.requests) + 1)
	mr := &mergeRequest{
		id: 5000 + n, iid: n, project: p, title: "Deploy " + st.instance + " (" + st.request + ")", source: branch,
		target: p.DefaultBranch, state: "opened", author: j.pipeline.user, head: p.repo.branches[branch],
		created: s.at, updated: s.at, story: st,
	}
	p.requests = append(p.requests, mr)
	for _, o := range st.overrides {
		if o.LeaveMergeRequestOpen {
			return
		}
	}
	s.merge(mr)
}

// merge merges a merge request and starts the pipeline of the merge commit.
func (s *Server) merge(mr *mergeRequest) {
	p := mr.project
	base := p.repo.branches[mr.target]
	changes := map[string]*string{}
	if mr.head != nil {
		changes = mr.head.changes
	}
	mr.merge = s.newCommit(p.repo, []*commit{base, mr.head}, mr.author, fmt.Sprintf(
		"Merge branch '%s' into '%s'\n\n%s\n\nSee merge request %s!%d", mr.source, mr.target, mr.title, p.Path, mr.iid), changes)
	p.repo.branches[mr.target] = mr.merge
	delete(p.repo.branches, mr.source)
	mr.state, mr.merged, mr.updated = "merged", s.at, s.at
	s.queuePushHook(p, mr.target, mr.merge, mr.author)
	for _, o := range mr.story.overrides {
		if o.NoFollowUp {
			return
		}
	}
	s.after(s.scaled(followUpDelay), func() {
		s.newPipeline(request{
			project: p, ref: mr.target, source: "push", user: mr.author, commit: mr.merge,
			script: deployScript(mr.story), story: mr.story,
		})
	})
}

// MergeRequests returns the open and merged merge requests of a project as branch name to state.
func (s *Server) MergeRequests(projectID int64) map[string]string {
	states := map[string]string{}
	s.see(func() {
		if p := s.projects[projectID]; p != nil {
			for _, mr := range p.requests {
				states[mr.source] = mr.state
			}
		}
	})
	return states
}

// Merge merges the open merge request of a branch, as a person would who found it left open.
func (s *Server) Merge(projectID int64, branch string) error {
	err := fmt.Errorf("open merge request of %s: %w", branch, ErrNotFound)
	s.do(func() {
		p := s.projects[projectID]
		if p == nil {
			return
		}
		for _, mr := range p.requests {
			if mr.source == branch && mr.state == "opened" {
				s.merge(mr)
				err = nil
			}
		}
	})
	return err
}
