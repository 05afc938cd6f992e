package archtest

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"ocim/adapters/slack"
	"ocim/config"
)

const docs = "../../docs"

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// operators are the pages that an operator follows word by word.
func operators(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(docs, "setup-*.md"))
	if err != nil || len(found) < 3 {
		t.Fatalf("got pages %v, %v, want one for each peer", found, err)
	}
	pages := []string{"config.md", "operations.md"}
	for _, p := range found {
		pages = append(pages, filepath.Base(p))
	}
	return pages
}

// keys lists the paths of the configuration, without indices: gitlab.token, operations.params.name.
func keys(t reflect.Type, path string, into map[string]reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct {
		t = t.Elem()
	}
	into[path] = t
	if t.Kind() != reflect.Struct {
		return
	}
	for f := range t.Fields() {
		if f.Tag.Get("yaml") != "" {
			keys(f.Type, strings.TrimPrefix(path+"."+f.Tag.Get("yaml"), "."), into)
		}
	}
}

func fileKeys() map[string]reflect.Type {
	all := map[string]reflect.Type{}
	keys(reflect.TypeFor[config.File](), "", all)
	return all
}

// unknownKeys lists the keys of a YAML document that the configuration does not have. below a map
// of texts every key is good, and so is each name of an operation.
func unknownKeys(n *yaml.Node, path string, known map[string]reflect.Type) []string {
	switch n.Kind {
	case yaml.DocumentNode, yaml.SequenceNode:
		var out []string
		for _, c := range n.Content {
			out = append(out, unknownKeys(c, path, known)...)
		}
		return out
	case yaml.MappingNode:
		if t, ok := known[path]; ok && t.Kind() == reflect.Map {
			return nil
		}
		var out []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
			if path == "operations" || path == "projects.operations" {
				at = path + ".*"
			}
			key := strings.ReplaceAll(at, ".*", "")
			if _, ok := known[key]; !ok {
				out = append(out, at)
				continue
			}
			out = append(out, unknownKeys(n.Content[i+1], at, starred(known, at, key))...)
		}
		return out
	default:
		return nil
	}
}

// starred makes the keys of an operation known under its starred path.
func starred(known map[string]reflect.Type, at, key string) map[string]reflect.Type {
	if at == key {
		return known
	}
	out := maps.Clone(known)
	for k, t := range known {
		if rest, ok := strings.CutPrefix(k, key); ok && (rest == "" || rest[0] == '.') {
			out[at+rest] = t
		}
	}
	return out
}

// The YAML in the documents has only keys that exist, and what is complete loads.
func TestDocsShowConfigurationThatExists(t *testing.T) {
	t.Parallel()
	fence := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	n := 0
	for _, page := range operators(t) {
		for _, m := range fence.FindAllStringSubmatch(readDoc(t, page), -1) {
			n++
			var root yaml.Node
			if err := yaml.Unmarshal([]byte(m[1]), &root); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, m[1])
				continue
			}
			for _, key := range unknownKeys(&root, "", fileKeys()) {
				t.Errorf("%s shows the key %s, which does not exist", page, key)
			}
			if problems := load(m[1]); len(problems) > 0 {
				t.Errorf("%s: %s\n%s", page, strings.Join(problems, "\n"), m[1])
			}
		}
	}
	if n < 6 {
		t.Errorf("got %d examples, want more: has their form changed?", n)
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte("gitlab: [{toke: x}]\noperations: {deploy: {begin: trigger, variables: {ANY: x}, params: [{nam: x}]}}\nlimit: {}"), &root); err != nil {
		t.Fatal(err)
	}
	want := []string{"gitlab.toke", "operations.*.begin", "operations.*.params.nam", "limit"}
	if got := unknownKeys(&root, "", fileKeys()); !slices.Equal(got, want) {
		t.Errorf("got unknown keys %v, want %v: this test finds nothing", got, want)
	}
}

// load completes an example to a whole configuration and returns what is wrong with it.
func load(example string) []string {
	rest := map[string]string{
		"key": "key: env:DOC_KEY\n", "public_url": "public_url: https://ocim.example.org\n",
		"slack":  "slack: [{workspace: T024BE7LD, signing_secrets: [env:DOC], bot_token: env:SLACK_BOT_TOKEN, may: {start: [U024BE7LH]}}]\n",
		"gitlab": "gitlab: [{name: gitlab, url: https://gitlab.com, token: env:DOC, write_token: env:DOC}]\n",
		"projects": "projects: [{name: grove-eu, gitlab: gitlab, id: 42, trigger_token: env:DOC}]\n" +
			"clusters: [{name: eu, project: grove-eu, instances: [demo]}]\n",
	}
	text := example
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		if !regexp.MustCompile(`(?m)^` + key + `:`).MatchString(example) {
			text += rest[key]
		}
	}
	const value = "0123456789abcdef0123456789abcdef"
	env := []string{}
	for _, m := range regexp.MustCompile(`env:([A-Z_]+)`).FindAllStringSubmatch(text, -1) {
		v := value + m[1]
		if m[1] == "SLACK_BOT_TOKEN" {
			v = "xoxb-" + v
		}
		env = append(env, m[1]+"="+v)
	}
	if _, err := config.Parse("ocim.yaml", []byte(text), env); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// The row that docs/operations.md calls built in is the one that is built in.
func TestDocsShowTheBuiltInRow(t *testing.T) {
	t.Parallel()
	parse := func(example string) map[string]config.Operation {
		cfg, err := config.Parse("ocim.yaml", []byte("key: env:DOC\n"+example), []string{"DOC=0123456789abcdef0123456789abcdef"})
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Operations
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(readDoc(t, "operations.md"))
	if m == nil {
		t.Fatal("there is no row in docs/operations.md")
	}
	builtIn := parse("")
	if diff := cmp.Diff(builtIn, parse(strings.Replace(m[1], "deploy:", "other:", 1)), cmp.Transformer("one", func(all map[string]config.Operation) config.Operation {
		if op, ok := all["other"]; ok {
			return op
		}
		return all["deploy"]
	})); diff != "" || len(builtIn) != 1 {
		t.Errorf("got %d rows built in; docs/operations.md shows another (-built in +shown):\n%s", len(builtIn), diff)
	}
}

// Words in code style that look like a key of the configuration are one, or a reason, or a word of
// GitLab's, Slack's or Mattermost's that stands here.
func TestDocsNameKeysThatExist(t *testing.T) {
	t.Parallel()
	theirs := []string{
		"read_api", "ocim_key", "ocim_ref", "socket_mode_enabled", "manage_slash_commands", "manage_own_slash_commands", "create_post_ephemeral", "merge_request",
	}
	known := fileKeys()
	leaves := map[string]bool{}
	for path := range known {
		leaves[path[strings.LastIndex(path, ".")+1:]] = true
	}
	ok := func(word string) bool {
		path := regexp.MustCompile(`\[\d*\]`).ReplaceAllString(word, "")
		if _, isKey := known[path]; isKey || leaves[path] || slices.Contains(theirs, word) || slices.Contains(reasons(t), word) {
			return true
		}
		for k := range known { // may.start, short for slack.may.start
			if strings.Contains(path, ".") && strings.HasSuffix(k, "."+path) {
				return true
			}
		}
		return regexp.MustCompile(`^operations\.[a-z]+\.`).MatchString(path) && leaves[path[strings.LastIndex(path, ".")+1:]]
	}
	code := regexp.MustCompile("`([a-z]+(?:\\[\\d*\\])?(?:[._][a-z]+(?:\\[\\d*\\])?)+)(?:: [^`]*)?`")
	n := 0
	for _, page := range operators(t) {
		for _, m := range code.FindAllStringSubmatch(readDoc(t, page), -1) {
			if word := m[1]; !strings.HasSuffix(word, ".yaml") && !strings.HasSuffix(word, ".md") {
				n++
				if !ok(word) {
					t.Errorf("%s names %s, which is neither a key of ocim.yaml nor a reason", page, word)
				}
			}
		}
	}
	if n < 40 || ok("gitlab.tokens") || ok("writ_token") || !ok("gitlab[0].token") {
		t.Errorf("got %d words looked at; want many, and wrong ones found", n)
	}
}

// reasons lists the values of the constants of type Reason in package ops.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../ops/errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && fmt.Sprint(v.Type) == "Reason" {
			for _, e := range v.Values {
				if lit, ok := e.(*ast.BasicLit); ok {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						out = append(out, s)
					}
				}
			}
		}
		return true
	})
	if len(out) < 30 {
		t.Fatalf("got %d reasons, want more: has their form changed?", len(out))
	}
	return out
}

// docs/reasons.md explains every reason, and none that does not exist.
func TestDocsExplainEveryReason(t *testing.T) {
	t.Parallel()
	explained := map[string]bool{}
	for line := range strings.Lines(readDoc(t, "reasons.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			explained[m[1]] = true
		}
	}
	all := reasons(t)
	for _, r := range all {
		if !explained[r] {
			t.Errorf("docs/reasons.md does not explain %s", r)
		}
	}
	for r := range explained {
		if !slices.Contains(all, r) {
			t.Errorf("docs/reasons.md explains %s, which does not exist", r)
		}
	}
}

// The manifest in docs/setup-slack.md is the one that ocim setup prints.
func TestDocsShowTheManifest(t *testing.T) {
	t.Parallel()
	m, err := slack.Manifest("https://ocim.example.org", false)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)(<!-- manifest[^\n]*-->\n```json\n)(.*?)(```)")
	text := readDoc(t, "setup-slack.md")
	if *update {
		text = block.ReplaceAllStringFunc(text, func(old string) string {
			parts := block.FindStringSubmatch(old)
			return parts[1] + string(m) + parts[3]
		})
		if err := os.WriteFile(filepath.Join(docs, "setup-slack.md"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	parts := block.FindStringSubmatch(text)
	if parts == nil {
		t.Fatal("there is no manifest in docs/setup-slack.md")
	}
	if !json.Valid([]byte(parts[2])) || parts[2] != string(m) {
		t.Errorf("the manifest is stale, run go test ./internal/archtest -update; got\n%s\nwant\n%s", parts[2], m)
	}
}

// Links between the documents lead somewhere.
func TestDocsLinkToWhatExists(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", filepath.Base(page), m[1])
			}
		}
	}
}
