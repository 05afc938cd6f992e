package ops

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mask stands where a secret value is not shown.
const Mask = "***"

// hiddenMark begins the hidden form of a value. No parameter that a person gives can begin so,
// since Action.Check refuses control characters.
const hiddenMark = "\x01"

// Hidden reports whether a parameter's value is the hidden form of a secret one.
func Hidden(value string) bool { return strings.HasPrefix(value, hiddenMark) }

// ShownParams are the request's parameters as people may see them: secret values are [Mask].
func (r Request) ShownParams() map[string]string {
	out := maps.Clone(r.Params)
	for k, v := range out {
		if Hidden(v) {
			out[k] = Mask
		}
	}
	return out
}

// hide replaces the values of secret parameters by their hidden form. From then on an operation
// carries only that: in the store, in logs, in the reference that goes to GitLab. Spec shows it as
// Mask, and only what is about to be sent is made with revealed values.
func (s *Service) hide(a Action, params map[string]string) (map[string]string, error) {
	out := maps.Clone(params)
	for _, p := range a.Params {
		v, ok := out[p.Name]
		if !p.Secret || !ok {
			continue
		}
		hidden, err := s.Signer.hide(p.Name, v)
		if err != nil {
			return nil, err
		}
		out[p.Name] = hidden
	}
	return out, nil
}

// reveal is the inverse of hide. A value that was hidden under a key that is gone cannot be sent:
// config_error.
func (s *Service) reveal(params map[string]string) (map[string]string, error) {
	out := maps.Clone(params)
	for k, v := range out {
		if !Hidden(v) {
			continue
		}
		plain, err := s.Signer.reveal(k, v)
		if err != nil {
			return nil, &Error{
				Code: CodeInvalid, Reason: ReasonInvalidParam, Err: err,
				Msg: fmt.Sprintf("The secret %s was kept under a key that is not configured any more.", k), Next: "Ask for it again, with the value.",
			}
		}
		out[k] = plain
	}
	return out, nil
}

// RedactFor is Redact, and takes out the operation's own secret parameters as well: GitLab repeats
// values that it refuses, and jobs print what they were given.
func (s *Service) RedactFor(op Operation, text string) string {
	var secrets []string
	for k, v := range op.Request.Params {
		if !Hidden(v) {
			continue
		}
		// One or two characters occur anywhere; masking them would only show where they are.
		if plain, err := s.Signer.reveal(k, v); err == nil && len(plain) > 2 {
			secrets = append(secrets, plain)
		}
	}
	// The longest first: one may be part of another, and half a mask shows the rest.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, plain := range secrets {
		text = strings.ReplaceAll(text, plain, Mask)
	}
	return s.Redact(text)
}

// plain is an error that came of an operation, for the log. What GitLab says may repeat the
// operation's secrets, of which the log's own redaction does not know.
func (s *Service) plain(op Operation, err error) string { return s.RedactFor(op, err.Error()) }

// hide encrypts a value with AES-256-GCM under a key that is derived from the signing key. The name
// is bound to it: hidden under one name, a value does not open under another.
func (s *Signer) hide(name, value string) (string, error) {
	aead, err := hider(s.keys[0])
	if err != nil {
		return "", err
	}
	sealed := aead.Seal(nil, nil, []byte(value), []byte(name)) //nolint:gosec // this AEAD makes its own random nonce
	return hiddenMark + base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (s *Signer) reveal(name, hidden string) (string, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(hidden, hiddenMark))
	if err != nil {
		return "", ErrSeal
	}
	for _, k := range s.keys {
		aead, err := hider(k)
		if err != nil {
			return "", err
		}
		if plain, err := aead.Open(nil, nil, sealed, []byte(name)); err == nil {
			return string(plain), nil
		}
	}
	return "", ErrSeal
}

func hider(key []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "ocim/parameter", 32)
	if err != nil {
		return nil, errors.Join(ErrSeal, err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, errors.Join(ErrSeal, err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
