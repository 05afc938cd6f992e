package gitlabtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// reply is an answer. A body of type []byte or string is sent as it is, anything else as JSON.
type reply struct {
	status   int
	body     any
	header   http.Header
	pipeline int64
	job      int64
}

func ok(body any) *reply { return &reply{status: http.StatusOK, body: body} }

// message is an error in the shape of GitLab's API helpers (lib/api/helpers.rb, render_api_error!).
func message(status int, text any) *reply {
	return &reply{status: status, body: map[string]any{"message": text}}
}

// grape is a parameter error in the shape of the Grape framework.
func grape(text string) *reply {
	return &reply{status: http.StatusBadRequest, body: map[string]any{"error": text}}
}

func notFound(what string) *reply {
	if what == "" {
		return message(http.StatusNotFound, "404 Not Found")
	}
	return message(http.StatusNotFound, "404 "+what+" Not Found")
}

// missingRecord is how an id that does not exist is answered (lib/api/helpers.rb rescues
// ActiveRecord::RecordNotFound, with a small f).
func missingRecord() *reply { return message(http.StatusNotFound, "404 Not found") }

func forbidden(why string) *reply {
	if why == "" {
		return message(http.StatusForbidden, "403 Forbidden")
	}
	return message(http.StatusForbidden, "403 Forbidden - "+why)
}

// baseError is a model's validation error.
func baseError(status int, text string) *reply {
	return message(status, map[string]any{"base": []string{text}})
}

// call is a request on its way through a route. Handlers run with the server's mutex held.
type call struct {
	*Server

	r       *http.Request
	path    map[string]string
	params  map[string]any // of body and query
	body    map[string]any // of the body alone
	token   *token
	project *project
	role    Role
	lag     lag
}

// query returns a reader of the parameters.
func (c *call) query() *query { return &query{params: c.params} }

// handler answers a call.
type handler func(*call) *reply

// access is what a route asks of the caller.
type access int

const (
	anyone   access = iota // no token
	anyToken               // a valid token of whatever scope
	reads                  // Reporter, read_api
	files                  // Reporter, read_repository or read_api
	writes                 // Developer, api
	owns                   // Maintainer, api
)

// route is a path of the API. In its pattern ":x" stands for one segment and "*x" for one or more.
type route struct {
	name, method, pattern string
	access                access
	serve                 handler

	segments []string // of the pattern
}

// newRoutes returns the table of all routes.
func newRoutes() []route {
	const pipelines = "projects/:id/pipelines"
	table := []route{
		{name: "trigger", method: "POST", pattern: "projects/:id/trigger/pipeline", access: anyone, serve: triggerPipeline},
		{name: "trigger", method: "POST", pattern: "projects/:id/ref/*ref/trigger/pipeline", access: anyone, serve: triggerPipeline},
		{name: "create", method: "POST", pattern: "projects/:id/pipeline", access: writes, serve: createPipeline},
		{name: "pipelines", method: "GET", pattern: pipelines, access: reads, serve: listPipelines},
		{name: "pipeline", method: "GET", pattern: pipelines + "/:pipeline_id", access: reads, serve: getPipeline},
		{name: "variables", method: "GET", pattern: pipelines + "/:pipeline_id/variables", access: reads, serve: getVariables},
		{name: "pipeline-jobs", method: "GET", pattern: pipelines + "/:pipeline_id/jobs", access: reads, serve: listJobs},
		{name: "bridges", method: "GET", pattern: pipelines + "/:pipeline_id/bridges", access: reads, serve: listBridges},
		{name: "bridges", method: "GET", pattern: pipelines + "/:pipeline_id/trigger_jobs", access: reads, serve: listBridges},
		{name: "cancel", method: "POST", pattern: pipelines + "/:pipeline_id/cancel", access: writes, serve: cancelPipeline},
		{name: "retry", method: "POST", pattern: pipelines + "/:pipeline_id/retry", access: writes, serve: retryPipeline},
		{name: "my-pipelines", method: "GET", pattern: "pipelines", access: anyToken, serve: listMyPipelines},
		{name: "job", method: "GET", pattern: "projects/:id/jobs/:job_id", access: reads, serve: getJob},
		{name: "trace", method: "GET", pattern: "projects/:id/jobs/:job_id/trace", access: reads, serve: getTrace},
		{name: "job-play", method: "POST", pattern: "projects/:id/jobs/:job_id/play", access: writes, serve: playJob},
		{name: "job-cancel", method: "POST", pattern: "projects/:id/jobs/:job_id/cancel", access: writes, serve: cancelJob},
		{name: "job-retry", method: "POST", pattern: "projects/:id/jobs/:job_id/retry", access: writes, serve: retryJob},
		{name: "project", method: "GET", pattern: "projects/:id", access: reads, serve: getProject},
		{name: "tree", method: "GET", pattern: "projects/:id/repository/tree", access: files, serve: getTree},
		{name: "file", method: "GET", pattern: "projects/:id/repository/files/:file_path", access: files, serve: getFile},
		{name: "file", method: "HEAD", pattern: "projects/:id/repository/files/:file_path", access: files, serve: getFile},
		{name: "file-raw", method: "GET", pattern: "projects/:id/repository/files/:file_path/raw", access: files, serve: getRawFile},
		{name: "commits", method: "GET", pattern: "projects/:id/repository/commits", access: files, serve: listCommits},
		{name: "commit", method: "GET", pattern: "projects/:id/repository/commits/*sha", access: files, serve: getCommit},
		{name: "commit-create", method: "POST", pattern: "projects/:id/repository/commits", access: writes, serve: createCommit},
		{name: "merge-requests", method: "GET", pattern: "projects/:id/merge_requests", access: reads, serve: listMergeRequests},
		{name: "hooks", method: "GET", pattern: "projects/:id/hooks", access: owns, serve: listHooks},
		{name: "hook-create", method: "POST", pattern: "projects/:id/hooks", access: owns, serve: createHook},
		{name: "hook", method: "GET", pattern: "projects/:id/hooks/:hook_id", access: owns, serve: getHook},
		{name: "hook-edit", method: "PUT", pattern: "projects/:id/hooks/:hook_id", access: owns, serve: editHook},
		{name: "hook-delete", method: "DELETE", pattern: "projects/:id/hooks/:hook_id", access: owns, serve: deleteHook},
		{name: "hook-test", method: "POST", pattern: "projects/:id/hooks/:hook_id/test/:trigger", access: owns, serve: testHook},
		{name: "hook-events", method: "GET", pattern: "projects/:id/hooks/:hook_id/events", access: owns, serve: listHookEvents},
		{
			name: "hook-resend", method: "POST", pattern: "projects/:id/hooks/:hook_id/events/:hook_log_id/resend",
			access: owns, serve: resendHook,
		},
		{name: "token-self", method: "GET", pattern: "personal_access_tokens/self", access: anyToken, serve: getTokenSelf},
		{name: "user", method: "GET", pattern: "user", access: anyToken, serve: getUser},
		{name: "version", method: "GET", pattern: "version", access: anyToken, serve: getVersion},
		{name: "metadata", method: "GET", pattern: "metadata", access: anyToken, serve: getVersion},
	}
	for i := range table {
		table[i].segments = strings.Split(table[i].pattern, "/")
	}
	return table
}

// match finds the route of a method and an encoded path. A path that exists with another method
// gives known.
func match(table []route, method, escaped string) (found *route, vars map[string]string, known bool) {
	rest, isAPI := strings.CutPrefix(escaped, apiPrefix)
	if !isAPI {
		return nil, nil, false
	}
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	for i, p := range parts {
		if u, err := url.PathUnescape(p); err == nil {
			parts[i] = u
		}
	}
	for i := range table {
		vars, ok := fit(table[i].segments, parts)
		if ok && table[i].method == method {
			return &table[i], vars, true
		}
		known = known || ok
	}
	return nil, nil, known
}

// fit compares the segments of a path with those of a pattern.
func fit(pattern, parts []string) (map[string]string, bool) {
	vars := map[string]string{}
	for i, want := range pattern {
		if i >= len(parts) {
			return nil, false
		}
		switch {
		case strings.HasPrefix(want, "*"):
			tail := len(pattern) - i - 1
			if len(parts)-tail <= i || !slices.Equal(parts[len(parts)-tail:], pattern[i+1:]) {
				return nil, false
			}
			vars[want[1:]] = strings.Join(parts[i:len(parts)-tail], "/")
			return vars, true
		case strings.HasPrefix(want, ":"):
			if parts[i] == "" {
				return nil, false
			}
			vars[want[1:]] = parts[i]
		case parts[i] != want:
			return nil, false
		}
	}
	return vars, len(parts) == len(pattern)
}

// ServeHTTP answers a request of the REST API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	rt, vars, known := match(s.routes, r.Method, r.URL.EscapedPath())
	form, refused := decodeBody(r, body)
	if err != nil {
		refused = message(http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
	}
	e := &Entry{Method: r.Method, Path: r.URL.EscapedPath(), Query: maskQuery(r.URL.Query()), Body: maskSecrets(form)}
	if rt != nil {
		e.Route = rt.name
	}
	s.mu.Lock()
	s.advance()
	e.Time = s.at
	s.ledger.add(e)
	hits := s.strike(r, rt)
	s.rouse()
	s.mu.Unlock()

	if !s.before(w, r, e, hits) {
		return
	}
	c := &call{Server: s, r: r, path: vars, body: form, params: merged(r.URL.Query(), form), lag: hits.lag()}
	var answer *reply
	s.do(func() {
		switch {
		case rt == nil && known:
			answer = &reply{status: http.StatusMethodNotAllowed, body: map[string]any{"error": "405 Not Allowed"}}
		case rt == nil:
			answer = &reply{status: http.StatusNotFound, body: map[string]any{"error": "404 Not Found"}}
		default:
			if answer = c.admit(rt.access, e); answer == nil {
				if answer = refused; answer == nil {
					answer = rt.serve(c)
				}
			}
		}
		c.record(e, answer)
		s.keep(rt, e, answer)
		answer.header = s.standardHeader(answer.header)
	})
	s.sendBeforeAnswer(r.Context())
	s.answer(w, r, e, answer, hits)
}

// standardHeader adds what every answer of GitLab carries. The caller holds mu.
func (s *Server) standardHeader(h http.Header) http.Header {
	if h == nil {
		h = http.Header{}
	}
	h.Set("Date", s.at.UTC().Format(http.TimeFormat))
	h.Set("X-Request-Id", s.uuid())
	h.Set("X-Gitlab-Meta", `{"version":"1"}`)
	h.Set("Cache-Control", "max-age=0, private, must-revalidate")
	return h
}

// record completes a ledger entry. The caller holds mu.
func (c *call) record(e *Entry, a *reply) {
	e.Status, e.PipelineID, e.JobID = a.status, a.pipeline, a.job
	if c.project != nil {
		e.ProjectID = c.project.ID
	}
	if e.PipelineID == 0 {
		e.PipelineID, _ = parseID(c.path["pipeline_id"])
	}
	if e.JobID == 0 {
		e.JobID, _ = parseID(c.path["job_id"])
	}
}

// encode turns an answer into bytes and their media type.
func encode(a *reply) (raw []byte, contentType string) {
	switch b := a.body.(type) {
	case nil:
		return nil, ""
	case []byte:
		return b, "application/octet-stream"
	case string:
		return []byte(b), "text/plain"
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(a.body); err != nil {
		return fmt.Appendf(nil, `{"message":"500 Internal Server Error: %s"}`, err), "application/json"
	}
	return bytes.TrimSpace(buf.Bytes()), "application/json"
}
