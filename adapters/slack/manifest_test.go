package slack

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/dlclark/regexp2"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// ecma is a regular expression with look-ahead, which the official schema uses.
type ecma struct{ *regexp2.Regexp }

func (e ecma) MatchString(s string) bool {
	ok, err := e.Regexp.MatchString(s)
	return err == nil && ok
}

func compileECMA(s string) (jsonschema.Regexp, error) {
	re, err := regexp2.Compile(s, regexp2.ECMAScript)
	if err != nil {
		return nil, err
	}
	return ecma{re}, nil
}

func TestManifestFollowsTheOfficialSchema(t *testing.T) {
	t.Parallel()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(fixture(t, "manifest.schema.v2.json")))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.UseRegexpEngine(compileECMA)
	if err := c.AddResource("manifest.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, socket := range []bool{false, true} {
		b, err := Manifest("https://bot.example.com/", socket)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("socket %v: %v", socket, err)
		}
		var m struct {
			Features struct {
				Commands []struct {
					URL    string `json:"url"`
					Escape bool   `json:"should_escape"`
				} `json:"slash_commands"`
			} `json:"features"`
			OAuth struct {
				Scopes struct {
					Bot []string `json:"bot"`
				} `json:"scopes"`
			} `json:"oauth_config"`
			Settings struct {
				Socket bool `json:"socket_mode_enabled"`
			} `json:"settings"`
		}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"commands", "chat:write", "im:write", "users:read"}, m.OAuth.Scopes.Bot); diff != "" {
			t.Errorf("scopes differ (-want +got):\n%s", diff)
		}
		if m.Settings.Socket != socket || !m.Features.Commands[0].Escape {
			t.Errorf("got %+v, want socket mode %v and escaped commands", m, socket)
		}
		if hasURL := strings.Contains(string(b), "https://bot.example.com"); hasURL == socket {
			t.Errorf("socket %v: got addresses %v, want the opposite", socket, hasURL)
		}
		if !socket && m.Features.Commands[0].URL != "https://bot.example.com/slack/commands" {
			t.Errorf("got %q, want a single slash", m.Features.Commands[0].URL)
		}
	}
	for _, bad := range []string{"", "http://bot.example.com", "https://", "https://a:b@bot.example.com", "https://bot.example.com?x=1", "://"} {
		if _, err := Manifest(bad, false); err == nil {
			t.Errorf("%q: got no error, want one", bad)
		}
	}
}
