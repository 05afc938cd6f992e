package slacktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// apiError is a refusal in Slack's form.
type apiError struct {
	code     string
	messages []string // response_metadata.messages
	errors   []string
	needed   string // scope
}

func (e *apiError) Error() string { return e.code }

func refuse(code string) *apiError { return &apiError{code: code} }

// invalid is an invalid_arguments refusal with one reason.
func invalid(format string, args ...any) *apiError {
	return &apiError{code: "invalid_arguments", messages: []string{"[ERROR] " + fmt.Sprintf(format, args...)}}
}

// method is one Web API method.
type method struct {
	// run does the work with mu held. It returns the answer without ok.
	run func(a args) (Object, *apiError)
	// scope that the token needs; empty for none. A scope that depends on the conversation is
	// checked in run.
	scope string
	// formOnly methods do not read JSON bodies, as their method pages say.
	formOnly bool
	// appToken methods take the app-level token.
	appToken bool
}

func (s *Server) methodTable() map[string]method {
	return map[string]method{
		"auth.test":                    {run: s.authTest},
		"apps.connections.open":        {run: s.connectionsOpen, appToken: true},
		"chat.postMessage":             {run: s.postMessage, scope: "chat:write"},
		"chat.update":                  {run: s.updateMessage, scope: "chat:write"},
		"chat.delete":                  {run: s.deleteMessage, scope: "chat:write"},
		"chat.postEphemeral":           {run: s.postEphemeral, scope: "chat:write"},
		"chat.getPermalink":            {run: s.permalink, formOnly: true},
		"views.open":                   {run: s.viewsOpen},
		"views.push":                   {run: s.viewsPush},
		"views.update":                 {run: s.viewsUpdate},
		"views.publish":                {run: s.viewsPublish},
		"conversations.open":           {run: s.conversationsOpen, scope: "im:write"},
		"conversations.info":           {run: s.conversationsInfo, formOnly: true},
		"conversations.members":        {run: s.conversationsMembers, formOnly: true},
		"conversations.history":        {run: s.history, formOnly: true},
		"conversations.replies":        {run: s.replies, formOnly: true},
		"users.info":                   {run: s.usersInfo, scope: "users:read", formOnly: true},
		"users.lookupByEmail":          {run: s.usersByEmail, scope: "users:read.email", formOnly: true},
		"usergroups.list":              {run: s.groupsList, scope: "usergroups:read", formOnly: true},
		"usergroups.users.list":        {run: s.groupUsers, scope: "usergroups:read", formOnly: true},
		"files.getUploadURLExternal":   {run: s.uploadURL, scope: "files:write", formOnly: true},
		"files.completeUploadExternal": {run: s.completeUpload, scope: "files:write"},
	}
}

// args are the arguments of a call, from a query, a form or a JSON body.
type args Object

func (a args) str(name string) string {
	switch v := a[name].(type) {
	case string:
		return v
	case nil:
		return ""
	default:
		return string(mustJSON(v))
	}
}

func (a args) has(name string) bool {
	v, ok := a[name]
	return ok && v != nil
}

func (a args) bool(name string) bool {
	v := a.str(name)
	return v == "true" || v == "1"
}

// json decodes an argument that is JSON, or text that holds JSON, as forms carry it.
func (a args) json(name string) (any, error) {
	t, ok := a[name].(string)
	if !ok {
		return a[name], nil
	}
	var v any
	if err := json.Unmarshal([]byte(t), &v); err != nil {
		return nil, fmt.Errorf("decode %s: %w", name, err)
	}
	return v, nil
}

// objects decodes an argument that is a list of objects. An absent or empty argument is nil.
func (a args) objects(name string) ([]Object, error) {
	if !a.has(name) || a[name] == "" {
		return nil, nil
	}
	v, err := a.json(name)
	if err != nil {
		return nil, err
	}
	vs, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is not a list", name)
	}
	out := []Object{}
	for _, v := range vs {
		o, ok := v.(Object)
		if !ok {
			return nil, fmt.Errorf("%s holds something else than objects", name)
		}
		out = append(out, o)
	}
	return out, nil
}

// object decodes an argument that is an object; nil when it is absent.
func (a args) object(name string) (Object, error) {
	if !a.has(name) || a[name] == "" {
		return nil, nil
	}
	v, err := a.json(name)
	if err != nil {
		return nil, err
	}
	o, ok := v.(Object)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return o, nil
}

// readArgs reads the arguments and the token of a call. A token counts in the Authorization header
// or in a form, never in a JSON body.
func readArgs(r *http.Request, formOnly bool) (args, string, *apiError) {
	a := args{}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return a, "", refuse("request_timeout")
	}
	take := func(vs url.Values) {
		for k, v := range vs {
			a[k] = v[0]
		}
	}
	take(r.URL.Query())
	typ, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case len(body) == 0:
	case typ == "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return a, "", refuse("invalid_form_data")
		}
		take(form)
	case typ == "application/json" && !formOnly:
		var o Object
		if err := json.Unmarshal(body, &o); err != nil {
			return a, "", refuse("invalid_json")
		}
		for k, v := range o {
			if k != "token" {
				a[k] = v
			}
		}
	case typ == "application/json":
	default:
		return a, "", refuse("invalid_post_type")
	}
	token := a.str("token")
	delete(a, "token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = bearer
	}
	return a, token, nil
}

// serveAPI answers a Web API call: faults first, then rate limits, then the token, then the scope,
// then the arguments, as Slack does.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("method")
	m, known := s.methods[name]
	a, token, bad := readArgs(r, m.formOnly)
	call := Call{Method: name, Args: ledgerArgs(a, token), At: s.clk.Now()}
	s.log.DebugContext(r.Context(), "web api call", "method", name)

	f := s.fault(name, a)
	if f != nil {
		call.Fault = f.Kind
		if done := s.failBefore(w, r, f, &call); done {
			return
		}
	}
	if wait := s.overLimit(name, a); wait > 0 {
		call.Status, call.Error = http.StatusTooManyRequests, "ratelimited"
		s.recordCall(call)
		writeTooMany(w, wait, true)
		return
	}

	var answer Object
	refused := bad
	if refused == nil {
		answer, refused = s.call(m, known, a, token)
	}
	if refused == nil {
		call.Committed = true
		call.TS = tsOfAnswer(answer)
	} else {
		call.Error = refused.code
		answer = refused.json(s.scopesNow())
	}
	if f != nil && s.failAfter(w, r, f, &call) {
		return
	}
	call.Status = http.StatusOK
	s.recordCall(call)
	w.Header().Set("X-OAuth-Scopes", strings.Join(s.scopesNow(), ","))
	if m.scope != "" {
		w.Header().Set("X-Accepted-OAuth-Scopes", m.scope)
	}
	if refused == nil {
		answer["ok"] = true
	}
	writeJSON(w, http.StatusOK, answer)
}

// call checks the token and the scope and runs the method.
func (s *Server) call(m method, known bool, a args, token string) (Object, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !known:
		return nil, refuse("unknown_method")
	case token == "":
		return nil, refuse("not_authed")
	case s.revoked != "":
		return nil, refuse(s.revoked)
	case token != s.botToken && token != s.appToken:
		return nil, refuse("invalid_auth")
	case m.appToken != (token == s.appToken):
		return nil, refuse("not_allowed_token_type")
	}
	if err := s.need(m.scope); err != nil {
		return nil, err
	}
	return m.run(a)
}

// need checks that the bot token has scope; mu must be held.
func (s *Server) need(scope string) *apiError {
	if scope == "" || slices.Contains(s.scopes, scope) {
		return nil
	}
	return &apiError{code: "missing_scope", needed: scope}
}

func (s *Server) scopesNow() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.scopes)
}

func (e *apiError) json(scopes []string) Object {
	o := Object{"ok": false, "error": e.code}
	if e.needed != "" {
		o["needed"], o["provided"] = e.needed, strings.Join(scopes, ",")
	}
	if e.errors != nil {
		o["errors"] = e.errors
	}
	if e.messages != nil {
		o["response_metadata"] = Object{"messages": e.messages}
	}
	return o
}

// ledgerArgs turns arguments into text for the ledger.
func ledgerArgs(a args, token string) map[string]string {
	out := map[string]string{}
	for k := range a {
		out[k] = a.str(k)
	}
	if token != "" {
		out["token"] = mask(token)
	}
	return out
}

func tsOfAnswer(answer Object) string {
	if ts := str(answer, "ts"); ts != "" {
		return ts
	}
	return str(answer, "message_ts")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(mustJSON(v)) // a client that went away has no use for the error
}

// readAll reads at most maxBody bytes and ends early when ctx does.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBody))
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	return b, nil
}
