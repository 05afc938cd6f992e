package ops

import "context"

type urgentKey struct{}

// Urgent marks ctx as that of something a person waits for: a command, a start, a cancel. What
// polls for many operations must not use up the calls that it needs.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

// IsUrgent reports whether ctx is marked so.
func IsUrgent(ctx context.Context) bool {
	urgent, _ := ctx.Value(urgentKey{}).(bool)
	return urgent
}
