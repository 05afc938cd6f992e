package slack

import (
	"regexp"
	"strings"
	"testing"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/slack/slacktest"
)

// FuzzForeign puts any text into every place of a message and of its mrkdwn: nothing may come of it
// but text.
func FuzzForeign(f *testing.F) {
	for _, s := range chattest.Hostile() {
		f.Add(s, "x")
		f.Add("a", s)
	}
	srv, err := slacktest.New(slacktest.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(srv.Close)
	f.Fuzz(func(t *testing.T, a, b string) {
		t.Helper()
		text := chat.Text{{Text: a}, {Style: chat.Mention, Text: b, User: a}, {Style: chat.Link, Text: b, URL: "x:" + a}, {Text: b}}
		m := chat.Message{
			Summary: a,
			Blocks: []chat.Block{
				{Kind: chat.Heading, Text: chat.Text{{Text: b}}},
				{Kind: chat.Paragraph, Text: text},
				{Kind: chat.Fields, Fields: []chat.Entry{{Label: a, Text: text}, {Label: b, Text: chat.Text{{Style: chat.Bold, Text: a}, {Style: chat.Mono, Text: b}}}}},
				{Kind: chat.Code, Code: a + "\n" + b},
				{Kind: chat.Context, Text: text},
			},
			Buttons: []chat.Button{{Label: "b" + a, Verb: b, Token: "t"}},
		}
		if !strings.HasPrefix(a, "U") && !strings.HasPrefix(a, "W") { // an id of a person would be one
			p, err := render(m)
			if err != nil {
				t.Fatalf("render: %v", err)
			}
			msg := stored(t, p)
			if problems := slacktest.ValidateMessage(msg.Blocks); len(problems) > 0 {
				t.Errorf("Slack would refuse this: %v", problems)
			}
			if live := srv.LiveTokens(msg); len(live) > 0 {
				t.Errorf("%q and %q became %+v", a, b, live)
			}
		}
		for _, line := range []string{mrkdwn(chat.Text{{Text: a}}, textSection), mrkdwn(chat.Text{{Text: ""}, {Text: " "}, {Text: a}}, textSection)} {
			for _, live := range styled() {
				if hit := live.FindString(line); hit != "" {
					t.Errorf("%q became %q, in which %q is formatted", a, line, hit)
				}
			}
		}
	})
}

// styled finds what mrkdwn formats: text between two equal signs that stand at the edges of words,
// emoji, and quotations. Source: docs.slack.dev, messaging/formatting-message-text.
func styled() []*regexp.Regexp {
	out := []*regexp.Regexp{
		regexp.MustCompile(":[a-z0-9_+'-]*[a-z][a-z0-9_+'-]*:"),
		regexp.MustCompile(`^\s*(?:>|&gt;)`),
		regexp.MustCompile("`"),
	}
	for _, sign := range []string{`\*`, "_", "~"} {
		out = append(out, regexp.MustCompile(`(?:^|[^\pL\pN])`+sign+`[^\s`+sign+`](?:[^`+sign+`]*[^\s`+sign+`])?`+sign+`(?:$|[^\pL\pN])`))
	}
	return out
}
