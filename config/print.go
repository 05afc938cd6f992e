package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"ocim/internal/secret"
)

// dump writes v as YAML. Only what is rendered here can be printed, so that a secret cannot slip
// through a method of a type or a rule of the library.
func dump(w io.Writer, v any) error {
	out, err := yaml.Dump(node(reflect.ValueOf(v)))
	if err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return nil
}

// node renders a value of a Config.
func node(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case secret.Secret:
		if x.Empty() {
			return scalar("!!str", "")
		}
		return scalar("!!str", x.String())
	case time.Duration:
		return scalar("!!str", short(x))
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return scalar("!!null", "null")
		}
		return node(v.Elem())
	case reflect.Struct:
		return structNode(v)
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.Len() {
			n.Content = append(n.Content, node(v.Index(i)))
		}
		if flat(n) {
			n.Style = yaml.FlowStyle
		}
		return n
	case reflect.Map:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		ks := v.MapKeys()
		slices.SortFunc(ks, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range ks {
			n.Content = append(n.Content, scalar("!!str", k.String()), node(v.MapIndex(k)))
		}
		return n
	case reflect.Bool:
		return scalar("!!bool", strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int64:
		return scalar("!!int", strconv.FormatInt(v.Int(), 10))
	case reflect.Float64:
		return scalar("!!float", strconv.FormatFloat(v.Float(), 'g', -1, 64))
	case reflect.String:
		return scalar("!!str", v.String())
	}
	panic("config: no rule to print " + v.Type().String())
}

func structNode(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("yaml"); key != "-" {
			n.Content = append(n.Content, scalar("!!str", key), node(v.Field(i)))
		}
	}
	return n
}

// flat reports whether a list fits on one line.
func flat(n *yaml.Node) bool {
	return !slices.ContainsFunc(n.Content, func(e *yaml.Node) bool { return e.Kind != yaml.ScalarNode })
}

func scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}
