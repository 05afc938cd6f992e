package slack

import (
	"strings"

	slackapi "github.com/slack-go/slack"
)

// invalidMessages are messages that Slack refuses, or that would parse foreign text.
func invalidMessages() map[string][]slackapi.Block {
	text := func(n int) *slackapi.TextBlockObject { return plain(strings.Repeat("x", n)) }
	button := slackapi.NewButtonBlockElement("a", "v", text(1))
	many := make([]slackapi.Block, maxBlocks+1)
	for i := range many {
		many[i] = slackapi.NewDividerBlock()
	}
	var row []slackapi.BlockElement
	for range maxRow + 1 {
		row = append(row, button)
	}
	code := func(n int) slackapi.Block {
		return slackapi.NewRichTextBlock("", slackapi.NewRichTextSection(slackapi.NewRichTextSectionTextElement(strings.Repeat("x", n), nil)))
	}
	return map[string][]slackapi.Block{
		"none":                  {},
		"too many":              many,
		"heading too long":      {slackapi.NewHeaderBlock(text(maxHeading + 1))},
		"heading without":       {slackapi.NewHeaderBlock(nil)},
		"empty text":            {slackapi.NewHeaderBlock(text(0))},
		"mrkdwn heading":        {slackapi.NewHeaderBlock(slackapi.NewTextBlockObject(slackapi.MarkdownType, "x", false, true))},
		"not verbatim":          {slackapi.NewSectionBlock(slackapi.NewTextBlockObject(slackapi.MarkdownType, "x", false, false), nil, nil)},
		"section too long":      {slackapi.NewSectionBlock(text(maxSection+1), nil, nil)},
		"section without":       {slackapi.NewSectionBlock(nil, nil, nil)},
		"field too long":        {slackapi.NewSectionBlock(nil, []*slackapi.TextBlockObject{text(maxField + 1)}, nil)},
		"row too long":          {slackapi.NewActionBlock("a", row...)},
		"row without":           {slackapi.NewActionBlock("a")},
		"same block twice":      {slackapi.NewActionBlock("a", button), slackapi.NewActionBlock("a", button)},
		"same action twice":     {slackapi.NewActionBlock("a", button, button)},
		"value too long":        {slackapi.NewActionBlock("a", slackapi.NewButtonBlockElement("a", strings.Repeat("x", maxButtonValue+1), text(1)))},
		"label too long":        {slackapi.NewActionBlock("a", slackapi.NewButtonBlockElement("a", "v", text(maxButtonLabel+1)))},
		"menu":                  {slackapi.NewActionBlock("a", slackapi.NewOverflowBlockElement("a"))},
		"broadcast":             {slackapi.NewRichTextBlock("", slackapi.NewRichTextSection(slackapi.NewRichTextSectionBroadcastElement("channel")))},
		"mention of a group":    {slackapi.NewRichTextBlock("", slackapi.NewRichTextSection(slackapi.NewRichTextSectionUserElement("S1", nil)))},
		"empty rich text":       {code(0)},
		"link without a URL":    {slackapi.NewRichTextBlock("", slackapi.NewRichTextSection(slackapi.NewRichTextSectionLinkElement("", "x", nil)))},
		"too much in all":       {code(maxText/2 + 1), code(maxText/2 + 1)},
		"a block of a new kind": {slackapi.NewMarkdownBlock("", "x")},
	}
}
