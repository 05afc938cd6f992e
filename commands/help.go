package commands

import (
	"context"
	"maps"
	"slices"
	"strings"

	"ocim/adapters/chat"
	"ocim/ops"
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
	if cmd.Pairs {
		v.Params = append(v.Params, c.declared(cmd.Name)...)
	}
	switch {
	case cmd.Needs == "":
	case c.Service.May(c.In.Actor, cmd.Needs) == nil:
		v.Who += "; you are"
	default:
		v.Who += "; you are not"
	}
	return c.answer("help_command", v, chat.ToneNeutral)
}

// declared describes the parameters of a verb. Projects may declare different ones, so one that not
// every project has names those that do.
func (c *Commands) declared(verb string) []HelpParam {
	actions := c.Service.Fleet.Actions(verb)
	help, where := map[string]string{}, map[string][]string{}
	for _, project := range slices.Sorted(maps.Keys(actions)) {
		for _, p := range actions[project].Params {
			where[p.Name] = append(where[p.Name], project)
			if help[p.Name] == "" {
				help[p.Name] = describe(p)
			}
		}
	}
	var out []HelpParam
	for _, name := range slices.Sorted(maps.Keys(help)) {
		text := help[name]
		if len(where[name]) < len(actions) {
			text += " Only for " + strings.Join(where[name], ", ") + "."
		}
		out = append(out, HelpParam{f(name + "="), f(strings.TrimSpace(text))})
	}
	return append(out, HelpParam{"why=", "Free text that stands on the card."})
}

// describe is what a person needs to know to give a parameter.
func describe(p ops.ActionParam) string {
	var out []string
	if p.Help != "" {
		out = append(out, strings.TrimRight(p.Help, ".")+".")
	}
	switch {
	case len(p.Choices) > 0:
		out = append(out, "One of "+strings.Join(p.Choices, ", ")+".")
	case p.Type == ops.ParamInt:
		out = append(out, "A whole number.")
	case p.Type == ops.ParamBool:
		out = append(out, "true or false.")
	}
	if p.Required {
		out = append(out, "Required.")
	}
	if p.Secret {
		out = append(out, "Secret: the form takes it.")
	} else if p.Default != "" {
		out = append(out, "Without it: "+p.Default+".")
	}
	return strings.Join(out, " ")
}

// who says whom a command is for.
func who(cmd *Command) string {
	if cmd.Needs == "" {
		return "everybody"
	}
	return "whoever is listed under may." + string(cmd.Needs) + " in ocim.yaml"
}
