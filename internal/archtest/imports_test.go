package archtest

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// rules say what a package of ours may import besides the standard library, as path.Match patterns.
// The longest pattern that matches a package is its rule. Tests are free, and so are the fakes and
// suites that are made for them.
//
//	ops ← adapters/chat ← commands, notifier, and the chat platforms
//	ops ← store, adapters/gitlab
//	cmd/bot → all
func rules() map[string][]string {
	leaf := []string{"ocim/internal/clock", "ocim/internal/crash", "ocim/internal/secret", "ocim/internal/redact"}
	with := func(more ...string) []string { return append(slices.Clone(leaf), more...) }
	return map[string][]string{
		"ocim/ops":                 {},
		"ocim/adapters/chat":       {"ocim/ops"},
		"ocim/commands":            {"ocim/ops", "ocim/adapters/chat"},
		"ocim/notifier":            {"ocim/ops", "ocim/adapters/chat", "golang.org/x/time"},
		"ocim/adapters/slack":      with("ocim/ops", "ocim/adapters/chat", "github.com/slack-go/slack", "github.com/gorilla/websocket", "golang.org/x/*"),
		"ocim/adapters/mattermost": with("ocim/ops", "ocim/adapters/chat", "github.com/mattermost/mattermost/server/public", "golang.org/x/*"),
		"ocim/adapters/terminal":   with("ocim/ops", "ocim/adapters/chat"),
		"ocim/adapters/gitlab":     with("ocim/ops", "gitlab.com/gitlab-org/api/client-go/v2", "github.com/hashicorp/go-retryablehttp", "golang.org/x/*"),
		"ocim/store":               with("ocim/ops", "ocim/store/migrations", "github.com/mattn/go-sqlite3", "github.com/pressly/goose/v3"),
		"ocim/store/migrations":    {},
		"ocim/config":              {"ocim/internal/secret", "go.yaml.in/yaml/v4"},
		"ocim/templates":           {},
		"ocim/internal/*":          {"ocim/internal/secret"},
		"ocim/cmd/bot":             {"*", "*/*", "*/*/*", "*/*/*/*", "*/*/*/*/*"},
	}
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Module     *struct{ Path string }
}

// graph is the import graph of everything that the packages below root need.
func graph(t *testing.T) map[string]pkg {
	t.Helper()
	look(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Imports,Module", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

// look stats every Go file. The go command keeps the result of a test until something changes that
// the test itself has looked at; what go list reads does not count.
func look(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "bin" || d.Name() == "data"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(p, ".go"):
			_, err = os.Stat(p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ours(importPath string) bool { return strings.HasPrefix(importPath, "ocim/") }

// forTests reports whether a package is there for tests only.
func forTests(importPath string) bool {
	return strings.HasPrefix(importPath, "ocim/e2e/") || strings.HasSuffix(importPath, "test")
}

// named is how an import appears in rules and in the golden file: a package of ours by its path,
// anything else by its module.
func named(all map[string]pkg, importPath string) string {
	if p := all[importPath]; !ours(importPath) && p.Module != nil {
		return p.Module.Path
	}
	return importPath
}

// breaches lists the arrows that no rule allows, the packages without a rule, and the rules without
// a package.
func breaches(all map[string]pkg, rules map[string][]string) []string {
	var out []string
	used := map[string]bool{}
	for _, from := range slices.Sorted(maps.Keys(all)) {
		if !ours(from) || forTests(from) {
			continue
		}
		rule := ""
		for pattern := range rules {
			if ok, err := path.Match(pattern, from); err == nil && ok && len(pattern) > len(rule) {
				rule = pattern
			}
		}
		if rule == "" {
			out = append(out, from+" has no rule")
			continue
		}
		used[rule] = true
		for _, imported := range all[from].Imports {
			to := named(all, imported)
			switch {
			case all[imported].Standard || imported == "C":
			case forTests(to) && from != "ocim/cmd/bot":
				out = append(out, from+" imports "+to+", which is for tests")
			case !slices.ContainsFunc(rules[rule], func(pattern string) bool { ok, err := path.Match(pattern, to); return err == nil && ok }):
				out = append(out, from+" imports "+to)
			}
		}
	}
	for pattern := range rules {
		if !used[pattern] {
			out = append(out, "the rule for "+pattern+" fits no package")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestImportsKeepTheRules(t *testing.T) {
	t.Parallel()
	for _, b := range breaches(graph(t), rules()) {
		t.Errorf("%s; the arrows are drawn in rules() and in .golangci.yml, and a new one takes a decision record in docs/adr", b)
	}
}

// What the domain needs in the end, over all steps, is the standard library: no SQL, no HTTP server,
// no YAML, no chat.
func TestOpsNeedsTheStandardLibraryAlone(t *testing.T) {
	t.Parallel()
	all := graph(t)
	for _, found := range reached(all, "ocim/ops") {
		if p := all[found]; !p.Standard && found != "ocim/ops" {
			t.Errorf("ops needs %s", found)
		}
		if slices.Contains([]string{"net/http", "database/sql", "os/exec", "html/template", "text/template"}, found) {
			t.Errorf("ops needs %s, which belongs to an adapter", found)
		}
	}
}

// reached lists everything that a package needs, over all steps.
func reached(all map[string]pkg, from string) []string {
	seen := map[string]bool{}
	var walk func(string)
	walk = func(p string) {
		if !seen[p] {
			seen[p] = true
			for _, i := range all[p].Imports {
				walk(i)
			}
		}
	}
	walk(from)
	return slices.Sorted(maps.Keys(seen))
}

// A check that cannot fail checks nothing: each kind of breach is made here and must be told.
func TestBreachesAreFound(t *testing.T) {
	t.Parallel()
	rules := map[string][]string{
		"ocim/ops": {}, "ocim/store": {"ocim/ops", "github.com/mattn/go-sqlite3"}, "ocim/adapters/chat": {"ocim/ops"}, "ocim/internal/*": {}, "ocim/cmd/bot": {"*/*", "*/*/*"},
	}
	good := func() map[string]pkg {
		return map[string]pkg{
			"fmt":                            {ImportPath: "fmt", Standard: true},
			"ocim/ops":                       {ImportPath: "ocim/ops", Imports: []string{"fmt"}},
			"ocim/store":                     {ImportPath: "ocim/store", Imports: []string{"fmt", "ocim/ops", "github.com/mattn/go-sqlite3"}},
			"ocim/adapters/chat":             {ImportPath: "ocim/adapters/chat", Imports: []string{"ocim/ops"}},
			"ocim/adapters/chat/chattest":    {ImportPath: "ocim/adapters/chat/chattest", Imports: []string{"ocim/store", "testing"}},
			"ocim/internal/clock":            {ImportPath: "ocim/internal/clock"},
			"ocim/cmd/bot":                   {ImportPath: "ocim/cmd/bot", Imports: []string{"ocim/store", "ocim/ops"}},
			"github.com/mattn/go-sqlite3":    {ImportPath: "github.com/mattn/go-sqlite3", Module: &struct{ Path string }{"github.com/mattn/go-sqlite3"}},
			"github.com/slack-go/slack/sub":  {ImportPath: "github.com/slack-go/slack/sub", Module: &struct{ Path string }{"github.com/slack-go/slack"}},
			"github.com/mattn/go-sqlite3/hm": {ImportPath: "github.com/mattn/go-sqlite3/hm", Module: &struct{ Path string }{"github.com/mattn/go-sqlite3"}},
		}
	}
	if got := breaches(good(), rules); len(got) > 0 {
		t.Fatalf("got %v for a graph that keeps the rules", got)
	}
	for _, tc := range []struct {
		name, from, to string
		want           string
	}{
		{"out of the domain", "ocim/ops", "ocim/store", "ocim/ops imports ocim/store"},
		{"between two implementations", "ocim/store", "ocim/adapters/chat", "ocim/store imports ocim/adapters/chat"},
		{"a library of another's", "ocim/store", "github.com/slack-go/slack/sub", "ocim/store imports github.com/slack-go/slack"},
		{"a fake in the product", "ocim/store", "ocim/adapters/chat/chattest", "ocim/store imports ocim/adapters/chat/chattest, which is for tests"},
		{"a leaf that grows", "ocim/internal/clock", "ocim/ops", "ocim/internal/clock imports ocim/ops"},
		{"a new package", "ocim/util", "fmt", "ocim/util has no rule"},
	} {
		all := good()
		p := all[tc.from]
		p.ImportPath, p.Imports = tc.from, append(p.Imports, tc.to)
		all[tc.from] = p
		if got := breaches(all, rules); !slices.Equal(got, []string{tc.want}) {
			t.Errorf("%s: got %v, want %q", tc.name, got, tc.want)
		}
	}
	all := good()
	delete(all, "ocim/store")
	if got := breaches(all, rules); !slices.Equal(got, []string{"the rule for ocim/store fits no package"}) {
		t.Errorf("got %v, want the rule that fits nothing", got)
	}
}

// TestImportGraph prints the arrows, so that a new one is seen in review although a rule allows it.
func TestImportGraph(t *testing.T) {
	t.Parallel()
	all := graph(t)
	var b strings.Builder
	b.WriteString("# Who imports whom, without the standard library. Written by go test ./internal/archtest -update.\n")
	for _, from := range slices.Sorted(maps.Keys(all)) {
		if !ours(from) || strings.HasPrefix(from, "ocim/e2e/") {
			continue
		}
		to := map[string]bool{}
		for _, i := range all[from].Imports {
			if !all[i].Standard && i != "C" {
				to[named(all, i)] = true
			}
		}
		fmt.Fprintf(&b, "\n%s\n", from)
		for _, i := range slices.Sorted(maps.Keys(to)) {
			fmt.Fprintf(&b, "\t%s\n", i)
		}
	}
	const file = "testdata/imports.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the arrows have changed; go test ./internal/archtest -update writes them anew (-want +got):\n%s", diff)
	}
}
