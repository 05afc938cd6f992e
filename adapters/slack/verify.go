package slack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"ocim/internal/secret"
)

const (
	// maxSkew is how far a request's timestamp may lie from our clock, in both directions
	// (docs.slack.dev, authentication/verifying-requests-from-slack).
	maxSkew = 300 * time.Second
	// smallBody is read for every connection; a larger body needs one of bigBodies slots, so that
	// 500 strangers who send a megabyte and stall hold 48 MiB and not 500.
	smallBody = 64 << 10
	bigBodies = 16

	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// signingKey is one secret with the workspaces it stands for.
type signingKey struct {
	secret secret.Secret
	teams  map[string]*workspace
}

// origin is what a verified delivery proves: which workspaces it may speak for, and its identity.
type origin struct {
	teams map[string]*workspace
	key   string // the same for a repeated delivery
}

// workspace is the one that a verified delivery speaks for: it must be bound to what verified it,
// whatever the payload claims. The organisation counts where the app is installed on it as a whole.
func (o origin) workspace(team, enterprise string) *workspace {
	if ws := o.teams[team]; ws != nil {
		return ws
	}
	return o.teams[enterprise]
}

func (a *Adapter) addKey(s secret.Secret, ws *workspace) {
	for _, k := range a.keys {
		if k.secret.Equal(s.Reveal()) {
			k.teams[ws.TeamID] = ws
			return
		}
	}
	a.keys = append(a.keys, signingKey{secret: s, teams: map[string]*workspace{ws.TeamID: ws}})
}

// admit reads and verifies a request. It answers a refusal itself, with a bare status: a stranger
// learns nothing. The body is only parsed by callers that got ok.
func (a *Adapter) admit(w http.ResponseWriter, r *http.Request, contentType string) (body []byte, from origin, ok bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		a.refuse(w, r, http.StatusMethodNotAllowed, "not a POST")
		return nil, origin{}, false
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != contentType {
		a.refuse(w, r, http.StatusUnsupportedMediaType, "wrong content type")
		return nil, origin{}, false
	}
	body, err := a.readBody(w, r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, errBusy):
		a.refuse(w, r, http.StatusServiceUnavailable, "too many large requests at once")
		return nil, origin{}, false
	case errors.As(err, &tooLarge):
		a.refuse(w, r, http.StatusRequestEntityTooLarge, "body too large")
		return nil, origin{}, false
	case err != nil:
		a.refuse(w, r, http.StatusBadRequest, "body cut off")
		return nil, origin{}, false
	}
	from, reason := a.verify(r.Header, body)
	if reason != "" {
		a.refuse(w, r, http.StatusUnauthorized, reason)
		return nil, origin{}, false
	}
	return body, from, true
}

var errBusy = errors.New("too many large bodies")

// readBody reads at most maxBody bytes.
func (a *Adapter) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > a.maxBody {
		return nil, &http.MaxBytesError{Limit: a.maxBody}
	}
	in := http.MaxBytesReader(w, r.Body, a.maxBody)
	// One byte more than announced lets ReadAll see the end without growing.
	size := min(max(r.ContentLength, 0)+1, smallBody)
	body := make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		if len(body) >= smallBody {
			break
		}
		n, err := in.Read(body[len(body):min(cap(body), smallBody)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
	}
	select {
	case a.big <- struct{}{}:
		defer func() { <-a.big }()
	default:
		return nil, errBusy
	}
	rest, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	return append(body, rest...), nil
}

// verify checks the signature over the raw body and returns what it proves, or why not.
//
// Slack: X-Slack-Signature is "v0=" and the lower-case hex of HMAC-SHA256 under the signing secret
// over "v0:", the timestamp header, ":" and the body.
func (a *Adapter) verify(h http.Header, body []byte) (origin, string) {
	signatures, stamps := h.Values("X-Slack-Signature"), h.Values("X-Slack-Request-Timestamp")
	if len(signatures) != 1 || len(stamps) != 1 {
		return origin{}, "signature headers missing or doubled"
	}
	signature, stamp := signatures[0], stamps[0]
	if !digits(stamp) {
		return origin{}, "timestamp is not a number"
	}
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return origin{}, "timestamp is not a number"
	}
	if d := a.clock.Now().Unix() - sec; d > int64(maxSkew/time.Second) || -d > int64(maxSkew/time.Second) {
		return origin{}, "timestamp too far from now"
	}
	got, ok := signatureBytes(signature)
	if !ok {
		return origin{}, "signature malformed"
	}
	var teams map[string]*workspace
	for _, k := range a.keys {
		m := hmac.New(sha256.New, []byte(k.secret.Reveal()))
		_, _ = io.WriteString(m, "v0:"+stamp+":")
		_, _ = m.Write(body)
		if hmac.Equal(m.Sum(nil), got) {
			teams = k.teams
		}
	}
	if teams == nil {
		return origin{}, "signature does not match"
	}
	return origin{teams: teams, key: requestKey(signature)}, ""
}

// signatureBytes decodes "v0=" and 64 lower-case hex digits. Upper case is refused, so that one
// request has one signature and the seen-set cannot be passed by respelling it.
func signatureBytes(s string) ([]byte, bool) {
	if len(s) != 3+2*sha256.Size || s[:3] != "v0=" {
		return nil, false
	}
	for _, c := range []byte(s[3:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return nil, false
		}
	}
	b, err := hex.DecodeString(s[3:])
	return b, err == nil
}

// requestKey names a request by what identifies it, so that a repetition is recognised.
func requestKey(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return Platform + ":" + hex.EncodeToString(sum[:16])
}

// refuse answers with a bare status and logs one line without any of the request's content.
func (a *Adapter) refuse(w http.ResponseWriter, r *http.Request, status int, reason string) {
	a.log.WarnContext(r.Context(), "slack request refused", "path", r.URL.Path, "status", status, "reason", reason)
	w.WriteHeader(status)
}
