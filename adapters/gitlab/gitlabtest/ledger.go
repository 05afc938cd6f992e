package gitlabtest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// masked stands in the ledger where a secret stood in the request.
const masked = "***"

// Entry is one request that reached the server.
type Entry struct {
	// Seq counts requests from 1 in the order of their arrival.
	Seq  int64
	Time time.Time
	// Method and Path are the request's; Path is still percent-encoded and without query.
	Method, Path string
	// Route is the name of the route, such as "trigger" or "pipeline"; empty if none matched.
	Route string
	Query url.Values
	// Body is the decoded JSON or form body, with the trigger token and other secrets masked.
	Body map[string]any
	// User is the name of the user whose token the request carried, or empty.
	User string
	// Status is the status with which the simulated GitLab answered; zero while it is still
	// at it, and if a fault kept the request from it.
	Status int
	// Sent is the status the caller got; zero if the answer was lost.
	Sent int
	// Fault names the fault that was applied, or is empty.
	Fault string
	// ProjectID, PipelineID and JobID are what the request was about or created, or zero.
	ProjectID, PipelineID, JobID int64
}

// Write says whether the request may have changed something.
func (e *Entry) Write() bool { return e.Method != http.MethodGet && e.Method != http.MethodHead }

// ledger remembers requests.
type ledger struct {
	entries   []*Entry
	last      int64
	reads     int
	keepReads int
}

func (l *ledger) add(e *Entry) {
	l.last++
	e.Seq = l.last
	l.entries = append(l.entries, e)
	if e.Write() || l.keepReads == 0 {
		return
	}
	l.reads++
	if l.reads <= 2*l.keepReads {
		return
	}
	// Forget half at a time, so that a request costs little on average.
	drop := l.reads - l.keepReads
	l.entries = slices.DeleteFunc(l.entries, func(e *Entry) bool {
		if e.Write() || drop == 0 {
			return false
		}
		drop--
		return true
	})
	l.reads = l.keepReads
}

// Ledger returns every request so far, in the order of arrival.
func (s *Server) Ledger() []Entry { return s.entries(func(*Entry) bool { return true }) }

// Writes returns the requests that may have changed something.
func (s *Server) Writes() []Entry { return s.entries((*Entry).Write) }

// Triggers returns the requests to the trigger API, whatever became of them.
func (s *Server) Triggers() []Entry {
	return s.entries(func(e *Entry) bool { return e.Route == "trigger" })
}

// Requests returns the requests of one route.
func (s *Server) Requests(route string) []Entry {
	return s.entries(func(e *Entry) bool { return e.Route == route })
}

func (s *Server) entries(want func(*Entry) bool) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Entry
	for _, e := range s.ledger.entries {
		if want(e) {
			c := *e
			c.Body = maps.Clone(e.Body)
			found = append(found, c)
		}
	}
	return found
}

// PipelinesByKey returns the ids of the pipelines that POST requests with this key created. A key is
// the extra top-level parameter ocim_key of a trigger call, the pipeline variable OCIM_KEY, or the
// input ocim_key.
func (s *Server) PipelinesByKey(key string) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.byKey[key])
}

// Keys returns every key with which a pipeline was created, with the ids of its pipelines.
func (s *Server) Keys() map[string][]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := map[string][]int64{}
	for k, ids := range s.byKey {
		keys[k] = slices.Clone(ids)
	}
	return keys
}

// remember files a pipeline under the keys its request carried.
func (s *Server) remember(p *pipeline, params map[string]any) {
	var keys []string
	add := func(v any) {
		if k := text(v); k != "" && !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	add(params["ocim_key"])
	add(p.inputs["ocim_key"])
	for _, v := range p.variables {
		if v.key == "OCIM_KEY" {
			add(v.value)
		}
	}
	for _, k := range keys {
		s.byKey[k] = append(s.byKey[k], p.id)
	}
}

// maskSecrets returns a copy of parameters without the secrets among them.
func maskSecrets(params map[string]any) map[string]any {
	clean := maps.Clone(params)
	for _, name := range []string{"token", "private_token", "job_token", "signing_token", "access_token"} {
		if _, ok := clean[name]; ok {
			clean[name] = masked
		}
	}
	return clean
}

func maskQuery(q url.Values) url.Values {
	if len(q) == 0 {
		return nil
	}
	clean := maps.Clone(q)
	for _, name := range []string{"token", "private_token", "job_token", "access_token"} {
		if clean.Has(name) {
			clean[name] = []string{masked}
		}
	}
	return clean
}
