package notifier

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/ops"
	"ocim/templates"
)

func at(minutes int) time.Time {
	return time.Date(2026, 11, 21, 10, minutes, 0, 0, time.UTC)
}

func withPipelines(s ops.State, ps ...ops.Pipeline) ops.Operation {
	return ops.Operation{ID: "k1", State: s, Run: 2, RunAt: at(0), StartedAt: at(1), Pipelines: ps}
}

func TestViewOfPipelines(t *testing.T) {
	t.Parallel()
	root := ops.Pipeline{Ref: ops.PipelineRef{ID: 1}, Role: ops.RoleRoot, Status: "running", URL: "https://gitlab.example/1", Jobs: ops.Jobs{Done: 1, Total: 4, Running: "bridge", Stage: "trigger"}}
	child := ops.Pipeline{Ref: ops.PipelineRef{ID: 2}, Role: ops.RoleChild, Status: "running", Jobs: ops.Jobs{Done: 2, Total: 6, Running: "build", Stage: "build"}}
	manual := ops.Pipeline{Ref: ops.PipelineRef{ID: 3}, Role: ops.RoleChild, Status: "manual", Jobs: ops.Jobs{Total: 1, Manual: "approve"}}
	done := child
	done.Status = "success"
	strange := root
	strange.Status = "brand_new_status"
	tests := []struct {
		name string
		op   ops.Operation
		want View
	}{
		{"none yet", withPipelines(ops.Starting), View{}},
		{"the deepest job is shown", withPipelines(ops.Running, root, child), View{Done: 3, Total: 10, Running: "build", Stage: "build", Bar: "▰▰▰▱▱▱▱▱▱▱", URL: "https://gitlab.example/1"}},
		{"not a job of one that has ended", withPipelines(ops.Running, root, done), View{Done: 3, Total: 10, Running: "bridge", Stage: "trigger", Bar: "▰▰▰▱▱▱▱▱▱▱", URL: "https://gitlab.example/1"}},
		{"one that waits for a person", withPipelines(ops.Blocked, root, manual), View{Done: 1, Total: 5, Running: "bridge", Stage: "trigger", Manual: "approve", Bar: "▰▰▱▱▱▱▱▱▱▱", URL: "https://gitlab.example/1"}},
		{"the end needs no bar and waits for nobody", withPipelines(ops.Failed, root, manual), View{Done: 1, Total: 5, Running: "bridge", Stage: "trigger", URL: "https://gitlab.example/1"}},
		{"GitLab's new words are shown as they are", withPipelines(ops.Running, strange), View{Done: 1, Total: 4, Running: "bridge", Stage: "trigger", Bar: "▰▰▱▱▱▱▱▱▱▱", URL: "https://gitlab.example/1"}},
		{"no jobs yet", withPipelines(ops.Running, ops.Pipeline{Role: ops.RoleRoot, Status: "created"}), View{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := NewView(tt.op, at(5))
			got := View{Done: v.Done, Total: v.Total, Running: v.Running, Stage: v.Stage, Manual: v.Manual, Bar: v.Bar, URL: v.URL}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("view (-got +want):\n%s", diff)
			}
		})
	}
	many := withPipelines(ops.Running, make([]ops.Pipeline, 50)...)
	if got := len(NewView(many, at(5)).Pipelines); got != maxPipelines {
		t.Errorf("got %d pipelines, want %d", got, maxPipelines)
	}
}

// No end leaves a person without a word on what happened or what to do.
func TestNoEndIsWithoutAWord(t *testing.T) {
	t.Parallel()
	for _, s := range ops.States() {
		op := withPipelines(s)
		switch s { //nolint:exhaustive // the others say enough by themselves
		case ops.Failed:
			op.Failure = &ops.Failure{Job: "deploy"}
		case ops.Expired:
			op.Reason = ops.ReasonNotStartedInTime
		}
		if v := NewView(op, at(5)); s.Final() && s != ops.Succeeded && v.Next == "" {
			t.Errorf("%s: got no next step", s)
		}
	}
	lost := withPipelines(ops.Failed)
	lost.Reason, lost.Lost = ops.ReasonNotStartedInTime, 1
	if v := NewView(lost, at(5)); strings.Contains(string(v.Next), "Nothing was started") {
		t.Errorf("got %q where nobody knows what became of a request", v.Next)
	}
}

func TestViewOfTimes(t *testing.T) {
	t.Parallel()
	op := ops.Operation{State: ops.Queued, RunAt: at(0)}
	if v := NewView(op, at(3)); v.Started || v.Final || v.Elapsed != 3*time.Minute {
		t.Errorf("queued: got %+v, want three minutes since it was asked for", v)
	}
	op.State, op.StartedAt = ops.Running, at(2)
	if v := NewView(op, at(3)); !v.Started || v.Elapsed != time.Minute {
		t.Errorf("running: got %v, want a minute since it began", v.Elapsed)
	}
	op.State, op.FinishedAt = ops.Succeeded, at(9)
	if v := NewView(op, at(59)); !v.Final || v.Elapsed != 7*time.Minute {
		t.Errorf("succeeded: got %v, want the seven minutes that it took", v.Elapsed)
	}
	if v := NewView(op, at(0).Add(-time.Hour)); v.Elapsed < 0 {
		t.Errorf("a clock that went back: got %v", v.Elapsed)
	}
}

func TestEveryStateHasItsButtonsToneAndSign(t *testing.T) {
	t.Parallel()
	s, err := ops.NewSigner([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	here := ops.Conversation{Platform: "fake", Workspace: "main", Channel: "ops"}
	want := map[ops.State]string{ // the table in docs of the states, with a pipeline to open
		ops.Requested: "cancel open", ops.AwaitingApproval: "cancel open", ops.Queued: "cancel open", ops.Starting: "cancel open",
		ops.Running: "cancel logs open", ops.Watching: "cancel logs open", ops.Blocked: "cancel logs open", ops.Canceling: "open",
		ops.Succeeded: "logs open", ops.Failed: "retry logs open", ops.Canceled: "retry logs open", ops.Refused: "retry logs open",
		ops.Rejected: "retry logs open", ops.Expired: "retry logs open", ops.Stale: "retry logs open",
	}
	for _, state := range ops.States() {
		op := withPipelines(state, ops.Pipeline{Role: ops.RoleRoot, URL: "https://gitlab.example/1"})
		var got []string
		for _, b := range Buttons(op, here, s) {
			got = append(got, b.Verb)
			if b.Verb == "open" {
				continue
			}
			c, err := ops.OpenCapability(s, b.Token)
			if err != nil || c.Verb != b.Verb || c.Operation != "k1" || c.Run != 2 || c.Channel != "ops" || c.Workspace != "main" || c.Platform != "fake" {
				t.Errorf("%s, %s: got %+v, %v, want it bound to verb, operation, run and place", state, b.Verb, c, err)
			}
		}
		if strings.Join(got, " ") != want[state] {
			t.Errorf("%s: got buttons %q, want %q", state, got, want[state])
		}
		if emoji(state) == "•" || tone(state) == chat.ToneNeutral {
			t.Errorf("%s: got no sign or tone of its own", state)
		}
		if (outcome(state) != "") != state.Final() {
			t.Errorf("%s: got outcome %q", state, outcome(state))
		}
	}
	op := withPipelines(ops.Failed)
	if got := Buttons(op, here, s); len(got) != 1 || got[0].Verb != "retry" {
		t.Errorf("without a pipeline: got %+v, want retry alone", got)
	}
	op = withPipelines(ops.Running, ops.Pipeline{Role: ops.RoleRoot, URL: "javascript:alert(1)"})
	for _, b := range Buttons(op, here, s) {
		if b.URL != "" {
			t.Errorf("got a button to %q", b.URL)
		}
	}
}

// text is something that a person or GitLab may have written.
func text(r *rand.Rand) string {
	parts := []string{
		"", " ", "a", "demo", "שלום", "مرحبا", "😀", "*", "_", "`", "|", "#", "! ", "> ", "---", "\\", "\n", "\t", "\x00", "\x1b[31m", "\u202e", "\xff", "<@U1>", "<!channel>", "@here",
		"[x](https://evil.example)", "{{.ID}}", "%s", strings.Repeat("long ", 200), strings.Repeat("x", 3000),
	}
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

// Whatever an operation holds, in whatever state, its messages can be rendered, say something, hold
// no style or link that the templates did not put there, and have a bounded size.
func TestMessagesOfAnyOperation(t *testing.T) {
	t.Parallel()
	set, err := chat.LoadTemplates(templates.FS, "")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 7))
	states := append(ops.States(), "unheard_of")
	for range 2_000 {
		op := ops.Operation{
			ID: text(r), State: states[r.IntN(len(states))], Reason: ops.Reason(text(r)), Detail: text(r), Run: r.IntN(3), Link: text(r), RunByName: text(r),
			Request: ops.Request{Action: text(r), ActorName: text(r), Why: text(r), Target: ops.Target{Cluster: text(r), Instance: text(r)}, Params: map[string]string{text(r): text(r), "k": text(r)}},
			RunAt:   at(r.IntN(50)), Expected: time.Duration(r.Int64N(int64(time.Hour))),
		}
		for range r.IntN(9) {
			op.Pipelines = append(op.Pipelines, ops.Pipeline{
				Role: ops.RoleRoot, Status: text(r), URL: text(r), Jobs: ops.Jobs{Done: r.IntN(9), Total: r.IntN(9), Running: text(r), Stage: text(r), Manual: text(r)},
			})
		}
		names := []string{"card", "end"}
		if r.IntN(2) == 0 {
			op.Failure = &ops.Failure{Job: text(r), Stage: text(r), Reason: text(r), URL: text(r), Tail: text(r), NoTail: text(r), Last: text(r)}
			names = append(names, "log")
		}
		for _, name := range names {
			m, err := set.Render(name, NewView(op, at(55)))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			checkAny(t, name, m)
		}
	}
}

func checkAny(t *testing.T, name string, m chat.Message) {
	t.Helper()
	if strings.TrimSpace(m.Summary) == "" || name != "log" && len(m.Blocks) == 0 {
		t.Errorf("%s: got %+v, want it to say something", name, m)
	}
	size := 0
	for _, b := range m.Blocks {
		spans := b.Text
		for _, f := range b.Fields {
			spans = append(spans, f.Text...)
			size += len(f.Label)
		}
		for _, s := range spans {
			size += len(s.Text)
			if !utf8.ValidString(s.Text) || strings.ContainsAny(s.Text, "\x00\x1b\n\t\u202e") {
				t.Errorf("%s: got %q", name, s.Text)
			}
			if s.Style == chat.Link && (!chat.SafeURL(s.URL) || strings.Contains(s.URL, "evil")) {
				t.Errorf("%s: got a link to %q", name, s.URL)
			}
			if s.Style == chat.Mention && s.User != "" {
				t.Errorf("%s: mentions %q", name, s.User)
			}
		}
	}
	if size > 40_000 {
		t.Errorf("%s: got %d bytes beside its log, want it bounded", name, size)
	}
}
