package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"

	"ocim/adapters/chat"
)

// outcome is what becomes of one delivery, whichever way it came.
type outcome struct {
	refused string        // why the delivery was not handled; for the log
	payload any           // what is answered at once; nil for a bare acknowledgement
	message *chat.Message // what the payload shows, or what is sent after the acknowledgement
	reply   *replier
}

// serveCommand answers a slash command over HTTP.
func (a *Adapter) serveCommand(w http.ResponseWriter, r *http.Request) {
	body, from, ok := a.admit(w, r, formType)
	if !ok {
		return
	}
	c, err := decodeCommand(string(body))
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, "command malformed")
		return
	}
	if c.SSLCheck == "1" { // Slack tests the certificate; only after the signature was checked
		w.WriteHeader(http.StatusOK)
		return
	}
	a.answer(w, r, a.handleCommand(r.Context(), from, c))
}

// serveInteraction answers clicks, dialogs and questions for options over HTTP.
func (a *Adapter) serveInteraction(w http.ResponseWriter, r *http.Request) {
	body, from, ok := a.admit(w, r, formType)
	if !ok {
		return
	}
	payload, err := payloadField(string(body))
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, "interaction malformed")
		return
	}
	in, err := decodeInteraction(payload)
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, "interaction malformed")
		return
	}
	a.answer(w, r, a.handleInteraction(r.Context(), from, in))
}

// serveEvent answers the Events API. The bot asks for no events that it must act on; those about
// its own installation are logged.
func (a *Adapter) serveEvent(w http.ResponseWriter, r *http.Request) {
	body, from, ok := a.admit(w, r, jsonType)
	if !ok {
		return
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		a.refuse(w, r, http.StatusBadRequest, "event malformed")
		return
	}
	if e.Type == "url_verification" {
		a.answer(w, r, outcome{payload: map[string]string{"challenge": e.Challenge}})
		return
	}
	a.answer(w, r, a.handleEvent(r.Context(), from, e))
}

// answer writes an outcome as the answer to a request.
func (a *Adapter) answer(w http.ResponseWriter, r *http.Request, o outcome) {
	if o.refused != "" {
		a.refuse(w, r, http.StatusForbidden, o.refused)
		return
	}
	if o.payload == nil {
		w.WriteHeader(http.StatusOK)
		a.sendLate(r.Context(), o)
		return
	}
	b, err := json.Marshal(o.payload)
	if err != nil {
		a.log.ErrorContext(r.Context(), "slack answer not encoded", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(b) // a peer that hung up has no use for the error
}

// sendLate sends the message of an outcome that was acknowledged without it.
func (a *Adapter) sendLate(ctx context.Context, o outcome) {
	if o.message == nil || o.reply == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	select {
	case a.lates <- struct{}{}:
	default:
		a.log.WarnContext(ctx, "slack answer dropped, too many are waiting", "actor", o.reply.user)
		return
	}
	a.late.Go(func() {
		defer func() { <-a.lates }()
		defer a.contain("late answer")
		if err := o.reply.Later(ctx, *o.message); err != nil {
			a.log.WarnContext(ctx, "slack answer not delivered", "actor", o.reply.user, "err", err)
		}
	})
}

// contain keeps a panic of a goroutine from ending the process. It is deferred; where names what the
// goroutine did.
func (a *Adapter) contain(where string) {
	if p := recover(); p != nil {
		a.log.Error("slack adapter panicked", "where", where, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// handleCommand passes a command on and answers it privately.
func (a *Adapter) handleCommand(ctx context.Context, from origin, c command) outcome {
	ws := from.workspace(c.TeamID, c.EnterpriseID)
	if ws == nil {
		return outcome{refused: "workspace does not belong to the secret"}
	}
	if !validID(c.UserID, "UW") || !validID(c.ChannelID, "CDG") {
		return outcome{refused: "command without user or channel"}
	}
	in := c.incoming(ws.TeamID, from.key)
	reply := a.newReplier(ws, c.UserID)
	reply.channel, reply.trigger, reply.responseURL = c.ChannelID, c.TriggerID, c.ResponseURL
	in.Reply = reply
	ans := a.acker.Answer(ctx, in)
	if ans.Message == nil {
		return outcome{}
	}
	return outcome{payload: a.private(*ans.Message), message: ans.Message, reply: reply}
}

// handleInteraction passes on what the bot offered itself and acknowledges everything else.
func (a *Adapter) handleInteraction(ctx context.Context, from origin, in *interaction) outcome {
	ws := from.workspace(in.claims())
	if ws == nil {
		return outcome{refused: "workspace does not belong to the secret"}
	}
	if !validID(in.User.ID, "UW") {
		return outcome{refused: "interaction without user"}
	}
	switch in.Type {
	case "block_actions":
		return a.handleClick(ctx, ws, from, in)
	case "view_submission":
		return a.handleSubmit(ctx, ws, from, in)
	case "block_suggestion":
		return a.handleSuggest(ctx, ws, from, in)
	}
	return outcome{} // view_closed, shortcuts and what may come: nothing to do
}

func (a *Adapter) handleClick(ctx context.Context, ws *workspace, from origin, in *interaction) outcome {
	if len(in.Actions) != 1 || in.Actions[0].Type != "button" || in.Actions[0].Value == "" {
		return outcome{} // a button that only opens a link has no value
	}
	if !in.ours(ws.known.Load()) {
		return outcome{refused: "button on a message that is not ours"}
	}
	place, ts := in.place(ws.TeamID)
	req := a.incoming(ws, from, in, chat.Click)
	req.From, req.Button, req.Message = place, in.Actions[0].Value, ts
	reply := a.newReplier(ws, in.User.ID)
	reply.channel, reply.thread = place.Channel, place.Thread
	reply.trigger, reply.responseURL = in.TriggerID, in.ResponseURL
	req.Reply = reply
	ans := a.acker.Answer(ctx, req)
	return outcome{message: ans.Message, reply: reply}
}

func (a *Adapter) handleSubmit(ctx context.Context, ws *workspace, from origin, in *interaction) outcome {
	if in.View == nil {
		return outcome{refused: "dialog without view"}
	}
	state, channel := dialogState(in.View.PrivateMetadata)
	req := a.incoming(ws, from, in, chat.Submit)
	req.Dialog, req.State, req.Values = in.View.CallbackID, state, in.values()
	reply := a.newReplier(ws, in.User.ID)
	reply.channel = channel
	req.Reply = reply
	ans := a.acker.Answer(ctx, req)
	if len(ans.Errors) > 0 {
		texts := make(map[string]string, len(ans.Errors))
		for field, text := range ans.Errors {
			texts[field] = chat.Cut(chat.Clean(text), maxFieldError)
		}
		return outcome{payload: viewErrors{Action: "errors", Errors: texts}}
	}
	return outcome{message: ans.Message, reply: reply}
}

func (a *Adapter) handleSuggest(ctx context.Context, ws *workspace, from origin, in *interaction) outcome {
	if in.View == nil {
		return outcome{}
	}
	req := a.incoming(ws, from, in, chat.Suggest)
	req.Dialog, req.Field, req.Text = in.View.CallbackID, in.BlockID, in.Value
	req.State, _ = dialogState(in.View.PrivateMetadata)
	ans := a.acker.Answer(ctx, req)
	return outcome{payload: suggestions{Options: renderOptions(ans.Options)}}
}

// incoming begins the translation of an interaction. From names no channel yet: only a click has
// one that Slack vouches for.
func (a *Adapter) incoming(ws *workspace, from origin, in *interaction, k chat.Kind) chat.Incoming {
	req := chat.Incoming{Key: from.key, Kind: k, ActorName: in.actorName()}
	req.Actor.Platform, req.Actor.Workspace, req.Actor.UserID = Platform, ws.TeamID, in.User.ID
	req.From.Platform, req.From.Workspace = Platform, ws.TeamID
	return req
}

// event is an Events API delivery. Slack: docs.slack.dev, apis/events-api.
type event struct {
	Type         string `json:"type"`
	TeamID       string `json:"team_id"`
	EnterpriseID string `json:"enterprise_id"`
	Challenge    string `json:"challenge"`
	Event        struct {
		Type string `json:"type"`
	} `json:"event"`
}

func (a *Adapter) handleEvent(ctx context.Context, from origin, e event) outcome {
	ws := from.workspace(e.TeamID, e.EnterpriseID)
	if ws == nil {
		return outcome{refused: "workspace does not belong to the secret"}
	}
	switch {
	case e.Type == "app_rate_limited":
		a.log.WarnContext(ctx, "slack limits the events of this app", "workspace", ws.TeamID)
	case e.Event.Type == "app_uninstalled", e.Event.Type == "tokens_revoked":
		a.log.ErrorContext(ctx, "slack app was removed or its token revoked", "workspace", ws.TeamID, "event", e.Event.Type)
	}
	return outcome{}
}

// viewErrors keeps a dialog open and shows a text under each field named.
type viewErrors struct {
	Action string            `json:"response_action"`
	Errors map[string]string `json:"errors"`
}

// suggestions answer a block_suggestion. No match is an empty list, not an absent one.
type suggestions struct {
	Options []option `json:"options"`
}
