package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"ocim/adapters/chat"
)

// readier is a chat platform that can tell which of its workspaces work, with a reason for those
// that do not. It makes no call for that.
type readier interface {
	Readiness() map[string]error
}

// chatState follows which chats can be reached. A chat that was never reached since the start keeps
// the bot from being ready: its configuration may be wrong. One that is lost later does not, since
// the others would lose their bot too.
type chatState struct {
	platforms map[string]readier

	mu   sync.Mutex
	seen map[string]bool // the chats that were reached since the start
}

// newChatState takes those of the chats that can tell, and puts a gauge for each of their
// workspaces into the registry.
func newChatState(chats map[string]chat.Platform, registry prometheus.Registerer) *chatState {
	c := &chatState{platforms: map[string]readier{}, seen: map[string]bool{}}
	for platform, p := range chats {
		r, ok := p.(readier)
		if !ok {
			continue
		}
		c.platforms[platform] = r
		for workspace := range r.Readiness() {
			registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "ocim_chat_ready", Help: "1 while a workspace of a chat platform works, else 0.",
				ConstLabels: prometheus.Labels{"platform": platform, "workspace": workspace},
			}, func() float64 {
				if r.Readiness()[workspace] != nil {
					return 0
				}
				return 1
			}))
		}
	}
	return c
}

// look lists the chats that do not work now, one a line, and reports whether each of all chats has
// worked at some time since the start.
func (c *chatState) look() (trouble string, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	started = true
	var lines []string
	for platform, r := range c.platforms {
		for workspace, err := range r.Readiness() {
			name := platform + " " + workspace
			if err == nil {
				c.seen[name] = true
				continue
			}
			started = started && c.seen[name]
			lines = append(lines, fmt.Sprintf("%s is not ready: %s\n", name, chat.Clean(err.Error())))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), started
}

// ready is an error until every chat was reached once.
func (c *chatState) ready() error {
	if _, started := c.look(); !started {
		return errors.New("a chat has not been reached yet")
	}
	return nil
}

// tell adds to the answer of /readyz which chats do not work.
func (c *chatState) tell(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if r.URL.Path == "/readyz" && r.Method == http.MethodGet {
			trouble, _ := c.look()
			_, _ = w.Write([]byte(trouble))
		}
	})
}
