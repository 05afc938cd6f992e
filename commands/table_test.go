package commands

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ocim/ops"
)

// A command is one file and one line. Who forgets the line is told which.
func TestEveryCommandIsInTheTable(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	made, listed := map[string]string{}, map[string]int{} // constructor to file; constructor to uses in table
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			if fn.Name.Name == "table" {
				ast.Inspect(fn.Body, func(n ast.Node) bool {
					if call, ok := n.(*ast.CallExpr); ok {
						listed[fmt.Sprint(call.Fun)]++
					}
					return true
				})
				continue
			}
			if makesCommand(fn) {
				made[fn.Name.Name] = path
			}
		}
	}
	if len(made) < 8 {
		t.Errorf("got %d commands in the syntax trees, want at least 8: has their shape changed?", len(made))
	}
	for name, path := range made {
		if listed[name] != 1 {
			t.Errorf("%s: the command %s stands %d times in table() in command.go, want once", path, name, listed[name])
		}
	}
	for name := range listed {
		if made[name] == "" {
			t.Errorf("table() calls %s, which makes no command", name)
		}
	}
}

// makesCommand reports whether fn has no parameters and returns *Command.
func makesCommand(fn *ast.FuncDecl) bool {
	if fn.Type.Params.NumFields() != 0 || fn.Type.Results.NumFields() != 1 {
		return false
	}
	star, ok := fn.Type.Results.List[0].Type.(*ast.StarExpr)
	return ok && fmt.Sprint(star.X) == "Command"
}

// What help, dialogs and the docs page are made of is there for every command.
func TestCommandsAreComplete(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z]{2,16}$`)
	seen := map[string]bool{}
	for _, cmd := range table() {
		if !name.MatchString(cmd.Name) || seen[cmd.Name] {
			t.Errorf("got command %q, want a word of its own", cmd.Name)
		}
		seen[cmd.Name] = true
		if cmd.Summary == "" || strings.HasSuffix(cmd.Summary, ".") || cmd.Summary[:1] != strings.ToLower(cmd.Summary[:1]) {
			t.Errorf("%s: got summary %q, want a phrase", cmd.Name, cmd.Summary)
		}
		if cmd.Run == nil || len(cmd.Example) == 0 {
			t.Errorf("%s: want something to run, and examples", cmd.Name)
		}
		if cmd.Mutates && cmd.Needs == "" {
			t.Errorf("%s changes something and needs no permission", cmd.Name)
		}
		if cmd.Mutates && !slices.ContainsFunc(cmd.Example, func(e string) bool { return strings.HasSuffix(e, " --plan") }) {
			t.Errorf("%s changes something and no example shows --plan", cmd.Name)
		}
		optional := false
		for _, p := range cmd.Params {
			if p.Name == "" || p.Help == "" {
				t.Errorf("%s: parameter %+v wants a name and a help text", cmd.Name, p)
			}
			if optional && !p.Optional {
				t.Errorf("%s: %s can never be given without the one before it", cmd.Name, p.Name)
			}
			optional = p.Optional
		}
	}
}

// The help shows only what works.
func TestEveryExampleParses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, cmd := range table() {
		for _, e := range cmd.Example {
			ws, err := words(e)
			if err != nil || ws[0] != cmd.Name {
				t.Errorf("%s: example %q: got %v, %v", cmd.Name, e, ws, err)
				continue
			}
			c, err := parse(cmd, ws[1:])
			if err != nil {
				t.Errorf("%s: example %q: %v", cmd.Name, e, err)
				continue
			}
			if strings.Contains(e, "=") != (len(c.Pairs) > 0) || strings.Contains(e, "--plan") != c.Plan {
				t.Errorf("example %q: got %v, plan %t", e, c.Pairs, c.Plan)
			}
		}
		help := r.says("bob", "help "+cmd.Name)
		for _, want := range append([]string{cmd.Summary, "Who can: " + who(cmd)}, cmd.Example...) {
			if !strings.Contains(help, want) {
				t.Errorf("help %s: got %q, want it to contain %q", cmd.Name, help, want)
			}
		}
		if all := r.says("bob", "help"); !strings.Contains(all, "/ocim "+cmd.Name) || !strings.Contains(all, cmd.Summary) {
			t.Errorf("help: got %q, want it to list %s", all, cmd.Name)
		}
	}
}

func TestOverlongInput(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	long := strings.Repeat("ä", maxText/2)
	for _, tc := range []struct{ name, text, want string }{
		{"the longest", "whoami " + long[:maxText-len("whoami ")-1], "is one word too many"},
		{"too long", "whoami " + long, "at most 4000 bytes"},
		{"a megabyte", strings.Repeat("x", 1<<20), "at most 4000 bytes"},
		{"many words", "deploy" + strings.Repeat(" x", 1900), "is one word too many"},
		{"many parameters", "deploy demo" + strings.Repeat(" k=v", 900), "is given twice"},
		{"a long value", "deploy demo note=" + strings.Repeat("x", 1001), "at most 1000 bytes"},
		{"a long why", "deploy demo why=" + strings.Repeat("x", 501), "at most 500 bytes"},
		{"a long key", "deploy demo " + strings.Repeat("k", 3000) + "=v", "has no parameter"},
	} {
		got := r.says("alice", tc.text)
		if !strings.Contains(got, tc.want) || !strings.Contains(got, "invalid_") && !strings.Contains(got, "unknown_parameter") {
			t.Errorf("%s: got %q, want it to contain %q", tc.name, got, tc.want)
		}
		if len(got) > 1000 {
			t.Errorf("%s: got an answer of %d bytes, want what was typed not to be repeated", tc.name, len(got))
		}
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("got %d operations, want none", n)
	}
}

// docsHead is the part of the docs page that is the same whatever commands there are.
const docsHead = `<!-- Made by go generate ./commands from the table of commands. -->
# Which commands are there?

They are the same on Slack, Mattermost and the terminal. ` + "`/ocim help`" + ` lists them, ` + "`/ocim help deploy`" + ` or
` + "`/ocim deploy --help`" + ` explains one. Answers are shown to you alone; an operation's card stands in the channel.

## How a command is read
- Words are separated by blanks. Single or double quotes keep blanks together, a backslash keeps the next character: ` + "`why=\"new theme\"`" + `.
- ` + "`key=value`" + ` sets a parameter of the operation, without blanks around the equals sign. Which ones exist is declared in ` + "`ocim.yaml`" + `
  ([operations](operations.md)). ` + "`why=…`" + ` is always there: it stands on the card. A secret parameter is taken by the form alone, never
  in a command, whose text chat platforms keep.
- What phones put in is repaired: a capital first letter, a full stop at the end, curly quotes, a long dash instead of ` + "`--`" + `, special blanks.
- An instance is named as ` + "`demo`" + `, or as ` + "`eu/demo`" + ` where two clusters have one. An operation is named by its six characters, or by its
  instance: that means the unfinished operation, else the last one.
- A verb that changes something takes ` + "`--plan`" + `: it checks everything, shows exactly what would be sent, and sends nothing.
- At most 4,000 bytes, and ` + "`limits.per_person`" + ` requests of one person in a minute.

Every refusal says what is wrong, what to do next, and carries a word that [reasons](reasons.md) explains.
`

// TestDocs makes docs/commands.md from the table and fails when the file in the tree is another.
func TestDocs(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(docsHead)
	for _, cmd := range table() {
		fmt.Fprintf(&b, "\n## %s\n%s.\n\n", cmd.Name, strings.ToUpper(cmd.Summary[:1])+cmd.Summary[1:])
		fmt.Fprintf(&b, "    /ocim %s\n\n", strings.TrimPrefix(usage(cmd), "Usage: "))
		who := strings.Replace(who(cmd), "may."+string(cmd.Needs)+" in ocim.yaml", "`may."+string(cmd.Needs)+"` in `ocim.yaml`", 1)
		fmt.Fprintf(&b, "Who can: %s.\n", who)
		if len(cmd.Params) > 0 {
			b.WriteString("\n| argument | what it is |\n| --- | --- |\n")
			for _, p := range cmd.Params {
				name := strings.ReplaceAll(p.Name, "|", ", ")
				if p.Optional {
					name += " (optional)"
				}
				fmt.Fprintf(&b, "| %s | %s |\n", name, p.Help)
			}
		}
		b.WriteString("\n")
		for i, e := range cmd.Example {
			if i > 0 {
				b.WriteString(" · ")
			}
			fmt.Fprintf(&b, "`/ocim %s`", e)
		}
		b.WriteString("\n")
	}
	const path = "../docs/commands.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("docs/commands.md is stale, run go generate ./commands (-want +got):\n%s", diff)
	}
}

// Whatever is typed: no panic, the same words when each is quoted, and an error tells its reason and
// what to do next.
func FuzzCommand(f *testing.F) {
	for _, cmd := range table() {
		for _, e := range cmd.Example {
			f.Add(e)
		}
	}
	for _, s := range []string{
		"", " ", "Deploy Demo.", "deploy “a b” —plan", "deploy demo why='a \"b\"'", `deploy a\ b`, `deploy "a\"b"`, "deploy \"", "deploy '\\'", "deploy \\",
		"deploy a=1 a=2", "deploy =", "deploy --", "deploy -", "deploy --plan=yes", "status eu/demo/x", "logs a b c", "retry \u202eabc", "help help help",
		"deploy \x00\xff", "cancel #k7m2qx", "\u00a0", "`deploy` demo", "deploy <!channel> &amp;", strings.Repeat("a ", 100), "deploy why=" + strings.Repeat("x", 3000),
	} {
		f.Add(s)
	}
	c := &Commands{Config: Config{Trigger: "/ocim"}, table: table()}
	f.Fuzz(func(t *testing.T, text string) {
		ws, err := words(text)
		if err != nil {
			explained(t, text, err)
			return
		}
		again, err := words(requoted(ws))
		if diff := cmp.Diff(ws, again); err == nil && diff != "" {
			t.Fatalf("%q is %q and, quoted, %q", text, ws, again)
		} else if err != nil && len(requoted(ws)) <= maxText {
			t.Fatalf("%q is %q and cannot be read when it is quoted: %v", text, ws, err)
		}
		if len(ws) == 0 {
			return
		}
		cmd, err := c.find(ws[0])
		if err != nil {
			explained(t, text, err)
			return
		}
		call, err := parse(cmd, ws[1:])
		if err != nil {
			explained(t, text, err)
			return
		}
		if len(call.Args) > len(cmd.Params)+1 || len(call.Pairs) > 0 && !cmd.Pairs || call.Plan && !cmd.Mutates {
			t.Fatalf("%q: got %+v, more than %s takes", text, call, cmd.Name)
		}
		for name, v := range call.Args {
			if len(v) > maxWord {
				t.Fatalf("%q: %s has %d bytes", text, name, len(v))
			}
		}
	})
}

func requoted(ws []string) string {
	out := make([]string, len(ws))
	for i, w := range ws {
		out[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`
	}
	return strings.Join(out, " ")
}

func explained(t *testing.T, text string, err error) {
	t.Helper()
	var e *ops.Error
	if !errors.As(err, &e) || e.Reason == "" || e.Msg == "" || e.Code != ops.CodeInvalid && e.Code != ops.CodeNotFound {
		t.Fatalf("%q: got %v, want an error for people", text, err)
	}
	if len(e.Msg) > 500 || strings.ContainsFunc(e.Msg, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		t.Fatalf("%q: got message %q, want a short and harmless one", text, e.Msg)
	}
	if next(e, "/ocim") == "" && len(e.Suggest) == 0 {
		t.Fatalf("%q: %v says nothing about what to do", text, err)
	}
}
