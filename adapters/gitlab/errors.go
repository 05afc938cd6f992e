package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	gl "gitlab.com/gitlab-org/api/client-go/v2"

	"ocim/ops"
)

const (
	// maxForeign bounds GitLab's words in a message, in characters.
	maxForeign = 500
	// creationWindow is how long GitLab's limit on new pipelines lasts: it names no time itself.
	// Source: GitLab lib/gitlab/ci/pipeline/chain/limit/rate_limit.rb.
	creationWindow = time.Minute
)

// scrubber removes our tokens from foreign text, which may hold an echo of the request.
func scrubber(projects map[string]Project) *strings.Replacer {
	var tokens []string
	for _, p := range projects {
		tokens = append(tokens, p.Token.Reveal(), p.WriteToken.Reveal(), p.TriggerToken.Reveal())
	}
	// The longest first: one token may be the beginning of another.
	slices.SortFunc(tokens, func(x, y string) int { return len(y) - len(x) })
	var pairs []string
	for _, t := range tokens {
		if t != "" {
			pairs = append(pairs, t, "***")
		}
	}
	return strings.NewReplacer(pairs...)
}

// cause is err for the log: without our tokens, and without the chain that may hold them. Only the
// context's errors can still be recognised.
func (a *Adapter) cause(err error) error {
	text := clip(a.scrub.Replace(err.Error()), 2*maxForeign)
	for _, sentinel := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, sentinel) {
			return fmt.Errorf("%s: %w", text, sentinel)
		}
	}
	return errors.New(text)
}

// failure turns what went wrong into our own error.
func (a *Adapter) failure(p *project, r request, x *exchange, resp *gl.Response, err error) *ops.Error {
	e := &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, RetryAt: x.retryAt, Err: a.cause(err)}
	if resp == nil {
		a.noAnswer(e, r, x, err)
		return e
	}
	status := resp.StatusCode
	switch {
	case accepted(status):
		e.Msg = fmt.Sprintf("GitLab's answer could not be read when ocim tried to %s.", r.doing)
		if x.large.Load() {
			e.Msg = fmt.Sprintf("GitLab's answer was too large when ocim tried to %s.", r.doing)
		}
	case status < http.StatusBadRequest:
		e.Msg = fmt.Sprintf("GitLab answered with a redirect (%d) when ocim tried to %s; ocim follows none.", status, r.doing)
		e.Next = "Check the address of GitLab in the configuration."
	case status == http.StatusTooManyRequests:
		// Refused by GitLab's throttle before anything was done.
		e.Reason, e.NotSent = ops.ReasonRateLimited, true
		e.Msg = fmt.Sprintf("GitLab limits how often it is asked, and refused to let ocim %s now.", r.doing)
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout, status == http.StatusConflict,
		status == http.StatusLocked, status == http.StatusTooEarly:
		e.Msg = fmt.Sprintf("GitLab answered %d when ocim tried to %s.", status, r.doing)
	case r.kind == kindCreate:
		a.createRefused(e, p, status, x.refusal)
	default:
		a.readRefused(e, p, r, status, x.refusal)
	}
	return e
}

// noAnswer describes a call that got no answer.
func (a *Adapter) noAnswer(e *ops.Error, r request, x *exchange, err error) {
	var pause *pauseError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &pause):
		e.Reason, e.NotSent, e.RetryAt = ops.ReasonRateLimited, true, pause.until
		e.Msg = fmt.Sprintf("GitLab limits how often it is asked; ocim waits before it tries to %s.", r.doing)
		return
	case errors.Is(err, errWaiting):
		e.NotSent = true
		if queue, ok := errors.AsType[*queueError](err); ok {
			e.RetryAt = queue.until
		}
		e.Msg = fmt.Sprintf("ocim makes many calls to GitLab and had no turn to %s.", r.doing)
		return
	}
	e.NotSent = x.unsent() || errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.Is(err, errForeign):
		e.Msg = fmt.Sprintf("ocim may not call this address, and did not %s.", r.doing)
	case e.NotSent:
		e.Msg = fmt.Sprintf("GitLab could not be reached when ocim tried to %s.", r.doing)
	case errors.Is(err, context.DeadlineExceeded):
		e.Msg = fmt.Sprintf("GitLab did not answer in time when ocim tried to %s.", r.doing)
	default:
		e.Msg = fmt.Sprintf("The connection to GitLab broke when ocim tried to %s.", r.doing)
	}
}

// createRefused maps the answers with which GitLab refuses a pipeline. Sources: GitLab
// lib/api/ci/triggers.rb, app/services/ci/pipeline_trigger_service.rb and lib/api/ci/pipelines.rb.
func (a *Adapter) createRefused(e *ops.Error, p *project, status int, body []byte) {
	said := a.said(body)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonGitLabDenied
		e.Msg = fmt.Sprintf("GitLab does not let ocim start a pipeline in project %s (%d).", p.name, status)
		// GitLab hides which of them is wrong, on purpose.
		e.Next = "Check the project's id, its token, and that the token's owner may run pipelines on the branch."
	case http.StatusUnprocessableEntity:
		e.Code, e.Reason = ops.CodeInvalid, ops.ReasonConfigError
		e.Msg = sentence("GitLab could not make a pipeline from the project's .gitlab-ci.yml", said)
		e.Next = "Repair the project's CI configuration."
	default:
		if strings.Contains(strings.ToLower(said), "too many pipelines created") {
			e.Reason, e.NotSent, e.RetryAt = ops.ReasonRateLimited, true, a.clock.Now().Add(creationWindow)
			e.Msg = "GitLab limits how many pipelines are created per minute."
			return
		}
		e.Code, e.Reason = ops.CodeInvalid, ops.ReasonGitLabRefused
		e.Msg = sentence("GitLab refused to start the pipeline", said)
		e.Next = remedy(said)
	}
}

// remedy says what helps against the sentences of GitLab that are known.
func remedy(said string) string {
	said = strings.ToLower(said)
	switch {
	case strings.Contains(said, "reference not found"):
		return "Check the branch or tag that the configuration names."
	case strings.Contains(said, "permissions to set pipeline variables"):
		return "Allow pipeline variables in the project's CI/CD settings, or use inputs."
	case strings.Contains(said, "will not run for the selected trigger"), strings.Contains(said, "no stages / jobs"):
		return "Check the rules in the project's CI configuration."
	}
	return ""
}

func (a *Adapter) readRefused(e *ops.Error, p *project, r request, status int, body []byte) {
	switch status {
	case http.StatusNotFound:
		e.Code, e.Reason = ops.CodeNotFound, r.missing
		e.Msg = fmt.Sprintf("GitLab found nothing when ocim tried to %s.", r.doing)
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonGitLabDenied
		e.Msg = fmt.Sprintf("GitLab does not let ocim %s (%d).", r.doing, status)
		e.Next = fmt.Sprintf("Check the token of project %s and the rights of its owner.", p.name)
	default:
		e.Code, e.Reason = ops.CodeInvalid, ops.ReasonGitLabRefused
		if r.kind == kindRead {
			// A read is right by construction: a proxy or a newer GitLab is in the way.
			e.Code, e.Reason = ops.CodeUnavailable, ops.ReasonGitLabUnavailable
		}
		e.Msg = sentence(fmt.Sprintf("GitLab answered %d when ocim tried to %s", status, r.doing), a.said(body))
	}
}

func sentence(ours, theirs string) string {
	if theirs == "" {
		return ours + "."
	}
	return ours + ": " + theirs
}

// said is the text of an error answer: {"message": …} or {"error": …}, where … is a sentence, a list
// of them, or lists by field, "base" being the whole. Anything that is not JSON is a proxy's page and
// is not shown. Source: GitLab lib/api/helpers.rb (render_api_error!, render_validation_error!).
func (a *Adapter) said(body []byte) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	var all []string
	collect(v, "", 0, &all)
	return clip(plain(a.scrub.Replace(strings.Join(all, " "))), maxForeign)
}

func collect(v any, field string, depth int, all *[]string) {
	if depth > 5 || len(*all) > 50 {
		return
	}
	switch v := v.(type) {
	case string:
		if field != "" {
			v = field + ": " + v
		}
		*all = append(*all, v)
	case []any:
		for _, x := range v {
			collect(x, field, depth+1, all)
		}
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			name := k
			switch k {
			case "message", "error", "error_description", "base":
				name = ""
			}
			collect(v[k], name, depth+1, all)
		}
	}
}

// plain removes markup, which GitLab puts into some of its sentences.
func plain(s string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "<")
		b.WriteString(before)
		if !ok {
			break
		}
		tag, after, ok := strings.Cut(rest, ">")
		if !ok || tag == "" || !strings.ContainsRune("/abcdefghijklmnopqrstuvwxyz", rune(tag[0])) {
			b.WriteByte('<')
			s = rest
			continue
		}
		s = after
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// clip makes s one line of at most n characters.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
