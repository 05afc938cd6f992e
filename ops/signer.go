package ops

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// Purpose keeps sealed texts of different uses apart: one never opens as the other.
type Purpose string

// The purposes.
const (
	PurposeButton    Purpose = "button"    // what a button carries
	PurposeDialog    Purpose = "dialog"    // a dialog's state
	PurposeReference Purpose = "reference" // ocim_ref in a pipeline's payload
)

// ErrSeal: the text was not sealed by us, for this purpose.
var ErrSeal = errors.New("seal does not match")

// Signer seals short texts with HMAC-SHA256, so that what comes back from chat or GitLab can be
// trusted to be ours. It hides nothing: sealed text can be read by anybody. Safe for concurrent use.
type Signer struct{ keys [][]byte }

// NewSigner seals with key and opens also what the previous keys sealed. Keys of fewer than 32
// bytes are refused.
func NewSigner(key []byte, previous ...[]byte) (*Signer, error) {
	s := &Signer{}
	for _, k := range append([][]byte{key}, previous...) {
		if len(k) < 32 {
			return nil, errors.New("a signing key needs at least 32 bytes")
		}
		s.keys = append(s.keys, append([]byte(nil), k...))
	}
	return s, nil
}

// Seal returns text with its seal, in characters that are safe in URLs, JSON and forms.
func (s *Signer) Seal(p Purpose, text []byte) string {
	e := base64.RawURLEncoding
	return e.EncodeToString(text) + "." + e.EncodeToString(mac(s.keys[0], p, text))
}

// Open returns the text of a sealed one, or ErrSeal.
func (s *Signer) Open(p Purpose, sealed string) ([]byte, error) {
	body, sum, ok := strings.Cut(sealed, ".")
	if !ok || len(sealed) > 8192 || strings.ContainsAny(sealed, "\r\n") { // which the decoder would skip
		return nil, ErrSeal
	}
	e := base64.RawURLEncoding.Strict()
	text, err := e.DecodeString(body)
	if err != nil {
		return nil, ErrSeal
	}
	got, err := e.DecodeString(sum)
	if err != nil {
		return nil, ErrSeal
	}
	for _, k := range s.keys {
		if hmac.Equal(got, mac(k, p, text)) {
			return text, nil
		}
	}
	return nil, ErrSeal
}

func mac(key []byte, p Purpose, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("ocim/" + string(p) + "\x00"))
	h.Write(text)
	return h.Sum(nil)
}
