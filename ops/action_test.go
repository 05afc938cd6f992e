package ops

import (
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// release is an action with a parameter of every kind.
func release() Action {
	return Action{
		Verb: "release", Start: StartTrigger,
		Variables: map[string]string{"INSTANCE_NAME": "{instance}", "DEPLOYMENT_REQUEST_ID": "{number}", "NEW_INSTANCE_TRIGGER": "1", "LITERAL": "{unknown} {{instance}}"},
		Inputs:    map[string]any{"who": "{actor}", "list": []any{"{cluster}", json.Number("3")}, "map": map[string]any{"op": "{operation}"}, "flag": true},
		Payload:   map[string]string{"note": "for {instance}"},
		Params: []ActionParam{
			{Name: "branch", Into: IntoVariable, Field: "THEME_BRANCH", Pattern: regexp.MustCompile(`^(?:[a-z0-9/._-]{1,40})$`), Help: "A branch of the theme."},
			{Name: "size", Into: IntoInput, Field: "size", Type: ParamInt, Default: "2"},
			{Name: "debug", Into: IntoInput, Field: "debug", Type: ParamBool},
			{Name: "color", Into: IntoPayload, Field: "color", Choices: []string{"red", "green"}},
			{Name: "note", Into: IntoInput, Field: "note", Type: ParamString},
			{Name: "ticket", Into: IntoVariable, Field: "TICKET", Required: true, Help: "The ticket's number."},
		},
	}
}

func TestT15_ParametersAreTypedAndAllowListed(t *testing.T) {
	t.Parallel()
	with := func(k, v string) map[string]string { return map[string]string{"ticket": "7", k: v} }
	for _, tc := range []struct {
		name   string
		given  map[string]string
		reason Reason // empty: taken
		says   string
	}{
		{"least", map[string]string{"ticket": "7"}, "", ""},
		{"all", map[string]string{"ticket": "7", "branch": "main", "size": "-3", "debug": "true", "color": "red", "note": "a b=c \"d\" ünïcode 🎉"}, "", ""},
		{"nothing", nil, ReasonMissingParam, "needs ticket"},
		{"unknown", with("foo", "1"), ReasonUnknownParam, `"foo"`},
		{"a variable's own name", with("THEME_BRANCH", "main"), ReasonUnknownParam, "THEME_BRANCH"},
		{"a variable of GitLab's", with("CI_JOB_TOKEN", "x"), ReasonUnknownParam, "CI_JOB_TOKEN"},
		{"git's", with("GIT_STRATEGY", "none"), ReasonUnknownParam, "GIT_STRATEGY"},
		{"the key", with("ocim_key", "x"), ReasonUnknownParam, "ocim_key"},
		{"no name", with("", "x"), ReasonUnknownParam, `""`},
		{"other case", with("Branch", "main"), ReasonUnknownParam, "Branch"},
		{"pattern", with("branch", "main;id"), ReasonInvalidParam, "branch cannot have that value."},
		{"pattern holds for the whole value", with("branch", "main\nx"), ReasonInvalidParam, "branch"},
		{"pattern, empty", with("branch", ""), ReasonInvalidParam, "cannot have that value"},
		{"integer", with("size", "two"), ReasonInvalidParam, "whole number"},
		{"integer with a plus", with("size", "+2"), ReasonInvalidParam, "whole number"},
		{"integer with zeros", with("size", "007"), ReasonInvalidParam, "whole number"},
		{"negative zero", with("size", "-0"), ReasonInvalidParam, "whole number"},
		{"fraction", with("size", "2.0"), ReasonInvalidParam, "whole number"},
		{"hexadecimal", with("size", "0x10"), ReasonInvalidParam, "whole number"},
		{"too big", with("size", "99999999999999999999"), ReasonInvalidParam, "whole number"},
		{"blank", with("size", " 2"), ReasonInvalidParam, "whole number"},
		{"truth", with("debug", "yes"), ReasonInvalidParam, "true or false"},
		{"truth in capitals", with("debug", "TRUE"), ReasonInvalidParam, "true or false"},
		{"choice", with("color", "blue"), ReasonInvalidParam, "one of red, green"},
		{"line break", with("note", "a\nb"), ReasonInvalidParam, "line breaks"},
		{"carriage return", with("note", "a\rb"), ReasonInvalidParam, "line breaks"},
		{"tab", with("note", "a\tb"), ReasonInvalidParam, "control"},
		{"null byte", with("note", "a\x00b"), ReasonInvalidParam, "control"},
		{"escape", with("note", "a\x1b[31mb"), ReasonInvalidParam, "control"},
		{"delete", with("note", "a\x7fb"), ReasonInvalidParam, "control"},
		{"C1 control", with("note", "a\u009bb"), ReasonInvalidParam, "control"},
		{"line separator", with("note", "a\u2028b"), ReasonInvalidParam, "line breaks"},
		{"turned round", with("note", "a\u202eb"), ReasonInvalidParam, "invisible"},
		{"zero width", with("note", "a\u200bb"), ReasonInvalidParam, "invisible"},
		{"tag characters", with("note", "a\U000e0041b"), ReasonInvalidParam, "invisible"},
		{"not UTF-8", with("note", "a\xffb"), ReasonInvalidParam, "UTF-8"},
		{"replacement character", with("note", "a\ufffdb"), ReasonInvalidParam, "invisible"},
		{"longest", with("note", strings.Repeat("x", 1000)), "", ""},
		{"too long", with("note", strings.Repeat("x", 1001)), ReasonInvalidParam, "1000 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := release().Check(tc.given)
			if tc.reason == "" {
				want := maps.Clone(tc.given)
				if _, ok := want["size"]; !ok {
					want["size"] = "2"
				}
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("got %v, want what was given and the default (-want +got):\n%s", err, diff)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeInvalid || e.Reason != tc.reason || !strings.Contains(e.Msg, tc.says) || got != nil {
				t.Errorf("got %v, %v, want %s that says %q", got, err, tc.reason, tc.says)
			}
		})
	}
}

// Who types in chat is told in the operator's words; the expression is beside them.
func TestCheckTellsAPatternInWords(t *testing.T) {
	t.Parallel()
	p := ActionParam{Name: "version", Pattern: regexp.MustCompile(`^(?:[0-9.]+)$`), Help: "A version, such as 21.0.1"}
	e, ok := errors.AsType[*Error](p.check("latest"))
	if want := "version cannot have that value. A version, such as 21.0.1."; !ok || e.Msg != want || e.Pattern != "[0-9.]+" {
		t.Errorf("got %+v, want %q and the pattern apart", e, want)
	}
}

func TestCheckSuggestsAndLists(t *testing.T) {
	t.Parallel()
	_, err := release().Check(map[string]string{"ticket": "7", "brnach": "main"})
	var e *Error
	if !errors.As(err, &e) || !slices.Equal(e.Suggest, []string{"branch"}) || !strings.Contains(e.Next, "branch, size, debug, color, note, ticket") {
		t.Errorf("got %+v, want branch suggested and all of them listed", e)
	}
	_, err = Action{Verb: "deploy"}.Check(map[string]string{"x": "1"})
	if !errors.As(err, &e) || !strings.Contains(e.Next, "ocim.yaml") {
		t.Errorf("got %+v, want it said that the operator declares them", e)
	}
}

func hostile() Operation {
	return Operation{
		ID: "k7m2qx", Number: 1700000000123, Key: "000102030405060708090a0b0c0d0e0f", Project: "grove-eu", ServerTime: noon,
		Request: Request{
			Action: "release", Target: Target{"eu", "demo"}, Actor: Actor{"slack", "T1", "U1"}, ActorName: "{instance}",
			Params: map[string]string{
				"ticket": "{instance} $(id) `id` ${CI_JOB_TOKEN} $CI_JOB_TOKEN ; rm -rf / \" ' \\ {{actor}}",
				"branch": "main", "size": "12", "debug": "false", "color": "red", "note": `","variables":{"CI_X":"1"}`,
			},
		},
	}
}

// What reaches GitLab, byte for byte. Placeholders are filled in configured text alone, and once.
func TestT15_WhatReachesGitLab(t *testing.T) {
	t.Parallel()
	viaPipeline := release()
	viaPipeline.Start, viaPipeline.KeyVariable, viaPipeline.KeyInput = StartPipeline, "OCIM_KEY", "ocim_key"
	checked := hostile()
	params, err := release().Check(checked.Request.Params)
	if err != nil {
		t.Fatal(err)
	}
	checked.Request.Params = params
	text, err := json.MarshalIndent(map[string]PipelineSpec{
		"trigger":  release().Spec(checked, "main", "sealed-reference"),
		"pipeline": viaPipeline.Spec(checked, "main", "sealed-reference"),
	}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "spec.json", append(text, '\n'))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs; go test -update writes it anew (-want +got):\n%s", path, diff)
	}
}

// A spec must not share memory with the configuration, which all operations use.
func TestSpecLeavesTheActionAsItIs(t *testing.T) {
	t.Parallel()
	a, fresh := release(), release()
	s := a.Spec(hostile(), "main", "ref")
	s.Variables["INSTANCE_NAME"] = "x"
	s.Inputs["list"].([]any)[0] = "x"
	s.Payload["note"] = "x"
	if !cmp.Equal(a.Variables, fresh.Variables) || !cmp.Equal(a.Inputs, fresh.Inputs) || !cmp.Equal(a.Payload, fresh.Payload) {
		t.Error("filling a spec changed the action")
	}
}

// Whatever a person writes, what GitLab gets differs in the one field of that parameter and in
// nothing else, and arrives there as it was written.
func FuzzActionCheck(f *testing.F) {
	for _, v := range []string{
		"main", "", "{instance}", "{operation}", "$(reboot)", "`id`", "${CI_JOB_TOKEN}", `","ocim_key":"x`, "a\x00b", "\xff", "\u202e", "12", "-0", "1e3",
		"true", "red", strings.Repeat("a", 1001), "\U000e0041", "<!channel>", "a\nb: c", "{{.}}", "%0a", "\\u0000",
	} {
		for _, p := range release().Params {
			f.Add(p.Name, v)
		}
		f.Add(v, "x")
	}
	base := map[string]string{"ticket": "7"}
	f.Fuzz(func(t *testing.T, name, value string) {
		a := release()
		given := maps.Clone(base)
		given[name] = value
		params, err := a.Check(given)
		i := slices.IndexFunc(a.Params, func(p ActionParam) bool { return p.Name == name })
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeInvalid || e.Msg == "" {
				t.Fatalf("got %v, want an answer for people", err)
			}
			return
		}
		if i < 0 {
			t.Fatalf("%q was taken and is not declared", name)
		}
		op := Operation{ID: "k7m2qx", Number: 5, Key: "key", ServerTime: time.Time{}, Request: Request{Target: Target{"eu", "demo"}}}
		op.Request.Params = params
		got := reread(t, a.Spec(op, "main", "ref"))
		op.Request.Params = maps.Clone(params)
		delete(op.Request.Params, name)
		want := reread(t, a.Spec(op, "main", "ref"))

		p := a.Params[i]
		place := map[ParamPlace]string{IntoVariable: "Variables", IntoInput: "Inputs", IntoPayload: "Payload"}[p.Into]
		arrived, ok := got[place].(map[string]any)[p.Field]
		if !ok {
			t.Fatalf("%s did not arrive in %v", name, got)
		}
		switch v := arrived.(type) {
		case json.Number:
			ok = v.String() == value
		case bool:
			ok = v == (value == "true")
		default:
			ok = v == value
		}
		if !ok {
			t.Errorf("%s: got %v, want %q", name, arrived, value)
		}
		delete(got[place].(map[string]any), p.Field)
		delete(want[place].(map[string]any), p.Field)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s=%q changed more than its field (-want +got):\n%s", name, value, diff)
		}
	})
}

// reread is the spec as whoever reads its JSON sees it.
func reread(t *testing.T, s PipelineSpec) map[string]any {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
