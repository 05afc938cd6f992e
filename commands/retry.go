package commands

import (
	"context"

	"ocim/adapters/chat"
	"ocim/ops"
)

func retryCommand() *Command {
	return &Command{
		Name: "retry", Summary: "run an operation again that did not succeed", Needs: ops.MayRetry, Mutates: true,
		Params:  []Param{{Name: "operation", Help: "its id, or the instance it worked on", Fold: true}},
		Example: []string{"retry k7m2qx", "retry demo", "retry demo --plan"},
		Run: func(ctx context.Context, c *Call) (chat.Answer, error) {
			op, err := c.named(ctx, "operation")
			if err != nil {
				return chat.Answer{}, err
			}
			if c.Plan {
				p, err := c.Service.PlanRetry(ctx, op.ID, c.In.Actor)
				if err != nil {
					return chat.Answer{}, err
				}
				return c.plan(p)
			}
			op, err = c.Service.Retry(ctx, op.ID, 0, c.In.Actor, c.In.ActorName, c.In.Key)
			if err != nil {
				return chat.Answer{}, err
			}
			return c.answer("accepted", c.accepted(ctx, op, "retry"), chat.ToneNeutral)
		},
	}
}
