package commands

import (
	"context"

	"ocim/adapters/chat"
	"ocim/ops"
)

func whoamiCommand() *Command {
	return &Command{
		Name: "whoami", Summary: "show who you are to this bot and what you may do",
		Example: []string{"whoami"},
		Run: func(_ context.Context, c *Call) (chat.Answer, error) {
			v := WhoamiView{Platform: f(c.In.Actor.Platform), Workspace: f(c.In.Actor.Workspace), UserID: f(c.In.Actor.UserID), Name: f(c.In.ActorName), Trigger: f(c.Trigger)}
			for _, p := range []ops.Permission{ops.MayStart, ops.MayCancel, ops.MayRetry} {
				if c.Service.Policy.Allowed(c.In.Actor, p) {
					v.May = append(v.May, f(string(p)))
				}
			}
			return c.answer("whoami", v, chat.ToneNeutral)
		},
	}
}

// WhoamiView is what the template "whoami" sees.
type WhoamiView struct {
	Platform, Workspace, UserID, Name, Trigger chat.Foreign
	May                                        []chat.Foreign
}
