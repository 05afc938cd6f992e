package slack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// signature is Slack's v0 signature.
func signature(key, stamp, body string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte("v0:" + stamp + ":" + body))
	return "v0=" + hex.EncodeToString(m.Sum(nil))
}
