package chattest

import (
	"context"
	"fmt"
	"sync"

	"ocim/adapters/chat"
)

// switchboard is the handler of a case: it keeps what came and answers as the case says.
type switchboard struct {
	mu     sync.Mutex
	seen   []chat.Incoming
	answer func(context.Context, chat.Incoming) chat.Answer
}

// Handle implements [chat.Handler].
func (b *switchboard) Handle(ctx context.Context, in chat.Incoming) chat.Answer {
	b.mu.Lock()
	b.seen = append(b.seen, in)
	answer := b.answer
	b.mu.Unlock()
	if answer == nil {
		return chat.Answer{}
	}
	return answer(ctx, in)
}

func (b *switchboard) answers(f func(context.Context, chat.Incoming) chat.Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

// handled is what has come so far.
func (b *switchboard) handled() []chat.Incoming {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]chat.Incoming(nil), b.seen...)
}

// incoming is the part of the contract about what people do.
func incoming() []contract {
	people := func(s *Subject) bool { return s.People != nil }
	return []contract{
		{"a command reaches the handler and is answered in private", people, command},
		{"a silent answer shows nothing", people, silence},
		{"a click reaches the handler with its token and message", people, click},
		{"every request has a key of its own", people, keys},
		{"a later answer reaches the person alone", people, later},
		{"a handler that waits does not keep the person waiting", func(s *Subject) bool { return people(s) && s.People.Patience != nil }, slowHandler},
		{"a handler that panics is contained", func(s *Subject) bool { return people(s) && s.People.Patience != nil }, panicking},
		{"a dialog is opened, corrected and sent", people, dialog},
		{"foreign text in answers stays text", func(s *Subject) bool { return people(s) && !s.Plain }, foreignAnswers},
	}
}

func say(text string) func(context.Context, chat.Incoming) chat.Answer {
	return func(context.Context, chat.Incoming) chat.Answer {
		return chat.Answer{Message: chat.Notice(chat.ToneGood, text)}
	}
}

// private returns the n-th private message, and checks that the channel holds no more than it did.
func (p *probe) private(n int) Seen {
	before := len(p.Screen(p.Room))
	all, err := p.People.Private(p.ctx, n)
	if err != nil || len(all) < n {
		p.errorf("private message %d: got %d messages, %v", n, len(all), err)
		return Seen{}
	}
	p.count("in the channel, beside a private message", p.Room, before)
	return all[n-1]
}

func command(p *probe) {
	p.answers(say("alpha answer"))
	if !p.ok("command", p.People.Type(p.ctx, "deploy demo version=1.2")) {
		return
	}
	p.reads("the answer", p.private(1).Text, "alpha answer")
	seen := p.handled()
	if len(seen) != 1 {
		p.errorf("got %d requests, want 1", len(seen))
		return
	}
	in := seen[0]
	if in.Kind != chat.Command || in.Text != "deploy demo version=1.2" || in.Actor != p.Person || in.From != p.Room || in.Key == "" || in.Reply == nil {
		p.errorf("got %+v, want the command of %+v in %+v with a key and a way back", in, p.Person, p.Room)
	}
	p.count("in the channel", p.Room, 0)
}

func silence(p *probe) {
	if !p.ok("command", p.People.Type(p.ctx, "anything")) {
		return
	}
	if all, err := p.People.Private(p.ctx, 0); err != nil || len(all) != 0 {
		p.errorf("got %+v, %v, want nothing shown", all, err)
	}
}

func click(p *probe) {
	p.answers(say("bravo answer"))
	ref, ok := p.post(card("k", p.Person))
	if !ok || !p.ok("click", p.People.Click(p.ctx, ref, "Logs")) {
		return
	}
	p.reads("the answer", p.private(1).Text, "bravo answer")
	seen := p.handled()
	if len(seen) != 1 {
		p.errorf("got %d requests, want 1", len(seen))
		return
	}
	in := seen[0]
	if in.Kind != chat.Click || in.Button != "logs of k" || in.Message != ref || in.Actor != p.Person || in.From.Channel != p.Room.Channel || in.Key == "" || in.Reply == nil {
		p.errorf("got %+v, want the click of %+v on %s", in, p.Person, ref)
	}
	// After an edit the new button counts, with its own token.
	if !p.ok("update", p.Platform.Update(p.ctx, p.Room, ref, card("changed", p.Person))) || !p.ok("click", p.People.Click(p.ctx, ref, "Cancel")) {
		return
	}
	if seen = p.handled(); len(seen) != 2 || seen[1].Button != "token of changed" {
		p.errorf("after an edit: got %+v, want a click with the new token", seen)
	}
}

func keys(p *probe) {
	ref, ok := p.post(card("k", p.Person))
	if !ok {
		return
	}
	for range 3 {
		p.ok("command", p.People.Type(p.ctx, "the same words"))
		p.ok("click", p.People.Click(p.ctx, ref, "Logs"))
	}
	seen := map[string]bool{}
	for _, in := range p.handled() {
		seen[in.Key] = true
	}
	if len(seen) != 6 {
		p.errorf("got %d different keys of 6 requests", len(seen))
	}
}

func later(p *probe) {
	if !p.ok("command", p.People.Type(p.ctx, "anything")) {
		return
	}
	seen := p.handled()
	if len(seen) != 1 || seen[0].Reply == nil {
		p.errorf("got %+v, want a request with a way back", seen)
		return
	}
	for i := range 3 {
		text := fmt.Sprint("later words ", i)
		p.ok("later", seen[0].Reply.Later(p.ctx, *chat.Notice(chat.ToneNeutral, text)))
		p.reads("the later answer", p.private(i+1).Text, text)
	}
}

func slowHandler(p *probe) {
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	p.answers(func(ctx context.Context, _ chat.Incoming) chat.Answer {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return chat.Answer{Message: chat.Notice(chat.ToneGood, "the answer at last")}
	})
	done := make(chan error, 1)
	go func() { done <- p.People.Type(p.ctx, "slow") }()
	p.ok("waiting", p.People.Patience(p.ctx))
	select {
	case err := <-done:
		p.ok("command with a slow handler", err)
	case <-p.ctx.Done():
		p.errorf("the person still waits for an acknowledgement")
	}
	p.private(1) // that it comes later
	free()
	p.reads("the late answer", p.private(2).Text, "the answer at last")
}

func panicking(p *probe) {
	p.answers(func(context.Context, chat.Incoming) chat.Answer { panic("a bug") })
	if p.ok("command with a handler that panics", p.People.Type(p.ctx, "crash")) {
		s := p.private(1)
		p.lacks("the answer", s.Text, "a bug")
	}
	p.answers(say("still here"))
	p.ok("the next command", p.People.Type(p.ctx, "again"))
	p.reads("the next answer", p.private(2).Text, "still here")
}

// form has one field of each kind that people fill in without searching.
func form() chat.Dialog {
	return chat.Dialog{
		Name: "deploy", Title: "Deploy an instance", Submit: "Deploy", State: "sealed state", Intro: "Choose one",
		Fields: []chat.Field{
			{Name: "instance", Label: "Instance", Kind: chat.FieldChoice, Options: []chat.Option{{Label: "demo on eu", Value: "eu/demo"}, {Label: "shop on eu", Value: "eu/shop"}}},
			{Name: "version", Label: "Version", Kind: chat.FieldText, Hint: "a tag"},
			{Name: "why", Label: "Why", Kind: chat.FieldLines, Optional: true},
		},
	}
}

func dialog(p *probe) {
	p.answers(func(ctx context.Context, in chat.Incoming) chat.Answer {
		switch {
		case in.Kind == chat.Command && in.Reply == nil:
			return chat.Answer{Message: chat.Notice(chat.ToneBad, "no way back to the person")}
		case in.Kind == chat.Command:
			if err := in.Reply.OpenDialog(ctx, form()); err != nil {
				return chat.Answer{Message: chat.Notice(chat.ToneBad, "no form: "+err.Error())}
			}
			return chat.Answer{}
		case in.Values["version"] == "bad":
			return chat.Answer{Errors: map[string]string{"version": "no such version"}}
		}
		return chat.Answer{}
	})
	if !p.ok("command", p.People.Type(p.ctx, "deploy")) {
		return
	}
	if title, err := p.People.Form(p.ctx); err != nil || title != form().Title {
		p.errorf("got form %q, %v, want %q", title, err, form().Title)
		return
	}
	values := map[string]string{"instance": "eu/shop", "version": "bad"}
	problems, err := p.People.Fill(p.ctx, values)
	if err != nil || problems["version"] != "no such version" {
		p.errorf("bad values: got %v, %v, want a problem with the version", problems, err)
	}
	values["version"] = "21.0.1"
	problems, err = p.People.Fill(p.ctx, values)
	if err != nil || len(problems) != 0 {
		p.errorf("good values: got %v, %v, want none", problems, err)
	}
	if title, err := p.People.Form(p.ctx); err != nil || title != "" {
		p.errorf("got form %q, %v, want none left", title, err)
	}
	seen := p.handled()
	if len(seen) != 3 {
		p.errorf("got %d requests, want 3", len(seen))
		return
	}
	in := seen[2]
	if in.Kind != chat.Submit || in.Dialog != "deploy" || in.State != "sealed state" || in.Actor != p.Person ||
		in.Values["instance"] != "eu/shop" || in.Values["version"] != "21.0.1" || in.Values["why"] != "" {
		p.errorf("got %+v, want the form as it was filled in", in)
	}
	if seen[1].Key == in.Key {
		p.errorf("the corrected form has the key of the first one: it would be taken for a repetition")
	}
}

func foreignAnswers(p *probe) {
	for i, text := range Hostile() {
		m := chat.Message{Summary: text, Blocks: []chat.Block{
			{Kind: chat.Heading, Text: chat.Text{{Text: text}}},
			{Kind: chat.Paragraph, Text: chat.Text{{Text: text}, {Style: chat.Mono, Text: text}}},
			{Kind: chat.Fields, Fields: []chat.Entry{{Label: text, Text: chat.Text{{Text: text}}}}},
			{Kind: chat.Code, Code: text},
			{Kind: chat.Context, Text: chat.Text{{Text: text}}},
		}}
		p.answers(func(context.Context, chat.Incoming) chat.Answer { return chat.Answer{Message: &m} })
		if !p.ok("command", p.People.Type(p.ctx, "x")) {
			return
		}
		if s := p.private(i + 1); len(s.Live) != 0 {
			p.errorf("%q: got %q alive in an answer", text, s.Live)
		}
	}
}
