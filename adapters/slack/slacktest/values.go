package slacktest

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// initialValue is the state that an element has before anyone touches it; nil for none.
func initialValue(el Object) Object {
	typ := str(el, "type")
	fields := [...][2]string{
		{"initial_value", "value"},
		{"initial_option", "selected_option"},
		{"initial_options", "selected_options"},
		{"initial_date", "selected_date"},
		{"initial_time", "selected_time"},
		{"initial_user", "selected_user"},
		{"initial_users", "selected_users"},
		{"initial_channel", "selected_channel"},
		{"initial_conversation", "selected_conversation"},
	}
	for _, f := range fields {
		if v, ok := el[f[0]]; ok {
			return Object{"type": typ, f[1]: v}
		}
	}
	switch typ {
	case "button", "overflow":
		return nil
	case "plain_text_input", "number_input", "email_text_input", "url_text_input":
		return Object{"type": typ, "value": nil}
	case "checkboxes", "multi_static_select", "multi_external_select":
		return Object{"type": typ, "selected_options": []any{}}
	}
	return nil
}

// entered turns what a person typed or chose into the element's state. value is text, or a list of
// texts where several may be chosen; for menus it is an option's value or its visible text. known
// holds the options that the bot offered for external menus.
func entered(el Object, value any, known []Object) (Object, error) {
	typ := str(el, "type")
	texts := asTexts(value)
	one := strings.Join(texts, ",")
	switch typ {
	case "plain_text_input", "number_input", "email_text_input", "url_text_input":
		if err := checkLength(el, one); err != nil {
			return nil, err
		}
		return Object{"type": typ, "value": one}, nil
	case "datepicker":
		return Object{"type": typ, "selected_date": one}, nil
	case "timepicker":
		return Object{"type": typ, "selected_time": one}, nil
	case "users_select":
		return Object{"type": typ, "selected_user": one}, nil
	case "channels_select":
		return Object{"type": typ, "selected_channel": one}, nil
	case "conversations_select":
		return Object{"type": typ, "selected_conversation": one}, nil
	case "multi_users_select":
		return Object{"type": typ, "selected_users": texts}, nil
	case "static_select", "external_select", "radio_buttons", "overflow":
		o, err := option(el, one, known)
		if err != nil {
			return nil, err
		}
		return Object{"type": typ, "selected_option": o}, nil
	case "checkboxes", "multi_static_select", "multi_external_select":
		chosen := []any{}
		for _, t := range texts {
			o, err := option(el, t, known)
			if err != nil {
				return nil, err
			}
			chosen = append(chosen, o)
		}
		return Object{"type": typ, "selected_options": chosen}, nil
	}
	return nil, fmt.Errorf("%w: nothing can be entered into a %s", ErrInput, typ)
}

func asTexts(value any) []string {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		return []string{v}
	case []string:
		return v
	default:
		return []string{fmt.Sprint(v)}
	}
}

func checkLength(el Object, text string) error {
	n := float64(utf8.RuneCountInString(text))
	if lo, ok := el["min_length"].(float64); ok && n < lo {
		return fmt.Errorf("%w: at least %g characters", ErrInput, lo)
	}
	hi, ok := el["max_length"].(float64)
	if !ok {
		hi = 3000
	}
	if n > hi {
		return fmt.Errorf("%w: at most %g characters", ErrInput, hi)
	}
	return nil
}

// option finds the option that a person means among those on screen.
func option(el Object, want string, known []Object) (Object, error) {
	options := slices.Concat(list(el, "options"), known)
	for _, g := range list(el, "option_groups") {
		options = append(options, list(g, "options")...)
	}
	for _, o := range options {
		if str(o, "value") == want || str(obj(o, "text"), "text") == want {
			return o, nil
		}
	}
	return nil, fmt.Errorf("%w: no option %q in the %s", ErrInput, want, str(el, "type"))
}

// empty tells whether a state holds nothing, so that a required input counts as not filled in.
func empty(state any) bool {
	o, ok := state.(Object)
	if !ok {
		return true
	}
	for k, v := range o {
		switch v := v.(type) {
		case nil:
		case string:
			if k != "type" && strings.TrimSpace(v) != "" {
				return false
			}
		case []any:
			if len(v) > 0 {
				return false
			}
		case []string:
			if len(v) > 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}
