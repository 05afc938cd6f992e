package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	slackapi "github.com/slack-go/slack"

	"ocim/adapters/chat"
)

// Limits of messages, a little below Slack's own. Lengths count UTF-16 units, the largest of the
// units that Slack may mean by "characters". Sources: docs.slack.dev, reference/block-kit;
// @slack/types 3.2.0; the sum of all text was observed in slackapi/bolt-js#2509 (13,200).
const (
	maxBlocks      = 50
	maxText        = 12_000 // of all blocks of a message
	maxHeading     = 150
	maxSection     = 3000
	maxField       = 2000
	maxFields      = 10 // of a section
	maxFallback    = 3000
	maxButtonLabel = 75
	maxButtonValue = 2000
	maxLink        = 3000
	maxRow         = 25 // elements of an actions block
	maxFieldError  = 200

	textSection   = 2900 // what we put into a paragraph
	textField     = 1000
	textLabel     = 75
	textURL       = 1000
	textCodeFloor = 200 // left for code however long the rest is
)

// payload is a rendered message.
type payload struct {
	Text   string           // of notifications, escaped
	Blocks []slackapi.Block // the layout
}

// private is a message that only one person sees, as an answer to a command or for a response_url.
type private struct {
	Type    string           `json:"response_type"`
	Replace *bool            `json:"replace_original,omitempty"` // named only where it has a meaning
	Text    string           `json:"text"`
	Blocks  []slackapi.Block `json:"blocks"`
}

func (a *Adapter) private(m chat.Message) private {
	p := a.render(m)
	return private{Type: "ephemeral", Text: p.Text, Blocks: p.Blocks}
}

// form is the message as arguments of a call.
func (p private) form() (text, blocks string, err error) {
	return payload{Text: p.Text, Blocks: p.Blocks}.form()
}

// form is the message as arguments of a call.
func (p payload) form() (text, blocks string, err error) {
	b, err := json.Marshal(p.Blocks)
	return p.Text, string(b), err
}

// render lays a message out. Paragraphs and code become rich_text, in which nothing is parsed; only
// fields and small print are mrkdwn, escaped and verbatim. What exceeds Slack's limits is cut: code
// first and from its beginning, since the end of a log tells most. The result passes [Validate];
// an error means that a button could not work, or that something was not cut that should have been.
func render(m chat.Message) (payload, error) {
	rows, err := buttons(m.Buttons)
	if err != nil {
		return payload{}, err
	}
	r := renderer{left: maxText}
	for _, row := range rows {
		r.left -= textSize(row)
	}
	content := m.Blocks
	if len(content) == 0 {
		content = []chat.Block{{Kind: chat.Paragraph, Text: chat.Text{{Text: m.Summary}}}}
	}
	r.shareCode(content)
	for i, b := range content {
		r.block(b, i == 0, m.Tone)
	}
	room := maxBlocks - len(rows)
	if len(r.out) > room {
		r.out = append(r.out[:room-1], contextBlock("…"))
	}
	r.out = append(r.out, rows...)
	if len(r.out) == 0 {
		r.out = append(r.out, contextBlock("–"))
	}
	p := payload{Text: notification(m), Blocks: r.out}
	if err := Validate(p.Blocks); err != nil {
		return payload{}, err
	}
	return p, nil
}

// notification is the text of notifications, never empty.
func notification(m chat.Message) string {
	if text := escape(m.Summary, maxFallback); text != "" {
		return text
	}
	return "ocim"
}

// render is the message, or its summary alone if Slack would refuse the whole: better told in part
// than not at all.
func (a *Adapter) render(m chat.Message) payload {
	p, err := render(m)
	if err == nil {
		return p
	}
	a.log.Error("slack message cut down to its summary", "key", m.Key, "err", err)
	text := notification(m)
	section := slackapi.NewSectionBlock(plain(cut(chat.Clean(m.Summary), textSection)), nil, nil)
	if section.Text.Text == "" {
		section.Text.Text = text
	}
	return payload{Text: text, Blocks: []slackapi.Block{section}}
}

type renderer struct {
	out  []slackapi.Block
	left int // text that may still be used
	code int // text of each code block
}

// shareCode finds out how much text each code block may have after everything else.
func (r *renderer) shareCode(blocks []chat.Block) {
	rest, codes := r.left, 0
	for _, b := range blocks {
		if b.Kind == chat.Code {
			codes++
			continue
		}
		rest -= min(estimate(b), textSection)
	}
	if codes > 0 {
		r.code = max(rest/codes, textCodeFloor)
	}
}

// estimate is an upper bound of the text that a block takes once escaped, as far as it matters.
func estimate(b chat.Block) int {
	n := 8
	add := func(t chat.Text) {
		for _, s := range t {
			n += size(escape(s.Text, textSection)) + len(s.URL) + 8
		}
	}
	add(b.Text)
	for _, f := range b.Fields {
		n += 8 + len(f.Label)
		add(f.Text)
	}
	return n
}

// block appends one block, as far as there is text left.
func (r *renderer) block(b chat.Block, first bool, tone chat.Tone) {
	switch b.Kind {
	case chat.Heading:
		t := chat.Clean(b.Text.String())
		if first {
			t = prefix(tone, t)
		}
		if t = cut(t, min(maxHeading, r.left)); t != "" {
			r.add(slackapi.NewHeaderBlock(plain(t)))
		}
	case chat.Paragraph:
		if els := r.rich(b.Text); len(els) > 0 {
			r.add(slackapi.NewRichTextBlock("", slackapi.NewRichTextSection(els...)))
		}
	case chat.Fields:
		r.fields(b.Fields)
	case chat.Code:
		r.preformatted(b.Code)
	case chat.Context:
		if t := mrkdwn(b.Text, min(textSection, r.left)); t != "" {
			r.add(contextBlock(t))
		}
	case chat.Divider:
		r.add(slackapi.NewDividerBlock())
	}
}

func (r *renderer) add(b slackapi.Block) {
	r.left -= textSize(b)
	r.out = append(r.out, b)
}

// fields lays entries out in two columns, ten to a section.
func (r *renderer) fields(entries []chat.Entry) {
	var row []*slackapi.TextBlockObject
	used := 0
	flush := func() {
		if len(row) > 0 {
			r.add(slackapi.NewSectionBlock(nil, row, nil))
		}
		row, used = nil, 0
	}
	for _, e := range entries {
		label := "*" + escape(unstyled(chat.Clean(e.Label)), textLabel) + "*\n"
		room := min(textField, r.left-used-size(label))
		if room < 1 {
			break
		}
		value := mrkdwn(e.Text, room)
		if value == "" {
			value = "–"
		}
		used += size(label) + size(value)
		row = append(row, slackapi.NewTextBlockObject(slackapi.MarkdownType, label+value, false, true))
		if len(row) == maxFields {
			flush()
		}
	}
	flush()
}

// preformatted shows foreign lines as they are; rich_text knows no markup inside, so nothing needs
// escaping and backticks stay backticks.
func (r *renderer) preformatted(code string) {
	t := lastUnits(chat.CleanLines(code), min(r.code, r.left))
	if t == "" {
		return
	}
	r.add(slackapi.NewRichTextBlock("", &slackapi.RichTextPreformatted{
		Type:     slackapi.RTEPreformatted,
		Elements: []slackapi.RichTextSectionElement{slackapi.NewRichTextSectionTextElement(t, nil)},
	}))
}

// rich turns spans into elements of rich_text. A text that has to end early ends with an ellipsis.
func (r *renderer) rich(t chat.Text) []slackapi.RichTextSectionElement {
	room := min(textSection, r.left)
	out, whole := richSpans(t, room)
	if whole || room < 1 {
		return out
	}
	out, _ = richSpans(t, room-1)
	return append(out, slackapi.NewRichTextSectionTextElement("…", nil))
}

// richSpans takes spans as long as they fit into room, in which the address of a link counts too,
// and returns whether all of them did.
func richSpans(t chat.Text, room int) (out []slackapi.RichTextSectionElement, whole bool) {
	for _, s := range t {
		if s.Style == chat.Mention && validID(s.User, "UW") {
			if room < 1 {
				return out, false
			}
			out = append(out, slackapi.NewRichTextSectionUserElement(s.User, nil))
			continue
		}
		text := chat.Clean(s.Text)
		if s.Style == chat.Break {
			text = "\n"
		}
		if text == "" {
			continue
		}
		if s.Style == chat.Link {
			u, ok := safeURL(s.URL, textURL)
			if used := size(u) + size(text); ok && used <= room {
				out = append(out, slackapi.NewRichTextSectionLinkElement(u, text, nil))
				room -= used
				continue
			}
		}
		if size(text) > room {
			if room > 1 { // the rest of this span would leave no room for its ellipsis
				out = append(out, slackapi.NewRichTextSectionTextElement(strings.TrimSuffix(cut(text, room), "…"), richStyle(s.Style)))
			}
			return out, false
		}
		out = append(out, slackapi.NewRichTextSectionTextElement(text, richStyle(s.Style)))
		room -= size(text)
	}
	return out, true
}

func richStyle(s chat.Style) *slackapi.RichTextSectionTextStyle {
	switch s {
	case chat.Bold:
		return &slackapi.RichTextSectionTextStyle{Bold: true}
	case chat.Italic:
		return &slackapi.RichTextSectionTextStyle{Italic: true}
	case chat.Mono:
		return &slackapi.RichTextSectionTextStyle{Code: true}
	case chat.Plain, chat.Link, chat.Mention, chat.Break:
	}
	return nil
}

// prefix puts the tone's sign before a heading that does not begin with one.
func prefix(t chat.Tone, heading string) string {
	if r, _ := utf8.DecodeRuneInString(heading); unicode.Is(unicode.So, r) {
		return heading
	}
	switch t {
	case chat.ToneBusy:
		return "⏳ " + heading
	case chat.ToneGood:
		return "✅ " + heading
	case chat.ToneBad:
		return "❌ " + heading
	case chat.ToneWarn:
		return "⚠️ " + heading
	case chat.ToneNeutral:
	}
	return heading
}

// buttons makes rows of buttons. Ids are stable from edit to edit, so that a click under way while
// the message changes still finds its button.
func buttons(bs []chat.Button) ([]slackapi.Block, error) {
	var out []slackapi.Block
	var row []slackapi.BlockElement
	flush := func() {
		if len(row) > 0 {
			out = append(out, slackapi.NewActionBlock("ocim_actions_"+strconv.Itoa(len(out)), row...))
		}
		row = nil
	}
	for i, b := range bs {
		e, err := button(i, b)
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		row = append(row, e)
		if len(row) == maxRow {
			flush()
		}
	}
	flush()
	if len(out) >= maxBlocks {
		return nil, errors.New("too many buttons")
	}
	return out, nil
}

// button is nil for one that would only open an address that is not safe.
func button(i int, b chat.Button) (slackapi.BlockElement, error) {
	label := cut(chat.Clean(b.Label), maxButtonLabel)
	if label == "" {
		return nil, fmt.Errorf("button %d has no label", i)
	}
	if len(b.Token) > maxButtonValue {
		return nil, fmt.Errorf("button %d has a token of more than %d bytes", i, maxButtonValue)
	}
	e := slackapi.NewButtonBlockElement("ocim_"+letters(b.Verb)+"_"+strconv.Itoa(i), b.Token, plain(label))
	if b.URL != "" {
		u, ok := safeURL(b.URL, maxLink)
		if ok {
			e.URL = u
		} else if b.Token == "" {
			return nil, nil
		}
	}
	switch b.Style {
	case chat.ButtonPrimary:
		e.Style = slackapi.StylePrimary
	case chat.ButtonDanger:
		e.Style = slackapi.StyleDanger
	case chat.ButtonPlain:
	}
	return e, nil
}

// letters keeps what may stand in an action_id of ours.
func letters(s string) string {
	out := make([]byte, 0, len(s))
	for _, c := range []byte(s) {
		if (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_') && len(out) < 64 {
			out = append(out, c)
		}
	}
	return string(out)
}

// plain is a text in which Slack parses nothing, not even :emoji:.
func plain(s string) *slackapi.TextBlockObject {
	return slackapi.NewTextBlockObject(slackapi.PlainTextType, s, false, false)
}

// contextBlock is small print of text that is mrkdwn already.
func contextBlock(t string) slackapi.Block {
	return slackapi.NewContextBlock("", slackapi.NewTextBlockObject(slackapi.MarkdownType, t, false, true))
}
