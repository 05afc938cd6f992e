package ops

import (
	"encoding/json"
	"time"
)

// Capability is what a button carries, sealed: one verb on one run of one operation, in one
// conversation, for a while. It gives nobody a right: rights are checked at the click. It hides
// nothing either, since whoever may read a message can read its buttons.
type Capability struct {
	Verb      string `json:"v"`
	Operation string `json:"o"`
	Run       int    `json:"r"`
	Platform  string `json:"p"`
	Workspace string `json:"w"`
	Channel   string `json:"c"`
	Expires   int64  `json:"e"` // Unix seconds
}

// CapabilityLife is how long a button that changes something can be used. Afterwards it still
// answers, with the operation's current state.
const CapabilityLife = 30 * 24 * time.Hour

// Seal returns the button's token.
func (c Capability) Seal(s *Signer) string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and integers always encode
	}
	return s.Seal(PurposeButton, text)
}

// OpenCapability returns what a token says, or ErrSeal. It does not look at Expires.
func OpenCapability(s *Signer, token string) (Capability, error) {
	var c Capability
	text, err := s.Open(PurposeButton, token)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, ErrSeal
	}
	return c, nil
}
