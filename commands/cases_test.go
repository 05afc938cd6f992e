package commands

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/ops"
	"ocim/ops/opstest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestCases plays testdata/*.txt: what people typed, what became of it, and what they were told. To
// add a case, write its input line and run go test ./commands -run TestCases -update; the diff is
// the review.
//
//	# text                   a comment
//	alice> deploy demo       a command; alice may do everything, bob nothing, carol cancel and
//	                         retry, dora start
//	alice>> "a\u00a0b"       the same, written as a Go string
//	parse> deploy demo       how a line is understood, and no more
//	alice sends k=v k="v w"  the form that was opened last
//	alice presses cancel     a button on the card of the last operation
//	! wait 5s                time passes, and what is due is done
//	! pipeline failed        the last pipeline has this status now
//	! job deploy failed      it gets a job, whose log ends with the password hunter2
//	! fail instances         the next call of this method finds no GitLab
//	! missed                 forms cannot be opened any more
//	= …                      what became of it: operations, forms
//	| …                      the answer
func TestCases(t *testing.T) {
	t.Parallel()
	for _, cmd := range table() {
		path := "testdata/" + cmd.Name + ".txt"
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if !*update {
			t.Errorf("%s is not there; go test ./commands -run TestCases -update begins it with the examples of the help", path)
			continue
		}
		begun := "# " + cmd.Summary + "\nalice> " + strings.Join(cmd.Example, "\nalice> ") + "\n"
		if err := os.WriteFile(path, []byte(begun), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files, %v, want cases", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s differs; go test -update writes it anew (-want +got):\n%s", path, diff)
			}
		})
	}
}

// play runs a script and returns it with what really came out.
func play(t *testing.T, script string) string {
	t.Helper()
	r := newRig(t)
	var out strings.Builder
	n := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(script, "\n"), "\n") {
		n++
		if strings.HasPrefix(line, "|") || strings.HasPrefix(line, "=") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		before := r.all()
		r.dialogIsOld()
		ans, ok := r.step(line)
		if !ok {
			t.Fatalf("line %d is not understood: %s", n, line)
		}
		r.effects(&out, before)
		out.WriteString(shown(ans))
	}
	return out.String()
}

// dialogIsOld marks the dialog that stands, so that a new one is seen.
func (r *rig) dialogIsOld() {
	if r.dialog != nil {
		r.dialog.Intro = "seen"
	}
}

func (r *rig) step(line string) (chat.Answer, bool) {
	r.t.Helper()
	if directive, ok := strings.CutPrefix(line, "! "); ok {
		return chat.Answer{}, r.directive(strings.Fields(directive))
	}
	if user, text, ok := strings.Cut(line, ">"); ok && !strings.Contains(user, " ") {
		var err error
		if quoted, ok := strings.CutPrefix(text, ">"); ok {
			text, err = strconv.Unquote(strings.TrimPrefix(quoted, " "))
		} else {
			text = strings.TrimPrefix(text, " ")
		}
		if user == "parse" {
			return r.parsed(text), err == nil
		}
		return r.typed(user, text), err == nil
	}
	if user, text, ok := strings.Cut(line, " sends"); ok {
		values := map[string]string{}
		ws, err := words(text)
		for _, w := range ws {
			k, v, _ := strings.Cut(w, "=")
			values[k] = v
		}
		return r.sends(user, values), err == nil
	}
	if user, verb, ok := strings.Cut(line, " presses "); ok {
		return r.press(user, r.last().ID, verb), true
	}
	return chat.Answer{}, false
}

// parsed answers with how a line is understood.
func (r *rig) parsed(text string) chat.Answer {
	r.t.Helper()
	fail := func(err error) chat.Answer {
		return r.commands.refusal(r.t.Context(), r.incoming(chat.Command, "parse"), err)
	}
	ws, err := words(text)
	if err != nil {
		return fail(err)
	}
	if len(ws) == 0 {
		return chat.Answer{Message: chat.Notice(chat.ToneNeutral, "nothing")}
	}
	cmd, err := r.commands.find(ws[0])
	if err != nil {
		return fail(err)
	}
	c, err := parse(cmd, ws[1:])
	if err != nil {
		return fail(err)
	}
	out := cmd.Name
	for _, k := range slices.Sorted(maps.Keys(c.Args)) {
		out += fmt.Sprintf(" <%s> %q", k, c.Args[k])
	}
	for _, k := range slices.Sorted(maps.Keys(c.Pairs)) {
		out += fmt.Sprintf(" %s=%q", k, c.Pairs[k])
	}
	if c.Plan {
		out += " --plan"
	}
	return chat.Answer{Message: &chat.Message{Blocks: []chat.Block{{Kind: chat.Code, Code: out}}}}
}

func (r *rig) directive(ws []string) bool {
	r.t.Helper()
	roots, _ := r.lab.Roots()
	switch {
	case len(ws) == 2 && ws[0] == "wait":
		d, err := time.ParseDuration(ws[1])
		r.settle()
		r.clock.Advance(d)
		r.settle()
		return err == nil
	case len(ws) == 2 && ws[0] == "pipeline":
		r.lab.SetStatus(roots[len(roots)-1].Ref.ID, ws[1])
	case len(ws) == 3 && ws[0] == "job":
		r.lab.AddJob(ops.Job{
			Name: ws[1], Status: ws[2], Stage: "work", Pipeline: roots[len(roots)-1].Ref.ID,
		}, "first line\nlogging in with hunter2\nlast line of "+ws[1])
	case len(ws) == 2 && ws[0] == "fail":
		r.lab.Fail(ws[1], opstest.Fault{Err: &ops.Error{
			Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, Msg: "GitLab does not answer.",
		}})
	case len(ws) == 1 && ws[0] == "missed":
		r.late = &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonChatUnavailable, Msg: "too late"}
	default:
		return false
	}
	return true
}

// effects writes what has changed since before.
func (r *rig) effects(out *strings.Builder, before []ops.Operation) {
	if d := r.dialog; d != nil && d.Intro != "seen" {
		fmt.Fprintf(out, "= form %q\n", d.Title)
		if d.Intro != "" {
			fmt.Fprintf(out, "=   %s\n", d.Intro)
		}
		for _, f := range d.Fields {
			fmt.Fprintf(out, "=   %s: %s", f.Name, f.Label)
			if f.Hint != "" {
				fmt.Fprintf(out, " (%s)", f.Hint)
			}
			for _, o := range f.Options {
				fmt.Fprintf(out, " [%s]", o.Value)
			}
			if f.Default != "" {
				fmt.Fprintf(out, " = %s", f.Default)
			}
			out.WriteString("\n")
		}
	}
	for i, op := range r.all() {
		switch q := op.Request; {
		case i >= len(before):
			fmt.Fprintf(out, "= %s %s of %s", op.ID, q.Action, q.Target)
			for _, k := range slices.Sorted(maps.Keys(q.Params)) {
				fmt.Fprintf(out, " %s=%q", k, q.ShownParams()[k])
			}
			if q.Why != "" {
				fmt.Fprintf(out, " why=%q", q.Why)
			}
			fmt.Fprintf(out, ": %s\n", op.State)
		case before[i].State != op.State || before[i].Run != op.Run:
			fmt.Fprintf(out, "= %s: %s → %s", op.ID, before[i].State, op.State)
			if op.Run != before[i].Run {
				fmt.Fprintf(out, ", run %d", op.Run)
			}
			out.WriteString("\n")
		}
	}
}

func shown(a chat.Answer) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(a.Errors)) {
		fmt.Fprintf(&b, "| %s: %s\n", k, a.Errors[k])
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(read(a.Message), "\n"), "\n") {
		if a.Message != nil {
			b.WriteString(strings.TrimRight("| "+line, " ") + "\n")
		}
	}
	return b.String()
}
