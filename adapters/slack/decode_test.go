package slack

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzDecodeCommand compares the small decoder with the standard library's.
func FuzzDecodeCommand(f *testing.F) {
	for _, s := range []string{
		"", "&", "=", "team_id=T1&user_id=U1&channel_id=C1&text=deploy+demo&trigger_id=1.2.3", "text=%3C%40U1%3E%26amp%3B", "text=%zz", "text=a&text=b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c, err := decodeCommand(body)
		if err != nil {
			return
		}
		_ = commandText(c.Text)
		want, err := url.ParseQuery(body)
		if err != nil || len(want["text"]) != 1 || strings.Contains(body, ";") {
			return // a name we do not read is malformed, or a field is doubled
		}
		if c.Text != want.Get("text") {
			t.Errorf("got text %q, want %q", c.Text, want.Get("text"))
		}
	})
}

// FuzzInteraction lets any payload run through everything that happens after verification.
func FuzzInteraction(f *testing.F) {
	for _, name := range []string{
		"block_actions_button_message.json", "block_actions_button_thread.json", "block_suggestion.json",
		"view_submission.json", "view_submission_inputs.json", "view_closed.json", "shortcut_message.json",
	} {
		f.Add(string(fixture(f, name)))
	}
	f.Add(`{"type":"view_submission","team":{"id":"T111"},"user":{"id":"U1"}}`)
	f.Add(`{"type":"block_actions","team":null,"enterprise":{"id":"T111"},"user":{"id":"U1"},"actions":[{"type":"button","value":"x"}]}`)
	a, _ := newTest(f, silent)
	f.Fuzz(func(t *testing.T, payload string) {
		in, err := decodeInteraction([]byte(payload))
		if err != nil {
			return
		}
		o := a.handleInteraction(t.Context(), origin{teams: a.workspaces, key: "k"}, in)
		if o.refused == "" && a.workspaces[teamOf(in)] == nil {
			t.Errorf("handled for a workspace that is not ours")
		}
	})
}

func teamOf(in *interaction) string {
	t, e := in.claims()
	if t == "T111" {
		return t
	}
	return e
}
