package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// docs/run.md names every metric, and none that does not exist.
func TestRunPageNamesEveryMetric(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/run.md")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, talking)
	descs := make(chan *prometheus.Desc)
	go func() {
		r.app.metrics.registry.Describe(descs)
		close(descs)
	}()
	known := map[string]bool{}
	for d := range descs {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]
		known[name] = true
		if ours := strings.HasPrefix(name, "ocim_"); ours && !regexp.MustCompile("`"+name+"[`{]").Match(page) {
			t.Errorf("docs/run.md does not name %s", name)
		} else if family, _, _ := strings.Cut(name, "_"); !ours && !strings.Contains(string(page), "`"+family+"_*`") {
			t.Errorf("docs/run.md does not name %s_*, to which %s belongs", family, name)
		}
	}
	for _, m := range regexp.MustCompile("`(ocim_[a-z_]+)[`{]").FindAllStringSubmatch(string(page), -1) {
		if !known[m[1]] {
			t.Errorf("docs/run.md names %s, which does not exist", m[1])
		}
	}
	if !known["ocim_chat_ready"] || !known["ocim_gitlab_project_degraded"] {
		t.Errorf("got metrics %v, want those of chats and projects among them", known)
	}
}
