// Package chat is the contract of a chat platform: what comes in, what goes out, and what every
// adapter must keep. Adapters verify, decode and render; they know nothing of instances. A message
// is described once, in blocks whose foreign text is marked as such, and each platform renders it
// with its own escaping and limits.
package chat

import (
	"context"

	"ocim/ops"
)

// Kind says what a person did.
type Kind string

// The kinds of incoming requests.
const (
	Command Kind = "command" // typed /ocim …
	Click   Kind = "click"   // pressed a button
	Submit  Kind = "submit"  // sent a dialog
	Suggest Kind = "suggest" // types into a searching field and wants options
)

// Incoming is one request of a person, verified and decoded. Actor and From hold what the platform
// vouches for; everything else is foreign text.
type Incoming struct {
	// Key is the platform's identity of this very request: a repeated delivery has the same.
	Key       string
	Kind      Kind
	Actor     ops.Actor
	ActorName string // shown, never decided on
	From      ops.Conversation
	Trigger   string            // how commands begin here, such as /ocim; empty where it is not known
	Text      string            // Command: what followed Trigger. Suggest: what was typed so far
	Button    string            // Click: the button's token, sealed by us and not yet checked
	Message   string            // Click: the platform's id of the message the button stands on
	Dialog    string            // Submit, Suggest: name of the dialog
	State     string            // Submit, Suggest: the dialog's state, sealed by us and not yet checked
	Field     string            // Suggest: the field
	Values    map[string]string // Submit: what was entered, not validated by anybody
	Reply     Replier           // ways back to this person; nil where the platform offers none
}

// Replier reaches the person who made one request, beside the answer itself.
type Replier interface {
	// OpenDialog shows d to the person. The platforms allow it only in the first seconds after
	// the request (Slack 3 s, Mattermost 30 s) and only from a command or a click. When they have
	// passed the error is an ops.Error of code invalid and reason chat_unavailable.
	OpenDialog(ctx context.Context, d Dialog) error
	// Later sends a private message after the request was answered.
	Later(ctx context.Context, m Message) error
}

// Answer is the immediate result of a request. A zero Answer acknowledges silently.
type Answer struct {
	Message *Message          // shown to this person only
	Errors  map[string]string // Submit: by field; keeps the dialog open
	Options []Option          // Suggest
	Pending bool              // the Message only says that the answer comes later, through the Replier
}

// Handler decides what to answer; package commands implements it. It never panics and never waits
// for GitLab or chat longer than its context allows.
type Handler interface {
	Handle(ctx context.Context, in Incoming) Answer
}

// Membership is what a platform says of a person in a channel at this moment.
type Membership struct {
	Active bool // the account exists and is not deactivated
	Guest  bool
	Member bool // of the channel
}

// Platform sends messages. Implementations are safe for concurrent use, set a deadline on every
// call, never retry a Post, and return *[ops.Error]: CodeUnavailable if the same call may work
// later (RetryAt when the platform said when; NotSent when the message surely does not stand),
// CodeNotFound when message or channel is gone, CodeDenied when the bot may not post there, with
// the reason chat_unauthorized when it is the token that is not accepted.
type Platform interface {
	// Post makes a new message and returns the platform's id of it.
	Post(ctx context.Context, to ops.Conversation, m Message) (ref string, err error)
	// Update replaces the whole content of a message of ours.
	Update(ctx context.Context, to ops.Conversation, ref string, m Message) error
	// Find looks for a message of ours by Message.Key, for use after a Post without an answer.
	// ErrCannotFind means that the platform, or our rights on it, offer no way to look.
	Find(ctx context.Context, to ops.Conversation, key string) (ref string, found bool, err error)
	// Direct returns the private conversation with a person.
	Direct(ctx context.Context, a ops.Actor) (ops.Conversation, error)
	// Member asks the platform about a person, now.
	Member(ctx context.Context, a ops.Actor, c ops.Conversation) (Membership, error)
	// Permalink is the address of a message, empty if it cannot be told. It makes no call.
	Permalink(to ops.Conversation, ref string) string
	// Rate is how fast the platform lets one bot write. It makes no call.
	Rate() Rate
}

// Rate is how fast a platform lets one bot write, in the long run. The notifier spends no more, but
// for short bursts: five seconds' worth of posts in a channel, fifteen seconds' worth of edits. A
// zero field is no limit.
type Rate struct {
	PostsPerChannel  float64 // a second
	EditsPerMinute   float64 // over the whole workspace
	MinEditGapMillis int64   // between two edits of one message
}
