package ops

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Every rule about states is checked against the model, from every state that can be reached and
// with every input, whether it fits or not.
func TestI06_RandomWalkAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			w := newWalk(t, seed)
			for w.steps < 30_000 && !t.Failed() {
				w.step()
			}
			for _, s := range []State{Requested, Queued, Starting, Running, Blocked, Canceling, Succeeded, Failed, Canceled, Refused, Expired} {
				for _, in := range w.inputs() {
					if kind := fmt.Sprintf("%T", in); w.tried[s][kind] == 0 {
						t.Errorf("%s was never tried in state %s", kind, s)
					}
				}
			}
			for s := range w.tried {
				if s == Watching || s == AwaitingApproval || s == Rejected || s == Stale {
					t.Errorf("state %s has no way in, but was reached", s)
				}
			}
		})
	}
}

type walk struct {
	t     *testing.T
	rand  *rand.Rand
	now   time.Time
	op    Operation
	model model
	steps int
	keys  int
	posts int
	tried map[State]map[string]int
}

func newWalk(t *testing.T, seed uint64) *walk {
	t.Helper()
	w := &walk{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), tried: map[State]map[string]int{}}
	w.restart()
	return w
}

func (w *walk) restart() {
	w.keys++
	w.op = Operation{
		ID: "k7m2qx", State: Requested, Run: 1, Key: strconv.Itoa(w.keys), Number: int64(w.keys), Version: 7,
		CreatedAt: w.now, RunAt: w.now, ChangedAt: w.now,
	}
	w.model, w.posts = model{state: Requested, run: 1}, 0
}

// inputs is one of each kind, as it could come now.
func (w *walk) inputs() []Input {
	w.keys++
	bob := Actor{"slack", "T1", "U2"}
	return []Input{
		Unreachable{ReasonGitLabUnavailable, "away"},
		Refuse{ReasonUnknownInstance, "no such instance"},
		Expire{},
		Intend{ServerTime: w.now, Expected: time.Minute},
		Posting{},
		NotSent{Reason: ReasonRateLimited, Msg: "slow down", Lost: w.rand.IntN(2) == 0},
		Created{Pipeline: w.pipeline(1, w.word(), w.now), Adopted: w.rand.IntN(2) == 0},
		GitLabRefused{ReasonGitLabRefused, "no"},
		w.look(),
		Gone{},
		Abandoned{"away all day"},
		LookFailed{ReasonGitLabUnavailable, "away"},
		CancelAsked{By: bob},
		RetryAsked{By: bob, ByName: "bob", Key: strconv.Itoa(w.keys), Number: int64(w.keys)},
	}
}

func (w *walk) word() string {
	words := []string{
		"created", "waiting_for_resource", "preparing", "waiting_for_callback", "pending", "running", "canceling", "word_of_tomorrow",
		"success", "failed", "canceled", "skipped", "success", "failed", "canceled", "skipped", "manual", "scheduled", "manual", "scheduled",
	}
	return words[w.rand.IntN(len(words))]
}

func (w *walk) pipeline(id int64, word string, at time.Time) Pipeline {
	p := Pipeline{Ref: PipelineRef{"grove", id}, Role: RoleChild, Parent: 1, Status: word, UpdatedAt: at}
	if id == 1 {
		p.Role, p.Parent = RoleRoot, 0
	}
	return p
}

// look is what GitLab shows: all known pipelines and sometimes a new child, or what a replica that
// lags shows.
func (w *walk) look() Seen {
	n, at := len(w.op.Pipelines), w.now
	if stale := w.rand.IntN(4) == 0 && n > 0; stale {
		at = at.AddDate(0, 0, -1)
	} else if n < 3 && (n == 0 || w.rand.IntN(3) == 0) {
		n++
	}
	var s Seen
	word, same := w.word(), w.rand.IntN(2) == 0
	for i := range n {
		if !same {
			word = w.word()
		}
		s.Snapshot.Pipelines = append(s.Snapshot.Pipelines, w.pipeline(int64(i+1), word, at))
	}
	return s
}

func (w *walk) step() {
	w.steps++
	w.now = w.now.Add(time.Duration(1+w.rand.IntN(90)) * time.Second)
	all := w.inputs()
	in := all[w.rand.IntN(len(all))]
	before, model := w.op, w.model
	if onwards := []Input{all[3], all[4], all[6], all[8]}; w.rand.IntN(2) == 0 { // so that the late states are met often
		in = onwards[w.rand.IntN(len(onwards))]
	}
	if w.tried[before.State] == nil {
		w.tried[before.State] = map[string]int{}
	}
	w.tried[before.State][fmt.Sprintf("%T", in)]++

	// What transition is given must stay as it was, also where it shares memory.
	frozen := before
	frozen.Pipelines = slices.Clone(before.Pipelines)
	after, events, err := transition(before, in, w.now)
	if !reflect.DeepEqual(before, frozen) {
		w.t.Fatalf("step %d: %T changed its argument", w.steps, in)
	}

	second := before.State == Canceling || before.State == Starting && !before.CancelAt.IsZero()
	model.away = second && !before.ErrorSince.IsZero() && w.now.Sub(before.ErrorSince) >= giveUpAfter
	fits := model.fits(in)
	if (err == nil) != fits {
		w.t.Fatalf("step %d: %T in %s (run %d): got error %v, want it to fit: %t", w.steps, in, before.State, before.Run, err, fits)
	}
	if err != nil {
		if !reflect.DeepEqual(after, before) || events != nil {
			w.t.Fatalf("step %d: refused %T changed the operation: %+v, %+v", w.steps, in, after, events)
		}
		return
	}
	if seen, ok := in.(Seen); ok {
		var words []string
		for _, p := range seen.Snapshot.Pipelines {
			words = append(words, p.Status)
		}
		stale := len(words) > 0 && seen.Snapshot.Pipelines[0].UpdatedAt.Before(w.now)
		model = model.saw(words, stale)
	} else {
		model, _ = model.next(in)
	}
	got, want := w.model, model
	got.state, got.run, got.outstanding, got.wish, got.posts = after.State, after.Run, after.Outstanding, !after.CancelAt.IsZero(), after.Attempt
	if got.state != want.state || got.run != want.run || got.outstanding != want.outstanding || got.wish != want.wish || got.posts != want.posts {
		w.t.Fatalf("step %d: %T %+v in %s: got %+v, want %+v", w.steps, in, in, before.State, got, want)
	}
	w.hold(before, after, in, events)
	w.op, w.model = after, model
	if after.State.Final() && w.rand.IntN(25) == 0 {
		w.restart()
	}
}

// hold checks what must be so whatever the model says.
func (w *walk) hold(before, after Operation, in Input, events []Event) {
	fail := func(format string, args ...any) {
		w.t.Helper()
		w.t.Fatalf("step %d: %T from %s to %s: %s", w.steps, in, before.State, after.State, fmt.Sprintf(format, args...))
	}
	switch {
	case after.Run == before.Run:
		if before.State.Final() && after.State != before.State {
			fail("a final state was left without a new run")
		}
		if after.Key != before.Key || after.Number != before.Number {
			fail("key or number changed within a run")
		}
		if !before.CancelAt.IsZero() && after.CancelAt.IsZero() {
			fail("the wish to cancel was forgotten")
		}
	case after.Run != before.Run+1 || !before.State.Final() || after.State.Final():
		fail("run %d became run %d", before.Run, after.Run)
	}
	if after.Version != before.Version || after.ID != before.ID || after.CreatedAt != before.CreatedAt {
		fail("version, id and time of creation are not for transition to change")
	}
	if after.Outstanding && after.State != Starting {
		fail("a POST is outstanding in state %s", after.State)
	}
	if after.State.Final() == after.FinishedAt.IsZero() {
		fail("finished at %s", after.FinishedAt)
	}
	w.chain(before, after, events, fail)
}

// chain checks that the events tell the whole way from one state to the other, and no other.
func (w *walk) chain(before, after Operation, events []Event, fail func(string, ...any)) {
	at, opened := before.State, 0
	for _, e := range events {
		if e.Operation != after.ID || e.Run != after.Run || !e.At.Equal(w.now) {
			fail("event %+v is not of this change", e)
		}
		switch e.Kind {
		case EventMoved:
			if e.From != at || e.To == e.From || !e.From.CanBecome(e.To) {
				fail("event %+v, want a step from %s", e, at)
			}
			at = e.To
		case EventNewRun, EventReopened:
			if e.From != at || !at.Final() {
				fail("event %+v, want it from %s", e, at)
			}
			at, opened = e.To, opened+1
		case EventExtra:
		case EventPosting:
			if before.State != Starting || before.Outstanding || !after.Outstanding || after.State != Starting {
				fail("a POST was announced outside of starting, or beside another")
			}
		case EventCancelAsked:
			if e.Actor == (Actor{}) {
				fail("nobody asked for the cancel")
			}
		case EventNotSent, EventAdopted, EventRecovered:
		}
	}
	if at != after.State || opened != after.Run-before.Run {
		fail("events %+v lead to %s and open %d runs", events, at, opened)
	}
	if posted := after.Outstanding && !before.Outstanding; posted != slices.ContainsFunc(events, func(e Event) bool { return e.Kind == EventPosting }) {
		fail("posting without its event, or the other way round: %+v", events)
	}
}

// States that have no way in yet must still keep to the table, for whoever opens one.
func TestI06_NoInputLeavesTheTableFromAnyState(t *testing.T) {
	t.Parallel()
	w := newWalk(t, 99)
	for _, s := range States() {
		for range 200 {
			for _, in := range w.inputs() {
				op := Operation{ID: "k7m2qx", State: s, Run: 3, Pipelines: []Pipeline{w.pipeline(1, w.word(), w.now)}, Outstanding: s == Starting && w.rand.IntN(2) == 0}
				if s.Final() {
					op.FinishedAt = w.now
				}
				after, events, err := transition(op, in, w.now)
				if err != nil {
					after = op
				}
				for _, e := range events {
					if e.Kind == EventMoved && !e.From.CanBecome(e.To) {
						t.Fatalf("%T led from %s to %s", in, e.From, e.To)
					}
				}
				if after.Run == op.Run && after.State != s && len(events) == 0 {
					t.Fatalf("%T led from %s to %s without an event", in, s, after.State)
				}
				if after.Run != op.Run && (!s.Final() || after.Run != op.Run+1) {
					t.Fatalf("%T in %s led from run %d to %d", in, s, op.Run, after.Run)
				}
			}
		}
	}
}

func TestStateTable(t *testing.T) {
	t.Parallel()
	all := States()
	if slices.Contains(all, "") || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Fatalf("got states %v, want each one once", all)
	}
	for _, s := range all {
		if s.Final() != (len(s.Next()) == 0) {
			t.Errorf("%s: final %t, but next %v", s, s.Final(), s.Next())
		}
		if !s.CanBecome(s) {
			t.Errorf("%s cannot stay", s)
		}
		for _, n := range s.Next() {
			if !slices.Contains(all, n) || n == s || n == Requested {
				t.Errorf("%s: next %q is no state, is itself, or goes back to the start", s, n)
			}
		}
	}
	if State("").Final() || State("word_of_tomorrow").Final() || State("").Next() != nil {
		t.Error("an unknown state counts as final or leads somewhere")
	}
}
