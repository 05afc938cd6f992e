package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v4"

	"ocim/internal/secret"
)

const value = "hunter2-and-some-more"

type holder struct {
	Name   string
	Token  secret.Secret
	Ptr    *secret.Secret
	List   []secret.Secret
	Map    map[string]secret.Secret
	Any    any
	Nested struct{ Token secret.Secret }
}

func held() holder {
	s := secret.New(value)
	h := holder{Name: "x", Token: s, Ptr: &s, List: []secret.Secret{s}, Map: map[string]secret.Secret{"k": s}, Any: s}
	h.Nested.Token = s
	return h
}

// However a secret is printed, alone or inside of something, its value is not there; not with verbs
// either that make no sense for it.
func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := secret.New(value)
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T", "%08.3f", "%c", "%U", "%p", "%-40s", "%!"} {
		out["secret "+verb] = fmt.Sprintf(verb, s)
		out["holder "+verb] = fmt.Sprintf(verb, held())
		out["pointer "+verb] = fmt.Sprintf(verb, &s)
	}
	out["Sprint"] = fmt.Sprint(s, &s, held(), []any{s})
	out["error"] = fmt.Errorf("token %v refused: %w", s, errors.New("x")).Error()
	out["String"] = s.String() + s.GoString()

	text, err := json.Marshal(held())
	if err != nil {
		t.Fatal(err)
	}
	out["json"] = string(text)
	text, err = json.Marshal(map[secret.Secret]secret.Secret{s: s})
	if err != nil {
		t.Fatal(err)
	}
	out["json key"] = string(text)
	if text, err = yaml.Marshal(held()); err != nil {
		t.Fatal(err)
	}
	out["yaml"] = string(text)
	if text, err = xml.Marshal(s); err != nil {
		t.Fatal(err)
	}
	out["xml"] = string(text)

	var b bytes.Buffer
	for name, h := range map[string]slog.Handler{"slog json": slog.NewJSONHandler(&b, nil), "slog text": slog.NewTextHandler(&b, nil)} {
		b.Reset()
		l := slog.New(h).With("with", s)
		l.Info("m", "token", s, "ptr", &s, "holder", held(), "err", fmt.Errorf("bad %v", s), slog.Group("g", "token", s), "list", []secret.Secret{s})
		out[name] = b.String()
	}
	b.Reset()
	if err := template.Must(template.New("").Parse("{{.Token}} {{.}} {{printf \"%s\" .Token}}")).Execute(&b, held()); err != nil {
		t.Fatal(err)
	}
	out["template"] = b.String()

	for how, got := range out {
		lower := strings.ToLower(got)
		for _, form := range []string{value, fmt.Sprintf("%x", value), "hunter2"} {
			if strings.Contains(lower, form) {
				t.Errorf("%s: got %q, which holds the secret", how, got)
			}
		}
		if got == "" {
			t.Errorf("%s: got nothing, which proves nothing", how)
		}
	}
	for _, how := range []string{"secret %v", "secret %x", "json", "yaml", "slog json", "template"} {
		if !strings.Contains(out[how], "***") {
			t.Errorf("%s: got %q, want ***", how, out[how])
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	s := secret.New(value)
	if got := s.Reveal(); got != value {
		t.Errorf("got %q, want %q", got, value)
	}
	if s.Empty() || s.Len() != len(value) {
		t.Errorf("got empty %t, length %d, want %d bytes", s.Empty(), s.Len(), len(value))
	}
	for _, tc := range []struct {
		name, have, got string
		want            bool
	}{
		{"same", value, value, true},
		{"other", value, value + "x", false},
		{"prefix", value, value[:5], false},
		{"nothing", value, "", false},
		{"empty and nothing", "", "", false},
		{"empty and something", "", "x", false},
	} {
		if got := secret.New(tc.have).Equal(tc.got); got != tc.want {
			t.Errorf("%s: got %t, want %t", tc.name, got, tc.want)
		}
	}
	var zero secret.Secret
	if !zero.Empty() || zero.String() != "***" {
		t.Errorf("got %t, %s; want the zero Secret empty, and not to tell", zero.Empty(), zero)
	}
}
