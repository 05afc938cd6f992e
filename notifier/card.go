package notifier

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// View is what the templates of an operation's messages see. Every string is foreign, so a
// template cannot print one without escaping.
type View struct {
	ID, Action, Instance, Cluster chat.Foreign
	ActorID, ActorName            chat.Foreign
	RunByID, RunByName            chat.Foreign
	Why                           chat.Foreign
	State, StateText, Emoji       chat.Foreign
	Outcome                       chat.Foreign
	Reason, Detail, Next          chat.Foreign
	Params                        []Param
	Run                           int
	CancelByID, CancelByName      chat.Foreign // who asked for the end of the run, empty if nobody did
	Final, Started, Unverified    bool
	Pipelines                     []PipelineView
	Extras                        []PipelineView // second pipelines of one request, which ocim cancels
	Done, Total                   int
	Running, Stage, Manual        chat.Foreign
	Bar                           chat.Foreign
	URL, Link                     chat.Foreign
	Failure                       *FailureView
	Elapsed, Expected             time.Duration
	RequestedAt                   time.Time
}

// Param is one parameter of the request.
type Param struct{ Name, Value chat.Foreign }

// PipelineView is one pipeline on the card.
type PipelineView struct {
	Label, Status, URL chat.Foreign
	Done, Total        int
}

// FailureView is the evidence of a failed run.
type FailureView struct {
	Job, Stage, Reason, URL, Tail, NoTail, Last chat.Foreign
}

// NewView describes op as it stands at now.
func NewView(op ops.Operation, now time.Time) View {
	v := View{
		ID: f(op.ID), Action: f(op.Request.Action), Instance: f(chat.Cut(op.Request.Target.Instance, maxWord)), Cluster: f(chat.Cut(op.Request.Target.Cluster, maxWord)),
		ActorID: mentioned(op, op.Request.Actor), ActorName: name(op.Request.ActorName, op.Request.Actor),
		RunByID: mentioned(op, op.RunBy), RunByName: name(op.RunByName, op.RunBy), Why: f(chat.Cut(op.Request.Why, 500)),
		State: f(string(op.State)), StateText: f(strings.ReplaceAll(string(op.State), "_", " ")), Emoji: f(emoji(op.State)), Outcome: f(outcome(op.State)),
		Reason: f(string(op.Reason)), Detail: f(chat.Cut(op.Detail, 600)), Next: f(next(op)), Run: op.Run,
		Final: op.State.Final(), Started: !op.StartedAt.IsZero(), Link: f(op.Link),
		Elapsed: op.Elapsed(now), Expected: op.Expected, RequestedAt: op.RunAt,
	}
	if op.CancelBy != (ops.Actor{}) {
		v.CancelByID, v.CancelByName = mentioned(op, op.CancelBy), canceler(op)
	}
	params := op.Request.ShownParams()
	for _, k := range sortedKeys(params) {
		v.Params = append(v.Params, Param{f(k), f(chat.Cut(params[k], 200))})
	}
	v.pipelines(op)
	if fl := op.Failure; fl != nil {
		v.Failure = &FailureView{
			Job: f(chat.Cut(fl.Job, maxWord)), Stage: f(chat.Cut(fl.Stage, maxWord)), Reason: f(chat.Cut(fl.Reason, maxWord)), URL: f(fl.URL),
			Tail: f(fl.Tail), NoTail: f(fl.NoTail), Last: f(chat.Cut(fl.Last, 200)),
		}
		if op.Detail == fl.Reason {
			v.Detail = "" // it stands beside the job's name
		}
	}
	return v
}

// maxWord bounds names of others, such as those of jobs, which GitLab lets have 255 characters.
const maxWord = 100

// maxPipelines bounds the pipelines that a card names; a Grove deploy has four.
const maxPipelines = 6

func (v *View) pipelines(op ops.Operation) {
	for _, p := range op.Pipelines {
		if p.Role == ops.RoleExtra {
			if len(v.Extras) < maxPipelines {
				v.Extras = append(v.Extras, PipelineView{Label: f(fmt.Sprintf("#%d", p.Ref.ID)), Status: f(chat.Cut(p.Status, maxWord)), URL: f(p.URL)})
			}
			continue
		}
		v.Done += p.Jobs.Done
		v.Total += p.Jobs.Total
		if p.Jobs.Running != "" && !ops.PipelineFinal(p.Status) { // the deepest one wins: it is what really works
			v.Running, v.Stage = f(chat.Cut(p.Jobs.Running, maxWord)), f(chat.Cut(p.Jobs.Stage, maxWord))
		}
		if ops.PipelineBlocked(p.Status) && p.Jobs.Manual != "" && !v.Final {
			v.Manual = f(chat.Cut(p.Jobs.Manual, maxWord))
		}
		if len(v.Pipelines) < maxPipelines {
			v.Pipelines = append(v.Pipelines, PipelineView{
				Label: f(fmt.Sprintf("#%d", p.Ref.ID)), Status: f(chat.Cut(p.Status, maxWord)), URL: f(p.URL), Done: p.Jobs.Done, Total: p.Jobs.Total,
			})
		}
	}
	if root, ok := op.Root(); ok {
		v.URL = f(root.URL)
	}
	if v.Total > 0 && !v.Final {
		const width = 10
		full := min(max(v.Done, 0)*width/v.Total, width)
		v.Bar = f(strings.Repeat("▰", full) + strings.Repeat("▱", width-full))
	}
}

func f(s string) chat.Foreign { return chat.Foreign(s) }

func name(shown string, a ops.Actor) chat.Foreign {
	if shown != "" {
		return f(chat.Cut(shown, 60))
	}
	return f(a.UserID)
}

// mentioned is the user id for a mention of a, empty where it would be an id of another platform or
// workspace than the one in which the card stands.
func mentioned(op ops.Operation, a ops.Actor) chat.Foreign {
	if a.Platform != op.Request.From.Platform || a.Workspace != op.Request.From.Workspace {
		return ""
	}
	return f(a.UserID)
}

// canceler is what to call whoever canceled the run, where a mention is not possible: only the id is
// kept of them.
func canceler(op ops.Operation) chat.Foreign {
	switch op.CancelBy {
	case op.RunBy:
		return name(op.RunByName, op.RunBy)
	case op.Request.Actor:
		return name(op.Request.ActorName, op.Request.Actor)
	}
	return f(op.CancelBy.UserID)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func emoji(s ops.State) string {
	switch s {
	case ops.Requested, ops.Queued, ops.AwaitingApproval:
		return "🕓"
	case ops.Starting, ops.Running, ops.Watching:
		return "🚀"
	case ops.Blocked:
		return "✋"
	case ops.Canceling, ops.Canceled:
		return "⏹️"
	case ops.Succeeded:
		return "✅"
	case ops.Failed:
		return "❌"
	case ops.Refused, ops.Rejected, ops.Expired, ops.Stale:
		return "🚫"
	}
	return "•"
}

// outcome is how a run ended, as the end of a sentence. It is empty before the end.
func outcome(s ops.State) string {
	switch s {
	case ops.Succeeded, ops.Failed, ops.Expired:
		return string(s)
	case ops.Canceled, ops.Refused, ops.Rejected:
		return "was " + string(s)
	case ops.Stale:
		return "went stale"
	case ops.Requested, ops.AwaitingApproval, ops.Queued, ops.Starting, ops.Running, ops.Blocked, ops.Canceling, ops.Watching:
	}
	return ""
}

func tone(s ops.State) chat.Tone {
	switch s {
	case ops.Succeeded:
		return chat.ToneGood
	case ops.Failed, ops.Refused, ops.Rejected, ops.Expired:
		return chat.ToneBad
	case ops.Blocked, ops.Canceling, ops.Canceled, ops.Stale:
		return chat.ToneWarn
	case ops.Requested, ops.AwaitingApproval, ops.Queued, ops.Starting, ops.Running, ops.Watching:
		return chat.ToneBusy
	}
	return chat.ToneNeutral
}

// next is what a person can do now, for the states in which that is not plain from the buttons.
func next(op ops.Operation) string {
	switch {
	case op.State == ops.Blocked:
		return "Open the pipeline and decide there; the card follows."
	case op.State == ops.Queued && op.Reason == ops.ReasonGitLabUnavailable:
		return "It starts by itself as soon as GitLab answers; Cancel takes it back."
	case op.Reason == ops.ReasonGitLabDenied:
		return "The operator has to look at the project's tokens in ocim.yaml."
	case op.State.Final():
		return afterEnd(op)
	}
	return ""
}

// afterEnd is what a person can do about a run that has ended, or should know before the next one.
func afterEnd(op ops.Operation) string {
	switch op.Reason { //nolint:exhaustive // the others are told by the state
	case ops.ReasonOutcomeUnknown:
		return "Retry looks for it in GitLab first, and follows what it finds."
	case ops.ReasonGitLabRefused:
		return "Mend what GitLab names, then retry."
	case ops.ReasonConfigError:
		return "Mend .gitlab-ci.yml, then retry."
	case ops.ReasonPipelineSkipped:
		return "Look at the rules in .gitlab-ci.yml, then retry."
	case ops.ReasonMergeRequestOpen:
		return "Merge it in GitLab, or close it there and retry."
	case ops.ReasonNoFollowUp:
		return "Check in GitLab that something was deployed."
	case ops.ReasonNotStartedInTime:
		if op.Lost > 0 {
			return "Retry asks for it again."
		}
		return "Nothing was started. Retry asks for it again."
	case ops.ReasonNotAllowed:
		return "Nothing was started. Ask the operator of this bot for the right, then retry."
	case ops.ReasonUnknownInstance, ops.ReasonAmbiguousInstance, ops.ReasonUnknownCluster,
		ops.ReasonUnknownParam, ops.ReasonInvalidParam, ops.ReasonMissingParam:
		return "Nothing was started. Ask anew, with a name and parameters that exist."
	}
	switch {
	case op.State == ops.Canceled && len(op.Pipelines) > 0:
		return "What its jobs have changed so far stays as it is."
	case op.State == ops.Rejected:
		return "It was not approved, and nothing was started."
	case op.State == ops.Stale:
		return "What was planned has changed since, and nothing was started."
	case op.State == ops.Refused, op.State == ops.Canceled && op.Attempt == 0:
		return "Nothing was started."
	case op.State == ops.Failed && op.Failure != nil:
		return "The log is in the thread."
	}
	return ""
}

// Buttons are what a person can press on the card of op.
func Buttons(op ops.Operation, channel ops.Conversation, s *ops.Signer) []chat.Button {
	token := func(verb string) string {
		return ops.Capability{
			Verb: verb, Operation: op.ID, Run: op.Run, Platform: channel.Platform, Workspace: channel.Workspace, Channel: channel.Channel,
			Expires: op.RunAt.Add(ops.CapabilityLife).Unix(),
		}.Seal(s)
	}
	cancel := chat.Button{Label: "Cancel", Verb: "cancel", Token: token("cancel"), Style: chat.ButtonDanger}
	retry := chat.Button{Label: "Retry", Verb: "retry", Token: token("retry"), Style: chat.ButtonPrimary}
	logs := chat.Button{Label: "Logs", Verb: "logs", Token: token("logs")}
	var out []chat.Button
	root, hasRoot := op.Root()
	switch op.State {
	case ops.Requested, ops.Queued, ops.AwaitingApproval, ops.Starting:
		out = append(out, cancel)
	case ops.Running, ops.Watching, ops.Blocked:
		out = append(out, cancel, logs)
	case ops.Canceling:
	case ops.Succeeded:
		out = append(out, logs)
	case ops.Failed, ops.Canceled, ops.Refused, ops.Rejected, ops.Expired, ops.Stale:
		out = append(out, retry)
		if hasRoot {
			out = append(out, logs)
		}
	}
	if hasRoot && chat.SafeURL(root.URL) {
		out = append(out, chat.Button{Label: "Open in GitLab", Verb: "open", URL: root.URL})
	}
	return out
}
