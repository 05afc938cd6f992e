package slacktest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// Limits of a response_url (docs.slack.dev, interactivity/handling-user-interaction).
const (
	hookUses = 5
	hookLife = 30 * time.Minute
)

// hook is a response_url.
type hook struct {
	kind          string // commands or actions
	user, channel string
	original      string // ts of the message that was clicked, if any
	born          time.Time
	uses          int
}

// newHook makes a response_url; mu must be held.
func (s *Server) newHook(kind, user, channel string, m *Message) string {
	s.serial++
	token := kind + "-" + s.ws.ID + "-" + strconv.FormatInt(s.serial, 10) + s.shortID()
	h := &hook{kind: kind, user: user, channel: channel, born: s.clk.Now()}
	if m != nil {
		h.original = m.TS
	}
	s.hooks[token] = h
	return s.url + "/hooks/" + token
}

// serveHook answers a POST to a response_url. The ledger lists it as the method "response_url".
func (s *Server) serveHook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	a := args{}
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	call := Call{Method: "response_url", Args: ledgerArgs(a, ""), At: s.clk.Now()}
	f := s.fault("response_url", a)
	if f != nil {
		call.Fault = f.Kind
		if s.failBefore(w, r, f, &call) {
			return
		}
	}
	status, code := http.StatusBadRequest, "invalid_payload"
	if err == nil {
		status, code = s.useHook(r.PathValue("token"), a, &call)
	}
	call.Error = code
	if f != nil && s.failAfter(w, r, f, &call) {
		return
	}
	call.Status = status
	s.recordCall(call)
	if code != "" {
		writeJSON(w, status, Object{"ok": false, "error": code})
		return
	}
	writeJSON(w, status, Object{"ok": true})
}

// useHook applies the body of a response_url request.
func (s *Server) useHook(token string, a args, call *Call) (status int, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.hooks[token]
	switch {
	case !ok:
		return http.StatusNotFound, "no_service"
	case s.clk.Now().Sub(h.born) > hookLife:
		return http.StatusNotFound, "expired_url"
	case h.uses >= hookUses:
		return http.StatusNotFound, "used_url"
	}
	next := &Message{
		Channel: h.channel, User: s.ws.BotUser, BotID: s.ws.BotID, ThreadTS: a.str("thread_ts"),
	}
	original := s.find(h.channel, h.original)
	if a.bool("delete_original") && original != nil {
		h.uses++
		original.Deleted = true
		call.Committed, call.TS = true, original.TS
		s.bump()
		return http.StatusOK, ""
	}
	blocks, attachments, bad := s.content(a, next)
	switch {
	case bad != nil:
		return http.StatusBadRequest, bad.code
	case next.Text == "" && !blocks && !attachments:
		return http.StatusBadRequest, "no_text"
	case utf8.RuneCountInString(next.Text) > maxPostText:
		return http.StatusBadRequest, "msg_too_long"
	}
	h.uses++
	call.Committed = true
	// A command's response_url has no original to replace: it posts again
	// (slackapi/bolt-python#1268).
	if a.bool("replace_original") && original != nil && !original.Deleted {
		original.Text, original.Blocks, original.Attachments = next.Text, next.Blocks, next.Attachments
		s.revise(original, "response_url")
		call.TS = original.TS
		return http.StatusOK, ""
	}
	if a.str("response_type") != "in_channel" {
		next.To = h.user
	}
	s.add(next, "response_url")
	call.TS = next.TS
	return http.StatusOK, ""
}
