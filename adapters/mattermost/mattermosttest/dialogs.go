package mattermosttest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// openDialog needs a live trigger id and nothing else, no session even. A
// dialog that breaks the limits is opened all the same: clients decide.
func (s *Server) openDialog(c *call) (reply, *APIError) {
	var in OpenDialog
	if err := c.decode("dialog", &in); err != nil {
		return fail(err)
	}
	if in.URL == "" {
		return fail(errBody("url"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	short, userID, err := s.checkTrigger(in.TriggerID)
	if err != nil {
		return fail(err)
	}
	in.TriggerID = short
	s.publish(event{name: "open_dialog", data: map[string]any{"dialog": mustJSON(in)}, userID: userID})
	return statusOK()
}

// submitDialog forwards what the client says. Only the user id is the
// server's own.
func (s *Server) submitDialog(c *call) (reply, *APIError) {
	var in Submission
	if err := c.decode("dialog", &in); err != nil {
		return fail(err)
	}
	if in.URL == "" {
		return fail(errBody("url"))
	}
	s.mu.Lock()
	channelKnown := s.channels[in.ChannelID] != nil
	allowed := s.reads(c.user, in.ChannelID) && s.inTeam(c.user, in.TeamID)
	s.mu.Unlock()
	switch {
	case !channelKnown:
		return fail(errChannelMissing(in.ChannelID))
	case !allowed:
		return fail(errPermission())
	}
	url := in.URL
	in.URL, in.UserID = "", c.user.id
	if in.Type != "refresh" {
		in.Type = "dialog_submission"
	}
	body, err := s.deliverJSON("dialog", url, []byte(mustJSON(in)))
	if err != nil {
		return fail(err)
	}
	var out struct {
		Error  string            `json:"error,omitempty"`
		Errors map[string]string `json:"errors,omitempty"`
		Type   string            `json:"type,omitempty"`
		Form   *Dialog           `json:"form,omitempty"`
	}
	if len(body) > 0 && json.Unmarshal(body, &out) != nil {
		return fail(apiError(http.StatusInternalServerError, "app.submit_interactive_dialog.decode_json_error",
			"Encountered an error decoding JSON response from interactive dialog submission."))
	}
	if out.Error == "" && len(out.Errors) == 0 && !validNext(out.Type, out.Form != nil) {
		return fail(apiError(http.StatusBadRequest, "app.submit_interactive_dialog.invalid_response",
			"Encountered an invalid response from interactive dialog submission."))
	}
	b, marshalErr := json.Marshal(out)
	if marshalErr != nil {
		return fail(errBody(fmt.Sprintf("dialog: %v", marshalErr)))
	}
	return reply{status: http.StatusOK, body: b, contentType: "application/json"}, nil
}

// validNext reports whether an answer's type and form fit together.
func validNext(kind string, form bool) bool {
	switch kind {
	case "", "ok", "navigate":
		return !form
	case "form":
		return form
	}
	return false
}
