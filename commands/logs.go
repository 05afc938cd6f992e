package commands

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ocim/adapters/chat"
	"ocim/ops"
)

func logsCommand() *Command {
	return &Command{
		Name: "logs", Summary: "show the last lines of a job's log, secrets redacted",
		Params: []Param{
			{Name: "operation", Help: "its id, or the instance it works on", Fold: true},
			{Name: "job", Help: "name or number of the job; without it the failed or the running one", Optional: true},
		},
		Example: []string{"logs k7m2qx", "logs demo deploy"},
		Run: func(ctx context.Context, c *Call) (chat.Answer, error) {
			op, err := c.named(ctx, "operation")
			if err != nil {
				return chat.Answer{}, err
			}
			return c.logs(ctx, op, c.Args["job"])
		},
	}
}

// logBytes bounds what an answer shows of a log; Slack's blocks hold 3,000 characters each.
const logBytes = 6000

// LogView is what the template "logs" sees.
type LogView struct {
	ID, Job, Stage, Status, URL, Tail, NoTail chat.Foreign
	Others                                    []chat.Foreign
}

func (c *Commands) logs(ctx context.Context, op ops.Operation, want string) (chat.Answer, error) {
	if len(op.Pipelines) == 0 {
		return chat.Answer{}, &ops.Error{
			Code: ops.CodeNotFound, Reason: ops.ReasonUnknownOperation, Operation: op.ID,
			Msg: fmt.Sprintf("There is no log: %s of %s has no pipeline yet.", op.Request.Action, op.Request.Target),
		}
	}
	var jobs []ops.Job
	for _, p := range op.Pipelines {
		js, err := c.Service.Pipelines.Jobs(ctx, p.Ref)
		if err != nil && (p.Role != ops.RoleChild || ops.CodeOf(err) == ops.CodeUnavailable) {
			return chat.Answer{}, err // a child may run where the bot may not read
		}
		jobs = append(jobs, js...)
	}
	j, err := choose(jobs, want)
	if err != nil {
		return chat.Answer{}, err
	}
	v := LogView{ID: f(op.ID), Job: f(j.Name), Stage: f(j.Stage), Status: f(j.Status), URL: f(j.URL)}
	tail, terr := c.Service.Tail(ctx, op, j, logBytes)
	switch {
	case terr != nil:
		v.NoTail = f("The log is not retrievable: " + c.Service.RedactFor(op, ops.UserMsg(terr)))
	case strings.TrimSpace(tail) == "":
		v.NoTail = "The job has written no log."
	default:
		v.Tail = f(tail)
	}
	for _, o := range jobs {
		if o.ID != j.ID && len(v.Others) < 20 {
			v.Others = append(v.Others, f(o.Name))
		}
	}
	return c.answer("logs", v, chat.ToneNeutral)
}

// choose finds the job that a person means: the one named, or the one that failed, or the one that
// runs, or the last that ended.
func choose(jobs []ops.Job, want string) (ops.Job, error) {
	if len(jobs) == 0 {
		return ops.Job{}, &ops.Error{Code: ops.CodeNotFound, Reason: ops.ReasonUnknownOperation, Msg: "There is no log: the pipelines have no jobs yet."}
	}
	if want != "" {
		var names []string
		for _, j := range slices.Backward(jobs) {
			if strings.EqualFold(j.Name, want) || strconv.FormatInt(j.ID, 10) == strings.TrimLeft(want, "#") {
				return j, nil
			}
			names = append(names, j.Name)
		}
		return ops.Job{}, &ops.Error{
			Code: ops.CodeNotFound, Reason: ops.ReasonInvalidCommand, Msg: "There is no job " + quote(want) + ".",
			Next: "Jobs: " + strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ", ") + ".", Suggest: ops.Nearest(want, names, 3),
		}
	}
	best, rank := jobs[len(jobs)-1], 0
	for _, j := range jobs {
		r := 0
		switch j.Status {
		case "failed":
			r = 3
			if j.AllowFailure {
				r = 1
			}
		case "running":
			r = 2
		case "success", "canceled":
			r = 1
		}
		if r > rank || r == rank && r == 1 {
			best, rank = j, r
		}
	}
	return best, nil
}
