package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/ops"
)

// readier is a chat platform that can tell which of its workspaces work, with a reason for those
// that do not. It makes no call for that.
type readier interface {
	Readiness() map[string]error
}

// health follows which chats can be reached, and which GitLab projects refuse ocim. The bot is not
// ready until one chat was reached: nobody would notice that it is up. What else does not work is
// told and takes nothing away from those for whom it does.
type health struct {
	platforms map[string]readier
	degraded  func() map[string]error // the projects, with the reason of those that are

	mu   sync.Mutex
	seen bool // a chat was reached since the start
}

// newHealth takes those of the chats that can tell, and puts gauges for their workspaces and for
// the projects into the registry.
func newHealth(chats map[string]chat.Platform, degraded func() map[string]error, registry prometheus.Registerer) *health {
	h := &health{platforms: map[string]readier{}, degraded: degraded}
	gauge := func(name, help string, labels prometheus.Labels, on func() bool) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 {
			if on() {
				return 1
			}
			return 0
		}))
	}
	for platform, p := range chats {
		r, ok := p.(readier)
		if !ok {
			continue
		}
		h.platforms[platform] = r
		for workspace := range r.Readiness() {
			gauge("ocim_chat_ready", "1 while a workspace of a chat platform works, else 0.",
				prometheus.Labels{"platform": platform, "workspace": workspace}, func() bool { return r.Readiness()[workspace] == nil })
		}
	}
	for project := range degraded() {
		gauge("ocim_gitlab_project_degraded", "1 while GitLab refuses a token of a project, else 0.",
			prometheus.Labels{"project": project}, func() bool { return degraded()[project] != nil })
	}
	return h
}

// look lists what does not work now, one a line, and reports whether a chat has worked at some time
// since the start, or there is none.
func (h *health) look() (trouble string, started bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	started = true
	var lines []string
	for platform, r := range h.platforms {
		for workspace, err := range r.Readiness() {
			started = false
			if err == nil {
				h.seen = true
				continue
			}
			lines = append(lines, fmt.Sprintf("%s %s is not ready: %s\n", platform, workspace, chat.Clean(err.Error())))
		}
	}
	for project, err := range h.degraded() {
		if err != nil {
			lines = append(lines, fmt.Sprintf("gitlab project %s is degraded: %s\n", project, chat.Clean(err.Error())))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), started || h.seen
}

// ready is an error until a chat was reached once.
func (h *health) ready() error {
	if _, started := h.look(); !started {
		return errors.New("no chat has been reached yet")
	}
	return nil
}

// tell adds to the answer of /readyz what does not work.
func (h *health) tell(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if r.URL.Path == "/readyz" && r.Method == http.MethodGet {
			trouble, _ := h.look()
			_, _ = w.Write([]byte(trouble))
		}
	})
}

// watchTokens asks GitLab about each token of the configuration and warns of those that are bad. It
// ends when all are known: a GitLab that is away is asked again. A token that serves many projects
// is asked about once.
func (a *App) watchTokens(ctx context.Context) {
	left := map[string]gitlabToken{}
	for _, t := range gitlabTokens(a.cfg) {
		if _, known := left[t.key]; !known {
			left[t.key] = t
		}
	}
	for {
		for _, key := range slices.Sorted(maps.Keys(left)) {
			_, err := a.gitlab.CheckToken(ctx, left[key].project, left[key].use)
			if ops.CodeOf(err) == ops.CodeDenied {
				a.opt.log.Warn("token of GitLab cannot do its work", "key", key, "project", left[key].project, "err", err)
			}
			if err == nil || ops.CodeOf(err) != ops.CodeUnavailable {
				delete(left, key)
			}
		}
		if len(left) == 0 || clock.Sleep(ctx, a.opt.clock, tickEvery) != nil {
			return
		}
	}
}
