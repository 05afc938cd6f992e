package ops

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Action is one verb as a project does it: data from the configuration's operation table.
type Action struct {
	Verb         string
	Start        Start
	Variables    map[string]string // values may hold placeholders, see Spec
	Inputs       map[string]any    // strings in them may hold placeholders
	Payload      map[string]string // extra top-level keys of a trigger call
	Follow       Follow
	FollowWithin time.Duration
	KeyVariable  string // StartPipeline: the variable that carries the key
	KeyInput     string // or the input that does; workflow:name must print it
	Unverified   bool   // nobody has confirmed this row against a real project
	Params       []ActionParam
}

// ParamType is the type of a parameter's value.
type ParamType string

// The types.
const (
	ParamString ParamType = "string"
	ParamInt    ParamType = "integer"
	ParamBool   ParamType = "boolean"
)

// ActionParam is a key that people may set with key=value. What is not declared is refused, so
// nobody can set a CI variable that the operator did not mean to open.
type ActionParam struct {
	Name     string
	Into     ParamPlace
	Field    string // name of the variable, input or payload key
	Type     ParamType
	Pattern  *regexp.Regexp // anchored by whoever made it
	Choices  []string
	Secret   bool // never shown and kept encrypted, see Service.hide
	Required bool
	Default  string
	Help     string
}

// ParamPlace says where a parameter's value goes.
type ParamPlace string

// The places.
const (
	IntoVariable ParamPlace = "variable"
	IntoInput    ParamPlace = "input"
	IntoPayload  ParamPlace = "payload"
)

// maxParam bounds one value: GitLab.com allows 120 KiB, people need far less, and cards stay short.
const maxParam = 1000

// maxParams bounds all of them together: the sealed reference that goes to GitLab holds them too.
const maxParams = 3000

// Check validates what a person gave and returns the parameters with defaults filled in. The
// error names the one wrong key.
func (a Action) Check(given map[string]string) (map[string]string, error) {
	known, total := make([]string, 0, len(a.Params)), 0
	for _, p := range a.Params {
		known = append(known, p.Name)
	}
	for _, k := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, k) {
			e := &Error{Code: CodeInvalid, Reason: ReasonUnknownParam, Msg: fmt.Sprintf("%s has no parameter %.60q.", a.Verb, k), Suggest: Nearest(k, known, 3)}
			if len(known) == 0 {
				e.Next = "It takes none here; the operator declares them in ocim.yaml."
			} else {
				e.Next = "Known: " + strings.Join(known, ", ") + "."
			}
			return nil, e
		}
	}
	out := map[string]string{}
	for _, p := range a.Params {
		v, ok := given[p.Name]
		if !ok {
			v = p.Default
		}
		if v == "" && !ok {
			if p.Required {
				return nil, &Error{Code: CodeInvalid, Reason: ReasonMissingParam, Msg: fmt.Sprintf("%s needs %s.", a.Verb, p.Name), Next: "Add " + p.Name + "=…. " + p.Help}
			}
			continue
		}
		if err := p.check(v); err != nil {
			return nil, err
		}
		out[p.Name] = v
		if total += len(p.Name) + len(v); total > maxParams {
			return nil, &Error{Code: CodeInvalid, Reason: ReasonInvalidParam, Msg: fmt.Sprintf("The parameters are longer than %d bytes in all.", maxParams), Next: "Make them shorter."}
		}
	}
	return out, nil
}

func (p ActionParam) check(v string) error {
	bad := func(why string) error {
		return &Error{Code: CodeInvalid, Reason: ReasonInvalidParam, Msg: fmt.Sprintf("%s: %s.", p.Name, why), Next: p.Help}
	}
	if len(v) > maxParam {
		return bad(fmt.Sprintf("at most %d bytes", maxParam))
	}
	if !utf8.ValidString(v) {
		return bad("must be text in UTF-8")
	}
	// What a card does not show must not reach GitLab either.
	if strings.ContainsFunc(v, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == utf8.RuneError
	}) {
		return bad("control characters, invisible characters and line breaks are not allowed")
	}
	switch p.Type {
	case ParamInt:
		// +5 and 007 are no numbers in JSON, and what is shown is what is sent.
		if n, err := strconv.ParseInt(v, 10, 64); err != nil || strconv.FormatInt(n, 10) != v {
			return bad("must be a whole number, without a plus or leading zeros")
		}
	case ParamBool:
		if v != "true" && v != "false" {
			return bad("must be true or false")
		}
	case ParamString, "":
	}
	if len(p.Choices) > 0 && !slices.Contains(p.Choices, v) {
		return bad("must be one of " + strings.Join(p.Choices, ", "))
	}
	if p.Pattern != nil && !p.Pattern.MatchString(v) {
		msg := p.Name + " cannot have that value."
		if p.Help != "" {
			msg += " " + strings.TrimRight(p.Help, ".") + "."
		}
		return &Error{
			Code: CodeInvalid, Reason: ReasonInvalidParam, Msg: msg,
			Pattern: strings.TrimSuffix(strings.TrimPrefix(p.Pattern.String(), "^(?:"), ")$"),
		}
	}
	return nil
}

// Spec builds what is sent to GitLab for the operation's current run. Placeholders in configured
// values are {instance}, {cluster}, {number}, {operation} and {actor}; they are replaced once, so
// a value can never smuggle in another placeholder. A secret parameter that has not been revealed is
// Mask in the result, whatever its type, so that a plan can show the rest.
func (a Action) Spec(op Operation, gitRef, reference string) PipelineSpec {
	replace := strings.NewReplacer(
		"{instance}", op.Request.Target.Instance, "{cluster}", op.Request.Target.Cluster,
		"{number}", strconv.FormatInt(op.Number, 10), "{operation}", op.ID, "{actor}", op.Request.Actor.String(),
	)
	fill := func(in map[string]string) map[string]string {
		out := make(map[string]string, len(in))
		for k, v := range in {
			out[k] = replace.Replace(v)
		}
		return out
	}
	s := PipelineSpec{
		Project: op.Project, Start: a.Start, GitRef: gitRef, Key: op.Key, CreatedAfter: op.ServerTime,
		Variables: fill(a.Variables), Payload: fill(a.Payload), Inputs: map[string]any{},
	}
	for k, v := range a.Inputs {
		s.Inputs[k] = fillAny(v, replace)
	}
	for _, p := range a.Params {
		v, ok := op.Request.Params[p.Name]
		if !ok {
			continue
		}
		t := p.Type
		if Hidden(v) {
			v, t = Mask, ParamString
		}
		switch p.Into {
		case IntoVariable:
			s.Variables[p.Field] = v
		case IntoPayload:
			s.Payload[p.Field] = v
		case IntoInput:
			s.Inputs[p.Field] = typed(t, v)
		}
	}
	if a.Start == StartTrigger {
		s.Payload["ocim_key"] = op.Key
		s.Payload["ocim_ref"] = reference
		return s
	}
	s.Payload = nil
	if a.KeyVariable != "" {
		s.Variables[a.KeyVariable] = op.Key
	}
	if a.KeyInput != "" {
		s.Inputs[a.KeyInput] = op.Key
		s.KeyInName = true
	}
	return s
}

// fillAny replaces placeholders in the strings of an input, which may be a list or a map.
func fillAny(v any, r *strings.Replacer) any {
	switch v := v.(type) {
	case string:
		return r.Replace(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fillAny(v[i], r)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = fillAny(v[k], r)
		}
		return out
	}
	return v
}

// typed gives an input the JSON type that spec:inputs expects.
func typed(t ParamType, v string) any {
	switch t {
	case ParamInt:
		return json.Number(v)
	case ParamBool:
		return v == "true"
	case ParamString:
	}
	return v
}
