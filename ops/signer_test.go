package ops

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func newSigner(t *testing.T, k []byte, previous ...[]byte) *Signer {
	t.Helper()
	s, err := NewSigner(k, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignerRefusesEveryOtherText(t *testing.T) {
	t.Parallel()
	s := newSigner(t, key('a'))
	text := []byte(`{"v":"cancel","o":"k7m2qx","r":1}`)
	sealed := s.Seal(PurposeButton, text)
	if got, err := s.Open(PurposeButton, sealed); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("got %q, %v, want what was sealed", got, err)
	}
	refused := func(what, token string) {
		t.Helper()
		if got, err := s.Open(PurposeButton, token); !errors.Is(err, ErrSeal) || got != nil {
			t.Errorf("%s: got %q, %v, want ErrSeal", what, got, err)
		}
	}
	for i := range sealed {
		for b := range 256 {
			if byte(b) != sealed[i] {
				refused("one byte changed", sealed[:i]+string([]byte{byte(b)})+sealed[i+1:])
			}
		}
		refused("one byte cut out", sealed[:i]+sealed[i+1:])
		for _, c := range "Aa0-_.= \n\r" {
			refused("one byte put in", sealed[:i]+string(c)+sealed[i:])
		}
		refused("cut off", sealed[:i])
	}
	for _, token := range []string{"", ".", "..", sealed + ".", sealed + "A", sealed + "=", sealed + "\n", " " + sealed, strings.Repeat("A", 1<<20), strings.Repeat("A", 1<<20) + "." + strings.Repeat("A", 43)} {
		refused("no seal at all", token)
	}
	other := newSigner(t, key('b'))
	refused("another key", other.Seal(PurposeButton, text))
}

func TestSignerKeepsPurposesApart(t *testing.T) {
	t.Parallel()
	s := newSigner(t, key('a'))
	all := []Purpose{PurposeButton, PurposeDialog, PurposeReference, ""}
	for _, made := range all {
		for _, used := range all {
			_, err := s.Open(used, s.Seal(made, []byte("text")))
			if (err == nil) != (made == used) {
				t.Errorf("sealed as %q, opened as %q: got %v", made, used, err)
			}
		}
	}
	// The boundary between purpose and text belongs to what is sealed.
	if _, err := s.Open("button", s.Seal("butto", []byte("n\x00text"))); err == nil {
		t.Error("a purpose can be moved into the text")
	}
}

func TestSignerOpensWhatPreviousKeysSealed(t *testing.T) {
	t.Parallel()
	before := newSigner(t, key('a'))
	now := newSigner(t, key('b'), key('a'))
	old := before.Seal(PurposeDialog, []byte("text"))
	if _, err := now.Open(PurposeDialog, old); err != nil {
		t.Errorf("previous key: %v", err)
	}
	fresh := now.Seal(PurposeDialog, []byte("text"))
	if _, err := before.Open(PurposeDialog, fresh); err == nil {
		t.Error("the new key's seal opens under the old one alone: it seals with the old")
	}
	if _, err := newSigner(t, key('b')).Open(PurposeDialog, old); err == nil {
		t.Error("a key that was taken out still opens")
	}
}

func TestSignerRefusesShortKeys(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		key      []byte
		previous [][]byte
	}{
		{"none", nil, nil},
		{"31 bytes", make([]byte, 31), nil},
		{"short previous", key('a'), [][]byte{key('b'), []byte("short")}},
		{"empty previous", key('a'), [][]byte{{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if s, err := NewSigner(tc.key, tc.previous...); err == nil || s != nil {
				t.Errorf("got %v, %v, want it refused", s, err)
			}
		})
	}
}

func TestSignerKeepsItsOwnCopyOfTheKey(t *testing.T) {
	t.Parallel()
	k := key('a')
	s := newSigner(t, k)
	before := s.Seal(PurposeButton, []byte("text"))
	clear(k)
	if got := s.Seal(PurposeButton, []byte("text")); got != before {
		t.Error("the caller's key was cleared, and the seal changed with it")
	}
}

func TestCapability(t *testing.T) {
	t.Parallel()
	s := newSigner(t, key('a'))
	want := Capability{
		Verb: "cancel", Operation: "k7m2qx", Run: 2, Platform: "slack", Workspace: "T1", Channel: "C1",
		Expires: noon.Add(CapabilityLife).Unix(),
	}
	token := want.Seal(s)
	if got, err := OpenCapability(s, token); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if len(token) > 2000 {
		t.Errorf("got %d bytes; a Slack button carries 2,000", len(token))
	}
	if again := want.Seal(s); again != token {
		t.Error("the same capability seals differently: every card would look changed")
	}
	for name, token := range map[string]string{
		"forged": newSigner(t, key('b')).Seal(PurposeButton, []byte(`{}`)), "other purpose": s.Seal(PurposeDialog, []byte(`{}`)),
		"not JSON": s.Seal(PurposeButton, []byte("cancel")), "empty": "",
	} {
		if _, err := OpenCapability(s, token); !errors.Is(err, ErrSeal) {
			t.Errorf("%s: got %v, want ErrSeal", name, err)
		}
	}
	if CapabilityLife < 24*time.Hour {
		t.Error("a button of yesterday is dead")
	}
}

func FuzzSignerOpen(f *testing.F) {
	s, err := NewSigner(key('a'))
	if err != nil {
		f.Fatal(err)
	}
	sealed := s.Seal(PurposeButton, []byte("text"))
	f.Add(sealed[:len(sealed)-1])
	f.Add("." + sealed)
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := s.Open(PurposeButton, token); err == nil && token != sealed {
			t.Errorf("opened %q", token)
		}
	})
}
