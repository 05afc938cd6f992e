package chat

import (
	"fmt"
	"strings"
	"time"
)

// Schema says what the template of each message sees: the text file fields.txt beside the
// templates, read. Templates of an operator are checked with it when the program starts.
type Schema struct {
	Messages []Described            // Kind is the type of the message's data
	Types    []Described            // in the order of the file
	Of       map[string][]Described // fields by type
}

// Described is a message, a type or a field with what it holds.
type Described struct{ Name, Kind, About string }

// ReadSchema reads fields.txt; its form is described at its beginning.
func ReadSchema(text string) (*Schema, error) {
	f := &Schema{Of: map[string][]Described{}}
	current := ""
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		words := strings.Fields(line)
		indented := strings.HasPrefix(line, "  ")
		switch {
		case len(words) == 0, strings.HasPrefix(line, "#"):
		case words[0] == "message" && len(words) > 3 && !indented:
			f.Messages = append(f.Messages, Described{words[1], words[2], strings.Join(words[3:], " ")})
		case words[0] == "type" && len(words) > 2 && !indented:
			current = words[1]
			f.Types = append(f.Types, Described{words[1], "", strings.Join(words[2:], " ")})
		case indented && len(words) > 2 && current != "":
			f.Of[current] = append(f.Of[current], Described{words[0], words[1], strings.Join(words[2:], " ")})
		default:
			return nil, fmt.Errorf("fields.txt:%d: neither message, type nor field", n)
		}
	}
	return f, f.check()
}

// check finds kinds that are not described.
func (f *Schema) check() error {
	for _, m := range f.Messages {
		if f.Of[m.Kind] == nil {
			return fmt.Errorf("fields.txt: message %s: there is no type %s", m.Name, m.Kind)
		}
	}
	for _, t := range f.Types {
		for _, field := range f.Of[t.Name] {
			switch kind := strings.TrimPrefix(strings.TrimPrefix(field.Kind, "[]"), "?"); kind {
			case "text", "number", "flag", "duration", "time":
			default:
				if f.Of[kind] == nil {
					return fmt.Errorf("fields.txt: %s.%s: there is no kind %s", t.Name, field.Name, field.Kind)
				}
			}
		}
	}
	return nil
}

// samples is data that a message's template may get: with everything in it, and with nothing.
func (f *Schema) samples(message string) []any {
	for _, m := range f.Messages {
		if m.Name == message {
			return []any{f.sample(m.Kind, true), f.sample(m.Kind, false)}
		}
	}
	return nil
}

// sample is a value of a kind. Types become maps, in which a name that is not there is an error.
func (f *Schema) sample(kind string, full bool) any {
	if of, ok := strings.CutPrefix(kind, "[]"); ok {
		return f.list(of, full)
	}
	if of, ok := strings.CutPrefix(kind, "?"); ok {
		if !full {
			return nil
		}
		kind = of
	}
	n := 0
	if full {
		n = 2
	}
	switch kind {
	case "text":
		return Foreign(strings.Repeat("x", n))
	case "number":
		return n
	case "flag":
		return full
	case "duration":
		return time.Duration(n) * time.Minute
	case "time":
		return time.Unix(int64(n), 0).UTC()
	}
	out := map[string]any{}
	for _, field := range f.Of[kind] {
		out[field.Name] = f.sample(field.Kind, full)
	}
	return out
}

func (f *Schema) list(of string, full bool) any {
	if of == "text" { // the function join takes nothing else
		if full {
			return []Foreign{"x", "y"}
		}
		return []Foreign{}
	}
	if full {
		return []any{f.sample(of, true), f.sample(of, false)}
	}
	return []any{}
}
