package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// click handles a pressed button. The token says what the button was made for; the row says what
// is so now; the policy says who may. A button counts only on the very message that we posted: a
// copy of it, wherever it stands, carries the same token and is answered with the way to the card.
func (c *Commands) click(ctx context.Context, in chat.Incoming) (chat.Answer, error) {
	capa, err := ops.OpenCapability(c.Service.Signer, in.Button)
	if err != nil {
		return chat.Answer{}, forged(err)
	}
	if capa.Platform != in.Actor.Platform || capa.Workspace != in.Actor.Workspace {
		return chat.Answer{}, forged(errors.New("button of another workspace"))
	}
	op, err := c.operation(ctx, capa.Operation)
	if err != nil {
		return chat.Answer{}, err
	}
	card, err := c.cardOf(ctx, op.ID)
	if err != nil {
		return chat.Answer{}, err
	}
	if card.Ref == "" || card.Ref != in.Message || card.To.Channel != in.From.Channel || capa.Channel != in.From.Channel {
		return chat.Answer{}, c.copied(capa.Verb, op)
	}
	if capa.Verb == "logs" {
		return c.logs(ctx, op, "")
	}
	if at := time.Unix(capa.Expires, 0).UTC(); c.Service.Clock.Now().After(at) {
		return chat.Answer{}, &ops.Error{
			Code: ops.CodeStale, Reason: ops.ReasonOldButton, Operation: op.ID,
			Msg:  fmt.Sprintf("That button could be used until %s. %s of %s is %s.", at.Format("2006-01-02"), op.Request.Action, op.Request.Target, op.State),
			Next: "Type " + c.Trigger + " " + capa.Verb + " " + op.ID + " instead.",
		}
	}
	if err := c.member(ctx, in); err != nil {
		return chat.Answer{}, err
	}
	switch capa.Verb {
	case "cancel":
		return c.askCancel(ctx, in, op, capa.Run)
	case "retry":
		op, err := c.Service.Retry(ctx, op.ID, capa.Run, in.Actor, in.ActorName, in.Key)
		if err != nil {
			return chat.Answer{}, err
		}
		return c.answer("accepted", c.accepted(ctx, op, "retry"), chat.ToneNeutral)
	}
	return chat.Answer{}, forged(fmt.Errorf("unknown verb %q", capa.Verb))
}

func forged(cause error) error {
	return &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonForgedButton, Msg: "That button is not one of mine; nothing was done.", Err: cause}
}

// copied tells who pressed a button on a copy of a card, or on one that the bot keeps no more, how
// things are and what to do. It does nothing, since nobody vouches for what stands around the button.
func (c *Commands) copied(verb string, op ops.Operation) error {
	return &ops.Error{
		Code: ops.CodeStale, Reason: ops.ReasonCopiedCard, Operation: op.ID,
		Msg:  fmt.Sprintf("That is not the card I keep for this operation; nothing was done. %s of %s is %s.", op.Request.Action, op.Request.Target, op.State),
		Next: "Press the button on its card, or type " + c.Trigger + " " + verb + " " + op.ID + ".",
	}
}

// cardOf is the card of an operation. Its Ref is empty if it does not stand.
func (c *Commands) cardOf(ctx context.Context, id string) (card ops.Delivery, err error) {
	err = c.Service.Store.View(ctx, func(r ops.Reader) error {
		ds, err := r.Deliveries(ctx, id)
		for _, d := range ds {
			if d.Kind == ops.DeliverCard {
				card = d
			}
		}
		return err
	})
	if err != nil {
		return card, fmt.Errorf("read card of %s: %w", id, err)
	}
	if card.Ref == "" && !card.PostingAt.IsZero() { // it stands, but the answer to the post was lost
		if p, ok := c.Platforms(card.To.Platform); ok {
			if ref, found, ferr := p.Find(ctx, card.To, card.Key); ferr == nil && found {
				card.Ref = ref
			}
		}
	}
	return card, nil
}

// member asks the platform whether the person may still see the channel. Without an answer nothing
// is changed.
func (c *Commands) member(ctx context.Context, in chat.Incoming) error {
	p, ok := c.Platforms(in.Actor.Platform)
	if !ok {
		return forged(errors.New("unknown platform"))
	}
	ask, cancel := context.WithTimeout(ctx, liveWait)
	defer cancel()
	m, err := p.Member(ask, in.Actor, in.From)
	if err != nil {
		return &ops.Error{
			Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Err: err,
			Msg: "Chat does not say whether you belong to this channel; nothing was done.", Next: "Try again in a moment.",
		}
	}
	if !m.Active || m.Guest || !m.Member {
		return &ops.Error{Code: ops.CodeDenied, Reason: ops.ReasonNotAllowed, Msg: "Only members of this channel may do that; nothing was done."}
	}
	return nil
}

// askCancel asks once more, since a canceled deploy may leave an instance half updated.
func (c *Commands) askCancel(ctx context.Context, in chat.Incoming, op ops.Operation, run int) (chat.Answer, error) {
	if !c.Service.Policy.Allowed(in.Actor, ops.MayCancel) || op.State.Final() || run != op.Run || in.Reply == nil {
		op, err := c.Service.Cancel(ctx, op.ID, run, in.Actor, in.Key) // says why not
		if err != nil {
			return chat.Answer{}, err
		}
		return c.answer("accepted", c.accepted(ctx, op, "cancel"), chat.ToneWarn)
	}
	d := chat.Dialog{
		Name: dialogCancel, Title: "Cancel this run?", Submit: "Cancel the run",
		State: c.seal(dialogState{Dialog: dialogCancel, From: in.From, Operation: op.ID, Run: run}, in.Actor),
		Intro: fmt.Sprintf("%s of %s (%s) is %s. Its pipelines and their children are canceled; what they have changed so far stays as it is.", op.Request.Action, op.Request.Target, op.ID, op.State),
	}
	if err := in.Reply.OpenDialog(ctx, d); err != nil {
		e := unopened(err, "The question", "Press again", "type "+c.Trigger+" cancel "+op.ID)
		e.Operation = op.ID
		return chat.Answer{}, e
	}
	return chat.Answer{}, nil
}
