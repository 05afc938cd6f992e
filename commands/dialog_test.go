package commands

import (
	"testing"

	"ocim/adapters/chat"
)

func TestRefusedDialogIsAnsweredAsAnError(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	in := r.incoming(chat.Submit, "alice")
	in.Dialog, in.State = dialogCancel, "forged"
	if got := r.commands.Handle(t.Context(), in).Message; got == nil || got.Tone != chat.ToneBad {
		t.Errorf("dialog: got %+v, want an error", got)
	}
	if got := r.typed("alice", "nonsense").Message; got == nil || got.Tone != chat.ToneWarn {
		t.Errorf("command: got %+v, want a warning", got)
	}
}
