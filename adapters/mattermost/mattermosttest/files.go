package mattermosttest

import (
	"cmp"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
)

type file struct {
	info FileInfo
	data []byte
}

// uploadFile takes both forms that the API has: the bytes as the body, with
// channel_id and filename in the query, or multipart.
func (s *Server) uploadFile(c *call) (reply, *APIError) {
	channelID, name, data := c.r.URL.Query().Get("channel_id"), c.r.URL.Query().Get("filename"), c.body
	if kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type")); kind == "multipart/form-data" {
		f, head, err := c.r.FormFile("files")
		if err != nil {
			return fail(apiError(http.StatusBadRequest, "api.file.upload_file.read_request.app_error",
				"Unable to upload file(s). Error reading or parsing request data."))
		}
		channelID, name = cmp.Or(c.r.FormValue("channel_id"), channelID), head.Filename
		if data, err = io.ReadAll(f); err != nil {
			return fail(errBody("files"))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.writes(c.user, channelID) {
		return fail(errPermission())
	}
	at := s.stamp()
	ext := filepath.Ext(name)
	f := &file{data: data, info: FileInfo{
		ID: newID(), UserID: c.user.id, ChannelID: channelID, CreateAt: at, UpdateAt: at, Name: name,
		Extension: strings.TrimPrefix(ext, "."), Size: int64(len(data)), MimeType: mime.TypeByExtension(ext),
	}}
	s.files[f.info.ID] = f
	return created(map[string]any{"file_infos": []FileInfo{f.info}, "client_ids": nil})
}

func (s *Server) getFile(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[c.path("id")]
	if f == nil {
		return fail(apiError(http.StatusNotFound, "app.file_info.get.app_error", "Unable to get the file info."))
	}
	if f.info.UserID != c.user.id && !s.reads(c.user, f.info.ChannelID) {
		return fail(errPermission())
	}
	return reply{status: http.StatusOK, body: f.data, contentType: f.info.MimeType}, nil
}

// attach gives files to a post and returns the ids that it may have: those of
// its author, in its channel, of no other post.
func (s *Server) attach(u *user, p *Post, ids []string) []string {
	out := []string{}
	for _, id := range ids {
		f := s.files[id]
		if f == nil || f.info.UserID != u.id || f.info.ChannelID != p.ChannelID ||
			f.info.PostID != "" && f.info.PostID != p.ID {
			continue
		}
		f.info.PostID = p.ID
		out = append(out, id)
	}
	return out
}
