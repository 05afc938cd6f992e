package ops

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"time"
)

// Timing holds the waits of the domain. Zero fields take the defaults.
type Timing struct {
	Fast        time.Duration // 5 s: between looks at a young run; grows with its age
	Slow        time.Duration // 30 s: longest time between looks at an unfinished run
	Linger      time.Duration // 90 s: how long a request without an answer may still reach GitLab
	StartWithin time.Duration // 1 h: an operation that could not start by then expires
	CardWait    time.Duration // 2 s: how long the start waits for its card to stand in chat
	WatchAfter  time.Duration // 10 min: how long an ended run is looked at for a retry in GitLab
}

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Fast, 5*time.Second)
	def(&t.Slow, 30*time.Second)
	def(&t.Linger, 90*time.Second)
	def(&t.StartWithin, time.Hour)
	def(&t.CardWait, 2*time.Second)
	def(&t.WatchAfter, 10*time.Minute)
	return t
}

// Config is what a Service needs. All fields but Random, Redact and Timing are required.
type Config struct {
	Store     Store
	Pipelines Pipelines
	Repos     Repos
	Fleet     *Fleet
	Policy    Policy
	Signer    *Signer
	Clock     Clock
	Log       *slog.Logger
	Redact    func(string) string // applied to everything that is read from GitLab and shown
	Random    io.Reader           // crypto/rand if nil
	Timing    Timing
}

// Service carries operations from request to end. Its methods are safe for concurrent use and
// idempotent: what they find on disk decides what is done, so they may be repeated at any time.
type Service struct {
	Config

	born   time.Time // rows from before may be a backup's: what they intend may have been done
	doubts *doubts
}

// NewService returns a Service.
func NewService(c Config) *Service {
	c.Timing = c.Timing.withDefaults()
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Redact == nil {
		c.Redact = func(s string) string { return s }
	}
	return &Service{Config: c, born: c.Clock.Now(), doubts: newDoubts()}
}

// Submit records a request and returns its operation. A request with a key that is known returns
// the operation that it made the first time. Errors: denied (not_allowed), not_found
// (unknown_cluster, unknown_verb), invalid (…_parameter), conflict (instance_busy, with the
// unfinished operation's id).
func (s *Service) Submit(ctx context.Context, r Request) (Operation, error) {
	if err := s.May(r.Actor, MayStart); err != nil {
		return Operation{}, err
	}
	project, action, err := s.Fleet.Action(r.Target.Cluster, r.Action)
	if err != nil {
		return Operation{}, err
	}
	op, err := s.prepare(project, action, r)
	if err != nil {
		return Operation{}, err
	}
	op, err = s.create(ctx, op)
	switch {
	case errors.Is(err, ErrDuplicate):
		return s.byRequest(ctx, r.Key)
	case errors.Is(err, ErrBusy):
		return Operation{}, s.busy(ctx, r.Target)
	case err != nil:
		return Operation{}, fmt.Errorf("record %s of %s: %w", r.Action, r.Target, err)
	}
	s.Log.Info("operation requested", "op", op.ID, "actor", r.Actor.String(), "instance", r.Target.String(), "action", r.Action)
	return op, nil
}

// create writes a new operation with its event, its card and its wake-up.
func (s *Service) create(ctx context.Context, op Operation) (Operation, error) {
	for {
		err := s.Store.Update(ctx, func(tx Tx) error {
			number, err := tx.NextNumber(ctx, op.CreatedAt.UnixMilli())
			if err != nil {
				return err
			}
			op.Number = number
			ev := Event{Operation: op.ID, Run: 1, Kind: EventMoved, To: Requested, Actor: op.Request.Actor, At: op.CreatedAt}
			if err := tx.Create(ctx, op, []Event{ev}); err != nil {
				return err
			}
			if err := s.owe(ctx, tx, op, DeliverCard, 0, nil); err != nil {
				return err
			}
			return tx.Wake(ctx, JobAdvance, op.ID, op.CreatedAt)
		})
		if !errors.Is(err, ErrIDTaken) {
			return op, err
		}
		if op.ID, err = s.newID(); err != nil {
			return op, err
		}
	}
}

// Plan is what would be sent, without any effect.
type Plan struct {
	Operation Operation
	Spec      PipelineSpec
	Action    Action
	Busy      string // id of the unfinished operation that would make it be refused now
}

// Plan checks a request as Submit does and shows what would be sent to GitLab; secret values are
// masked.
func (s *Service) Plan(ctx context.Context, r Request) (Plan, error) {
	if err := s.May(r.Actor, MayStart); err != nil {
		return Plan{}, err
	}
	return s.plan(ctx, r)
}

// PlanRetry checks a retry as Retry does and shows what would be sent to GitLab.
func (s *Service) PlanRetry(ctx context.Context, id string, by Actor) (Plan, error) {
	if err := s.May(by, MayRetry); err != nil {
		return Plan{}, err
	}
	var op Operation
	err := s.Store.View(ctx, func(r Reader) (err error) {
		op, err = r.Operation(ctx, id)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return Plan{}, unknownOperation(id)
	}
	if err == nil {
		_, _, err = transition(op, RetryAsked{By: by}, s.Clock.Now())
	}
	if err != nil {
		return Plan{}, fmt.Errorf("plan a retry of %s: %w", id, err)
	}
	r := op.Request
	if r.Params, err = s.reveal(r.Params); err != nil {
		return Plan{}, err
	}
	return s.plan(ctx, r)
}

func (s *Service) plan(ctx context.Context, r Request) (Plan, error) {
	project, action, err := s.Fleet.Action(r.Target.Cluster, r.Action)
	if err != nil {
		return Plan{}, err
	}
	// A secret that is required cannot be given with a plan. It is shown as if it had been.
	optional := action
	optional.Params = slices.Clone(action.Params)
	for i, p := range optional.Params {
		optional.Params[i].Required = p.Required && !p.Secret
	}
	op, err := s.prepare(project, optional, r)
	if err != nil {
		return Plan{}, err
	}
	for _, p := range action.Params {
		if _, given := op.Request.Params[p.Name]; p.Required && !given {
			op.Request.Params[p.Name] = hiddenMark
		}
	}
	op.Number = op.CreatedAt.UnixMilli()
	p := Plan{Operation: op, Action: action, Spec: action.Spec(op, project.GitRef, "<signed reference>")}
	var busy *Error
	if errors.As(s.busy(ctx, r.Target), &busy) && busy.Operation != "" {
		p.Busy = busy.Operation
	}
	return p, nil
}

func (s *Service) prepare(project Project, action Action, r Request) (_ Operation, err error) {
	if r.Params, err = action.Check(r.Params); err != nil {
		return Operation{}, err
	}
	if r.Params, err = s.hide(action, r.Params); err != nil {
		return Operation{}, err
	}
	now := s.Clock.Now()
	id, err := s.newID()
	if err != nil {
		return Operation{}, err
	}
	key, err := s.newKey()
	if err != nil {
		return Operation{}, err
	}
	return Operation{
		ID: id, Request: r, State: Requested, Run: 1, RunBy: r.Actor, RunByName: r.ActorName, Key: key,
		Project: project.Name, CreatedAt: now, RunAt: now, ChangedAt: now,
	}, nil
}

// Cancel asks for the end of the current run, if it is still run. key makes the click or command
// act once.
func (s *Service) Cancel(ctx context.Context, id string, run int, by Actor, key string) (Operation, error) {
	if err := s.May(by, MayCancel); err != nil {
		return Operation{}, err
	}
	return s.decide(ctx, id, run, key, func(Tx) (Input, error) { return CancelAsked{By: by}, nil })
}

// Retry opens the next run of an operation whose run has ended.
func (s *Service) Retry(ctx context.Context, id string, run int, by Actor, byName, key string) (Operation, error) {
	if err := s.May(by, MayRetry); err != nil {
		return Operation{}, err
	}
	ocimKey, err := s.newKey()
	if err != nil {
		return Operation{}, err
	}
	return s.decide(ctx, id, run, key, func(tx Tx) (Input, error) {
		number, err := tx.NextNumber(ctx, s.Clock.Now().UnixMilli())
		return RetryAsked{By: by, ByName: byName, Key: ocimKey, Number: number}, err
	})
}

// decide applies a person's decision in one transaction, once for each key. A run of 0 means the
// current one; any other run must still be the current one.
func (s *Service) decide(ctx context.Context, id string, run int, key string, input func(Tx) (Input, error)) (Operation, error) {
	var op Operation
	err := s.Store.Update(ctx, func(tx Tx) error {
		now := s.Clock.Now()
		before, err := tx.Operation(ctx, id)
		if err != nil {
			return err
		}
		op = before
		if err := tx.Seen(ctx, key, id, now); err != nil {
			return err
		}
		if run != 0 && run != before.Run {
			return &Error{
				Code: CodeStale, Reason: ReasonOldButton, Operation: id,
				Msg: fmt.Sprintf("That was about run %d; run %d is %s now.", run, before.Run, before.State),
			}
		}
		in, err := input(tx)
		if err != nil {
			return err
		}
		next, evs, err := transition(before, in, now)
		if err != nil {
			return err
		}
		if err := s.write(ctx, tx, before, &next, evs); err != nil {
			return err
		}
		op = next
		return tx.Wake(ctx, JobAdvance, id, now)
	})
	if err == nil && (op.State.Final() || op.State == Requested) {
		s.doubts.forget(id)
	}
	switch {
	case errors.Is(err, ErrDuplicate):
		return op, nil // answered like the first
	case errors.Is(err, ErrNotFound):
		return op, unknownOperation(id)
	case errors.Is(err, ErrBusy):
		return op, s.busy(ctx, op.Request.Target)
	case err != nil:
		return op, fmt.Errorf("decide on %s: %w", id, err)
	}
	return op, nil
}

func unknownOperation(id string) error {
	return &Error{Code: CodeNotFound, Reason: ReasonUnknownOperation, Msg: fmt.Sprintf("There is no operation %q.", id), Next: "The command operations lists the last ones."}
}

// write stores a transition's result with everything that must be on disk together with it.
func (s *Service) write(ctx context.Context, tx Tx, before Operation, next *Operation, evs []Event) error {
	if reflect.DeepEqual(before, *next) {
		return nil
	}
	if err := tx.Move(ctx, *next, evs); err != nil {
		return err
	}
	next.Version++
	if before.State != next.State || before.Run != next.Run || !before.ChangedAt.Equal(next.ChangedAt) {
		if err := tx.Wake(ctx, JobDeliver, next.ID, s.Clock.Now()); err != nil {
			return err
		}
	}
	if next.State.Final() && (!before.State.Final() || before.Run != next.Run) {
		if err := s.owe(ctx, tx, *next, DeliverEnd, next.Run, next); err != nil {
			return err
		}
		if next.Failure != nil {
			return s.owe(ctx, tx, *next, DeliverLog, next.Run, next)
		}
	}
	return nil
}

func (s *Service) owe(ctx context.Context, tx Tx, op Operation, kind DeliveryKind, run int, snapshot *Operation) error {
	d := Delivery{
		Operation: op.ID, Run: run, Kind: kind, To: op.Request.From, Snapshot: snapshot,
		Key: fmt.Sprintf("%s.%s.%d", op.ID, kind, run),
	}
	if err := tx.PutDelivery(ctx, d); err != nil {
		return err
	}
	return tx.Wake(ctx, JobDeliver, op.ID, s.Clock.Now())
}

// writeTimeout ends the attempt to write down what was learned.
const writeTimeout = 5 * time.Second

// record applies what came of a call that must not be made again. Somebody who has changed the row
// meanwhile, by a Cancel, does not make it untrue.
func (s *Service) record(ctx context.Context, op Operation, in Input) (Operation, error) {
	for {
		next, err := s.apply(ctx, op, in)
		if !errors.Is(err, ErrStale) {
			return next, err
		}
		now, lerr := s.load(context.WithoutCancel(ctx), op.ID)
		switch {
		case lerr != nil:
			return op, errors.Join(err, lerr)
		case now.State != Starting, now.Run != op.Run, now.Attempt != op.Attempt, !now.Outstanding:
			return now, err
		}
		op = now
	}
}

// apply makes one input part of the operation. ErrStale means that somebody else was faster.
func (s *Service) apply(ctx context.Context, op Operation, in Input) (Operation, error) {
	next, evs, err := transition(op, in, s.Clock.Now())
	if err != nil {
		return op, err
	}
	if reflect.DeepEqual(op, next) {
		return op, nil
	}
	if next.Detail != op.Detail {
		next.Detail = s.RedactFor(op, next.Detail) // most of it is what GitLab says
	}
	if next.State.Final() {
		s.doubts.forget(op.ID)
	}
	// What was learned is written also if learning it has used up the time.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	var done Operation
	err = s.Store.Update(ctx, func(tx Tx) error {
		done = next // it may run again
		return s.write(ctx, tx, op, &done, evs)
	})
	if err != nil {
		return op, err
	}
	next = done
	if op.State != next.State || op.Run != next.Run {
		s.Log.Info("operation moved", "op", op.ID, "from", string(op.State), "to", string(next.State), "reason", string(next.Reason), "run", next.Run, "instance", op.Request.Target.String())
	}
	return next, nil
}

// May returns the refusal for somebody who has not got the permission, nil for who has.
func (s *Service) May(a Actor, p Permission) error {
	if s.Policy.Allowed(a, p) {
		return nil
	}
	return &Error{
		Code: CodeDenied, Reason: ReasonNotAllowed, Msg: fmt.Sprintf("You may not %s operations here.", p),
		Next: fmt.Sprintf("Ask the operator of this bot to add your user id %s under may.%s in ocim.yaml.", a.UserID, p),
	}
}

func (s *Service) byRequest(ctx context.Context, key string) (Operation, error) {
	var op Operation
	err := s.Store.View(ctx, func(r Reader) error {
		found, err := r.Operations(ctx, Filter{RequestKey: key, Limit: 1})
		if err == nil && len(found) == 0 {
			err = ErrNotFound
		}
		if err == nil {
			op = found[0]
		}
		return err
	})
	return op, err
}

// busy explains which unfinished operation stands in the way. Its Operation is empty if none does.
func (s *Service) busy(ctx context.Context, t Target) error {
	e := &Error{Code: CodeConflict, Reason: ReasonInstanceBusy, Msg: fmt.Sprintf("%s already has an unfinished operation.", t), Next: "Wait for it to end, or cancel it."}
	err := s.Store.View(ctx, func(r Reader) error {
		found, err := r.Operations(ctx, Filter{Unfinished: true, Target: t, Limit: 1})
		if err == nil && len(found) == 1 {
			e.Operation = found[0].ID
			e.Msg = fmt.Sprintf("%s is busy: %s %s is %s.", t, found[0].Request.Action, found[0].ID, found[0].State)
		}
		return err
	})
	if err != nil {
		s.Log.Warn("look for the unfinished operation", "instance", t.String(), "err", err)
	}
	return e
}

// idAlphabet leaves out vowels and look-alikes: an id is read aloud and typed on phones, and never
// spells a word.
const idAlphabet = "23456789bcdfghjkmnpqrstvwxz"

// IDLen is the number of characters of an operation's id.
const IDLen = 6

func (s *Service) newID() (string, error) {
	out := make([]byte, 0, IDLen)
	buf := make([]byte, 16)
	for len(out) < IDLen {
		if _, err := io.ReadFull(s.Random, buf); err != nil {
			return "", fmt.Errorf("make an id: %w", err)
		}
		for _, b := range buf {
			if limit := 256 - 256%len(idAlphabet); int(b) < limit && len(out) < IDLen {
				out = append(out, idAlphabet[int(b)%len(idAlphabet)])
			}
		}
	}
	return string(out), nil
}

func (s *Service) newKey() (string, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(s.Random, b); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return hex.EncodeToString(b), nil
}
