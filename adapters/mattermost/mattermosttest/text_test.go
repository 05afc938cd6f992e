package mattermosttest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/mattermost/mattermosttest"
)

// LiveMentions itself is held against the server by the contract.
func TestLiveText(t *testing.T) {
	t.Parallel()
	type live = mattermosttest.Live
	for _, tt := range []struct {
		name, text string
		want       live
	}{
		{"nothing", "plain text", live{}},
		{"mentions once each", "@bob @alice @bob", live{Mentions: []string{"alice", "bob"}}},
		{"a link", "[x](https://a.example/b)", live{Links: []string{"https://a.example/b"}}},
		{"a bare address", "see https://a.example/b.", live{Links: []string{"https://a.example/b"}}},
		{"an image", "![x](https://a.example/p.png)", live{Images: []string{"https://a.example/p.png"}}},
		{"a reference", "[x][1]\n\n[1]: https://a.example", live{Links: []string{"https://a.example"}}},
		{"hashtags", "#one (#two) a#three #4", live{Hashtags: []string{"#one", "#two"}}},
		{"a channel", "see ~town-square.", live{Channels: []string{"town-square"}}},
		{"all of it in code", "`@bob #one ~chan https://a.example ![x](y)`", live{}},
		{"all of it in a fence", "```\n@bob #one ~chan\n[x](y)\n```", live{}},
		{"escaped link", `\[x](y)`, live{}},
		{"home is no channel", "~/.ssh a~b", live{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, mattermosttest.LiveText(mattermosttest.Post{Message: tt.text})); diff != "" {
				t.Errorf("%q (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

func TestLiveTextLooksIntoAttachments(t *testing.T) {
	t.Parallel()
	p := mattermosttest.Post{Props: map[string]any{"attachments": []any{map[string]any{
		"title": "@dead [t](https://title.example)", "text": "@text", "pretext": "@pretext", "footer": "https://footer.example",
		"fields": []any{map[string]any{"title": "#field", "value": "@value"}},
	}}}}
	want := mattermosttest.Live{
		Mentions: []string{"pretext", "text", "value"},
		Links:    []string{"https://footer.example", "https://title.example"},
		Hashtags: []string{"#field"},
	}
	if diff := cmp.Diff(want, mattermosttest.LiveText(p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	p := mattermosttest.Post{Message: "deploy demo", Props: map[string]any{"attachments": []*mattermosttest.Attachment{{
		Title: "running", Text: "2 of 5", Fallback: "not shown",
		Fields: []*mattermosttest.Field{{Title: "who", Value: "alice"}},
		Actions: []mattermosttest.Action{
			{ID: "a", Type: "button", Name: "Cancel"},
			{ID: "b", Type: "select", Name: "Logs", Options: []mattermosttest.Option{{Text: "build", Value: "1"}}},
		},
	}}}}
	const want = "deploy demo\nrunning\n2 of 5\nwho: alice\n[Cancel] <Logs | build>"
	if got := mattermosttest.Read(p); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
