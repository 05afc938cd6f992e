package commands

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"ocim/adapters/chat"
	"ocim/ops"
)

func deployCommand() *Command {
	return &Command{
		Name: "deploy", Summary: "update and redeploy an instance that exists", Needs: ops.MayStart, Mutates: true, Pairs: true,
		Params:  []Param{{Name: "instance", Help: "its name, or cluster/name; without it a list opens", Optional: true, Fold: true}},
		Example: []string{"deploy", "deploy demo", "deploy eu/demo why=\"new theme\"", "deploy demo --plan"},
		Run:     runDeploy,
	}
}

func runDeploy(ctx context.Context, c *Call) (chat.Answer, error) {
	name, ok := c.Args["instance"]
	if !ok {
		return c.pick(ctx)
	}
	r, err := c.request(ctx, name)
	if err != nil {
		return chat.Answer{}, err
	}
	if c.Plan {
		p, err := c.Service.Plan(ctx, r)
		if err != nil {
			return chat.Answer{}, err
		}
		return c.plan(p)
	}
	op, err := c.Service.Submit(ctx, r)
	if err != nil {
		return chat.Answer{}, err
	}
	return c.answer("accepted", c.accepted(ctx, op, ""), chat.ToneNeutral)
}

// request makes the request of a verb on one instance. When GitLab cannot say whether the instance
// exists, the request is taken and checked again before anything starts.
func (c *Call) request(ctx context.Context, name string) (ops.Request, error) {
	ask, cancel := context.WithTimeout(ctx, liveWait)
	defer cancel()
	t, err := c.Service.Fleet.Resolve(ask, name, false)
	if err != nil && (ops.CodeOf(err) != ops.CodeUnavailable || t.Cluster == "") {
		return ops.Request{}, err
	}
	_, action, err := c.Service.Fleet.Action(t.Cluster, c.Command.Name)
	if err != nil {
		return ops.Request{}, err
	}
	if err := c.openly(action.Params); err != nil {
		return ops.Request{}, err
	}
	params, err := fold(action.Params, c.Pairs)
	if err != nil {
		return ops.Request{}, err
	}
	why := params["why"]
	delete(params, "why")
	if len(why) > 500 {
		return ops.Request{}, &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInvalidParam, Msg: "why: at most 500 bytes."}
	}
	return ops.Request{
		Key: c.In.Key, Actor: c.In.Actor, ActorName: c.In.ActorName, From: c.In.From,
		Action: c.Command.Name, Target: t, Params: params, Why: chat.Clean(why),
	}, nil
}

// openly refuses secret parameters in the text of a command: chat platforms keep that text, in logs
// and in the history of the input field. The form takes them.
func (c *Call) openly(declared []ops.ActionParam) error {
	if c.In.Kind != chat.Command {
		return nil
	}
	for _, p := range declared {
		given := func(key string) bool { return strings.EqualFold(key, p.Name) }
		if p.Secret && slices.ContainsFunc(slices.Collect(maps.Keys(c.Pairs)), given) {
			return &ops.Error{
				Code: ops.CodeInvalid, Reason: ops.ReasonInvalidParam, Msg: p.Name + " is secret, and chat keeps the text of commands; nothing was done.",
				Next: "Give it in the form that " + c.Trigger + " " + c.Command.Name + " opens, and change the value that you have typed here.",
			}
		}
	}
	return nil
}

// fold gives keys the case in which they are declared: phones write the first word of a line, and
// what follows a full stop, with a capital letter.
func fold(declared []ops.ActionParam, given map[string]string) (map[string]string, error) {
	names := []string{"why"}
	for _, p := range declared {
		names = append(names, p.Name)
	}
	out := make(map[string]string, len(given))
	for _, key := range slices.Sorted(maps.Keys(given)) {
		name := key
		if !slices.Contains(names, key) {
			near := slices.Clone(names)
			if near = slices.DeleteFunc(near, func(n string) bool { return !strings.EqualFold(n, key) }); len(near) == 1 {
				name = near[0]
			}
		}
		if _, twice := out[name]; twice {
			return nil, invalid("%s is given twice.", quote(name))
		}
		out[name] = given[key]
	}
	return out, nil
}

// Accepted is what the template "accepted" sees.
type Accepted struct {
	ID, Action, Instance, Cluster, State, Trigger, Done, Link chat.Foreign
	Run                                                       int
}

func (c *Commands) accepted(ctx context.Context, op ops.Operation, done string) Accepted {
	link := ""
	if op.State != ops.Requested || op.Version > 0 { // else it was recorded a moment ago and has no card yet
		link = c.permalink(ctx, op.ID)
	}
	return Accepted{
		ID: f(op.ID), Action: f(op.Request.Action), Instance: f(op.Request.Target.Instance), Cluster: f(op.Request.Target.Cluster),
		State: f(string(op.State)), Trigger: f(c.Trigger), Done: f(done), Run: op.Run, Link: f(link),
	}
}

// PlanView is what the template "plan" sees.
type PlanView struct {
	Action, Instance, Cluster, Project, GitRef, Start, Body, Busy chat.Foreign
	Unverified                                                    bool
	Follow                                                        bool
}

func (c *Call) plan(p ops.Plan) (chat.Answer, error) {
	r := p.Operation.Request
	return c.answer("plan", PlanView{
		Action: f(r.Action), Instance: f(r.Target.Instance), Cluster: f(r.Target.Cluster), Project: f(p.Spec.Project), GitRef: f(p.Spec.GitRef),
		Start: f(startText(p.Spec.Start)), Body: f(planBody(p.Spec)), Busy: f(p.Busy), Unverified: p.Action.Unverified, Follow: p.Action.Follow == ops.FollowMergeRequest,
	}, chat.ToneNeutral)
}

func startText(s ops.Start) string {
	if s == ops.StartPipeline {
		return "POST /projects/:id/pipeline"
	}
	return "POST /projects/:id/trigger/pipeline"
}

// planBody is the request body as it would be sent, the token masked. Key and number are new for
// every request; the plan shows their form.
func planBody(s ops.PipelineSpec) string {
	body := map[string]any{"ref": s.GitRef}
	if s.Start == ops.StartTrigger {
		body["token"] = "***"
		body["variables"] = s.Variables
	} else {
		var list []map[string]string
		for _, k := range slices.Sorted(maps.Keys(s.Variables)) {
			list = append(list, map[string]string{"key": k, "value": s.Variables[k], "variable_type": "env_var"})
		}
		body["variables"] = list
	}
	if len(s.Inputs) > 0 {
		body["inputs"] = s.Inputs
	}
	for k, v := range s.Payload {
		body[k] = v
	}
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(text))
}

// pick opens the list of instances. What was typed without an instance stands in the form already.
func (c *Call) pick(ctx context.Context) (chat.Answer, error) {
	if c.In.Reply == nil {
		return chat.Answer{}, c.missing("an instance")
	}
	var declared []ops.ActionParam
	for _, a := range c.Service.Fleet.Actions(c.Command.Name) {
		declared = append(declared, a.Params...)
	}
	if err := c.openly(declared); err != nil {
		return chat.Answer{}, err
	}
	given, err := fold(nil, c.Pairs)
	if err != nil {
		return chat.Answer{}, err
	}
	ask, cancel := context.WithTimeout(ctx, liveWait)
	defer cancel()
	all, unread := c.Service.Fleet.Instances(ask)
	if len(all) == 0 {
		e := &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonUnknownInstance, Msg: "There are no instances to choose from.", Next: "Clusters and instances stand in ocim.yaml or in the repository's instances folder."}
		if len(unread) > 0 {
			e.Code, e.Reason = ops.CodeUnavailable, ops.ReasonGitLabUnavailable
			e.Msg, e.Next = "GitLab does not answer, so the list of instances is not known.", "Name the instance: "+c.Trigger+" deploy cluster/name."
		}
		return chat.Answer{}, e
	}
	d := chat.Dialog{
		Name: dialogDeploy, Title: "Deploy an instance", Submit: "Deploy",
		State: c.seal(dialogState{Dialog: dialogDeploy, From: c.In.From, Plan: c.Plan}, c.In.Actor),
		Fields: []chat.Field{
			{Name: "instance", Label: "Instance", Kind: chat.FieldSearch, Options: options(all, "", 100)},
			textField(chat.Field{Name: "params", Label: "Parameters", Hint: "key=value, blanks between; leave empty for none", Default: typedPairs(given)}),
			textField(chat.Field{Name: "why", Label: "Why", Hint: "shown on the card", Default: given["why"]}),
		},
	}
	if c.Plan {
		d.Title, d.Submit = "Plan a deploy", "Show the plan"
	}
	if err := c.In.Reply.OpenDialog(ctx, d); err != nil {
		c.Log.Warn("open the list of instances", "actor", c.In.Actor.String(), "err", err)
		return chat.Answer{}, unopened(err, "The list", "Try again", "name the instance: "+c.Trigger+" deploy <instance>")
	}
	return chat.Answer{}, nil
}

// textField completes an optional field of text. Mattermost takes 150 characters on one line and
// 3,000 on several (model/integration_action.go, DialogElementTextMaxLength and -Textarea-).
func textField(f chat.Field) chat.Field {
	f.Kind, f.Optional, f.MaxLen = chat.FieldText, true, 150
	if utf8.RuneCountInString(f.Default) > f.MaxLen {
		f.Kind, f.MaxLen = chat.FieldLines, 3000
	}
	return f
}

// typedPairs writes parameters as they could be typed, without why, which has its own field.
func typedPairs(pairs map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		v := pairs[k]
		if strings.ContainsFunc(v, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"'\`, r) }) {
			v = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
		}
		if k != "why" {
			out = append(out, k+"="+v)
		}
	}
	return strings.Join(out, " ")
}

// options lists targets that contain what was typed, at most n.
func options(all []ops.Target, typed string, n int) []chat.Option {
	typed = strings.ToLower(strings.TrimSpace(typed))
	var out []chat.Option
	for _, t := range all {
		if len(out) == n {
			break
		}
		if s := t.String(); strings.Contains(s, typed) && len(s) <= 75 {
			out = append(out, chat.Option{Label: t.Instance + " on " + t.Cluster, Value: s})
		}
	}
	for i, o := range out {
		out[i].Label = chat.Cut(o.Label, 75)
	}
	return out
}
