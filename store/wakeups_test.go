package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ocim/internal/clock"
	"ocim/ops"
)

// wish is what the model knows of one id's wake-up.
type wish struct {
	due   int64 // never: nobody has asked since the worker took it
	dirty bool  // somebody has
	lease int64 // 0: nobody has it
}

func (w wish) ready() int64 {
	if w.lease > 0 {
		return w.lease
	}
	return w.due
}

// TestWakeupsAgainstModel plays random wishes, takings, endings, failures, hangs and restarts, and
// compares the table with a model that is as simple as the promise: whoever wishes is served by
// work that begins after the wish and not before its time.
func TestWakeupsAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			playWakeups(t, rand.New(rand.NewPCG(seed, 0)), 400)
		})
	}
}

func playWakeups(t *testing.T, r *rand.Rand, steps int) {
	t.Helper()
	c := clock.NewFake(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
	path := filepath.Join(t.TempDir(), "ocim.db")
	s, err := Open(t.Context(), Options{Path: path, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.WithoutCancel(t.Context())) }()
	model := map[string]wish{}
	var working []job
	within := func(most int) time.Duration { return time.Duration(r.IntN(most)) * time.Second }
	for range steps {
		now := micros(c.Now())
		switch r.IntN(8) {
		case 0, 1, 2:
			id, at := fmt.Sprint("op", r.IntN(5)), c.Now().Add(within(40)-10*time.Second)
			if err := s.wakeAll(t.Context(), ops.JobAdvance, []string{id}, at); err != nil {
				t.Fatal(err)
			}
			w, ok := model[id]
			if !ok {
				w.due = never
			}
			model[id] = wish{min(w.due, micros(at)), true, w.lease}
		case 3, 4:
			js, next, err := s.take(t.Context(), ops.JobAdvance, r.IntN(4))
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range js {
				w, ok := model[j.id]
				if !ok || w.ready() > now {
					t.Fatalf("took %s too early: %+v at %d", j.id, w, now)
				}
				model[j.id] = wish{never, false, j.lease}
			}
			working = append(working, js...)
			want := never
			for _, w := range model {
				want = min(want, w.ready())
			}
			if next != want {
				t.Fatalf("next due: got %d, want %d", next, want)
			}
		case 5, 6:
			if len(working) == 0 {
				continue
			}
			i := r.IntN(len(working))
			j := working[i]
			working = slices.Delete(working, i, i+1)
			endJob(t, s, c.Now(), model, j, r.IntN(3), c.Now().Add(within(20)))
		case 7:
			if r.IntN(8) == 0 {
				s, working = restart(t, s, Options{Path: path, Clock: c}, model), nil
				continue
			}
			c.Advance(within(30))
		}
		compareWakeups(t, s, model)
	}
}

// endJob ends a job in the store and in the model: how is 0 for done, 1 for again, 2 for failed.
func endJob(t *testing.T, s *Store, now time.Time, model map[string]wish, j job, how int, again time.Time) {
	t.Helper()
	var failed error
	if how != 1 {
		again = time.Time{}
	}
	if how == 2 {
		failed = errors.New("on purpose")
	}
	err := s.writer.do(t.Context(), func(tx *tx) error { return tx.complete(j, again, failed, now) })
	if err != nil {
		t.Fatal(err)
	}
	w := model[j.id]
	if w.lease != j.lease {
		return // another worker has taken it over, or the process was restarted
	}
	switch {
	case how == 2:
		// The pause is random: take it from the store, but within bounds and not before.
		due, _, err := s.NextDueOf(t.Context(), j.id)
		if low, high := micros(now)+500_000, micros(now)+60_000_000; err != nil || due < low || due > high {
			t.Fatalf("failed %s is due at %d (%v), want between %d and %d", j.id, due, err, low, high)
		}
		model[j.id] = wish{due: due, dirty: true}
	case how == 1:
		model[j.id] = wish{due: min(w.due, micros(again)), dirty: true}
	case w.dirty:
		model[j.id] = wish{due: w.due, dirty: true}
	default:
		delete(model, j.id)
	}
}

func restart(t *testing.T, s *Store, o Options, model map[string]wish) *Store {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for id, w := range model {
		if w.lease > 0 {
			model[id] = wish{due: micros(o.Clock.Now()), dirty: true}
		}
	}
	return s
}

// NextDueOf reads one wake-up.
func (s *Store) NextDueOf(ctx context.Context, id string) (due, lease int64, err error) {
	err = s.borrow(ctx, func(c *conn) error {
		_, err := c.one([]any{&due, &lease}, `SELECT due_at, leased_until FROM wakeups WHERE id = $1 AND kind = $2`, id, string(ops.JobAdvance))
		return err
	})
	return due, lease, err
}

func compareWakeups(t *testing.T, s *Store, model map[string]wish) {
	t.Helper()
	var ids []string
	err := s.view(t.Context(), func(r *reader) (err error) {
		ids, err = r.texts(`SELECT id FROM wakeups ORDER BY id`)
		return err
	})
	if want := slices.Sorted(maps.Keys(model)); err != nil || !slices.Equal(ids, want) {
		t.Fatalf("wake-ups: got %v, %v, want %v", ids, err, want)
	}
	for id, w := range model {
		due, lease, err := s.NextDueOf(t.Context(), id)
		if err != nil || due != w.due || lease != w.lease {
			t.Fatalf("%s: got due %d, lease %d, %v, want %+v", id, due, lease, err, w)
		}
	}
}
