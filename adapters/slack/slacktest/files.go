package slacktest

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// File is a file uploaded in three steps: an upload URL, the bytes, and the completing call that
// shares it.
type File struct {
	ID, Name, Title, SnippetType string
	// Length is what the bot announced, Content what it sent.
	Length  int
	Content []byte
	// Channel, ThreadTS and MessageTS are set when the file was shared.
	Channel, ThreadTS, MessageTS string
	Complete                     bool
	Created                      time.Time
}

// Files returns every file, oldest first, complete or not.
func (s *Server) Files() []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []File
	for _, f := range s.files {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// SetUploadBase makes files.getUploadURLExternal name another host, such as one that a careful
// client must not send its token to. An empty base means this server again.
func (s *Server) SetUploadBase(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploadBase = base
	if base == "" {
		s.uploadBase = s.url
	}
}

func (s *Server) filesJSON(ids []string) []Object {
	var out []Object
	for _, id := range ids {
		if f := s.files[id]; f != nil {
			out = append(out, Object{"id": f.ID, "name": f.Name, "title": f.Title, "size": len(f.Content), "user": s.ws.BotUser})
		}
	}
	return out
}

func (s *Server) uploadURL(a args) (Object, *apiError) {
	n, err := strconv.Atoi(a.str("length"))
	switch {
	case a.str("filename") == "":
		return nil, invalid("missing required field: filename")
	case err != nil || n <= 0:
		return nil, invalid("must be greater than 0 [json-pointer:/length]")
	case a.str("snippet_type") != "" && n > maxSnippet:
		return nil, refuse("snippet_too_large")
	}
	s.serial++
	f := &File{
		ID: "F" + strings.ToUpper(strconv.FormatInt(s.serial+1e9, 36)), Name: a.str("filename"), Length: n,
		SnippetType: a.str("snippet_type"), Created: s.clk.Now(),
	}
	s.files[f.ID] = f
	// slack-go sends the token along, and only to the host of the API itself.
	return Object{"upload_url": s.uploadBase + "/upload/v1/" + f.ID, "file_id": f.ID}, nil
}

// serveUpload takes the bytes, raw or as the only part of a multipart form. The ledger lists it as
// the method "upload".
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request) {
	content, err := uploaded(r)
	call := Call{Method: "upload", Args: map[string]string{"file": r.PathValue("file")}, At: s.clk.Now()}
	f := s.fault("upload", args{})
	if f != nil {
		call.Fault = f.Kind
		if s.failBefore(w, r, f, &call) {
			return
		}
	}
	call.Status = http.StatusOK
	s.mu.Lock()
	file := s.files[r.PathValue("file")]
	switch {
	case err != nil || file == nil || file.Complete:
		call.Status, call.Error = http.StatusNotFound, "not_found"
	case len(content) != file.Length:
		call.Status, call.Error = http.StatusInternalServerError, "length differs from the announced one"
	default:
		file.Content, call.Committed = content, true
		s.bump()
	}
	s.mu.Unlock()
	if f != nil && s.failAfter(w, r, f, &call) {
		return
	}
	s.recordCall(call)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(call.Status)
	if call.Error == "" {
		_, _ = io.WriteString(w, "OK - "+itoa(len(content)))
	}
}

func uploaded(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	typ, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if typ != "multipart/form-data" {
		return body, nil
	}
	part, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).NextPart()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(part)
}

func (s *Server) completeUpload(a args) (Object, *apiError) {
	given, err := a.objects("files")
	if err != nil || len(given) == 0 {
		return nil, invalid("missing required field: files")
	}
	for _, g := range given {
		switch f := s.files[str(g, "id")]; {
		case f == nil || f.Complete:
			return nil, refuse("file_not_found")
		case f.Content == nil:
			return nil, refuse("file_update_failed")
		}
	}
	m := &Message{User: s.ws.BotUser, BotID: s.ws.BotID, Text: a.str("initial_comment"), ThreadTS: a.str("thread_ts")}
	if a.str("channel_id") != "" {
		c, bad := s.target(args{"channel": a.str("channel_id")})
		if bad != nil {
			return nil, bad
		}
		m.Channel = c.ID
		if bad := s.checkThread(m); bad != nil {
			return nil, bad
		}
	}
	var out []Object
	for _, g := range given {
		f := s.files[str(g, "id")]
		f.Title, f.Complete = str(g, "title"), true
		f.Channel, f.ThreadTS = m.Channel, m.ThreadTS
		m.Files = append(m.Files, f.ID)
		out = append(out, Object{"id": f.ID, "title": f.Title})
	}
	if m.Channel != "" {
		s.add(m, "files.completeUploadExternal")
		for _, id := range m.Files {
			s.files[id].MessageTS = m.TS
		}
	}
	s.bump()
	return Object{"files": out}, nil
}
