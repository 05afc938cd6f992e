package commands

import (
	"context"
	"errors"
	"strings"

	"ocim/adapters/chat"
	"ocim/ops"
)

func cancelCommand() *Command {
	return &Command{
		Name: "cancel", Summary: "end an operation and all its pipelines", Needs: ops.MayCancel, Mutates: true,
		Params:  []Param{{Name: "operation", Help: "its id, or the instance it works on", Fold: true}},
		Example: []string{"cancel k7m2qx", "cancel demo", "cancel demo --plan"},
		Run: func(ctx context.Context, c *Call) (chat.Answer, error) {
			op, err := c.named(ctx, "operation")
			if err != nil {
				return chat.Answer{}, err
			}
			if c.Plan {
				return c.answer("plan_cancel", operationView(op, c.Service.Clock.Now()), chat.ToneNeutral)
			}
			op, err = c.Service.Cancel(ctx, op.ID, 0, c.In.Actor, c.In.Key)
			if err != nil {
				return chat.Answer{}, err
			}
			return c.answer("accepted", c.accepted(ctx, op, "cancel"), chat.ToneWarn)
		},
	}
}

// named finds the operation that an argument means: its id, or an instance's unfinished or else last
// operation.
func (c *Call) named(ctx context.Context, param string) (ops.Operation, error) {
	word, ok := c.Args[param]
	if !ok {
		return ops.Operation{}, c.missing("an " + param)
	}
	op, err := c.operation(ctx, word)
	if err == nil || ops.CodeOf(err) != ops.CodeNotFound {
		return op, err
	}
	last, ierr := c.lastOf(ctx, word)
	if none, ok := errors.AsType[*noOperationError](ierr); ok {
		return last, c.nothing(none)
	}
	var unknown, place *ops.Error
	if !errors.As(err, &unknown) || !errors.As(ierr, &place) {
		return last, ierr
	}
	switch {
	case place.Reason == ops.ReasonUnknownInstance, place.Reason == ops.ReasonUnknownCluster:
		unknown.Suggest = append(c.nearIDs(ctx, word), place.Suggest...)
	case place.Code == ops.CodeUnavailable:
		unknown.Suggest = c.nearIDs(ctx, word)
		unknown.Next = "GitLab does not answer, so it is not known either whether an instance has that name. " + unknown.Next
	default: // the word may be an instance, and that is the better answer
		return last, ierr
	}
	return op, err
}

// operation reads one by its id; people may put a # before it.
func (c *Commands) operation(ctx context.Context, id string) (ops.Operation, error) {
	for len(id) > 0 && id[0] == '#' {
		id = id[1:]
	}
	var op ops.Operation
	err := c.Service.Store.View(ctx, func(r ops.Reader) (err error) {
		op, err = r.Operation(ctx, id)
		return err
	})
	if errors.Is(err, ops.ErrNotFound) {
		return op, &ops.Error{
			Code: ops.CodeNotFound, Reason: ops.ReasonUnknownOperation, Msg: "There is no operation " + quote(id) + ".",
			Next: "See " + c.Trigger + " operations.",
		}
	}
	return op, err
}

// lastOf is the unfinished operation of an instance, or else its last one. What is in the store is
// found without GitLab as well, and when the instance is gone from the repository.
func (c *Commands) lastOf(ctx context.Context, name string) (ops.Operation, error) {
	ask, cancel := context.WithTimeout(ctx, liveWait)
	defer cancel()
	t, unresolved := c.Service.Fleet.Resolve(ask, name, false)
	switch ops.ReasonOf(unresolved) { //nolint:exhaustive // any other says that GitLab could not be asked
	case ops.ReasonAmbiguousInstance, ops.ReasonUnknownCluster:
		return ops.Operation{}, unresolved
	}
	if unresolved != nil {
		cluster, instance, qualified := strings.Cut(name, "/")
		if !qualified {
			cluster, instance = "", name
		}
		if t = (ops.Target{Cluster: cluster, Instance: instance}); instance == "" {
			return ops.Operation{}, unresolved
		}
	}
	var found []ops.Operation
	err := c.Service.Store.View(ctx, func(r ops.Reader) (err error) {
		if found, err = r.Operations(ctx, ops.Filter{Unfinished: true, Target: t, Limit: 2}); err != nil || len(found) > 0 {
			return err
		}
		found, err = r.Operations(ctx, ops.Filter{Target: t, Limit: 2})
		return err
	})
	switch {
	case err != nil:
		return ops.Operation{}, err
	case len(found) == 2 && found[0].Request.Target != found[1].Request.Target:
		return ops.Operation{}, &ops.Error{
			Code: ops.CodeInvalid, Reason: ops.ReasonAmbiguousInstance, Msg: quote(name) + " exists on more than one cluster.", Next: "Name the cluster as well.",
			Suggest: []string{found[0].Request.Target.String(), found[1].Request.Target.String()},
		}
	case len(found) > 0:
		return found[0], nil
	case unresolved != nil:
		return ops.Operation{}, unresolved
	}
	return ops.Operation{}, &noOperationError{t}
}

// noOperationError says that an instance exists and that nothing was ever asked for on it.
type noOperationError struct{ target ops.Target }

func (e *noOperationError) Error() string { return "no operation yet on " + e.target.String() }

// nothing is the refusal of a command that needs an operation where there is none.
func (c *Call) nothing(none *noOperationError) error {
	what := "There is nothing to " + c.Command.Name
	if c.Command.Name == "logs" {
		what = "There is no log"
	}
	return &ops.Error{
		Code: ops.CodeNotFound, Reason: ops.ReasonUnknownOperation, Err: none,
		Msg: what + ": no operation yet on " + none.target.String() + ".", Next: "A deploy would be the first: " + c.Trigger + " deploy " + none.target.String() + ".",
	}
}

func (c *Commands) nearIDs(ctx context.Context, word string) []string {
	var ids []string
	err := c.Service.Store.View(ctx, func(r ops.Reader) error {
		found, err := r.Operations(ctx, ops.Filter{Limit: 100})
		for _, op := range found {
			ids = append(ids, op.ID)
		}
		return err
	})
	if err != nil {
		return nil
	}
	return ops.Nearest(word, ids, 3)
}
