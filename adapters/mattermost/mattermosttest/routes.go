package mattermosttest

import "net/http"

// routes is the part of the API that the fake has. Anything else is the 404
// that a real server gives for a route it does not know.
func (s *Server) routes() {
	s.handle("GET /users/me", s.getMe)
	s.handle("GET /users/{id}", s.getUser)
	s.handle("POST /users/ids", s.getUsersByIDs)
	s.handle("GET /users/{id}/{part}", s.getUserPart) // teams, and /users/username/{name}
	s.handle("PUT /users/{id}/preferences", s.putPreferences)
	s.handle("POST /users/{id}/tokens", s.createToken)
	s.handle("POST /users/tokens/revoke", s.revokeToken)

	s.handle("GET /teams/name/{name}", s.getTeamByName)
	s.handle("GET /teams/{id}", s.getTeam)
	s.handle("GET /teams/{id}/members/{user}", s.getTeamMember)
	s.handle("GET /teams/{id}/channels/name/{name}", s.getChannelByName)
	s.handle("POST /channels", s.createChannel)
	s.handle("POST /channels/direct", s.createDirect)
	s.handle("GET /channels/{id}", s.getChannel)
	s.handle("GET /channels/{id}/members/{user}", s.getChannelMember)
	s.handle("POST /channels/{id}/members", s.addChannelMember)
	s.handle("DELETE /channels/{id}/members/{user}", s.removeChannelMember)
	s.handle("GET /channels/{id}/posts", s.getChannelPosts)

	s.handle("POST /posts", s.createPost)
	s.handle("POST /posts/ephemeral", s.createEphemeral)
	s.handle("GET /posts/{id}", s.getPost)
	s.handle("DELETE /posts/{id}", s.deletePost)
	s.handle("PUT /posts/{id}", s.updatePost)
	s.handle("PUT /posts/{id}/patch", s.patchPost)
	s.handle("GET /posts/{id}/thread", s.getThread)
	s.handle("POST /files", s.uploadFile)
	s.handle("GET /files/{id}", s.getFile)

	s.handle("POST /posts/{id}/actions/{action}", s.clickAction)
	s.route("POST /actions/dialogs/open", false, s.openDialog)
	s.handle("POST /actions/dialogs/submit", s.submitDialog)

	s.handle("GET /commands", s.listCommands)
	s.handle("POST /commands", s.createCommand)
	s.handle("GET /commands/{id}", s.getCommand)
	s.handle("PUT /commands/{id}", s.updateCommand)
	s.handle("DELETE /commands/{id}", s.deleteCommand)
	s.handle("PUT /commands/{id}/regen_token", s.regenCommandToken)
	s.handle("POST /commands/execute", s.executeCommand)
	s.route("POST /hooks/commands/{id}", false, s.useResponseURL)

	s.route("GET /system/ping", false, func(*call) (reply, *APIError) { return statusOK() })
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.writeError(w, errRoute(r.URL.Path))
	})
}
