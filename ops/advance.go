package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Advance does whatever is due for an operation: it reads the row, makes at most the outward calls
// that the state asks for, and records what came of them. It returns when it wants to be called
// again; zero means that only a change wakes it. It may be called at any time, by anybody, as
// often as they like.
func (s *Service) Advance(ctx context.Context, id string) (again time.Time, err error) {
	for range 20 {
		op, err := s.load(ctx, id)
		if err != nil {
			return time.Time{}, fmt.Errorf("read operation %s: %w", id, err)
		}
		var more bool
		again, more, err = s.step(ctx, op)
		switch {
		case errors.Is(err, ErrStale): // somebody else moved it: look again
			continue
		case err != nil:
			return time.Time{}, err
		case !more:
			return again, nil
		}
	}
	return s.Clock.Now().Add(time.Second), nil
}

func (s *Service) load(ctx context.Context, id string) (Operation, error) {
	var op Operation
	err := s.Store.View(ctx, func(r Reader) (err error) {
		op, err = r.Operation(ctx, id)
		return err
	})
	return op, err
}

// step does one thing. more asks for another step at once, on the row as it then is.
func (s *Service) step(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	switch op.State {
	case Requested, Queued:
		return s.check(Urgent(ctx), op)
	case Starting:
		ctx = Urgent(ctx)
		if op.Outstanding {
			return s.settle(ctx, op)
		}
		return s.post(ctx, op)
	case Running, Blocked, Canceling:
		return s.look(ctx, op)
	case Succeeded, Failed, Canceled:
		return s.watch(ctx, op)
	case Refused, Expired:
		if op.InDoubt() {
			return s.watch(ctx, op)
		}
	case AwaitingApproval, Watching, Rejected, Stale:
	}
	return time.Time{}, false, nil
}

// look reads the pipelines and takes over what GitLab says.
func (s *Service) look(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	s.cancelPipelines(ctx, op)
	snap, terr := s.tree(ctx, op)
	now := s.Clock.Now()
	if terr != nil {
		return s.lookFailed(ctx, op, terr)
	}
	s.doubts.over(op.ID, rootGone)
	s.doubts.over(op.ID, unreachable)
	next, err := s.apply(ctx, op, Seen{Snapshot: snap, Failure: s.evidence(ctx, op, snap), Extras: s.extras(ctx, op)})
	if err != nil {
		return again, false, err
	}
	if next.State.Final() {
		return now.Add(time.Minute), false, nil
	}
	return now.Add(s.interval(next, now)), next.State == Canceling && op.State != Canceling, nil
}

const (
	// unreachable is the doubt about a GitLab that cannot be asked.
	unreachable = "unreachable"
	// rootGone is the doubt about a root pipeline that GitLab does not show.
	rootGone = "root gone"
	// goneAfter is how long GitLab must not show a pipeline until it counts as deleted: a replica
	// may be behind, a right may be missing for a moment.
	goneAfter = 2 * time.Minute
)

func (s *Service) lookFailed(ctx context.Context, op Operation, cause error) (again time.Time, more bool, err error) {
	s.Log.Warn("look at pipelines", "op", op.ID, "err", s.plain(op, cause))
	now := s.Clock.Now()
	since := s.doubts.first(op.ID, unreachable, now)
	in := LookFailed{ReasonGitLabUnavailable, "GitLab does not answer; what is shown may be old."}
	var e *Error
	switch {
	case !errors.As(cause, &e):
	case e.Code == CodeNotFound:
		if now.Sub(s.doubts.first(op.ID, rootGone, now)) >= goneAfter {
			// GitLab says the same of what it hides. A project that can be read hides no pipeline.
			if _, perr := s.Pipelines.Probe(ctx, op.Project); perr == nil {
				_, err = s.apply(ctx, op, Gone{})
				return again, true, err
			}
		}
		in.Msg = "GitLab does not show the pipeline; what is shown may be old."
	case e.Code == CodeDenied:
		in = LookFailed{e.Reason, e.Msg}
	}
	next, err := s.apply(ctx, op, in)
	if err == nil && now.Sub(since) > patience {
		_, err = s.apply(ctx, next, Abandoned{"GitLab could not be asked all day, so the operation is not followed any more. It may still run: look in GitLab."})
		return again, true, err
	}
	return s.retryAt(e, next.Errors), false, err
}

// extrasFor is how long after the start a second pipeline with the same key is looked for.
const extrasFor = 15 * time.Minute

// extras looks for pipelines that carry the run's key beside its root. There can be any only if
// the request was sent twice since the first had no answer.
func (s *Service) extras(ctx context.Context, op Operation) []Pipeline {
	root, ok := op.Root()
	if !ok || op.Lost == 0 || s.Clock.Now().Sub(op.StartedAt) > extrasFor {
		return nil
	}
	spec, err := s.spec(ctx, op, op.Request.Params)
	var found []Pipeline
	if err == nil {
		found, err = s.Pipelines.Find(ctx, spec, s.others(ctx, op.ID))
	}
	if err != nil {
		s.Log.Warn("look for further pipelines", "op", op.ID, "err", s.plain(op, err))
	}
	return slices.DeleteFunc(found, func(p Pipeline) bool { return p.Ref == root.Ref })
}

// interval grows with the age of the run: short ones end soon, long ones can wait.
func (s *Service) interval(op Operation, now time.Time) time.Duration {
	switch age := now.Sub(op.StartedAt); {
	case op.State == Canceling, age < 2*time.Minute:
		return s.Timing.Fast
	case age < 10*time.Minute:
		return min(3*s.Timing.Fast, s.Timing.Slow)
	}
	return s.Timing.Slow
}

func (s *Service) tree(ctx context.Context, op Operation) (Snapshot, error) {
	root, ok := op.Root()
	if !ok {
		return Snapshot{}, fmt.Errorf("operation %s is %s without a pipeline", op.ID, op.State)
	}
	snap, err := s.Pipelines.Tree(ctx, TreeSpec{
		Root: root.Ref, Known: op.Pipelines, Follow: op.Follow, Target: op.Request.Target, Number: op.Number,
	})
	for i, p := range snap.Pipelines {
		if p.YAMLErrors != "" {
			snap.Pipelines[i].YAMLErrors = s.RedactFor(op, p.YAMLErrors)
		}
	}
	// What is gone for a moment only is not gone.
	now := s.Clock.Now()
	for _, p := range op.Pipelines {
		what := fmt.Sprintf("gone %s %d", p.Ref.Project, p.Ref.ID)
		switch {
		case err != nil || op.State.Final():
		case !slices.Contains(snap.Gone, p.Ref):
			s.doubts.over(op.ID, what)
		case now.Sub(s.doubts.first(op.ID, what, now)) < goneAfter:
			snap.Gone = slices.DeleteFunc(snap.Gone, func(r PipelineRef) bool { return r == p.Ref })
		}
	}
	return snap, err
}

// cancelPipelines asks GitLab to end what should not run: extras, and of a run that is being
// canceled every pipeline that has not ended. Children come first: canceling a parent does not
// cancel children that were started without strategy: depend.
func (s *Service) cancelPipelines(ctx context.Context, op Operation) {
	for _, p := range slices.Backward(op.Pipelines) {
		if op.State != Canceling && p.Role != RoleExtra || PipelineFinal(p.Status) || p.Status == "canceling" {
			continue
		}
		if err := s.Pipelines.Cancel(Urgent(ctx), p.Ref); err != nil {
			s.Log.Warn("cancel pipeline", "op", op.ID, "pipeline", p.Ref.ID, "err", s.plain(op, err))
		}
	}
}

// watch looks at a run that has ended, for a while and whenever a hook comes: GitLab lets people
// retry jobs of a finished pipeline, and a pipeline that was given up may turn up after all.
func (s *Service) watch(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	now := s.Clock.Now()
	if now.Sub(op.FinishedAt) > s.Timing.WatchAfter+24*time.Hour {
		return again, false, nil // a hook of an old pipeline: it stays as it is
	}
	if now.Sub(op.FinishedAt) < s.Timing.WatchAfter {
		again = now.Add(time.Minute)
	}
	in, ok := s.afterEnd(ctx, op)
	if !ok {
		if !op.InDoubt() {
			again = time.Time{}
		}
		return again, false, nil
	}
	next, err := s.apply(ctx, op, in)
	switch {
	case errors.Is(err, ErrBusy):
		s.Log.Info("an ended pipeline runs again in GitLab while another operation is at work", "op", op.ID, "instance", op.Request.Target.String())
		return again, false, nil
	case err != nil:
		return again, false, err
	}
	return again, !next.State.Final(), nil
}

// afterEnd is what GitLab says of a run that has ended; false if it has nothing to say.
func (s *Service) afterEnd(ctx context.Context, op Operation) (Input, bool) {
	if _, ok := op.Root(); ok {
		s.cancelPipelines(ctx, op)
		snap, err := s.tree(ctx, op)
		if err != nil {
			s.Log.Debug("look at ended pipelines", "op", op.ID, "err", s.RedactFor(op, err.Error()))
			return Seen{}, true
		}
		return Seen{Snapshot: snap, Extras: s.extras(ctx, op)}, true
	}
	if !op.InDoubt() {
		return nil, false
	}
	spec, err := s.spec(ctx, op, op.Request.Params)
	if err != nil {
		return nil, false
	}
	found, err := s.Pipelines.Find(ctx, spec, s.others(ctx, op.ID))
	if err != nil || len(found) == 0 {
		return nil, false
	}
	return Created{Pipeline: found[0], Adopted: true, Extras: found[1:]}, true
}

// retryAt backs off from a peer that does not answer, and keeps to what it asked for.
func (s *Service) retryAt(e *Error, errs int) time.Time {
	now := s.Clock.Now()
	wait := min(time.Second<<min(max(errs-1, 0), 10), s.Timing.Slow)
	wait += time.Duration(now.UnixNano()%1000) * wait / 4000 // up to a quarter, so that many do not come back at once
	at := now.Add(wait)
	if e != nil && e.RetryAt.After(at) {
		if limit := now.Add(10 * time.Minute); e.RetryAt.After(limit) {
			return limit
		}
		return e.RetryAt
	}
	return at
}

// UserMsg is the part of err that people may read.
func UserMsg(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Msg != "" {
		return e.Msg
	}
	return "Something went wrong here; the operator finds the cause in the log."
}

// Refresh looks at GitLab now and returns the operation as it then is. It changes what a hook would
// change; an error means that GitLab did not answer within ctx.
func (s *Service) Refresh(ctx context.Context, id string) (Operation, error) {
	for range 3 {
		op, err := s.load(ctx, id)
		if err != nil {
			return op, err
		}
		if _, ok := op.Root(); !ok || op.State.Final() {
			return op, nil
		}
		snap, err := s.tree(ctx, op)
		if err != nil {
			return op, err
		}
		next, err := s.apply(ctx, op, Seen{Snapshot: snap, Failure: s.evidence(ctx, op, snap)})
		if !errors.Is(err, ErrStale) {
			return next, err
		}
	}
	return s.load(ctx, id)
}
