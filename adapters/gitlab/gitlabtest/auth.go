package gitlabtest

import (
	"net/http"
	"slices"
	"strings"
)

// admit checks the caller's token against what a route asks, and finds the project. It returns nil
// if the call may go on. The order is GitLab's: token, scope, project (hidden as 404), role.
func (c *call) admit(need access, e *Entry) *reply {
	if need == anyone {
		return nil
	}
	value := c.r.Header.Get("PRIVATE-TOKEN")
	if value == "" {
		value = text(c.params["private_token"])
	}
	if bearer, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer "); ok && value == "" {
		value = bearer
	}
	t := c.tokens[value]
	switch {
	case t == nil:
		return message(http.StatusUnauthorized, "401 Unauthorized")
	case t.Revoked:
		return oauthError(http.StatusUnauthorized, "invalid_token",
			"Token was revoked. You have to re-authorize from the user.")
	case !c.at.Before(t.ExpiresAt):
		return oauthError(http.StatusUnauthorized, "invalid_token",
			"Token is expired. You can either do re-authorization or token refresh.")
	}
	c.token, e.User = t, t.user.username
	if need == anyToken {
		return nil
	}
	if !t.scoped(need) {
		return oauthError(http.StatusForbidden, "insufficient_scope",
			"The request requires higher privileges than provided by the access token.")
	}
	p := c.find(c.path["id"])
	if p == nil || t.roles[p.ID] == 0 {
		return notFound("Project")
	}
	c.project, c.role = p, t.roles[p.ID]
	if c.role < minimum(need) {
		return forbidden("")
	}
	return nil
}

// scoped says whether the token's scopes cover a route.
func (t *token) scoped(need access) bool {
	allowed := []string{"api"}
	switch need {
	case reads:
		allowed = append(allowed, "read_api")
	case files:
		allowed = append(allowed, "read_api", "read_repository")
	default:
	}
	return slices.ContainsFunc(t.Scopes, func(s string) bool { return slices.Contains(allowed, s) })
}

// minimum is the least role a route asks for.
func minimum(need access) Role {
	switch need {
	case writes:
		return Developer
	case owns:
		return Maintainer
	default:
		return Reporter
	}
}

// oauthError is an error in the shape of lib/api/api_guard.rb. The shape is settled, the sentences are a
// guess: do not match on them.
func oauthError(status int, code, description string) *reply {
	return &reply{status: status, body: map[string]any{"error": code, "error_description": description}}
}
