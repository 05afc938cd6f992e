// Package commands translates between people and package ops: one table of commands gives the
// grammar, the help, the dialogs and the docs page on every platform. It keeps no state of its
// own; what a button or a dialog needs to know travels in them, sealed.
package commands

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// Config is what Commands needs; every field but PerMinute is required.
type Config struct {
	Service   *ops.Service
	Platforms func(name string) (chat.Platform, bool)
	Templates *chat.Templates
	Trigger   string // how commands begin, such as /ocim, where a request does not say it
	Log       *slog.Logger
	PerMinute int // requests that one person may make in a minute; 0: no bound
}

// Commands handles what people type and press. It implements [chat.Handler] and is safe for
// concurrent use.
type Commands struct {
	Config
	table []*Command
	limit *limiter
}

// New returns the handler.
func New(c Config) *Commands {
	return &Commands{Config: c, table: table(), limit: newLimiter(c.PerMinute, c.Service.Clock)}
}

// Handle implements [chat.Handler].
func (c *Commands) Handle(ctx context.Context, in chat.Incoming) chat.Answer {
	ctx = ops.Urgent(ctx)
	c = c.speakingTo(in)
	if wait, first := c.limit.take(in.Actor); wait > 0 {
		return c.tooMany(ctx, in, wait, first)
	}
	var a chat.Answer
	var err error
	switch in.Kind {
	case chat.Command:
		a, err = c.command(ctx, in)
	case chat.Click:
		a, err = c.click(ctx, in)
	case chat.Submit:
		a, err = c.submit(ctx, in)
	case chat.Suggest:
		return c.suggest(ctx, in)
	}
	if err == nil {
		return a
	}
	return c.refusal(ctx, in, err)
}

// speakingTo returns c with the trigger that is typed where in comes from: an operator may have
// given the command another name there.
func (c *Commands) speakingTo(in chat.Incoming) *Commands {
	if in.Trigger == "" || in.Trigger == c.Trigger {
		return c
	}
	there := *c
	there.Trigger = in.Trigger
	return &there
}

func (c *Commands) command(ctx context.Context, in chat.Incoming) (chat.Answer, error) {
	ws, err := words(in.Text)
	if err != nil {
		return chat.Answer{}, err
	}
	if len(ws) == 0 {
		ws = []string{"help"}
	}
	cmd, err := c.find(ws[0])
	if err != nil {
		return chat.Answer{}, err
	}
	return c.run(ctx, in, cmd, ws[1:])
}

func (c *Commands) run(ctx context.Context, in chat.Incoming, cmd *Command, ws []string) (chat.Answer, error) {
	call, err := parse(cmd, ws)
	if err != nil {
		return chat.Answer{}, c.pointing(cmd, err)
	}
	call.Commands, call.In = c, in
	if call.Args["--help"] != "" {
		return call.help(cmd)
	}
	// Who may not do it learns that first, and nothing about what exists.
	if cmd.Needs != "" {
		if err := c.Service.May(in.Actor, cmd.Needs); err != nil {
			return chat.Answer{}, err
		}
	}
	a, err := cmd.Run(ctx, call)
	return a, c.pointing(cmd, err)
}

// pointing adds where a command is explained to an error about how it was typed that says nothing on
// what to do.
func (c *Commands) pointing(cmd *Command, err error) error {
	e, ok := errors.AsType[*ops.Error](err)
	if !ok || e.Code != ops.CodeInvalid || e.Next != "" || len(e.Suggest) > 0 || e.Operation != "" {
		return err
	}
	there := *e
	there.Next = "See " + c.Trigger + " help " + cmd.Name + "."
	return &there
}

// find looks a verb up: phones capitalise it and end it with a full stop.
func (c *Commands) find(verb string) (*Command, error) {
	v := strings.ToLower(strings.TrimRight(strings.TrimLeft(verb, "/-"), ".,;!?"))
	var names []string
	for _, cmd := range c.table {
		if cmd.Name == v {
			return cmd, nil
		}
		names = append(names, cmd.Name)
	}
	return nil, &ops.Error{
		Code: ops.CodeNotFound, Reason: ops.ReasonUnknownVerb, Msg: "There is no command " + quote(verb) + ".",
		Next: "See " + c.Trigger + " help.", Suggest: ops.Nearest(v, names, 3),
	}
}

func quote(s string) string { return `"` + chat.Cut(chat.Clean(s), 60) + `"` }

// Refusal is what the template "error" sees.
type Refusal struct {
	Msg, Pattern, Reason, Next, Operation, Link chat.Foreign
	Suggest                                     []chat.Foreign
}

// refusal tells a person what happened, why, and what to do next. The cause goes to the log only.
func (c *Commands) refusal(ctx context.Context, in chat.Incoming, err error) chat.Answer {
	var e *ops.Error
	if !errors.As(err, &e) {
		c.Log.Error("request failed", "actor", in.Actor.String(), "err", err)
		e = &ops.Error{
			Code: ops.CodeInternal, Reason: ops.ReasonInternal, Msg: "Something went wrong here, and nothing was started.",
			Next: "Try again; if it stays, tell the operator of this bot.",
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			e.Code, e.Reason, e.Msg = ops.CodeUnavailable, ops.ReasonStoreUnavailable, "This took too long, and it is not certain that it was recorded."
			e.Next = "Look with " + c.Trigger + " operations before you repeat it."
		}
	} else {
		c.Log.Info("request refused", "actor", in.Actor.String(), "reason", string(e.Reason), "err", err)
	}
	a := c.tell(ctx, e)
	if in.Kind == chat.Submit {
		a.Message.Tone = chat.ToneBad // Mattermost shows that in the dialog, which stays open
	}
	return a
}

// tell renders an error. It always says what can be done next.
func (c *Commands) tell(ctx context.Context, e *ops.Error) chat.Answer {
	r := Refusal{Msg: f(e.Msg), Pattern: f(e.Pattern), Reason: f(string(e.Reason)), Next: f(next(e, c.Trigger)), Operation: f(e.Operation)}
	for _, s := range e.Suggest {
		r.Suggest = append(r.Suggest, f(s))
	}
	if e.Operation != "" {
		r.Link = f(c.permalink(ctx, e.Operation))
	}
	m, rerr := c.Templates.Render("error", r)
	if rerr != nil {
		c.Log.Error("template", "err", rerr)
		m = *chat.Notice(chat.ToneBad, e.Msg+" ("+string(e.Reason)+") "+e.Next)
	}
	m.Tone = chat.ToneWarn
	return chat.Answer{Message: &m}
}

// next is what a person can do about an error. It is empty only where there are suggestions.
func next(e *ops.Error, trigger string) string {
	switch {
	case e.Next != "" || len(e.Suggest) > 0:
		return e.Next
	case e.Operation != "":
		return "See " + trigger + " status " + e.Operation + "."
	case e.Code == ops.CodeUnavailable:
		return "Try again in a moment."
	}
	return "See " + trigger + " help."
}

// permalink is the address of an operation's card, empty if it has none yet.
func (c *Commands) permalink(ctx context.Context, id string) string {
	link := ""
	err := c.Service.Store.View(ctx, func(r ops.Reader) error {
		ds, err := r.Deliveries(ctx, id)
		for _, d := range ds {
			if d.Kind == ops.DeliverCard && d.Ref != "" {
				if p, ok := c.Platforms(d.To.Platform); ok {
					link = p.Permalink(d.To, d.Ref)
				}
			}
		}
		return err
	})
	if err != nil {
		c.Log.Warn("look for a card", "op", id, "err", err)
	}
	return link
}

// answer renders a template as the answer.
func (c *Commands) answer(name string, data any, tone chat.Tone) (chat.Answer, error) {
	m, err := c.Templates.Render(name, data)
	if err != nil {
		return chat.Answer{}, err
	}
	m.Tone = tone
	return chat.Answer{Message: &m}, nil
}

func f(s string) chat.Foreign { return chat.Foreign(s) }

// liveWait is how long an answer waits for GitLab before it shows what is on disk: the person is
// answered within the platform's deadline either way.
const liveWait = 1500 * time.Millisecond
