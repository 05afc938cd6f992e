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
		ServerTime time.Time
		Expected   time.Duration
	}
	// Posting: a POST is about to be made. It is on disk before the first byte leaves.
	Posting struct{}
	// NotSent: the POST of which Posting told surely made no pipeline.
	NotSent struct {
		Reason Reason
		Msg    string
	}
	// Created: GitLab has the pipeline. Adopted tells that it was found by its key.
	Created struct {
		Pipeline Pipeline
		Adopted  bool
	}
	// GitLabRefused: GitLab will not create the pipeline, for good.
	GitLabRefused struct {
		Reason Reason
		Msg    string
	}
	// Seen: a look at the pipelines.
	Seen struct {
		Snapshot Snapshot
		Failure  *Failure // evidence for the case that the run has failed
		Action   Action   // as configured, for the follow-up rule
	}
	// Gone: the root pipeline does not exist any more.
	Gone struct{}
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
		t.end(Expired, ReasonNotStartedInTime, t.op.Detail)
	case Intend:
		t.op.ServerTime, t.op.Expected = in.ServerTime, in.Expected
		t.op.Errors, t.op.ErrorSince = 0, time.Time{}
		t.move(Starting, "", "")
	}
	return nil
}

func (t *turn) starting(in Input) error {
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
	if in.Adopted {
		t.event(EventAdopted, Starting, Actor{})
	}
	t.move(Running, "", "")
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
			return &Error{Code: CodeConflict, Reason: ReasonAlreadyCanceling, Operation: t.op.ID, Msg: "It is being canceled already."}
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
		return &Error{Code: CodeConflict, Reason: ReasonAlreadyCanceling, Operation: t.op.ID, Msg: "It is being canceled already."}
	case Succeeded, Failed, Canceled, Refused, Rejected, Expired, Stale:
		return &Error{
			Code: CodeConflict, Reason: ReasonAlreadyFinal, Operation: t.op.ID,
			Msg: fmt.Sprintf("There is nothing to cancel: it is %s.", t.op.State),
		}
	}
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
	from := t.op.State
	t.newRun()
	t.op.Key, t.op.Number = in.Key, in.Number
	t.op.RunBy, t.op.RunByName = in.By, in.ByName
	t.op.State, t.op.Reason, t.op.Detail = Requested, "", ""
	t.event(EventNewRun, from, in.By)
	return nil
}

// newRun clears what belongs to the run that has ended. The card and the operation stay.
func (t *turn) newRun() {
	o := &t.op
	o.Run++
	o.Attempt, o.Outstanding, o.PostedAt, o.ServerTime = 0, false, time.Time{}, time.Time{}
	o.CancelBy, o.CancelAt = Actor{}, time.Time{}
	o.Failure, o.Link, o.Pipelines = nil, "", nil
	o.Errors, o.ErrorSince = 0, time.Time{}
	o.RunAt, o.ChangedAt = t.now, t.now
	o.StartedAt, o.FinishedAt = time.Time{}, time.Time{}
}
