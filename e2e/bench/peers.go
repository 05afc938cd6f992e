package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// peers are a Slack and a GitLab that cost next to nothing, so that the bot is what is measured.
// They answer as the real ones do in the good case, or not at all. The fakes of slacktest and
// gitlabtest, which check and remember everything, would share the generator's processor with it.
type peers struct {
	slack, gitlab string // base addresses
	hang          atomic.Bool
	gitlabCalls   atomic.Int64
	messages      atomic.Int64
	pipelines     atomic.Int64
	done          sync.Map                                      // pipeline id: number of jobs that have ended
	edited        atomic.Pointer[func(ts string, at time.Time)] // told of each chat.update
	servers       []*http.Server
}

func startPeers() (*peers, error) {
	p := &peers{}
	p.pipelines.Store(firstPipeline + 1_000_000)
	for _, s := range []struct {
		base    *string
		path    string
		handler http.HandlerFunc
	}{{&p.slack, "/api/", p.serveSlack}, {&p.gitlab, "", p.serveGitLab}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*s.base = "http://" + l.Addr().String() + s.path
		srv := &http.Server{Handler: p.orHang(s.handler), ReadHeaderTimeout: time.Minute}
		p.servers = append(p.servers, srv)
		go func() { _ = srv.Serve(l) }()
	}
	return p, nil
}

func (p *peers) close() {
	for _, s := range p.servers {
		_ = s.Close()
	}
}

func (p *peers) orHang(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p.hang.Load() {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		h(w, r)
	}
}

func (p *peers) serveSlack(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	_ = r.ParseForm()
	answer := map[string]any{"ok": true}
	switch strings.TrimPrefix(r.URL.Path, "/api/") {
	case "auth.test":
		_, workspace, _ := strings.Cut(r.Header.Get("Authorization"), "-of-")
		answer["url"], answer["team_id"], answer["user_id"], answer["bot_id"] = "https://bench.slack.com/", workspace, "U0BOT", "B0BOT"
	case "chat.postMessage":
		answer["channel"], answer["ts"] = r.Form.Get("channel"), fmt.Sprintf("1763640000.%06d", p.messages.Add(1))
	case "chat.update":
		answer["channel"], answer["ts"] = r.Form.Get("channel"), r.Form.Get("ts")
		if f := p.edited.Load(); f != nil {
			(*f)(r.Form.Get("ts"), at)
		}
	}
	reply(w, http.StatusOK, answer)
}

// stages are the jobs of every pipeline here.
var stages = [...]string{"generate", "build-image", "push-image", "plan", "apply", "deploy", "migrate", "smoke-test", "notify", "clean-up"}

func (p *peers) serveGitLab(w http.ResponseWriter, r *http.Request) {
	p.gitlabCalls.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	path := strings.TrimPrefix(r.URL.Path, "/api/v4/projects/"+strconv.Itoa(projectID))
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var id int64
	if len(parts) > 1 && parts[0] == "pipelines" {
		id, _ = strconv.ParseInt(parts[1], 10, 64)
	}
	switch {
	case path == "":
		reply(w, http.StatusOK, map[string]any{"id": projectID, "path_with_namespace": "ops/grove"})
	case path == "/trigger/pipeline" && r.Method == http.MethodPost:
		reply(w, http.StatusCreated, pipelineJSON(p.pipelines.Add(1)))
	case id > 0 && len(parts) == 2:
		reply(w, http.StatusOK, pipelineJSON(id))
	case id > 0 && parts[2] == "jobs":
		ended := 0
		if n, ok := p.done.Load(id); ok {
			ended, _ = n.(int)
		}
		jobs := make([]any, 0, len(stages))
		for i, name := range stages {
			status := "created"
			switch {
			case i < ended%len(stages):
				status = "success"
			case i == ended%len(stages):
				status = "running"
			}
			jobs = append(jobs, map[string]any{"id": id*100 + int64(i), "name": name, "stage": name, "status": status, "allow_failure": false, "web_url": "https://gitlab.bench/j"})
		}
		reply(w, http.StatusOK, jobs)
	default:
		reply(w, http.StatusOK, []any{})
	}
}

// pipelineJSON is a pipeline that began 20 minutes ago, as the seeded ones did, and has just changed.
func pipelineJSON(id int64) map[string]any {
	now := time.Now().UTC()
	began := now.Add(-20 * time.Minute).Format(time.RFC3339Nano)
	return map[string]any{
		"id": id, "project_id": projectID, "status": "running", "source": "trigger", "ref": "main", "sha": "bcbb5ec396a2c0f828686f14fac9b80b780504f2",
		"web_url": "https://gitlab.bench/ops/grove/-/pipelines/" + strconv.FormatInt(id, 10), "created_at": began,
		"updated_at": now.Format(time.RFC3339Nano), "started_at": began, "finished_at": nil,
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
