package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ocim/internal/secret"
)

const (
	minSecret     = 16       // bytes; a shorter one can be guessed
	minKey        = 32       // bytes; it is the root of an HMAC and of a cipher key
	maxSecretFile = 64 << 10 // bytes; the longest thing that is put there by mistake is a key ring
)

// rule says what a secret must look like.
type rule struct {
	min      int
	prefix   string // such as xoxb-
	optional bool
	binary   bool // any bytes; else printable ASCII, as in a header
	signing  bool // whsec_ and base64 of 32 bytes
	segment  bool // letters, digits, - and _, which stand in an address as they are
}

// secret resolves a reference. After a problem the result is empty.
func (b *builder) secret(ref SecretRef, path string, r rule) secret.Secret {
	if r.min == 0 {
		r.min = minSecret
	}
	if !b.d.written(path) || ref == "" {
		if !r.optional && !b.faulty(path) {
			b.d.report(path, "is missing: write env:NAME or file:/path")
		}
		return secret.Secret{}
	}
	value, source, err := b.resolve(string(ref), path)
	if err == nil {
		err = r.check(value, source)
	}
	switch {
	case err != nil && b.outline && source != "":
		b.missing = append(b.missing, b.d.problem(path, "%s", err))
		return secret.Secret{}
	case err != nil:
		b.d.report(path, "%s", err)
		return secret.Secret{}
	}
	return secret.New(value)
}

// secrets resolves a list of references.
func (b *builder) secrets(refs []SecretRef, path string, r rule) []secret.Secret {
	var all []secret.Secret
	for i, ref := range refs {
		at := fmt.Sprintf("%s[%d]", path, i)
		s := b.secret(ref, at, r)
		if s.Empty() {
			continue
		}
		for _, other := range all {
			if other.Equal(s.Reveal()) {
				b.d.report(at, "is the same secret as an earlier one in this list")
			}
		}
		all = append(all, s)
	}
	return all
}

// resolve reads the value of a reference and says where it comes from, even with an error if the
// reference is well formed. One that is not may be the secret itself, so that its error holds
// nothing of it.
func (b *builder) resolve(ref, path string) (value, source string, err error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		if !variableName.MatchString(name) {
			return "", "", errors.New("after env: comes the name of an environment variable")
		}
		source = "environment variable " + name
		value, ok = b.env[name]
		if !ok {
			return "", source, errors.New(source + " is not set")
		}
		return value, source, nil
	}
	if name, ok := strings.CutPrefix(ref, "file:"); ok {
		if !filepath.IsAbs(name) {
			return "", "", errors.New("after file: comes an absolute path")
		}
		source = "file " + name
		value, err = b.readSecret(name, path)
		if err != nil {
			return "", source, fmt.Errorf("%s %w", source, err)
		}
		return value, source, nil
	}
	return "", "", errors.New("a secret is never written here: write env:NAME or file:/path")
}

// readSecret reads a secret from a file, without the line ends that editors leave behind it.
func (b *builder) readSecret(name, path string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errors.New("does not exist")
	case err != nil:
		return "", errors.New("cannot be read: " + reason(err))
	case !info.Mode().IsRegular():
		return "", errors.New("is not a regular file")
	case info.Mode().Perm()&0o002 != 0:
		return "", errors.New("can be written by everyone on this machine: chmod o-rwx it")
	}
	f, err := os.Open(name)
	if err != nil {
		return "", errors.New("cannot be read: " + reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	switch {
	case err != nil:
		return "", errors.New("cannot be read: " + reason(err))
	case len(data) > maxSecretFile:
		return "", errors.New("is longer than 64 KiB")
	case info.Mode().Perm()&0o004 != 0:
		// No more than a warning, since this is how Kubernetes and Docker mount secrets.
		b.warn(path, "file %s can be read by everyone on this machine: chmod o-rwx it", name)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// reason is an error of the os package without the path, which its caller has named already.
func reason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// check says what is wrong with a secret, without showing it.
func (r rule) check(value, source string) error {
	switch {
	case strings.TrimSpace(value) == "":
		return errors.New(source + " is empty")
	case !r.binary && strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return errors.New(source + " contains a space or a character that a token cannot have")
	case !strings.HasPrefix(value, r.prefix):
		return fmt.Errorf("%s does not begin with %s", source, r.prefix)
	case len(value) < r.min:
		return fmt.Errorf("%s is %d bytes long, want at least %d", source, len(value), r.min)
	}
	if r.segment && strings.ContainsFunc(value, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	}) {
		return errors.New(source + " contains a character other than letters, digits, - and _")
	}
	if r.signing {
		// GitLab: doc/user/project/integrations/webhooks.md, signing tokens.
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(value, r.prefix))
		if err != nil || len(key) != 32 {
			return errors.New(source + " is not whsec_ and the base64 of 32 bytes")
		}
	}
	return nil
}
