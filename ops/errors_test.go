package ops

import (
	"errors"
	"fmt"
	"testing"
)

func TestErrorReadsAsOneSentence(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  *Error
		want string
	}{
		{"with a cause", &Error{Code: CodeDenied, Reason: ReasonChatUnauthorized, Msg: "Chat does not accept the token.", Err: errors.New("look up the account: status 401")}, "denied: chat_unauthorized: Chat does not accept the token (look up the account: status 401)"},
		{"without", &Error{Code: CodeInvalid, Reason: ReasonInvalidParam, Msg: "size: must be a whole number."}, "invalid: invalid_parameter: size: must be a whole number"},
	} {
		if got := fmt.Errorf("post: %w", tc.err).Error(); got != "post: "+tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, "post: "+tc.want)
		}
	}
}
