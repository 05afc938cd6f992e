package ops

import (
	"slices"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	verbs := []string{"help", "deploy", "status", "operations", "logs", "cancel", "retry", "whoami"}
	for _, tc := range []struct {
		name       string
		word       string
		candidates []string
		want       []string
	}{
		{"swapped letters", "dpeloy", verbs, []string{"deploy"}},
		{"one too many", "sttatus", verbs, []string{"status"}},
		{"one missing", "cancl", verbs, []string{"cancel"}},
		{"capitals", "DEPLOI", verbs, []string{"deploy"}},
		{"beginning of a word", "oper", verbs, []string{"operations"}},
		{"part of a word", "atus", verbs, []string{"status"}},
		{"nothing alike", "xyzzy", verbs, nil},
		{"nothing far-fetched for two letters", "zq", verbs, nil},
		{"empty", "", verbs, nil},
		{"no candidates", "deploy", nil, nil},
		{"nearest first", "campus2", []string{"campus-24", "campus", "campus-2"}, []string{"campus", "campus-2", "campus-24"}},
		{"alike sorted by name", "demo", []string{"demo3", "demo1", "demo2"}, []string{"demo1", "demo2", "demo3"}},
		{"not letters", "дэмо", []string{"дамо"}, []string{"дамо"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := Nearest(tc.word, tc.candidates, 3); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := Nearest("demo", []string{"demo1", "demo2", "demo3"}, 2); len(got) != 2 {
		t.Errorf("got %q, want 2 of them", got)
	}
	if got := Nearest(strings.Repeat("ab", 1<<19), verbs, 3); got != nil {
		t.Errorf("got %q for a megabyte, want nothing", got)
	}
}

func TestValidInstance(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"demo": true, "a": true, "0": true, "my-site-2": true, strings.Repeat("a", 49): true, "kubernetes": true,
		"": false, "-demo": false, "demo-": false, "-": false, strings.Repeat("a", 50): false, "Demo": false, "de mo": false,
		"de.mo": false, "de_mo": false, "de/mo": false, "démo": false, "demo\n": false, "demo\x00": false, "../demo": false, "$(id)": false,
		"default": false, "monitoring": false, "openfaas": false, "openfaas-fn": false, "gitlab-kubernetes-agent": false, "kube-system": false, "kube-": false,
	} {
		if got := ValidInstance(name); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
}
