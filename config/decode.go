package config

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// place is where a value was written.
type place struct {
	file string
	line int
}

// decoder turns a tree of YAML nodes into a File and keeps where each path was written. It goes on
// after a mistake, so that one run finds all of them. The library's own decoder would report
// mistakes without the path.
type decoder struct {
	file     string
	at       map[string]place      // by path
	from     map[*yaml.Node]string // the OCIM_ variable that a node comes from
	broken   map[string]bool       // paths whose value could not be decoded
	problems Problems
}

func newDecoder(file string) *decoder {
	return &decoder{file: file, at: map[string]place{}, from: map[*yaml.Node]string{}, broken: map[string]bool{}}
}

// report adds a problem at the place of path, or of the nearest parent that is written.
func (d *decoder) report(path, format string, args ...any) {
	d.problems = append(d.problems, d.problem(path, format, args...))
}

// fail is report for a value that could not be decoded: what is below it cannot be judged.
func (d *decoder) fail(path, format string, args ...any) {
	d.report(path, format, args...)
	d.broken[path] = true
}

// parents yields path and everything above it, but not the file as a whole.
func parents(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for path != "" && yield(path) {
			path = path[:max(0, strings.LastIndexAny(path, ".["))]
		}
	}
}

func (d *decoder) problem(path, format string, args ...any) Problem {
	p := Problem{File: d.file, Path: path, Msg: fmt.Sprintf(format, args...)}
	for up := range parents(path) {
		if at, ok := d.at[up]; ok {
			p.File, p.Line = at.file, at.line
			break
		}
	}
	return p
}

// written reports whether path has a value in the file or the environment.
func (d *decoder) written(path string) bool {
	_, ok := d.at[path]
	return ok
}

// decode fills v from n. A null counts as not written.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	if name, ok := d.from[n]; ok {
		d.at[path] = place{file: name}
	} else {
		d.at[path] = place{file: d.file, line: n.Line}
	}
	if n.Kind == yaml.AliasNode {
		d.fail(path, "aliases (*) are not accepted: write the value out")
		return
	}
	if isNull(n) {
		delete(d.at, path)
		return
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d.decodeDuration(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case reflect.Struct:
		setDefaults(v)
		d.decodeStruct(n, v, path)
	case reflect.Slice:
		d.decodeSlice(n, v, path)
	case reflect.Map:
		d.decodeMap(n, v, path)
	case reflect.Interface:
		if x := d.decodeAny(n, path, 0); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	case reflect.String:
		if d.scalar(n, path, "!!str", "text") && d.clean(n, path) {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		d.decodeBool(n, v, path)
	case reflect.Int, reflect.Int64:
		d.decodeInt(n, v, path)
	default:
		panic("config: no rule to decode " + v.Type().String())
	}
}

func (d *decoder) decodeDuration(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(path, "is %s, want a duration such as 20s or 5m", kind(n))
		return
	}
	t, err := time.ParseDuration(n.Value)
	if err != nil {
		d.fail(path, "%q is not a duration: write it as 20s, 5m or 1h30m", show(n.Value))
		return
	}
	v.SetInt(int64(t))
}

func (d *decoder) decodeBool(n *yaml.Node, v reflect.Value, path string) {
	const want = "true or false"
	if !d.scalar(n, path, "!!bool", want) {
		return
	}
	b, err := strconv.ParseBool(strings.ToLower(n.Value))
	if err != nil {
		d.fail(path, "%q is not %s", show(n.Value), want)
		return
	}
	v.SetBool(b)
}

func (d *decoder) decodeInt(n *yaml.Node, v reflect.Value, path string) {
	if !d.scalar(n, path, "!!int", "a whole number") {
		return
	}
	i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
	if err != nil {
		d.fail(path, "%q is not a whole number that fits: write plain digits", show(n.Value))
		return
	}
	v.SetInt(i)
}

// scalar reports whether n is a single value of the wanted type. Whatever comes from the
// environment is text and may be meant as anything; whether it can be is seen when it is parsed.
func (d *decoder) scalar(n *yaml.Node, path, tag, want string) bool {
	_, override := d.from[n]
	got := n.ShortTag()
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(path, "is %s, want %s", kind(n), want)
		return false
	case got == tag, override, tag == "!!str" && got == "!!timestamp":
		return true
	case tag == "!!str" && (got == "!!int" || got == "!!float" || got == "!!bool"):
		d.fail(path, "is %s, want text: put it in quotes", kind(n))
	default:
		d.fail(path, "is %s, want %s", kind(n), want)
	}
	return false
}

// clean refuses what could forge a line in a log or move a cursor.
func (d *decoder) clean(n *yaml.Node, path string) bool {
	if !utf8.ValidString(n.Value) || strings.ContainsFunc(n.Value, unicode.IsControl) {
		d.fail(path, "contains a line break or another control character")
		return false
	}
	return true
}

func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, "is %s, want a block of keys", kind(n))
		return
	}
	for key, value := range d.pairs(n, path) {
		f, ok := field(v, key)
		if !ok {
			d.unknown(n, v, path, key)
			continue
		}
		d.decode(value, f, join(path, key))
	}
}

// unknown reports a key that does not exist, with the one that was probably meant.
func (d *decoder) unknown(n *yaml.Node, v reflect.Value, path, key string) {
	names := keys(v.Type())
	line := n.Line
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			line = n.Content[i].Line
			break
		}
	}
	where := join(path, key)
	d.at[where] = place{file: d.file, line: line}
	if near := nearest(key, names); near != "" {
		d.report(where, "unknown key; did you mean %s?", near)
		return
	}
	d.report(where, "unknown key; known here: %s", strings.Join(names, ", "))
}

// pairs yields the keys and values of a mapping once each, and reports keys that are written twice
// or are not plain text.
func (d *decoder) pairs(n *yaml.Node, path string) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			at := d.at[path]
			if at.line > 0 {
				at.line = k.Line
			}
			if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
				d.problems = append(d.problems, Problem{at.file, at.line, path, fmt.Sprintf("a key is %s, want text", kind(k))})
				continue
			}
			if first, ok := seen[k.Value]; ok {
				msg := fmt.Sprintf("written twice; the first one is on line %d", first)
				d.problems = append(d.problems, Problem{at.file, at.line, join(path, k.Value), msg})
				continue
			}
			seen[k.Value] = k.Line
			if !yield(k.Value, n.Content[i+1]) {
				return
			}
		}
	}
}

func (d *decoder) decodeSlice(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(path, "is %s, want a list", kind(n))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		if isNull(e) {
			d.at[at] = place{file: d.file, line: e.Line}
			d.fail(at, "is empty")
			continue
		}
		d.decode(e, list.Index(i), at)
	}
	v.Set(list)
}

func (d *decoder) decodeMap(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, "is %s, want a block of keys", kind(n))
		return
	}
	m := reflect.MakeMap(v.Type())
	for key, value := range d.pairs(n, path) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, e, join(path, key))
		m.SetMapIndex(reflect.ValueOf(key), e)
	}
	v.Set(m)
}

// maxNesting bounds values of free form, which GitLab bounds as well.
const maxNesting = 16

// decodeAny returns a value of free form in the types of [Operation.Inputs], or nil for null and
// after a problem.
func (d *decoder) decodeAny(n *yaml.Node, path string, depth int) any {
	if depth > maxNesting {
		d.fail(path, "is nested more than %d deep", maxNesting)
		return nil
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			list = append(list, d.decodeAny(e, path, depth+1))
		}
		return list
	case yaml.MappingNode:
		m := map[string]any{}
		for key, value := range d.pairs(n, path) {
			m[key] = d.decodeAny(value, path, depth+1)
		}
		return m
	case yaml.ScalarNode:
		return d.decodeFree(n, path)
	default:
		d.fail(path, "aliases (*) are not accepted: write the value out")
		return nil
	}
}

func (d *decoder) decodeFree(n *yaml.Node, path string) any {
	var x any
	var err error
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!str", "!!timestamp":
		if d.clean(n, path) {
			return n.Value
		}
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int":
		x, err = strconv.ParseInt(n.Value, 10, 64)
	case "!!float":
		x, err = strconv.ParseFloat(n.Value, 64)
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		d.fail(path, "is %s, want text, a plain number, true or false", kind(n))
		return nil
	}
	return x
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kind names what n is, for messages.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a block of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "empty"
	case "!!merge":
		return "a merge (<<)"
	}
	return "of a type that is not accepted here"
}

// setDefaults gives the fields of a struct the values of their default tags, at any depth.
func setDefaults(v reflect.Value) {
	for i := range v.NumField() {
		f, tag := v.Field(i), v.Type().Field(i).Tag.Get("default")
		switch {
		case f.Kind() == reflect.Struct:
			setDefaults(f)
		case tag == "":
		case f.Kind() == reflect.String:
			f.SetString(tag)
		case f.Type() == reflect.TypeFor[time.Duration]():
			d, err := time.ParseDuration(tag)
			if err != nil {
				panic("config: default of " + v.Type().Field(i).Name + ": " + err.Error())
			}
			f.SetInt(int64(d))
		default:
			n, err := strconv.ParseInt(tag, 10, 64)
			if err != nil {
				panic("config: default of " + v.Type().Field(i).Name + ": " + err.Error())
			}
			f.SetInt(n)
		}
	}
}

// field returns the field of a struct that key names.
func field(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keys lists the keys of a struct in the order of its fields.
func keys(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("yaml")
	}
	return names
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// join appends a key to a path; a key that would be misread is quoted.
func join(path, key string) string {
	if !plainKey.MatchString(key) || show(key) != key {
		return path + "[" + strconv.Quote(show(key)) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
