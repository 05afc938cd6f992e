package slack

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/adapters/slack/slacktest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func plainText(s string) chat.Text { return chat.Text{{Text: s}} }

// messages are the golden cases: what the notifier and the commands really send, and the corners.
func messages() map[string]chat.Message {
	return map[string]chat.Message{
		"card_running": {
			Key: "0123456789abcdef", Summary: "deploy prod/demo: running", Tone: chat.ToneBusy,
			Blocks: []chat.Block{
				{Kind: chat.Heading, Text: plainText("deploy prod/demo")},
				{Kind: chat.Paragraph, Text: chat.Text{
					{Text: "Started by "},
					{Style: chat.Mention, User: "U0ANN0001", Text: "ann"},
					{Text: " as "},
					{Style: chat.Mono, Text: "op-7f3a"},
					{Text: ", "},
					{Style: chat.Link, Text: "pipeline 42", URL: "https://gitlab.example.com/g/p/-/pipelines/42?a=1&b=2"},
					{Text: "."},
				}},
				{Kind: chat.Fields, Fields: []chat.Entry{
					{Label: "State", Text: chat.Text{{Style: chat.Bold, Text: "running"}}},
					{Label: "Jobs", Text: plainText("3 of 7")},
					{Label: "Branch", Text: chat.Text{{Style: chat.Mono, Text: "feature/x`y"}}},
					{Label: "Why", Text: plainText("")},
				}},
				{Kind: chat.Divider},
				{Kind: chat.Paragraph, Text: chat.Text{{Text: "one line"}, {Style: chat.Break}, {Text: "> another"}}},
				{Kind: chat.Context, Text: chat.Text{{Style: chat.Italic, Text: "usually takes 4 min"}, {Style: chat.Break}, {Text: "> asked 10:30"}}},
			},
			Buttons: []chat.Button{
				{Label: "Cancel", Verb: "cancel", Token: "sealed.cancel", Style: chat.ButtonDanger},
				{Label: "Logs", Verb: "logs", Token: "sealed.logs"},
				{Label: "Open in GitLab", Verb: "open", URL: "https://gitlab.example.com/g/p/-/pipelines/42"},
			},
		},
		"failure_with_log": {
			Summary: "deploy prod/demo failed", Tone: chat.ToneBad, Broadcast: true,
			Blocks: []chat.Block{
				{Kind: chat.Heading, Text: plainText("deploy prod/demo failed")},
				{Kind: chat.Code, Code: "$ tutor k8s start\n<!channel> & `quoted` *bold*\x1b[31m\nexit 1\n"},
			},
			Buttons: []chat.Button{{Label: "Retry", Verb: "retry", Token: "sealed.retry", Style: chat.ButtonPrimary}},
		},
		"notice": *chat.Notice(chat.ToneWarn, "⏳ Still working on it."),
		"hostile": {
			Summary: "<!channel> & @here *x*", Tone: chat.ToneGood,
			Blocks: []chat.Block{
				{Kind: chat.Heading, Text: plainText("<!channel> :tada: *x*")},
				{Kind: chat.Paragraph, Text: plainText("<!channel> <https://evil.example|gitlab> *x*\nsecond line \u202e")},
				{Kind: chat.Fields, Fields: []chat.Entry{
					{Label: "a*b", Text: plainText("> quote <!here> *bold* _it_ ~no~ `code` :tada: my_instance_1 10:30:15")},
					{Label: "Link", Text: chat.Text{{Style: chat.Link, Text: "a|b>c", URL: "https://gitlab.example.com/x|y>z\"q"}}},
					{Label: "Bad link", Text: chat.Text{{Style: chat.Link, Text: "click", URL: "javascript:alert(1)"}}},
					{Label: "Bad mention", Text: chat.Text{{Style: chat.Mention, Text: "@all", User: "!channel"}}},
				}},
				{Kind: chat.Context, Text: chat.Text{{Style: chat.Bold, Text: " edges "}, {Style: chat.Mono, Text: "`"}}},
			},
		},
		"only_summary": {Summary: "nothing more"},
	}
}

func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := render(m)
			if err != nil {
				t.Fatal(err)
			}
			var doc map[string]any
			remarshal(t, map[string]any{"text": p.Text, "blocks": p.Blocks}, &doc)
			var out bytes.Buffer
			enc := json.NewEncoder(&out)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(doc); err != nil {
				t.Fatal(err)
			}
			got := out.Bytes()
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("rendering differs (-want +got); run with -update if that is right:\n%s", diff)
			}
		})
	}
}

// stored is the message as the fake Slack would keep it.
func stored(tb testing.TB, p payload) slacktest.Message {
	tb.Helper()
	m := slacktest.Message{Text: p.Text, Parse: "none"}
	remarshal(tb, p.Blocks, &m.Blocks)
	return m
}

// hostile are pieces from which attacks are put together.
func hostile() []string {
	return []string{
		"<!channel>", "<!here>", "<!everyone>", "<@U0BEN0001>", "<#C0OPS0001>", "<#C0OPS0001|x>", "<!subteam^S0DEPLOY1>", "<!date^1^x|y>",
		"@channel", "@here", "@everyone", "@ann", "#ops", "https://evil.example/x", "http://evil.example", "www.evil.com", "evil.com",
		"mailto:a@evil.com", "<https://evil.example|gitlab>", "<https://evil.example>", "[x](https://evil.example)", "![x](https://evil.example/i.png)",
		"<", ">", "&", "|", "&lt;", "&gt;", "&amp;", "&lt;!channel&gt;", "&#60;!channel&#62;", "`", "```", "*", "_", "~", "\n", "\r", "\t", "\x00",
		"\x1b[31m", "\u202e", "\u200b", "\u2028", "\ufeff", "<\u200b!channel>", "<!chan\u200bnel>", "\xff", "\xc0\xbc!channel>", "＜!channel＞",
		"a", "my_instance", " ", "", ":tada:", "\"", "'", "\\", "%3C!channel%3E", "${x}", "😀", strings.Repeat("A", 200), "<<!channel>>", "!channel",
	}
}

func hostileString(rnd *rand.Rand, parts []string) string {
	var b strings.Builder
	for range 1 + rnd.IntN(6) {
		b.WriteString(parts[rnd.IntN(len(parts))])
	}
	return b.String()
}

// TestT14_ForeignTextStaysText puts hostile text everywhere where foreign text can stand.
func TestT14_ForeignTextStaysText(t *testing.T) {
	t.Parallel()
	srv, err := slacktest.New(slacktest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	const target = "https://gitlab.example.com/"
	rnd := rand.New(rand.NewPCG(14, 14))
	parts := hostile()
	made := 0
	next := func() string { made++; return hostileString(rnd, parts) }
	for made < 120_000 {
		m := chat.Message{Summary: next(), Blocks: []chat.Block{
			{Kind: chat.Heading, Text: plainText(next())},
			{Kind: chat.Paragraph, Text: chat.Text{
				{Text: next()},
				{Style: chat.Bold, Text: next()},
				{Style: chat.Italic, Text: next()},
				{Style: chat.Mono, Text: next()},
				{Style: chat.Link, Text: next(), URL: target + next()},
				{Style: chat.Mention, Text: next(), User: next()},
			}},
			{Kind: chat.Fields, Fields: []chat.Entry{
				{Label: next(), Text: chat.Text{
					{Text: next()}, {Style: chat.Bold, Text: next()}, {Style: chat.Italic, Text: next()}, {Style: chat.Mono, Text: next()},
				}},
				{Label: "L", Text: chat.Text{{Style: chat.Link, Text: next(), URL: target + next()}, {Text: next()}}},
				{Label: "M", Text: chat.Text{{Style: chat.Mention, Text: next(), User: next()}}},
			}},
			{Kind: chat.Code, Code: next() + "\n" + next()},
			{Kind: chat.Context, Text: chat.Text{{Text: next()}, {Style: chat.Mono, Text: next()}}},
		}, Buttons: []chat.Button{{Label: "x" + next(), Verb: next(), Token: "t"}}}
		p, err := render(m)
		if err != nil {
			t.Fatalf("render: %v\n%+v", err, m)
		}
		msg := stored(t, p)
		if problems := slacktest.ValidateMessage(msg.Blocks); len(problems) != 0 {
			t.Fatalf("Slack would refuse this: %v\n%+v", problems, m)
		}
		for _, tok := range srv.LiveTokens(msg) {
			// Only the two links and nothing else may live.
			if tok.Kind != slacktest.Link || tok.Auto || !strings.HasPrefix(tok.Target, target) {
				t.Fatalf("foreign text became %+v in\n%+v", tok, m)
			}
		}
	}
	t.Logf("%d hostile strings", made)
}

func TestMentionOnlyOfPeople(t *testing.T) {
	t.Parallel()
	srv, err := slacktest.New(slacktest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	for _, kind := range []chat.BlockKind{chat.Paragraph, chat.Context} {
		for user, want := range map[string]int{"U0ANN0001": 1, "W012": 1, "C0OPS0001": 0, "!channel": 0, "U1>": 0, "u1": 0, "": 0, "S0DEPLOY1": 0} {
			p, err := render(chat.Message{Summary: "x", Blocks: []chat.Block{{Kind: kind, Text: chat.Text{{Style: chat.Mention, Text: "somebody", User: user}}}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := srv.LiveTokens(stored(t, p)); len(got) != want {
				t.Errorf("user %q: got %+v, want %d mentions", user, got, want)
			}
		}
	}
}

// TestLimits renders messages far beyond every limit: Slack must take what comes out, and the end
// of the log must be there.
func TestLimits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<&>*_`x😀", 5000)
	log := strings.Repeat("line of a log with <b> & more\n", 4000) + "the very last line"
	huge := chat.Message{Summary: long, Tone: chat.ToneBad}
	huge.Blocks = append(huge.Blocks, chat.Block{Kind: chat.Heading, Text: plainText(long)})
	for range 30 {
		huge.Blocks = append(huge.Blocks,
			chat.Block{Kind: chat.Paragraph, Text: plainText(long)},
			chat.Block{Kind: chat.Fields, Fields: []chat.Entry{{Label: long, Text: plainText(long)}}},
			chat.Block{Kind: chat.Context, Text: plainText(long)})
	}
	for i := range 60 {
		huge.Buttons = append(huge.Buttons, chat.Button{Label: long, Verb: "v", Token: strings.Repeat("t", i)})
	}
	many := chat.Message{Summary: "x", Blocks: []chat.Block{{Kind: chat.Fields}}}
	for range 200 {
		many.Blocks[0].Fields = append(many.Blocks[0].Fields, chat.Entry{Label: "l", Text: plainText("v")})
		many.Blocks = append(many.Blocks, chat.Block{Kind: chat.Divider})
	}
	tests := []struct {
		name string
		m    chat.Message
		ends string
	}{
		{"everything too long", huge, ""},
		{"too many of everything", many, ""},
		{"a long log", chat.Message{Summary: "x", Blocks: []chat.Block{
			{Kind: chat.Heading, Text: plainText("failed")}, {Kind: chat.Code, Code: log}, {Kind: chat.Context, Text: plainText("after the log")},
		}}, "the very last line"},
		{"a log after much else", chat.Message{Summary: "x", Blocks: append(append([]chat.Block{}, huge.Blocks[:8]...), chat.Block{Kind: chat.Code, Code: log})}, ""},
		{"empty", chat.Message{}, ""},
		{"only unsafe characters", chat.Message{Summary: "\x00\u202e", Blocks: []chat.Block{{Kind: chat.Code, Code: "\x00"}, {Kind: chat.Paragraph, Text: plainText("\u200b")}}}, ""},
		{"not UTF-8", note("\xff\xfe<\xf0"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := render(tt.m)
			if err != nil {
				t.Fatal(err)
			}
			msg := stored(t, p)
			if problems := slacktest.ValidateMessage(msg.Blocks); len(problems) != 0 {
				t.Errorf("Slack would refuse this: %v", problems)
			}
			if n := utf8.RuneCountInString(p.Text); n < 1 || n > 4000 {
				t.Errorf("got a text of %d characters, want 1 to 4000", n)
			}
			total := 0
			for _, b := range p.Blocks {
				total += textSize(b)
			}
			if total > maxText {
				t.Errorf("got %d units of text, want at most %d", total, maxText)
			}
			b, err := json.Marshal(p.Blocks)
			if err != nil {
				t.Fatal(err)
			}
			if tt.ends != "" && !strings.Contains(string(b), tt.ends+`"`) {
				t.Errorf("the end of the log is missing")
			}
		})
	}
}

func TestAddressesOfLinksCount(t *testing.T) {
	t.Parallel()
	var many []chat.Block
	for range 45 {
		many = append(many, chat.Block{Kind: chat.Paragraph, Text: chat.Text{
			{Text: strings.Repeat("a", 240)}, {Style: chat.Link, Text: "pipeline", URL: "https://gitlab.example.org/" + strings.Repeat("g", 60)},
		}})
	}
	var one chat.Text
	for range 20 {
		one = append(one, chat.Span{Text: strings.Repeat("a", 100)},
			chat.Span{Style: chat.Link, Text: "pipeline", URL: "https://gitlab.example.org/" + strings.Repeat("g", 960)}, chat.Span{Style: chat.Break})
	}
	for name, blocks := range map[string][]chat.Block{
		"in many paragraphs": many,
		"in one paragraph":   {{Kind: chat.Paragraph, Text: append(one, one...)}},
		"in small print":     {{Kind: chat.Context, Text: one}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := render(chat.Message{Summary: "x", Blocks: blocks})
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(p.Blocks)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(b), "…") {
				t.Error("what was cut is not marked")
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	for name, blocks := range invalidMessages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Validate(blocks); err == nil {
				t.Error("got no error, want one")
			}
		})
	}
}

func TestSafeURL(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"https://gitlab.example.com/a b?x=|<>\"", "https://gitlab.example.com/a%20b?x=%7C%3C%3E%22"},
		{"http://localhost:8080/x", "http://localhost:8080/x"},
		{"http://127.0.0.1/x", "http://127.0.0.1/x"},
		{"http://gitlab.example.com/", ""},
		{"https://user:pw@gitlab.example.com/", ""},
		{"javascript:alert(1)", ""},
		{"data:text/html,x", ""},
		{"//evil.example", ""},
		{"https://", ""},
		{"", ""},
		{"https://gitlab.example.com/" + strings.Repeat("x", 2000), ""},
		{"https://gitlab.example.com/\x00", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			got, ok := safeURL(tt.in, 1000)
			if got != tt.want && (ok || tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, tt.want)
			}
		})
	}
}

func FuzzRender(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s, 3)
	}
	srv, err := slacktest.New(slacktest.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(srv.Close)
	f.Fuzz(func(t *testing.T, s string, n int) {
		s = strings.Repeat(s, 1+max(0, n%50))
		p, err := render(chat.Message{Summary: s, Blocks: []chat.Block{
			{Kind: chat.Heading, Text: plainText(s)},
			{Kind: chat.Paragraph, Text: chat.Text{{Text: s}, {Style: chat.Bold, Text: s}, {Style: chat.Mention, User: s, Text: s}}},
			{Kind: chat.Fields, Fields: []chat.Entry{{Label: s, Text: chat.Text{{Style: chat.Mono, Text: s}, {Text: s}}}}},
			{Kind: chat.Code, Code: s},
			{Kind: chat.Context, Text: plainText(s)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		msg := stored(t, p)
		if problems := slacktest.ValidateMessage(msg.Blocks); len(problems) != 0 {
			t.Errorf("Slack would refuse this: %v", problems)
		}
		for _, tok := range srv.LiveTokens(msg) {
			if tok.Kind != slacktest.UserMention || !validID(s, "UW") {
				t.Errorf("foreign text became %+v", tok)
			}
		}
	})
}
