package templates_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/templates"
)

func schema(t *testing.T) *chat.Schema {
	t.Helper()
	text, err := templates.FS.ReadFile("fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	s, err := chat.ReadSchema(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFieldsAreThoseOfTheCode compares fields.txt with the types that are given to the templates,
// in both directions.
func TestFieldsAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	s := schema(t)
	all := answers()
	maps.Copy(all, views())
	types := map[string]reflect.Type{}
	for _, m := range s.Messages {
		for name, data := range all[m.Name] {
			typ := reflect.TypeOf(data)
			if typ.Name() != m.Kind {
				t.Errorf("message %s, %s: fields.txt says %s, the code gives %s", m.Name, name, m.Kind, typ.Name())
			}
			collect(types, typ)
		}
		delete(all, m.Name)
	}
	if len(all) > 0 {
		t.Errorf("messages %v are not in fields.txt", slices.Sorted(maps.Keys(all)))
	}
	files, err := filepath.Glob("*.tmpl")
	if err != nil || len(files) != len(s.Messages) {
		t.Errorf("got %d templates and %d messages in fields.txt, %v", len(files), len(s.Messages), err)
	}
	for _, typ := range s.Types {
		want := map[string]string{}
		for _, f := range s.Of[typ.Name] {
			want[f.Name] = f.Kind
		}
		if types[typ.Name] == nil {
			t.Errorf("type %s: the code gives no message such a thing", typ.Name)
			continue
		}
		if diff := cmp.Diff(want, kinds(t, types[typ.Name])); diff != "" {
			t.Errorf("type %s (-fields.txt +code):\n%s", typ.Name, diff)
		}
		delete(types, typ.Name)
	}
	if len(types) > 0 {
		t.Errorf("types %v are not in fields.txt", slices.Sorted(maps.Keys(types)))
	}
}

// TestBuiltInTemplatesPassTheCheckOfAnOperators shows that fields.txt has all that they use.
func TestBuiltInTemplatesPassTheCheckOfAnOperators(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, templates.FS); err != nil {
		t.Fatal(err)
	}
	if _, err := chat.LoadTemplates(templates.FS, dir); err != nil {
		t.Error(err)
	}
}

// collect finds a type and those of its fields.
func collect(types map[string]reflect.Type, typ reflect.Type) {
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() {
		return
	}
	types[typ.Name()] = typ
	for _, f := range reflect.VisibleFields(typ) {
		if !f.Anonymous {
			collect(types, f.Type)
		}
	}
}

// kinds are the fields of a type as fields.txt names them. A field of a kind that it does not know,
// such as a string that would be printed without escaping, is an error.
func kinds(t *testing.T, typ reflect.Type) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, f := range reflect.VisibleFields(typ) {
		if f.Anonymous {
			continue
		}
		out[f.Name] = kind(f.Type)
		if out[f.Name] == "" {
			t.Errorf("%s.%s is a %s: a template must not see one", typ.Name(), f.Name, f.Type)
		}
	}
	return out
}

func kind(typ reflect.Type) string {
	switch typ {
	case reflect.TypeFor[chat.Foreign]():
		return "text"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[time.Time]():
		return "time"
	}
	switch typ.Kind() {
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Bool:
		return "flag"
	case reflect.Slice:
		return "[]" + kind(typ.Elem())
	case reflect.Pointer:
		return "?" + kind(typ.Elem())
	case reflect.Struct:
		return typ.Name()
	}
	return ""
}

const page = "../docs/messages.md"

// TestPageListsEveryField writes the lists of docs/messages.md from fields.txt with -update, and
// otherwise checks that they are there.
func TestPageListsEveryField(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- fields.txt -->\n", "<!-- end of fields.txt -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the fields", page)
	}
	want := before + begin + "\n" + lists(schema(t)) + end + after
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(text), want); diff != "" {
		t.Errorf("%s is stale; run with -update (-is +want):\n%s", page, diff)
	}
}

func lists(s *chat.Schema) string {
	var b strings.Builder
	b.WriteString("| file | sees | what it is |\n|---|---|---|\n")
	for _, m := range s.Messages {
		fmt.Fprintf(&b, "| `%s.tmpl` | [%s](#%s) | %s |\n", m.Name, m.Kind, strings.ToLower(m.Kind), m.About)
	}
	for _, typ := range s.Types {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| field | kind | what it holds |\n|---|---|---|\n", typ.Name, typ.About)
		for _, f := range s.Of[typ.Name] {
			fmt.Fprintf(&b, "| `.%s` | %s | %s |\n", f.Name, f.Kind, f.About)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// TestExamplesOfThePageWork loads every example as an operator would, and renders it.
func TestExamplesOfThePageWork(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	all := answers()
	maps.Copy(all, views())
	examples := regexp.MustCompile("(?s)`([a-z_]+)\\.tmpl`:\n\n```\n(.*?)```\n").FindAllStringSubmatch(string(text), -1)
	if len(examples) < 3 {
		t.Fatalf("got %d examples, want some", len(examples))
	}
	for _, e := range examples {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, e[1]+".tmpl"), []byte(e[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := chat.LoadTemplates(templates.FS, dir)
		if err != nil {
			t.Errorf("the example does not load: %v", err)
			continue
		}
		for name, data := range all[e[1]] {
			m, err := set.Render(e[1], data)
			if err != nil {
				t.Errorf("%s, %s: %v", e[1], name, err)
				continue
			}
			for _, b := range m.Blocks {
				if strings.Contains(b.Text.String(), "does not work") {
					t.Errorf("%s, %s: the example failed", e[1], name)
				}
			}
			checkMessage(t, e[1]+" "+name, m)
		}
	}
}
