package slack

import (
	"encoding/json"
	"errors"
	"fmt"

	slackapi "github.com/slack-go/slack"

	"ocim/adapters/chat"
)

// Limits of modals. Source: docs.slack.dev, surfaces/modals and reference/block-kit.
const (
	maxTitle       = 24
	maxMetadata    = 3000
	maxViewBlocks  = 100
	maxCallbackID  = 255
	maxInputLabel  = 2000
	maxInput       = 3000
	maxOptions     = 100
	maxOptionText  = 75
	maxPlaceholder = 150

	// inputID is the action_id of every input; the block_id is the field's name.
	inputID = "value"
)

// renderDialog makes the modal for d. channel is where it was opened; answers go there.
func renderDialog(d chat.Dialog, channel string) (*slackapi.ModalViewRequest, error) {
	meta, err := json.Marshal(envelope{Channel: channel, State: d.State})
	if err != nil {
		return nil, fmt.Errorf("encode dialog state: %w", err)
	}
	if len(meta) > maxMetadata {
		return nil, errors.New("dialog state too long")
	}
	if d.Name == "" || len(d.Name) > maxCallbackID || d.Title == "" || len(d.Fields) == 0 && d.Intro == "" {
		return nil, errors.New("dialog without name, title or content")
	}
	view := &slackapi.ModalViewRequest{
		Type:            slackapi.VTModal,
		Title:           plain(cut(chat.Clean(d.Title), maxTitle)),
		Close:           plain("Cancel"),
		PrivateMetadata: string(meta),
		CallbackID:      d.Name,
	}
	submit := d.Submit
	if submit == "" {
		submit = "OK"
	}
	view.Submit = plain(cut(chat.Clean(submit), maxTitle))
	if intro := cut(chat.CleanLines(d.Intro), textSection); intro != "" {
		view.Blocks.BlockSet = append(view.Blocks.BlockSet, slackapi.NewSectionBlock(plain(intro), nil, nil))
	}
	seen := map[string]bool{}
	for _, f := range d.Fields {
		if f.Name == "" || seen[f.Name] || letters(f.Name) == "" {
			return nil, fmt.Errorf("dialog field %q without a name of its own", f.Name)
		}
		seen[f.Name] = true
		b, err := renderField(f)
		if err != nil {
			return nil, fmt.Errorf("dialog field %s: %w", f.Name, err)
		}
		view.Blocks.BlockSet = append(view.Blocks.BlockSet, b)
	}
	if len(view.Blocks.BlockSet) > maxViewBlocks {
		return nil, errors.New("dialog with too many fields")
	}
	return view, nil
}

func renderField(f chat.Field) (*slackapi.InputBlock, error) {
	label := cut(chat.Clean(f.Label), maxInputLabel)
	if label == "" {
		label = f.Name
	}
	var hint *slackapi.TextBlockObject
	if h := cut(chat.Clean(f.Hint), maxPlaceholder); h != "" {
		hint = plain(h)
	}
	var element slackapi.BlockElement
	switch f.Kind {
	case chat.FieldText, chat.FieldLines:
		e := slackapi.NewPlainTextInputBlockElement(nil, inputID)
		e.Multiline = f.Kind == chat.FieldLines
		e.MaxLength = maxInput
		if f.MaxLen > 0 {
			e.MaxLength = min(f.MaxLen, maxInput)
		}
		e.InitialValue = cut(chat.CleanLines(f.Default), e.MaxLength)
		element = e
	case chat.FieldChoice, chat.FieldSearch:
		e, err := renderSelect(f)
		if err != nil {
			return nil, err
		}
		element = e
	default:
		return nil, fmt.Errorf("unknown kind %q", f.Kind)
	}
	return slackapi.NewInputBlock(f.Name, plain(label), hint, element).WithOptional(f.Optional), nil
}

// renderSelect makes a menu: with fixed options, or one that asks us as the person types. Slack
// shows what we answer to the empty text first, so Options are not sent with a searching menu.
func renderSelect(f chat.Field) (*slackapi.SelectBlockElement, error) {
	options := renderOptions(f.Options)
	e := &slackapi.SelectBlockElement{ActionID: inputID, Type: slackapi.OptTypeStatic}
	if f.Kind == chat.FieldSearch {
		none := 0
		e.Type, e.MinQueryLength = slackapi.OptTypeExternal, &none
	} else if len(options) == 0 {
		return nil, errors.New("no options")
	}
	for _, o := range options {
		if o.Value == f.Default && f.Default != "" {
			e.InitialOption = o.slack()
		}
		if f.Kind == chat.FieldChoice {
			e.Options = append(e.Options, o.slack())
		}
	}
	return e, nil
}

// option is one choice of a menu.
type option struct {
	Text  optionText `json:"text"`
	Value string     `json:"value"`
}

type optionText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (o option) slack() *slackapi.OptionBlockObject {
	return slackapi.NewOptionBlockObject(o.Value, plain(o.Text.Text), nil)
}

// renderOptions keeps the options that Slack can show, at most 100. A value that is too long is
// left out rather than cut, since a cut value means something else.
func renderOptions(in []chat.Option) []option {
	out := make([]option, 0, min(len(in), maxOptions))
	for _, o := range in {
		label := cut(chat.Clean(o.Label), maxOptionText)
		if len(out) == maxOptions {
			break
		}
		if label == "" || o.Value == "" || size(o.Value) > maxOptionText {
			continue
		}
		out = append(out, option{Text: optionText{Type: slackapi.PlainTextType, Text: label}, Value: o.Value})
	}
	return out
}
