package gitlabtest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// hookTimeout is GitLab's webhook_timeout, by default.
	hookTimeout = 10 * time.Second
	// hookAnswer is how much of the answer GitLab reads, in bytes.
	hookAnswer = 8 << 10
	// freeFailures is the number of failed deliveries in a row that have no effect, and
	// maxFailures the one after which the hook stays off (app/models/concerns/web_hooks/auto_disabling.rb).
	freeFailures = 3
	maxFailures  = 39
	// firstPause doubles with each further failure up to longestPause.
	firstPause   = time.Minute
	longestPause = 24 * time.Hour
)

// Hook describes a project's webhook.
type Hook struct {
	URL string
	// Token is sent in X-Gitlab-Token, SigningToken ("whsec_" and 32 bytes in base64) signs.
	Token, SigningToken string
	// Pipeline hooks are sent unless NoPipelines; job and push hooks only if wanted.
	NoPipelines bool
	Jobs        bool
	Pushes      bool
}

// HookRules is what goes wrong with webhooks.
type HookRules struct {
	// Drop loses every webhook.
	Drop bool
	// Copies sends each one that many times more; SameKey keeps the Idempotency-Key, as after a
	// crash of Sidekiq, otherwise each copy is an event of its own.
	Copies  int
	SameKey bool
	// Shuffle sends what is due in random order. It takes effect on webhooks that wait together.
	Shuffle bool
	// Delay holds each webhook back. It is not divided by Options.Speed.
	Delay time.Duration
	// BeforeAnswer sends what a request caused before the request is answered.
	BeforeAnswer bool
	// Early builds the payload when the event happens instead of when it is sent. GitLab does it
	// late, so that two quick changes arrive as two events with the same status.
	Early bool
}

// Delivery is a webhook that was sent.
type Delivery struct {
	// ID is the id of the hook log, counted over all hooks.
	ID         int64
	Time       time.Time
	ProjectID  int64
	HookID     int64
	Event      string // the X-Gitlab-Event header
	PipelineID int64
	Header     http.Header
	Body       []byte
	// Status is the answer's status; zero if there was none, and then Err says why.
	Status int
	Err    string
}

// hook is a Hook with its state.
type hook struct {
	Hook

	id       int64
	created  time.Time
	failures int
	until    time.Time // disabled until then
}

// delivery is a webhook in the queue.
type delivery struct {
	project  *project
	hook     *hook
	event    string
	key      string
	due      time.Time
	pipeline int64
	build    func() any
	early    []byte
}

// AddHook adds a webhook to a project and returns its id.
func (s *Server) AddHook(projectID int64, h Hook) int64 {
	var id int64
	s.do(func() {
		if p := s.projects[projectID]; p != nil {
			id = s.addHook(p, h).id
		}
	})
	return id
}

func (s *Server) addHook(p *project, h Hook) *hook {
	s.ids.hook++
	added := &hook{Hook: h, id: s.ids.hook, created: s.at}
	p.hooks = append(p.hooks, added)
	return added
}

// SetHookRules replaces what goes wrong with webhooks from now on. Drop also empties the queue.
func (s *Server) SetHookRules(r HookRules) {
	s.do(func() {
		s.hookRules = r
		if r.Drop {
			s.hookQueue = nil
		}
	})
}

// Deliveries returns the webhooks that were sent, in the order in which they ended.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.delivered)
}

// PendingHooks is the number of webhooks that wait to be sent.
func (s *Server) PendingHooks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.hookQueue)
}

// alert is alert_status as of an instant.
func (h *hook) alert(now time.Time) string {
	switch {
	case h.failures > maxFailures:
		return "disabled"
	case now.Before(h.until):
		return "temporarily_disabled"
	}
	return "executable"
}

// queuePipelineHook queues the event of a change of status. The caller holds mu.
func (s *Server) queuePipelineHook(p *pipeline) {
	for _, h := range p.project.hooks {
		if !h.NoPipelines {
			s.queue(&delivery{project: p.project, hook: h, event: "Pipeline Hook", pipeline: p.id, build: func() any {
				return s.pipelinePayload(p)
			}})
		}
	}
}

func (s *Server) queueJobHook(j *job) {
	if j.bridge() {
		return // "Trigger jobs are excluded" (webhook_events.md)
	}
	for _, h := range j.pipeline.project.hooks {
		if h.Jobs {
			s.queue(&delivery{
				project: j.pipeline.project, hook: h, event: "Job Hook", pipeline: j.pipeline.id,
				build: func() any { return s.jobPayload(j) },
			})
		}
	}
}

func (s *Server) queuePushHook(p *project, branch string, c *commit, by *user) {
	for _, h := range p.hooks {
		if h.Pushes {
			s.queue(&delivery{project: p, hook: h, event: "Push Hook", build: func() any {
				return s.pushPayload(p, branch, c, by)
			}})
		}
	}
}

// queue adds an event for a hook, with copies as the rules want. The caller holds mu.
func (s *Server) queue(d *delivery) {
	if s.hookRules.Drop || d.hook.alert(s.at) != "executable" {
		return // dropped, not kept: GitLab does not queue for a disabled hook
	}
	d.key, d.due = s.uuid(), s.at.Add(s.hookRules.Delay)
	if s.hookRules.Early {
		d.early = encodePayload(d.build())
	}
	s.hookQueue = append(s.hookQueue, d)
	for range s.hookRules.Copies {
		again := *d
		if !s.hookRules.SameKey {
			again.key = s.uuid()
		}
		s.hookQueue = append(s.hookQueue, &again)
	}
}

// dueHooks takes what is due from the queue and tells how long the next one has to wait, negative
// if there is none. The caller holds mu.
func (s *Server) dueHooks() (due []*delivery, wait time.Duration) {
	wait = -1
	rest := s.hookQueue[:0:0]
	for _, d := range s.hookQueue {
		if d.due.After(s.at) {
			rest = append(rest, d)
			wait = sooner(wait, d.due.Sub(s.at))
			continue
		}
		due = append(due, d)
	}
	s.hookQueue = rest
	if s.hookRules.Shuffle {
		s.rng.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	}
	return due, wait
}

// putBack returns webhooks to the queue that were not sent.
func (s *Server) putBack(due []*delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hookQueue = append(slices.Clone(due), s.hookQueue...)
}

// Deliver sends every webhook that is due by the clock, one after the other, and returns how many
// there were. With Run it is not needed.
func (s *Server) Deliver(ctx context.Context) int {
	s.mu.Lock()
	s.advance()
	due, _ := s.dueHooks()
	s.mu.Unlock()
	for _, d := range due {
		s.send(ctx, d)
	}
	return len(due)
}

// sendBeforeAnswer sends webhooks on a request's own time if the rules want that.
func (s *Server) sendBeforeAnswer(ctx context.Context) {
	s.mu.Lock()
	wanted := s.hookRules.BeforeAnswer
	s.mu.Unlock()
	if wanted {
		s.Deliver(ctx)
	}
}

// send posts one webhook and counts how it went. There is no second attempt, as in GitLab.
func (s *Server) send(ctx context.Context, d *delivery) {
	s.mu.Lock()
	s.advance()
	header, body := s.wire(d)
	url := d.hook.URL
	s.mu.Unlock()
	status, err := s.post(ctx, url, header, body)
	if ctx.Err() != nil && err != nil {
		return // we are being stopped; that is not the receiver's fault
	}
	done := Delivery{
		ProjectID: d.project.ID, HookID: d.hook.id, Event: d.event, PipelineID: d.pipeline, Header: header,
		Body: body, Status: status,
	}
	if err != nil {
		done.Err = err.Error()
		s.log.WarnContext(ctx, "webhook was not delivered", "project", d.project.ID, "event", d.event, "err", err)
	}
	s.do(func() {
		s.ids.delivery++
		done.ID, done.Time = s.ids.delivery, s.at
		s.delivered = append(s.delivered, done)
		if keep := s.opts.LedgerReads; keep > 0 && len(s.delivered) > 2*keep {
			s.delivered = slices.Clone(s.delivered[len(s.delivered)-keep:])
		}
		d.hook.count(err == nil && status < 400, s.at)
	})
}

// count keeps the books of auto-disabling.
func (h *hook) count(good bool, now time.Time) {
	if good {
		h.failures, h.until = 0, time.Time{}
		return
	}
	h.failures++
	if h.failures > freeFailures {
		pause := longestPause
		if doublings := h.failures - freeFailures - 1; doublings < 11 {
			pause = min(firstPause<<doublings, longestPause)
		}
		h.until = now.Add(pause)
	}
}

func (s *Server) post(ctx context.Context, url string, header http.Header, body []byte) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", err)
	}
	req.Header = header.Clone()
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.CopyN(io.Discard, resp.Body, hookAnswer); err != nil && !errors.Is(err, io.EOF) {
		return resp.StatusCode, fmt.Errorf("webhook: read the answer: %w", err)
	}
	return resp.StatusCode, nil
}

// wire is a webhook as it goes out (app/services/web_hook_service.rb, build_headers). The caller
// holds mu.
func (s *Server) wire(d *delivery) (http.Header, []byte) {
	body := d.early
	if body == nil {
		body = encodePayload(d.build())
	}
	h := http.Header{}
	// Assigned and not Set, because Set would change the capitals of UUID.
	maps.Copy(h, http.Header{
		"Content-Type":          {"application/json"},
		"User-Agent":            {"GitLab/" + version},
		"Idempotency-Key":       {d.key},
		"X-Gitlab-Event":        {d.event},
		"X-Gitlab-Webhook-UUID": {s.uuid()},
		"X-Gitlab-Instance":     {s.baseURL},
		"X-Gitlab-Event-UUID":   {s.uuid()},
	})
	if d.hook.Token != "" {
		h["X-Gitlab-Token"] = []string{d.hook.Token}
	}
	if d.hook.SigningToken != "" {
		at := s.at
		h["webhook-id"] = []string{d.key}
		h["webhook-timestamp"] = []string{strconv.FormatInt(at.Unix(), 10)}
		h["webhook-signature"] = []string{Sign(d.hook.SigningToken, d.key, at, body)}
	}
	return h, body
}

func encodePayload(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		return []byte("{}")
	}
	return raw
}

// Sign is the value of webhook-signature for a delivery, after Standard Webhooks. A token that is
// not "whsec_" and base64 is used as it stands.
func Sign(signingToken, id string, at time.Time, body []byte) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signingToken, "whsec_"))
	if err != nil {
		key = []byte(signingToken)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// BuildHook returns the Pipeline Hook that the hook would send now about a pipeline, for tests that
// send, repeat or forge it themselves. The header names are as on the wire; copy them with
// [http.Header.Set].
func (s *Server) BuildHook(hookID, pipelineID int64) (http.Header, []byte, error) {
	var header http.Header
	var body []byte
	err := s.withPipeline(pipelineID, func(p *pipeline) error {
		i := slices.IndexFunc(p.project.hooks, func(h *hook) bool { return h.id == hookID })
		if i < 0 {
			return fmt.Errorf("hook %d: %w", hookID, ErrNotFound)
		}
		header, body = s.wire(&delivery{
			project: p.project, hook: p.project.hooks[i], event: "Pipeline Hook", key: s.uuid(), pipeline: p.id,
			build: func() any { return s.pipelinePayload(p) },
		})
		return nil
	})
	return header, body, err
}
