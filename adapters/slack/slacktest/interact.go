package slacktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Click presses a button of a message that user sees, ephemeral or not. If the button has a
// confirm dialog, the person agrees to it. actionID may be written block_id/action_id. The error is
// about the test; what the bot said is in the Answer.
func (s *Server) Click(ctx context.Context, user, channel, ts, actionID string) (Answer, error) {
	return s.Choose(ctx, user, channel, ts, actionID, nil)
}

// Choose uses a menu or another input element of a message: value is the value or the visible text
// of an option, a date, or a list of them.
func (s *Server) Choose(ctx context.Context, user, channel, ts, actionID string, value any) (Answer, error) {
	payload, err := s.messageAction(user, channel, ts, actionID, value)
	if err != nil {
		return Answer{}, err
	}
	return s.deliver(ctx, kindInteract, payload, redelivery{})
}

// ClickRequest returns the signed request of a click without sending it.
func (s *Server) ClickRequest(user, channel, ts, actionID string) (Request, error) {
	payload, err := s.messageAction(user, channel, ts, actionID, nil)
	if err != nil {
		return Request{}, err
	}
	r, err := s.request(kindInteract, payload)
	if err != nil {
		return Request{}, err
	}
	return s.signed(r, s.clk.Now()), nil
}

// ClickPayload returns the payload that Click would send, so that a test changes it and sends it
// with ClickRaw.
func (s *Server) ClickPayload(user, channel, ts, actionID string) (Object, error) {
	p, err := s.messageAction(user, channel, ts, actionID, nil)
	if err != nil {
		return nil, err
	}
	var plain Object
	if err := json.Unmarshal(mustJSON(p), &plain); err != nil {
		return nil, fmt.Errorf("copy the payload: %w", err)
	}
	return plain, nil
}

// ClickRaw sends any interactive payload, genuinely signed.
func (s *Server) ClickRaw(ctx context.Context, payload Object) (Answer, error) {
	return s.deliver(ctx, kindInteract, payload, redelivery{})
}

// ClickView presses a button or uses a menu inside a modal or the Home tab. value is nil for a
// button.
func (s *Server) ClickView(ctx context.Context, user, viewID, actionID string, value any) (Answer, error) {
	payload, err := s.viewAction(user, viewID, actionID, value)
	if err != nil {
		return Answer{}, err
	}
	return s.deliver(ctx, kindInteract, payload, redelivery{})
}

// visible finds a message that user sees; mu must be held.
func (s *Server) visible(user, channel, ts string) (*Message, error) {
	m := s.find(channel, ts)
	if m == nil || m.Deleted || m.Ephemeral() && m.To != user {
		return nil, fmt.Errorf("%w: %s in %s", ErrNoMessage, ts, channel)
	}
	return m, nil
}

func (s *Server) messageAction(user, channel, ts, actionID string, value any) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, c, err := s.person(user, channel)
	if err != nil {
		return nil, err
	}
	m, err := s.visible(user, channel, ts)
	if err != nil {
		return nil, err
	}
	e, err := pick(m.Blocks, actionID)
	if err != nil {
		return nil, err
	}
	action, state, err := s.action(e, value, user)
	if err != nil {
		return nil, err
	}
	values := Object{}
	for _, other := range elementsOf(m.Blocks) {
		if initial := initialValue(other.el); initial != nil {
			put(values, other, initial)
		}
	}
	if state != nil {
		put(values, e, state)
	}
	p := s.interaction("block_actions", u)
	container := Object{"type": "message", "message_ts": m.TS, "channel_id": c.ID, "is_ephemeral": m.Ephemeral()}
	if m.ThreadTS != "" {
		container["thread_ts"] = m.ThreadTS
	}
	p["container"], p["channel"] = container, Object{"id": c.ID, "name": c.shownName()}
	p["trigger_id"], p["response_url"] = s.newTrigger(u.ID, ""), s.newHook("actions", u.ID, c.ID, m)
	p["actions"], p["state"] = []any{action}, Object{"values": values}
	if !m.Ephemeral() { // payloads of ephemeral messages do not carry the message
		p["message"] = s.messageJSON(m, true)
	}
	return p, nil
}

func (s *Server) viewAction(user, viewID, actionID string, value any) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, v, err := s.open(user, viewID)
	if err != nil {
		return nil, err
	}
	e, err := pick(v.Blocks, actionID)
	if err != nil {
		return nil, err
	}
	action, state, err := s.action(e, value, user)
	if err != nil {
		return nil, err
	}
	if state != nil {
		put(v.values, e, state)
	}
	p := s.interaction("block_actions", u)
	p["container"] = Object{"type": "view", "view_id": v.ID}
	p["trigger_id"], p["view"], p["actions"] = s.newTrigger(u.ID, v.ID), s.viewJSON(v), []any{action}
	return p, nil
}

// open finds a view that user has on screen; mu must be held.
func (s *Server) open(user, viewID string) (User, *View, error) {
	u, ok := s.user(user)
	if !ok {
		return User{}, nil, fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	v, ok := s.views[viewID]
	if !ok || v.User != user {
		return User{}, nil, fmt.Errorf("%w: %s", ErrNoView, viewID)
	}
	return u, v, nil
}

// interaction is the part that all interaction payloads share; mu must be held.
func (s *Server) interaction(typ string, u User) Object {
	p := Object{
		"type": typ, "token": s.verificationToken(), "api_app_id": s.ws.AppID,
		"user": Object{"id": u.ID, "username": u.Name, "name": u.Name, "team_id": s.teamOf(u)},
		"team": Object{"id": s.ws.ID, "domain": s.ws.Domain},
		// Payloads outside an Enterprise Grid carry a null enterprise.
		"enterprise": nil, "is_enterprise_install": s.ws.OrgInstall,
	}
	if s.ws.EnterpriseID != "" {
		p["enterprise"] = Object{"id": s.ws.EnterpriseID, "name": s.ws.EnterpriseName}
		p["team"] = Object{
			"id": s.ws.ID, "domain": s.ws.Domain,
			"enterprise_id": s.ws.EnterpriseID, "enterprise_name": s.ws.EnterpriseName,
		}
	}
	if s.ws.OrgInstall {
		p["team"] = nil
	}
	return p
}

// action is the entry in actions for a used element, and its new state; mu must be held.
func (s *Server) action(e placed, value any, user string) (action, state Object, err error) {
	action = Object{"type": e.el["type"], "action_id": e.actionID, "block_id": e.blockID, "action_ts": s.nextTS()}
	for _, k := range []string{"text", "value", "style", "url", "placeholder", "confirm"} {
		if v, ok := e.el[k]; ok {
			action[k] = v
		}
	}
	if str(e.el, "type") == "button" {
		if value != nil {
			return nil, nil, fmt.Errorf("%w: a button takes no value", ErrInput)
		}
		return action, nil, nil
	}
	state, err = entered(e.el, value, s.suggested[user+"/"+e.actionID])
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(action, state)
	return action, state, nil
}

// Where names the place of an external menu: a message or a view.
type Where struct {
	Channel, TS string
	ViewID      string
}

// Option is one choice that the bot offers.
type Option struct{ Text, Value string }

// Suggest types query into an external menu and returns the options that the bot offers. Below the
// menu's min_query_length (3 unless set) nothing is sent and there are no options. Options beyond
// the limits of a menu are an error, since Slack would show none.
func (s *Server) Suggest(ctx context.Context, user string, at Where, actionID, query string) ([]Option, Answer, error) {
	payload, send, err := s.suggestion(user, at, actionID, query)
	if err != nil || !send {
		return nil, Answer{}, err
	}
	a, err := s.deliver(ctx, kindSuggestion, payload, redelivery{})
	if err != nil {
		return nil, a, err
	}
	if !a.OK() {
		return nil, a, fmt.Errorf("the menu shows an error: %s", visibleError(a))
	}
	var answer Object
	if err := json.Unmarshal(a.Body, &answer); err != nil {
		return nil, a, fmt.Errorf("decode options: %w", err)
	}
	if problems := validateOptions(answer); len(problems) > 0 {
		return nil, a, fmt.Errorf("the menu stays empty: %s", problems[0])
	}
	options := list(answer, "options")
	for _, g := range list(answer, "option_groups") {
		options = append(options, list(g, "options")...)
	}
	s.mu.Lock()
	s.suggested[user+"/"+str(payload, "action_id")] = options
	s.mu.Unlock()
	var out []Option
	for _, o := range options {
		out = append(out, Option{Text: str(obj(o, "text"), "text"), Value: str(o, "value")})
	}
	return out, a, nil
}

func (s *Server) suggestion(user string, at Where, actionID, query string) (payload Object, send bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.user(user)
	if !ok {
		return nil, false, fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	p := s.interaction("block_suggestion", u)
	var blocks []Object
	if at.ViewID != "" {
		_, v, err := s.open(user, at.ViewID)
		if err != nil {
			return nil, false, err
		}
		blocks = v.Blocks
		p["container"], p["view"] = Object{"type": "view", "view_id": v.ID}, s.viewJSON(v)
	} else {
		m, err := s.visible(user, at.Channel, at.TS)
		if err != nil {
			return nil, false, err
		}
		blocks = m.Blocks
		c, _ := s.channel(m.Channel)
		p["container"] = Object{"type": "message", "message_ts": m.TS, "channel_id": m.Channel, "is_ephemeral": m.Ephemeral()}
		p["channel"], p["message"] = Object{"id": c.ID, "name": c.shownName()}, s.messageJSON(m, true)
	}
	e, err := pick(blocks, actionID)
	if err != nil {
		return nil, false, err
	}
	if !strings.HasSuffix(str(e.el, "type"), "external_select") {
		return nil, false, fmt.Errorf("%w: %s is not an external menu", ErrNoElement, actionID)
	}
	p["action_id"], p["block_id"], p["value"] = e.actionID, e.blockID, query
	least, ok := e.el["min_query_length"].(float64)
	if !ok {
		least = 3
	}
	return p, float64(len([]rune(query))) >= least, nil
}

// Submission is what the person sees after pressing submit.
type Submission struct {
	Answer Answer
	// Error is set when the modal shows that the connection failed: no acknowledgement in time, or
	// one that Slack does not understand.
	Error string
	// Errors are shown under the inputs, by block id. The modal stays open.
	Errors map[string]string
	// Closed tells that this modal is gone; Top is the id of the modal then on top, if any.
	Closed bool
	Top    string
}

// SubmitView fills in a modal and presses submit. values are by action id, block id or
// block_id/action_id: text, a list of texts, an option's value or visible text. The client's own
// checks come first: a required input that is empty is ErrInput and nothing is sent.
func (s *Server) SubmitView(ctx context.Context, user, viewID string, values map[string]any) (Submission, error) {
	payload, err := s.submission(user, viewID, values)
	if err != nil {
		return Submission{}, err
	}
	a, err := s.deliver(ctx, kindInteract, payload, redelivery{})
	if err != nil {
		return Submission{}, err
	}
	return s.submitted(user, viewID, a), nil
}

func (s *Server) submission(user, viewID string, values map[string]any) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, v, err := s.open(user, viewID)
	if err != nil {
		return nil, err
	}
	if v.Submit == "" {
		return nil, fmt.Errorf("%w: the modal has no submit button", ErrNoElement)
	}
	for _, name := range sortedKeys(values) {
		e, err := pick(v.Blocks, name)
		if err != nil {
			return nil, err
		}
		state, err := entered(e.el, values[name], s.suggested[user+"/"+e.actionID])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		put(v.values, e, state)
	}
	for _, e := range elementsOf(v.Blocks) {
		optional, _ := e.input["optional"].(bool)
		if e.input != nil && !optional && empty(obj(v.values, e.blockID)[e.actionID]) {
			return nil, fmt.Errorf("%w: %s is required", ErrInput, e.blockID)
		}
	}
	p := s.interaction("view_submission", u)
	p["trigger_id"], p["view"], p["response_urls"] = s.newTrigger(u.ID, v.ID), s.viewJSON(v), []any{}
	return p, nil
}

// submitted applies the answer to a view_submission. Source: docs.slack.dev, surfaces/modals.
func (s *Server) submitted(user, viewID string, a Answer) (sub Submission) {
	sub = Submission{Answer: a, Error: visibleError(a)}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if stack := s.stack(user); len(stack) > 0 {
			sub.Top = stack[len(stack)-1].ID
		}
	}()
	v, ok := s.views[viewID]
	if sub.Error != "" || !ok {
		return sub
	}
	answer := Object{}
	if body := strings.TrimSpace(string(a.Body)); body != "" {
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			sub.Error = "invalid_response"
			return sub
		}
	}
	if err := s.respond(v, answer, &sub); err != nil {
		sub.Error = err.Error()
	}
	return sub
}

func (s *Server) respond(v *View, answer Object, sub *Submission) error {
	switch str(answer, "response_action") {
	case "":
		if len(answer) > 0 {
			return errors.New("invalid_response")
		}
		delete(s.views, v.ID)
		sub.Closed = true
	case "clear":
		for _, x := range s.stack(v.User) {
			delete(s.views, x.ID)
		}
		sub.Closed = true
	case "errors":
		return inputErrors(v, obj(answer, "errors"), sub)
	case "update", "push":
		def, bad := checkView(obj(answer, "view"), "modal")
		if bad != nil {
			return fmt.Errorf("%s: %s", bad.code, strings.Join(bad.messages, "; "))
		}
		if str(answer, "response_action") == "update" {
			s.define(v, def)
			return nil
		}
		if len(s.stack(v.User)) >= maxStack {
			return errors.New("push_limit_reached")
		}
		s.place(v.User, def, v)
	default:
		return errors.New("invalid_response_action")
	}
	s.bump()
	return nil
}

// inputErrors accepts errors for input blocks of the view only, as Slack does.
func inputErrors(v *View, errs Object, sub *Submission) error {
	if len(errs) == 0 {
		return errors.New("invalid_response")
	}
	sub.Errors = map[string]string{}
	for _, id := range sortedKeys(errs) {
		isInput := slices.ContainsFunc(v.Blocks, func(b Object) bool {
			return str(b, "block_id") == id && str(b, "type") == "input"
		})
		text := str(errs, id)
		if !isInput || text == "" {
			return fmt.Errorf("invalid error for block %q", id)
		}
		sub.Errors[id] = text
	}
	return nil
}

// CloseView closes the modal. The bot hears of it only if the view asked with notify_on_close;
// then the answer is the acknowledgement.
func (s *Server) CloseView(ctx context.Context, user, viewID string) (Answer, error) {
	s.mu.Lock()
	u, v, err := s.open(user, viewID)
	if err != nil || v.Type != "modal" {
		s.mu.Unlock()
		return Answer{}, errors.Join(err, ErrNoView)
	}
	p := s.interaction("view_closed", u)
	p["view"], p["is_cleared"] = s.viewJSON(v), v.ClearOnClose
	gone := []*View{v}
	if v.ClearOnClose {
		gone = s.stack(user)
	}
	for _, x := range gone {
		delete(s.views, x.ID)
	}
	notify := v.NotifyOnClose
	s.bump()
	s.mu.Unlock()
	if !notify {
		return Answer{}, nil
	}
	return s.deliver(ctx, kindInteract, p, redelivery{})
}
