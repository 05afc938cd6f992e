package ops

import "slices"

// State is where an operation stands. The words are the same in SQL, chat, metrics and docs, and
// spelled as GitLab spells them.
type State string

// The states. AwaitingApproval, Rejected, Stale and Watching have no way in yet.
const (
	Requested        State = "requested"         // on disk, being checked
	AwaitingApproval State = "awaiting_approval" // plan shown, digest fixed
	Queued           State = "queued"            // waits for its turn, or for GitLab to be reachable
	Starting         State = "starting"          // intent written; GitLab call under way or its outcome unknown
	Running          State = "running"           // at least one pipeline is not final
	Blocked          State = "blocked"           // a pipeline waits for a person
	Canceling        State = "canceling"         // cancel asked, children too
	Watching         State = "watching"          // pipelines done, health not yet proven
	Succeeded        State = "succeeded"
	Failed           State = "failed"
	Canceled         State = "canceled"
	Refused          State = "refused" // checked and found not to be allowed or possible
	Rejected         State = "rejected"
	Expired          State = "expired" // could not start in time
	Stale            State = "stale"
)

// States lists every state in the order of an operation's life.
func States() []State {
	return []State{
		Requested, AwaitingApproval, Queued, Starting, Running, Blocked, Canceling, Watching,
		Succeeded, Failed, Canceled, Refused, Rejected, Expired, Stale,
	}
}

// Final reports whether a run that is in s has ended. Only a new run leaves a final state.
func (s State) Final() bool {
	switch s {
	case Succeeded, Failed, Canceled, Refused, Rejected, Expired, Stale:
		return true
	case Requested, AwaitingApproval, Queued, Starting, Running, Blocked, Canceling, Watching:
		return false
	}
	return false
}

// Next lists the states that may follow s within one run. It is the table that code, cards, SQL
// and model tests share.
func (s State) Next() []State {
	switch s {
	case Requested:
		return []State{AwaitingApproval, Queued, Starting, Refused, Canceled, Expired}
	case AwaitingApproval:
		return []State{Queued, Starting, Rejected, Expired, Stale, Canceled}
	case Queued:
		return []State{Starting, Refused, Canceled, Expired}
	case Starting:
		return []State{Running, Failed, Canceled, Refused}
	case Running:
		return []State{Blocked, Canceling, Succeeded, Failed, Canceled, Watching}
	case Blocked:
		return []State{Running, Canceling, Succeeded, Failed, Canceled}
	case Canceling:
		return []State{Canceled, Succeeded, Failed}
	case Watching:
		return []State{Succeeded, Failed}
	case Succeeded, Failed, Canceled, Refused, Rejected, Expired, Stale:
		return nil
	}
	return nil
}

// CanBecome reports whether a run may go from s to t. Staying is always allowed.
func (s State) CanBecome(t State) bool { return s == t || slices.Contains(s.Next(), t) }
