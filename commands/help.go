package commands

import (
	"context"

	"ocim/adapters/chat"
)

func helpCommand() *Command {
	return &Command{
		Name: "help", Summary: "list the commands, or explain one",
		Params:  []Param{{Name: "command", Help: "the command to explain", Optional: true, Fold: true}},
		Example: []string{"help", "help deploy"},
		Run: func(_ context.Context, c *Call) (chat.Answer, error) {
			verb, ok := c.Args["command"]
			if !ok {
				return c.answer("help", HelpList{Trigger: f(c.Trigger), Commands: c.helpViews()}, chat.ToneNeutral)
			}
			cmd, err := c.find(verb)
			if err != nil {
				return chat.Answer{}, err
			}
			return c.help(cmd)
		},
	}
}

// HelpList is what the template "help" sees.
type HelpList struct {
	Trigger  chat.Foreign
	Commands []HelpView
}

// HelpView is one command for the templates "help" and "help_command".
type HelpView struct {
	Trigger, Name, Summary, Usage, Needs, Who chat.Foreign
	Params                                    []HelpParam
	Examples                                  []chat.Foreign
	Mutates                                   bool
}

// HelpParam is one argument of a command.
type HelpParam struct{ Name, Help chat.Foreign }

func (c *Commands) helpViews() []HelpView {
	var out []HelpView
	for _, cmd := range c.table {
		out = append(out, c.helpView(cmd))
	}
	return out
}

func (c *Commands) helpView(cmd *Command) HelpView {
	v := HelpView{
		Trigger: f(c.Trigger), Name: f(cmd.Name), Summary: f(cmd.Summary), Needs: f(string(cmd.Needs)), Who: f(who(cmd)), Mutates: cmd.Mutates,
		Usage: f(c.Trigger + " " + usage(cmd)[len("Usage: "):]),
	}
	for _, p := range cmd.Params {
		v.Params = append(v.Params, HelpParam{f(p.Name), f(p.Help)})
	}
	for _, e := range cmd.Example {
		v.Examples = append(v.Examples, f(c.Trigger+" "+e))
	}
	return v
}

// help explains a command to the person who asks.
func (c *Call) help(cmd *Command) (chat.Answer, error) {
	v := c.helpView(cmd)
	switch {
	case cmd.Needs == "":
	case c.Service.May(c.In.Actor, cmd.Needs) == nil:
		v.Who += "; you are"
	default:
		v.Who += "; you are not"
	}
	return c.answer("help_command", v, chat.ToneNeutral)
}

// who says whom a command is for.
func who(cmd *Command) string {
	if cmd.Needs == "" {
		return "everybody"
	}
	return "whoever is listed under may." + string(cmd.Needs) + " in ocim.yaml"
}
