package mattermost

import (
	"strings"
	"testing"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/mattermost/mattermosttest"
)

// FuzzForeign puts any text into every place of a message: nothing may come of it but text.
func FuzzForeign(f *testing.F) {
	for _, s := range chattest.Hostile() {
		f.Add(s, "x")
		f.Add("a", s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		texts, i := []string{a, b}, 0
		m := hostileMessage(func() string { i++; return texts[i%2] })
		post := asPost(t, renderMessage(m, testNames(), testIntegration))
		if bad := alive(post); len(bad) > 0 {
			t.Errorf("%q and %q: %v came alive in\n%s", a, b, bad, mattermosttest.Read(post))
		}
		text := mattermosttest.Post{Message: renderText(m, testNames())}
		if bad := alive(text); len(bad) > 0 {
			t.Errorf("%q and %q: %v came alive in the text\n%s", a, b, bad, text.Message)
		}
		l := layout{room: maxText}
		for _, line := range []string{l.text(chat.Text{{Text: a}}, maxText), l.text(chat.Text{{Text: ""}, {Text: a}}, maxText)} {
			if sign, bare := unescaped(line); bare {
				t.Errorf("%q became %q, in which %q formats", a, line, sign)
			}
		}
	})
}

// unescaped looks for a character that makes Markdown and has no backslash of its own before it.
func unescaped(line string) (sign rune, found bool) {
	escaped := false
	for _, r := range line {
		if !escaped && strings.ContainsRune("*_`[]|~", r) {
			return r, true
		}
		escaped = r == '\\' && !escaped
	}
	return 0, false
}
