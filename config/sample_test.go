package config

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// TestSample makes sample.yaml from the comments in file.go and the values in testdata, and fails
// when the file in the tree is another one.
func TestSample(t *testing.T) {
	t.Parallel()
	want := makeSample(t)
	if *update {
		if err := os.WriteFile("sample.yaml", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(Sample(), want); diff != "" {
		t.Errorf("sample.yaml is stale, run go generate ./config; got (-), want (+):\n%s", diff)
	}
}

func TestSampleLoads(t *testing.T) {
	t.Parallel()
	text := makeSample(t)
	var environ []string
	for _, ref := range regexp.MustCompile(`env:([A-Z_]+)`).FindAllStringSubmatch(text, -1) {
		value := "0123456789abcdef0123456789abcdef-" + ref[1]
		if ref[1] == "SLACK_BOT_TOKEN" {
			value = "xoxb-" + value
		}
		environ = append(environ, ref[1]+"="+value)
	}
	cfg, err := Parse("sample.yaml", []byte(text), environ)
	if err != nil {
		t.Fatalf("got %v, want a sample without problems", err)
	}
	if len(cfg.Warnings) > 0 {
		t.Errorf("got warnings %v, want none", cfg.Warnings)
	}
	got, want := cfg.Operations["deploy"], defaultOperations()["deploy"]
	got.Params = nil
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("the sample's deploy, without its parameter, is not the built-in one; got (+), want (-):\n%s", diff)
	}
}

// TestSampleNamesEveryKey fails when a field has no comment, and when a key that is commented out
// would not be YAML.
func TestSampleNamesEveryKey(t *testing.T) {
	t.Parallel()
	docs := comments(t)
	for name, fields := range docs {
		for field, doc := range fields {
			if doc == "" {
				t.Errorf("got no comment on %s.%s, want the text of the sample", name, field)
			}
		}
	}
	var root yaml.Node
	uncommented := regexp.MustCompile(`(?m)^( *(?:- )?)# ([a-z_]+: )`).ReplaceAllString(makeSample(t), "$1$2")
	if err := yaml.Unmarshal([]byte(uncommented), &root); err != nil {
		t.Errorf("got %v, want YAML when the optional keys are uncommented", err)
	}
}

const sampleHead = `# ocim.yaml: every key, with its default where it has one. Keys that are commented out may be left
# out. Secrets are written as env:NAME or file:/path. Any value can be overridden by a variable that
# is named after its path: OCIM_LISTEN_PUBLIC, OCIM_CLUSTERS_0_NAME.
`

func makeSample(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/sample-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	root, err := tree("sample-values.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	var f File
	s := &sampler{d: newDecoder("sample-values.yaml"), docs: comments(t)}
	s.d.decode(root, reflect.ValueOf(&f).Elem(), "")
	if len(s.d.problems) > 0 {
		t.Fatal(s.d.problems)
	}
	s.b.WriteString(sampleHead)
	s.fields(reflect.ValueOf(f), "", "", true)
	return s.b.String()
}

// sampler writes a File with its comments. What is neither written nor has a default is commented
// out.
type sampler struct {
	b    bytes.Buffer
	d    *decoder
	docs map[string]map[string]string
}

// fields writes the fields of a struct. Explained is false for the second and further elements of
// a list, which show only what is set.
func (s *sampler) fields(v reflect.Value, path, indent string, explained bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := f.Tag.Get("yaml")
		at := join(path, key)
		if !explained && !s.d.written(at) {
			continue
		}
		if explained {
			if path == "" {
				s.b.WriteString("\n")
			}
			for line := range strings.Lines(s.docs[v.Type().Name()][f.Name]) {
				fmt.Fprintf(&s.b, "%s# %s\n", indent, strings.TrimSuffix(line, "\n"))
			}
		}
		if !s.d.written(at) && f.Tag.Get("default") == "" && f.Type.Kind() != reflect.Struct {
			fmt.Fprintf(&s.b, "%s# %s: %s\n", indent, key, empty(f.Type))
			continue
		}
		s.value(v.Field(i), at, indent+key+":", indent, explained)
	}
}

// value writes one value after head, which is the key with its indentation.
func (s *sampler) value(v reflect.Value, path, head, indent string, explained bool) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		s.value(v.Elem(), path, head, indent, explained)
	case v.Kind() == reflect.Struct:
		s.b.WriteString(head + "\n")
		s.fields(v, path, indent+"  ", explained)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		s.b.WriteString(head + "\n")
		for i := range v.Len() {
			s.element(v.Index(i), fmt.Sprintf("%s[%d]", path, i), indent, explained && i == 0)
		}
	case v.Kind() == reflect.Map && v.Type().Elem().Kind() == reflect.Struct:
		s.b.WriteString(head + "\n")
		for _, k := range v.MapKeys() {
			s.b.WriteString(indent + "  " + k.String() + ":\n")
			s.fields(v.MapIndex(k), join(path, k.String()), indent+"    ", explained)
		}
	case v.Kind() == reflect.Map:
		s.b.WriteString(head + "\n")
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			fmt.Fprintf(&s.b, "%s  %s: %s\n", indent, k, inline(v.MapIndex(k)))
		}
	default:
		s.b.WriteString(head + " " + inline(v) + "\n")
	}
}

// element writes a struct as an element of a list, with the dash before its first key.
func (s *sampler) element(v reflect.Value, path, indent string, explained bool) {
	whole := s.b
	s.b = bytes.Buffer{}
	s.fields(v, path, indent+"    ", explained)
	body := s.b.String()
	s.b = whole
	for strings.HasPrefix(body, indent+"    #") {
		line, rest, _ := strings.Cut(body, "\n")
		s.b.WriteString(line[2:] + "\n")
		body = rest
	}
	s.b.WriteString(indent + "  - " + strings.TrimPrefix(body, indent+"    "))
}

// inline is a value on one line.
func inline(v reflect.Value) string {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return short(d)
	}
	switch v.Kind() {
	case reflect.Slice:
		all := make([]string, v.Len())
		for i := range all {
			all[i] = inline(v.Index(i))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case reflect.String:
		out, err := yaml.Dump(v.String())
		if err != nil {
			panic(err)
		}
		return strings.TrimSpace(string(out))
	}
	return fmt.Sprint(v.Interface())
}

// empty is how a value of type t that is not set is written.
func empty(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return "{}"
	case reflect.Bool:
		return "false"
	}
	return `""`
}

// comments reads the comments on the fields of the structs in file.go, by type and field.
func comments(t *testing.T) map[string]map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "file.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]map[string]string{}
	for spec := range ast.Preorder(file) {
		def, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		st, ok := def.Type.(*ast.StructType)
		if !ok {
			continue
		}
		docs[def.Name.Name] = map[string]string{}
		for _, f := range st.Fields.List {
			docs[def.Name.Name][f.Names[0].Name] = f.Doc.Text()
		}
	}
	return docs
}
