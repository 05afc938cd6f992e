package commands

import (
	"context"

	"ocim/adapters/chat"
	"ocim/ops"
)

func operationsCommand() *Command {
	return &Command{
		Name: "operations", Summary: "list the last operations, of all or of one instance",
		Params:  []Param{{Name: "instance", Help: "only those of this instance", Optional: true, Fold: true}},
		Example: []string{"operations", "operations demo"},
		Run: func(ctx context.Context, c *Call) (chat.Answer, error) {
			flt := ops.Filter{Limit: 15}
			title := "Last operations"
			if name, ok := c.Args["instance"]; ok {
				ask, cancel := context.WithTimeout(ctx, liveWait)
				defer cancel()
				t, err := c.Service.Fleet.Resolve(ask, name, false)
				if err != nil {
					return chat.Answer{}, err
				}
				flt.Target, title = t, "Last operations on "+t.String()
			}
			return c.list(ctx, flt, title, "No operation yet.")
		},
	}
}

// OperationList is what the template "operations" sees.
type OperationList struct {
	Title, Empty chat.Foreign
	Operations   []OperationView
}

func (c *Commands) list(ctx context.Context, flt ops.Filter, title, empty string) (chat.Answer, error) {
	v := OperationList{Title: f(title), Empty: f(empty)}
	now := c.Service.Clock.Now()
	err := c.Service.Store.View(ctx, func(r ops.Reader) error {
		found, err := r.Operations(ctx, flt)
		for _, op := range found {
			v.Operations = append(v.Operations, operationView(op, now))
		}
		return err
	})
	if err != nil {
		return chat.Answer{}, err
	}
	return c.answer("operations", v, chat.ToneNeutral)
}
