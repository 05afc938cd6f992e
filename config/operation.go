package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	verbName    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	ciVariable  = regexp.MustCompile(`^[A-Za-z0-9_]{1,255}$`) // GitLab: app/models/concerns/ci/has_variable.rb
	inputName   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	paramName   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
)

// verbs lists the verbs of both tables, sorted.
func verbs(a, b map[string]Operation) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// operations lays what is written over the table base, and checks each row that changed.
func (b *builder) operations(base map[string]Operation, written map[string]FileOperation, path string) map[string]Operation {
	table := maps.Clone(base)
	for _, verb := range slices.Sorted(maps.Keys(written)) {
		at := join(path, verb)
		if !verbName.MatchString(verb) {
			b.d.report(at, "%q is not a verb: lowercase letters, digits and hyphens, at most 32", show(verb))
		}
		op, ok := base[verb]
		if !ok {
			op = blankOperation()
		}
		table[verb] = op.with(written[verb])
		b.operation(table[verb], at)
	}
	return table
}

// with returns op with what f says laid over it. It shares no map with op.
func (op Operation) with(f FileOperation) Operation {
	set(&op.Start, f.Start)
	set(&op.Follow, f.Follow)
	set(&op.FollowWithin, f.FollowWithin)
	set(&op.KeyVariable, f.KeyVariable)
	set(&op.KeyInput, f.KeyInput)
	set(&op.Unverified, f.Unverified)
	op.Variables = merge(op.Variables, f.Variables)
	op.Payload = merge(op.Payload, f.Payload)
	op.Inputs = maps.Clone(op.Inputs)
	for k, v := range f.Inputs {
		if op.Inputs == nil {
			op.Inputs = map[string]any{}
		}
		if op.Inputs[k] = v; v == nil {
			delete(op.Inputs, k)
		}
	}
	if f.Params != nil {
		op.Params = f.Params
	}
	return op
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func merge(base map[string]string, over map[string]*string) map[string]string {
	m := maps.Clone(base)
	for k, v := range over {
		switch {
		case v == nil:
			delete(m, k)
		case m == nil:
			m = map[string]string{k: *v}
		default:
			m[k] = *v
		}
	}
	return m
}

// operation checks one complete row.
func (b *builder) operation(op Operation, at string) {
	b.oneOf(op.Start, at+".start", StartTrigger, StartPipeline)
	b.oneOf(op.Follow, at+".follow", FollowNone, FollowMergeRequest)
	b.between(op.FollowWithin, at+".follow_within", time.Second, time.Hour)
	for _, name := range slices.Sorted(maps.Keys(op.Variables)) {
		p := join(at+".variables", name)
		b.target("variable", name, p, op)
		b.placeholders(op.Variables[name], p)
	}
	for _, name := range slices.Sorted(maps.Keys(op.Payload)) {
		p := join(at+".payload", name)
		b.target("payload", name, p, op)
		b.placeholders(op.Payload[name], p)
	}
	for _, name := range slices.Sorted(maps.Keys(op.Inputs)) {
		p := join(at+".inputs", name)
		b.target("input", name, p, op)
		b.anyPlaceholders(op.Inputs[name], p)
	}
	b.key(op, at)
	b.params(op, at)
}

// key checks the names that carry ocim's key. A trigger carries it in its payload; the pipelines
// API has no place of its own for it, and without it a pipeline whose answer was lost could not be
// found again.
func (b *builder) key(op Operation, at string) {
	for _, k := range []struct{ name, path string }{{op.KeyVariable, at + ".key_variable"}, {op.KeyInput, at + ".key_input"}} {
		if k.name != "" && op.Start == StartTrigger {
			b.d.report(k.path, "is only for start: pipeline; a trigger carries the key by itself")
		}
	}
	if op.Start != StartPipeline {
		return
	}
	if (op.KeyVariable == "") == (op.KeyInput == "") {
		b.d.report(at, "start: pipeline needs exactly one of key_variable and key_input, by which a pipeline is found again")
	}
	if op.KeyVariable != "" {
		b.target("variable", op.KeyVariable, at+".key_variable", op)
	}
	if op.KeyInput != "" {
		b.spelling(op.KeyInput, at+".key_input", inputName, "the name of an input")
	}
}

// target checks the name of something that is sent. Names that steer GitLab, the runner or the
// shell of a job are refused, and so are names of secrets: GitLab shows variables to maintainers.
func (b *builder) target(kind, name, path string, op Operation) bool {
	switch kind {
	case "variable":
		if !b.matches(name, path, ciVariable, "the name of a CI/CD variable: letters, digits and underscores") {
			return false
		}
		if why := denied(name); why != "" && (name != "OCIM_KEY" || op.KeyVariable != name) {
			b.d.report(path, "the variable %s is refused: %s", show(name), why)
			return false
		}
	case "input":
		return b.matches(name, path, inputName, "the name of an input: letters, digits, hyphens and underscores")
	case "payload":
		if op.Start != StartTrigger {
			b.d.report(path, "payload is only for start: trigger")
			return false
		}
		if slices.Contains([]string{"id", "ref", "token", "variables", "inputs", "ocim_key"}, name) {
			b.d.report(path, "the key %s of the trigger call belongs to ocim or to GitLab", name)
			return false
		}
		return b.matches(name, path, ciVariable, "a key of letters, digits and underscores")
	}
	return true
}

// denied says why a variable may not be set, or "".
func denied(name string) string {
	upper := strings.ToUpper(name)
	for _, p := range []string{"CI_", "GIT_", "GITLAB_"} {
		if strings.HasPrefix(upper, p) {
			return "names with " + p + " belong to GitLab"
		}
	}
	for _, s := range []string{"_TOKEN", "_PASSWORD", "_SECRET", "_KEY"} {
		if strings.HasSuffix(upper, s) {
			return "GitLab shows variables to maintainers, so they carry no secrets"
		}
	}
	if slices.Contains([]string{"TOKEN", "PASSWORD", "SECRET", "TRIGGER_PAYLOAD", "CI"}, upper) {
		return "it belongs to GitLab or carries a secret"
	}
	// What an interpreter reads at its start, and would let a value run as code.
	if slices.Contains([]string{
		"PATH", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PS4", "IFS", "SHELL", "HOME", "PROMPT_COMMAND", "PYTHONSTARTUP", "PYTHONPATH",
		"PYTHONHOME", "NODE_OPTIONS", "RUBYOPT", "RUBYLIB", "PERL5OPT", "PERL5LIB", "JAVA_TOOL_OPTIONS", "KUBECONFIG",
	}, upper) {
		return "it changes how programs of a job run"
	}
	for _, p := range []string{"LD_", "DYLD_", "BASH_FUNC_", "DOCKER_", "FF_"} {
		if strings.HasPrefix(upper, p) {
			return "it changes how programs of a job run"
		}
	}
	return ""
}

// Placeholders are the words that may stand in braces in the values of an [Operation].
func Placeholders() []string { return []string{"instance", "cluster", "number", "operation", "actor"} }

func (b *builder) placeholders(value, path string) {
	for _, p := range placeholder.FindAllString(value, -1) {
		word := strings.Trim(p, "{}")
		if slices.Contains(Placeholders(), word) {
			continue
		}
		if near := nearest(word, Placeholders()); near != "" {
			b.d.report(path, "unknown placeholder {%s}; did you mean {%s}?", show(word), near)
			continue
		}
		b.d.report(path, "unknown placeholder {%s}; known are {%s}", show(word), strings.Join(Placeholders(), "}, {"))
	}
}

func (b *builder) anyPlaceholders(value any, path string) {
	switch v := value.(type) {
	case string:
		b.placeholders(v, path)
	case []any:
		for _, e := range v {
			b.anyPlaceholders(e, path)
		}
	case map[string]any:
		for _, e := range v {
			b.anyPlaceholders(e, path)
		}
	}
}

func (b *builder) params(op Operation, at string) {
	seen, targets := names{}, names{}
	for i, p := range op.Params {
		path := fmt.Sprintf("%s.params[%d]", at, i)
		if b.spelling(p.Name, path+".name", paramName, "a name: lowercase letters, digits, hyphens and underscores, at most 32") {
			b.unique(seen, p.Name, path+".name")
		}
		b.paramTarget(op, p, path+".to", targets)
		b.oneOf(p.Type, path+".type", "string", "integer", "boolean")
		re, err := p.Regexp()
		if err != nil {
			b.d.report(path+".pattern", "is not a regular expression (RE2 syntax)")
		}
		for j, choice := range p.Choices {
			if why := p.wrong(choice, re); why != "" {
				b.d.report(fmt.Sprintf("%s.choices[%d]", path, j), "%q %s", show(choice), why)
			}
		}
		if p.Default == "" {
			continue
		}
		if p.Required {
			b.d.report(path+".default", "is never used, since the parameter is required")
		}
		if why := p.wrong(p.Default, re); why != "" {
			b.d.report(path+".default", "%q %s", show(p.Default), why)
		} else if len(p.Choices) > 0 && !slices.Contains(p.Choices, p.Default) {
			b.d.report(path+".default", "%q is none of the choices", show(p.Default))
		}
	}
}

func (b *builder) paramTarget(op Operation, p Param, path string, targets names) {
	if !b.need(p.To, path) {
		return
	}
	kind, name, _ := strings.Cut(p.To, ":")
	if !slices.Contains([]string{"variable", "input", "payload"}, kind) {
		b.d.report(path, "%q is not variable:NAME, input:NAME or payload:NAME", show(p.To))
		return
	}
	if !b.target(kind, name, path, op) {
		return
	}
	b.unique(targets, p.To, path)
	if kind == "variable" && p.Secret {
		b.d.report(path, "is a variable, and GitLab shows variables to maintainers: a secret cannot go there")
	}
	if kind == "variable" && name == op.KeyVariable || kind == "input" && name == op.KeyInput {
		b.d.report(path, "carries ocim's key already")
	}
}

// Regexp is the pattern, made to match whole values. It is nil if there is no pattern.
func (p Param) Regexp() (*regexp.Regexp, error) {
	if p.Pattern == "" {
		return nil, nil //nolint:nilnil // no pattern is not an error
	}
	if _, err := regexp.Compile(p.Pattern); err != nil {
		return nil, fmt.Errorf("pattern of %s: %w", p.Name, err)
	}
	re, err := regexp.Compile(`^(?:` + p.Pattern + `)$`)
	if err != nil {
		return nil, fmt.Errorf("pattern of %s: %w", p.Name, err)
	}
	return re, nil
}

// wrong says what is wrong with a value of the parameter, or "". A nil pattern matches everything.
func (p Param) wrong(value string, pattern *regexp.Regexp) string {
	if p.Type == "integer" {
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return "is not a whole number"
		}
	}
	if p.Type == "boolean" && value != "true" && value != "false" {
		return "is neither true nor false"
	}
	if pattern != nil && !pattern.MatchString(value) {
		return "does not match the pattern"
	}
	return ""
}
