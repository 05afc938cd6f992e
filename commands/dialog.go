package commands

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"ocim/adapters/chat"
	"ocim/ops"
)

// The dialogs.
const (
	dialogDeploy = "deploy"
	dialogCancel = "cancel"
)

// dialogLife is how long a dialog may stay open before its submission is refused.
const dialogLife = time.Hour

// dialogState is what a dialog brings back, sealed. The platforms let the client choose everything
// else of a submission, so the dialog's name, who opened it and where stand in here.
type dialogState struct {
	Dialog    string           `json:"d"`
	Opener    ops.Actor        `json:"u"`
	Expires   int64            `json:"e"`
	From      ops.Conversation `json:"f"`
	Operation string           `json:"o,omitempty"`
	Run       int              `json:"r,omitempty"`
	Plan      bool             `json:"p,omitempty"` // show what would be sent, and send nothing
}

func (c *Commands) seal(s dialogState, opener ops.Actor) string {
	s.Opener, s.Expires = opener, c.Service.Clock.Now().Add(dialogLife).Unix()
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and integers always encode
	}
	return c.Service.Signer.Seal(ops.PurposeDialog, text)
}

// unopened is the refusal for a form that chat did not open. Only where time is what was missing, or
// an answer of chat's, does it help to do the same again; another way is always named.
func unopened(err error, what, again, instead string) *ops.Error {
	out := &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Msg: what + " could not be shown; nothing was done.", Err: err}
	cause, known := errors.AsType[*ops.Error](err)
	late := known && cause.Code == ops.CodeInvalid && cause.Reason == ops.ReasonChatUnavailable // see chat.Replier
	switch {
	case late, errors.Is(err, context.DeadlineExceeded):
		out.Msg = what + " could not be shown in time; nothing was done."
	case known && cause.Msg != "":
		out.Code, out.Reason, out.Msg = cause.Code, cause.Reason, out.Msg+" "+cause.Msg
		if cause.Code != ops.CodeUnavailable {
			out.Next = strings.TrimSpace(cause.Next + " Instead, " + instead + ".")
			return out
		}
	}
	out.Next = again + ", or " + instead + "."
	return out
}

func (c *Commands) openState(in chat.Incoming) (dialogState, error) {
	var s dialogState
	text, err := c.Service.Signer.Open(ops.PurposeDialog, in.State)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	switch {
	case err != nil, s.Dialog == "", s.Opener != in.Actor, in.Dialog != "" && in.Dialog != s.Dialog:
		return s, &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonForgedButton, Msg: "That form was not opened by you here.", Next: "Open it again.", Err: err}
	case c.Service.Clock.Now().Unix() > s.Expires:
		return s, &ops.Error{Code: ops.CodeStale, Reason: ops.ReasonOldButton, Msg: "That form has expired; nothing was done.", Next: "Open it again."}
	}
	return s, nil
}

// submit handles a sent dialog: it becomes the same command as if it had been typed.
func (c *Commands) submit(ctx context.Context, in chat.Incoming) (chat.Answer, error) {
	s, err := c.openState(in)
	if err != nil {
		return chat.Answer{}, err
	}
	in.From = s.From
	switch s.Dialog {
	case dialogDeploy:
		return c.submitDeploy(ctx, in, s.Plan)
	case dialogCancel:
		op, err := c.Service.Cancel(ctx, s.Operation, s.Run, in.Actor, in.Key)
		if err != nil {
			return chat.Answer{}, err
		}
		return c.answer("accepted", c.accepted(ctx, op, "cancel"), chat.ToneWarn)
	}
	return chat.Answer{}, &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInvalidCommand, Msg: "That form is not known here."}
}

func (c *Commands) submitDeploy(ctx context.Context, in chat.Incoming, plan bool) (chat.Answer, error) {
	if err := c.Service.May(in.Actor, ops.MayStart); err != nil {
		return chat.Answer{}, err
	}
	cmd, err := c.find("deploy")
	if err != nil {
		return chat.Answer{}, err
	}
	ws, err := words(in.Values["params"])
	if err != nil {
		return c.fieldError(ctx, "params", err), nil
	}
	for _, w := range ws {
		if len(w) > 0 && w[0] == '-' {
			return c.fieldError(ctx, "params", invalid("No flags here, only key=value.")), nil
		}
	}
	call, err := parse(cmd, append([]string{in.Values["instance"]}, ws...))
	if err != nil {
		return c.fieldError(ctx, "params", err), nil
	}
	if in.Values["instance"] == "" {
		return c.fieldError(ctx, "instance", invalid("Choose an instance.")), nil
	}
	if why := in.Values["why"]; why != "" {
		call.Pairs["why"] = why
	}
	call.Commands, call.In, call.Plan = c, in, plan
	a, err := runDeploy(ctx, call)
	switch ops.ReasonOf(err) { //nolint:exhaustive // the others belong to no field
	case ops.ReasonUnknownInstance, ops.ReasonAmbiguousInstance, ops.ReasonInstanceBusy, ops.ReasonUnknownCluster:
		return c.fieldError(ctx, "instance", err), nil
	case ops.ReasonUnknownParam, ops.ReasonInvalidParam, ops.ReasonMissingParam:
		return c.fieldError(ctx, "params", err), nil
	}
	return a, err
}

// maxFieldError is what Slack shows at a field; Mattermost takes more.
const maxFieldError = 150

// fieldError puts an error beside a field and keeps the form open. The word of the reason is always
// there; of suggestions, remedy and link it has what fits, in this order.
func (c *Commands) fieldError(ctx context.Context, field string, err error) chat.Answer {
	text, word := ops.UserMsg(err), " ("+string(ops.ReasonOf(err))+")"
	var more []string
	if e, ok := errors.AsType[*ops.Error](err); ok {
		if len(e.Suggest) > 0 {
			more = append(more, "Did you mean "+strings.Join(e.Suggest, ", ")+"?")
		}
		if e.Pattern != "" {
			more = append(more, "It must match "+e.Pattern)
		}
		more = append(more, e.Next)
		if e.Operation != "" {
			more = append(more, c.permalink(ctx, e.Operation))
		}
	}
	room := maxFieldError - utf8.RuneCountInString(word)
	text = chat.Cut(text, room)
	for _, m := range more {
		if m != "" && utf8.RuneCountInString(text)+1+utf8.RuneCountInString(m) <= room {
			text += " " + m
		}
	}
	return chat.Answer{Errors: map[string]string{field: text + word}}
}

// suggest answers a searching field while the person types. Without a valid state it stays empty:
// the list of instances is not for strangers.
func (c *Commands) suggest(ctx context.Context, in chat.Incoming) chat.Answer {
	s, err := c.openState(in)
	if err != nil || s.Dialog != dialogDeploy || !c.Service.Policy.Allowed(in.Actor, ops.MayStart) {
		return chat.Answer{}
	}
	ask, cancel := context.WithTimeout(ctx, liveWait)
	defer cancel()
	all, _ := c.Service.Fleet.Instances(ask)
	return chat.Answer{Options: options(all, in.Text, 100)}
}
