package storetest

import (
	"errors"
	"slices"
	"time"

	"ocim/ops"
)

func filters(s *suite) {
	t := s.t
	for i := range 4 {
		op := Full(i)
		op.State = ops.Requested
		if i == 1 {
			op.State = ops.Succeeded
		}
		if i == 3 {
			op.Request.Target.Cluster, op.Request.Target.Instance = "other", "demo2"
		}
		s.create(t, op)
	}
	for _, test := range []struct {
		name string
		f    ops.Filter
		want []string
	}{
		{"all, newest first", ops.Filter{}, []string{"op3", "op2", "op1", "op0"}},
		{"limit", ops.Filter{Limit: 2}, []string{"op3", "op2"}},
		{"unfinished", ops.Filter{Unfinished: true}, []string{"op3", "op2", "op0"}},
		{"cluster", ops.Filter{Target: ops.Target{Cluster: "main"}}, []string{"op2", "op1", "op0"}},
		{"target", ops.Filter{Target: ops.Target{Cluster: "main", Instance: "demo2"}}, []string{"op2"}},
		{"instance on any cluster", ops.Filter{Target: ops.Target{Instance: "demo2"}}, []string{"op3", "op2"}},
		{"request key", ops.Filter{RequestKey: Op(1).Request.Key}, []string{"op1"}},
		{"key", ops.Filter{Key: Op(2).Key}, []string{"op2"}},
		{"number", ops.Filter{Number: Op(2).Number}, []string{"op2"}},
		{"pipeline", ops.Filter{Pipeline: ops.PipelineRef{Project: "group/child", ID: 101}}, []string{"op1"}},
		{"pipeline of another project", ops.Filter{Pipeline: ops.PipelineRef{Project: "group/x", ID: 101}}, []string{}},
		{"two at once", ops.Filter{Unfinished: true, Number: Op(1).Number}, []string{}},
		{
			"everything at once", ops.Filter{
				Unfinished: true, Target: Op(2).Request.Target, RequestKey: Op(2).Request.Key, Key: Op(2).Key,
				Number: Op(2).Number, Pipeline: Full(2).Pipelines[0].Ref, Limit: 9,
			}, []string{"op2"},
		},
	} {
		same(t, test.name, s.list(t, test.f), test.want)
	}
}

func eventsInOrder(s *suite) {
	t := s.t
	op, other := Op(1), Op(2)
	who := ops.Actor{Platform: "slack", Workspace: "T1", UserID: "U1"}
	ev := func(run int, kind ops.EventKind, from, to ops.State) ops.Event {
		// All at one instant: the order is that of writing, not of time.
		return ops.Event{Operation: op.ID, Run: run, Kind: kind, From: from, To: to, Reason: ops.ReasonJobFailed, Actor: who, At: Start}
	}
	all := []ops.Event{
		ev(1, ops.EventMoved, "", ops.Requested), ev(1, ops.EventPosting, "", ""), ev(1, ops.EventMoved, ops.Requested, ops.Starting),
		ev(2, ops.EventNewRun, ops.Failed, ops.Requested),
	}
	s.update(t, func(tx ops.Tx) error { return tx.Create(t.Context(), op, all[:1]) })
	s.update(t, func(tx ops.Tx) error { return tx.Create(t.Context(), other, all[:1]) })
	s.update(t, func(tx ops.Tx) error { return tx.Move(t.Context(), op, all[1:3]) })
	op.Version++
	s.update(t, func(tx ops.Tx) error { return tx.Move(t.Context(), op, all[3:]) })
	err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Move(t.Context(), op, all[:1]) })
	is(t, "stale move", err, ops.ErrStale)
	err = s.View(t.Context(), func(r ops.Reader) error {
		got, err := r.Events(t.Context(), op.ID)
		same(t, "events", got, all)
		return err
	})
	is(t, "view", err, nil)
}

func durations(s *suite) {
	t := s.t
	for i := range 6 {
		op := Op(i)
		op.Request.Target.Instance = []string{"a", "b"}[i%2]
		op.State, op.FinishedAt = ops.Succeeded, op.RunAt.Add(time.Duration(i+1)*time.Minute)
		switch i {
		case 3:
			op.State = ops.Failed
		case 4:
			op.StartedAt = op.RunAt.Add(time.Minute)
		case 5:
			op.Request.Action = "restart"
		}
		s.create(t, op)
	}
	const m = time.Minute
	for _, test := range []struct {
		name   string
		target ops.Target
		n      int
		want   []time.Duration
	}{
		{"instance", ops.Target{Cluster: "main", Instance: "a"}, 9, []time.Duration{4 * m, 3 * m, m}},
		{"cluster", ops.Target{Cluster: "main"}, 9, []time.Duration{4 * m, 3 * m, 2 * m, m}},
		{"at most", ops.Target{Cluster: "main"}, 2, []time.Duration{4 * m, 3 * m}},
		{"other cluster", ops.Target{Cluster: "x"}, 9, nil},
	} {
		err := s.View(t.Context(), func(r ops.Reader) error {
			got, err := r.Durations(t.Context(), "deploy", test.target, test.n)
			same(t, test.name, got, test.want)
			return err
		})
		is(t, test.name, err, nil)
	}

	// A run that was successful counts also when the operation has gone on to another one.
	op := s.get(t, "op0")
	op.Run, op.Key, op.Number, op.State, op.FinishedAt = 2, "second", 5000, ops.Running, time.Time{}
	op = s.move(t, op)
	err := s.View(t.Context(), func(r ops.Reader) error {
		got, err := r.Durations(t.Context(), "deploy", op.Request.Target, 9)
		same(t, "with an earlier run", got, []time.Duration{4 * m, 3 * m, m})
		return err
	})
	is(t, "view", err, nil)
}

func messages(s *suite) {
	t := s.t
	op := Full(1)
	s.create(t, op)
	card := ops.Delivery{Operation: op.ID, Kind: ops.DeliverCard, To: op.Request.From, Key: "card"}
	end := ops.Delivery{
		Operation: op.ID, Run: 1, Kind: ops.DeliverEnd, To: op.Request.From, Key: "end", Ref: "123.4", Hash: "h",
		PostingAt: Start, SentAt: Start.Add(time.Second), Attempts: 2, Snapshot: &op,
	}
	put := func(d ops.Delivery) error {
		return s.Update(t.Context(), func(tx ops.Tx) error { return tx.PutDelivery(t.Context(), d) })
	}
	is(t, "end", put(end), nil)
	is(t, "card", put(card), nil)
	is(t, "card twice", put(card), ops.ErrStale)
	is(t, "of nobody", put(ops.Delivery{Operation: "nobody", Kind: ops.DeliverCard}), ops.ErrNotFound)
	card.Version, end.Version = 1, 1
	end.Done, end.Ref = true, "567.8"
	is(t, "end again", put(end), nil)
	is(t, "end again with an old version", put(end), ops.ErrStale)
	end.Version++
	err := s.View(t.Context(), func(r ops.Reader) error {
		got, err := r.Deliveries(t.Context(), op.ID)
		same(t, "messages, in the order in which they were owed", got, []ops.Delivery{end, card})
		return err
	})
	is(t, "view", err, nil)
}

func seenRequests(s *suite) {
	t := s.t
	acted := 0
	errs := together(100, func(int) error {
		return s.Update(t.Context(), func(tx ops.Tx) error { return tx.Seen(t.Context(), "click", "op1", Start) })
	})
	for _, err := range errs {
		if err == nil {
			acted++
		} else {
			is(t, "repeated request", err, ops.ErrDuplicate)
		}
	}
	if acted != 1 {
		t.Errorf("requests that acted: got %d, want 1", acted)
	}
	failed := errors.New("failed")
	see := func(end error) error {
		return s.Update(t.Context(), func(tx ops.Tx) error {
			return errors.Join(tx.Seen(t.Context(), "other", "op1", Start), end)
		})
	}
	is(t, "seen by an update that failed", see(failed), failed)
	is(t, "seen after that", see(nil), nil)
	if slices.Contains(errs, see(nil)) {
		t.Error("seen twice: got no error")
	}
}
