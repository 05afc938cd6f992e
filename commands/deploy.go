package commands

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

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
	switch {
	case !ok && (c.Plan || len(c.Pairs) > 0): // the list would start something, and without what was said
		return chat.Answer{}, c.missing("an instance")
	case !ok:
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
	if err := c.openly(t); err != nil {
		return ops.Request{}, err
	}
	params := maps.Clone(c.Pairs)
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
func (c *Call) openly(t ops.Target) error {
	if c.In.Kind != chat.Command {
		return nil
	}
	_, action, err := c.Service.Fleet.Action(t.Cluster, c.Command.Name)
	if err != nil {
		return err
	}
	for _, p := range action.Params {
		if _, given := c.Pairs[p.Name]; given && p.Secret {
			return &ops.Error{
				Code: ops.CodeInvalid, Reason: ops.ReasonInvalidParam, Msg: p.Name + " is secret, and chat keeps the text of commands; nothing was done.",
				Next: "Give it in the form that " + c.Trigger + " " + c.Command.Name + " opens, and change the value that you have typed here.",
			}
		}
	}
	return nil
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

// pick opens the list of instances.
func (c *Call) pick(ctx context.Context) (chat.Answer, error) {
	if c.In.Reply == nil {
		return chat.Answer{}, c.missing("an instance")
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
		State: c.seal(dialogState{Dialog: dialogDeploy, From: c.In.From}, c.In.Actor),
		Fields: []chat.Field{
			{Name: "instance", Label: "Instance", Kind: chat.FieldSearch, Options: options(all, "", 100)},
			{Name: "params", Label: "Parameters", Kind: chat.FieldText, Optional: true, Hint: "key=value, blanks between; leave empty for none", MaxLen: 150},
			{Name: "why", Label: "Why", Kind: chat.FieldText, Optional: true, Hint: "shown on the card", MaxLen: 150},
		},
	}
	if err := c.In.Reply.OpenDialog(ctx, d); err != nil {
		c.Log.Warn("open the list of instances", "actor", c.In.Actor.String(), "err", err)
		var e *ops.Error
		if !errors.As(err, &e) {
			e = &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonChatUnavailable, Err: err}
		}
		return chat.Answer{}, &ops.Error{
			Code: e.Code, Reason: ops.ReasonChatUnavailable, Msg: "The list could not be opened in time.",
			Next: "Try again, or name the instance: " + c.Trigger + " deploy <instance>.", Err: err,
		}
	}
	return chat.Answer{}, nil
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
