package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ocim/internal/secret"
	"ocim/ops"
)

// Use names one of a project's tokens, as the configuration does.
type Use string

// The tokens of a project.
const (
	UseRead    Use = "token"
	UseWrite   Use = "write_token"
	UseTrigger Use = "trigger_token"
)

// scope is what ocim needs the token for, in GitLab's words (doc/security/tokens/_index.md).
func (u Use) scope() string {
	if u == UseWrite {
		return "api"
	}
	return "read_api"
}

// TokenInfo is what GitLab says of a token.
type TokenInfo struct {
	Scopes  []string
	Expires time.Time // the day, in UTC; zero if it does not
}

type tokenJSON struct {
	Scopes    []string `json:"scopes"`
	ExpiresAt string   `json:"expires_at"`
}

// CheckToken asks GitLab what the read or the write token of a project may do, and whether it sees
// the project. It changes nothing. The error of a token that is invalid, unknown or lacks a scope is
// CodeDenied; CodeUnavailable tells nothing about the token. A trigger token cannot be checked:
// GitLab takes it for one call only, which starts a pipeline.
// Source: GitLab lib/api/personal_access_tokens/self_information.rb, which answers for personal,
// project and group access tokens, whatever their scopes are.
func (a *Adapter) CheckToken(ctx context.Context, name string, use Use) (TokenInfo, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	p, err := a.project(name)
	if err != nil {
		return TokenInfo{}, err
	}
	var token secret.Secret
	switch use {
	case UseRead:
		token = p.Token
	case UseWrite:
		token = p.WriteToken
	default:
	}
	if token.Empty() {
		return TokenInfo{}, badToken(p, use, "cannot be tried, or is missing", nil)
	}
	var got tokenJSON
	_, err = a.call(ctx, p, request{
		method: http.MethodGet, path: "personal_access_tokens/self", token: token, out: &got,
		doing: fmt.Sprintf("ask what the %s of project %s may do", use, p.name), missing: ops.ReasonGitLabDenied,
	})
	switch ops.CodeOf(err) {
	case ops.CodeDenied:
		return TokenInfo{}, badToken(p, use, "is invalid: it is revoked, expired or mistyped", err)
	case ops.CodeNotFound:
		return TokenInfo{}, badToken(p, use, "is unknown to GitLab: it is no access token of a user, a project or a group", err)
	default:
	}
	if err != nil {
		return TokenInfo{}, err
	}
	info := TokenInfo{Scopes: got.Scopes}
	if day, err := time.Parse(time.DateOnly, got.ExpiresAt); err == nil {
		info.Expires = day
	}
	if !slices.Contains(got.Scopes, use.scope()) && !slices.Contains(got.Scopes, "api") {
		return info, badToken(p, use, fmt.Sprintf("is insufficient: it lacks the scope %s and has %s",
			use.scope(), clip(a.scrub.Replace(strings.Join(got.Scopes, ", ")), 200)), nil)
	}
	_, err = a.call(ctx, p, request{
		method: http.MethodGet, path: p.path(), token: token,
		doing: "read project " + p.name, missing: ops.ReasonGitLabDenied,
	})
	if code := ops.CodeOf(err); err != nil && (code == ops.CodeDenied || code == ops.CodeNotFound) {
		return info, badToken(p, use, "is insufficient: its user does not see the project", err)
	}
	return info, err
}

func badToken(p *project, use Use, is string, cause error) *ops.Error {
	return &ops.Error{
		Code: ops.CodeDenied, Reason: ops.ReasonGitLabDenied, Err: cause,
		Msg:  fmt.Sprintf("The %s of project %s %s.", use, p.name, is),
		Next: fmt.Sprintf("It must be an active access token with the scope %s, of a user with the role Developer in the project.", use.scope()),
	}
}

// denials remember which tokens GitLab refused when they were last used. Safe for concurrent use.
type denials struct {
	mu  sync.Mutex
	all map[denial]error
}

type denial struct {
	project string
	use     Use
}

// note keeps how a call with one of the project's tokens ended. An error that is not about the
// token changes nothing.
func (d *denials) note(p *project, r request, err error) {
	use := UseTrigger
	switch {
	case !r.token.Empty() && r.token.Equal(p.Token.Reveal()):
		use = UseRead
	case !r.token.Empty():
		use = UseWrite
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		delete(d.all, denial{p.name, use})
	case ops.CodeOf(err) == ops.CodeDenied:
		d.all[denial{p.name, use}] = fmt.Errorf("%s: %s", use, ops.UserMsg(err))
	}
}

// Degraded tells for each configured project whether GitLab refused one of its tokens when it was
// last used (401 or 403; for a trigger token also 404, with which GitLab hides the reason), nil if
// it did not. It makes no call.
func (a *Adapter) Degraded() map[string]error {
	a.denied.mu.Lock()
	defer a.denied.mu.Unlock()
	out := map[string]error{}
	for name := range a.projects {
		var errs []error
		for _, use := range []Use{UseRead, UseWrite, UseTrigger} {
			if err := a.denied.all[denial{name, use}]; err != nil {
				errs = append(errs, err)
			}
		}
		out[name] = errors.Join(errs...)
	}
	return out
}
