package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/internal/clock"
	"ocim/internal/secret"
)

const testSecret = "8f742231b10e8888abcd99yyyzzz85a5"

// handlerFunc makes a function a chat.Handler.
type handlerFunc func(ctx context.Context, in chat.Incoming) chat.Answer

func (f handlerFunc) Handle(ctx context.Context, in chat.Incoming) chat.Answer { return f(ctx, in) }

// silent acknowledges everything.
func silent(context.Context, chat.Incoming) chat.Answer { return chat.Answer{} }

// fixture reads one of the shared samples.
func fixture(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "fixtures", "slack", name))
	if err != nil {
		tb.Skipf("the shared samples are not here: %v", err)
	}
	return b
}

// newTest makes an adapter for workspace T111 (and more) on a fake clock.
func newTest(tb testing.TB, h handlerFunc, more ...Workspace) (*Adapter, *clock.Fake) {
	tb.Helper()
	clk := clock.NewFake(time.Unix(1531420618, 0))
	ws := append([]Workspace{{
		TeamID: "T111", SigningSecrets: []secret.Secret{secret.New(testSecret)}, BotToken: secret.New("xoxb-test-token"),
	}}, more...)
	a, err := New(Config{Workspaces: ws, Clock: clk}, h)
	if err != nil {
		tb.Fatal(err)
	}
	return a, clk
}

// sign makes a request as Slack would.
func sign(path, contentType, key string, at time.Time, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	stamp := strconv.FormatInt(at.Unix(), 10)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Slack-Request-Timestamp", stamp)
	r.Header.Set("X-Slack-Signature", signature(key, stamp, body))
	return r
}

func serve(a *Adapter, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	a.Routes()[r.URL.Path].ServeHTTP(w, r)
	return w
}

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		Vectors []struct {
			Name    string            `json:"name"`
			Secret  string            `json:"signing_secret"`
			Now     int64             `json:"now"`
			Headers map[string]string `json:"headers"`
			Body    string            `json:"body"`
			Valid   *bool             `json:"valid"`
		} `json:"vectors"`
	}
	if err := json.Unmarshal(fixture(t, "signature-vectors.json"), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) < 19 {
		t.Fatalf("got %d vectors, want 19 or more", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			a, err := New(Config{
				Clock: clock.NewFake(time.Unix(v.Now, 0)),
				Workspaces: []Workspace{{
					TeamID: "T111", BotToken: secret.New("xoxb-test"), SigningSecrets: []secret.Secret{secret.New(v.Secret)},
				}},
			}, handlerFunc(silent))
			if err != nil {
				if v.Valid != nil && *v.Valid {
					t.Fatal(err)
				}
				return // a secret that New refuses verifies nothing
			}
			h := http.Header{}
			for k, x := range v.Headers {
				h.Set(k, x)
			}
			_, reason := a.verify(h, []byte(v.Body))
			// Where the SDKs disagree the stricter answer is ours.
			want := v.Valid != nil && *v.Valid
			if got := reason == ""; got != want {
				t.Errorf("verify: got %v (%s), want %v", got, reason, want)
			}
		})
	}
}

func TestT01_ForgedRequestsAreRefused(t *testing.T) {
	t.Parallel()
	body := strings.TrimSpace(string(fixture(t, "slash_command_escaped_entities.form")))
	a, clk := newTest(t, silent)
	stamp := strconv.FormatInt(clk.Now().Unix(), 10)
	sig := signature(testSecret, stamp, body)
	try := func(stamp, sig, body string) bool {
		h := http.Header{"X-Slack-Request-Timestamp": {stamp}, "X-Slack-Signature": {sig}}
		_, reason := a.verify(h, []byte(body))
		return reason == ""
	}
	if !try(stamp, sig, body) {
		t.Fatal("the untouched request was refused")
	}
	parts := []string{stamp, sig, body}
	tries, accepted := 0, 0
	mutate := func(part, at int, c byte) {
		m := append([]string(nil), parts...)
		b := []byte(m[part])
		if b[at] == c {
			return
		}
		b[at] = c
		m[part] = string(b)
		tries++
		if try(m[0], m[1], m[2]) {
			accepted++
			t.Errorf("accepted with byte %d of part %d changed to %q", at, part, c)
		}
	}
	for part := range parts { // every single-byte change there is
		for at := range len(parts[part]) {
			for c := range 256 {
				mutate(part, at, byte(c))
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100_000 { // several changes at once, inserted and lost bytes
		m := append([]string(nil), parts...)
		part := rnd.IntN(3)
		b := []byte(m[part])
		at := rnd.IntN(len(b))
		switch rnd.IntN(3) {
		case 0:
			b = append(b[:at], b[at+1:]...)
		case 1:
			b = append(b[:at], append([]byte{byte(rnd.IntN(256))}, b[at:]...)...)
		default:
			b[at] ^= byte(1 + rnd.IntN(255))
			b[rnd.IntN(len(b))] = byte(rnd.IntN(256))
		}
		if m[part] = string(b); m[part] == parts[part] {
			continue
		}
		tries++
		if try(m[0], m[1], m[2]) {
			accepted++
		}
	}
	if accepted != 0 {
		t.Errorf("got %d of %d forged requests accepted, want 0", accepted, tries)
	}
	t.Logf("%d forged requests", tries)
}

func TestT01_NothingUnsignedIsHandled(t *testing.T) {
	t.Parallel()
	const body = "team_id=T111&user_id=U1&channel_id=C1&text=deploy"
	var handled atomic.Int64
	a, clk := newTest(t, func(context.Context, chat.Incoming) chat.Answer { handled.Add(1); return chat.Answer{} })
	for name, r := range map[string]*http.Request{
		"no signature":     httptest.NewRequest(http.MethodPost, "/slack/commands", strings.NewReader(body)),
		"ssl_check bypass": httptest.NewRequest(http.MethodPost, "/slack/commands", strings.NewReader("ssl_check=1&token=x")),
		"url_verification": httptest.NewRequest(http.MethodPost, "/slack/events", strings.NewReader(`{"type":"url_verification","challenge":"c"}`)),
		"interaction":      httptest.NewRequest(http.MethodPost, "/slack/interactions", strings.NewReader("payload=%7B%7D")),
		"options":          httptest.NewRequest(http.MethodPost, "/slack/options", strings.NewReader("payload=%7B%7D")),
		"foreign secret":   sign("/slack/commands", formType, "another-secret-of-enough-length", clk.Now(), body),
		"empty secret":     sign("/slack/commands", formType, "", clk.Now(), body),
		"too old":          sign("/slack/commands", formType, testSecret, clk.Now().Add(-301*time.Second), body),
		"from the future":  sign("/slack/commands", formType, testSecret, clk.Now().Add(301*time.Second), body),
	} {
		if r.Header.Get("Content-Type") == "" {
			r.Header.Set("Content-Type", formType)
			if strings.HasSuffix(r.URL.Path, "events") {
				r.Header.Set("Content-Type", jsonType)
			}
		}
		w := serve(a, r)
		if w.Code != http.StatusUnauthorized || w.Body.Len() != 0 {
			t.Errorf("%s: got status %d with %d bytes, want 401 with none", name, w.Code, w.Body.Len())
		}
	}
	if n := handled.Load(); n != 0 {
		t.Errorf("got %d forged requests handled, want 0", n)
	}
}

func TestT01_NewRefusesWeakSecrets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		secrets []string
	}{
		{"none", nil},
		{"empty", []string{""}},
		{"fifteen bytes", []string{"123456789012345"}},
		{"an empty one beside a good one", []string{testSecret, ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ws := Workspace{TeamID: "T111", BotToken: secret.New("xoxb-test")}
			for _, s := range tt.secrets {
				ws.SigningSecrets = append(ws.SigningSecrets, secret.New(s))
			}
			if _, err := New(Config{Workspaces: []Workspace{ws}}, handlerFunc(silent)); err == nil {
				t.Error("New: got no error, want a refusal")
			}
		})
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	t.Parallel()
	good := Workspace{TeamID: "T111", BotToken: secret.New("xoxb"), SigningSecrets: []secret.Secret{secret.New(testSecret)}}
	change := func(f func(*Workspace)) []Workspace { w := good; f(&w); return []Workspace{w} }
	tests := []struct {
		name string
		ws   []Workspace
	}{
		{"no workspace", nil},
		{"twice", []Workspace{good, good}},
		{"team id", change(func(w *Workspace) { w.TeamID = "t111" })},
		{"no token", change(func(w *Workspace) { w.BotToken = secret.Secret{} })},
		{"socket without app token", change(func(w *Workspace) { w.Socket = true })},
		{"too many sockets", change(func(w *Workspace) { w.Sockets = 11 })},
		{"api address", change(func(w *Workspace) { w.APIURL = "ftp://slack.com/" })},
		{"api address with a password", change(func(w *Workspace) { w.APIURL = "https://u:p@slack.com/api/" })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := New(Config{Workspaces: tt.ws}, handlerFunc(silent)); err == nil {
				t.Error("New: got no error, want one")
			}
		})
	}
	if _, err := New(Config{Workspaces: []Workspace{good}}, nil); err == nil {
		t.Error("New without handler: got no error, want one")
	}
}

func TestRequestLimits(t *testing.T) {
	t.Parallel()
	a, clk := newTest(t, silent)
	large := "text=" + strings.Repeat("x", 200<<10)
	stream := httptest.NewRequest(http.MethodPost, "/slack/commands", io.LimitReader(zeros{}, 10<<30))
	stream.Header.Set("Content-Type", formType)
	announced := httptest.NewRequest(http.MethodPost, "/slack/commands", strings.NewReader("x"))
	announced.ContentLength = 10 << 30
	announced.Header.Set("Content-Type", formType)
	get := sign("/slack/commands", formType, testSecret, clk.Now(), "x")
	get.Method = http.MethodGet
	tests := []struct {
		name string
		r    *http.Request
		want int
	}{
		{"a view's size", sign("/slack/commands", formType, testSecret, clk.Now(), large), http.StatusForbidden},
		{"endless", stream, http.StatusRequestEntityTooLarge},
		{"announced too large", announced, http.StatusRequestEntityTooLarge},
		{"GET", get, http.StatusMethodNotAllowed},
		{"JSON for a form", sign("/slack/commands", jsonType, testSecret, clk.Now(), "{}"), http.StatusUnsupportedMediaType},
		{"form for JSON", sign("/slack/events", formType, testSecret, clk.Now(), "{}"), http.StatusUnsupportedMediaType},
		{"no content type", sign("/slack/events", "", testSecret, clk.Now(), "{}"), http.StatusUnsupportedMediaType},
		{"not JSON", sign("/slack/events", jsonType, testSecret, clk.Now(), "{"), http.StatusBadRequest},
		{"no payload", sign("/slack/interactions", formType, testSecret, clk.Now(), "x=1"), http.StatusBadRequest},
		{"payload not JSON", sign("/slack/interactions", formType, testSecret, clk.Now(), "payload=%7B"), http.StatusBadRequest},
		{"bad escape", sign("/slack/commands", formType, testSecret, clk.Now(), "text=%zz"), http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if w := serve(a, tt.r); w.Code != tt.want || w.Body.Len() != 0 {
				t.Errorf("got status %d with %d bytes, want %d with none", w.Code, w.Body.Len(), tt.want)
			}
		})
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestT17_LargeBodiesHaveFewSlots(t *testing.T) {
	t.Parallel()
	a, clk := newTest(t, silent)
	for range bigBodies {
		a.big <- struct{}{}
	}
	body := "text=" + strings.Repeat("x", smallBody)
	if w := serve(a, sign("/slack/commands", formType, testSecret, clk.Now(), body)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("large body while all slots are taken: got status %d, want 503", w.Code)
	}
	small := "team_id=T111&user_id=U1&channel_id=C1&text=help"
	if w := serve(a, sign("/slack/commands", formType, testSecret, clk.Now(), small)); w.Code != http.StatusOK {
		t.Errorf("small body while all slots are taken: got status %d, want 200", w.Code)
	}
}

func TestT05_PrincipalIsBoundToTheSecret(t *testing.T) {
	t.Parallel()
	const secondSecret = "another-signing-secret-0123456789"
	var got atomic.Value
	a, clk := newTest(t,
		func(_ context.Context, in chat.Incoming) chat.Answer {
			got.Store(in.Actor.String())
			return chat.Answer{}
		},
		Workspace{TeamID: "T222", BotToken: secret.New("xoxb-two"), SigningSecrets: []secret.Secret{secret.New(secondSecret)}},
		Workspace{TeamID: "T333", BotToken: secret.New("xoxb-three"), SigningSecrets: []secret.Secret{secret.New(secondSecret)}},
	)
	bound := map[string][]string{testSecret: {"T111"}, secondSecret: {"T222", "T333"}}
	kinds := []struct{ path, contentType, body string }{
		{"/slack/commands", formType, "team_id=%s&user_id=U7&channel_id=C1&text=deploy"},
		{"/slack/interactions", formType, `payload={"type":"block_actions","team":{"id":"%s"},"user":{"id":"U7"},"actions":[{"type":"button","value":"v"}],"container":{"channel_id":"C1","message_ts":"1.2"}}`},
		{"/slack/interactions", formType, `payload={"type":"view_submission","team":{"id":"%s"},"user":{"id":"U7"},"view":{"callback_id":"d"}}`},
		{"/slack/options", formType, `payload={"type":"block_suggestion","team":{"id":"%s"},"user":{"id":"U7"},"view":{"callback_id":"d"}}`},
	}
	for key, own := range bound {
		for _, team := range []string{"T111", "T222", "T333", "T444", ""} {
			for _, k := range kinds {
				got.Store("")
				body := strings.ReplaceAll(k.body, "%s", team)
				w := serve(a, sign(k.path, k.contentType, key, clk.Now(), body))
				allowed := false
				for _, o := range own {
					allowed = allowed || o == team
				}
				wantActor, wantCode := "", http.StatusForbidden
				if allowed {
					wantActor, wantCode = "slack:"+team+":U7", http.StatusOK
				}
				if w.Code != wantCode || got.Load() != wantActor {
					t.Errorf("%s as %q with the secret of %v: got status %d, actor %q; want %d, %q",
						k.path, team, own, w.Code, got.Load(), wantCode, wantActor)
				}
			}
		}
	}
}

func TestRepeatedDeliveryHasTheSameKey(t *testing.T) {
	t.Parallel()
	var keys []string
	a, clk := newTest(t, func(_ context.Context, in chat.Incoming) chat.Answer {
		keys = append(keys, in.Key)
		return chat.Answer{}
	})
	body := "team_id=T111&user_id=U7&channel_id=C1&text=deploy"
	for _, at := range []time.Time{clk.Now(), clk.Now(), clk.Now().Add(-time.Second)} {
		serve(a, sign("/slack/commands", formType, testSecret, at, body))
	}
	if len(keys) != 3 || keys[0] != keys[1] || keys[0] == keys[2] || len(keys[0]) != len("slack:")+32 {
		t.Errorf("got keys %q, want two alike and one different, 32 digits each", keys)
	}
}

func TestT20_RefusalsLogNoContent(t *testing.T) {
	t.Parallel()
	const canary = "canary5ecret"
	var out bytes.Buffer
	a, err := New(Config{
		Clock:  clock.NewFake(time.Unix(1531420618, 0)),
		Logger: slog.New(slog.NewTextHandler(&out, nil)),
		Workspaces: []Workspace{{
			TeamID: "T111", BotToken: secret.New("xoxb-" + canary), SigningSecrets: []secret.Secret{secret.New(canary + canary)},
		}},
	}, handlerFunc(silent))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1531420618, 0)
	requests := []*http.Request{
		sign("/slack/commands", formType, "wrong"+canary, at, "text="+canary),
		sign("/slack/commands", formType, canary+canary, at, "team_id=T999&text="+canary),
		sign("/slack/commands", formType, canary+canary, at, "text=%zz"+canary),
		sign("/slack/interactions", formType, canary+canary, at, "payload="+canary),
		sign("/slack/events", jsonType, canary+canary, at, canary),
		sign("/slack/events", canary, canary+canary, at, canary),
	}
	requests[0].Header.Set("X-Slack-Signature", canary)
	for _, r := range requests {
		w := serve(a, r)
		if w.Body.Len() != 0 {
			t.Errorf("got a body of %d bytes, want none", w.Body.Len())
		}
	}
	if strings.Contains(out.String(), canary) {
		t.Errorf("the log holds request content: %s", out.String())
	}
	if got := strings.Count(out.String(), "\n"); got != len(requests) {
		t.Errorf("got %d log lines for %d refusals, want one each", got, len(requests))
	}
}
