package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/ops"
)

// noPlace, noToken and noAnswer are what a platform answers to a bot that is not in the channel, to
// a token that is not accepted, and not at all.
func noPlace() chattest.Fault {
	return chattest.Fault{Err: &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonChatUnavailable, Msg: "The bot may not write here."}}
}

func noToken() chattest.Fault {
	return chattest.Fault{Err: &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonChatUnauthorized, Msg: "The token is not accepted."}}
}

func noAnswer() chattest.Fault {
	return chattest.Fault{Err: &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "No answer.", NotSent: true}}
}

// standing are the messages of an operation as they are now, by the kind in their key.
func (r *rig) standing(id, kind string) []chattest.Sent {
	r.t.Helper()
	var out []chattest.Sent
	for _, s := range r.chat.Sent() {
		if strings.HasPrefix(s.Now().Key, id+"."+kind+".") {
			out = append(out, s)
		}
	}
	return out
}

// one is the only message of a kind in a channel.
func (r *rig) one(id, kind, channel string) chattest.Sent {
	r.t.Helper()
	all := slices.DeleteFunc(r.standing(id, kind), func(s chattest.Sent) bool { return s.To.Channel != channel })
	if len(all) != 1 {
		r.t.Fatalf("got %d messages %s in %s, want 1", len(all), kind, channel)
	}
	return all[0]
}

func TestF13_BotRemovedMeanwhileTellsThePersonHowItEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.lab.Override(rigProject, gitlabtest.Override{FailJob: "build"})
	id := r.deploy("alice", "demo")
	r.until(id, ops.Running)
	r.settle()
	r.chat.Evict("C1")
	r.until(id, ops.Failed)
	r.pass(10 * time.Second)
	card := r.one(id, "card", "Dalice")
	mustContain(t, read(new(card.Now())), "failed")
	for _, kind := range []string{"end", "log"} {
		if got := r.one(id, kind, "Dalice").To.Thread; got != card.Ref {
			t.Errorf("%s: got it in thread %q, want it below the new card %s", kind, got, card.Ref)
		}
	}
	before := r.chat.Calls("update") + r.chat.Calls("post") + r.chat.Calls("direct")
	r.pass(30 * time.Minute)
	if after := r.chat.Calls("update") + r.chat.Calls("post") + r.chat.Calls("direct"); after != before {
		t.Errorf("got %d calls after all was told, want none", after-before)
	}
}

func TestF13_CardThatCannotBeEditedHoldsUpNoReply(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name           string
		update, direct chattest.Fault
	}{
		{"the person cannot be reached either", noPlace(), noPlace()},
		{"chat does not say how to reach the person", noPlace(), noAnswer()},
		{"edits have no answer", noAnswer(), noAnswer()},
		{"the token may not edit", noToken(), noToken()},
		{"the content is refused", chattest.Fault{Err: &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "invalid_blocks"}}, noPlace()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			id := r.deploy("alice", "demo")
			r.until(id, ops.Running)
			r.settle()
			r.chat.Fail("update", slices.Repeat([]chattest.Fault{tc.update}, 10_000)...)
			r.chat.Fail("direct", slices.Repeat([]chattest.Fault{tc.direct}, 10_000)...)
			r.until(id, ops.Succeeded)
			r.pass(10 * time.Second)
			mustContain(t, r.one(id, "end", "C1").Now().Summary, "succeeded")
			before := r.chat.Calls("update")
			r.pass(time.Hour)
			if got := r.chat.Calls("update") - before; got > 70 {
				t.Errorf("got %d tries to edit in an hour, want at most one a minute or so", got)
			}
		})
	}
}

func TestF13_RefusedReplyGoesToThePersonAndIsGivenUpThere(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		refused int
		want    []string // channels in which the end is told
	}{
		{"in the thread", 1, []string{"Dalice"}},
		{"in the thread and in private", 1000, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			id := r.deploy("alice", "demo")
			r.until(id, ops.Running)
			r.settle()
			r.chat.Fail("post", slices.Repeat([]chattest.Fault{noPlace()}, tc.refused)...)
			before := r.chat.Calls("post")
			r.until(id, ops.Succeeded)
			r.pass(30 * time.Minute)
			var got []string
			for _, s := range r.standing(id, "end") {
				got = append(got, s.To.Channel)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got the end in %v, want %v", got, tc.want)
			}
			if n := r.chat.Calls("post") - before; n != 2 {
				t.Errorf("got %d posts, want 2: the thread, then the person", n)
			}
		})
	}
}

func TestF13_ReplyToADeletedCardStandsInTheChannel(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	r.until(id, ops.Running)
	r.settle()
	r.chat.Fail("post", chattest.Fault{Err: &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonChatUnavailable, Msg: "thread_not_found"}})
	r.until(id, ops.Succeeded)
	r.pass(10 * time.Second)
	if end := r.one(id, "end", "C1"); end.To.Thread != "" {
		t.Errorf("got the end in thread %q, want it in the channel", end.To.Thread)
	}
}

func TestF13_CardOutlivesATokenThatIsNotAccepted(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	for _, method := range []string{"post", "direct", "update", "find"} {
		r.chat.Fail(method, slices.Repeat([]chattest.Fault{noToken()}, 8)...)
	}
	id := r.deploy("alice", "demo")
	r.until(id, ops.Succeeded)
	before := r.chat.Calls("post")
	r.pass(30 * time.Minute)
	mustContain(t, read(new(r.one(id, "card", "C1").Now())), "succeeded")
	mustContain(t, r.one(id, "end", "C1").Now().Summary, "succeeded")
	if got := r.chat.Calls("post") - before; got > 20 {
		t.Errorf("got %d posts in half an hour, want fewer: tries are further and further apart", got)
	}
	if got := len(r.chat.Sent()); got != 2 {
		t.Errorf("got %d messages, want the card and the end", got)
	}
}

func TestF13_PersonIsReachedLaterWhenChatDoesNotSayHow(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	r.chat.Evict("C1")
	r.chat.Fail("direct", noAnswer(), noAnswer(), noToken())
	id := r.deploy("alice", "demo")
	r.until(id, ops.Succeeded)
	r.pass(10 * time.Minute)
	mustContain(t, read(new(r.one(id, "card", "Dalice").Now())), "succeeded")
}

func TestF13_RefusedLookAfterALostAnswerIsNotRepeatedForEver(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		find   error
		in     string
		within int // calls of find in half an hour
	}{
		{"denied", noPlace().Err, "Dalice", 1},
		{"gone", &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonChatUnavailable, Msg: "channel_not_found"}, "Dalice", 1},
		{"no answer", noAnswer().Err, "", 40},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			r.chat.Fail("post", chattest.Fault{Err: &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "lost"}})
			r.chat.Fail("find", slices.Repeat([]chattest.Fault{{Err: tc.find}}, 1000)...)
			id := r.deploy("alice", "demo")
			r.until(id, ops.Succeeded)
			r.pass(30 * time.Minute)
			if tc.in != "" {
				mustContain(t, read(new(r.one(id, "card", tc.in).Now())), "succeeded")
			}
			if got := r.chat.Calls("find"); got > tc.within {
				t.Errorf("got %d look-ups, want at most %d", got, tc.within)
			}
		})
	}
}

func TestCardAndThreadTellWhoCanceled(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, who, want string }{
		{"another person", "carol", "carol"},
		{"whoever asked for it", "alice", "alice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain(gitlabtest.Script{}))
			id := r.deploy("alice", "demo")
			r.until(id, ops.Running)
			mustContain(t, r.typed(tc.who, "cancel "+id), "Cancel is on its way")
			r.until(id, ops.Canceled)
			r.pass(10 * time.Second)
			card := r.one(id, "card", "C1").Now()
			mustContain(t, read(&card), "Canceled by: "+tc.want)
			end := r.one(id, "end", "C1").Now()
			mustContain(t, read(&end), "canceled by "+tc.want+" after")
			if got := mentions(end); !slices.Equal(got, []string{"alice", tc.want}) {
				t.Errorf("got mentions of %v in the thread, want alice and %s", got, tc.want)
			}
			// A new run has been canceled by nobody.
			mustContain(t, r.typed("alice", "retry "+id), "Run 2")
			r.until(id, ops.Succeeded)
			r.pass(10 * time.Second)
			if card := r.one(id, "card", "C1").Now(); strings.Contains(read(&card), "Canceled by") {
				t.Errorf("got %q of a run that nobody canceled", read(&card))
			}
		})
	}
}

// mentions are the user ids that a message mentions, in order.
func mentions(m chat.Message) []string {
	var out []string
	for _, b := range m.Blocks {
		for _, s := range b.Text {
			if s.Style == chat.Mention {
				out = append(out, s.User)
			}
		}
	}
	return out
}

func TestCancelButtonAsksThenCancels(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	id := r.deploy("alice", "demo")
	r.until(id, ops.Running)
	r.settle()
	said, dialog := r.press("carol", id, "cancel")
	if said != "" || dialog == nil {
		t.Fatalf("got answer %q and dialog %v, want a question", said, dialog)
	}
	if err := chattest.CheckDialog(*dialog); err != nil {
		t.Errorf("the question would be refused: %v", err)
	}
	mustContain(t, dialog.Intro, id, "eu/demo", "running")
	if got := r.op(id).State; got != ops.Running {
		t.Fatalf("got %s before the question was answered, want running", got)
	}
	said, _ = r.submit("carol", dialog, nil)
	mustContain(t, said, "Cancel is on its way")
	r.until(id, ops.Canceled)
	r.exactlyOnce(1)
}

func TestUnverifiedRowIsSaidOnTheCard(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, operations string
		want             bool
	}{
		{"as built in", "", true},
		{"confirmed by the operator", "operations: {deploy: {unverified: false}}", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *rigSetup) { s.operations = tc.operations })
			id := r.deploy("alice", "demo")
			r.settle()
			card := r.one(id, "card", "C1").Now()
			if got := strings.Contains(read(&card), "not verified"); got != tc.want {
				t.Errorf("got %q, want a word on verification: %v", read(&card), tc.want)
			}
		})
	}
}

func TestRateLimitOfOneCardQuietsTheWorkspace(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	var ids []string
	for _, instance := range []string{"demo", "shop", "campus"} {
		ids = append(ids, r.deploy("alice", instance))
	}
	r.pass(20 * time.Second)
	slow := &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited, Msg: "Slow down.", NotSent: true, RetryAt: r.clock.Now().Add(5 * time.Minute),
	}
	r.chat.Fail("update", slices.Repeat([]chattest.Fault{{Err: slow}}, 100)...)
	before := r.chat.Calls("update")
	for _, id := range ids {
		r.until(id, ops.Succeeded)
	}
	if !r.clock.Now().Before(slow.RetryAt.Add(-10 * time.Second)) {
		t.Fatal("the runs took too long for this test")
	}
	r.settle()
	if got := r.chat.Calls("update") - before; got != 1 {
		t.Errorf("got %d edits while the workspace asks to wait, want the one that learned of it", got)
	}
}
