package slacktest_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/slack-go/slack"

	"ocim/adapters/slack/slacktest"
)

func x(n int) string { return strings.Repeat("x", n) }

// many repeats a JSON value n times inside a list; %d is the index.
func many(n int, format string) string {
	var items []string
	for i := range n {
		items = append(items, strings.ReplaceAll(format, "%d", fmt.Sprint(i)))
	}
	return "[" + strings.Join(items, ",") + "]"
}

const (
	plainX   = `{"type":"plain_text","text":"x"}`
	anOption = `{"text":{"type":"plain_text","text":"o%d"},"value":"v%d"}`
)

// TestLimitsOfMessages holds every limit from both sides: what fits is taken, one more is refused
// at the right place. The limits are those named in validate.go and shapes.go.
func TestLimitsOfMessages(t *testing.T) {
	t.Parallel()
	divider := `{"type":"divider"}`
	sec := func(text string) string {
		return `[{"type":"section","text":{"type":"mrkdwn","text":"` + text + `"}}]`
	}
	header := func(text string) string {
		return `[{"type":"header","text":{"type":"plain_text","text":"` + text + `"}}]`
	}
	actions := func(elements string) string { return `[{"type":"actions","elements":` + elements + `}]` }
	btn := func(more string) string {
		return actions(`[{"type":"button","action_id":"a","text":` + plainX + more + `}]`)
	}
	label := func(n int) string {
		return actions(`[{"type":"button","text":{"type":"plain_text","text":"` + x(n) + `"}}]`)
	}
	menu := func(more string) string { return actions(`[{"type":"static_select","action_id":"a",` + more + `}]`) }
	value := func(n int) string {
		return menu(`"options":[{"text":` + plainX + `,"value":"` + x(n) + `"}]`)
	}
	confirm := func(title, text, deny int) string {
		return btn(fmt.Sprintf(`,"confirm":{"title":{"type":"plain_text","text":%q},"text":{"type":"mrkdwn","text":%q},"confirm":%s,"deny":{"type":"plain_text","text":%q}}`,
			x(title), x(text), plainX, x(deny)))
	}
	tests := []struct{ name, good, bad, pointer string }{
		{"blocks", many(50, divider), many(51, divider), "/blocks"},
		{"section text", sec(x(3000)), sec(x(3001)), "/blocks/0/text/text"},
		{"empty text", sec("x"), sec(""), "/blocks/0/text/text"},
		{"characters, not bytes", sec(strings.Repeat("ü", 3000)), sec(strings.Repeat("ü", 3001)), "/blocks/0/text/text"},
		{"header", header(x(150)), header(x(151)), "/blocks/0/text/text"},
		{"header is plain", header("x"), `[{"type":"header","text":{"type":"mrkdwn","text":"x"}}]`, "/blocks/0/text/type"},
		{"fields", `[{"type":"section","fields":` + many(10, plainX) + `}]`, `[{"type":"section","fields":` + many(11, plainX) + `}]`, "/blocks/0/fields"},
		{"field text", `[{"type":"section","fields":[{"type":"mrkdwn","text":"` + x(2000) + `"}]}]`, `[{"type":"section","fields":[{"type":"mrkdwn","text":"` + x(2001) + `"}]}]`, "/blocks/0/fields/0/text"},
		{"section with neither", sec("x"), `[{"type":"section"}]`, "/blocks/0"},
		{"context", `[{"type":"context","elements":` + many(10, plainX) + `}]`, `[{"type":"context","elements":` + many(11, plainX) + `}]`, "/blocks/0/elements"},
		{"actions", actions(many(25, `{"type":"button","action_id":"a%d","text":`+plainX+`}`)), actions(many(26, `{"type":"button","action_id":"a%d","text":`+plainX+`}`)), "/blocks/0/elements"},
		{"no actions", btn(""), actions("[]"), "/blocks/0/elements"},
		{"block id", `[{"type":"divider","block_id":"` + x(255) + `"}]`, `[{"type":"divider","block_id":"` + x(256) + `"}]`, "/blocks/0/block_id"},
		{"same block id", many(2, `{"type":"divider","block_id":"b%d"}`), many(2, `{"type":"divider","block_id":"b"}`), "/blocks/1/block_id"},
		{"action id", actions(`[{"type":"button","action_id":"` + x(255) + `","text":` + plainX + `}]`), actions(`[{"type":"button","action_id":"` + x(256) + `","text":` + plainX + `}]`), "/blocks/0/elements/0/action_id"},
		{"same action id", actions(many(2, `{"type":"button","action_id":"a%d","text":`+plainX+`}`)), actions(many(2, `{"type":"button","action_id":"a","text":`+plainX+`}`)), "/blocks/0/elements/1/action_id"},
		{"button label", label(75), label(76), "/blocks/0/elements/0/text/text"},
		{"button value", btn(`,"value":"` + x(2000) + `"`), btn(`,"value":"` + x(2001) + `"`), "/blocks/0/elements/0/value"},
		{"button url", btn(`,"url":"` + x(3000) + `"`), btn(`,"url":"` + x(3001) + `"`), "/blocks/0/elements/0/url"},
		{"button style", btn(`,"style":"danger"`), btn(`,"style":"warning"`), "/blocks/0/elements/0/style"},
		{"unknown field", btn(""), btn(`,"tooltip":"x"`), "/blocks/0/elements/0"},
		{"options", menu(`"options":` + many(100, anOption)), menu(`"options":` + many(101, anOption)), "/blocks/0/elements/0/options"},
		{"options or groups", menu(`"options":` + many(1, anOption)), menu(`"placeholder":` + plainX), "/blocks/0/elements/0"},
		{"groups", menu(`"option_groups":` + many(100, `{"label":`+plainX+`,"options":`+many(1, anOption)+`}`)), menu(`"option_groups":` + many(101, `{"label":`+plainX+`,"options":`+many(1, anOption)+`}`)), "/blocks/0/elements/0/option_groups"},
		{"option value", value(75), value(76), "/blocks/0/elements/0/options/0/value"},
		{"placeholder", menu(`"options":` + many(1, anOption) + `,"placeholder":{"type":"plain_text","text":"` + x(150) + `"}`), menu(`"options":` + many(1, anOption) + `,"placeholder":{"type":"plain_text","text":"` + x(151) + `"}`), "/blocks/0/elements/0/placeholder/text"},
		{"overflow", actions(`[{"type":"overflow","options":` + many(5, anOption) + `}]`), actions(`[{"type":"overflow","options":` + many(6, anOption) + `}]`), "/blocks/0/elements/0/options"},
		{"checkboxes", actions(`[{"type":"checkboxes","options":` + many(10, anOption) + `}]`), actions(`[{"type":"checkboxes","options":` + many(11, anOption) + `}]`), "/blocks/0/elements/0/options"},
		{"confirm title", confirm(100, 300, 30), confirm(101, 300, 30), "/blocks/0/elements/0/confirm/title/text"},
		{"confirm text", confirm(1, 300, 30), confirm(1, 301, 30), "/blocks/0/elements/0/confirm/text/text"},
		{"confirm button", confirm(1, 1, 30), confirm(1, 1, 31), "/blocks/0/elements/0/confirm/deny/text"},
		{"unknown block", many(1, divider), `[{"type":"sections"}]`, "/blocks/0/type"},
		{"unknown element", btn(""), actions(`[{"type":"slider"}]`), "/blocks/0/elements/0/type"},
		{"element in the wrong place", btn(""), actions(`[{"type":"plain_text_input"}]`), "/blocks/0/elements/0/type"},
		{"markdown", `[{"type":"markdown","text":"` + x(12000) + `"}]`, `[{"type":"markdown","text":"` + x(12001) + `"}]`, "/blocks/0/text"},
		{"image without alt", `[{"type":"image","image_url":"https://x.example/a.png","alt_text":"a"}]`, `[{"type":"image","image_url":"https://x.example/a.png"}]`, "/blocks/0"},
		{"rich text", `[{"type":"rich_text","elements":[{"type":"rich_text_preformatted","elements":[{"type":"text","text":"log"}]}]}]`, `[{"type":"rich_text","elements":[{"type":"rich_text_preformatted","elements":[{"type":"text","text":""}]}]}]`, "/blocks/0/elements/0/elements/0/text"},
	}
	w := newWorld(t)
	for _, tt := range tests {
		for _, side := range []struct{ name, blocks, want string }{{"good", tt.good, ""}, {"bad", tt.bad, tt.pointer}} {
			var blocks []slacktest.Object
			if err := json.Unmarshal([]byte(side.blocks), &blocks); err != nil {
				t.Fatalf("%s, %s: %v", tt.name, side.name, err)
			}
			problems := slacktest.ValidateMessage(blocks)
			if side.want == "" && len(problems) > 0 || side.want != "" && !points(problems, side.want) {
				t.Errorf("%s, %s: got %v, want a problem at %q", tt.name, side.name, problems, side.want)
			}
			_, answer := w.form(t, "chat.postMessage", "channel="+ops+"&blocks="+url.QueryEscape(side.blocks))
			if (answer["ok"] == true) != (side.want == "") {
				t.Errorf("%s, %s: got %.200v from the server", tt.name, side.name, answer)
			}
		}
	}
}

func points(problems []slacktest.Problem, at string) bool {
	for _, p := range problems {
		if p.Pointer == at {
			return true
		}
	}
	return false
}

func TestTextLimitsOfWholeMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := within(t)
	code := func(options ...slack.MsgOption) string {
		_, _, err := w.api.PostMessageContext(ctx, ops, options...)
		if err != nil {
			return err.Error()
		}
		return ""
	}
	blocks := func(lengths ...int) slack.MsgOption {
		var out []slack.Block
		for _, n := range lengths {
			out = append(out, section(x(n)))
		}
		return slack.MsgOptionBlocks(out...)
	}
	if got := code(blocks(3000, 3000, 3000, 3000, 1200)); got != "" {
		t.Errorf("got %q for 13,200 characters, want none", got)
	}
	if got, want := code(blocks(3000, 3000, 3000, 3000, 1201)), "msg_blocks_too_long"; got != want {
		t.Errorf("got %q for 13,201 characters, want %q", got, want)
	}
	ts := w.post(t, slack.MsgOptionText(x(40001), false))
	if m, _ := w.Message(ops, ts); len(m.Text) != 40000 {
		t.Errorf("got %d characters kept, want 40000", len(m.Text))
	}
	if _, _, _, err := w.api.UpdateMessageContext(ctx, ops, ts, slack.MsgOptionText(x(4000), false)); err != nil {
		t.Errorf("got %v for an update of 4,000 characters, want none", err)
	}
	attachments := make([]slack.Attachment, 101)
	if got, want := code(slack.MsgOptionAttachments(attachments...)), "too_many_attachments"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLimitsOfViews(t *testing.T) {
	t.Parallel()
	modal := func(more, blocks string) string {
		return `{"type":"modal","title":` + plainX + more + `,"blocks":` + blocks + `}`
	}
	input := func(more string) string {
		return modal(`,"submit":`+plainX, `[{"type":"input","label":`+plainX+`,"element":{"type":"plain_text_input","action_id":"a"}`+more+`}]`)
	}
	text := func(n int) string { return `{"type":"plain_text","text":"` + x(n) + `"}` }
	divider := `{"type":"divider"}`
	tests := []struct{ name, good, bad, pointer string }{
		{"blocks", modal("", many(100, divider)), modal("", many(101, divider)), "/view/blocks"},
		{"home blocks", `{"type":"home","blocks":` + many(100, divider) + `}`, `{"type":"home","blocks":` + many(101, divider) + `}`, "/view/blocks"},
		{"title", `{"type":"modal","title":` + text(24) + `,"blocks":[]}`, `{"type":"modal","title":` + text(25) + `,"blocks":[]}`, "/view/title/text"},
		{"no title", modal("", "[]"), `{"type":"modal","blocks":[]}`, "/view"},
		{"title on a home tab", `{"type":"home","blocks":[]}`, `{"type":"home","title":` + plainX + `,"blocks":[]}`, "/view"},
		{"submit", modal(`,"submit":`+text(24), "[]"), modal(`,"submit":`+text(25), "[]"), "/view/submit/text"},
		{"close", modal(`,"close":`+text(24), "[]"), modal(`,"close":`+text(25), "[]"), "/view/close/text"},
		{"metadata", modal(`,"private_metadata":"`+x(3000)+`"`, "[]"), modal(`,"private_metadata":"`+x(3001)+`"`, "[]"), "/view/private_metadata"},
		{"callback id", modal(`,"callback_id":"`+x(255)+`"`, "[]"), modal(`,"callback_id":"`+x(256)+`"`, "[]"), "/view/callback_id"},
		{"external id", modal(`,"external_id":"`+x(255)+`"`, "[]"), modal(`,"external_id":"`+x(256)+`"`, "[]"), "/view/external_id"},
		{"input without submit", input(""), modal("", `[{"type":"input","label":`+plainX+`,"element":{"type":"plain_text_input"}}]`), "/view"},
		{"hint", input(`,"hint":` + text(2000)), input(`,"hint":` + text(2001)), "/view/blocks/0/hint/text"},
		{"unknown type", modal("", "[]"), `{"type":"dialog","blocks":[]}`, "/view/type"},
	}
	for _, tt := range tests {
		if problems := slacktest.ValidateView(decode[slacktest.Object](t, []byte(tt.good))); len(problems) > 0 {
			t.Errorf("%s: got %v, want none", tt.name, problems)
		}
		if problems := slacktest.ValidateView(decode[slacktest.Object](t, []byte(tt.bad))); !points(problems, tt.pointer) {
			t.Errorf("%s: got %v, want a problem at %s", tt.name, problems, tt.pointer)
		}
	}
}
