package chattest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"ocim/adapters/chat"
	"ocim/ops"
)

// outgoing is the part of the contract about messages of the bot's own.
func outgoing() []contract {
	rooms := func(s *Subject) bool { return !s.NoRooms }
	markup := func(s *Subject) bool { return !s.Plain }
	return []contract{
		{"a post shows all that it holds", nil, postShowsAll},
		{"an update replaces everything", nil, updateReplaces},
		{"an update may say the same again", nil, updateTwice},
		{"a message needs nothing but a summary", nil, summaryAlone},
		{"any number of buttons can be posted", nil, buttons},
		{"buttons that only open an address", nil, linkButtons},
		{"long texts are cut, and the end of a log is kept", nil, longTexts},
		{"replies stand in the thread", nil, threads},
		{"a message is found by its key", nil, find},
		{"private conversations", nil, direct},
		{"what is not there is not found", nil, missing},
		{"a deleted message is not found", func(s *Subject) bool { return s.Delete != nil }, deleted},
		{"people are members or not", nil, members},
		{"other workspaces are refused", rooms, elsewhere},
		{"links to messages", nil, permalinks},
		{"a mention and a link of ours work", markup, ownMarkup},
		{"foreign text stays text", markup, foreignText},
		{"control characters are not shown", nil, controlCharacters},
		{"many callers at once", nil, together},
	}
}

func postShowsAll(p *probe) {
	ref, ok := p.post(card("k", p.Person))
	if !ok {
		return
	}
	s, _ := p.shown(p.Room, ref)
	p.reads("heading, then text, then code", s.Text, "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "juliett 1", "juliett 2")
	if _, rest, _ := strings.Cut(s.Text, "echo"); !strings.Contains(strings.Split(rest, "foxtrot")[0], "\n") {
		p.errorf("got %q, want a line break before foxtrot", clip(s.Text))
	}
	p.reads("fields", s.Text, "kilo", "lima")
	p.reads("fields", s.Text, "mike", "november")
	p.reads("small print comes last", s.Text, "juliett 2", "oscar")
	if want := []string{"Cancel", "Logs", "Retry"}; !slices.Equal(s.Buttons, want) {
		p.errorf("got buttons %q, want %q", s.Buttons, want)
	}
	if !s.InChannel {
		p.errorf("the message is not shown in the channel")
	}
	p.count("after one post", p.Room, 1)
}

func updateReplaces(p *probe) {
	ref, ok := p.post(card("k", p.Person))
	if !ok {
		return
	}
	next := note("k", "papa")
	next.Blocks = append(next.Blocks, chat.Block{Kind: chat.Fields, Fields: []chat.Entry{{Label: "quebec", Text: chat.Text{{Text: "romeo"}}}}})
	next.Buttons = []chat.Button{{Label: "Stop", Verb: "stop", Token: "t"}}
	p.ok("update", p.Platform.Update(p.ctx, p.Room, ref, next))
	s, _ := p.shown(p.Room, ref)
	p.reads("after an update", s.Text, "papa", "quebec", "romeo")
	p.lacks("after an update", s.Text, "bravo", "charlie", "juliett", "kilo", "oscar")
	if want := []string{"Stop"}; !slices.Equal(s.Buttons, want) {
		p.errorf("after an update: got buttons %q, want %q", s.Buttons, want)
	}
	p.ok("update to one line", p.Platform.Update(p.ctx, p.Room, ref, note("k", "sierra")))
	s, _ = p.shown(p.Room, ref)
	p.reads("after the second update", s.Text, "sierra")
	p.lacks("after the second update", s.Text, "papa", "quebec")
	if len(s.Buttons) != 0 {
		p.errorf("after the second update: got buttons %q, want none", s.Buttons)
	}
	p.ok("update back", p.Platform.Update(p.ctx, p.Room, ref, card("k", p.Person)))
	s, _ = p.shown(p.Room, ref)
	p.reads("after the third update", s.Text, "bravo", "juliett 2")
	if len(s.Buttons) != 3 {
		p.errorf("after the third update: got buttons %q, want three", s.Buttons)
	}
	p.count("after three updates", p.Room, 1)
}

func updateTwice(p *probe) {
	ref, ok := p.post(card("k", p.Person))
	if !ok {
		return
	}
	for range 2 {
		p.ok("update", p.Platform.Update(p.ctx, p.Room, ref, card("k", p.Person)))
	}
	s, _ := p.shown(p.Room, ref)
	p.reads("after two equal updates", s.Text, "bravo", "charlie", "juliett 2")
	p.count("after two equal updates", p.Room, 1)
}

func summaryAlone(p *probe) {
	if ref, ok := p.post(chat.Message{Summary: "tango"}); ok {
		s, _ := p.shown(p.Room, ref)
		p.reads("without blocks", s.Text, "tango")
		p.ok("update", p.Platform.Update(p.ctx, p.Room, ref, chat.Message{Summary: "uniform"}))
		s, _ = p.shown(p.Room, ref)
		p.reads("without blocks", s.Text, "uniform")
	}
}

func buttons(p *probe) {
	for _, n := range []int{0, 1, 5, 60} {
		m := note(fmt.Sprint("buttons ", n), fmt.Sprint("with buttons: ", n))
		var want []string
		for i := range n {
			label := fmt.Sprint("Button ", i)
			want = append(want, label)
			m.Buttons = append(m.Buttons, chat.Button{Label: label, Verb: "verb", Token: fmt.Sprint("token ", i)})
		}
		ref, ok := p.post(m)
		if !ok {
			continue
		}
		s, _ := p.shown(p.Room, ref)
		// Platforms show a limited number; five are enough for every message of ours.
		if got := len(s.Buttons); got < min(n, 5) || got > n || !slices.Equal(s.Buttons, want[:got]) {
			p.errorf("of %d buttons: got %q, want the first ones", n, s.Buttons)
		}
	}
}

func linkButtons(p *probe) {
	m := note("k", "victor")
	m.Buttons = []chat.Button{{Label: "Open it", Verb: "open", URL: ourLink}, {Label: "Danger", Verb: "bad", URL: "javascript:alert(1)"}}
	ref, ok := p.post(m)
	if !ok {
		return
	}
	s, _ := p.shown(p.Room, ref)
	if all := s.Text + strings.Join(s.Buttons, " "); !strings.Contains(all, "Open it") || strings.Contains(all, "javascript:") {
		p.errorf("got %q, want a way to the address and none to a script", all)
	}
}

func longTexts(p *probe) {
	long := strings.Repeat("whiskey <&>*_`😀 ", 4000)
	log := strings.Repeat("line of a log with <b> & more\n", 6000) + "the very last line"
	for name, m := range map[string]chat.Message{
		"log": {Summary: "s", Blocks: []chat.Block{
			{Kind: chat.Heading, Text: chat.Text{{Text: "xray"}}}, {Kind: chat.Code, Code: log}, {Kind: chat.Context, Text: chat.Text{{Text: "yankee"}}},
		}},
		"everything": {
			Summary: long, Blocks: []chat.Block{
				{Kind: chat.Heading, Text: chat.Text{{Text: "xray " + long}}},
				{Kind: chat.Paragraph, Text: chat.Text{{Text: long}, {Style: chat.Bold, Text: long}, {Style: chat.Link, Text: long, URL: ourLink}}},
				{Kind: chat.Fields, Fields: []chat.Entry{{Label: long, Text: chat.Text{{Text: long}}}}},
				{Kind: chat.Code, Code: log},
				{Kind: chat.Context, Text: chat.Text{{Text: long}}},
			},
			Buttons: []chat.Button{{Label: long, Verb: "verb", Token: "t"}},
		},
	} {
		m.Key = name
		ref, ok := p.post(m)
		if !ok {
			continue
		}
		s, _ := p.shown(p.Room, ref)
		p.reads(name, s.Text, "xray")
		if name == "log" {
			p.reads(name, s.Text, "the very last line", "yankee")
		}
		p.ok("update to "+name, p.Platform.Update(p.ctx, p.Room, ref, m))
	}
}

func threads(p *probe) {
	root, ok := p.post(note("root", "zulu"))
	if !ok {
		return
	}
	to := p.Room
	to.Thread = root
	quiet, err := p.Platform.Post(p.ctx, to, note("quiet", "quiet reply"))
	if !p.ok("post in the thread", err) {
		return
	}
	if s, ok := p.shown(p.Room, quiet); ok && s.InChannel {
		p.errorf("a reply is shown in the channel, want it in the thread alone")
	}
	m := note("loud", "loud reply")
	m.Broadcast = true
	loud, err := p.Platform.Post(p.ctx, to, m)
	if !p.ok("broadcast in the thread", err) {
		return
	}
	if s, ok := p.shown(p.Room, loud); ok && !s.InChannel {
		p.errorf("a broadcast reply is not shown in the channel")
	}
	p.ok("update of a reply", p.Platform.Update(p.ctx, to, quiet, note("quiet", "corrected reply")))
	if s, ok := p.shown(p.Room, quiet); ok {
		p.reads("the reply", s.Text, "corrected reply")
	}
}

func find(p *probe) {
	if _, ok := p.post(note("other", "not this")); !ok {
		return
	}
	root, ok := p.post(card("wanted", p.Person))
	if !ok {
		return
	}
	to := p.Room
	to.Thread = root
	reply, err := p.Platform.Post(p.ctx, to, note("reply", "in the thread"))
	if !p.ok("post in the thread", err) {
		return
	}
	p.finds("in the channel", p.Room, "wanted", root)
	p.finds("in the thread", to, "reply", reply)
	p.finds("a key that was never used", p.Room, "never", "")
	p.ok("update", p.Platform.Update(p.ctx, p.Room, root, note("wanted", "changed")))
	p.finds("after an update", p.Room, "wanted", root)
	if p.Delete != nil {
		p.Delete(root)
		p.finds("after it was deleted", p.Room, "wanted", "")
	}
}

func (p *probe) finds(what string, to ops.Conversation, key, want string) {
	got, found, err := p.Platform.Find(p.ctx, to, key)
	if err != nil || got != want || found != (want != "") {
		p.errorf("find %s: got %q, %v, %v, want %q", what, got, found, err, want)
	}
}

func direct(p *probe) {
	to, err := p.Platform.Direct(p.ctx, p.Person)
	if !p.ok("direct", err) {
		return
	}
	if to.Platform != p.Person.Platform || to.Workspace != p.Person.Workspace || to.Channel == "" {
		p.errorf("got conversation %+v, want one of the person's platform and workspace", to)
	}
	if again, err := p.Platform.Direct(p.ctx, p.Person); err != nil || again != to {
		p.errorf("got %+v, %v the second time, want %+v", again, err, to)
	}
	ref, err := p.Platform.Post(p.ctx, to, card("k", p.Person))
	if !p.ok("post to it", err) {
		return
	}
	p.ok("update in it", p.Platform.Update(p.ctx, to, ref, note("k", "private words")))
	if s, ok := p.shown(to, ref); ok {
		p.reads("the private message", s.Text, "private words")
	}
	if !p.NoRooms {
		p.count("in the channel", p.Room, 0)
	}
}

func missing(p *probe) {
	p.refuses("update of a message that never was", p.Platform.Update(p.ctx, p.Room, p.NoRef, note("k", "x")), ops.CodeNotFound)
	p.count("afterwards", p.Room, 0)
}

func deleted(p *probe) {
	ref, ok := p.post(card("k", p.Person))
	if !ok {
		return
	}
	p.Delete(ref)
	p.count("after it was deleted", p.Room, 0)
	p.refuses("update of a deleted message", p.Platform.Update(p.ctx, p.Room, ref, note("k", "x")), ops.CodeNotFound)
	p.count("after the update", p.Room, 0)
}

func members(p *probe) {
	is := func(who string, a ops.Actor, want chat.Membership) {
		if got, err := p.Platform.Member(p.ctx, a, p.Room); err != nil || got != want {
			p.errorf("%s: got %+v, %v, want %+v", who, got, err, want)
		}
	}
	is("the person", p.Person, chat.Membership{Active: true, Member: true})
	if p.Outsider != (ops.Actor{}) {
		is("the outsider", p.Outsider, chat.Membership{Active: true})
	}
	if p.Nobody != (ops.Actor{}) {
		is("nobody", p.Nobody, chat.Membership{})
	}
}

func elsewhere(p *probe) {
	other, stranger := p.Room, p.Person
	other.Workspace, stranger.Workspace = "T0ELSEWHERE", "T0ELSEWHERE"
	_, post := p.Platform.Post(p.ctx, other, note("k", "x"))
	_, _, find := p.Platform.Find(p.ctx, other, "k")
	_, direct := p.Platform.Direct(p.ctx, stranger)
	_, member := p.Platform.Member(p.ctx, stranger, other)
	for what, err := range map[string]error{
		"post": post, "find": find, "direct": direct, "member": member,
		"update": p.Platform.Update(p.ctx, other, p.NoRef, note("k", "x")),
	} {
		var e *ops.Error
		if code := ops.CodeOf(err); err == nil || code == ops.CodeUnavailable || code == ops.CodeInternal {
			p.errorf("%s in an unknown workspace: got %v, want an error that says it can never work (%v)", what, err, e)
		}
	}
	if got := p.Platform.Permalink(other, p.NoRef); got != "" {
		p.errorf("got the address %q of a message in an unknown workspace, want none", got)
	}
	p.count("in the known one", p.Room, 0)
}

func permalinks(p *probe) {
	a, ok := p.post(note("a", "first"))
	b, ok2 := p.post(note("b", "second"))
	if !ok || !ok2 {
		return
	}
	one, two := p.Platform.Permalink(p.Room, a), p.Platform.Permalink(p.Room, b)
	if p.NoLinks {
		if one != "" {
			p.errorf("got %q, want no address", one)
		}
		return
	}
	if u, err := url.Parse(one); err != nil || u.Host == "" || one == two {
		p.errorf("got addresses %q and %q, want two web addresses", one, two)
	}
}

func ownMarkup(p *probe) {
	ref, ok := p.post(card("k", p.Person))
	if !ok {
		return
	}
	want := []string{"link " + ourLink, "mention " + p.Person.UserID}
	if s, _ := p.shown(p.Room, ref); !slices.Equal(live(s), want) {
		p.errorf("got %q, want %q", live(s), want)
	}
	m := note("m", "")
	m.Blocks = []chat.Block{{Kind: chat.Paragraph, Text: chat.Text{
		{Style: chat.Mention, Text: "somebody", User: p.Nobody.UserID + "!"},
		{Text: " "},
		{Style: chat.Link, Text: "a script", URL: "javascript:alert(1)"},
	}}}
	ref, ok = p.post(m)
	if !ok {
		return
	}
	s, _ := p.shown(p.Room, ref)
	p.reads("a mention of nobody and a link to nowhere", s.Text, "somebody", "a script")
	if len(s.Live) != 0 {
		p.errorf("a mention of nobody and a link to nowhere: got %q, want text", s.Live)
	}
}

func live(s Seen) []string {
	out := slices.Clone(s.Live)
	slices.Sort(out)
	return slices.Compact(out)
}

// Hostile are texts that try to be more than text: mentions, links, markup of any platform, in the
// ways in which people have done it.
func Hostile() []string {
	return []string{
		"@here", "@channel", "@everyone", "@all", "@here: deploy failed", "x@all y", "(@channel)", "<!here>", "<!channel>", "<!everyone>",
		"<!channel|click>", "<@U0ANN0001>", "<#C0OPS0001|ops>", "<!subteam^S0DEPLOY1>", "<!date^0^x|y>", "~town-square", "#ops", "#random",
		"https://evil.example/x", "http://evil.example", "www.evil.com", "evil.com", "mailto:a@evil.com", "<https://evil.example|gitlab>",
		"[click](https://evil.example)", "![x](https://evil.example/i.png)", "[x]: https://evil.example", "<img src=https://evil.example/i.png>",
		"<a href='https://evil.example'>x</a>", "<script>alert(1)</script>", "&lt;!channel&gt;", "&#64;all", "&commat;here", "＜!channel＞", "＠all",
		"*bold*", "_it_", "~gone~", "**bold**", "`code`", "```\nblock\n```", "# heading", "> quote", "- item", "1. item", "| a | b |\n|---|---|", "---",
		":tada:", "a\nb", "a\r\n@here", "line\u2028@all", "<\u200b!channel>", "@\u200bhere", "\x1b[31mred\x1b[0m", "\u202eevil", "\xff\xfe@all", "$\\href{https://evil.example}{x}$",
		"demo`", "``", "a`b``c", "*", "_", "\\", "\\@all", "\\<!channel>", "|", "]", "](https://evil.example)", ">", "<", "&", "",
	}
}

func foreignText(p *probe) {
	texts := Hostile()
	for i, text := range texts {
		// Neighbours, so that two harmless halves cannot make a whole.
		next := texts[(i*7+3)%len(texts)]
		m := chat.Message{
			Key: fmt.Sprint("foreign ", i), Summary: text,
			Blocks: []chat.Block{
				{Kind: chat.Heading, Text: chat.Text{{Text: text}}},
				{Kind: chat.Paragraph, Text: chat.Text{
					{Text: text},
					{Style: chat.Bold, Text: text},
					{Text: next},
					{Style: chat.Italic, Text: text},
					{Style: chat.Break},
					{Style: chat.Mono, Text: text},
					{Text: text},
					{Style: chat.Mention, Text: text, User: text},
					{Style: chat.Link, Text: text, URL: "x:" + text},
				}},
				{Kind: chat.Fields, Fields: []chat.Entry{{Label: text, Text: chat.Text{{Text: text}, {Text: next}}}, {Label: "l", Text: chat.Text{{Style: chat.Mono, Text: text}}}}},
				{Kind: chat.Code, Code: text + "\n" + next},
				{Kind: chat.Context, Text: chat.Text{{Text: next}, {Text: text}}},
			},
			Buttons: []chat.Button{{Label: "b" + text, Verb: "verb", Token: "t"}},
		}
		ref, ok := p.post(m)
		if !ok {
			return
		}
		if s, _ := p.shown(p.Room, ref); len(s.Live) != 0 {
			p.errorf("%q beside %q: got %q alive after a post", text, next, s.Live)
		}
		m.Summary = "x " + text
		if !p.ok("update", p.Platform.Update(p.ctx, p.Room, ref, m)) {
			return
		}
		if s, _ := p.shown(p.Room, ref); len(s.Live) != 0 {
			p.errorf("%q beside %q: got %q alive after an update", text, next, s.Live)
		}
		p.Delete(ref)
	}
}

func controlCharacters(p *probe) {
	const bad = "al\x1b[31mpha\x00\x07\u202e\u2066\u200b\u0085\x9b"
	m := chat.Message{Key: "k", Summary: bad, Blocks: []chat.Block{
		{Kind: chat.Heading, Text: chat.Text{{Text: bad}}},
		{Kind: chat.Paragraph, Text: chat.Text{{Text: bad}, {Style: chat.Mono, Text: bad}}},
		{Kind: chat.Fields, Fields: []chat.Entry{{Label: bad, Text: chat.Text{{Text: bad}}}}},
		{Kind: chat.Code, Code: bad + "\n\tend"},
		{Kind: chat.Context, Text: chat.Text{{Text: bad}}},
	}}
	ref, ok := p.post(m)
	if !ok {
		return
	}
	s, _ := p.shown(p.Room, ref)
	p.lacks("a text with control characters", s.Text, "\x1b", "\x00", "\x07", "\u202e", "\u2066", "\u0085", "\u009b")
	p.reads("a text with control characters", s.Text, "pha", "end")
}

func together(p *probe) {
	const callers = 12
	refs := make([]string, callers)
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			key := fmt.Sprint("key-", i)
			if refs[i], errs[i] = p.Platform.Post(p.ctx, p.Room, note(key, "first "+key)); errs[i] != nil {
				return
			}
			if errs[i] = p.Platform.Update(p.ctx, p.Room, refs[i], note(key, "second "+key)); errs[i] != nil {
				return
			}
			_, _, errs[i] = p.Platform.Find(p.ctx, p.Room, key)
		})
	}
	all.Wait()
	p.count("after all", p.Room, callers)
	for i, err := range errs {
		if p.ok(fmt.Sprint("caller ", i), err) {
			s, _ := p.shown(p.Room, refs[i])
			p.reads("message of a caller", s.Text, fmt.Sprint("second key-", i))
		}
	}
}
