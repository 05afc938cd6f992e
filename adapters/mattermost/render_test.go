package mattermost

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/templates"
)

const (
	aliceID = "jpk3sjf317f19ecrzy4stz9mxr"
	ourURL  = "https://gitlab.example.org/grove/-/pipelines/7"
)

func testNames() map[string]string { return map[string]string{aliceID: "alice"} }

func testIntegration(b chat.Button) *model.PostActionIntegration {
	return &model.PostActionIntegration{URL: "https://ocim.example.org/actions", Context: map[string]any{"t": b.Token, "m": "seal"}}
}

// asPost is a rendered message as a client of the server gets it.
func asPost(tb testing.TB, p rendered) mattermosttest.Post {
	tb.Helper()
	b, err := json.Marshal(p.props("key"))
	if err != nil {
		tb.Fatalf("encode props: %v", err)
	}
	post := mattermosttest.Post{Message: p.message}
	if err := json.Unmarshal(b, &post.Props); err != nil {
		tb.Fatalf("decode props: %v", err)
	}
	return post
}

func text(s string) chat.Text { return chat.Text{{Text: s}} }

// goldens are messages as the bot sends them, one for each thing that a renderer can get wrong.
func goldens() map[string]chat.Message {
	running := chat.Message{
		Key: "card-1", Summary: "Deploy demo: running", Tone: chat.ToneBusy,
		Blocks: []chat.Block{
			{Kind: chat.Heading, Text: text("🚀 Deploy prod/demo")},
			{Kind: chat.Paragraph, Text: chat.Text{
				{Style: chat.Mention, Text: "Alice", User: aliceID}, {Text: " asked for it: "}, {Style: chat.Italic, Text: "new theme"},
			}},
			{Kind: chat.Fields, Fields: []chat.Entry{
				{Label: "State", Text: chat.Text{{Style: chat.Bold, Text: "running"}, {Text: " (3 of 7 jobs)"}}},
				{Label: "Pipeline", Text: chat.Text{{Style: chat.Link, Text: "#7", URL: ourURL}}},
				{Label: "Branch", Text: chat.Text{{Style: chat.Mono, Text: "main"}}},
			}},
			{Kind: chat.Context, Text: text("operation 7KQ2 · 2 min of about 5")},
		},
		Buttons: []chat.Button{
			{Label: "Cancel", Verb: "cancel", Token: "tok1", Style: chat.ButtonDanger},
			{Label: "Logs", Verb: "logs", Token: "tok2"},
			{Label: "Open in GitLab", Verb: "open", URL: ourURL},
		},
	}
	final := running
	final.Tone, final.Buttons, final.Summary = chat.ToneGood, nil, "Deploy demo: succeeded"
	return map[string]chat.Message{
		"card_running": running,
		"card_final":   final,
		"failed_job": {Key: "log-1", Summary: "Job failed", Tone: chat.ToneBad, Blocks: []chat.Block{
			{Kind: chat.Heading, Text: text("deploy: job failed")},
			{Kind: chat.Code, Code: "$ helm upgrade\nError: <nil> | @all ``` [x](http://evil.example)\nexit 1"},
			{Kind: chat.Divider},
			{Kind: chat.Context, Text: chat.Text{{Text: "full log: "}, {Style: chat.Link, Text: "job 12", URL: ourURL}}},
		}},
		"plain_notice":   *chat.Notice(chat.ToneNeutral, "Nothing runs in prod/demo."),
		"warning_notice": *chat.Notice(chat.ToneWarn, "⏳ Still working on it."),
		"summary_only":   {Summary: "just a *summary* @all"},
		"hostile": {Key: "h", Summary: "@all <!channel>", Tone: chat.ToneNeutral, Blocks: []chat.Block{
			{Kind: chat.Heading, Text: text("# @channel **bold** [x](http://evil.example)")},
			{Kind: chat.Paragraph, Text: chat.Text{
				{Text: "1. <http://evil.example|x> ~town-square #tag :smile: www.evil.example evil.example/x "},
				{Style: chat.Bold, Text: "a**b"},
				{Style: chat.Mono, Text: "`x``"},
				{Style: chat.Link, Text: "]( http://evil", URL: "javascript:alert(1)"},
				{Style: chat.Mention, Text: "@all", User: "nobody"},
				{Text: "!"},
				{Style: chat.Link, Text: "a](b", URL: ourURL + "?a=(b)&c=<d>"},
			}},
		}},
	}
}

func TestMessagesLookAsTheyAlwaysDid(t *testing.T) {
	t.Parallel()
	for name, m := range goldens() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := renderMessage(m, testNames(), testIntegration)
			got, err := json.MarshalIndent(map[string]any{"message": p.message, "props": p.props(m.Key), "text": renderText(m, testNames())}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", "render", name+".json")
			if os.Getenv("OCIM_UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v (OCIM_UPDATE_GOLDEN=1 writes it)", err)
			}
			if d := cmp.Diff(string(got), string(want)); d != "" {
				t.Errorf("%s (-got +want):\n%s", file, d)
			}
			for _, a := range p.attachments {
				if err := a.IsValid(); err != nil {
					t.Errorf("attachment: %v", err)
				}
			}
		})
	}
}

// TestTemplatesKeepTheirLines renders the texts that ship with the bot: each line of a template is
// a line on the screen.
func TestTemplatesKeepTheirLines(t *testing.T) {
	t.Parallel()
	set, err := chat.LoadTemplates(templates.FS, "")
	if err != nil {
		t.Fatal(err)
	}
	type usage struct{ Usage, Summary chat.Foreign }
	for _, tt := range []struct {
		name, template string
		data           map[string]any
		tone           chat.Tone
		want           string
	}{
		{
			"help", "help",
			map[string]any{"Trigger": chat.Foreign("/ocim"), "Commands": []usage{
				{"/ocim help [command]", "list the commands"}, {"/ocim deploy [instance]", "- update"}, {"/ocim status", "= now"},
			}},
			chat.ToneNeutral,
			"**What /ocim can do**\n`/ocim help [command]` – list the commands\n`/ocim deploy [instance]` – \\- update\n`/ocim status` – = now\n" +
				"/ocim help deploy explains one command · an operation is named by its id or by its instance",
		},
		{
			"refusal", "error",
			map[string]any{
				"Msg": chat.Foreign("There is no instance \"dmeo\"."), "Suggest": []chat.Foreign{"demo"}, "Next": chat.Foreign("- See /ocim help."),
				"Link": chat.Foreign(""), "Pattern": chat.Foreign(""), "Reason": chat.Foreign("unknown_instance"), "Operation": chat.Foreign(""),
			},
			chat.ToneWarn,
			"🚫 There is no instance \"dmeo\".\nDid you mean `demo`?\n\\- See /ocim help.\nunknown\\_instance",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := set.Render(tt.template, tt.data)
			if err != nil {
				t.Fatal(err)
			}
			m.Tone = tt.tone
			got := strings.ReplaceAll(mattermosttest.Read(asPost(t, renderMessage(m, nil, testIntegration))), "\n\n", "\n")
			if d := cmp.Diff(got, tt.want); d != "" {
				t.Errorf("post (-got +want):\n%s", d)
			}
		})
	}
}

func TestBreakStartsALine(t *testing.T) {
	t.Parallel()
	br := chat.Span{Style: chat.Break}
	p := renderMessage(chat.Message{Summary: "x", Blocks: []chat.Block{
		{Kind: chat.Paragraph, Text: chat.Text{{Text: "first"}, br, {Text: "# second"}, br, {Text: "1. third"}, br, {Text: "==="}, br, {Style: chat.Bold, Text: "- fourth"}}},
		{Kind: chat.Context, Text: chat.Text{{Text: "small"}, br, {Text: "print"}}},
	}}, nil, testIntegration)
	want := "first\n\\# second\n1\\. third\n" + zwsp + "===\n**- fourth**\n\nsmall\nprint"
	if d := cmp.Diff(p.message, want); d != "" {
		t.Errorf("message (-got +want):\n%s", d)
	}
}

// hostileText is random text made of everything that means something to Mattermost.
func hostileText(r *rand.Rand) string {
	parts := []string{
		"@all", "@channel", "@here", "@bob", "@", "~town-square", "~", "~~", "#tag", "#", "# ", ":smile:", ":", "http://evil.example",
		"https://evil.example/x", "HTTPS://EVIL.EXAMPLE", "www.evil.example", "www", "evil.example/x", "mailto:a@b.example", "a@b.example", "tel:1",
		"[x](http://evil.example)", "![x](http://evil.example/i.png)", "[x]: http://evil.example", "[x]", "<http://evil.example>",
		"<a@b.example>", "<!channel>", "<@U123>", "<http://evil.example|x>", "<", ">", "|", "`", "``", "```", "\n```\n", "~~~", "*", "**", "_",
		"__", "\\", "\\\\", "---", "===", "> ", "- ", "+ ", "1. ", "1)", "\n", "\n\n", "\r\n", "    ", "\t", "\u202e", "\u200b", "\ufeff", "\u2028",
		"&lt;", "&#64;all", "&commat;all", "&", ";", "$x$", "$", "{", "}", "(", ")", "[", "]", "](", "!", "![", "\"", "'", "a", "all", "bob", "1", " ",
		"é", "😀", "\x00", "\x1b[31m", "\xff", "=", "|---|", "| a |", "/", "//", "://", ".", "..", "%40all", "＠all", "alice", "-", ",",
	}
	var b strings.Builder
	for range 1 + r.IntN(8) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

// hostileMessage puts foreign text into every place that takes some, beside a mention and a link of
// our own.
func hostileMessage(next func() string) chat.Message {
	address := func() string { // one that is none: a web address given to a link is a link
		u := next()
		if linkTarget(u) != "" {
			return "javascript:" + u
		}
		return u
	}
	return chat.Message{
		Key: next(), Summary: next(),
		Blocks: []chat.Block{
			{Kind: chat.Heading, Text: text(next())},
			{Kind: chat.Paragraph, Text: chat.Text{
				{Text: next()},
				{Style: chat.Bold, Text: next()},
				{Text: next()},
				{Style: chat.Break},
				{Style: chat.Italic, Text: next()},
				{Style: chat.Break},
				{Text: next()},
				{Style: chat.Mono, Text: next()},
				{Text: next()},
				{Style: chat.Link, Text: next(), URL: ourURL},
				{Text: next()},
				{Style: chat.Mention, Text: next(), User: aliceID},
				{Text: next()},
				{Style: chat.Link, Text: next(), URL: address()},
				{Style: chat.Mention, Text: next(), User: next()},
			}},
			{Kind: chat.Paragraph, Text: text(next())},
			{Kind: chat.Fields, Fields: []chat.Entry{
				{Label: next(), Text: chat.Text{{Text: next()}, {Style: chat.Mono, Text: next()}}},
				{Label: "ours", Text: chat.Text{{Style: chat.Bold, Text: next()}, {Style: chat.Bold, Text: next()}}},
			}},
			{Kind: chat.Code, Code: next()},
			{Kind: chat.Divider},
			{Kind: chat.Paragraph, Text: text(next())},
			{Kind: chat.Context, Text: text(next())},
		},
		Buttons: []chat.Button{{Label: next(), Verb: next(), Token: next()}, {Label: next(), URL: address()}},
	}
}

// alive lists what hostile text brought to life in a post.
func alive(post mattermosttest.Post) []string { return aliveIn(mattermosttest.LiveText(post)) }

func aliveIn(live mattermosttest.Live) []string {
	var bad []string
	for kind, pair := range map[string][2][]string{
		"mention": {live.Mentions, {"alice"}}, "link": {live.Links, {ourURL}}, "image": {live.Images, nil},
		"hashtag": {live.Hashtags, nil}, "channel": {live.Channels, nil},
	} {
		for _, v := range pair[0] {
			if !slices.Contains(pair[1], v) {
				bad = append(bad, kind+" "+v)
			}
		}
	}
	return bad
}

func TestT14_ForeignTextNeverComesAlive(t *testing.T) {
	t.Parallel()
	const want = 100_000
	r := rand.New(rand.NewPCG(14, 2026))
	strs, mentions := 0, 0
	for strs < want {
		m := hostileMessage(func() string { strs++; return hostileText(r) })
		post := asPost(t, renderMessage(m, testNames(), testIntegration))
		live := mattermosttest.LiveText(post)
		if bad := aliveIn(live); len(bad) > 0 {
			t.Fatalf("%v came alive in\n%s\nof %#v", bad, mattermosttest.Read(post), m)
		}
		mentions += len(live.Mentions)
		plain := mattermosttest.Post{Message: renderText(m, testNames())}
		if bad := alive(plain); len(bad) > 0 {
			t.Fatalf("%v came alive in the text\n%s\nof %#v", bad, plain.Message, m)
		}
	}
	if mentions == 0 {
		t.Error("our own mention never came alive: the test sees nothing")
	}
}

func TestT14_WebClientMakesNoLinksOfForeignText(t *testing.T) {
	t.Parallel()
	// What Mattermost's web client turns into links, from the grammar of its Markdown parser.
	// It knows more of them than the server.
	auto := []*regexp.Regexp{
		regexp.MustCompile(`<(?:[^ >]+(?:@|:/)|www\d{0,3}\.)[^ >]+>`),
		regexp.MustCompile(`(?i)\b(?:https?|ftp|mailto|tel|mattermost):[/\pL\d%]`),
		regexp.MustCompile(`\bwww\d{0,3}\.[^\s]`),
		regexp.MustCompile(`[\pL\d.-]+\.\pL{2,4}/`),
		regexp.MustCompile(`\$[^$\n]+\$`),
	}
	r := rand.New(rand.NewPCG(3, 2026))
	for range 50_000 {
		foreign := hostileText(r)
		var b strings.Builder
		escape(&b, foreign, 0, 0)
		for _, re := range auto {
			if hit := re.FindString(b.String()); hit != "" {
				t.Fatalf("%q of %q is a link or a formula", hit, foreign)
			}
		}
	}
}

func TestEscapedTextReadsAsItWas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"It failed, twice. Try again!", "It failed, twice. Try again!"},
		{"at 10:30:15 on prod/demo (2 of 3)", "at 10:30:15 on prod/demo (2 of 3)"},
		{"my_app-1", `my\_app-1`},
		{"demo.example.org", `demo\.example\.org`},
		{`C:\dir\*`, "C:" + zwsp + `\dir\\\*`},
		{"2 < 3 && 4 > 3", `2 &lt; 3 && 4 \> 3`},
		{"&lt;", "&amp;lt;"},
		{"  indented", "indented"},
		{"- item", `\- item`},
		{"1. item", `1\. item`},
		{"===", zwsp + "==="},
		{"a\nb", "a b"},
		{"#42 @bob", "\\#42 @" + zwsp + "bob"},
		{"costs $5", "costs &#36;5"},
	} {
		var b strings.Builder
		escape(&b, tt.text, 0, 0)
		if b.String() != tt.want {
			t.Errorf("%q is %q, want %q", tt.text, b.String(), tt.want)
		}
	}
}

func TestMessagesStayWithinTheLimits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a<b>`$@_", 20_000)
	m := hostileMessage(func() string { return long })
	m.Key, m.Buttons[0].Token = "key", "token" // these two are ours
	for i := range 100 {
		m.Buttons = append(m.Buttons, chat.Button{Label: long, Verb: "verb", Token: strings.Repeat("t", 300)})
		m.Blocks[3].Fields = append(m.Blocks[3].Fields, chat.Entry{Label: fmt.Sprint(i), Text: text(long)})
	}
	p := renderMessage(m, testNames(), testIntegration)
	body, err := json.Marshal(&model.Post{Message: p.message, Props: p.props("key")})
	if err != nil {
		t.Fatal(err)
	}
	if n := utf8.RuneCountInString(p.message); n > 16_383 {
		t.Errorf("message of %d runes, want at most 16,383", n)
	}
	if len(body) > 300_000 {
		t.Errorf("body of %d bytes, want at most 300,000", len(body))
	}
	a := p.attachments[0]
	if n := utf8.RuneCountInString(a.Text); n > maxText {
		t.Errorf("text of %d runes, want at most %d", n, maxText)
	}
	if n := utf8.RuneCountInString(a.Footer); n > maxFooter {
		t.Errorf("footer of %d runes, want at most %d", n, maxFooter)
	}
	seen := map[string]bool{}
	for _, act := range a.Actions {
		if seen[act.Id] || !regexp.MustCompile(`^[A-Za-z0-9]+$`).MatchString(act.Id) {
			t.Errorf("action id %q is not unique or not letters and digits", act.Id)
		}
		seen[act.Id] = true
		if n := utf8.RuneCountInString(act.Name); n > maxButtonName {
			t.Errorf("button of %d runes, want at most %d", n, maxButtonName)
		}
	}
	if n := utf8.RuneCountInString(renderText(m, testNames())); n > 16_383 {
		t.Errorf("text of %d runes, want at most 16,383", n)
	}
	if bad := alive(asPost(t, p)); len(bad) > 0 {
		t.Errorf("%v came alive", bad)
	}
}

func TestLongLogKeepsItsEnd(t *testing.T) {
	t.Parallel()
	m := chat.Message{Summary: "log", Blocks: []chat.Block{{Kind: chat.Code, Code: strings.Repeat("line of a log\n", 5000) + "the error"}}}
	got := renderMessage(m, nil, testIntegration).message
	if !strings.HasSuffix(got, "the error\n```") || !strings.HasPrefix(got, "```\n…") {
		t.Errorf("log begins %q and ends %q, want the end of it in a fence", got[:20], got[len(got)-20:])
	}
}

func TestCommandAnswersHoldNoBareAngleInAttachments(t *testing.T) {
	t.Parallel()
	// Mattermost rewrites <url|text> in attachments of answers whatever they ask for.
	m := chat.Message{Summary: "x", Tone: chat.ToneBad, Blocks: []chat.Block{
		{Kind: chat.Code, Code: "<http://evil.example"},
		{Kind: chat.Paragraph, Text: text("|")},
		{Kind: chat.Code, Code: "@all>"},
		{Kind: chat.Fields, Fields: []chat.Entry{{Label: "a", Text: chat.Text{{Style: chat.Mono, Text: "<http://evil.example|x>"}}}}},
	}}
	got := commandResponse(renderMessage(m, nil, testIntegration))
	if !strings.Contains(got.Text, "<http://evil.example") || !got.SkipSlackParsing {
		t.Errorf("text is %q, want the code in it and no rewriting", got.Text)
	}
	for _, a := range got.Attachments {
		for _, f := range a.Fields {
			if strings.Contains(a.Text+fmt.Sprint(f.Value), "<") {
				t.Errorf("attachment %q with field %q holds a bare <", a.Text, f.Value)
			}
		}
	}
}

func FuzzRender(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		f.Add(hostileText(r), hostileText(r))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		turn := false
		m := hostileMessage(func() string {
			if turn = !turn; turn {
				return a
			}
			return b
		})
		post := asPost(t, renderMessage(m, testNames(), testIntegration))
		if bad := alive(post); len(bad) > 0 {
			t.Errorf("%v came alive in\n%s", bad, mattermosttest.Read(post))
		}
	})
}

func TestLinesStayLines(t *testing.T) {
	t.Parallel()
	lines := chat.Text{
		{Style: chat.Mono, Text: "/ocim help"},
		{Text: " the list "},
		{Style: chat.Break},
		{Text: "1. # no heading"},
		{Style: chat.Break},
		{Style: chat.Bold, Text: "last"},
	}
	m := chat.Message{Summary: "s", Blocks: []chat.Block{{Kind: chat.Paragraph, Text: lines}}}
	const want = "`/ocim help` the list\n1\\. \\# no heading\n**last**"
	if got := renderText(m, nil); strings.ReplaceAll(got, " \n", "\n") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m.Blocks = []chat.Block{{Kind: chat.Context, Text: lines}}
	if got := footer(m.Blocks); got != "" {
		t.Errorf("got a footer %q, want none: it shows one line", got)
	}
}
