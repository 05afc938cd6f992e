package ops

import (
	"strings"
	"time"
)

// Actor is a person on a chat platform. Ids decide; names are only ever shown. Workspace is the
// one that is bound to the secret which verified the request, never one that a payload claims.
type Actor struct {
	Platform  string `json:"platform"`
	Workspace string `json:"workspace"`
	UserID    string `json:"user"`
}

// String is the actor as logs and audit records name it.
func (a Actor) String() string { return a.Platform + ":" + a.Workspace + ":" + a.UserID }

// Conversation is a place where a message can stand: a channel, or a thread in it.
type Conversation struct {
	Platform  string `json:"platform"`
	Workspace string `json:"workspace"`
	Channel   string `json:"channel"`
	Thread    string `json:"thread,omitempty"` // the platform's id of the thread's first message
}

// Target is what an operation acts on. The pair is unique over the fleet.
type Target struct {
	Cluster  string `json:"cluster"`
	Instance string `json:"instance"`
}

// String is the unambiguous spelling, cluster/instance.
func (t Target) String() string { return t.Cluster + "/" + t.Instance }

// Request asks for one operation. Buttons, commands, schedules and hooks all become a Request.
type Request struct {
	Key       string            // the platform's own id of this request; the same key never makes two operations
	Actor     Actor             //
	ActorName string            // shown, never decided on
	From      Conversation      // where the card will stand
	Action    string            // the verb, such as "deploy"
	Target    Target            //
	Params    map[string]string // checked by Action.Check
	Why       string            // free text of the person who asks
}

// Verb names of things people may be allowed to do. They are the words of the configuration.
type Permission string

// The permissions that exist until roles come.
const (
	MayStart  Permission = "start"
	MayCancel Permission = "cancel"
	MayRetry  Permission = "retry"
)

// Policy decides who may do what, on ids only. It is asked at command, at click and again when
// the work starts. Implementations are safe for concurrent use and do no I/O.
type Policy interface {
	Allowed(a Actor, p Permission) bool
}

// StaticPolicy lists user ids for each platform, workspace and permission. What is not listed is
// not allowed: an empty policy lets nobody act.
type StaticPolicy struct {
	allowed map[policyKey]struct{}
}

type policyKey struct {
	actor Actor
	perm  Permission
}

// NewStaticPolicy returns a policy that allows nothing until Allow is called.
func NewStaticPolicy() *StaticPolicy { return &StaticPolicy{allowed: map[policyKey]struct{}{}} }

// Allow adds user ids. It must not be called once the policy is in use.
func (p *StaticPolicy) Allow(platform, workspace string, perm Permission, userIDs ...string) {
	for _, id := range userIDs {
		if id = strings.TrimSpace(id); id != "" {
			p.allowed[policyKey{Actor{platform, workspace, id}, perm}] = struct{}{}
		}
	}
}

// Allowed implements [Policy].
func (p *StaticPolicy) Allowed(a Actor, perm Permission) bool {
	if a.Platform == "" || a.Workspace == "" || a.UserID == "" {
		return false
	}
	_, ok := p.allowed[policyKey{a, perm}]
	return ok
}

// Clock tells the time; internal/clock implements it.
type Clock interface {
	Now() time.Time
}
