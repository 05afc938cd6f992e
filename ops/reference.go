package ops

import (
	"context"
	"encoding/json"
	"fmt"
)

// Reference is what every pipeline carries in ocim_ref, sealed: enough to fill a lost store again.
type Reference struct {
	Operation string            `json:"o"`
	Run       int               `json:"r"`
	Key       string            `json:"k"`
	Number    int64             `json:"n"`
	Action    string            `json:"v"`
	Target    Target            `json:"t"`
	Params    map[string]string `json:"p,omitempty"`
	Actor     Actor             `json:"a"`
	RunBy     Actor             `json:"b"`
	ActorName string            `json:"an,omitempty"`
	From      Conversation      `json:"f"`
	Card      string            `json:"c,omitempty"` // the card's message id, if it stood by then
	CardIn    *Conversation     `json:"ci,omitempty"`
	CreatedAt int64             `json:"at"` // Unix microseconds
}

// reference seals what is needed to recover the operation.
func (s *Service) reference(ctx context.Context, op Operation) (string, error) {
	r := Reference{
		Operation: op.ID, Run: op.Run, Key: op.Key, Number: op.Number, Action: op.Request.Action, Target: op.Request.Target,
		Params: op.Request.Params, Actor: op.Request.Actor, RunBy: op.RunBy, ActorName: op.Request.ActorName, From: op.Request.From,
		CreatedAt: op.CreatedAt.UnixMicro(),
	}
	err := s.Store.View(ctx, func(rd Reader) error {
		ds, err := rd.Deliveries(ctx, op.ID)
		for _, d := range ds {
			if d.Kind == DeliverCard && d.Ref != "" {
				r.Card = d.Ref
				if d.To != op.Request.From {
					r.CardIn = &d.To
				}
			}
		}
		return err
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode reference of %s: %w", op.ID, err)
	}
	return s.Signer.Seal(PurposeReference, text), nil
}
