package ops

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Input is something that an operation learns or is told. transition decides what it means.
type Input interface{ input() }

type (
	// Unreachable: GitLab cannot be asked now; the operation waits for its turn.
	Unreachable struct {
		Reason Reason
		Msg    string
	}
	// Refuse: the check before the start says no.
	Refuse struct {
		Reason Reason
		Msg    string
	}
	// Expire: it could not start in time.
	Expire struct{}
	// Intend: all checks passed; from here on a pipeline may come to be.
	Intend struct {
		ServerTime   time.Time // by GitLab's clock, not after the run was asked for
		Expected     time.Duration
		Follow       Follow
		FollowWithin time.Duration
	}
	// Posting: a POST is about to be made. It is on disk before the first byte leaves.
	Posting struct{}
	// NotSent: the POST of which Posting told made no pipeline. Lost tells that this is only
	// very likely: it has no answer, and GitLab has shown nothing for long enough.
	NotSent struct {
		Reason Reason
		Msg    string
		Lost   bool
	}
	// Created: GitLab has the pipeline. Adopted tells that it was found by its key, Extras which
	// others carry that key.
	Created struct {
		Pipeline Pipeline
		Adopted  bool
		Extras   []Pipeline
	}
	// GitLabRefused: GitLab will not create the pipeline, for good.
	GitLabRefused struct {
		Reason Reason
		Msg    string
	}
	// Seen: a look at the pipelines.
	Seen struct {
		Snapshot Snapshot
		Failure  *Failure   // evidence for the case that the run has failed
		Extras   []Pipeline // others that carry the run's key
	}
	// Gone: the root pipeline does not exist any more.
	Gone struct{}
	// Abandoned: GitLab could not be asked for so long that it is not followed any more.
	Abandoned struct{ Msg string }
	// LookFailed: GitLab did not answer a look.
	LookFailed struct {
		Reason Reason
		Msg    string
	}
	// CancelAsked: a person wants the run to end.
	CancelAsked struct{ By Actor }
	// RetryAsked: a person wants another run.
	RetryAsked struct {
		By     Actor
		ByName string
		Key    string
		Number int64
	}
)

func (Unreachable) input()   {}
func (Refuse) input()        {}
func (Expire) input()        {}
func (Intend) input()        {}
func (Posting) input()       {}
func (NotSent) input()       {}
func (Created) input()       {}
func (GitLabRefused) input() {}
func (Seen) input()          {}
func (Gone) input()          {}
func (Abandoned) input()     {}
func (LookFailed) input()    {}
func (CancelAsked) input()   {}
func (RetryAsked) input()    {}

// transition is where every rule about states lives. It is pure: no clock, no I/O. It returns the
// operation as it should be and the events that tell of the change; an error means that the input
// does not fit the state and nothing changes.
func transition(op Operation, in Input, now time.Time) (Operation, []Event, error) {
	t := &turn{op: op, now: now}
	t.op.Pipelines = slices.Clone(op.Pipelines)
	var err error
	switch in := in.(type) {
	case Unreachable, Refuse, Expire, Intend:
		err = t.beforeStart(in)
	case Posting, NotSent, Created, GitLabRefused:
		err = t.starting(in)
	case Seen:
		err = t.seen(in)
	case Gone:
		if !op.State.Final() {
			t.end(Failed, ReasonPipelineDeleted, "The pipeline was deleted in GitLab.")
		}
	case Abandoned:
		if op.State != Running && op.State != Blocked && op.State != Canceling {
			return op, nil, fmt.Errorf("%T in state %s", in, op.State)
		}
		t.end(Failed, ReasonOutcomeUnknown, in.Msg)
	case LookFailed:
		t.lookFailed(in)
	case CancelAsked:
		err = t.cancel(in)
	case RetryAsked:
		err = t.retry(in)
	default:
		err = fmt.Errorf("no rule for %T", in)
	}
	if err != nil {
		return op, nil, err
	}
	if t.broken != nil {
		return op, nil, t.broken
	}
	return t.op, t.events, nil
}

type turn struct {
	op     Operation
	now    time.Time
	events []Event
	broken error // a move that the table of states does not have
}

func (t *turn) event(kind EventKind, from State, by Actor) {
	t.events = append(t.events, Event{
		Operation: t.op.ID, Run: t.op.Run, Kind: kind, From: from, To: t.op.State,
		Reason: t.op.Reason, Actor: by, At: t.now,
	})
}

func (t *turn) move(s State, reason Reason, detail string) {
	from := t.op.State
	if from == s && t.op.Reason == reason && t.op.Detail == detail {
		return
	}
	// One input may move it twice: Created for a run that somebody has canceled meanwhile. A rule
	// that breaks the table is a mistake of ours and must not reach the disk.
	if !from.CanBecome(s) && t.broken == nil {
		t.broken = fmt.Errorf("operation %s: no edge from %s to %s", t.op.ID, from, s)
	}
	t.op.State, t.op.Reason, t.op.Detail, t.op.ChangedAt = s, reason, detail, t.now
	if from != s {
		t.event(EventMoved, from, Actor{})
	}
}

func (t *turn) end(s State, reason Reason, detail string) {
	t.op.FinishedAt = t.now
	t.op.Outstanding = false
	t.op.Errors, t.op.ErrorSince = 0, time.Time{}
	t.move(s, reason, detail)
}

func (t *turn) beforeStart(in Input) error {
	if s := t.op.State; s != Requested && s != Queued {
		return fmt.Errorf("%T in state %s", in, s)
	}
	switch in := in.(type) {
	case Unreachable:
		t.op.Errors++
		if t.op.ErrorSince.IsZero() {
			t.op.ErrorSince = t.now
		}
		t.move(Queued, in.Reason, in.Msg)
	case Refuse:
		t.end(Refused, in.Reason, in.Msg)
	case Expire:
		t.end(Expired, ReasonNotStartedInTime, notInTime(t.op))
	case Intend:
		if t.op.Lost == 0 {
			t.op.ServerTime = in.ServerTime
		}
		t.op.Expected, t.op.Follow, t.op.FollowWithin = in.Expected, in.Follow, in.FollowWithin
		t.op.Errors, t.op.ErrorSince = 0, time.Time{}
		t.move(Starting, "", "")
	}
	return nil
}

func (t *turn) starting(in Input) error {
	if late, ok := in.(Created); ok && t.op.State.Final() && t.op.InDoubt() {
		t.reopen("", "")
		t.created(late)
		return nil
	}
	if t.op.State != Starting {
		return fmt.Errorf("%T in state %s", in, t.op.State)
	}
	switch in := in.(type) {
	case Posting:
		if t.op.Outstanding {
			return errors.New("a POST is outstanding: what became of it comes first")
		}
		t.op.Outstanding, t.op.PostedAt = true, t.now
		t.op.Attempt++
		t.op.ChangedAt = t.now
		t.event(EventPosting, Starting, Actor{})
	case NotSent:
		t.op.Outstanding = false
		if in.Lost {
			t.op.Lost++
		}
		t.op.Errors++
		if t.op.ErrorSince.IsZero() {
			t.op.ErrorSince = t.now
		}
		if !t.op.CancelAt.IsZero() {
			t.end(Canceled, ReasonCanceledByPerson, "")
			return nil
		}
		t.op.Reason, t.op.Detail, t.op.ChangedAt = in.Reason, in.Msg, t.now
		t.event(EventNotSent, Starting, Actor{})
	case Created:
		t.created(in)
	case GitLabRefused:
		t.end(Failed, in.Reason, in.Msg)
	}
	return nil
}

func (t *turn) created(in Created) {
	p := in.Pipeline
	p.Role = RoleRoot
	t.op.Outstanding = false
	t.op.Errors, t.op.ErrorSince = 0, time.Time{}
	t.op.Pipelines = []Pipeline{p}
	t.op.StartedAt = t.now
	if in.Adopted && t.op.State == Starting {
		t.event(EventAdopted, Starting, Actor{})
	}
	t.move(Running, "", "")
	t.extras(in.Extras)
	if !t.op.CancelAt.IsZero() {
		t.move(Canceling, ReasonCanceledByPerson, "")
	}
}

func (t *turn) lookFailed(in LookFailed) {
	t.op.Errors++
	if t.op.ErrorSince.IsZero() {
		t.op.ErrorSince = t.now
	}
	// One failed look is nothing to tell; a minute without an answer is.
	if !t.op.State.Final() && t.now.Sub(t.op.ErrorSince) >= time.Minute && t.op.Reason != in.Reason && t.op.State != Canceling {
		t.op.Reason, t.op.Detail, t.op.ChangedAt = in.Reason, in.Msg, t.now
	}
}

func (t *turn) cancel(in CancelAsked) error {
	switch t.op.State {
	case Requested, Queued, AwaitingApproval:
		t.op.CancelBy, t.op.CancelAt = in.By, t.now
		t.event(EventCancelAsked, t.op.State, in.By)
		t.end(Canceled, ReasonCanceledByPerson, "")
	case Starting:
		if !t.op.CancelAt.IsZero() {
			return t.giveUp(in)
		}
		t.op.CancelBy, t.op.CancelAt, t.op.ChangedAt = in.By, t.now, t.now
		t.event(EventCancelAsked, Starting, in.By)
		if !t.op.Outstanding {
			t.end(Canceled, ReasonCanceledByPerson, "")
		}
	case Running, Blocked:
		t.op.CancelBy, t.op.CancelAt = in.By, t.now
		t.event(EventCancelAsked, t.op.State, in.By)
		t.move(Canceling, ReasonCanceledByPerson, "")
	case Canceling, Watching:
		return t.giveUp(in)
	case Succeeded, Failed, Canceled, Refused, Rejected, Expired, Stale:
		return &Error{
			Code: CodeConflict, Reason: ReasonAlreadyFinal, Operation: t.op.ID,
			Msg: fmt.Sprintf("There is nothing to cancel: it is %s.", t.op.State),
		}
	}
	return nil
}

// giveUpAfter is how long GitLab must have been out of reach until a second Cancel ends what cannot
// be canceled.
const giveUpAfter = 5 * time.Minute

// giveUp answers a second Cancel.
func (t *turn) giveUp(in CancelAsked) error {
	if t.op.ErrorSince.IsZero() || t.now.Sub(t.op.ErrorSince) < giveUpAfter {
		return &Error{Code: CodeConflict, Reason: ReasonAlreadyCanceling, Operation: t.op.ID, Msg: "It is being canceled already."}
	}
	t.event(EventCancelAsked, t.op.State, in.By)
	t.end(Failed, ReasonOutcomeUnknown, "It was given up by a person, since GitLab cannot be asked. What it has started may still run: look in GitLab.")
	return nil
}

func (t *turn) retry(in RetryAsked) error {
	switch t.op.State {
	case Failed, Canceled, Refused, Rejected, Expired, Stale:
	case Succeeded:
		return &Error{
			Code: CodeConflict, Reason: ReasonAlreadyFinal, Operation: t.op.ID,
			Msg:  "There is nothing to retry: it succeeded.",
			Next: "To run it again, ask for a new operation.",
		}
	case Requested, AwaitingApproval, Queued, Starting, Running, Blocked, Canceling, Watching:
		return &Error{
			Code: CodeConflict, Reason: ReasonStillRunning, Operation: t.op.ID,
			Msg: fmt.Sprintf("It is still %s; only an operation that has ended can be retried.", t.op.State),
		}
	}
	from, before := t.op.State, t.op
	t.newRun()
	t.op.Key, t.op.Number = in.Key, in.Number
	if before.Reason == ReasonOutcomeUnknown || before.InDoubt() {
		// It may run after all: the same request again, so that it is looked for before it is sent.
		t.op.Key, t.op.Number, t.op.ServerTime, t.op.Lost = before.Key, before.Number, before.ServerTime, max(1, before.Lost)
	}
	t.op.RunBy, t.op.RunByName = in.By, in.ByName
	t.op.State, t.op.Reason, t.op.Detail = Requested, "", ""
	t.event(EventNewRun, from, in.By)
	return nil
}

// reopen begins the next run on what GitLab does without a request of ours: key, number and
// pipelines are those of the run before.
func (t *turn) reopen(reason Reason, detail string) {
	before := t.op
	t.newRun()
	o := &t.op
	o.Key, o.Number, o.ServerTime, o.Lost = before.Key, before.Number, before.ServerTime, before.Lost
	o.Pipelines, o.StartedAt = before.Pipelines, t.now
	o.State, o.Reason, o.Detail = Running, reason, detail
	if before.InDoubt() || before.Reason == ReasonOutcomeUnknown {
		o.CancelBy, o.CancelAt = before.CancelBy, before.CancelAt // the wish still stands
	}
	t.event(EventReopened, before.State, Actor{})
}

// extras notes pipelines that carry the run's key although only one was wanted.
func (t *turn) extras(found []Pipeline) {
	for _, p := range found {
		p.Role = RoleExtra
		i := slices.IndexFunc(t.op.Pipelines, func(old Pipeline) bool { return old.Ref == p.Ref })
		switch {
		case i < 0:
			t.op.Pipelines = append(t.op.Pipelines, p)
			t.op.ChangedAt = t.now
			t.event(EventExtra, t.op.State, Actor{})
		case t.op.Pipelines[i].Role == RoleExtra && t.op.Pipelines[i].Status != p.Status && !older(p, t.op.Pipelines[i]):
			t.op.Pipelines[i] = p
			t.op.ChangedAt = t.now
		}
	}
}

// newRun clears what belongs to the run that has ended. The card and the operation stay.
func (t *turn) newRun() {
	o := &t.op
	o.Run++
	o.Attempt, o.Lost, o.Outstanding, o.PostedAt, o.ServerTime = 0, 0, false, time.Time{}, time.Time{}
	o.CancelBy, o.CancelAt = Actor{}, time.Time{}
	o.Failure, o.Link, o.Pipelines = nil, "", nil
	o.Errors, o.ErrorSince = 0, time.Time{}
	o.RunAt, o.ChangedAt = t.now, t.now
	o.StartedAt, o.FinishedAt = time.Time{}, time.Time{}
}
