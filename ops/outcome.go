package ops

import (
	"fmt"
	"slices"
	"time"
)

// seen turns a look at GitLab into a state. What GitLab says replaces what was known, except
// where the answer is older than what is on disk: replicas of GitLab lag.
func (t *turn) seen(in Seen) error {
	switch t.op.State {
	case Running, Blocked, Canceling:
	case Succeeded, Failed, Canceled:
		t.extras(in.Extras)
		return t.seenAfterEnd(in)
	case Requested, AwaitingApproval, Queued, Starting, Watching, Refused, Rejected, Expired, Stale:
		return fmt.Errorf("look at pipelines in state %s", t.op.State)
	}
	t.op.Errors, t.op.ErrorSince = 0, time.Time{}
	if t.op.Reason == ReasonGitLabUnavailable || t.op.Reason == ReasonGitLabDenied {
		t.op.Reason, t.op.Detail, t.op.ChangedAt = "", "", t.now
	}
	t.merge(in.Snapshot)
	t.extras(in.Extras)
	v := judge(t.op, in, t.now)
	switch {
	case v.state.Final():
		if v.state == Failed {
			t.op.Failure = in.Failure
		}
		t.end(v.state, v.reason, v.detail)
	case t.op.State == Canceling: // stays until the pipelines have ended
	case v.state != t.op.State, v.reason != t.op.Reason:
		t.move(v.state, v.reason, v.detail)
	}
	return nil
}

// merge takes over what GitLab shows. ChangedAt moves only when a person could see a difference.
func (t *turn) merge(s Snapshot) {
	known := map[PipelineRef]Pipeline{}
	for _, p := range t.op.Pipelines {
		known[p.Ref] = p
	}
	var merged []Pipeline
	seen := map[PipelineRef]bool{}
	for _, p := range s.Pipelines {
		old, had := known[p.Ref]
		if had && older(p, old) {
			p = old
		}
		if !had || p != old {
			t.op.ChangedAt = t.now
		}
		merged = append(merged, p)
		seen[p.Ref] = true
	}
	for _, p := range t.op.Pipelines { // a lagging list must not make a known pipeline vanish
		if !seen[p.Ref] && !slices.Contains(s.Gone, p.Ref) {
			merged = append(merged, p)
		}
	}
	all := slices.Clone(merged)
	merged = slices.DeleteFunc(merged, func(p Pipeline) bool { return Replaced(p, all) })
	if len(merged) != len(t.op.Pipelines) {
		t.op.ChangedAt = t.now
	}
	t.op.Pipelines = merged
	if s.MergeRequest != nil && s.MergeRequest.State == "opened" && t.op.Link != s.MergeRequest.URL {
		t.op.Link, t.op.ChangedAt = s.MergeRequest.URL, t.now
	} else if s.MergeRequest != nil && s.MergeRequest.State != "opened" && t.op.Link != "" {
		t.op.Link, t.op.ChangedAt = "", t.now
	}
}

// Replaced reports whether the bridge that started p has started another since: it was retried, and
// what the first one did does not count any more.
func Replaced(p Pipeline, all []Pipeline) bool {
	for depth := 0; p.Role == RoleChild && depth < 10; depth++ {
		if p.Bridge != "" && slices.ContainsFunc(all, func(q Pipeline) bool {
			return q.Role == RoleChild && q.Parent == p.Parent && q.Bridge == p.Bridge && q.Ref.ID > p.Ref.ID
		}) {
			return true
		}
		i := slices.IndexFunc(all, func(q Pipeline) bool { return q.Ref.ID == p.Parent })
		if i < 0 {
			return false
		}
		p = all[i]
	}
	return false
}

// older reports whether p is a stale view of the pipeline that is known as old.
func older(p, old Pipeline) bool {
	if p.UpdatedAt.Before(old.UpdatedAt) {
		return true
	}
	return p.UpdatedAt.Equal(old.UpdatedAt) && PipelineFinal(old.Status) && !PipelineFinal(p.Status) && p.Jobs.MaxID <= old.Jobs.MaxID
}

type verdict struct {
	state  State
	reason Reason
	detail string
}

// judge derives the state from all pipelines together. The run ends with the last of them, and
// has failed if any failed for good.
func judge(op Operation, in Seen, now time.Time) verdict {
	root, ok := op.Root()
	if !ok {
		return verdict{state: op.State, reason: op.Reason, detail: op.Detail}
	}
	active, waits, byClock := false, false, false
	var failed, canceled *Pipeline
	for i, p := range op.Pipelines {
		byClock = byClock || p.Status == "scheduled"
		switch {
		case p.Role == RoleExtra:
		case PipelineBlocked(p.Status):
			waits = true
		case !PipelineFinal(p.Status):
			active = true
		case p.Status == "failed" && !p.AllowFailure && failed == nil:
			failed = &op.Pipelines[i]
		case p.Status == "canceled" && !p.AllowFailure && canceled == nil:
			canceled = &op.Pipelines[i]
		}
	}
	switch {
	case active:
		return verdict{state: Running}
	case waits && !byClock && op.State == Canceling:
		// GitLab leaves a pipeline that waits for a person as it is; nothing of it runs.
		return verdict{state: Canceled, reason: ReasonCanceledByPerson}
	case waits:
		return verdict{state: Blocked, reason: ReasonWaitsForPerson}
	case canceled != nil && failed == nil, canceled != nil && !op.CancelAt.IsZero():
		if op.CancelAt.IsZero() {
			return verdict{state: Canceled, reason: ReasonCanceledInGitLab, detail: "It was canceled in GitLab, not from here."}
		}
		return verdict{state: Canceled, reason: ReasonCanceledByPerson}
	case failed != nil:
		return failure(*failed, in)
	case root.Status == "skipped":
		return verdict{state: Failed, reason: ReasonPipelineSkipped, detail: "GitLab skipped the pipeline: nothing ran."}
	}
	return followUp(op, root, in, now)
}

func failure(p Pipeline, in Seen) verdict {
	switch {
	case p.YAMLErrors != "":
		return verdict{state: Failed, reason: ReasonConfigError, detail: p.YAMLErrors}
	case in.Failure != nil && in.Failure.Job != "":
		return verdict{state: Failed, reason: ReasonJobFailed, detail: in.Failure.Reason}
	}
	return verdict{state: Failed, reason: ReasonPipelineFailed, detail: "The pipeline failed, and GitLab names no job that did."}
}

// followUp decides a run whose known pipelines have all ended well. In Grove the root only merges
// the change; what deploys is the pipeline of the merge commit, which appears a little later.
func followUp(op Operation, root Pipeline, in Seen, now time.Time) verdict {
	if op.Follow != FollowMergeRequest {
		return verdict{state: Succeeded}
	}
	skipped := false
	for _, p := range op.Pipelines {
		if p.Role == RoleFollow && p.Status != "skipped" {
			return verdict{state: Succeeded}
		}
		skipped = skipped || p.Role == RoleFollow
	}
	if skipped {
		return verdict{state: Failed, reason: ReasonPipelineSkipped, detail: "GitLab skipped the pipeline of the merge: nothing was deployed."}
	}
	ended := root.FinishedAt
	if ended.IsZero() || ended.After(now) {
		ended = root.UpdatedAt
	}
	// Measured from our own start at the earliest, so that a skewed GitLab clock cannot cut the wait short.
	if ended.Before(op.StartedAt) {
		ended = op.StartedAt
	}
	mr := in.Snapshot.MergeRequest
	if mr != nil && mr.MergedAt.After(ended) && !mr.MergedAt.After(now) {
		ended = mr.MergedAt
	}
	if now.Before(ended.Add(op.FollowWithin)) {
		return verdict{state: Running}
	}
	if mr != nil && mr.State == "opened" {
		return verdict{
			state: Failed, reason: ReasonMergeRequestOpen,
			detail: "The pipeline ended, but its merge request is still open: the change is not deployed.",
		}
	}
	return verdict{
		state: Succeeded, reason: ReasonNoFollowUp,
		detail: fmt.Sprintf("The pipeline succeeded; no follow-up pipeline appeared within %s.", op.FollowWithin),
	}
}

// ranAgain reports whether p, a later look at old, which had ended, shows that GitLab works or has
// worked on it since: it moves, or it has ended otherwise, or it has jobs that did not exist.
func ranAgain(old, p Pipeline) bool {
	newer, newJobs := p.UpdatedAt.After(old.UpdatedAt), p.Jobs.MaxID > old.Jobs.MaxID
	switch {
	case PipelineBlocked(p.Status):
		return false
	case !PipelineFinal(p.Status):
		return newer || newJobs && p.UpdatedAt.Equal(old.UpdatedAt)
	}
	return newer && (newJobs || p.Status != old.Status)
}

// seenAfterEnd notices that GitLab runs an ended run again: somebody retried a job or played a
// manual one there. It is told from a stale answer by a newer updated_at or by new job ids, and
// opens the next run without any request of ours.
func (t *turn) seenAfterEnd(in Seen) error {
	known := map[PipelineRef]Pipeline{}
	for _, p := range t.op.Pipelines {
		known[p.Ref] = p
	}
	detail := ""
	for _, p := range in.Snapshot.Pipelines {
		old, had := known[p.Ref]
		switch {
		case had && PipelineFinal(old.Status) && ranAgain(old, p),
			had && t.op.Reason == ReasonOutcomeUnknown && p.Role == RoleRoot && !older(p, old),
			had && PipelineBlocked(old.Status) && !PipelineBlocked(p.Status) && p.UpdatedAt.After(old.UpdatedAt):
			detail = "Somebody runs it again in GitLab."
		case !had && p.Role == RoleFollow:
			detail = "Its change was merged; what deploys it has started."
		case !had && p.Role == RoleChild && (!PipelineFinal(p.Status) || p.Status == "failed" && !p.AllowFailure):
			detail = "A further pipeline of it has started in GitLab."
		}
	}
	if detail == "" {
		return nil
	}
	t.reopen(ReasonRetriedInGitLab, detail)
	t.merge(in.Snapshot)
	if !t.op.CancelAt.IsZero() {
		t.move(Canceling, ReasonCanceledByPerson, "")
	}
	return nil
}
