package config

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// prefix begins the name of every variable that overrides a value.
const prefix = "OCIM_"

// notOurs begins the names of variables that steer builds for crash tests; see internal/crash.
const notOurs = "OCIM_CRASH_"

// maxIndex bounds the lists that the environment can make longer.
const maxIndex = 64

// override writes the OCIM_ variables of env into the tree below root, as if they stood in the
// file, and reports those that name no path.
func (d *decoder) override(root *yaml.Node, env map[string]string) {
	holders := map[string]bool{}
	references(root, holders)
	for name, value := range env {
		if strings.HasPrefix(name, prefix) {
			addReference(value, holders)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, notOurs) || holders[name] {
			continue
		}
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: env[name]}
		d.from[n] = printable(name)
		if !d.put(root, reflect.TypeFor[File](), strings.TrimPrefix(name, prefix), n) {
			d.problems = append(d.problems, Problem{File: printable(name), Msg: "this variable matches no setting; variables that begin with " +
				prefix + " override settings, such as OCIM_LISTEN_PUBLIC or OCIM_CLUSTERS_0_NAME"})
		}
	}
}

// printable is the name of a variable for messages; the system lets names hold anything.
func printable(name string) string {
	if variableName.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}

// references collects the names of variables that the file refers to as env:NAME. They hold
// secrets and override nothing, even when the name looks like a path: OCIM_KEY does.
func references(n *yaml.Node, names map[string]bool) {
	if n.Kind == yaml.ScalarNode {
		addReference(n.Value, names)
	}
	for _, c := range n.Content {
		references(c, names)
	}
}

func addReference(value string, names map[string]bool) {
	if name, ok := strings.CutPrefix(value, "env:"); ok {
		names[strings.TrimSpace(name)] = true
	}
}

// put stores leaf at the place below n that rest, the remainder of a variable's name, means for a
// value of type t. It changes nothing and returns false when rest means none.
func (d *decoder) put(n *yaml.Node, t reflect.Type, rest string, leaf *yaml.Node) bool {
	switch {
	case t.Kind() == reflect.Pointer:
		return d.put(n, t.Elem(), rest, leaf)
	case t.Kind() == reflect.Struct:
		return d.putField(n, t, rest, leaf)
	case t.Kind() == reflect.Slice:
		return d.putElement(n, t, rest, leaf)
	case t.Kind() == reflect.Map:
		return d.putEntry(n, t, rest, leaf)
	case rest != "":
		return false
	}
	*n = *leaf
	d.from[n] = d.from[leaf]
	return true
}

func (d *decoder) putField(n *yaml.Node, t reflect.Type, rest string, leaf *yaml.Node) bool {
	for f := range t.Fields() {
		key := f.Tag.Get("yaml")
		after, ok := cutName(rest, key)
		if ok && d.putKey(n, f.Type, key, after, leaf) {
			return true
		}
	}
	return false
}

// putEntry writes into a map: an existing key if one fits, else a new one. Verbs are lowercase
// words, variables of GitLab keep the capitals that they have in the name.
func (d *decoder) putEntry(n *yaml.Node, t reflect.Type, rest string, leaf *yaml.Node) bool {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if after, ok := cutName(rest, key); ok && d.putKey(n, t.Elem(), key, after, leaf) {
				return true
			}
		}
	}
	if rest == "" {
		return false
	}
	if t.Elem().Kind() != reflect.Struct {
		return d.putKey(n, t.Elem(), rest, "", leaf)
	}
	verb, after, _ := strings.Cut(rest, "_")
	return verb != "" && d.putKey(n, t.Elem(), strings.ToLower(verb), after, leaf)
}

// putKey writes below one key of a mapping, which is added when it is not there.
func (d *decoder) putKey(n *yaml.Node, t reflect.Type, key, rest string, leaf *yaml.Node) bool {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return d.put(n.Content[i+1], t, rest, leaf)
			}
		}
	}
	value := d.blank(t, leaf)
	if !d.put(value, t, rest, leaf) {
		return false
	}
	d.shape(n, yaml.MappingNode, leaf)
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
	return true
}

func (d *decoder) putElement(n *yaml.Node, t reflect.Type, rest string, leaf *yaml.Node) bool {
	digits, after, _ := strings.Cut(rest, "_")
	i, err := strconv.Atoi(digits)
	if err != nil || i < 0 || i >= maxIndex || strconv.Itoa(i) != digits {
		return false
	}
	if n.Kind == yaml.SequenceNode && i < len(n.Content) {
		return d.put(n.Content[i], t.Elem(), after, leaf)
	}
	value := d.blank(t.Elem(), leaf)
	if !d.put(value, t.Elem(), after, leaf) {
		return false
	}
	d.shape(n, yaml.SequenceNode, leaf)
	for len(n.Content) < i {
		n.Content = append(n.Content, d.blank(t.Elem(), leaf))
	}
	n.Content = append(n.Content, value)
	return true
}

// blank is a node for a value of type t that nothing has been written into.
func (d *decoder) blank(t reflect.Type, leaf *yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	if t.Kind() == reflect.Struct {
		n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	d.from[n] = d.from[leaf]
	return n
}

// shape turns an empty node into a mapping or a list. Anything else that stands where one belongs
// is left alone and reported when it is decoded.
func (d *decoder) shape(n *yaml.Node, k yaml.Kind, leaf *yaml.Node) {
	if n.Kind == k || !isNull(n) && n.Kind != 0 {
		return
	}
	n.Kind, n.Tag, n.Value = k, "!!map", ""
	if k == yaml.SequenceNode {
		n.Tag = "!!seq"
	}
	if _, ok := d.from[n]; !ok && n.Line == 0 {
		d.from[n] = d.from[leaf]
	}
}

// cutName removes key, spelled as in the name of a variable, from the front of rest.
func cutName(rest, key string) (string, bool) {
	after, ok := strings.CutPrefix(rest, variable(key))
	switch {
	case !ok:
		return "", false
	case after == "":
		return "", true
	}
	return strings.CutPrefix(after, "_")
}

// variable spells a key as part of a variable's name.
func variable(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}
