package commands

import (
	"context"
	"errors"
	"strings"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

func statusCommand() *Command {
	return &Command{
		Name: "status", Summary: "show where an operation, an instance or a cluster stands, read from GitLab now",
		Params:  []Param{{Name: "operation|instance|cluster", Help: "what to look at; without it, all that is under way", Optional: true, Fold: true}},
		Example: []string{"status", "status k7m2qx", "status demo", "status eu"},
		Run:     runStatus,
	}
}

func runStatus(ctx context.Context, c *Call) (chat.Answer, error) {
	word, ok := c.Args["operation|instance|cluster"]
	if !ok {
		return c.list(ctx, ops.Filter{Unfinished: true, Limit: 20}, "Under way", "Nothing is under way.")
	}
	if cl, ok := c.Service.Fleet.Cluster(word); ok {
		return c.clusterStatus(ctx, cl)
	}
	op, err := c.named(ctx, "operation|instance|cluster")
	if none, ok := errors.AsType[*noOperationError](err); ok { // that is an answer to the question, no refusal
		on := "No operation yet on " + none.target.String()
		return c.answer("operations", OperationList{Title: f(none.target.String()), Empty: f(on + ".")}, chat.ToneNeutral)
	}
	if err != nil {
		return chat.Answer{}, err
	}
	return c.operationStatus(ctx, op)
}

// operationStatus looks at GitLab first, where there is something to look at: what is stored may be
// older than what is asked. When that fails, the stored state is shown with the cause. Its age is not
// kept, but if earlier looks have failed as well it is no younger than the first of those.
func (c *Call) operationStatus(ctx context.Context, op ops.Operation) (chat.Answer, error) {
	v := StatusView{}
	if op.State == ops.Running || op.State == ops.Blocked || op.State == ops.Canceling {
		ask, cancel := context.WithTimeout(ctx, liveWait)
		fresh, err := c.Service.Refresh(ask, op.ID)
		cancel()
		if err == nil {
			op, v.Live = fresh, true
		} else {
			c.Log.Warn("status not read from GitLab", "op", op.ID, "err", err)
			v.Cause = f(unseen(err))
			if !op.ErrorSince.IsZero() {
				v.Age = max(0, c.Service.Clock.Now().Sub(op.ErrorSince))
			}
		}
	}
	v.OperationView = operationView(op, c.Service.Clock.Now())
	v.Card = f(c.permalink(ctx, op.ID))
	return c.answer("status", v, chat.ToneNeutral)
}

// unseen is why a look at an operation's pipelines failed, as the end of a sentence.
func unseen(err error) string {
	e, ok := errors.AsType[*ops.Error](err)
	switch {
	case ok && e.Code == ops.CodeNotFound:
		return "GitLab does not show the pipeline"
	case ok && e.Msg != "":
		return strings.TrimSuffix(e.Msg, ".")
	case errors.Is(err, context.DeadlineExceeded):
		return "GitLab does not answer in time"
	}
	return "something went wrong here, and the operator finds it in the log"
}

// clusterStatus shows the result of the project's newest pipeline, whoever started it, and what is
// under way there.
func (c *Call) clusterStatus(ctx context.Context, cl ops.Cluster) (chat.Answer, error) {
	v := ClusterView{Name: f(cl.Name), Project: f(cl.Project)}
	ask, cancel := context.WithTimeout(ctx, liveWait)
	defer cancel()
	p, found, err := c.Service.Repos.Latest(ask, cl.Project)
	now := c.Service.Clock.Now()
	switch {
	case err != nil:
		v.Error = f(ops.UserMsg(err))
	case found:
		v.Found, v.PipelineID, v.Status, v.URL = true, p.Ref.ID, f(p.Status), f(p.URL)
		v.Age = max(0, now.Sub(p.CreatedAt))
		if !p.FinishedAt.IsZero() && !p.StartedAt.IsZero() {
			v.Took = p.FinishedAt.Sub(p.StartedAt)
		}
	}
	err = c.Service.Store.View(ctx, func(r ops.Reader) error {
		under, err := r.Operations(ctx, ops.Filter{Unfinished: true, Target: ops.Target{Cluster: cl.Name}, Limit: 20})
		for _, op := range under {
			v.Operations = append(v.Operations, operationView(op, now))
		}
		return err
	})
	if err != nil {
		return chat.Answer{}, err
	}
	return c.answer("status_cluster", v, chat.ToneNeutral)
}

// OperationView is one operation in the templates of answers.
type OperationView struct {
	ID, Action, Instance, Cluster, State, Reason, Detail, ActorName, URL chat.Foreign
	Pipelines                                                            []PipelineLine
	Run                                                                  int
	Elapsed, Since                                                       time.Duration
	Final                                                                bool
}

// PipelineLine is one pipeline of an operation.
type PipelineLine struct {
	ID                           int64
	Status, URL, Running, Source chat.Foreign
	Done, Total                  int
}

// StatusView is what the template "status" sees.
type StatusView struct {
	OperationView
	Live  bool
	Cause chat.Foreign
	Age   time.Duration
	Card  chat.Foreign
}

// ClusterView is what the template "status_cluster" sees.
type ClusterView struct {
	Name, Project, Error, Status, URL chat.Foreign
	Found                             bool
	PipelineID                        int64
	Age, Took                         time.Duration
	Operations                        []OperationView
}

func operationView(op ops.Operation, now time.Time) OperationView {
	who := op.Request.ActorName
	if who == "" {
		who = op.Request.Actor.UserID
	}
	v := OperationView{
		ID: f(op.ID), Action: f(op.Request.Action), Instance: f(op.Request.Target.Instance), Cluster: f(op.Request.Target.Cluster),
		State: f(string(op.State)), Reason: f(string(op.Reason)), Detail: f(chat.Cut(op.Detail, 400)), ActorName: f(chat.Cut(who, 60)),
		Run: op.Run, Elapsed: op.Elapsed(now), Since: max(0, now.Sub(op.CreatedAt)), Final: op.State.Final(),
	}
	if root, ok := op.Root(); ok {
		v.URL = f(root.URL)
	}
	for i, p := range op.Pipelines {
		if i == 12 {
			break
		}
		v.Pipelines = append(v.Pipelines, PipelineLine{
			ID: p.Ref.ID, Status: f(p.Status), URL: f(p.URL), Running: f(p.Jobs.Running), Source: f(p.Source), Done: p.Jobs.Done, Total: p.Jobs.Total,
		})
	}
	return v
}
