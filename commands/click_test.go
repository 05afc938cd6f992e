package commands

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/ops"
)

// running makes an operation that runs and whose card stands.
func running(r *rig) string {
	r.t.Helper()
	r.typed("alice", "deploy demo")
	r.settle()
	r.clock.Advance(3 * time.Second)
	r.settle()
	op := r.last()
	if op.State != ops.Running {
		r.t.Fatalf("got %s, want it running", op.State)
	}
	return op.ID
}

// button finds a button on the card of an operation and returns the click on it.
func (r *rig) button(user, id, verb string) chat.Incoming {
	r.t.Helper()
	for _, s := range r.chat.Sent() {
		for _, b := range s.Now().Buttons {
			if s.Now().Key == id+".card.0" && b.Verb == verb {
				in := r.incoming(chat.Click, user)
				in.Button, in.Message, in.From = b.Token, s.Ref, s.To
				return in
			}
		}
	}
	r.t.Fatalf("no card of %s has a button %s", id, verb)
	return chat.Incoming{}
}

// A click counts with our seal, in its place, on the very card, while it is valid and for who may.
func TestClickIsCheckedFromAllSides(t *testing.T) {
	t.Parallel()
	away := chattest.Fault{Err: &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "away"}}
	for _, tc := range []struct {
		name, user, verb string
		change           func(r *rig, in *chat.Incoming)
		says             string
	}{
		{"as it should be", "carol", "cancel", nil, ""},
		{"no token", "alice", "cancel", func(_ *rig, in *chat.Incoming) { in.Button = "" }, "forged_button"},
		{"a token of one's own", "alice", "cancel", func(_ *rig, in *chat.Incoming) { in.Button = "eyJ2IjoiY2FuY2VsIn0.AAAA" }, "forged_button"},
		{"another channel", "alice", "cancel", func(_ *rig, in *chat.Incoming) { in.From.Channel = "C2" }, "copied_card"},
		{"another workspace", "alice", "cancel", func(_ *rig, in *chat.Incoming) { in.Actor.Workspace = "W2" }, "forged_button"},
		{"another platform", "alice", "cancel", func(_ *rig, in *chat.Incoming) { in.Actor.Platform = "other" }, "forged_button"},
		{"a copy of the card", "alice", "cancel", func(_ *rig, in *chat.Incoming) { in.Message = "m9999" }, "copied_card"},
		{"logs on a copy of the card", "alice", "logs", func(_ *rig, in *chat.Incoming) { in.Message = "m9999" }, "copied_card"},
		{"a verb that no button has", "alice", "cancel", func(r *rig, in *chat.Incoming) {
			in.Button = ops.Capability{
				Verb: "explode", Operation: r.last().ID, Run: 1, Platform: "fake", Workspace: "W1", Channel: "C1", Expires: r.clock.Now().Unix() + 60,
			}.Seal(r.commands.Service.Signer)
		}, "forged_button"},
		{"a month later", "alice", "cancel", func(r *rig, _ *chat.Incoming) { r.clock.Advance(31 * 24 * time.Hour) }, "Type /ocim cancel"},
		{"who may not", "bob", "cancel", nil, "may.cancel"},
		{"who has left the channel", "alice", "cancel", func(r *rig, _ *chat.Incoming) { r.chat.Remove("alice") }, "Only members"},
		{"chat does not say who is a member", "alice", "cancel", func(r *rig, _ *chat.Incoming) { r.chat.Fail("member", away) }, "nothing was done"},
		{"the form comes too late", "alice", "cancel", func(r *rig, _ *chat.Incoming) {
			r.late = &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonChatUnavailable, Msg: "The trigger has expired."}
		}, "not be shown in time; nothing was done.\nPress again, or type /ocim cancel"},
		{"chat is too slow", "alice", "cancel", func(r *rig, _ *chat.Incoming) {
			r.late = &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "Chat does not answer.", Err: context.DeadlineExceeded}
		}, "not be shown in time; nothing was done.\nPress again"},
		{"chat is away", "alice", "cancel", func(r *rig, _ *chat.Incoming) {
			r.late = &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited, Msg: "Chat asks to slow down."}
		}, "not be shown; nothing was done. Chat asks to slow down.\nPress again, or type /ocim cancel"},
		{"the bot may not", "alice", "cancel", func(r *rig, _ *chat.Incoming) {
			r.late = &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonChatUnauthorized, Msg: "Chat does not accept the token.", Next: "Tell the operator."}
		}, "not be shown; nothing was done. Chat does not accept the token.\nTell the operator. Instead, type /ocim cancel"},
		{"chat cannot show the form", "alice", "cancel", func(r *rig, _ *chat.Incoming) {
			r.late = &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "Chat cannot show this dialog."}
		}, "not be shown; nothing was done. Chat cannot show this dialog.\nInstead, type /ocim cancel"},
		{"nobody knows why", "alice", "cancel", func(r *rig, _ *chat.Incoming) { r.late = errors.New("?") }, "not be shown; nothing was done.\nPress again, or type /ocim cancel"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := running(r)
			in := r.button(tc.user, id, tc.verb)
			if tc.change != nil {
				tc.change(r, &in)
			}
			got := read(r.commands.Handle(t.Context(), in).Message)
			if tc.says == "" {
				if got != "" || r.dialog == nil {
					t.Errorf("got %q and form %+v, want the question", got, r.dialog)
				}
				return
			}
			if !strings.Contains(got, tc.says) {
				t.Errorf("got %q, want it to contain %q", got, tc.says)
			}
			if op := r.last(); op.State != ops.Running || !op.CancelAt.IsZero() {
				t.Errorf("got %s, want nothing done", op.State)
			}
			if (tc.says == "forged_button" || tc.says == "copied_card") && r.dialog != nil {
				t.Error("a form was opened")
			}
		})
	}
}

// A button of ours that stands elsewhere than on the card is no forgery: people forward cards, and a
// card may have been replaced.
func TestClickOnACopyShowsTheWay(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"cancel", "logs"} {
		r := newRig(t)
		id := running(r)
		in := r.button("alice", id, verb)
		in.Message, in.From.Channel, in.Trigger = "m9999", "C2", "/chatops"
		ans := r.commands.Handle(t.Context(), in)
		got := read(ans.Message)
		for _, want := range []string{"deploy of eu/demo is running", "type /chatops " + verb + " " + id, "copied_card"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: got %q, want it to contain %q", verb, got, want)
			}
		}
		if !slices.ContainsFunc(ans.Message.Blocks, func(b chat.Block) bool {
			return slices.ContainsFunc(b.Text, func(s chat.Span) bool { return s.Style == chat.Link && strings.Contains(s.URL, "/C1/") })
		}) {
			t.Errorf("%s: got no link to the card in %+v", verb, ans.Message.Blocks)
		}
	}
}

func TestClickOnLogsAndRetry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := running(r)
	roots, _ := r.lab.Roots()
	r.lab.AddJob(ops.Job{Name: "init", Status: "failed", Pipeline: roots[0].Ref.ID}, "so it ended")
	if got := read(r.commands.Handle(t.Context(), r.button("bob", id, "logs")).Message); !strings.Contains(got, "so it ended") {
		t.Errorf("got %q, want the log, which everybody may read", got)
	}
	old := r.button("carol", id, "cancel")
	r.lab.SetStatus(roots[0].Ref.ID, "failed")
	for range 60 {
		r.clock.Advance(10 * time.Second)
		r.settle()
	}
	if got := read(r.commands.Handle(t.Context(), old).Message); !strings.Contains(got, "already_final") {
		t.Errorf("got %q, want that there is nothing to cancel", got)
	}
	if got := read(r.press("bob", id, "retry").Message); !strings.Contains(got, "may.retry") {
		t.Errorf("got %q, want bob refused", got)
	}
	retry := r.button("carol", id, "retry")
	if got := read(r.commands.Handle(t.Context(), retry).Message); !strings.Contains(got, "Run 2") {
		t.Errorf("got %q, want the second run", got)
	}
	if got := read(r.commands.Handle(t.Context(), retry).Message); !strings.Contains(got, "Run 2") || r.last().Run != 2 {
		t.Errorf("the same click again: got %q, want the same answer and no third run", got)
	}
	retry.Key = "another click"
	if got := read(r.commands.Handle(t.Context(), retry).Message); !strings.Contains(got, "old_button") {
		t.Errorf("got %q, want the button of run 1 to be old", got)
	}
}

// The answer to the post was lost: a click on the card that stands all the same counts.
func TestClickOnACardWhosePostHadNoAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	lost := chattest.Fault{Err: &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "away"}, Lost: true}
	r.chat.Fail("post", lost)
	r.typed("alice", "deploy demo")
	if _, err := r.store.Drain(t.Context(), ops.JobDeliver, r.notifier.Deliver); err != nil {
		t.Fatal(err)
	}
	id := r.last().ID
	if got := r.commands.permalink(t.Context(), id); got != "" {
		t.Fatalf("got %q, want the card's place not known yet", got)
	}
	in := r.button("carol", id, "cancel")
	in.Reply = nil // a platform without forms asks nothing
	if got := read(r.commands.Handle(t.Context(), in).Message); !strings.Contains(got, "Canceled") {
		t.Errorf("got %q, want it canceled", got)
	}
}

// Options are for who opened the form and may start something.
func TestSuggest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.typed("dora", "deploy")
	ask := func(user, typed string, change func(*chat.Incoming)) string {
		in := r.incoming(chat.Suggest, user)
		in.Dialog, in.State, in.Field, in.Text = r.dialog.Name, r.dialog.State, "instance", typed
		if change != nil {
			change(&in)
		}
		var values []string
		for _, o := range r.commands.Handle(t.Context(), in).Options {
			values = append(values, o.Value)
		}
		return strings.Join(values, " ")
	}
	for _, tc := range []struct {
		name, user, typed string
		change            func(*chat.Incoming)
		want              string
	}{
		{"all", "dora", "", nil, "eu/campus eu/demo eu/shop us/shop us/store"},
		{"part of a name, in capitals", "dora", " SHO ", nil, "eu/shop us/shop"},
		{"a cluster", "dora", "us/", nil, "us/shop us/store"},
		{"nothing", "dora", "zzz", nil, ""},
		{"somebody else", "alice", "", nil, ""},
		{"no state", "dora", "", func(in *chat.Incoming) { in.State = "" }, ""},
		{"another form", "dora", "", func(in *chat.Incoming) { in.Dialog = dialogCancel }, ""},
	} {
		if got := ask(tc.user, tc.typed, tc.change); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	r.clock.Advance(2 * time.Hour)
	if got := ask("dora", "", nil); got != "" {
		t.Errorf("two hours later: got %q, want nothing", got)
	}
}

// A right that is lost while the form stands open is lost.
func TestFormOfSomebodyWhoMayNoLonger(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.typed("dora", "deploy")
	r.commands.Service.Policy = ops.NewStaticPolicy()
	for _, instance := range []string{"eu/demo", "eu/nothing"} {
		if got := read(r.sends("dora", map[string]string{"instance": instance}).Message); !strings.Contains(got, "not_allowed") {
			t.Errorf("%s: got %q, want it refused without a word on what exists", instance, got)
		}
	}
	if len(r.all()) != 0 {
		t.Error("an operation was made")
	}
}

func TestPickWhenGitLabIsSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.commands.Service.Fleet = ops.NewFleet(rigProjects(), []ops.Cluster{{Name: "eu", Project: "grove-eu", Folder: "instances"}}, r.lab, r.clock)
	r.lab.SetInstances("grove-eu")
	if got := r.says("alice", "deploy"); !strings.Contains(got, "There are no instances") {
		t.Errorf("got %q, want that there are none", got)
	}
	r.clock.Advance(time.Hour)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	in := r.incoming(chat.Command, "alice")
	in.Text = "deploy"
	if got := read(r.commands.Handle(gone, in).Message); !strings.Contains(got, "unknown_instance") && !strings.Contains(got, "gitlab_unavailable") {
		t.Errorf("got %q, want a reason", got)
	}
	in = r.incoming(chat.Command, "alice")
	in.Text, in.Reply = "deploy", nil
	if got := read(r.commands.Handle(t.Context(), in).Message); !strings.Contains(got, "deploy needs an instance") {
		t.Errorf("without forms: got %q, want the name asked for", got)
	}
}

// An error that is ours shows nothing of its cause to people, and all of it to the log.
func TestRefusalOfOurOwnMistakes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		err    error
		reason string
		log    string
	}{
		{"unknown", errors.New("table pipelines has no column x"), "internal_error", "no column x"},
		{"too slow", context.DeadlineExceeded, "store_unavailable", "deadline exceeded"},
		{"with a cause", &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, Msg: "GitLab does not answer.", Err: errors.New("dial 10.0.0.7")}, "gitlab_unavailable", "10.0.0.7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			got := read(r.commands.refusal(t.Context(), r.incoming(chat.Command, "alice"), tc.err).Message)
			if !strings.Contains(got, tc.reason) || strings.Contains(got, tc.log) || strings.Count(got, "\n") < 3 {
				t.Errorf("got %q, want %s, a next step, and nothing of the cause", got, tc.reason)
			}
			if n := strings.Count(r.logs.String(), tc.log); n != 1 {
				t.Errorf("got %d log lines with the cause, want 1: %s", n, r.logs)
			}
		})
	}
}
