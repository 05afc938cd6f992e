package mattermost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/ops"
)

// click is a pressed button. Only UserID is the server's word; the rest is true just for a button
// that we made, which the seal tells.
type click struct {
	UserID, UserName, ChannelID, PostID, TriggerID string
	Token, Seal                                    string
}

func decodeClick(body []byte) (click, error) {
	var req model.PostActionIntegrationRequest
	if err := decodeJSON(body, &req); err != nil {
		return click{}, err
	}
	c := click{
		UserID: req.UserId, UserName: req.UserName, ChannelID: req.ChannelId,
		PostID: req.PostId, TriggerID: req.TriggerId,
	}
	c.Token, _ = req.Context["t"].(string)
	c.Seal, _ = req.Context["m"].(string)
	switch {
	case !validID(c.UserID), !validID(c.ChannelID), !validID(c.PostID):
		return click{}, errors.New("user, channel or post id is missing or malformed")
	case c.TriggerID == "" || len(c.TriggerID) > maxTriggerID:
		return click{}, errors.New("trigger id is missing or too long")
	}
	return c, nil
}

// decodeJSON reads one JSON value and nothing after it.
func decodeJSON(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return errors.New("not the expected JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

func (a *Adapter) serveAction(r *http.Request, s *server, body []byte) reply {
	c, err := decodeClick(body)
	if err != nil {
		s.log.Warn("click refused", "why", err)
		return reply{status: http.StatusBadRequest}
	}
	if err := a.genuine(r.Context(), s, c); err != nil {
		s.log.Warn("click refused", "why", err, "user", c.UserID, "channel", c.ChannelID, "post", c.PostID)
		if ops.CodeOf(err) == ops.CodeUnavailable {
			return actionReply("⚠️ This button cannot be checked right now, so nothing was done. Try again in a minute.")
		}
		return actionReply("⚠️ This button is not one of this bot's, so nothing was done.")
	}
	in := chat.Incoming{
		Key:       Platform + ":" + s.Name + ":" + c.TriggerID,
		Kind:      chat.Click,
		Actor:     ops.Actor{Platform: Platform, Workspace: s.Name, UserID: c.UserID},
		ActorName: c.UserName,
		From:      ops.Conversation{Platform: Platform, Workspace: s.Name, Channel: c.ChannelID},
		Trigger:   "/" + s.Command,
		Button:    c.Token,
		Message:   c.PostID,
	}
	in.Reply = a.replier(s, in, c.TriggerID, "")
	ans := a.ack.Answer(r.Context(), in)
	if ans.Message == nil {
		return actionReply("")
	}
	return a.actionAnswer(r.Context(), s, in, *ans.Message)
}

// genuine tells a click on a button of ours from all others: sealed by us for this channel, and on
// a post that the bot wrote. A post that only one person sees is not stored on the server, so its
// buttons are sealed for that person instead.
func (a *Adapter) genuine(ctx context.Context, s *server, c click) error {
	user, err := openAction(a.signer, s.Name, c.ChannelID, c.Token, c.Seal)
	if err != nil {
		return err
	}
	if user != "" {
		if user != c.UserID {
			return errors.New("sealed for another person")
		}
		return nil
	}
	if channel, ok := s.remembered(c.PostID); ok {
		if channel != c.ChannelID {
			return errors.New("post stands in another channel")
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	bot, err := s.me(ctx)
	if err != nil {
		return err
	}
	post, err := s.getPost(ctx, c.PostID)
	switch {
	case err != nil:
		return err
	case post.UserId != bot:
		return errors.New("post is somebody else's")
	case post.ChannelId != c.ChannelID:
		return errors.New("post stands in another channel")
	case post.DeleteAt != 0:
		return errors.New("post is deleted")
	}
	s.remember(post.Id, post.ChannelId)
	return nil
}

// actionAnswer shows a message to the person who clicked. The answer to a click is text only, so a
// message with buttons goes as a private post or a direct message.
func (a *Adapter) actionAnswer(ctx context.Context, s *server, in chat.Incoming, m chat.Message) reply {
	text := renderText(m, s.usernames(ctx, mentioned(m)))
	if len(actions(m.Buttons, noIntegration)) == 0 {
		return actionReply(text)
	}
	if s.ephemeral(ctx, a.signer, in, m) == nil {
		return actionReply("")
	}
	if err := a.direct(ctx, in.Actor, m); err != nil {
		s.log.Warn("answer with buttons not delivered", "err", err)
		return actionReply(text)
	}
	return actionReply("Your answer, with its buttons, is in a direct message.")
}

func noIntegration(chat.Button) *model.PostActionIntegration { return nil }

func actionReply(text string) reply {
	return reply{body: &model.PostActionIntegrationResponse{EphemeralText: text, SkipSlackParsing: true}}
}
