package mattermost

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/ops"
)

const (
	formBody = "application/x-www-form-urlencoded"
	jsonBody = "application/json"
	// maxTriggerID is generous: a real one has about 250 characters.
	maxTriggerID = 1024
)

// route checks what all three routes have in common, before a byte of the body is looked at: the
// secret segment, the content type and the size. A server never gets any of these wrong, so the
// answers are bare.
func (a *Adapter) route(kind, contentType string, serve func(*http.Request, *server, []byte) reply) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := a.servers[r.PathValue("server")]
		if s == nil || !s.segments[kind].Equal(r.PathValue("segment")) {
			a.log.Warn("request refused", "why", "no such server, or not the secret of this route")
			http.NotFound(w, r)
			return
		}
		if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != contentType {
			s.log.Warn("request refused", "why", "wrong content type")
			http.Error(w, "unsupported content type", http.StatusUnsupportedMediaType)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.maxBody))
		if err != nil {
			if long, ok := errors.AsType[*http.MaxBytesError](err); ok {
				s.log.Warn("request refused", "why", "it is too long", "limit", long.Limit)
				http.Error(w, "request too long", http.StatusRequestEntityTooLarge)
				return
			}
			s.log.Warn("request refused", "why", "it was cut off")
			http.Error(w, "request cut off", http.StatusBadRequest)
			return
		}
		ctx, cancel := clock.WithTimeout(r.Context(), a.clock, a.within)
		defer cancel()
		serve(r.WithContext(ctx), s, body).write(w, a)
	}
}

// reply is what goes back to the server. Mattermost shows people a bare error for everything but
// exactly 200, so whatever a person should read is a 200.
type reply struct {
	status int // 0 is 200
	body   any // nil: nothing at all
}

func (p reply) write(w http.ResponseWriter, a *Adapter) {
	if p.status != 0 {
		http.Error(w, http.StatusText(p.status), p.status)
		return
	}
	if p.body == nil { // an empty body that claims to be JSON is an error to the server
		w.WriteHeader(http.StatusOK)
		return
	}
	out, err := json.Marshal(p.body)
	if err != nil {
		a.log.Error("answer not encodable", "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonBody)
	_, _ = w.Write(out) // whoever hung up reads nothing
}

// command is a slash command as the server sends it.
type command struct {
	Token, TeamID, ChannelID, RootID string
	UserID, UserName                 string
	Text, TriggerID, ResponseURL     string
}

func decodeCommand(body []byte) (command, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return command{}, errors.New("not a form")
	}
	get := func(key string) string { return strings.ToValidUTF8(form.Get(key), "\ufffd") }
	c := command{
		Token: form.Get("token"), TeamID: get("team_id"), ChannelID: get("channel_id"), RootID: get("root_id"),
		UserID: get("user_id"), UserName: get("user_name"),
		Text: get("text"), TriggerID: get("trigger_id"), ResponseURL: form.Get("response_url"),
	}
	switch {
	case !validID(c.TeamID), !validID(c.ChannelID), !validID(c.UserID):
		return command{}, errors.New("team, channel or user id is missing or malformed")
	case c.RootID != "" && !validID(c.RootID):
		return command{}, errors.New("malformed root id")
	case c.TriggerID == "" || len(c.TriggerID) > maxTriggerID:
		return command{}, errors.New("trigger id is missing or too long")
	}
	return c, nil
}

func (a *Adapter) serveCommand(r *http.Request, s *server, body []byte) reply {
	c, err := decodeCommand(body)
	if err != nil {
		s.log.Warn("slash command refused", "why", err)
		return reply{status: http.StatusBadRequest}
	}
	wait, cancel := context.WithTimeout(r.Context(), quickTimeout)
	defer cancel()
	// The form's token is the proof; the Authorization header may hold somebody else's (an
	// outgoing OAuth connection replaces it).
	if !s.accepts(wait, a.tokens, c.TeamID, c.Token) {
		s.log.Warn("slash command refused", "why", "token is not that of the team", "team", c.TeamID)
		s.unhappy()
		return s.commandReply(r.Context(), a, c, *chat.Notice(chat.ToneBad,
			"⚠️ This command could not be verified, so nothing was done. Try again in a minute; if it stays, tell the operator of this bot."))
	}
	in := chat.Incoming{
		Key:       Platform + ":" + s.Name + ":" + c.TriggerID,
		Kind:      chat.Command,
		Actor:     ops.Actor{Platform: Platform, Workspace: s.Name, UserID: c.UserID},
		ActorName: c.UserName,
		From:      ops.Conversation{Platform: Platform, Workspace: s.Name, Channel: c.ChannelID, Thread: c.RootID},
		Trigger:   "/" + s.Command,
		Text:      c.Text,
	}
	in.Reply = a.replier(s, in, c.TriggerID, c.ResponseURL)
	ans := a.ack.Answer(r.Context(), in)
	if ans.Message == nil {
		return reply{}
	}
	return s.commandReply(r.Context(), a, c, *ans.Message)
}

// commandReply shows a message to the person who typed the command, and to nobody else.
func (s *server) commandReply(ctx context.Context, a *Adapter, c command, m chat.Message) reply {
	return reply{body: commandResponse(s.render(ctx, a.signer, m, binding{channel: c.ChannelID, user: c.UserID}))}
}

// commandResponse keeps foreign text out of the one rewriting that skip_slack_parsing does not
// switch off: <url|text> in attachments becomes a link, wherever in them < | and > stand. Only code
// can hold a bare <, and such a text is told as the answer's own.
func commandResponse(p rendered) *model.CommandResponse {
	out := &model.CommandResponse{
		ResponseType:     model.CommandResponseTypeEphemeral,
		Text:             p.message,
		SkipSlackParsing: true, // or <!channel> in a log line would come alive
	}
	for _, a := range p.attachments {
		if strings.Contains(a.Text, "<") {
			out.Text = join([]string{out.Text, a.Text})
			a.Text = ""
		}
		for _, f := range a.Fields {
			if v, ok := f.Value.(string); ok {
				f.Value = strings.ReplaceAll(v, "<", "‹")
			}
		}
		if a.Text != "" || a.Footer != "" || len(a.Fields)+len(a.Actions) > 0 {
			out.Attachments = append(out.Attachments, a)
		}
	}
	return out
}
