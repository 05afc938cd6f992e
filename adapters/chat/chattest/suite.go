package chattest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// Trouble is a way in which one call of the platform's peer goes wrong.
type Trouble string

// The troubles. Every peer can make all of them happen to a post and to an edit.
const (
	// Lost does the work and loses the answer.
	Lost Trouble = "lost answer"
	// Limited refuses the call because of its rate, and asks to wait for [LimitedFor].
	Limited Trouble = "rate limited"
	// Down answers that the peer is ill. Nothing is done, but the caller cannot know.
	Down Trouble = "peer down"
	// Hang never answers, until the caller gives up.
	Hang Trouble = "hang"
)

// LimitedFor is how long a peer asks to wait when it refuses a call as Limited.
const LimitedFor = 7 * time.Second

// Method is a call of the platform that a trouble can meet.
type Method string

// The methods.
const (
	PostMethod   Method = "post"
	UpdateMethod Method = "update"
)

// Seen is a message as it is shown to people, which is all that the suite knows of it.
type Seen struct {
	Ref       string
	Text      string   // everything that can be read, from top to bottom
	Buttons   []string // labels, in order
	InChannel bool     // it is shown in the channel itself, not only in a thread
	// Live is what is more than text: "mention ID" with the user's id or a word such as here,
	// "link ADDRESS", and in the same way whatever else the platform makes of text. Buttons with
	// an address are not among them.
	Live []string
}

// Subject is a platform under test and the other side of it: what people see there and do, and
// what can be made to go wrong.
type Subject struct {
	Platform chat.Platform
	Room     ops.Conversation // a channel in which the bot is
	Person   ops.Actor        // a member of Room, and the one who types
	Outsider ops.Actor        // in no channel with the bot; zero if there can be no such person
	Nobody   ops.Actor        // well-formed, but there is no such account
	NoRef    string           // well-formed, but there is no such message
	Now      func() time.Time // the clock of the platform

	// Screen lists what stands in a conversation, oldest first, replies included.
	Screen func(ops.Conversation) []Seen
	// Delete removes a message, as a person can. Nil where nobody can.
	Delete func(ref string)
	// Trouble makes the next call of a method go wrong. Nil for a platform without a peer.
	Trouble func(Method, Trouble)
	// Tries is how many calls of a method have reached the peer.
	Tries func(Method) int
	// Evict takes from the bot the right to post in Room. Nil where nobody can.
	Evict func()

	Plain   bool // the platform shows blocks as they are and has no markup of its own
	NoLinks bool // messages have no addresses
	NoRooms bool // there is one conversation only

	// People is nil for a platform that has no requests of people, such as a recorder.
	People *People
}

// People act on the platform. The person is always Subject.Person.
type People struct {
	// Type types a command, without its trigger, into Room and waits for the acknowledgement. An
	// error means that the person was shown one.
	Type func(ctx context.Context, text string) error
	// Click presses the button with that label on a message.
	Click func(ctx context.Context, ref, label string) error
	// Private waits until the person has been shown n messages that nobody else sees, and returns
	// all of them.
	Private func(ctx context.Context, n int) ([]Seen, error)
	// Form is the title of the dialog that is open on the person's screen, empty if none is.
	Form func(ctx context.Context) (title string, err error)
	// Fill fills the open dialog in and sends it. problems are shown at its fields, by name; the
	// dialog stays open then.
	Fill func(ctx context.Context, values map[string]string) (problems map[string]string, err error)
	// Patience lets pass as much time as an acknowledgement may take at most, once the platform
	// waits for the handler. Nil where there is no limit.
	Patience func(ctx context.Context) error
}

// New makes a subject whose requests go to h. What it opens is closed when the test ends.
type New func(t *testing.T, h chat.Handler) *Subject

// Run checks that a platform keeps the contract of [chat.Platform].
func Run(t *testing.T, subject New) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProbe(t, subject)
			if c.needs != nil && !c.needs(p.Subject) {
				t.Skip("the platform has no such thing")
			}
			c.run(p)
			for _, problem := range p.problems {
				t.Error(problem)
			}
		})
	}
}

// Failures runs the suite, or only the cases that are named, and returns the names of those that a
// platform fails, with what was wrong. It serves to show that the suite notices a broken platform.
func Failures(t *testing.T, subject New, only ...string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, c := range cases() {
		if len(only) > 0 && !slices.Contains(only, c.name) {
			continue
		}
		p := newProbe(t, subject)
		if c.needs != nil && !c.needs(p.Subject) {
			continue
		}
		c.run(p)
		if len(p.problems) > 0 {
			out[c.name] = p.problems
		}
	}
	return out
}

// contract is one clause of the contract.
type contract struct {
	name  string
	needs func(*Subject) bool // nil: every platform
	run   func(*probe)
}

func cases() []contract {
	return slices.Concat(outgoing(), faults(), incoming())
}

// caseTimeout bounds one case, in the machine's time.
const caseTimeout = 30 * time.Second

// probe runs one case on a fresh subject and collects what is wrong.
type probe struct {
	*Subject
	*switchboard

	ctx      context.Context //nolint:containedctx // of one case; a probe lives no longer
	problems []string
}

func newProbe(t *testing.T, subject New) *probe {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
	t.Cleanup(cancel)
	board := &switchboard{}
	return &probe{Subject: subject(t, board), switchboard: board, ctx: ctx}
}

func (p *probe) errorf(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

// ok notes an error and reports whether there was none.
func (p *probe) ok(what string, err error) bool {
	if err != nil {
		p.errorf("%s: got %v, want no error", what, err)
	}
	return err == nil
}

// fails checks that err is an error of the contract: an [ops.Error] of this code with a sentence
// for people, which tells nothing of the peer's own words.
func (p *probe) fails(what string, err error, code ops.Code) *ops.Error {
	var e *ops.Error
	if !errors.As(err, &e) {
		p.errorf("%s: got %v, want an *ops.Error with code %s", what, err, code)
		return nil
	}
	if e.Code != code {
		p.errorf("%s: got %v, want code %s", what, err, code)
		return nil
	}
	if strings.TrimSpace(e.Msg) == "" || strings.Contains(e.Msg, "http://") {
		p.errorf("%s: got the sentence %q, want one for people", what, e.Msg)
	}
	return e
}

// refuses is fails for errors of which only the code matters.
func (p *probe) refuses(what string, err error, code ops.Code) { _ = p.fails(what, err, code) }

// post posts a message in Room.
func (p *probe) post(m chat.Message) (ref string, ok bool) {
	ref, err := p.Platform.Post(p.ctx, p.Room, m)
	if err == nil && ref == "" {
		p.errorf("post: got no reference")
		return "", false
	}
	return ref, p.ok("post", err)
}

// shown finds a message on the screen of its conversation.
func (p *probe) shown(to ops.Conversation, ref string) (Seen, bool) {
	for _, s := range p.Screen(to) {
		if s.Ref == ref {
			return s, true
		}
	}
	p.errorf("message %s is not shown", ref)
	return Seen{}, false
}

// reads checks that a text has the words in this order.
func (p *probe) reads(what, text string, words ...string) {
	rest := text
	for _, w := range words {
		_, after, found := strings.Cut(rest, w)
		if !found {
			p.errorf("%s: got %q, want it to read %q in this order", what, clip(text), words)
			return
		}
		rest = after
	}
}

func (p *probe) lacks(what, text string, words ...string) {
	for _, w := range words {
		if strings.Contains(text, w) {
			p.errorf("%s: got %q, want it without %q", what, clip(text), w)
		}
	}
}

func (p *probe) count(what string, to ops.Conversation, want int) {
	if got := len(p.Screen(to)); got != want {
		p.errorf("%s: got %d messages, want %d", what, got, want)
	}
}

func clip(s string) string { return chat.Cut(s, 600) }

// note is a message of one paragraph.
func note(key, text string) chat.Message {
	return chat.Message{Key: key, Summary: text, Blocks: []chat.Block{{Kind: chat.Paragraph, Text: chat.Text{{Text: text}}}}}
}

// card has one of everything.
func card(key string, person ops.Actor) chat.Message {
	return chat.Message{
		Key: key, Summary: "alpha summary", Tone: chat.ToneBusy,
		Blocks: []chat.Block{
			{Kind: chat.Heading, Text: chat.Text{{Text: "bravo"}}},
			{Kind: chat.Paragraph, Text: chat.Text{
				{Text: "charlie "},
				{Style: chat.Bold, Text: "delta"},
				{Text: " and "},
				{Style: chat.Mono, Text: "echo"},
				{Style: chat.Break},
				{Style: chat.Italic, Text: "foxtrot"},
				{Text: " "},
				{Style: chat.Link, Text: "golf", URL: ourLink},
				{Text: " "},
				{Style: chat.Mention, Text: "hotel", User: person.UserID},
			}},
			{Kind: chat.Code, Code: "juliett 1\njuliett 2"},
			{Kind: chat.Divider},
			{Kind: chat.Fields, Fields: []chat.Entry{
				{Label: "kilo", Text: chat.Text{{Text: "lima"}}},
				{Label: "mike", Text: chat.Text{{Style: chat.Bold, Text: "november"}}},
			}},
			{Kind: chat.Context, Text: chat.Text{{Text: "oscar"}}},
		},
		Buttons: []chat.Button{
			{Label: "Cancel", Verb: "cancel", Token: "token of " + key, Style: chat.ButtonDanger},
			{Label: "Logs", Verb: "logs", Token: "logs of " + key},
			{Label: "Retry", Verb: "retry", Token: "retry of " + key, Style: chat.ButtonPrimary},
		},
	}
}

// ourLink is the one link that messages of the suite hold.
const ourLink = "https://gitlab.example.org/shop/-/pipelines/7"
