package redact

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"ocim/internal/secret"
)

// canary has the characters that encodings change.
const canary = `c4n4ry+/&="<5e\cret>-6f1d0c5a9be2`

func TestString(t *testing.T) {
	t.Parallel()
	r := New(secret.New(canary), secret.New("exact-secret-0001"), secret.New("exact-secret-0001-and-longer"))
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "deploy of demo ended after 12 min", "deploy of demo ended after 12 min"},
		{"empty", "", ""},
		{"exact", "got exact-secret-0001.", "got ***."},
		{"longest first", "exact-secret-0001-and-longer", "***"},
		{"twice", "exact-secret-0001exact-secret-0001", "******"},
		{"gitlab", "glpat-abcdEFGH1234_-.x and glptt-0123456789abcdef", "*** and ***"},
		{"slack", "xoxb-123-456-abc xoxe.xoxp-1-Mi0yLTEyMw xapp-1-A1-2-ffff", "*** *** ***"},
		{"signing token", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "***"},
		{"aws", "id AKIAIOSFODNN7EXAMPLE.", "id ***."},
		{"jwt", "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92 back", "got *** back"},
		{"pem", "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb"},
		{"pem cut at its end", "a\n-----BEGIN PRIVATE KEY-----\nMIIEow\nIBAAK", "a\n***"},
		{"pem cut at its begin", "MIIEowIBAAKCAQEAxyz0\nIBAAK=\n-----END PRIVATE KEY-----\nb", "***\nb"},
		{"address", "fetch https://oauth2:pa:ss@w0rd@gitlab.com/a@b failed", "fetch https://***@gitlab.com/a@b failed"},
		{"no password", "fetch ssh://git@gitlab.com:22/x", "fetch ssh://git@gitlab.com:22/x"},
		{"database", "postgres://ocim:hunter2@db:5432/x?a=b", "postgres://***@db:5432/x?a=b"},
		{"env line", "DB_PASSWORD=correct horse battery", "DB_PASSWORD=***"},
		{"exported", "  export API_KEY='a b'", "  export API_KEY=***"},
		{"two lines", "A=1\nMY_SECRET=x y\r\nB=2", "A=1\nMY_SECRET=***\r\nB=2"},
		{"yaml", "  db_password: a b c", "  db_password: ***"},
		{"inline env", "run A=1 GL_TOKEN=abc123 make", "run A=1 GL_TOKEN=*** make"},
		{"json", `{"user":"a","apiKey":"a\"b","private_key": 12, "n":1}`, `{"user":"a","apiKey":***,"private_key": ***, "n":1}`},
		{"json in json", `{"body":"{\"token\":\"abc\",\"n\":1}"}`, `{"body":"{\"token\":***,\"n\":1}"}`},
		{"block under a secret name", "secrets: {a: b}", "secrets: {a: b}"},
		{"query", "GET /x?private_token=abc&page=2", "GET /x?private_token=***&page=2"},
		{"flag", "mysql --password hunter2 -h db --api-key=k1", "mysql --password *** -h db --api-key=***"},
		{"header", "Authorization: Digest username=\"a\", response=\"b\"", "Authorization: ***"},
		{"header map", "map[Accept:[*/*] Authorization:[Bearer abc def] X:[1]]", "map[Accept:[*/*] Authorization:*** X:[1]]"},
		{"a sentence before a colon", "Mattermost no longer accepts the bot's token.: look up its account", "Mattermost no longer accepts the bot's token.: look up its account"},
		{"an error as ops joins it", "does not accept the token (look up the account: status 401)", "does not accept the token (look up the account: status 401)"},
		{"a line that begins with one", "Token.: look up the account", "Token.: look up the account"},
		{"a name with dots", "spring.token.value: a b, x.token.y=abc", "spring.token.value: ***"},
		{"a name with dots, inside", "got x.token.y=abc now", "got x.token.y=*** now"},
		{"bearer", "sent bearer abcdefgh12345 to it", "sent bearer *** to it"},
		{"private token", "PRIVATE-TOKEN: abc", "PRIVATE-TOKEN: ***"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := r.String(tt.in); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if got := string(r.Bytes([]byte(tt.in))); got != tt.want {
				t.Errorf("Bytes: got %q, want %q", got, tt.want)
			}
		})
	}
}

// spellings are ways in which text carries a secret; see also FuzzRedact.
func spellings(s string) map[string]string {
	quoted, _ := json.Marshal(s)
	return map[string]string{
		"plain":         s,
		"query":         url.QueryEscape(s),
		"path":          url.PathEscape(s),
		"lower percent": strings.NewReplacer("%2B", "%2b", "%2F", "%2f", "%3D", "%3d", "%3C", "%3c", "%5C", "%5c", "%3E", "%3e").Replace(url.QueryEscape(s)),
		"hex":           hex.EncodeToString([]byte(s)),
		"upper hex":     strings.ToUpper(hex.EncodeToString([]byte(s))),
		"json":          string(quoted),
		"quoted":        fmt.Sprintf("%q", s),
		"html":          strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;").Replace(s),
		"base64":        base64.StdEncoding.EncodeToString([]byte(s)),
		"base64 url":    base64.URLEncoding.EncodeToString([]byte(s)),
		"basic":         base64.StdEncoding.EncodeToString([]byte("u:" + s)),
		"basic 2":       base64.StdEncoding.EncodeToString([]byte("us:" + s + "\n")),
		"basic raw":     base64.RawURLEncoding.EncodeToString([]byte("use:" + s + "xy")),
	}
}

// TestW24_SeededSecretsNeverReachAMessage puts a known secret in all its spellings into the texts
// that are shown in chat.
func TestW24_SeededSecretsNeverReachAMessage(t *testing.T) {
	t.Parallel()
	r := New(secret.New(canary))
	for name, spelled := range spellings(canary) {
		for _, shape := range []string{
			"%s", "job log: %s\nnext line", "%s%[1]s", "POST https://gitlab.example.org/x?y=%s: 500", "```\n%s\n```",
			`{"message":{"base":["%s"]}}`, "<https://x|%s>", "\x1b[0K%s\x1b[0m", "a\u00a0%s\u00a0b", "ürgs %s €",
		} {
			got := r.String(fmt.Sprintf(shape, spelled))
			core := strings.Trim(spelled, `"=`)
			if strings.Contains(got, core) {
				t.Errorf("%s in %q: got %q, want it without the secret", name, shape, got)
			}
		}
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	var r Redactor
	const s = "given-at-run-time-1"
	if got := r.String(s); got != s {
		t.Errorf("got %q before Add, want it untouched", got)
	}
	r.Add(secret.New(s), secret.New(""), secret.New("short"))
	if got := r.String(s + " short "); got != "*** short " {
		t.Errorf("got %q, want %q", got, "*** short ")
	}
}

// FuzzRedact hides a canary in text that the fuzzer makes, in the encodings that a Redactor
// promises to know. None may survive.
func FuzzRedact(f *testing.F) {
	f.Add("got ", " back", "u:")
	f.Add("-----BEGIN ", "-----END X-----\n", "")
	f.Add("token=", "\n", "us:")
	f.Add(`{"password":"`, `"}`, "use:")
	f.Add("https://a:", "@b", "\x00")
	f.Add("Authorization: Basic ", "\r\n", "\xff")
	r := New(secret.New(canary))
	f.Fuzz(func(t *testing.T, before, after, inside string) {
		for name, spelled := range spellings(canary) {
			core := strings.Trim(spelled, `"=`)
			if got := r.String(before + spelled + after); strings.Contains(got, core) {
				t.Errorf("%s: got %q, want it without the secret", name, got)
			}
		}
		wrapped := base64.StdEncoding.EncodeToString([]byte(inside + canary + after))
		got := r.String(before + " " + wrapped + " ")
		for piece := range strings.FieldsSeq(got) {
			raw, err := base64.StdEncoding.DecodeString(piece)
			if err == nil && strings.Contains(string(raw), canary) {
				t.Errorf("got %q, which decodes to the secret", got)
			}
		}
		if v := Visible(before); strings.ContainsFunc(v, hidden) {
			t.Errorf("got %q from Visible, want nothing hidden in it", v)
		}
	})
}

func BenchmarkString(b *testing.B) {
	var known []secret.Secret
	for i := range 20 {
		known = append(known, secret.New(fmt.Sprintf("glpat-%032d", i)))
	}
	r := New(known...)
	line := "2026-03-01T10:00:00Z 01O Successfully built image registry.example.org/grove/demo/openedx:v18 in 12.3s\n"
	for _, bb := range []struct{ name, text string }{
		{"log line", line},
		{"64 KiB without secrets", strings.Repeat(line, 64<<10/len(line))},
		{"64 KiB of secrets", strings.Repeat("export DB_PASSWORD=abc https://a:b@c/ token: x\n", 64<<10/47)},
		{"64 KiB of half a secret", strings.Repeat("glpat-0000000000000000000000000000000", 64<<10/37)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.text)))
			for b.Loop() {
				r.String(bb.text)
			}
		})
	}
}
