package mattermost

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/ops"
)

const (
	// maxText is the room for one message's text, in runes. Mattermost takes 16,383 in a message
	// (model.PostMessageMaxRunesV2) and more in an attachment, which clients then fold.
	maxText       = 12_000
	maxFieldText  = 1_000
	maxFields     = 24
	maxFooter     = 300 // Mattermost: longer footers are cut by clients
	maxButtons    = 20
	maxButtonName = 30
	maxMentions   = 20
	// keyProp is where a post carries [chat.Message].Key.
	keyProp = "ocim_key"
)

// purposeAction seals what a button carries beside the handler's own token.
const purposeAction ops.Purpose = "mattermost-action"

// binding is where a button counts: in one channel, and for one person if user is set, which it is
// on a message that only this person sees.
type binding struct{ channel, user string }

// rendered is a message as Mattermost takes it. At most one attachment.
type rendered struct {
	message     string
	attachments []*model.MessageAttachment
}

// editable moves the heading from the post's text into its attachment, where there is one. It looks
// the same there; but a server with a PostEditTimeLimit refuses later edits of the text alone
// (Mattermost: api4.postPatchChecks), and notifications show the attachment's fallback.
func (p rendered) editable() rendered {
	if len(p.attachments) == 0 {
		return p
	}
	first := *p.attachments[0]
	first.Pretext = p.message
	return rendered{attachments: append([]*model.MessageAttachment{&first}, p.attachments[1:]...)}
}

// props are a post's properties. They are always sent whole: a patch replaces all of them, and
// what is read back from a server has lost what its buttons do.
func (p rendered) props(key string) model.StringInterface {
	props := model.StringInterface{"from_bot": "true"}
	if key != "" {
		props[keyProp] = key
	}
	if len(p.attachments) > 0 {
		props["attachments"] = p.attachments
	}
	return props
}

// render makes a message with its buttons, after a look at the names of those it mentions.
func (s *server) render(ctx context.Context, signer *ops.Signer, m chat.Message, b binding) rendered {
	names := s.usernames(ctx, mentioned(m))
	return renderMessage(m, names, func(button chat.Button) *model.PostActionIntegration {
		return &model.PostActionIntegration{
			URL: s.callback(actionsRoute),
			Context: map[string]any{
				"t": button.Token,
				"m": sealAction(signer, s.Name, button.Token, b),
			},
		}
	})
}

// renderMessage lays a message out: its heading and, if nothing needs more, all of it as the post's
// own text; else the rest as one coloured attachment.
func renderMessage(m chat.Message, names map[string]string, integration func(chat.Button) *model.PostActionIntegration) rendered {
	l := layout{names: names, room: maxText}
	var out rendered
	blocks := m.Blocks
	if len(blocks) > 0 && blocks[0].Kind == chat.Heading {
		out.message = l.heading(blocks[0])
		blocks = blocks[1:]
	}
	if len(m.Blocks) == 0 {
		out.message = l.text(chat.Text{{Text: m.Summary}}, maxText)
	}
	a := &model.MessageAttachment{
		Fallback: chat.Cut(chat.Clean(m.Summary), 500),
		Color:    color(m.Tone),
		Actions:  actions(m.Buttons, integration),
	}
	a.Footer = footer(blocks)
	if a.Footer != "" {
		blocks = blocks[:len(blocks)-1]
	}
	var texts []string
	for _, b := range blocks {
		if b.Kind == chat.Fields {
			a.Fields = append(a.Fields, l.fields(b)...)
			continue
		}
		texts = append(texts, l.block(b))
	}
	texts = append(texts, linkButtons(m.Buttons))
	body := join(texts)
	if len(a.Fields)+len(a.Actions) == 0 && a.Footer == "" && (m.Tone == chat.ToneNeutral || body == "") {
		out.message = join([]string{out.message, body})
		return out
	}
	a.Text = body
	out.attachments = []*model.MessageAttachment{a}
	return out
}

// renderText is a message as Markdown alone, for the places that take no attachment. Buttons are
// left out.
func renderText(m chat.Message, names map[string]string) string {
	l := layout{names: names, room: maxText}
	var texts []string
	for _, b := range m.Blocks {
		switch b.Kind {
		case chat.Heading:
			texts = append(texts, l.heading(b))
		case chat.Fields:
			var lines []string
			for _, f := range l.fields(b) {
				lines = append(lines, "**"+f.Title+":** "+f.Value.(string))
			}
			texts = append(texts, strings.Join(lines, "\n"))
		default:
			texts = append(texts, l.block(b))
		}
	}
	if len(m.Blocks) == 0 {
		texts = append(texts, l.text(chat.Text{{Text: m.Summary}}, maxText))
	}
	return join(append(texts, linkButtons(m.Buttons)))
}

func join(texts []string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "\n\n")
}

// layout writes blocks while there is room.
type layout struct {
	names map[string]string
	room  int // runes left
}

func (l *layout) take(s string) string {
	l.room = max(0, l.room-utf8.RuneCountInString(s)-2)
	return s
}

func (l *layout) heading(b chat.Block) string {
	text := make(chat.Text, len(b.Text))
	for i, s := range b.Text {
		if text[i] = s; s.Style == chat.Plain {
			text[i].Style = chat.Bold
		}
	}
	return l.take(l.text(text, 500))
}

func (l *layout) block(b chat.Block) string {
	if l.room < 20 {
		return ""
	}
	switch b.Kind {
	case chat.Code:
		// The fences and line breaks need some room of their own, and a fence grows with
		// what it holds. The end of a log says most.
		for n := l.room - 10; n > 0; n /= 2 {
			if s := codeBlock(chat.CutFront(b.Code, n)); utf8.RuneCountInString(s) <= l.room {
				return l.take(s)
			}
		}
		return ""
	case chat.Divider:
		return l.take("---")
	case chat.Heading:
		return l.heading(b)
	default:
		return l.take(l.text(b.Text, l.room))
	}
}

func (l *layout) fields(b chat.Block) []*model.MessageAttachmentField {
	var out []*model.MessageAttachmentField
	for _, e := range b.Fields {
		if l.room < 20 || len(out) == maxFields {
			break
		}
		var title strings.Builder
		escape(&title, chat.Cut(e.Label, 80), 0, 0)
		value := l.take(l.text(e.Text, min(l.room, maxFieldText)))
		out = append(out, &model.MessageAttachmentField{Title: title.String(), Value: value, Short: true})
	}
	return out
}

// text writes spans in at most limit runes. Text is cut before it is escaped, so that no escape is
// ever cut in half.
func (l *layout) text(t chat.Text, limit int) string {
	for each := limit; each > 0; each /= 2 {
		if s := l.spans(t, each); utf8.RuneCountInString(s) <= limit {
			return s
		}
	}
	return ""
}

func (l *layout) spans(t chat.Text, each int) string {
	var b strings.Builder
	for i, s := range t {
		s.Text = chat.Cut(s.Text, each)
		next := rune(0)
		for _, after := range t[i+1:] {
			if after.Style == chat.Break {
				break
			}
			if after.Style != chat.Plain {
				next = boundary
				break
			}
			if c := chat.Clean(after.Text); c != "" {
				next, _ = utf8.DecodeRuneInString(c)
				break
			}
		}
		l.span(&b, s, next)
	}
	return strings.TrimRight(b.String(), " \n")
}

func (l *layout) span(b *strings.Builder, s chat.Span, next rune) {
	prev, _ := utf8.DecodeLastRuneInString(b.String())
	if b.Len() == 0 || prev == '\n' { // the start of a line
		prev = 0
	}
	switch s.Style {
	case chat.Break:
		b.WriteString("\n") // shown as a line break, unlike in plain Markdown
	case chat.Bold:
		l.wrapped(b, "**", s.Text, prev)
	case chat.Italic:
		// The web client ends emphasis at the next asterisk, escaped or in code as it may be:
		// only words that need no escape are safe between two.
		if !words(s.Text) {
			escape(b, s.Text, prev, next)
			return
		}
		l.wrapped(b, "*", s.Text, prev)
	case chat.Mono:
		if strings.HasSuffix(b.String(), "`") {
			b.WriteString(zwsp)
		}
		b.WriteString(codeSpan(s.Text))
	case chat.Link:
		target := linkTarget(s.URL)
		if target == "" {
			escape(b, s.Text, prev, next)
			return
		}
		b.WriteString("[")
		escape(b, nonEmpty(s.Text), 'x', boundary)
		b.WriteString("](" + target + ")")
	case chat.Mention:
		name := l.names[s.User]
		if name == "" {
			escape(b, s.Text, prev, next)
			return
		}
		if prev != 0 && prev != ' ' {
			b.WriteString(zwsp)
		}
		b.WriteString("@" + name)
		if next != 0 && next != ' ' { // or what follows would become part of the name
			b.WriteString(zwsp)
		}
	default:
		escape(b, s.Text, prev, next)
	}
}

// wrapped writes text between marks. Spaces go outside: a mark next to one is not a mark.
func (l *layout) wrapped(b *strings.Builder, mark, text string, prev rune) {
	text = chat.Clean(text)
	inner := strings.TrimSpace(text)
	if inner == "" {
		b.WriteString(text)
		return
	}
	if text[0] == ' ' && prev != 0 {
		b.WriteByte(' ')
	} else if prev == '*' {
		b.WriteString(zwsp)
	}
	b.WriteString(mark)
	escape(b, inner, 'x', boundary)
	b.WriteString(mark)
	if text[len(text)-1] == ' ' {
		b.WriteByte(' ')
	}
}

// words reports whether a text is nothing but letters, digits, spaces and commas, with a letter or
// digit at both ends.
func words(text string) bool {
	word := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	return word(first) && word(last) && !strings.ContainsFunc(text, func(r rune) bool { return !word(r) && r != ' ' && r != ',' })
}

func nonEmpty(label string) string {
	if strings.TrimSpace(chat.Clean(label)) == "" {
		return "link"
	}
	return label
}

func color(t chat.Tone) string {
	switch t {
	case chat.ToneBusy:
		return "#1c58d9"
	case chat.ToneGood:
		return "#3db887"
	case chat.ToneBad:
		return "#d24b4e"
	case chat.ToneWarn:
		return "#ffbc1f"
	case chat.ToneNeutral:
	}
	return ""
}

// footer is the text of a last Context block, if a footer can show it. Web clients show a footer as
// plain text and others may not, so it must be the same text either way, on one line.
func footer(blocks []chat.Block) string {
	if len(blocks) == 0 || blocks[len(blocks)-1].Kind != chat.Context {
		return ""
	}
	t := blocks[len(blocks)-1].Text
	if slices.ContainsFunc(t, func(s chat.Span) bool {
		return s.Style == chat.Link || s.Style == chat.Mention || s.Style == chat.Break
	}) {
		return ""
	}
	text := strings.TrimSpace(chat.Clean(t.String()))
	var escaped strings.Builder
	escape(&escaped, text, 0, 0)
	if escaped.String() != text || utf8.RuneCountInString(text) > maxFooter {
		return ""
	}
	return text
}

// actions are the buttons that come back to us. A click is refused by Mattermost unless the id is
// letters and digits only.
func actions(buttons []chat.Button, integration func(chat.Button) *model.PostActionIntegration) []*model.PostAction {
	var out []*model.PostAction
	seen := map[string]int{}
	for _, b := range buttons {
		if b.Token == "" || len(out) == maxButtons {
			continue
		}
		id := strings.Map(func(r rune) rune {
			if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
				return r
			}
			return -1
		}, b.Verb)
		if id == "" {
			id = "button"
		}
		if seen[id]++; seen[id] > 1 {
			id += "n" + strconv.Itoa(seen[id])
		}
		style := "default"
		if b.Style != chat.ButtonPlain {
			style = string(b.Style)
		}
		out = append(out, &model.PostAction{
			Id: id, Type: model.PostActionTypeButton, Name: chat.Cut(nonEmpty(chat.Clean(b.Label)), maxButtonName),
			Style: style, Integration: integration(b),
		})
	}
	return out
}

// linkButtons are the buttons that only open an address; Mattermost has no such buttons.
func linkButtons(buttons []chat.Button) string {
	var out []string
	for _, b := range buttons {
		if target := linkTarget(b.URL); b.Token == "" && target != "" {
			var label strings.Builder
			escape(&label, nonEmpty(b.Label), 'x', boundary)
			out = append(out, "["+label.String()+"]("+target+")")
		}
	}
	return strings.Join(out, " · ")
}

func mentioned(m chat.Message) []string {
	var ids []string
	add := func(t chat.Text) {
		for _, s := range t {
			if s.Style == chat.Mention && s.User != "" && len(ids) < maxMentions && !slices.Contains(ids, s.User) {
				ids = append(ids, s.User)
			}
		}
	}
	for _, b := range m.Blocks {
		add(b.Text)
		for _, f := range b.Fields {
			add(f.Text)
		}
	}
	return ids
}

// boundAction is what [sealAction] seals.
type boundAction struct {
	Server  string `json:"s"`
	Channel string `json:"c"`
	Token   string `json:"t"` // digest
	User    string `json:"u,omitempty"`
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sealAction binds a button's token to the place where the button stands.
func sealAction(signer *ops.Signer, server, token string, b binding) string {
	text, _ := json.Marshal(boundAction{server, b.channel, digest(token), b.user}) // strings always encode
	return signer.Seal(purposeAction, text)
}

// openAction returns whom a button is bound to, empty for everybody in the channel.
func openAction(signer *ops.Signer, server, channel, token, sealed string) (user string, err error) {
	text, err := signer.Open(purposeAction, sealed)
	if err != nil {
		return "", err
	}
	var got boundAction
	if err := json.Unmarshal(text, &got); err != nil {
		return "", err
	}
	if got.Server != server || got.Channel != channel || got.Token != digest(token) {
		return "", errors.New("bound to another place")
	}
	return got.User, nil
}
