package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// check asks everything again that was asked when the request came in: rights, target and
// parameters as they are now, not as they were.
func (s *Service) check(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	now := s.Clock.Now()
	if now.Sub(op.RunAt) > s.Timing.StartWithin {
		_, err = s.apply(ctx, op, Expire{})
		return again, true, err
	}
	if no := s.mayStart(op); no != nil {
		_, err = s.apply(ctx, op, Refuse{no.Reason, no.Msg})
		return again, true, err
	}
	action, _, aerr := s.valid(ctx, op)
	if again, more, done, err := s.notNow(ctx, op, aerr); done {
		return again, more, err
	}
	if wait := op.RunAt.Add(s.Timing.CardWait); op.Run == 1 && now.Before(wait) && !s.cardStands(ctx, op.ID) {
		return wait, false, nil // the notifier wakes us when the card stands
	}
	at, perr := s.Pipelines.Probe(ctx, op.Project)
	if again, more, done, err := s.notNow(ctx, op, perr); done {
		return again, more, err
	}
	_, err = s.apply(ctx, op, Intend{
		// As if it had been asked when the run was: also after a restart nothing of it is older.
		ServerTime: at.Add(-max(0, now.Sub(op.RunAt))), Expected: s.expected(ctx, op),
		Follow: action.Follow, FollowWithin: action.FollowWithin,
	})
	if s.Clock.Now().Sub(now) > slowProbe {
		return s.Clock.Now(), false, err // the next call has a time of its own
	}
	return again, true, err
}

// valid looks whether what was asked for still is what the configuration and the repository know,
// and returns the action with the revealed parameters.
func (s *Service) valid(ctx context.Context, op Operation) (Action, map[string]string, error) {
	_, action, err := s.Fleet.Action(op.Request.Target.Cluster, op.Request.Action)
	if err != nil {
		return action, nil, err
	}
	params, err := s.reveal(op.Request.Params)
	if err == nil {
		_, err = action.Check(params)
	}
	if err == nil {
		_, err = s.Fleet.Resolve(ctx, op.Request.Target.String(), false)
	}
	return action, params, err
}

// slowProbe is how long the look before the start may take without the start being put off.
const slowProbe = 5 * time.Second

// mayStart asks for the rights once more. What it says stands on a card that everybody reads, so it
// names the person.
func (s *Service) mayStart(op Operation) *Error {
	no := func(a Actor, name string, p Permission) *Error {
		var e *Error
		if !errors.As(s.May(a, p), &e) {
			return nil
		}
		named := *e
		named.Msg = fmt.Sprintf("%s may not %s operations here any more.", cmp.Or(name, a.UserID), p)
		return &named
	}
	if e := no(op.Request.Actor, op.Request.ActorName, MayStart); e != nil || op.Run == 1 {
		return e
	}
	return no(op.RunBy, op.RunByName, MayRetry)
}

// notNow turns an error before the start into a wait or a refusal. done is false without one.
func (s *Service) notNow(ctx context.Context, op Operation, cause error) (again time.Time, more, done bool, err error) {
	if cause == nil {
		return again, false, false, nil
	}
	var e *Error
	if !errors.As(cause, &e) {
		return again, false, true, cause
	}
	if e.Code == CodeUnavailable {
		s.Log.Warn("operation waits", "op", op.ID, "err", s.plain(op, cause))
		next, err := s.apply(ctx, op, Unreachable{e.Reason, e.Msg})
		return s.retryAt(e, next.Errors), false, true, err
	}
	msg := e.Msg
	if len(e.Suggest) > 0 {
		msg += " Did you mean " + strings.Join(e.Suggest, ", ") + "?"
	}
	_, err = s.apply(ctx, op, Refuse{e.Reason, msg})
	return again, true, true, err
}

func (s *Service) cardStands(ctx context.Context, id string) bool {
	ref := ""
	err := s.Store.View(ctx, func(r Reader) error {
		ds, err := r.Deliveries(ctx, id)
		for _, d := range ds {
			if d.Kind == DeliverCard {
				ref = d.Ref
				if d.Done || d.Attempts > 0 {
					ref = "failed" // chat does not take it: no reason to wait
				}
			}
		}
		return err
	})
	return err == nil && ref != ""
}

// expected is the median of the last successful runs on this instance, else on its cluster.
func (s *Service) expected(ctx context.Context, op Operation) time.Duration {
	var ds []time.Duration
	err := s.Store.View(ctx, func(r Reader) (err error) {
		if ds, err = r.Durations(ctx, op.Request.Action, op.Request.Target, 10); err != nil || len(ds) > 0 {
			return err
		}
		ds, err = r.Durations(ctx, op.Request.Action, Target{Cluster: op.Request.Target.Cluster}, 10)
		return err
	})
	if err != nil || len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// post makes the one call that creates something. The row that says so is on disk first.
func (s *Service) post(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	if !op.CancelAt.IsZero() {
		_, err = s.apply(ctx, op, NotSent{Reason: ReasonCanceledByPerson})
		return again, true, err
	}
	spec, e, err := s.ready(ctx, op)
	switch {
	case err != nil: // a store that does not answer is no reason to give up
		return again, false, err
	case e != nil && e.Code == CodeUnavailable:
		s.Log.Warn("operation waits", "op", op.ID, "err", s.plain(op, e))
		return s.retryAt(e, op.Errors+1), false, nil
	case e != nil:
		_, err = s.apply(ctx, op, GitLabRefused{e.Reason, e.Msg})
		return again, true, err
	}
	// Nothing of this key should be there. Where it might be all the same, looking comes first: the
	// key was sent before, or the row is older than this process and may come from a backup.
	if op.Attempt > 0 || op.Lost > 0 || op.RunAt.Before(s.born) {
		found, ferr := s.Pipelines.Find(ctx, spec, s.others(ctx, op.ID))
		switch {
		case ferr != nil && (op.Lost > 0 || CodeOf(ferr) == CodeUnavailable):
			s.Log.Warn("look before the start", "op", op.ID, "err", s.plain(op, ferr))
			next, err := s.apply(ctx, op, LookFailed{ReasonGitLabUnavailable, "GitLab does not answer; it is started as soon as it does."})
			errors.As(ferr, &e)
			return s.retryAt(e, next.Errors), false, err
		case len(found) > 0:
			_, err = s.apply(ctx, op, Created{Pipeline: found[0], Adopted: true, Extras: found[1:]})
			return again, true, err
		}
	}
	if op, err = s.apply(ctx, op, Posting{}); err != nil {
		return again, false, err
	}
	s.doubts.over(op.ID, lostAnswer)
	s.doubts.first(op.ID, lostAnswer, s.Clock.Now())
	end := s.doubts.begin(op.ID)
	p, cerr := func() (Pipeline, error) { defer end(); return s.Pipelines.Create(ctx, spec) }()
	return s.posted(ctx, op, spec, p, cerr)
}

// ready checks once more what may have changed since the operation was checked, and returns what
// is to be sent. An *Error is why it cannot be: for now, or for good.
func (s *Service) ready(ctx context.Context, op Operation) (PipelineSpec, *Error, error) {
	if s.Clock.Now().Sub(op.RunAt) > s.Timing.StartWithin {
		return PipelineSpec{}, &Error{Reason: ReasonNotStartedInTime, Msg: notInTime(op)}, nil
	}
	if no := s.mayStart(op); no != nil {
		return PipelineSpec{}, no, nil
	}
	var spec PipelineSpec
	_, params, err := s.valid(ctx, op)
	if err == nil {
		spec, err = s.spec(ctx, op, params)
	}
	var e *Error
	if errors.As(err, &e) && e.Reason != ReasonStoreUnavailable && e.Code != CodeInternal {
		return spec, e, nil
	}
	return spec, nil, err
}

// notInTime tells what was in the way of a run that was not started in time, as far as it is known.
func notInTime(op Operation) string {
	msg := "It could not be started in time."
	if op.Detail != "" {
		msg += " Last answer: " + op.Detail
	}
	return msg
}

// posted records what came of a POST. An outcome that is not known is left outstanding: the next
// step looks before anything is sent again.
func (s *Service) posted(ctx context.Context, op Operation, spec PipelineSpec, p Pipeline, cerr error) (again time.Time, more bool, err error) {
	if cerr == nil {
		_, err = s.record(ctx, op, Created{Pipeline: p})
		return again, true, err
	}
	var e *Error
	if !errors.As(cerr, &e) {
		e = &Error{Code: CodeUnavailable, Reason: ReasonGitLabUnavailable, Msg: "GitLab's answer could not be read.", Err: cerr}
	}
	s.Log.Warn("pipeline not created", "op", op.ID, "err", s.plain(op, cerr))
	switch {
	case e.Code == CodeUnavailable && e.NotSent:
		next, err := s.record(ctx, op, NotSent{Reason: e.Reason, Msg: e.Msg})
		return s.retryAt(e, next.Errors), false, err
	case e.Code == CodeUnavailable:
		return s.Clock.Now().Add(time.Second), false, nil
	case e.Reason == ReasonConfigError:
		// GitLab may have made a pipeline that failed at once, and says nothing of it here.
		found, ferr := s.Pipelines.Find(ctx, spec, s.others(ctx, op.ID))
		switch {
		case ferr != nil:
			s.Log.Warn("look for the pipeline", "op", op.ID, "err", s.plain(op, ferr))
			return s.Clock.Now().Add(time.Second), false, nil
		case len(found) > 0:
			_, err = s.record(ctx, op, Created{Pipeline: found[0], Adopted: true, Extras: found[1:]})
			return again, true, err
		}
	}
	msg := e.Msg
	if e.Reason == ReasonGitLabRefused && e.Next != "" { // only the adapter knows what helps against GitLab's sentence
		msg = strings.TrimSuffix(msg, ".") + ". " + e.Next
	}
	_, err = s.record(ctx, op, GitLabRefused{e.Reason, msg})
	return again, true, err
}

const (
	// lostAnswer is the doubt about a request whose answer never came.
	lostAnswer = "lost answer"
	// doubtFor is how long past Linger a look-up that is refused, and not merely failing, is
	// repeated before the outcome counts as unknown.
	doubtFor = time.Minute
	// patience is how long GitLab may be out of reach before an operation is not followed any more.
	patience     = 24 * time.Hour
	lookInGitLab = " Look in GitLab before you try again."
)

// settle finds out what became of a POST without an answer. A look that finds nothing proves
// nothing while the request may still be on its way: only after Linger may the same key be sent
// again, and only once.
func (s *Service) settle(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	now := s.Clock.Now()
	if s.doubts.underWay(op.ID) { // whatever the time: it has not even come back
		return now.Add(time.Second), false, nil
	}
	since := s.doubts.first(op.ID, lostAnswer, now)
	waited := now.Sub(since)
	unknown := func(why string) (time.Time, bool, error) {
		_, err := s.apply(ctx, op, GitLabRefused{ReasonOutcomeUnknown, "GitLab may have started a pipeline, and its answer was lost. " + why + lookInGitLab})
		return time.Time{}, true, err
	}
	spec, err := s.spec(ctx, op, op.Request.Params) // looking needs no secret
	var e *Error
	switch {
	case errors.As(err, &e) && e.Code == CodeNotFound:
		return unknown("It cannot be looked for any more: " + e.Msg)
	case err != nil:
		return again, false, err
	}
	found, ferr := s.Pipelines.Find(ctx, spec, s.others(ctx, op.ID))
	switch {
	case len(found) > 0:
		_, err = s.record(ctx, op, Created{Pipeline: found[0], Adopted: true, Extras: found[1:]})
		return again, true, err
	case ferr != nil:
		s.Log.Warn("look for the pipeline", "op", op.ID, "err", s.plain(op, ferr))
		refused := errors.As(ferr, &e) && e.Code != CodeUnavailable
		if refused && waited >= s.Timing.Linger+doubtFor {
			return unknown("Looking for it was refused: " + e.Msg)
		}
		next, err := s.apply(ctx, op, LookFailed{ReasonGitLabUnavailable, "GitLab does not answer; whether it has started the pipeline is not known yet."})
		if err == nil && now.Sub(s.doubts.first(op.ID, unreachable, now)) > patience {
			return unknown("It could not be looked for all day.")
		}
		return s.retryAt(e, next.Errors), false, err
	}
	s.doubts.over(op.ID, unreachable)
	if left := s.Timing.Linger - waited; left > 0 {
		return now.Add(min(left, max(500*time.Millisecond, min(waited/2, 10*time.Second)))), false, nil
	}
	if op.Lost > 0 {
		return unknown("The second try had no answer either, and GitLab shows no pipeline.")
	}
	_, err = s.apply(ctx, op, NotSent{Reason: ReasonGitLabUnavailable, Msg: "GitLab did not receive the request; it is sent again.", Lost: true})
	return again, true, err
}

// spec is what is sent to GitLab. The parameters are handed in, since those that are sent are
// revealed and those that the reference carries never are.
func (s *Service) spec(ctx context.Context, op Operation, params map[string]string) (PipelineSpec, error) {
	project, action, err := s.Fleet.Action(op.Request.Target.Cluster, op.Request.Action)
	if err != nil {
		return PipelineSpec{}, err
	}
	ref, err := s.reference(ctx, op)
	if err != nil {
		return PipelineSpec{}, err
	}
	op.Request.Params = params
	return action.Spec(op, project.GitRef, ref), nil
}
