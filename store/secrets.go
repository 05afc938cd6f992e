package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"ocim/internal/secret"
	"ocim/ops"
)

// Box encrypts secrets that people or servers give at run time, with AES-256-GCM under a key that
// is derived from the configured one. The name of a secret is bound to it: a ciphertext that is
// moved to another name does not open. Safe for concurrent use.
type Box struct{ keys []cipher.AEAD }

// ErrBox: the ciphertext was not made under any of the keys, or for another name.
var ErrBox = errors.New("secret cannot be decrypted with the configured key")

// NewBox encrypts with key and opens also what the previous keys encrypted. Keys of fewer than 32
// bytes are refused.
func NewBox(key secret.Secret, previous ...secret.Secret) (*Box, error) {
	b := &Box{}
	for _, k := range append([]secret.Secret{key}, previous...) {
		if k.Len() < 32 {
			return nil, errors.New("an encryption key needs at least 32 bytes")
		}
		derived, err := hkdf.Key(sha256.New, []byte(k.Reveal()), nil, "ocim/store/secrets", 32)
		if err != nil {
			return nil, fmt.Errorf("derive encryption key: %w", err)
		}
		block, err := aes.NewCipher(derived)
		if err != nil {
			return nil, fmt.Errorf("derive encryption key: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("derive encryption key: %w", err)
		}
		b.keys = append(b.keys, aead)
	}
	return b, nil
}

// Seal encrypts value for name.
func (b *Box) Seal(name string, value secret.Secret) []byte {
	return b.keys[0].Seal(nil, nil, []byte(value.Reveal()), []byte(name)) //nolint:gosec // this AEAD makes its own random nonce
}

// Open decrypts what Seal made for the same name, or returns ErrBox.
func (b *Box) Open(name string, ciphertext []byte) (secret.Secret, error) {
	for _, k := range b.keys {
		if plain, err := k.Open(nil, nil, ciphertext, []byte(name)); err == nil {
			return secret.New(string(plain)), nil
		}
	}
	return secret.Secret{}, fmt.Errorf("secret %q: %w", name, ErrBox)
}

// PutSecret stores or replaces a secret that the caller has encrypted.
func (s *Store) PutSecret(ctx context.Context, name string, ciphertext []byte) error {
	text, now := base64.StdEncoding.EncodeToString(ciphertext), micros(s.clock.Now())
	return s.writer.do(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO secrets (name, ciphertext, at) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET ciphertext = excluded.ciphertext, at = excluded.at`, name, text, now)
		return err
	})
}

// Secret returns the ciphertext that stands under name, or [ops.ErrNotFound].
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	var text string
	err := s.borrow(ctx, func(c *conn) error {
		found, err := c.one([]any{&text}, `SELECT ciphertext FROM secrets WHERE name = $1`, name)
		if err == nil && !found {
			err = fmt.Errorf("secret %q: %w", name, ops.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}
