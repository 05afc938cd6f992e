package mattermosttest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// pendingPost remembers a create by its pending_post_id, for pendingPostLife.
type pendingPost struct {
	postID string
	until  time.Time
}

// newPost is what a client may say about a post.
type newPost struct {
	ID            string         `json:"id"`
	ChannelID     string         `json:"channel_id"`
	RootID        string         `json:"root_id"`
	Message       string         `json:"message"`
	Type          string         `json:"type"`
	Props         map[string]any `json:"props"`
	FileIDs       []string       `json:"file_ids"`
	PendingPostID string         `json:"pending_post_id"`
	IsPinned      bool           `json:"is_pinned"`
}

func (s *Server) createPost(c *call) (reply, *APIError) {
	var in newPost
	if err := c.decode("post", &in); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.writes(c.user, in.ChannelID) {
		return fail(errPermission())
	}
	if strings.HasPrefix(in.Type, "system_") {
		return fail(apiError(http.StatusBadRequest, "api.context.invalid_param.app_error",
			"Invalid post.type parameter."))
	}
	p, err := s.addPost(c.user, in)
	if err != nil {
		return fail(err)
	}
	return created(p)
}

// addPost stores a post and tells the channel. Callers hold mu and have
// checked that u may post there.
func (s *Server) addPost(u *user, in newPost) (Post, *APIError) {
	now := s.clock.Now()
	if seen, found := s.pending[in.PendingPostID]; found && in.PendingPostID != "" && now.Before(seen.until) {
		r := s.live(seen.postID)
		if r == nil {
			return Post{}, apiError(http.StatusInternalServerError,
				"api.post.deduplicate_create_post.failed_to_get", "Failed to fetch original post after deduplicating a client repeated request.")
		}
		if s.reads(u, r.now().ChannelID) {
			return s.view(r.now()), nil
		}
	}
	if s.channels[in.ChannelID].archived {
		return Post{}, apiError(http.StatusBadRequest, "api.post.create_post.can_not_post_to_deleted.error",
			"Can not post to deleted channel.")
	}
	if utf8.RuneCountInString(in.Message) > maxMessageRunes {
		return Post{}, errMessageTooLong()
	}
	if in.RootID != "" {
		root := s.live(in.RootID)
		switch {
		case root == nil || root.now().RootID != "":
			return Post{}, errRoot()
		case root.now().ChannelID != in.ChannelID:
			return Post{}, apiError(http.StatusBadRequest, "api.post.create_post.channel_root_id.app_error",
				"Invalid ChannelId for RootId parameter.")
		}
	}
	at := s.stamp()
	none := ""
	p := Post{
		ID: newID(), CreateAt: at, UpdateAt: at, UserID: u.id, ChannelID: in.ChannelID, RootID: in.RootID,
		Message: in.Message, Type: in.Type, Props: props(in.Props), Hashtags: hashtags(in.Message),
		PendingPostID: in.PendingPostID, RemoteID: &none, IsPinned: in.IsPinned,
	}
	if u.bot {
		p.Props["from_bot"] = "true"
	}
	p.FileIDs = s.attach(u, &p, in.FileIDs)
	if root := s.live(in.RootID); root != nil {
		root.now().UpdateAt = at // a reply touches its root
	}
	ch := s.channels[in.ChannelID]
	ch.posts = append(ch.posts, &record{versions: []Post{p}})
	ch.lastPostAt = at
	if in.PendingPostID != "" {
		s.pending[in.PendingPostID] = pendingPost{postID: p.ID, until: now.Add(pendingPostLife)}
	}
	shown := s.view(&p)
	s.publishPosted(u, ch, shown)
	return shown, nil
}

// props takes a client's props: attachments are read into their type, and
// actions without an id are given one.
func props(in map[string]any) map[string]any {
	out := maps.Clone(in)
	if out == nil {
		out = map[string]any{}
	}
	if _, found := out["attachments"]; found {
		p := Post{Props: out}
		as := cloneAttachments(p.Attachments())
		for _, a := range as {
			for i := range a.Actions {
				if a.Actions[i].ID == "" {
					a.Actions[i].ID = newID()
				}
			}
		}
		out["attachments"] = as
	}
	return out
}

// view is the post as the API gives it out: nobody, not even its author, gets
// the integration of an action back.
func (s *Server) view(p *Post) Post {
	v := p.clone()
	for _, a := range v.Attachments() {
		for i := range a.Actions {
			a.Actions[i].Integration = nil
		}
	}
	if v.DeleteAt != 0 {
		v.Message, v.Metadata = "", &Metadata{}
		return v
	}
	v.Metadata = s.metadata(&v)
	root := cmp.Or(v.RootID, v.ID)
	if ch := s.channels[v.ChannelID]; ch != nil {
		for _, r := range ch.posts {
			if r.now().RootID == root && r.now().DeleteAt == 0 {
				v.ReplyCount++
			}
		}
	}
	return v
}

func (s *Server) metadata(p *Post) *Metadata {
	m := &Metadata{}
	if len(p.Attachments()) > 0 {
		m.Embeds = []Embed{{Type: "message_attachment"}}
	}
	for _, id := range p.FileIDs {
		if f := s.files[id]; f != nil {
			m.Files = append(m.Files, f.info)
		}
	}
	return m
}

func (s *Server) getPost(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !validID(c.path("id")) {
		return fail(errURLParam("post_id"))
	}
	r := s.live(c.path("id"))
	if r == nil {
		return fail(errPostMissing())
	}
	if !s.reads(c.user, r.now().ChannelID) {
		return fail(errPermission())
	}
	return ok(s.view(r.now()))
}

func (s *Server) deletePost(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.live(c.path("id"))
	if r == nil {
		return fail(errPermission())
	}
	p := r.now()
	ch := s.channels[p.ChannelID]
	if p.UserID != c.user.id && !s.administers(c.user, ch.teamID) || !s.writes(c.user, ch.id) {
		return fail(errPermission())
	}
	s.remove(r)
	return statusOK()
}

// remove marks a post and its replies as deleted.
func (s *Server) remove(r *record) {
	id := r.now().ID
	for _, other := range s.channels[r.now().ChannelID].posts {
		if other != r && other.now().RootID != id || other.now().DeleteAt != 0 {
			continue
		}
		v := other.now().clone()
		v.DeleteAt = s.stamp()
		v.UpdateAt = v.DeleteAt
		other.add(v)
	}
	shown := s.view(r.now())
	s.publish(event{name: "post_deleted", data: map[string]any{"post": mustJSON(shown)}, channelID: shown.ChannelID})
}

func (s *Server) updatePost(c *call) (reply, *APIError) {
	var in newPost
	if err := c.decode("post", &in); err != nil {
		return fail(err)
	}
	if in.ID != c.path("id") {
		return fail(errBody("id"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.editable(c)
	if err != nil {
		return fail(err)
	}
	if in.FileIDs == nil {
		in.FileIDs = r.now().FileIDs
	}
	p, err := s.edit(r, change{message: in.Message, props: props(in.Props), pinned: in.IsPinned, files: in.FileIDs})
	if err != nil {
		return fail(err)
	}
	return ok(p)
}

func (s *Server) patchPost(c *call) (reply, *APIError) {
	var in struct {
		Message  *string         `json:"message"`
		Props    *map[string]any `json:"props"`
		IsPinned *bool           `json:"is_pinned"`
		FileIDs  *[]string       `json:"file_ids"`
	}
	if err := c.decode("post", &in); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.editable(c)
	if err != nil {
		return fail(err)
	}
	old := r.now()
	// A message that stays the same counts as well (api4.postPatchChecks).
	if limit := s.editLimit; limit > 0 && in.Message != nil &&
		s.clock.Now().UnixMilli() > old.CreateAt+limit.Milliseconds() {
		return fail(apiError(http.StatusBadRequest, "api.post.update_post.permissions_time_limit.app_error",
			"Post edit is only allowed for a limited time. Please ask your System Administrator for details."))
	}
	if s.channels[old.ChannelID].archived {
		return fail(apiError(http.StatusBadRequest, "api.post.patch_post.can_not_update_post_in_deleted.error",
			"Can not update a post in a deleted channel."))
	}
	ch := change{message: old.Message, props: old.Props, pinned: old.IsPinned, files: old.FileIDs}
	if in.Message != nil {
		ch.message = *in.Message
	}
	if in.Props != nil {
		ch.props = props(*in.Props)
	}
	if in.IsPinned != nil {
		ch.pinned = *in.IsPinned
	}
	if in.FileIDs != nil {
		ch.files = *in.FileIDs
	}
	p, err := s.edit(r, ch)
	if err != nil {
		return fail(err)
	}
	return ok(p)
}

// editable finds the post of the route and checks that the caller may edit
// it: its author while in the channel, or a system admin. An unknown post is
// answered like a forbidden one.
func (s *Server) editable(c *call) (*record, *APIError) {
	r := s.live(c.path("id"))
	if r == nil {
		return nil, errPermission()
	}
	p := r.now()
	if p.UserID != c.user.id && !c.user.sysAdmin || !s.belongs(c.user, p.ChannelID) {
		return nil, errPermission()
	}
	return r, nil
}

// change is the whole new content of a post.
type change struct {
	message string
	props   map[string]any
	pinned  bool
	files   []string
}

func (s *Server) edit(r *record, c change) (Post, *APIError) {
	if utf8.RuneCountInString(c.message) > maxMessageRunes {
		return Post{}, errMessageTooLong()
	}
	old := r.now()
	p := old.clone()
	p.Message, p.Props, p.IsPinned = c.message, c.props, c.pinned
	p.FileIDs = s.attach(s.users[p.UserID], &p, c.files)
	p.Hashtags = hashtags(p.Message)
	p.PendingPostID = ""
	at := s.stamp()
	p.UpdateAt = at
	if p.Message != old.Message || !sameAttachments(&p, old) || !slices.Equal(p.FileIDs, old.FileIDs) {
		p.EditAt = at
	}
	r.add(p)
	shown := s.view(&p)
	s.publish(event{name: "post_edited", data: map[string]any{"post": mustJSON(shown)}, channelID: p.ChannelID})
	return shown, nil
}

func sameAttachments(a, b *Post) bool {
	return reflect.DeepEqual(a.Attachments(), b.Attachments())
}

func (s *Server) getThread(c *call) (reply, *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.live(c.path("id"))
	if r == nil {
		return fail(errPostMissing())
	}
	if !s.reads(c.user, r.now().ChannelID) {
		return fail(errPermission())
	}
	root := cmp.Or(r.now().RootID, r.now().ID)
	no := false
	asked := r.now().ID // comes first; clients sort by time
	list := PostList{Order: []string{asked}, Posts: map[string]Post{asked: s.view(r.now())}, HasNext: &no}
	for _, r := range s.channels[r.now().ChannelID].posts {
		if p := r.now(); p.DeleteAt == 0 && (p.ID == root || p.RootID == root) && p.ID != asked {
			list.Order = append(list.Order, p.ID)
			list.Posts[p.ID] = s.view(p)
		}
	}
	return ok(list)
}

func (s *Server) getChannelPosts(c *call) (reply, *APIError) {
	q := c.r.URL.Query()
	since, err := strconv.ParseInt(cmp.Or(q.Get("since"), "0"), 10, 64)
	if err != nil {
		return fail(errBody("since"))
	}
	perPage, err := strconv.Atoi(cmp.Or(q.Get("per_page"), "60"))
	if err != nil || perPage <= 0 {
		perPage = 60
	}
	page, _ := strconv.Atoi(q.Get("page"))
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[c.path("id")]
	if ch == nil {
		return fail(errChannelMissing(c.path("id")))
	}
	if !s.reads(c.user, ch.id) {
		return fail(errPermission())
	}
	if since > 0 {
		return ok(s.since(ch, since))
	}
	list := PostList{Order: []string{}, Posts: map[string]Post{}}
	skip := page * perPage
	for _, r := range slices.Backward(ch.posts) {
		p := r.now()
		if p.DeleteAt != 0 {
			continue
		}
		if skip--; skip >= 0 {
			continue
		}
		if len(list.Order) == perPage {
			list.PrevPostID = p.ID
			break
		}
		s.list(&list, p)
	}
	return ok(list)
}

// since lists what was written, edited or deleted after an instant. Each
// earlier version of an edited post is a deleted post of its own, named after
// the edit that replaced it.
func (s *Server) since(ch *channel, since int64) PostList {
	list := PostList{Order: []string{}, Posts: map[string]Post{}}
	for _, r := range slices.Backward(ch.posts) {
		if p := r.now(); p.UpdateAt > since {
			s.list(&list, p)
		}
		for i, old := range r.versions[:len(r.versions)-1] {
			next := r.versions[i+1]
			if next.DeleteAt == 0 && next.UpdateAt > since {
				old.OriginalID, old.ID = old.ID, r.oldIDs[i]
				old.UpdateAt, old.DeleteAt = next.UpdateAt, next.UpdateAt
				s.list(&list, &old)
			}
		}
	}
	return list
}

// list adds a post, and the root of its thread without naming it in Order.
func (s *Server) list(l *PostList, p *Post) {
	l.Order = append(l.Order, p.ID)
	l.Posts[p.ID] = s.view(p)
	if root := s.find(p.RootID); root != nil {
		l.Posts[p.RootID] = s.view(root.now())
	}
}

// createEphemeral is for roles with create_post_ephemeral, which of the
// default roles only the system admin has.
func (s *Server) createEphemeral(c *call) (reply, *APIError) {
	var in struct {
		UserID string   `json:"user_id"`
		Post   *newPost `json:"post"`
	}
	if err := c.decode("body", &in); err != nil {
		return fail(err)
	}
	if in.UserID == "" {
		return fail(errBody("user_id"))
	}
	if in.Post == nil {
		return fail(errBody("post"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.user.sysAdmin {
		return fail(errPermission())
	}
	p := s.sendEphemeral(in.UserID, Post{
		UserID: c.user.id, ChannelID: in.Post.ChannelID, RootID: in.Post.RootID, Message: in.Post.Message,
		Props: in.Post.Props,
	})
	return created(p)
}

// sendEphemeral shows a post to one user. It is stored nowhere: its actions
// live in cookies that the client sends back.
func (s *Server) sendEphemeral(userID string, p Post) Post {
	p.ID, p.CreateAt, p.Type = newID(), s.stamp(), "system_ephemeral"
	p.Props = props(p.Props)
	p.Metadata = s.metadata(&p)
	for _, a := range p.Attachments() {
		for i := range a.Actions {
			a.Actions[i].Cookie = s.addCookie(&p, a.Actions[i])
			a.Actions[i].Integration = nil
		}
	}
	s.publish(event{
		name: "ephemeral_message", data: map[string]any{"post": mustJSON(p)}, userID: userID, channelID: p.ChannelID,
	})
	return p
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "null" // only a channel or a function in it could do this
	}
	return string(b)
}
