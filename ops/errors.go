package ops

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code is the class of an error, for programs.
type Code string

// The classes. Adapters map foreign errors to them at the border.
const (
	CodeInvalid     Code = "invalid"     // the request can never work as it is
	CodeDenied      Code = "denied"      // this person, or our token, may not
	CodeNotFound    Code = "not_found"   // no such thing
	CodeConflict    Code = "conflict"    // not now: something else is in the way
	CodeStale       Code = "stale"       // somebody was faster; look again
	CodeUnavailable Code = "unavailable" // a peer does not answer; the same call may work later
	CodeInternal    Code = "internal"    // our own mistake
)

// Reason is a stable word that says why. docs/reasons.md lists every one with its remedy.
type Reason string

// The reasons that exist.
const (
	ReasonNotAllowed        Reason = "not_allowed"
	ReasonUnknownInstance   Reason = "unknown_instance"
	ReasonAmbiguousInstance Reason = "ambiguous_instance"
	ReasonUnknownCluster    Reason = "unknown_cluster"
	ReasonUnknownParam      Reason = "unknown_parameter"
	ReasonInvalidParam      Reason = "invalid_parameter"
	ReasonMissingParam      Reason = "missing_parameter"
	ReasonUnknownVerb       Reason = "unknown_verb"
	ReasonUnknownOperation  Reason = "unknown_operation"
	ReasonInstanceBusy      Reason = "instance_busy"
	ReasonAlreadyFinal      Reason = "already_final"
	ReasonStillRunning      Reason = "still_running"
	ReasonAlreadyCanceling  Reason = "already_canceling"
	ReasonOldButton         Reason = "old_button"
	ReasonForgedButton      Reason = "forged_button"
	ReasonCopiedCard        Reason = "copied_card"
	ReasonGitLabUnavailable Reason = "gitlab_unavailable"
	ReasonGitLabDenied      Reason = "gitlab_denied"
	ReasonGitLabRefused     Reason = "gitlab_refused"
	ReasonRateLimited       Reason = "rate_limited"
	ReasonConfigError       Reason = "config_error"
	ReasonOutcomeUnknown    Reason = "outcome_unknown"
	ReasonCanceledByPerson  Reason = "canceled_by_person"
	ReasonCanceledInGitLab  Reason = "canceled_in_gitlab"
	ReasonJobFailed         Reason = "job_failed"
	ReasonPipelineFailed    Reason = "pipeline_failed"
	ReasonPipelineSkipped   Reason = "pipeline_skipped"
	ReasonPipelineDeleted   Reason = "pipeline_deleted"
	ReasonMergeRequestOpen  Reason = "merge_request_open"
	ReasonNoFollowUp        Reason = "no_follow_up"
	ReasonWaitsForPerson    Reason = "waits_for_person"
	ReasonNotStartedInTime  Reason = "not_started_in_time"
	ReasonRetriedInGitLab   Reason = "retried_in_gitlab"
	ReasonStoreUnavailable  Reason = "store_unavailable"
	ReasonInternal          Reason = "internal_error"
	ReasonChatUnavailable   Reason = "chat_unavailable"
	ReasonChatUnauthorized  Reason = "chat_unauthorized" // chat does not accept the bot's token; says nothing of the place
	ReasonInvalidCommand    Reason = "invalid_command"
)

// Error is what the domain and its adapters return. Msg and Next are safe to show to people in
// chat; Err is for the log only and never shown.
type Error struct {
	Code      Code
	Reason    Reason
	Msg       string    // what happened, a full sentence
	Next      string    // what the person can do about it, may be empty
	Pattern   string    // the regular expression that a value must match, for who can read one
	Operation string    // the operation it concerns, may be empty
	Suggest   []string  // near misses that the person may have meant
	RetryAt   time.Time // for CodeUnavailable: not before this instant; zero if the peer named none
	NotSent   bool      // for CodeUnavailable: the request surely never reached the peer
	Err       error
}

// Error implements the error interface, for logs.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s: %s", e.Code, e.Reason, strings.TrimSuffix(e.Msg, "."))
	if e.Err != nil {
		// Not after a colon: "the token: cause" would be taken for a secret by its name.
		s += " (" + e.Err.Error() + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Sentinel errors of the Store.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrDuplicate: a request with this key is already recorded.
	ErrDuplicate = errors.New("duplicate request")
	// ErrIDTaken: another operation has this id; try a new one.
	ErrIDTaken = errors.New("operation id is taken")
	// ErrBusy: the target has an unfinished operation.
	ErrBusy = errors.New("target has an unfinished operation")
	// ErrStale: the row's version has moved on since it was read.
	ErrStale = errors.New("stale version")
)

// CodeOf is the class of err: that of the first [Error] in its chain, else internal.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, ErrNotFound):
		return CodeNotFound
	case errors.Is(err, ErrStale):
		return CodeStale
	case errors.Is(err, ErrDuplicate), errors.Is(err, ErrBusy):
		return CodeConflict
	}
	return CodeInternal
}

// ReasonOf is the stable word of err, internal_error if it has none.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonInternal
}
