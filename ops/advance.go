package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
		return s.check(ctx, op)
	case Starting:
		if op.Outstanding {
			return s.settle(ctx, op)
		}
		return s.post(ctx, op)
	case Running, Blocked, Canceling:
		return s.look(ctx, op)
	case Succeeded, Failed, Canceled:
		return s.watch(ctx, op)
	case AwaitingApproval, Watching, Refused, Rejected, Expired, Stale:
	}
	return time.Time{}, false, nil
}

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
	_, action, aerr := s.Fleet.Action(op.Request.Target.Cluster, op.Request.Action)
	if aerr == nil {
		var params map[string]string
		if params, aerr = s.reveal(op.Request.Params); aerr == nil {
			_, aerr = action.Check(params)
		}
	}
	if aerr == nil {
		_, aerr = s.Fleet.Resolve(ctx, op.Request.Target.String(), false)
	}
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
	_, err = s.apply(ctx, op, Intend{ServerTime: at, Expected: s.expected(ctx, op)})
	return again, true, err
}

func (s *Service) mayStart(op Operation) *Error {
	var no *Error
	if errors.As(s.May(op.Request.Actor, MayStart), &no) {
		return no
	}
	if op.Run > 1 && errors.As(s.May(op.RunBy, MayRetry), &no) {
		return no
	}
	return nil
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
		s.Log.Warn("operation waits", "op", op.ID, "err", cause)
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
		_, err = s.apply(ctx, op, NotSent{ReasonCanceledByPerson, ""})
		return again, true, err
	}
	if now := s.Clock.Now(); op.Attempt > 0 && now.Sub(op.RunAt) > s.Timing.StartWithin {
		_, err = s.apply(ctx, op, GitLabRefused{ReasonNotStartedInTime, "GitLab could not be made to start it in time. Last answer: " + op.Detail})
		return again, true, err
	}
	if no := s.mayStart(op); no != nil {
		_, err = s.apply(ctx, op, GitLabRefused{no.Reason, no.Msg})
		return again, true, err
	}
	var spec PipelineSpec
	params, err := s.reveal(op.Request.Params)
	if err == nil {
		spec, err = s.spec(ctx, op, params)
	}
	var e *Error
	switch {
	case errors.As(err, &e) && (e.Code == CodeNotFound || e.Code == CodeInvalid): // taken out of the configuration meanwhile
		_, err = s.apply(ctx, op, GitLabRefused{e.Reason, e.Msg})
		return again, true, err
	case err != nil: // a store that does not answer is no reason to give up
		return again, false, err
	}
	if op, err = s.apply(ctx, op, Posting{}); err != nil {
		return again, false, err
	}
	p, cerr := s.Pipelines.Create(ctx, spec)
	return s.posted(ctx, op, spec, p, cerr)
}

// posted records what came of a POST. An outcome that is not known is left outstanding: the next
// step looks before anything is sent again.
func (s *Service) posted(ctx context.Context, op Operation, spec PipelineSpec, p Pipeline, cerr error) (again time.Time, more bool, err error) {
	if cerr == nil {
		_, err = s.apply(ctx, op, Created{Pipeline: p})
		return again, true, err
	}
	var e *Error
	if !errors.As(cerr, &e) {
		e = &Error{Code: CodeUnavailable, Reason: ReasonGitLabUnavailable, Msg: "GitLab's answer could not be read.", Err: cerr}
	}
	s.Log.Warn("pipeline not created", "op", op.ID, "err", cerr)
	switch {
	case e.Code == CodeUnavailable && e.NotSent:
		next, err := s.apply(ctx, op, NotSent{e.Reason, s.RedactFor(op, e.Msg)})
		return s.retryAt(e, next.Errors), false, err
	case e.Code == CodeUnavailable:
		return s.Clock.Now().Add(time.Second), false, nil
	case e.Reason == ReasonConfigError:
		// GitLab may have made a pipeline that failed at once, and says nothing of it here.
		found, ok, ferr := s.Pipelines.Find(ctx, spec)
		switch {
		case ferr != nil:
			s.Log.Warn("look for the pipeline", "op", op.ID, "err", ferr)
			return s.Clock.Now().Add(time.Second), false, nil
		case ok:
			_, err = s.apply(ctx, op, Created{Pipeline: found, Adopted: true})
			return again, true, err
		}
	}
	_, err = s.apply(ctx, op, GitLabRefused{e.Reason, s.RedactFor(op, e.Msg)})
	return again, true, err
}

// settle finds out what became of a POST without an answer. A look that finds nothing proves
// nothing while the request may still be on its way: only after Linger may the same key be sent
// again.
func (s *Service) settle(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	spec, err := s.spec(ctx, op, op.Request.Params) // looking needs no secret
	var e *Error
	switch {
	case errors.As(err, &e) && e.Code == CodeNotFound:
		_, err = s.apply(ctx, op, GitLabRefused{
			ReasonOutcomeUnknown,
			"GitLab may have started a pipeline, and its answer was lost; it cannot be looked for any more: " + e.Msg + " Look in GitLab before you try again.",
		})
		return again, true, err
	case err != nil:
		return again, false, err
	}
	now := s.Clock.Now()
	p, found, ferr := s.Pipelines.Find(ctx, spec)
	switch {
	case ferr == nil && found:
		_, err = s.apply(ctx, op, Created{Pipeline: p, Adopted: true})
		return again, true, err
	case errors.As(ferr, &e) && e.Code != CodeUnavailable:
		_, err = s.apply(ctx, op, GitLabRefused{
			ReasonOutcomeUnknown,
			"GitLab may have started a pipeline, and its answer was lost; looking for it was refused: " + s.RedactFor(op, e.Msg) + " Look in GitLab before you try again.",
		})
		return again, true, err
	case ferr != nil:
		s.Log.Warn("look for the pipeline", "op", op.ID, "err", ferr)
		next, err := s.apply(ctx, op, LookFailed{ReasonGitLabUnavailable, "GitLab does not answer; whether it has started the pipeline is not known yet."})
		return s.retryAt(e, next.Errors), false, err
	}
	if end := op.PostedAt.Add(s.Timing.Linger); now.Before(end) {
		since := now.Sub(op.PostedAt)
		return minTime(end, now.Add(max(500*time.Millisecond, min(since/2, 10*time.Second)))), false, nil
	}
	_, err = s.apply(ctx, op, NotSent{ReasonGitLabUnavailable, "GitLab did not receive the request; it is sent again."})
	return again, true, err
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
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

// look reads the pipelines and takes over what GitLab says.
func (s *Service) look(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	if op.State == Canceling {
		s.cancelPipelines(ctx, op)
	}
	snap, action, terr := s.tree(ctx, op)
	now := s.Clock.Now()
	if terr != nil {
		var e *Error
		if errors.As(terr, &e) && e.Code == CodeNotFound && now.Sub(op.StartedAt) > time.Minute {
			_, err = s.apply(ctx, op, Gone{})
			return again, true, err
		}
		s.Log.Warn("look at pipelines", "op", op.ID, "err", terr)
		in := LookFailed{ReasonGitLabUnavailable, "GitLab does not answer; what is shown may be old."}
		if e != nil && e.Code == CodeDenied {
			in = LookFailed{e.Reason, s.RedactFor(op, e.Msg)}
		}
		next, err := s.apply(ctx, op, in)
		return s.retryAt(e, next.Errors), false, err
	}
	next, err := s.apply(ctx, op, Seen{Snapshot: snap, Action: action, Failure: s.evidence(ctx, op, snap)})
	if err != nil {
		return again, false, err
	}
	if next.State.Final() {
		return now.Add(time.Minute), false, nil
	}
	return now.Add(s.interval(next, now)), next.State == Canceling && op.State != Canceling, nil
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

func (s *Service) tree(ctx context.Context, op Operation) (Snapshot, Action, error) {
	root, ok := op.Root()
	if !ok {
		return Snapshot{}, Action{}, fmt.Errorf("operation %s is %s without a pipeline", op.ID, op.State)
	}
	_, action, err := s.Fleet.Action(op.Request.Target.Cluster, op.Request.Action)
	if err != nil {
		// The verb was taken out of the configuration meanwhile: what runs is followed all the same.
		action = Action{Verb: op.Request.Action, Follow: FollowNone}
	}
	snap, err := s.Pipelines.Tree(ctx, TreeSpec{
		Root: root.Ref, Known: op.Pipelines, Follow: action.Follow, Target: op.Request.Target, Number: op.Number,
	})
	return snap, action, err
}

// cancelPipelines asks GitLab to end every pipeline that has not ended, children first: canceling
// a parent does not cancel children that were started without strategy: depend.
func (s *Service) cancelPipelines(ctx context.Context, op Operation) {
	for _, p := range slices.Backward(op.Pipelines) {
		if PipelineFinal(p.Status) || p.Status == "canceling" {
			continue
		}
		if err := s.Pipelines.Cancel(ctx, p.Ref); err != nil {
			s.Log.Warn("cancel pipeline", "op", op.ID, "pipeline", p.Ref.ID, "err", err)
		}
	}
}

// watch looks at a run that has ended, for a while and whenever a hook comes: GitLab lets people
// retry jobs of a finished pipeline.
func (s *Service) watch(ctx context.Context, op Operation) (again time.Time, more bool, err error) {
	if _, ok := op.Root(); !ok {
		return again, false, nil
	}
	now := s.Clock.Now()
	if now.Sub(op.FinishedAt) > s.Timing.WatchAfter+24*time.Hour {
		return again, false, nil // a hook of an old pipeline: it stays as it is
	}
	snap, action, terr := s.tree(ctx, op)
	if terr == nil {
		next, err := s.apply(ctx, op, Seen{Snapshot: snap, Action: action})
		switch {
		case errors.Is(err, ErrBusy):
			s.Log.Info("an ended pipeline runs again in GitLab while another operation is at work", "op", op.ID, "instance", op.Request.Target.String())
		case err != nil:
			return again, false, err
		case !next.State.Final():
			return again, true, nil
		}
	}
	if now.Sub(op.FinishedAt) < s.Timing.WatchAfter {
		return now.Add(time.Minute), false, nil
	}
	return again, false, nil
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

// tailBytes bounds the evidence that is kept of a failed job.
const tailBytes = 6000

// evidence reads the tail of the first failed job, once all pipelines have ended.
func (s *Service) evidence(ctx context.Context, op Operation, snap Snapshot) *Failure {
	if len(snap.FailedJobs) == 0 || slices.ContainsFunc(snap.Pipelines, func(p Pipeline) bool { return !PipelineFinal(p.Status) }) {
		return nil
	}
	j := snap.FailedJobs[0]
	f := &Failure{Pipeline: j.Pipeline, JobID: j.ID, Job: j.Name, Stage: j.Stage, Reason: j.FailureReason, URL: j.URL}
	tail, err := s.Pipelines.Tail(ctx, j.Project, j.ID, tailBytes)
	if err != nil {
		f.NoTail = "The log is not retrievable: " + s.RedactFor(op, UserMsg(err))
		return f
	}
	f.Tail = s.RedactFor(op, tail)
	f.Last = lastLine(f.Tail)
	if f.Tail == "" {
		f.NoTail = "The job has written no log."
	}
	return f
}

func lastLine(s string) string {
	for _, l := range slices.Backward(strings.Split(s, "\n")) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "ERROR: Job failed") && !strings.HasPrefix(l, "Cleaning up") {
			return l
		}
	}
	return ""
}

// UserMsg is the part of err that people may read.
func UserMsg(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Msg != "" {
		return e.Msg
	}
	return "Something went wrong here; the operator finds the cause in the log."
}

// Reference is what every pipeline carries in ocim_ref, sealed: enough to fill a lost store again.
type Reference struct {
	Operation string            `json:"o"`
	Run       int               `json:"r"`
	Key       string            `json:"k"`
	Number    int64             `json:"n"`
	Action    string            `json:"v"`
	Target    Target            `json:"t"`
	Params    map[string]string `json:"p,omitempty"`
	Actor     Actor             `json:"a"`
	RunBy     Actor             `json:"b"`
	ActorName string            `json:"an,omitempty"`
	From      Conversation      `json:"f"`
	Card      string            `json:"c,omitempty"` // the card's message id, if it stood by then
	CardIn    *Conversation     `json:"ci,omitempty"`
	CreatedAt int64             `json:"at"` // Unix microseconds
}

// reference seals what is needed to recover the operation.
func (s *Service) reference(ctx context.Context, op Operation) (string, error) {
	r := Reference{
		Operation: op.ID, Run: op.Run, Key: op.Key, Number: op.Number, Action: op.Request.Action, Target: op.Request.Target,
		Params: op.Request.Params, Actor: op.Request.Actor, RunBy: op.RunBy, ActorName: op.Request.ActorName, From: op.Request.From,
		CreatedAt: op.CreatedAt.UnixMicro(),
	}
	err := s.Store.View(ctx, func(rd Reader) error {
		ds, err := rd.Deliveries(ctx, op.ID)
		for _, d := range ds {
			if d.Kind == DeliverCard && d.Ref != "" {
				r.Card = d.Ref
				if d.To != op.Request.From {
					r.CardIn = &d.To
				}
			}
		}
		return err
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode reference of %s: %w", op.ID, err)
	}
	return s.Signer.Seal(PurposeReference, text), nil
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
		snap, action, err := s.tree(ctx, op)
		if err != nil {
			return op, err
		}
		next, err := s.apply(ctx, op, Seen{Snapshot: snap, Action: action, Failure: s.evidence(ctx, op, snap)})
		if !errors.Is(err, ErrStale) {
			return next, err
		}
	}
	return s.load(ctx, id)
}
