package notifier

import (
	"errors"
	"time"

	"ocim/ops"
)

// fate is what an answer of chat means for a message.
type fate int

const (
	tryLater       fate = iota // the same call may work later
	refusedHere                // not in this place
	gone                       // the message, its thread or its channel does not exist
	refusedForGood             // not with this content, anywhere
)

// fateOf reads an error of a platform; err is not nil. A token that is not accepted says nothing of
// the place: the operator renews it, and the message goes where it belongs.
func fateOf(err error) fate {
	var e *ops.Error
	if !errors.As(err, &e) {
		return tryLater
	}
	switch e.Code {
	case ops.CodeDenied:
		if e.Reason == ops.ReasonChatUnauthorized {
			return tryLater
		}
		return refusedHere
	case ops.CodeNotFound:
		return gone
	case ops.CodeInvalid:
		return refusedForGood
	case ops.CodeUnavailable, ops.CodeConflict, ops.CodeStale, ops.CodeInternal:
	}
	return tryLater
}

// surelyNotSent reports whether a post that failed stands nowhere.
func surelyNotSent(err error) bool {
	var e *ops.Error
	return errors.As(err, &e) && (e.NotSent || e.Code == ops.CodeDenied)
}

// pauses reports whether err concerns the whole workspace: every other call would fail as well.
func pauses(err error) bool {
	var e *ops.Error
	return errors.As(err, &e) && (!e.RetryAt.IsZero() || e.Reason == ops.ReasonChatUnauthorized)
}

// backoff is when to try again after so many failures in a row: after a second at first, then twice
// as long each time up to a minute. A token that is not accepted waits for a person, and a platform
// may ask for more.
func backoff(now time.Time, cause error, attempts int) time.Time {
	most := time.Minute
	var e *ops.Error
	known := errors.As(cause, &e)
	if known && e.Reason == ops.ReasonChatUnauthorized {
		most = 5 * time.Minute
	}
	at := now.Add(min(time.Second<<min(max(attempts-1, 0), 9), most))
	if known && e.RetryAt.After(at) {
		return e.RetryAt
	}
	return at
}
