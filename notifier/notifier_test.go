package notifier_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/ops"
)

func unavailable() *ops.Error {
	return &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "Chat does not answer."}
}

func (r *rig) limited(d time.Duration) *ops.Error {
	return &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited, Msg: "Slow down.", NotSent: true, RetryAt: r.clock.Now().Add(d)}
}

func TestManyChangesAreFewEdits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.deliver("a")
	for i := range 120 { // two a second for a minute
		r.change("a", running(i, 120))
		r.deliver("a")
		r.clock.Advance(500 * time.Millisecond)
	}
	if got := r.chat.Calls("update"); got < 10 || got > 21 {
		t.Errorf("got %d edits in a minute, want one every three seconds at most", got)
	}
	r.change("a", ended(ops.Succeeded))
	r.deliver("a") // within the gap: the end does not wait
	card := r.card()
	if !strings.Contains(card.Now().Summary, "succeeded") {
		t.Errorf("got %q last, want the end", card.Now().Summary)
	}
	was := -1
	for _, v := range card.Versions[:len(card.Versions)-1] {
		var done, total int
		if i := strings.Index(v.Summary, "running, "); i >= 0 {
			if _, err := fmt.Sscanf(v.Summary[i:], "running, %d of %d jobs", &done, &total); err != nil {
				t.Fatalf("%q: %v", v.Summary, err)
			}
		}
		if done < was {
			t.Errorf("the card went from %d jobs back to %d", was, done)
		}
		was = done
	}
}

func TestNothingIsEditedWhenNothingChanged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.change("a", running(1, 4))
	for range 10 {
		r.deliver("a")
		r.clock.Advance(5 * time.Second)
	}
	if got := r.chat.Calls("update"); got != 0 {
		t.Errorf("got %d edits, want none: only seconds have passed", got)
	}
	r.clock.Advance(20 * time.Second)
	r.deliver("a")
	if got := r.chat.Calls("update"); got != 1 {
		t.Errorf("got %d edits, want 1 after a minute, for the elapsed time", got)
	}
	r.change("a", ended(ops.Succeeded))
	r.settle("a", time.Hour)
	edits, posts := r.chat.Calls("update"), r.chat.Calls("post")
	for range 5 {
		r.settle("a", time.Hour)
	}
	if r.chat.Calls("update") != edits || r.chat.Calls("post") != posts {
		t.Error("an operation that has ended is still written about")
	}
	for _, d := range r.owed("a") {
		if !d.Done {
			t.Errorf("%s is not done", d.Kind)
		}
	}
}

func TestRepliesComeAfterTheCardInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.chat.Fail("post", chattest.Fault{Err: r.limited(10 * time.Second)})
	r.change("a", running(0, 4))
	r.change("a", ended(ops.Failed))
	if again := r.deliver("a"); !again.Equal(r.clock.Now().Add(10 * time.Second)) {
		t.Errorf("got again %v, want when the platform said", again)
	}
	if got := len(r.chat.Sent()); got != 0 {
		t.Fatalf("got %d messages before the card, want none", got)
	}
	r.settle("a", time.Minute)
	sent := r.chat.Sent()
	if len(sent) != 3 {
		t.Fatalf("got %d messages, want card, end and log", len(sent))
	}
	for i, want := range []string{"deploy of demo-a on eu: failed", "deploy of demo-a failed", "Log of build"} {
		if got := sent[i].Now().Summary; !strings.Contains(got, want) {
			t.Errorf("message %d: got %q, want %q", i, got, want)
		}
		if i > 0 && sent[i].To.Thread != sent[0].Ref {
			t.Errorf("message %d: got thread %q, want the card's", i, sent[i].To.Thread)
		}
	}
}

func TestRateLimitIsRespectedWhateverWakesTheCard(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, id := range []string{"a", "b"} {
		r.begin(id)
		r.deliver(id)
	}
	r.clock.Advance(10 * time.Second)
	r.chat.Fail("update", chattest.Fault{Err: r.limited(30 * time.Second)})
	r.change("a", running(0, 4))
	until := r.clock.Now().Add(30 * time.Second)
	if again := r.deliver("a"); !again.Equal(until) {
		t.Errorf("got again %v, want %v", again, until)
	}
	calls := r.chat.Calls("update")
	for i := range 29 { // hooks and polls wake both cards every second
		r.clock.Advance(time.Second)
		r.change("a", running(i, 40))
		r.change("b", running(i, 40))
		for _, id := range []string{"a", "b"} {
			if again := r.deliver(id); !again.After(r.clock.Now()) || again.After(until.Add(10*time.Second)) {
				t.Fatalf("%s: got again %v, want it to wait until about %v", id, again, until)
			}
		}
	}
	if got := r.chat.Calls("update"); got != calls {
		t.Errorf("got %d calls while the platform asked to wait, want none", got-calls)
	}
	r.change("a", ended(ops.Succeeded))
	r.settle("a", time.Minute)
	if got := r.cards()[0].Now().Summary; !strings.Contains(got, "succeeded") {
		t.Errorf("got %q, want the end in spite of the limit", got)
	}
}

func TestRateLimitOfPostsHoldsTheChannelOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.chat.Fail("post", chattest.Fault{Err: r.limited(20 * time.Second)})
	r.deliver("a")
	r.begin("b")
	r.deliver("b")
	if got := r.chat.Calls("post"); got != 1 {
		t.Errorf("got %d posts, want the second one to wait as well", got)
	}
	r.settle("a", 30*time.Second)
	r.settle("b", 30*time.Second)
	if got := len(r.cards()); got != 2 {
		t.Errorf("got %d cards, want 2", got)
	}
}

func TestFinalEditArrivesAfterAnyTrouble(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		faults func(*rig) []chattest.Fault
	}{
		{"down for an hour", func(*rig) []chattest.Fault { return repeat(chattest.Fault{Err: unavailable()}, 60) }},
		{"answers lost", func(*rig) []chattest.Fault { return repeat(chattest.Fault{Err: unavailable(), Lost: true}, 5) }},
		{"limited", func(r *rig) []chattest.Fault { return repeat(chattest.Fault{Err: r.limited(time.Minute)}, 3) }},
		{"a plain error", func(*rig) []chattest.Fault { return repeat(chattest.Fault{Err: context.DeadlineExceeded}, 4) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.begin("a")
			r.change("a", running(1, 4))
			r.settle("a", 30*time.Second)
			r.chat.Fail("update", tt.faults(r)...)
			r.change("a", ended(ops.Failed))
			r.settle("a", 2*time.Hour)
			if got := r.card().Now().Summary; !strings.Contains(got, "failed") {
				t.Errorf("got %q, want the end", got)
			}
			if got := len(r.replies()); got != 2 {
				t.Errorf("got %d replies, want end and log once", got)
			}
		})
	}
}

func repeat(f chattest.Fault, n int) []chattest.Fault {
	out := make([]chattest.Fault, n)
	for i := range out {
		out[i] = f
	}
	return out
}

func TestDeletedCardIsMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.settle("a", 10*time.Second)
	old := r.card().Ref
	r.chat.Delete(old)
	r.change("a", running(1, 4))
	r.settle("a", 10*time.Second)
	card := r.card()
	if card.Ref == old || !strings.Contains(card.Now().Summary, "running") {
		t.Errorf("got %+v, want a new card with the present state", card.Now().Summary)
	}
	r.change("a", ended(ops.Failed))
	r.settle("a", time.Minute)
	for _, reply := range r.replies() {
		if reply.To.Thread != card.Ref {
			t.Errorf("got a reply in thread %q, want the new card's", reply.To.Thread)
		}
	}
}

func TestEveryWordIsSaidOnce(t *testing.T) {
	t.Parallel()
	lost := chattest.Fault{Err: unavailable(), Lost: true}
	none := chattest.Fault{Err: unavailable()}
	for _, tt := range []struct {
		name   string
		faults []chattest.Fault
		blind  bool
		want   int // messages
	}{
		{"no trouble", nil, false, 3},
		{"every answer lost", []chattest.Fault{lost, lost, lost}, false, 3},
		{"every request lost", []chattest.Fault{none, none, none}, false, 3},
		{"lost and looked for in vain", []chattest.Fault{none, lost, none, lost, none, lost}, false, 3},
		{"one answer lost, and no right to look", []chattest.Fault{lost}, true, 4}, // the stated price
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.chat.Fail("post", tt.faults...)
			if tt.blind {
				r.chat.CannotFind()
			}
			r.begin("a")
			r.settle("a", 5*time.Minute)
			r.change("a", running(1, 4))
			r.change("a", ended(ops.Failed))
			r.settle("a", 30*time.Minute)
			r.settle("a", 30*time.Minute)
			sent := r.chat.Sent()
			loud := 0
			for _, s := range sent {
				if s.Now().Broadcast {
					loud++
				}
			}
			if len(sent) != tt.want || loud != 1 {
				t.Errorf("got %d messages, %d of them loud, want %d and 1", len(sent), loud, tt.want)
			}
		})
	}
}

func TestCrashBetweenPostAndRecordMakesNoSecondMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	ctx, cancel := context.WithCancel(t.Context())
	// The message stands, and the process ends before it can record that.
	r.chat.Fail("post", chattest.Fault{Err: context.Canceled, Lost: true})
	if _, err := r.notifier.Deliver(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	cancel()
	r.restart()
	r.settle("a", time.Minute)
	if got := r.chat.Calls("post"); got != 1 {
		t.Errorf("got %d posts, want 1", got)
	}
	if ds := r.owed("a"); ds[0].Ref != r.card().Ref {
		t.Errorf("got card %q on disk, want %q", ds[0].Ref, r.card().Ref)
	}
}

func TestChatThatHangsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.chat.Fail("post", chattest.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _ = r.notifier.Deliver(ctx, "a") // whether it could record that is not sure
	r.settle("a", time.Minute)
	if got := len(r.cards()); got != 1 {
		t.Errorf("got %d cards, want 1", got)
	}
}

func TestChannelWithoutTheBotIsReplacedByTheDirectMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.chat.Evict("ops")
	r.begin("a")
	r.settle("a", time.Minute)
	if card := r.card(); card.To.Channel != "DU-ANN" {
		t.Errorf("got the card in %q, want it told to the person who asked", card.To.Channel)
	}
	r.change("a", running(1, 4))
	r.change("a", ended(ops.Failed))
	r.settle("a", time.Hour)
	if got := len(r.replies()); got != 2 || r.replies()[0].To.Channel != "DU-ANN" {
		t.Errorf("got %+v, want both replies below the card", r.replies())
	}
}

func TestBotThatIsRemovedMeanwhileStillTellsTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.change("a", running(1, 4))
	r.settle("a", time.Minute)
	r.chat.Evict("ops")
	r.chat.Fail("update", repeat(chattest.Fault{Err: &ops.Error{Code: ops.CodeDenied, Msg: "Not here."}}, 1000)...)
	r.change("a", ended(ops.Failed))
	r.settle("a", time.Hour)
	var direct []string
	for _, s := range r.chat.Sent() {
		if s.To.Channel == "DU-ANN" {
			direct = append(direct, s.Now().Summary)
		}
	}
	if len(direct) != 3 || !strings.Contains(direct[0], "on eu: failed") || !strings.Contains(direct[1], "demo-a failed") || !strings.Contains(direct[2], "Log of build") {
		t.Errorf("got direct messages %q, want a card, the end and the log, once", direct)
	}
	calls := r.chat.Calls("update")
	r.settle("a", time.Hour)
	if got := r.chat.Calls("update"); got != calls {
		t.Errorf("got %d more edits of a card that may not be edited, want none", got-calls)
	}
}

func TestRefusedContentIsNotSentForEver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.change("a", running(1, 4))
	r.settle("a", time.Minute)
	refused := chattest.Fault{Err: &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "No."}}
	r.chat.Fail("update", refused)
	r.change("a", ended(ops.Succeeded))
	r.settle("a", time.Hour)
	for _, d := range r.owed("a") {
		if !d.Done {
			t.Errorf("%s is not done: it would be tried for ever", d.Kind)
		}
	}
	if n, err := r.store.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("got %d wake-ups for what is given up, %v, want none", n, err)
	}
	if got := len(r.replies()); got != 1 {
		t.Errorf("got %d replies, want the end to be told", got)
	}
	if !strings.Contains(r.log.String(), "chat refuses the card's content") {
		t.Errorf("got log %s, want a word for the operator", r.log)
	}
}

func TestPlatformThatIsGoneIsAnError(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.update(func(tx ops.Tx) error {
		ds, err := tx.Deliveries(t.Context(), "a")
		if err != nil {
			return err
		}
		ds[0].To.Platform = "old"
		return tx.PutDelivery(t.Context(), ds[0])
	})
	if _, err := r.notifier.Deliver(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), `platform "old"`) {
		t.Errorf("got %v, want the platform's name", err)
	}
	if again, err := r.notifier.Deliver(t.Context(), "nobody"); err != nil || !again.IsZero() {
		t.Errorf("an operation that is not there: got %v, %v, want nothing to do", again, err)
	}
}

func TestRetryKeepsTheCard(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.begin("a")
	r.change("a", running(1, 4))
	r.change("a", ended(ops.Failed))
	r.settle("a", time.Minute)
	card := r.card().Ref
	r.change("a", func(op *ops.Operation) {
		op.State, op.Run, op.Failure, op.Reason, op.Pipelines, op.FinishedAt = ops.Requested, 2, nil, "", nil, time.Time{}
		op.RunBy, op.RunByName, op.RunAt = ops.Actor{Platform: "fake", Workspace: "main", UserID: "U-BEN"}, "Ben", r.clock.Now()
	})
	r.settle("a", time.Minute)
	r.change("a", running(1, 4))
	r.change("a", ended(ops.Succeeded))
	r.settle("a", time.Minute)
	if got := r.card(); got.Ref != card || !strings.Contains(got.Now().Summary, "succeeded") {
		t.Errorf("got card %s %q, want %s with the second run's end", got.Ref, got.Now().Summary, card)
	}
	if got := len(r.replies()); got != 3 {
		t.Errorf("got %d replies, want end and log of the first run and the end of the second", got)
	}
}

func TestManyOperationsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const n = 20
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("op", i)
		r.begin(ids[i])
	}
	round := func() {
		var all sync.WaitGroup
		for _, id := range ids {
			all.Go(func() {
				if _, err := r.notifier.Deliver(t.Context(), id); err != nil {
					t.Errorf("deliver %s: %v", id, err)
				}
			})
		}
		all.Wait()
	}
	for i := range 170 { // a round a second
		switch i {
		case 30:
			for _, id := range ids {
				r.change(id, running(1, 4))
			}
		case 60:
			for _, id := range ids {
				r.change(id, ended(ops.Failed))
			}
		}
		round()
		r.clock.Advance(time.Second)
	}
	if got := len(r.cards()); got != n {
		t.Errorf("got %d cards, want %d", got, n)
	}
	for _, c := range r.cards() {
		if !strings.Contains(c.Now().Summary, "failed") {
			t.Errorf("got %q last, want the end", c.Now().Summary)
		}
	}
	if got := len(r.replies()); got != 2*n {
		t.Errorf("got %d replies, want %d", got, 2*n)
	}
}

// A fresh install has nothing to configure away: of a whole deploy a channel sees one card, and one
// more message only if somebody has to act. All else is an edit, at most one in three seconds, or
// stands in the card's thread; nobody is mentioned but the person who asked for the run.
func TestW05_FreshInstallPostsOnlyWhatSomebodyCanActOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		end             ops.State
		channel, thread int // messages that the channel, and only the thread, shows
	}{
		{ops.Succeeded, 1, 1},
		{ops.Canceled, 1, 1},
		{ops.Failed, 2, 1}, // the failure is told, its log is in the thread
		{ops.Expired, 2, 0},
	} {
		t.Run(string(tt.end), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.begin("a")
			r.deliver("a")
			r.change("a", func(op *ops.Operation) { op.State = ops.Starting })
			r.deliver("a")
			const seconds = 5 * 60
			for i := range seconds { // with a hook every second
				r.change("a", running(i/5, 60))
				r.deliver("a")
				r.clock.Advance(time.Second)
			}
			r.change("a", ended(tt.end))
			r.settle("a", time.Hour)
			channel, thread := 0, 0
			for _, s := range r.chat.Sent() {
				if s.To.Thread == "" || s.Now().Broadcast {
					channel++
				} else {
					thread++
				}
				for _, m := range s.Versions {
					checkMentions(t, m, s.To.Thread != "")
				}
			}
			if channel != tt.channel || thread != tt.thread {
				t.Errorf("got %d messages in the channel and %d in the thread, want %d and %d", channel, thread, tt.channel, tt.thread)
			}
			if got := r.chat.Calls("update"); got > seconds/3+3 {
				t.Errorf("got %d edits in five minutes, want at most one in three seconds", got)
			}
		})
	}
}

// checkMentions checks that a message calls nobody but, in a reply, the person who asked.
func checkMentions(t *testing.T, m chat.Message, reply bool) {
	t.Helper()
	for _, b := range m.Blocks {
		for _, s := range b.Text {
			if s.Style == chat.Mention && (!reply || s.User != "U-ANN") {
				t.Errorf("%q mentions %q", m.Summary, s.User)
			}
		}
	}
}
