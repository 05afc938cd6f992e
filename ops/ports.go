package ops

import (
	"context"
	"time"
)

// Store keeps what ocim knows; package store implements it on SQL. All methods are safe for
// concurrent use.
type Store interface {
	// View runs f over a consistent read-only view.
	View(ctx context.Context, f func(Reader) error) error
	// Update runs f in one transaction. When Update returns nil, everything is on disk. f must
	// be pure apart from its Tx: it may run again, and no outward call is made inside it.
	Update(ctx context.Context, f func(Tx) error) error
}

// Reader reads rows.
type Reader interface {
	// Operation returns one operation with the pipelines of its current run, or ErrNotFound.
	Operation(ctx context.Context, id string) (Operation, error)
	// Operations returns what f asks for, newest first.
	Operations(ctx context.Context, f Filter) ([]Operation, error)
	// Events returns an operation's history, oldest first.
	Events(ctx context.Context, operation string) ([]Event, error)
	// Durations returns how long the last successful runs of an action on a target took,
	// newest first, at most n. An empty Instance means any instance of the cluster.
	Durations(ctx context.Context, action string, t Target, n int) ([]time.Duration, error)
	// Deliveries returns an operation's messages in the order in which they are owed.
	Deliveries(ctx context.Context, operation string) ([]Delivery, error)
}

// Filter selects operations. Zero fields do not restrict; Limit 0 means 50.
type Filter struct {
	Unfinished bool
	Target     Target // an empty Cluster with an Instance means that name on any cluster
	RequestKey string
	Key        string // ocim_key of the current or an earlier run
	Number     int64
	Pipeline   PipelineRef
	Limit      int
}

// Tx changes rows.
type Tx interface {
	Reader
	// Create stores a new operation. ErrDuplicate if Request.Key is known, ErrIDTaken if its id
	// is, ErrBusy if the target has an unfinished operation; checked in that order.
	Create(ctx context.Context, op Operation, evs []Event) error
	// Move stores op if its Version is still the one in the store, and raises it by one; else
	// ErrStale. ErrBusy if a final operation is reopened while its target is taken.
	Move(ctx context.Context, op Operation, evs []Event) error
	// NextNumber returns a number that no run has had: atLeast, or one more than the highest.
	NextNumber(ctx context.Context, atLeast int64) (int64, error)
	// Seen records the key of a request that must act only once. ErrDuplicate if it is known.
	Seen(ctx context.Context, key, operation string, at time.Time) error
	// PutDelivery inserts the message, or replaces the one with the same operation, run and kind
	// if its Version matches (ErrStale otherwise).
	PutDelivery(ctx context.Context, d Delivery) error
	// Wake asks for work on id at the given time, or earlier if an earlier wake-up stands.
	Wake(ctx context.Context, kind JobKind, id string, at time.Time) error
}

// JobKind names the kinds of wake-ups.
type JobKind string

// The wake-ups. They carry an operation's id and nothing else: the row says what is due.
const (
	JobAdvance JobKind = "advance"
	JobDeliver JobKind = "deliver"
)

// Pipelines is the pipeline backend; adapters/gitlab implements it. Every method has a deadline of
// its own below ctx's, makes no retry of a call that creates something, and returns *[Error]:
// CodeUnavailable when the same call may work later (NotSent when the request surely never
// arrived), anything else is for good.
type Pipelines interface {
	// Probe asks whether the project is reachable and readable, and returns the server's time.
	Probe(ctx context.Context, project string) (time.Time, error)
	// Find looks for pipelines with s.Key, oldest first. None with a nil error proves only that
	// GitLab does not show one now. CodeDenied: there is one that may not be looked into. Those
	// that others is true for are not the one, and cost no call.
	Find(ctx context.Context, s PipelineSpec, others func(PipelineRef) bool) ([]Pipeline, error)
	// Create makes one request. After an error with CodeUnavailable and not NotSent the pipeline
	// may exist. ReasonConfigError: GitLab refused, but may have left a failed pipeline behind.
	Create(ctx context.Context, s PipelineSpec) (Pipeline, error)
	// Tree reads the operation's pipelines. CodeNotFound: the root is not there (any more).
	Tree(ctx context.Context, s TreeSpec) (Snapshot, error)
	// Cancel asks GitLab to cancel one pipeline; the caller cancels children itself and reads
	// the state again, since GitLab answers 200 whatever happened.
	Cancel(ctx context.Context, r PipelineRef) error
	// Jobs lists the jobs of one pipeline, for logs and status.
	Jobs(ctx context.Context, r PipelineRef) ([]Job, error)
	// Tail returns the last lines of a job's trace, at most limit bytes, without terminal codes.
	Tail(ctx context.Context, project string, job int64, limit int) (string, error)
}

// Repos reads instances from the repositories of clusters; adapters/gitlab implements it.
type Repos interface {
	// Instances lists the folders below folder on the project's ref.
	Instances(ctx context.Context, project, folder string) ([]string, error)
	// Latest returns the project's newest pipeline, false if it has none yet.
	Latest(ctx context.Context, project string) (Pipeline, bool, error)
	// Recent returns pipelines that were created by our kind of request since then, with the
	// reference each one carries, so that a lost store can be filled again. Those that are known
	// are left out and cost no call. With an error it returns what it has found by then.
	Recent(ctx context.Context, project string, since time.Time, known func(PipelineRef) bool) ([]Found, error)
}

// Found is a pipeline with the reference it carries.
type Found struct {
	Pipeline  Pipeline
	Reference string
}
