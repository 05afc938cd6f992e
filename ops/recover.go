package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// recoverWindow is how far back a lost store is filled again.
const recoverWindow = 48 * time.Hour

// Recover looks through the projects for pipelines that carry our reference and are not in the
// store, and makes their operations again, so that a lost database loses no card and no final
// notice. It returns how many it made. A project that cannot be read to its end is named in err;
// call again then, and what has been made by then is not looked at any more.
func (s *Service) Recover(ctx context.Context) (made int, err error) {
	since := s.Clock.Now().Add(-recoverWindow)
	for _, project := range s.Fleet.Projects() {
		found, ferr := s.Repos.Recent(ctx, project, since, s.others(ctx, ""))
		if ferr != nil {
			err = errors.Join(err, fmt.Errorf("recover from %s: %w", project, ferr))
		}
		latest := map[string]Found{} // an operation's last run is the one that counts
		for _, f := range found {
			r, ok := s.openReference(f.Reference)
			if !ok {
				s.Log.Warn("pipeline carries a reference that is not ours", "pipeline", f.Pipeline.Ref.ID)
				continue
			}
			old, had := latest[r.Operation]
			if before, _ := s.openReference(old.Reference); !had || sooner(r, f.Pipeline, before, old.Pipeline) {
				latest[r.Operation] = f
			}
		}
		for _, f := range latest {
			r, _ := s.openReference(f.Reference)
			ok, rerr := s.recoverOne(ctx, project, r, f.Pipeline)
			if rerr != nil {
				err = errors.Join(err, rerr)
			}
			if ok {
				made++
			}
		}
	}
	return made, err
}

// sooner reports whether a pipeline stands for its operation rather than the one found before: it is
// of a later run, or of the same run and not the one that was canceled as too many, or the older.
func sooner(r Reference, p Pipeline, before Reference, old Pipeline) bool {
	switch {
	case r.Run != before.Run:
		return r.Run > before.Run
	case (p.Status == "canceled") != (old.Status == "canceled"):
		return old.Status == "canceled"
	}
	return p.Ref.ID < old.Ref.ID
}

// others returns a function that tells whether a pipeline is known to belong to another operation
// than id; there is no need to look into such. A store that does not answer knows nothing, which
// costs a look and no more.
func (s *Service) others(ctx context.Context, id string) func(PipelineRef) bool {
	return func(ref PipelineRef) bool {
		found := false
		err := s.Store.View(ctx, func(r Reader) error {
			of, err := r.Operations(ctx, Filter{Pipeline: ref, Limit: 2})
			found = slices.ContainsFunc(of, func(op Operation) bool { return op.ID != id })
			return err
		})
		return err == nil && found
	}
}

func (s *Service) openReference(sealed string) (Reference, bool) {
	var r Reference
	text, err := s.Signer.Open(PurposeReference, sealed)
	if err != nil || json.Unmarshal(text, &r) != nil || r.Operation == "" || r.Run < 1 {
		return r, false
	}
	return r, true
}

func (s *Service) recoverOne(ctx context.Context, project string, r Reference, p Pipeline) (bool, error) {
	p.Role = RoleRoot
	created := time.UnixMicro(r.CreatedAt).UTC()
	started := p.CreatedAt
	if started.IsZero() {
		started = created
	}
	now := s.Clock.Now()
	op := Operation{
		ID: r.Operation, State: Running, Run: r.Run, RunBy: r.RunBy, Key: r.Key, Number: r.Number, Project: project,
		Attempt: 1, PostedAt: started, ServerTime: started, Pipelines: []Pipeline{p},
		CreatedAt: created, RunAt: started, StartedAt: started, ChangedAt: now,
		Request: Request{
			Key: "recovered:" + r.Key, Actor: r.Actor, ActorName: r.ActorName, From: r.From,
			Action: r.Action, Target: r.Target, Params: r.Params,
		},
	}
	if !PipelineFinal(p.Status) && PipelineBlocked(p.Status) {
		op.State = Blocked
	}
	if _, action, err := s.Fleet.Action(r.Target.Cluster, r.Action); err == nil {
		op.Follow, op.FollowWithin = action.Follow, action.FollowWithin
	}
	err := s.Store.Update(ctx, func(tx Tx) error {
		if _, err := tx.Operation(ctx, op.ID); !errors.Is(err, ErrNotFound) {
			return ErrDuplicate
		}
		ev := Event{Operation: op.ID, Run: op.Run, Kind: EventRecovered, To: op.State, Actor: r.Actor, At: now}
		if err := tx.Create(ctx, op, []Event{ev}); err != nil {
			return err
		}
		card := Delivery{Operation: op.ID, Kind: DeliverCard, To: r.From, Key: fmt.Sprintf("%s.%s.%d", op.ID, DeliverCard, 0), Ref: r.Card}
		if r.CardIn != nil {
			card.To = *r.CardIn
		}
		if r.Card == "" {
			card.PostingAt = created // it may stand: look before posting
		}
		if err := tx.PutDelivery(ctx, card); err != nil {
			return err
		}
		if err := tx.Wake(ctx, JobDeliver, op.ID, now); err != nil {
			return err
		}
		return tx.Wake(ctx, JobAdvance, op.ID, now)
	})
	switch {
	case errors.Is(err, ErrDuplicate), errors.Is(err, ErrIDTaken):
		return false, nil
	case errors.Is(err, ErrBusy):
		s.Log.Info("not recovered: its instance has a newer unfinished operation", "op", op.ID, "instance", op.Request.Target.String())
		return false, nil
	case err != nil:
		return false, fmt.Errorf("recover operation %s: %w", op.ID, err)
	}
	s.Log.Info("operation recovered from GitLab", "op", op.ID, "pipeline", p.Ref.ID, "instance", op.Request.Target.String())
	return true, nil
}
