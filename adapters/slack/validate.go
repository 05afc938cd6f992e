package slack

import (
	"errors"
	"fmt"

	slackapi "github.com/slack-go/slack"
)

// Validate checks the blocks of a message against Slack's limits, as far as this package uses them,
// and returns everything that Slack would refuse. Blocks of other kinds are refused, so that a new
// kind cannot be sent before its limits are known here.
func Validate(blocks []slackapi.Block) error {
	v := validator{blockIDs: map[string]bool{}}
	if len(blocks) == 0 || len(blocks) > maxBlocks {
		v.fail("blocks", "%d blocks, want 1 to %d", len(blocks), maxBlocks)
	}
	total := 0
	for i, b := range blocks {
		v.block(fmt.Sprintf("blocks[%d]", i), b)
		total += textSize(b)
	}
	if total > maxText {
		v.fail("blocks", "%d units of text, want at most %d", total, maxText)
	}
	return errors.Join(v.errs...)
}

type validator struct {
	errs     []error
	blockIDs map[string]bool
}

func (v *validator) fail(path, format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(path+": "+format, args...))
}

func (v *validator) text(path string, t *slackapi.TextBlockObject, most int, kinds ...string) {
	if t == nil {
		v.fail(path, "no text")
		return
	}
	if n := size(t.Text); n < 1 || n > most {
		v.fail(path, "%d units, want 1 to %d", n, most)
	}
	for _, k := range kinds {
		if t.Type == k {
			if k == slackapi.MarkdownType && !t.Verbatim {
				v.fail(path, "mrkdwn that is not verbatim")
			}
			return
		}
	}
	v.fail(path, "type %s, want one of %v", t.Type, kinds)
}

func (v *validator) block(path string, b slackapi.Block) {
	if id := b.ID(); id != "" {
		if v.blockIDs[id] || len(id) > 255 {
			v.fail(path, "block_id used twice or too long")
		}
		v.blockIDs[id] = true
	}
	switch b := b.(type) {
	case *slackapi.HeaderBlock:
		v.text(path, b.Text, maxHeading, slackapi.PlainTextType)
	case *slackapi.SectionBlock:
		if b.Text == nil && len(b.Fields) == 0 || len(b.Fields) > maxFields {
			v.fail(path, "%d fields, want 1 to %d", len(b.Fields), maxFields)
		}
		if b.Text != nil {
			v.text(path, b.Text, maxSection, slackapi.MarkdownType, slackapi.PlainTextType)
		}
		for i, f := range b.Fields {
			v.text(fmt.Sprintf("%s.fields[%d]", path, i), f, maxField, slackapi.MarkdownType, slackapi.PlainTextType)
		}
	case *slackapi.ContextBlock:
		for i, e := range b.ContextElements.Elements {
			t, _ := e.(*slackapi.TextBlockObject)
			v.text(fmt.Sprintf("%s.elements[%d]", path, i), t, maxSection, slackapi.MarkdownType, slackapi.PlainTextType)
		}
	case *slackapi.ActionBlock:
		v.actions(path, b)
	case *slackapi.RichTextBlock:
		v.rich(path, b)
	case *slackapi.DividerBlock:
	default:
		v.fail(path, "block of type %s", b.BlockType())
	}
}

func (v *validator) actions(path string, b *slackapi.ActionBlock) {
	if n := len(b.Elements.ElementSet); n < 1 || n > maxRow {
		v.fail(path, "%d elements, want 1 to %d", n, maxRow)
	}
	ids := map[string]bool{}
	for i, e := range b.Elements.ElementSet {
		p := fmt.Sprintf("%s.elements[%d]", path, i)
		e, ok := e.(*slackapi.ButtonBlockElement)
		if !ok {
			v.fail(p, "not a button")
			continue
		}
		v.text(p, e.Text, maxButtonLabel, slackapi.PlainTextType)
		if e.ActionID == "" || len(e.ActionID) > 255 || ids[e.ActionID] {
			v.fail(p, "action_id missing, too long or used twice")
		}
		ids[e.ActionID] = true
		if len(e.Value) > maxButtonValue || len(e.URL) > maxLink {
			v.fail(p, "value or url too long")
		}
	}
}

func (v *validator) rich(path string, b *slackapi.RichTextBlock) {
	for i, e := range b.Elements {
		for j, x := range richElements(e) {
			p := fmt.Sprintf("%s.elements[%d].elements[%d]", path, i, j)
			switch x := x.(type) {
			case *slackapi.RichTextSectionTextElement:
				if x.Text == "" {
					v.fail(p, "no text")
				}
			case *slackapi.RichTextSectionLinkElement:
				if x.URL == "" || len(x.URL) > maxLink {
					v.fail(p, "url missing or too long")
				}
			case *slackapi.RichTextSectionUserElement:
				if !validID(x.UserID, "UW") {
					v.fail(p, "not a user id")
				}
			default:
				v.fail(p, "element of type %s", x.RichTextSectionElementType())
			}
		}
	}
}

func richElements(e slackapi.RichTextElement) []slackapi.RichTextSectionElement {
	switch e := e.(type) {
	case *slackapi.RichTextSection:
		return e.Elements
	case *slackapi.RichTextPreformatted:
		return e.Elements
	}
	return nil
}

// textSize is the text of a block that counts towards the limit of the whole message.
func textSize(b slackapi.Block) int {
	n := 0
	add := func(t *slackapi.TextBlockObject) {
		if t != nil {
			n += size(t.Text)
		}
	}
	switch b := b.(type) {
	case *slackapi.HeaderBlock:
		add(b.Text)
	case *slackapi.SectionBlock:
		add(b.Text)
		for _, f := range b.Fields {
			add(f)
		}
	case *slackapi.ContextBlock:
		for _, e := range b.ContextElements.Elements {
			if t, ok := e.(*slackapi.TextBlockObject); ok {
				add(t)
			}
		}
	case *slackapi.ActionBlock:
		for _, e := range b.Elements.ElementSet {
			if e, ok := e.(*slackapi.ButtonBlockElement); ok {
				add(e.Text)
			}
		}
	case *slackapi.RichTextBlock:
		for _, e := range b.Elements {
			for _, x := range richElements(e) {
				switch x := x.(type) {
				case *slackapi.RichTextSectionTextElement:
					n += size(x.Text)
				case *slackapi.RichTextSectionLinkElement:
					n += size(x.Text) + size(x.URL)
				}
			}
		}
	}
	return n
}
