package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ocim/ops"
)

const (
	// callTimeout bounds every call to Slack.
	callTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read. A page of history is the largest.
	maxAnswer = 4 << 20
	// defaultRetry is used where Slack limits without saying for how long, and maxRetry caps what
	// it says.
	defaultRetry = 30 * time.Second
	maxRetry     = 10 * time.Minute
)

// newClient never follows a redirect: an API that redirects is not the API, and a response_url
// must not lead elsewhere.
func newClient(rt http.RoundTripper) *http.Client {
	if rt == nil {
		rt = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          32,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: callTimeout,
			// Slack's headers are a few kilobytes.
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// apiStatus is what every answer of the Web API holds.
type apiStatus struct {
	OK     bool   `json:"ok"`
	Error  string `json:"error"`
	Needed string `json:"needed"` // the missing scope
}

// call makes one call of the Web API and decodes its answer into out, if out is not nil. It makes
// no second try. Errors are *ops.Error and hold nothing that the peer or the request said, save
// Slack's error word.
//
// The first call waits for auth.test: a token of another workspace would write to strangers.
func (a *Adapter) call(ctx context.Context, ws *workspace, method string, form url.Values, out any) error {
	if ws.known.Load() == nil {
		if _, err := a.identity(ctx, ws); err != nil {
			if e, ok := errors.AsType[*ops.Error](err); ok {
				e.NotSent = true // not this call
			}
			return err
		}
	}
	_, err := a.callHeader(ctx, ws, method, form, out)
	switch {
	case err == nil:
		ws.trouble.Store(nil)
	case errors.Is(err, errToken):
		ws.trouble.Store(&err)
	}
	return err
}

// errToken is in the chain of an error which means that Slack takes the token for nothing any more.
var errToken = errors.New("the token is not accepted")

func (a *Adapter) callHeader(ctx context.Context, ws *workspace, method string, form url.Values, out any) (http.Header, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(method, err, true)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var asked, got atomic.Bool // without a connection nothing can have been sent
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, ws.APIURL+method, strings.NewReader(form.Encode())) //nolint:gosec // the operator configured the address
	if err != nil {
		return nil, unavailable(method, errors.New("the request could not be built"), true)
	}
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Authorization", "Bearer "+ws.BotToken.Reveal())
	res, err := a.client.Do(req) //nolint:gosec // as above
	if err != nil {
		return nil, unavailable(method, bare(err), asked.Load() && !got.Load())
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, a.statusError(method, res)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, unavailable(method, bare(err), false)
	}
	if len(body) > maxAnswer {
		return nil, unavailable(method, errors.New("the answer is too long"), false)
	}
	var status apiStatus
	if err := json.Unmarshal(body, &status); err != nil {
		return nil, unavailable(method, errors.New("the answer is not JSON"), false)
	}
	if !status.OK {
		return nil, a.slackError(method, status)
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			return nil, unavailable(method, errors.New("the answer has an unknown shape"), false)
		}
	}
	return res.Header, nil
}

// bare strips the address from an error of net/http: it may be a response_url.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// statusError maps an answer that is not 200. Its body is not looked at: Slack sends HTML.
func (a *Adapter) statusError(method string, res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		wait := defaultRetry
		if s, err := strconv.ParseInt(res.Header.Get("Retry-After"), 10, 32); err == nil && s > 0 {
			wait = min(time.Duration(s)*time.Second, maxRetry)
		}
		return a.limited(method, wait)
	case res.StatusCode >= 500, res.StatusCode == http.StatusRequestTimeout:
		return unavailable(method, statusError(res.StatusCode), false)
	}
	return &ops.Error{
		Code: ops.CodeDenied, Reason: ops.ReasonChatUnavailable,
		Msg:  "Slack's address does not answer as Slack does.",
		Next: "Tell the operator of this bot to check the API address.",
		Err:  fmt.Errorf("%s: %w", method, statusError(res.StatusCode)),
	}
}

func statusError(status int) error { return errors.New("HTTP status " + strconv.Itoa(status)) }

func (a *Adapter) limited(method string, wait time.Duration) error {
	return &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonRateLimited,
		Msg: "Slack asks this bot to slow down.", Next: "It goes on by itself.",
		RetryAt: a.clock.Now().Add(wait), NotSent: true,
		Err: errors.New(method + ": rate limited"),
	}
}

func unavailable(method string, cause error, notSent bool) error {
	return &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable,
		Msg: "Slack does not answer.", NotSent: notSent,
		Err: fmt.Errorf("%s: %w", method, cause),
	}
}

// invalidContent is for what we cannot render: Slack was not asked.
func invalidContent(method string, cause error) error {
	return &ops.Error{
		Code: ops.CodeInvalid, Reason: ops.ReasonInternal,
		Msg: "Slack cannot show this message.", Err: fmt.Errorf("%s: %w", method, cause),
	}
}

// slackError maps Slack's error words. An unknown word is taken as final: a call that Slack
// refused for a reason we do not know is not repeated for ever.
// Source: the error tables of the method pages, docs.slack.dev/reference/methods.
func (a *Adapter) slackError(method string, s apiStatus) error {
	word := safeCode(s.Error)
	cause := errors.New(method + ": " + word)
	e := &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "Slack refuses this message.", Err: cause}
	switch word {
	case "ratelimited", "rate_limited":
		return a.limited(method, defaultRetry)
	case "internal_error", "fatal_error", "service_unavailable", "request_timeout":
		return unavailable(method, cause, false) // Slack: some of it may have been done
	case "team_added_to_org":
		return unavailable(method, cause, true)
	case "expired_trigger_id", "exchanged_trigger_id", "invalid_trigger_id", "trigger_expired":
		return errTooLate(cause)
	case "message_not_found", "thread_not_found", "cannot_reply_to_message", "user_not_found", "users_not_found":
		e.Code, e.Reason, e.Msg = ops.CodeNotFound, ops.ReasonChatUnavailable, "Slack has no such message or person any more."
	case "not_in_channel", "channel_not_found":
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonChatUnavailable
		e.Msg, e.Next = "The bot is not in that Slack channel.", "Invite the bot: /invite @ocim"
	case "is_archived":
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonChatUnavailable
		e.Msg, e.Next = "The Slack channel is archived.", "Use another channel, or unarchive it and invite the bot: /invite @ocim"
	case "cant_update_message", "edit_window_closed", "is_inactive", "user_not_in_channel", "user_disabled", "cannot_dm_bot",
		"restricted_action", "restricted_action_read_only_channel", "restricted_action_thread_only_channel",
		"restricted_action_non_threadable_channel", "restricted_action_thread_locked", "messages_tab_disabled", "access_denied":
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonChatUnavailable
		e.Msg, e.Next = "Slack does not let the bot write there.", "Ask a workspace admin, or use another channel."
	case "not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired", "missing_scope",
		"not_allowed_token_type", "no_permission", "org_login_required", "ekm_access_denied", "accesslimited":
		e.Code, e.Reason = ops.CodeDenied, ops.ReasonChatUnauthorized
		e.Msg, e.Next = "Slack does not accept the bot's token for this.", "Tell the operator of this bot to check the token and its scopes."
		if word != "missing_scope" && word != "not_allowed_token_type" && word != "no_permission" {
			e.Err = fmt.Errorf("%w: %w", cause, errToken)
		}
		if scope := safeCode(s.Needed); word == "missing_scope" && scope != unreadable {
			e.Err = fmt.Errorf("%w, needs %s", cause, scope)
		}
	}
	return e
}

const unreadable = "unreadable error"

// safeCode keeps a word of Slack's only if it looks like one, so that nothing a peer echoes gets
// into a log: small letters, underscores and, for scopes, colons and dots.
func safeCode(s string) string {
	if s == "" || len(s) > 64 {
		return unreadable
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && c != '_' && c != ':' && c != '.' {
			return unreadable
		}
	}
	return s
}
