// Package secret holds values that must never be printed. A Secret shows *** in logs, errors,
// JSON, YAML and with every formatting verb; only Reveal gives the value away, so that a review
// finds every use by searching for one word.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const mask = "***"

// Secret is a value that prints as ***. The zero Secret is empty. Secrets are compared with Equal,
// never with ==.
type Secret struct {
	// A pointer, because fmt answers %p and other mistakes without asking Format, from the fields
	// themselves (fmt: (*pp).badVerb). Of a pointer it prints the address.
	value *string
}

// New wraps v.
func New(v string) Secret { return Secret{value: &v} }

// Reveal returns the value itself. Call it only where the value leaves for the peer it belongs to.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// Len is the number of bytes, for minimum-length rules.
func (s Secret) Len() int { return len(s.Reveal()) }

// Equal compares in constant time, whatever the lengths. An empty Secret equals nothing, not even
// an empty string: a missing secret must never open a door.
func (s Secret) Equal(got string) bool {
	if s.Empty() {
		return false
	}
	want, have := sha256.Sum256([]byte(s.Reveal())), sha256.Sum256([]byte(got))
	return subtle.ConstantTimeCompare(want[:], have[:]) == 1
}

// String implements [fmt.Stringer].
func (s Secret) String() string { return mask }

// GoString implements [fmt.GoStringer].
func (s Secret) GoString() string { return mask }

// Format implements [fmt.Formatter]; it covers verbs such as %x that bypass String.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, mask) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalJSON implements [encoding/json.Marshaler].
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + mask + `"`), nil }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// MarshalYAML keeps a Secret out of printed configuration.
func (s Secret) MarshalYAML() (any, error) { return mask, nil }
