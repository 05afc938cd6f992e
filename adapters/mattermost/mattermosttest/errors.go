package mattermosttest

import (
	"fmt"
	"net/http"
)

// APIError is Mattermost's error body (model.AppError).
type APIError struct {
	ID            string `json:"id"`
	Message       string `json:"message"`
	DetailedError string `json:"detailed_error"`
	RequestID     string `json:"request_id,omitempty"`
	StatusCode    int    `json:"status_code"`
}

// Error implements error.
func (e *APIError) Error() string {
	return fmt.Sprintf("mattermost: %d %s: %s", e.StatusCode, e.ID, e.Message)
}

func apiError(status int, id, message string) *APIError {
	return &APIError{ID: id, Message: message, StatusCode: status}
}

func errSession() *APIError {
	return apiError(http.StatusUnauthorized, "api.context.session_expired.app_error",
		"Invalid or expired session, please login again.")
}

func errPermission() *APIError {
	return apiError(http.StatusForbidden, "api.context.permissions.app_error",
		"You do not have the appropriate permissions.")
}

func errBody(name string) *APIError {
	return apiError(http.StatusBadRequest, "api.context.invalid_body_param.app_error",
		"Invalid or missing "+name+" in request body.")
}

func errURLParam(name string) *APIError {
	return apiError(http.StatusBadRequest, "api.context.invalid_url_param.app_error",
		"Invalid or missing "+name+" parameter in request URL.")
}

// errRoute is the only error that keeps its detail and has no request id.
func errRoute(path string) *APIError {
	e := apiError(http.StatusNotFound, "api.context.404.app_error", "Sorry, we could not find the page.")
	e.DetailedError = "There doesn't appear to be an api call for the url='" + path +
		"'.  Typo? are you missing a team_id or user_id as part of the url?"
	return e
}

func errPostMissing() *APIError {
	return apiError(http.StatusNotFound, "app.post.get.app_error", "Unable to get the post.")
}

func errChannelMissing(id string) *APIError {
	return apiError(http.StatusNotFound, "app.channel.get.existing.app_error",
		"Unable to find the existing channel "+id+".")
}

func errTeamMissing() *APIError {
	return apiError(http.StatusNotFound, "app.team.get.find.app_error", "Unable to find the existing team.")
}

func errUserMissing() *APIError {
	return apiError(http.StatusNotFound, "app.user.missing_account.const", "Unable to find the user.")
}

func errMessageTooLong() *APIError {
	return apiError(http.StatusBadRequest, "model.post.is_valid.message_length.app_error",
		"Post Message property is longer than the maximum permitted length.")
}

func errRoot() *APIError {
	return apiError(http.StatusBadRequest, "api.post.create_post.root_id.app_error", "Invalid RootId parameter.")
}

func errIntegration() *APIError {
	return apiError(http.StatusBadRequest, "api.post.do_action.action_integration.app_error",
		"Action integration error.")
}

func errCommandFailed(trigger string) *APIError {
	return apiError(http.StatusInternalServerError, "api.command.execute_command.failed.app_error",
		"Command with a trigger of '"+trigger+"' failed.")
}

func errCommandMissing() *APIError {
	return apiError(http.StatusNotFound, "store.sql_command.save.get.app_error", "Unable to get the command.")
}
