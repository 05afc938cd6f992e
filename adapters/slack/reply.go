package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

const (
	// Slack: a response_url takes five messages within 30 minutes, a trigger_id one view within
	// 3 s (docs.slack.dev, interactivity/handling-user-interaction).
	maxResponses     = 5
	responseURLLife  = 30 * time.Minute
	triggerLife      = 3 * time.Second
	maxResponseBytes = 64 << 10
)

// replier reaches the person who made one request. Safe for concurrent use.
type replier struct {
	a           *Adapter
	ws          *workspace
	user        string
	channel     string // where to answer; may be unknown
	thread      string
	trigger     string
	responseURL string // a secret: whoever has it may post
	came        time.Time
	used        atomic.Int32
	opened      atomic.Bool
}

func (a *Adapter) newReplier(ws *workspace, user string) *replier {
	return &replier{a: a, ws: ws, user: user, came: a.clock.Now()}
}

// OpenDialog implements [chat.Replier].
func (r *replier) OpenDialog(ctx context.Context, d chat.Dialog) error {
	left := triggerLife - r.a.clock.Now().Sub(r.came)
	if r.trigger == "" || left <= 0 || !r.opened.CompareAndSwap(false, true) {
		return errTooLate(nil)
	}
	view, err := renderDialog(d, r.channel)
	if err != nil {
		return invalidContent("views.open", err)
	}
	v, err := json.Marshal(view)
	if err != nil {
		return invalidContent("views.open", err)
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	return r.a.call(ctx, r.ws, "views.open", url.Values{"trigger_id": {r.trigger}, "view": {string(v)}}, nil)
}

// Later implements [chat.Replier]. It tries the response_url, then an ephemeral message, then the
// direct conversation: the first may be used up, the second needs the bot in the channel. A message
// that arrives twice harms less here than one that does not arrive.
func (r *replier) Later(ctx context.Context, m chat.Message) error {
	p := r.a.private(m)
	first := r.respond(ctx, p)
	if first == nil {
		return nil
	}
	text, blocks, err := p.form()
	if err != nil {
		return invalidContent("chat.postEphemeral", err)
	}
	if r.channel != "" {
		form := url.Values{"channel": {r.channel}, "user": {r.user}, "text": {text}, "blocks": {blocks}}
		if r.thread != "" {
			form.Set("thread_ts", r.thread)
		}
		if err := r.a.call(ctx, r.ws, "chat.postEphemeral", form, nil); err == nil {
			return nil
		}
	}
	form := url.Values{
		"channel": {r.user}, "text": {text}, "blocks": {blocks},
		"unfurl_links": {"false"}, "unfurl_media": {"false"},
	}
	return r.a.call(ctx, r.ws, "chat.postMessage", form, nil)
}

var errNoResponseURL = errors.New("no response_url that may be used")

// respond posts to the response_url. Errors never name it.
func (r *replier) respond(ctx context.Context, p private) error {
	u, ok := r.ws.responseURL(r.responseURL)
	if !ok || r.a.clock.Now().Sub(r.came) >= responseURLLife || r.used.Add(1) > maxResponses {
		return errNoResponseURL
	}
	keep := false
	p.Replace = &keep // the message with the button stays
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body)) //nolint:gosec // responseURL allowed the host
	if err != nil {
		return errNoResponseURL
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	res, err := r.a.client.Do(req) //nolint:gosec // as above
	if err != nil {
		return bare(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxResponseBytes))
	if err != nil {
		return bare(err)
	}
	if res.StatusCode != http.StatusOK {
		return statusError(res.StatusCode)
	}
	// Slack answers "ok" as text, or a JSON object with ok and error; now and then without any
	// content type. Only a JSON object that says so is a failure.
	if t, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err == nil && t == jsonType {
		var j apiStatus
		if err := json.Unmarshal(answer, &j); err == nil && !j.OK {
			return errors.New("response_url: " + safeCode(j.Error))
		}
	}
	return nil
}

// responseURL checks an address that came with a request before anything is sent there: https on a
// host of Slack's with the default port, or exactly the host that the API calls go to. The
// certificate then proves the host, so that a name which resolves to somebody else gets nothing.
func (ws *workspace) responseURL(raw string) (*url.URL, bool) {
	if raw == "" || len(raw) > 2048 {
		return nil, false
	}
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.Opaque != "" || u.Fragment != "" || u.Host == "" {
		return nil, false
	}
	if ws.APIURL != defaultAPI && u.Scheme == ws.api.Scheme && u.Host == ws.api.Host {
		return u, true
	}
	host := u.Hostname()
	if u.Scheme != "https" || u.Host != host && u.Host != host+":443" || !plainHost(host) {
		return nil, false
	}
	for _, domain := range []string{"slack.com", "slack-gov.com"} {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return u, true
		}
	}
	return nil, false
}

// plainHost tells whether host is written in lower-case letters, digits, hyphens and single dots.
func plainHost(host string) bool {
	for _, c := range []byte(host) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return !strings.Contains(host, "..") && !strings.HasPrefix(host, ".")
}

func errTooLate(cause error) error {
	return &ops.Error{
		Code: ops.CodeInvalid, Reason: ops.ReasonChatUnavailable,
		Msg: "Slack allows a form only in the first three seconds, and they had passed.", Next: "Try again.",
		Err: cause,
	}
}
