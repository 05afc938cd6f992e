package ops

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestStaticPolicy(t *testing.T) {
	t.Parallel()
	p := NewStaticPolicy()
	p.Allow("slack", "T1", MayStart, "U1", " U2 ", "", "  ")
	p.Allow("mattermost", "chat", MayCancel, "U1")
	for _, tc := range []struct {
		name  string
		actor Actor
		perm  Permission
		want  bool
	}{
		{"listed", Actor{"slack", "T1", "U1"}, MayStart, true},
		{"blanks in the configuration", Actor{"slack", "T1", "U2"}, MayStart, true},
		{"blanks in the request", Actor{"slack", "T1", " U2 "}, MayStart, false},
		{"other permission", Actor{"slack", "T1", "U1"}, MayCancel, false},
		{"other workspace", Actor{"slack", "T2", "U1"}, MayStart, false},
		{"other platform", Actor{"mattermost", "T1", "U1"}, MayStart, false},
		{"same id elsewhere", Actor{"mattermost", "chat", "U1"}, MayCancel, true},
		{"other case", Actor{"slack", "T1", "u1"}, MayStart, false},
		{"not listed", Actor{"slack", "T1", "U3"}, MayStart, false},
		{"no user", Actor{"slack", "T1", ""}, MayStart, false},
		{"no workspace", Actor{"slack", "", "U1"}, MayStart, false},
		{"nobody", Actor{}, MayStart, false},
		{"no permission", Actor{"slack", "T1", "U1"}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := p.Allowed(tc.actor, tc.perm); got != tc.want {
				t.Errorf("%s %s: got %t, want %t", tc.actor, tc.perm, got, tc.want)
			}
		})
	}
	if NewStaticPolicy().Allowed(Actor{"slack", "T1", "U1"}, MayStart) {
		t.Error("an empty policy lets somebody act")
	}
}

// Fields must not run into each other: what one workspace may choose is never another's actor.
func TestStaticPolicyTakesTheWholeActor(t *testing.T) {
	t.Parallel()
	p := NewStaticPolicy()
	ids := []string{"a", "b", "a:b", "b:a", "a/b", ":", "a b"}
	p.Allow("a", "b:a", MayStart, "a:b")
	n := 0
	for _, platform := range ids {
		for _, workspace := range ids {
			for _, user := range ids {
				if p.Allowed(Actor{platform, workspace, user}, MayStart) {
					n++
				}
			}
		}
	}
	if n != 1 {
		t.Errorf("got %d of %d actors allowed, want the one that is listed", n, len(ids)*len(ids)*len(ids))
	}
}

// A policy cannot look at a name: it is given none. And no rule of ops or commands compares one.
func TestT06_NamesNeverDecide(t *testing.T) {
	t.Parallel()
	policy := reflect.TypeFor[Policy]()
	for m := range policy.Methods() {
		for in := range m.Type.Ins() {
			if in != reflect.TypeFor[Actor]() && in != reflect.TypeFor[Permission]() {
				t.Errorf("Policy.%s takes a %s", m.Name, in)
			}
		}
	}
	var fields []string
	for f := range reflect.TypeFor[Actor]().Fields() {
		fields = append(fields, f.Name)
	}
	if got := strings.Join(fields, " "); got != "Platform Workspace UserID" {
		t.Errorf("got fields %q of an Actor, want ids alone", got)
	}

	read := 0
	for _, dir := range []string{".", "../commands"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			read++
			ast.Inspect(tree, func(n ast.Node) bool {
				for _, decides := range deciding(n) {
					ast.Inspect(decides, func(n ast.Node) bool {
						if id, ok := n.(*ast.Ident); ok && (strings.HasSuffix(id.Name, "ByName") || strings.HasSuffix(id.Name, "ctorName") || id.Name == "byName") {
							t.Errorf("%s decides on %s", set.Position(id.Pos()), id.Name)
						}
						return true
					})
				}
				return true
			})
		}
	}
	if read < 20 {
		t.Errorf("read %d files only: the check has lost its subject", read)
	}
}

// deciding is the part of n on which something depends.
func deciding(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.IfStmt:
		return []ast.Node{n.Cond}
	case *ast.SwitchStmt:
		if n.Tag != nil {
			return []ast.Node{n.Tag}
		}
	case *ast.CaseClause:
		var out []ast.Node
		for _, e := range n.List {
			out = append(out, e)
		}
		return out
	case *ast.BinaryExpr:
		return []ast.Node{n}
	case *ast.IndexExpr:
		return []ast.Node{n.Index}
	}
	return nil
}
