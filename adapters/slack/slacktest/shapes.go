package slacktest

import (
	"maps"
	"strconv"
)

// blockShapes are the blocks that this package knows. Slack has more; a bot that begins to use one
// finds it refused here first, and its limits belong in this table then.
// Source: docs.slack.dev, reference/block-kit/blocks.
func blockShapes() map[string]shape {
	id := text(0, 255)
	return map[string]shape{
		"divider": {"block_id": id},
		"header":  {"block_id": id, "!text": plain(1, 150), "level": number(1, 4)},
		"section": {
			"block_id": id, "text": either(1, 3000), "fields": items(1, 10, either(1, 2000)), "expand": boolean,
			"accessory": element(
				"button", "image", "overflow", "datepicker", "timepicker", "checkboxes", "radio_buttons",
				"static_select", "external_select", "users_select", "conversations_select", "channels_select",
				"multi_static_select", "multi_external_select", "multi_users_select"),
		},
		"context": {"block_id": id, "!elements": items(1, 10, contextElement)},
		"actions": {"block_id": id, "!elements": items(1, 25, element(
			"button", "overflow", "datepicker", "timepicker", "checkboxes", "radio_buttons",
			"static_select", "external_select", "users_select", "conversations_select", "channels_select"))},
		"input": {
			"block_id": id, "!label": plain(1, 2000), "hint": plain(1, 2000), "optional": boolean, "dispatch_action": boolean,
			"!element": element(
				"plain_text_input", "number_input", "email_text_input", "url_text_input",
				"datepicker", "timepicker", "checkboxes", "radio_buttons",
				"static_select", "external_select", "users_select", "conversations_select", "channels_select",
				"multi_static_select", "multi_external_select", "multi_users_select"),
		},
		"image": {
			"block_id": id, "image_url": text(1, 3000), "slack_file": anything, "!alt_text": text(1, 2000), "title": plain(1, 2000),
		},
		"markdown":  {"block_id": id, "!text": text(1, maxMarkdownText)},
		"rich_text": {"block_id": id, "!elements": items(0, 1000, richSection)},
	}
}

// contextElement is a text object or an image.
func contextElement(c *checker, path string, v any) {
	if o, ok := v.(Object); ok && str(o, "type") == "image" {
		c.object(path, o, c.elements["image"])
		return
	}
	either(1, 3000)(c, path, v)
}

// elementShapes are the block elements. Source: docs.slack.dev, reference/block-kit/block-elements,
// and composition-objects for options, groups and confirm. An option's value may have 150
// characters in the documentation but 75 in @slack/types 3.2.0; the smaller one is enforced, since
// only that is safe.
func elementShapes() map[string]shape {
	id, placeholder, focus := text(0, 255), plain(1, 150), rule(boolean)
	confirm := form(shape{
		"!title": plain(1, 100), "!text": either(1, 300), "!confirm": plain(1, 30), "!deny": plain(1, 30),
		"style": oneOf("primary", "danger"),
	})
	option := form(shape{"!text": either(1, 75), "!value": text(1, 75), "description": either(1, 75)})
	plainOption := form(shape{"!text": plain(1, 75), "!value": text(1, 75), "description": plain(1, 75), "url": text(1, 3000)})
	groups := items(1, 100, form(shape{"!label": plain(1, 75), "!options": items(1, 100, plainOption)}))
	with := func(base, more shape) shape {
		maps.Copy(base, more)
		return base
	}
	common := func() shape { return shape{"action_id": id, "confirm": confirm, "focus_on_load": focus} }
	menu := func() shape { return with(common(), shape{"placeholder": placeholder}) }
	multi := shape{"max_selected_items": number(1, 100)}
	return map[string]shape{
		"button": {
			"action_id": id, "!text": plain(1, 75), "value": text(0, 2000), "url": text(1, 3000),
			"style": oneOf("primary", "danger"), "confirm": confirm, "accessibility_label": text(1, 75),
		},
		"image":    {"image_url": text(1, 3000), "slack_file": anything, "!alt_text": text(1, 2000)},
		"overflow": {"action_id": id, "!options": items(1, 5, plainOption), "confirm": confirm},
		"datepicker": with(menu(), shape{
			"initial_date": text(10, 10),
		}),
		"timepicker": with(menu(), shape{"initial_time": text(5, 5), "timezone": text(1, 255)}),
		"checkboxes": with(common(), shape{"!options": items(1, 10, option), "initial_options": items(1, 10, option)}),
		"radio_buttons": with(common(), shape{
			"!options": items(1, 10, option), "initial_option": option,
		}),
		"static_select": with(menu(), shape{
			"options": items(1, 100, plainOption), "option_groups": groups, "initial_option": plainOption,
		}),
		"external_select": with(menu(), shape{"initial_option": plainOption, "min_query_length": number(0, 3000)}),
		"users_select":    with(menu(), shape{"initial_user": text(1, 255)}),
		"conversations_select": with(menu(), shape{
			"initial_conversation": text(1, 255), "default_to_current_conversation": boolean,
			"response_url_enabled": boolean, "filter": anything,
		}),
		"channels_select": with(menu(), shape{"initial_channel": text(1, 255), "response_url_enabled": boolean}),
		"multi_static_select": with(with(menu(), multi), shape{
			"options": items(1, 100, plainOption), "option_groups": groups, "initial_options": items(1, 100, plainOption),
		}),
		"multi_external_select": with(with(menu(), multi), shape{
			"min_query_length": number(0, 3000), "initial_options": items(1, 100, plainOption),
		}),
		"multi_users_select": with(with(menu(), multi), shape{"initial_users": items(1, 100, text(1, 255))}),
		"plain_text_input": {
			"action_id": id, "placeholder": placeholder, "initial_value": text(0, 3000), "multiline": boolean,
			"min_length": number(0, 3000), "max_length": number(1, 3000), "dispatch_action_config": anything, "focus_on_load": focus,
		},
		"number_input": {
			"action_id": id, "placeholder": placeholder, "!is_decimal_allowed": boolean, "initial_value": text(1, 255),
			"min_value": text(1, 255), "max_value": text(1, 255), "dispatch_action_config": anything, "focus_on_load": focus,
		},
		"email_text_input": {
			"action_id": id, "placeholder": placeholder, "initial_value": text(0, 3000),
			"dispatch_action_config": anything, "focus_on_load": focus,
		},
		"url_text_input": {
			"action_id": id, "placeholder": placeholder, "initial_value": text(0, 3000),
			"dispatch_action_config": anything, "focus_on_load": focus,
		},
	}
}

// richSection checks the elements of a rich_text block down to the type names and the fields that
// matter for reading; styles are not looked into.
// Source: docs.slack.dev, reference/block-kit/blocks/rich-text-block.
func richSection(c *checker, path string, v any) {
	o, ok := c.asObject(path, v)
	if !ok {
		return
	}
	switch typ := str(o, "type"); typ {
	case "rich_text_section", "rich_text_quote":
		c.object(path, o, shape{"!elements": items(0, 1000, richElement), "border": number(0, 1)})
	case "rich_text_preformatted":
		c.object(path, o, shape{"!elements": items(0, 1000, richElement), "border": number(0, 1), "language": text(0, 255)})
	case "rich_text_list":
		c.object(path, o, shape{
			"!elements": items(1, 1000, richSection), "!style": oneOf("bullet", "ordered"),
			"indent": number(0, 8), "offset": number(0, 1000), "border": number(0, 1),
		})
	default:
		c.fail(path+"/type", "unsupported type: %s", typ)
	}
}

func richElement(c *checker, path string, v any) {
	o, ok := c.asObject(path, v)
	if !ok {
		return
	}
	sh := shape{"style": anything}
	switch typ := str(o, "type"); typ {
	case "text":
		sh["!text"] = text(1, 12_000)
	case "link":
		sh["!url"], sh["text"], sh["unsafe"] = text(1, 3000), text(0, 12_000), boolean
	case "user":
		sh["!user_id"] = text(1, 255)
	case "usergroup":
		sh["!usergroup_id"] = text(1, 255)
	case "channel":
		sh["!channel_id"] = text(1, 255)
	case "broadcast":
		sh["!range"] = oneOf("here", "channel", "everyone")
	case "emoji":
		sh["!name"], sh["unicode"] = text(1, 255), text(1, 255)
	case "date":
		sh["!timestamp"], sh["!format"], sh["fallback"], sh["url"] = number(0, 1e12), text(1, 255), text(0, 255), text(1, 3000)
	case "color":
		sh["!value"] = text(1, 255)
	default:
		c.fail(path+"/type", "unsupported type: %s", typ)
		return
	}
	c.object(path, o, sh)
}

// validateOptions checks an answer to a block_suggestion: options or option_groups within the
// limits of a select menu.
func validateOptions(answer Object) []Problem {
	c := newChecker(0)
	sel := deepCopy(answer)
	o, _ := sel.(Object)
	o["type"] = "static_select"
	c.actionIDs = map[string]bool{}
	if os, ok := o["options"].([]any); ok && len(os) == 0 {
		return nil // no match is a fair answer
	}
	element("static_select")(c, "", o)
	return c.problems
}

// markdownTotal is the sum of all markdown blocks, which share one limit.
func markdownTotal(blocks []Object) int {
	n := 0
	for _, b := range blocks {
		if str(b, "type") == "markdown" {
			n += len([]rune(str(b, "text")))
		}
	}
	return n
}

func itoa(n int) string { return strconv.Itoa(n) }
