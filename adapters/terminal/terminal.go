// Package terminal is the sandbox's chat: one channel in a terminal, in which cards update in
// place, buttons are numbered and a line such as ":as bob" changes who types. It is a chat
// platform like the others and keeps the same contract, except that its messages live only as long
// as the process.
package terminal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ocim/adapters/chat"
	"ocim/ops"
)

// Name is the platform's name in conversations and actors.
const Name = "terminal"

// Person is somebody whom ":as NAME" can make the one who types.
type Person struct {
	ID   string // decides
	Name string // is shown
}

// Config is what a Terminal needs. Out is written to by one goroutine at a time.
type Config struct {
	Workspace string
	Channel   string
	Trigger   string // how commands begin, such as /ocim; it may be left out
	People    []Person
	Out       io.Writer
	Size      func() (width, height int) // nil: plain transcript, no painting
	Clock     ops.Clock
	Log       *slog.Logger
}

// Terminal implements [chat.Platform]. Safe for concurrent use.
type Terminal struct {
	cfg     Config
	handler chat.Handler

	mu      sync.Mutex
	posts   []*Post
	byRef   map[string]*Post
	numbers []button // by number, less one; grows only
	who     Person
	dialog  *openDialog
	changed chan struct{}
	left    bool // the screen belongs to the shell again
	count   int
	epoch   string
}

// Post is one message that stands in the terminal.
type Post struct {
	Ref     string
	Author  string // empty for the bot
	Private string // name of the only person who sees it
	Thread  string
	Message chat.Message
	Edits   int
}

// button is what makes a button the same one, whatever else becomes of its message.
type button struct {
	ref, verb, label string
}

func identity(p *Post, b chat.Button) button { return button{p.Ref, b.Verb, b.Label} }

// New returns a Terminal; the first person types. Bind must be called before Run.
func New(cfg Config) *Terminal {
	return &Terminal{
		cfg: cfg, byRef: map[string]*Post{}, who: cfg.People[0], changed: make(chan struct{}),
		epoch: strconv.FormatInt(cfg.Clock.Now().UnixNano(), 36),
	}
}

// Bind sets who handles what is typed.
func (t *Terminal) Bind(h chat.Handler) { t.handler = h }

// Here is the terminal's channel.
func (t *Terminal) Here() ops.Conversation {
	return ops.Conversation{Platform: Name, Workspace: t.cfg.Workspace, Channel: t.cfg.Channel}
}

// Post implements [chat.Platform].
func (t *Terminal) Post(ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", notSent(err)
	}
	return t.add(&Post{Thread: to.Thread, Message: m}), nil
}

// notSent is the error of a call whose context had ended before.
func notSent(cause error) error {
	return &ops.Error{
		Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: "The terminal is being closed.", NotSent: true, Err: cause,
	}
}

func (t *Terminal) add(p *Post) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	p.Ref = fmt.Sprintf("%s-%d", t.epoch, t.count)
	t.posts = append(t.posts, p)
	t.byRef[p.Ref] = p
	t.touched(p, false)
	return p.Ref
}

// Update implements [chat.Platform].
func (t *Terminal) Update(ctx context.Context, _ ops.Conversation, ref string, m chat.Message) error {
	if err := ctx.Err(); err != nil {
		return notSent(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.byRef[ref]
	if !ok {
		return &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonChatUnavailable, Msg: "That message was in an earlier terminal."}
	}
	p.Message = m
	p.Edits++
	t.touched(p, true)
	return nil
}

// Find implements [chat.Platform].
func (t *Terminal) Find(ctx context.Context, _ ops.Conversation, key string) (string, bool, error) {
	if err := ctx.Err(); err != nil {
		return "", false, notSent(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.posts {
		if p.Message.Key == key && key != "" {
			return p.Ref, true, nil
		}
	}
	return "", false, nil
}

// Direct implements [chat.Platform]: the terminal has one channel only.
func (t *Terminal) Direct(context.Context, ops.Actor) (ops.Conversation, error) { return t.Here(), nil }

// Member implements [chat.Platform]: everybody who can type is in the channel.
func (t *Terminal) Member(_ context.Context, a ops.Actor, _ ops.Conversation) (chat.Membership, error) {
	known := slices.ContainsFunc(t.cfg.People, func(p Person) bool { return p.ID == a.UserID })
	return chat.Membership{Active: known, Member: known}, nil
}

// Permalink implements [chat.Platform]: a terminal has no addresses.
func (t *Terminal) Permalink(ops.Conversation, string) string { return "" }

// Rate implements [chat.Platform]: a terminal takes anything, and people read no faster than this.
func (t *Terminal) Rate() chat.Rate { return chat.Rate{MinEditGapMillis: 1000} }

// Posts returns copies of all messages, oldest first.
func (t *Terminal) Posts() []Post {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Post, len(t.posts))
	for i, p := range t.posts {
		out[i] = *p
	}
	return out
}

// Until waits until done says so of the messages, or ctx ends.
func (t *Terminal) Until(ctx context.Context, done func([]Post) bool) error {
	for {
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		if done(t.Posts()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// touched shows a change and tells those who wait. The caller holds the lock.
func (t *Terminal) touched(p *Post, edit bool) {
	t.number(p)
	if t.cfg.Size == nil {
		t.transcript(p, edit)
	} else {
		t.paint()
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// number gives every new button of a post the next number. A number is never given to another
// button: who types one has read it a moment ago, and the message may have changed since.
func (t *Terminal) number(p *Post) {
	for _, b := range p.Message.Buttons {
		if b.Token != "" && !slices.Contains(t.numbers, identity(p, b)) {
			t.numbers = append(t.numbers, identity(p, b))
		}
	}
}

// numberOf is the number of a post's button, 0 if it has none.
func (t *Terminal) numberOf(p *Post, index int) int {
	b := p.Message.Buttons[index]
	if b.Token == "" {
		return 0
	}
	return slices.Index(t.numbers, identity(p, b)) + 1
}

// numbered finds the button of a number; ok is false if its message no longer has it.
func (t *Terminal) numbered(n int) (ref, token string, ok bool) {
	want := t.numbers[n-1]
	for _, b := range t.byRef[want.ref].Message.Buttons {
		if b.Token != "" && b.Verb == want.verb && b.Label == want.label {
			return want.ref, b.Token, true
		}
	}
	return "", "", false
}

// transcriptWidth is the width of lines where no screen has one.
const transcriptWidth = 100

// transcript prints a message, or what became of it, at the end.
func (t *Terminal) transcript(p *Post, edit bool) {
	head := ""
	switch {
	case edit:
		head = "✎ edited in place\n"
	case p.Private != "":
		head = "(only " + p.Private + " sees this)\n"
	case p.Thread != "" && p.Message.Broadcast:
		head = "↳ in the thread, and told in the channel\n"
	case p.Thread != "":
		head = "↳ in the thread\n"
	}
	fmt.Fprint(t.cfg.Out, head+strings.Join(t.layout(p, transcriptWidth), "\n")+"\n\n")
}

// Say prints a line of the sandbox itself.
func (t *Terminal) Say(text string) {
	t.add(&Post{Author: "·", Message: chat.Message{Summary: text, Blocks: []chat.Block{{Kind: chat.Paragraph, Text: chat.Text{{Text: text}}}}}})
}
