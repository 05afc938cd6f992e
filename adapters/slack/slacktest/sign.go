package slacktest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// The headers of a signed request (docs.slack.dev, authentication/verifying-requests-from-slack).
const (
	HeaderSignature = "X-Slack-Signature"
	HeaderTimestamp = "X-Slack-Request-Timestamp"
)

// Sign returns the v0 signature of body for the timestamp given as text.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + timestamp + ":"))
	mac.Write(body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}

// Request is an HTTP request to the bot that has not been sent yet, or a copy of one that has.
type Request struct {
	URL    string
	Header http.Header
	Body   []byte
}

func (r Request) clone() Request {
	return Request{URL: r.URL, Header: r.Header.Clone(), Body: bytes.Clone(r.Body)}
}

// signed returns the request with the headers of one that Slack sends at the given time.
func (s *Server) signed(r Request, at time.Time) Request {
	r = r.clone()
	ts := strconv.FormatInt(at.Unix(), 10)
	r.Header.Set(HeaderTimestamp, ts)
	r.Header.Set(HeaderSignature, Sign(s.signingSecret, ts, r.Body))
	return r
}

// Stale returns r with a genuine signature made age ago; a negative age is a time to come.
// Slack's rule refuses more than five minutes.
func (s *Server) Stale(r Request, age time.Duration) Request {
	return s.signed(r, s.clk.Now().Add(-age))
}

// Forged returns r signed now with another secret.
func (s *Server) Forged(r Request) Request {
	r = s.signed(r, s.clk.Now())
	r.Header.Set(HeaderSignature, Sign("not-"+s.signingSecret, r.Header.Get(HeaderTimestamp), r.Body))
	return r
}

// Tampered returns r with one byte of the body changed after it was signed.
func (s *Server) Tampered(r Request) Request {
	r = s.signed(r, s.clk.Now())
	if len(r.Body) > 0 {
		r.Body[len(r.Body)-1] ^= 1
	}
	return r
}

// Unsigned returns r without any signature.
func (s *Server) Unsigned(r Request) Request {
	r = r.clone()
	r.Header.Del(HeaderSignature)
	r.Header.Del(HeaderTimestamp)
	return r
}
