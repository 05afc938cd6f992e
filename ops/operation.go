package ops

import "time"

// Operation is one thing that a person asked for, from request to end. It may have several runs:
// a retry keeps the operation and its card and opens the next run.
type Operation struct {
	ID      string // short, typed by people
	Request Request
	State   State
	Reason  Reason // why it is in this state, may be empty
	Detail  string // a sentence for people; may hold foreign text, which renderers escape
	Version int64  // compare-and-set: Move succeeds only on the version that was read

	// The current run.
	Run         int    // 1, 2, …
	RunBy       Actor  // who asked for this run: the requester, or whoever pressed Retry
	RunByName   string // shown, never decided on
	Key         string // 32 hex digits, 128 random bits
	Number      int64  // DEPLOYMENT_REQUEST_ID: decimal, never used twice
	Outstanding bool   // a POST was begun and its outcome is not known
	Attempt     int    // POSTs begun in this run
	Lost        int    // POSTs of this key of which nobody knows what became of them
	PostedAt    time.Time
	ServerTime  time.Time // GitLab's clock before the first POST
	CancelBy    Actor     // zero until somebody asks
	CancelAt    time.Time
	Project     string // the GitLab project as the configuration names it
	// Which further pipelines belong to the run, as configured when it started: a changed
	// configuration is for later runs.
	Follow       Follow
	FollowWithin time.Duration
	Pipelines    []Pipeline
	Failure      *Failure
	Link         string // open merge request or the like that a person should look at
	Expected     time.Duration
	Errors       int       // looks at GitLab that failed in a row; drives the back-off
	ErrorSince   time.Time // first of those

	CreatedAt  time.Time // of the operation
	RunAt      time.Time // of the current run
	StartedAt  time.Time // first pipeline of this run was created
	FinishedAt time.Time // of this run, zero while it is not final
	ChangedAt  time.Time
}

// Failure is the evidence of a failed run, taken once when it ended and redacted.
type Failure struct {
	Pipeline int64  `json:"pipeline,omitempty"`
	JobID    int64  `json:"job_id,omitempty"`
	Job      string `json:"job,omitempty"`
	Stage    string `json:"stage,omitempty"`
	Reason   string `json:"reason,omitempty"` // GitLab's failure_reason
	URL      string `json:"url,omitempty"`
	Tail     string `json:"tail,omitempty"`    // last lines of the trace
	NoTail   string `json:"no_tail,omitempty"` // why there is no tail
	Last     string `json:"last,omitempty"`    // the last meaningful line
}

// Root is the pipeline that our request created, if GitLab has answered.
func (o Operation) Root() (Pipeline, bool) {
	for _, p := range o.Pipelines {
		if p.Role == RoleRoot {
			return p, true
		}
	}
	return Pipeline{}, false
}

// InDoubt reports whether the run has no pipeline that is known, and may have one all the same: the
// answer to a request with its key was lost, in this run or in one before that had the same key.
func (o Operation) InDoubt() bool {
	return len(o.Pipelines) == 0 && (o.Lost > 0 || o.Reason == ReasonOutcomeUnknown)
}

// Elapsed is how long the current run has taken up to now, or took in all.
func (o Operation) Elapsed(now time.Time) time.Duration {
	from := o.RunAt
	if !o.StartedAt.IsZero() {
		from = o.StartedAt
	}
	if !o.FinishedAt.IsZero() {
		now = o.FinishedAt
	}
	return max(0, now.Sub(from))
}

// EventKind names what happened to an operation.
type EventKind string

// The kinds of events.
const (
	EventMoved       EventKind = "moved"        // the state changed
	EventCancelAsked EventKind = "cancel_asked" //
	EventPosting     EventKind = "posting"      // a POST to GitLab is about to be made
	EventNotSent     EventKind = "not_sent"     // the POST surely did not reach GitLab or was refused for now
	EventAdopted     EventKind = "adopted"      // a pipeline was found by its key
	EventExtra       EventKind = "extra"        // a second pipeline carries the same key; it is canceled
	EventNewRun      EventKind = "new_run"      // a retry
	EventReopened    EventKind = "reopened"     // GitLab runs it again
	EventRecovered   EventKind = "recovered"    // re-created from GitLab after the store was lost
)

// Event is one line of an operation's history, written in the transaction of the change itself.
type Event struct {
	Operation string
	Run       int
	Kind      EventKind
	From, To  State
	Reason    Reason
	Actor     Actor
	At        time.Time
}

// DeliveryKind names the messages of an operation.
type DeliveryKind string

// The messages: one card that is edited, and short replies in its thread when a run ends.
const (
	DeliverCard DeliveryKind = "card"
	DeliverEnd  DeliveryKind = "end" // how the run ended; a failure is also told in the channel
	DeliverLog  DeliveryKind = "log" // redacted tail of the failed job
)

// Delivery is one message that chat owes: a row of the outbox, written with the change it tells.
type Delivery struct {
	Operation string
	Run       int // 0 for the card, which lives through all runs
	Kind      DeliveryKind
	To        Conversation
	Key       string // finds the message again after an unknown outcome
	Ref       string // the platform's id of the message, empty until known
	Hash      string // of the content last sent
	PostingAt time.Time
	SentAt    time.Time
	Done      bool // nothing more will be sent
	Attempts  int  // failed tries in a row
	Snapshot  *Operation
	Version   int64
}
