package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ocim/internal/secret"
)

// sinks are the handlers that ocim logs through.
func sinks() map[string]func(io.Writer) slog.Handler {
	return map[string]func(io.Writer) slog.Handler{
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
	}
}

type stringer struct{ s string }

func (s stringer) String() string { return s.s }

type panics struct{ s *string }

func (p panics) Error() string { return *p.s }

type valuer struct{ s string }

func (v valuer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("a", v.s), slog.Any("b", stringer(v)))
}

// TestT20_NoSecretReachesTheLog sends a secret through every kind of value that slog takes.
func TestT20_NoSecretReachesTheLog(t *testing.T) {
	t.Parallel()
	deep := struct {
		Header map[string][]string
		P      *stringer
	}{map[string][]string{"X": {canary}}, &stringer{canary}}
	for name, sink := range sinks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			log := slog.New(New(secret.New(canary)).Handler(sink(&b)))
			err := fmt.Errorf("read pipeline 7: %w", errors.Join(errors.New("401 "+canary), errors.New("xoxb-123-456-abcdef")))
			log.Info(canary, canary, 1, "s", canary, "err", err, "stringer", stringer{canary}, "bytes", []byte(canary), "any", deep,
				"valuer", valuer{canary}, "secret", secret.New(canary), "list", []string{canary}, "nil", nil, "panics", panics{},
				"token", "not-known-to-the-redactor", slog.Group("g", slog.String("h", canary), slog.Group(canary, slog.Any("e", err))))
			log.With("s", canary, "err", err).WithGroup("g-"+canary).With("v", valuer{canary}).Warn("x", "s", canary)
			log.LogAttrs(t.Context(), slog.LevelError, "y", slog.Any("l", &valuer{canary}))
			for _, no := range []string{canary, "c4n4ry", "xoxb-123", "not-known"} {
				if strings.Contains(b.String(), no) {
					t.Errorf("got %q in the log:\n%s", no, b.String())
				}
			}
			if got := strings.Count(b.String(), "\n"); got != 3 {
				t.Errorf("got %d lines, want 3", got)
			}
		})
	}
}

// hostile are texts that would forge a record or steer a terminal.
func hostile() []string {
	return []string{
		"a\nlevel=ERROR msg=forged", "a\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}", "\x1b[2J\x1b[H\x1b]0;owned\x07", "\u009b31mred", "\u009d0;x\u009c",
		"a\u2028b\u2029c", "\u202egnp.exe", "\u2066x\u2069", "\x00\x08\x7f", "\xff\xfe", `"} {"a":"`, "k=v \"q\" msg=x", "\ufeffbom", "\x85next line", "\v\f",
	}
}

func TestT23_OneRecordIsOneLine(t *testing.T) {
	t.Parallel()
	for name, sink := range sinks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, s := range hostile() {
				record(t, name, sink, s)
			}
		})
	}
}

func FuzzT23_OneRecordIsOneLine(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, sink := range sinks() {
			record(t, name, sink, s)
		}
	})
}

// record logs s in every place where text can stand, and looks at the line that comes out.
func record(t *testing.T, name string, sink func(io.Writer) slog.Handler, s string) {
	t.Helper()
	var b bytes.Buffer
	log := slog.New(New(secret.New(canary)).Handler(sink(&b)))
	log.With(s, s).WithGroup("g"+s).Info(s, "s", s, "k"+s, 1, "err", errors.New(s), "v", stringer{s}, slog.Group("h"+s, "s", s))
	out := b.String()
	body, ok := strings.CutSuffix(out, "\n")
	if !ok || strings.ContainsFunc(body, hidden) || !utf8.ValidString(body) {
		t.Errorf("got %q from %q, want one line of visible text", out, s)
	}
	if name != "json" {
		return
	}
	dec := json.NewDecoder(strings.NewReader(out))
	var rec map[string]any
	if err := dec.Decode(&rec); err != nil || dec.More() {
		t.Errorf("got %q from %q, want one JSON record (%v)", out, s, err)
	}
	if rec["level"] != "INFO" {
		t.Errorf("got level %v from %q, want INFO", rec["level"], s)
	}
}

func TestHandlerKeepsWhatIsHarmless(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(New().Handler(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo})))
	log.Debug("not logged")
	log.Info("deployed", "n", 12, "d", 3*time.Second, "ok", true, "f", 1.5, "instance", "demo", "tokens", 7)
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"msg": "deployed", "n": 12.0, "d": 3e9, "ok": true, "f": 1.5, "instance": "demo", "tokens": 7.0} {
		if got[k] != want {
			t.Errorf("%s: got %v, want %v", k, got[k], want)
		}
	}
}

func TestLongTextIsCut(t *testing.T) {
	t.Parallel()
	for _, size := range []int{maxLogged, maxLogged + 1, maxRead, maxRead + 1, 1 << 20} {
		// The secret lies across each of the places where the text may be cut.
		for _, at := range []int{maxLogged - 5, maxRead - 5, maxRead - margin - 5} {
			if at+len(canary) > size {
				continue
			}
			s := strings.Repeat("é", at/2) + canary + strings.Repeat("x", size-at/2*2-len(canary))
			var b bytes.Buffer
			slog.New(New(secret.New(canary)).Handler(slog.NewTextHandler(&b, nil))).Info(s)
			got := b.String()
			if strings.Contains(got, "c4n4ry") || len(got) > maxLogged+200 || !utf8.ValidString(got) {
				t.Errorf("size %d, secret at %d: got %d bytes that end in %q", size, at, len(got), got[len(got)-80:])
			}
		}
	}
}
