// Package redact takes secrets out of text that is about to leave: log records, chat messages,
// error texts, tails of job logs.
//
// A [Redactor] knows two kinds. Exact secrets are those of the configuration and those given at run
// time; they are found as they are and in the encodings in which they are met on the way: base64 at
// any offset, hex, percent-encoding, JSON and HTML escapes. Patterns cover secrets of others that
// show up in job logs: tokens with a known prefix, PEM blocks, JSON Web Tokens, passwords in
// addresses, and values whose name says that they are secret. Where a pattern is in doubt it takes
// out too much rather than too little.
//
// Redact first and cut to length afterwards: half a secret is not recognized.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"ocim/internal/secret"
)

// Mask stands where a secret was.
const Mask = "***"

// minForm is the length below which a form of a secret is not looked for: so short a text occurs
// by chance. Secrets of the configuration have at least 16 bytes.
const minForm = 8

// Redactor takes secrets out of text, in time linear in its length. It is safe for concurrent use.
// The zero Redactor knows no exact secrets, only patterns.
type Redactor struct {
	mu    sync.Mutex
	forms map[string]struct{}
	exact atomic.Pointer[strings.Replacer]
	names names
}

// New returns a Redactor that knows the given secrets.
func New(secrets ...secret.Secret) *Redactor {
	r := &Redactor{}
	r.Add(secrets...)
	return r
}

// Add makes further secrets known, such as a token that a server handed out at run time.
func (r *Redactor) Add(secrets ...secret.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forms == nil {
		r.forms = map[string]struct{}{}
	}
	known := len(r.forms)
	for _, s := range secrets {
		for _, f := range forms(s.Reveal()) {
			r.forms[f] = struct{}{}
		}
	}
	if len(r.forms) == known {
		return
	}
	all := make([]string, 0, len(r.forms))
	for f := range r.forms {
		all = append(all, f)
	}
	// At one position the first match wins: the longest must come first, or the rest of it stays.
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(all))
	for _, f := range all {
		pairs = append(pairs, f, Mask)
	}
	r.exact.Store(strings.NewReplacer(pairs...))
	r.names.forget()
}

// String returns s without secrets.
func (r *Redactor) String(s string) string {
	if exact := r.exact.Load(); exact != nil {
		s = exact.Replace(s)
	}
	return patterns(s)
}

// Bytes is String for bytes. It returns b itself if there is nothing to take out.
func (r *Redactor) Bytes(b []byte) []byte {
	out := r.String(string(b))
	if bytes.Equal([]byte(out), b) {
		return b
	}
	return []byte(out)
}

// forms lists the spellings of a secret that are worth looking for.
func forms(value string) []string {
	all := []string{value}
	for line := range strings.Lines(value) {
		all = append(all, strings.TrimSpace(line)) // a key ring shows up line by line
	}
	query, path := url.QueryEscape(value), url.PathEscape(value)
	all = append(all, query, path, lowerEscapes(query), lowerEscapes(path))
	digits := hex.EncodeToString([]byte(value))
	all = append(all, digits, strings.ToUpper(digits), html.EscapeString(value))
	if quoted, err := json.Marshal(value); err == nil {
		all = append(all, strings.Trim(string(quoted), `"`))
	}
	all = append(all, quoteless(value))
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for offset := range 3 {
			all = append(all, inside(enc, value, offset))
		}
	}
	return slices.DeleteFunc(all, func(f string) bool { return len(f) < minForm })
}

// quoteless is value with JSON's escapes but without those for HTML, as most other writers do it.
func quoteless(value string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(value)
}

// lowerEscapes writes percent-escapes with lowercase digits.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// inside is what the base64 of a longer text that holds value shows of it, when value begins at
// the given offset modulo three: only the characters that depend on value alone.
func inside(enc *base64.Encoding, value string, offset int) string {
	all := enc.EncodeToString(append(make([]byte, offset), value...))
	first := (offset*8 + 5) / 6
	last := (offset + len(value)) * 8 / 6
	if first >= last {
		return ""
	}
	return all[first:last]
}
