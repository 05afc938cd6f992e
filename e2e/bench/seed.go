package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"ocim/ops"
	"ocim/store"
)

const (
	firstPipeline = 9001
	firstNumber   = 1_700_000_000_000
	seedChunk     = 500
	// asleep is until when the bot leaves an operation alone that is to be woken. Much more it would
	// take for the work of a clock that was wrong.
	asleep = 10 * time.Minute
)

func pipelineID(n int64) int64 { return firstPipeline + n }
func number(n int64) int64     { return firstNumber + n }

// seeds says what a store holds before the bot starts.
type seeds struct {
	running int           // operations whose pipelines run
	due     time.Duration // from now until the bot would look at them by itself
	spread  time.Duration // the looks are spread over so long
	ended   int           // operations that ended two days ago
	teams   int           // workspaces that they come from; 0 is one
}

// fill makes the store in dir.
func (s seeds) fill(ctx context.Context, dir string) (err error) {
	st, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "ocim.db")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close(context.WithoutCancel(ctx))) }()
	now := time.Now().UTC()
	all := s.running + s.ended
	for from := 0; from < all; from += seedChunk {
		err := st.Update(ctx, func(tx ops.Tx) error {
			for n := from; n < min(from+seedChunk, all); n++ {
				if err := s.put(ctx, tx, n, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("fill the store: %w", err)
		}
	}
	return nil
}

func (s seeds) put(ctx context.Context, tx ops.Tx, n int, now time.Time) error {
	started := now.Add(-20 * time.Minute)
	if n >= s.running {
		started = now.Add(-48 * time.Hour)
	}
	who := ops.Actor{Platform: "slack", Workspace: team(n % max(1, s.teams)), UserID: user(n % users)}
	where := ops.Conversation{Platform: "slack", Workspace: who.Workspace, Channel: channel(n % channels)}
	i := int64(n)
	op := ops.Operation{
		ID: seedID(n), State: ops.Running, Run: 1, RunBy: who, RunByName: "ann", Key: fmt.Sprintf("%032x", n+1), Number: number(i),
		Attempt: 1, PostedAt: started, ServerTime: started, Project: "grove",
		Request: ops.Request{
			Key: fmt.Sprintf("slack:%032x", n+1), Actor: who, ActorName: "ann", From: where, Action: "deploy",
			Target: ops.Target{Cluster: "eu", Instance: "seeded-" + instance(i)},
		},
		Pipelines: []ops.Pipeline{{
			Ref: ops.PipelineRef{Project: "grove", ID: pipelineID(i)}, Role: ops.RoleRoot, Source: "trigger", Status: "running", GitRef: "main",
			SHA: "bcbb5ec396a2c0f828686f14fac9b80b780504f2", URL: "https://gitlab.bench/ops/grove/-/pipelines/1",
			CreatedAt: started, UpdatedAt: started, StartedAt: started, Jobs: ops.Jobs{Total: len(stages), Running: stages[0], Stage: stages[0]},
		}},
		CreatedAt: started, RunAt: started, StartedAt: started, ChangedAt: started,
	}
	card := ops.Delivery{Operation: op.ID, Kind: ops.DeliverCard, To: where, Key: op.ID + ".card.0", Ref: cardTS(n), SentAt: started}
	ev := []ops.Event{{Operation: op.ID, Run: 1, Kind: ops.EventMoved, To: ops.Requested, Actor: who, At: started}}
	if n >= s.running {
		op.State, op.FinishedAt, op.ChangedAt = ops.Succeeded, started.Add(time.Minute), started.Add(time.Minute)
		op.Pipelines[0].Status, op.Pipelines[0].FinishedAt = "success", op.FinishedAt
		card.Done = true
	}
	if err := tx.Create(ctx, op, ev); err != nil {
		return err
	}
	if err := tx.PutDelivery(ctx, card); err != nil || n >= s.running {
		return err
	}
	due := now.Add(s.due + s.spread*time.Duration(n)/time.Duration(s.running))
	if err := tx.Wake(ctx, ops.JobDeliver, op.ID, due.Add(time.Minute)); err != nil {
		return err
	}
	return tx.Wake(ctx, ops.JobAdvance, op.ID, due)
}

func cardTS(n int) string { return fmt.Sprintf("1763630000.%06d", n) }

// seedID is the id of the n-th operation. Ids have no order in life, so neighbours are far apart.
func seedID(n int) string {
	const letters = "23456789bcdfghjkmnpqrstvwxz"
	out := make([]byte, ops.IDLen)
	for i := range out {
		out[i] = letters[n%len(letters)]
		n /= len(letters)
	}
	return string(out)
}

// copyStore copies the store in one folder to another.
func copyStore(from, to string) error {
	in, err := os.Open(filepath.Join(from, "ocim.db"))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(to, "ocim.db"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// accepted counts the operations that slash commands have made in the store in dir.
func accepted(ctx context.Context, dir string) (n int, err error) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "ocim.db"))
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM operations WHERE instance NOT LIKE 'seeded-%'`).Scan(&n)
	return n, err
}
