package mattermosttest

import (
	"net/http"
	"slices"
	"strings"
)

func postCases() []contractCase {
	return []contractCase{
		{"a post has the shape that clients expect", postShape},
		{"pending_post_id makes a create idempotent", postPending},
		{"a message has at most 16383 characters", postLength},
		{"a long attachment is fine, a long request is not", postBodySize},
		{"a patch without props keeps them, one with props replaces all", postPatch},
		{"a put replaces the whole post", postPut},
		{"a reply needs a root", postThread},
		{"posts since an instant", postSince},
		{"a deleted post", postDeleted},
		{"an attachment that does not decode is dropped", postBadAttachment},
		{"whom a post notifies", postMentions},
		{"a file for a post", postFile},
		{"the bot hears its channels", postEvents},
	}
}

func (b *bench) patch(id string, body map[string]any) Post {
	b.Helper()
	p, err := do[Post](b.ctx, b.Peer, Bot, http.MethodPut, "/posts/"+id+"/patch", body)
	b.ok(err)
	return p
}

func postShape(b *bench) {
	a := b.call(Bot, http.MethodPost, "/posts", map[string]any{
		"channel_id": b.channel, "message": "hello **you** #tag", "props": map[string]any{"ocim": map[string]any{"k": "v"}},
	})
	if a.Status != http.StatusCreated || a.Header.Get("Content-Type") != "application/json" {
		b.Fatalf("got %d %s, want 201 JSON", a.Status, a.Header.Get("Content-Type"))
	}
	for _, want := range []string{
		`"edit_at":0`, `"delete_at":0`, `"is_pinned":false`, `"root_id":""`, `"original_id":""`, `"type":""`,
		`"message":"hello **you** #tag"`, `"hashtags":"#tag"`, `"file_ids":[]`, `"pending_post_id":""`,
		`"reply_count":0`, `"last_reply_at":0`, `"participants":null`, `"metadata":{}`, `"remote_id":""`,
		`"props":{"from_bot":"true","ocim":{"k":"v"}}`, `"user_id":"` + b.Accounts[Bot].ID + `"`,
	} {
		if !strings.Contains(string(a.Body), want) {
			b.Errorf("got %s, want %s in it", a.Body, want)
		}
	}
	p := b.card(button("go"))
	got := b.call("alice", http.MethodGet, "/posts/"+p.ID, nil)
	const attachment = `"attachments":[{"id":0,"fallback":"","color":"","pretext":"","author_name":"","author_link":"",` +
		`"author_icon":"","title":"","title_link":"","text":"text","fields":null,"image_url":"","thumb_url":"",` +
		`"footer":"","footer_icon":"","ts":null,"actions":[{"id":"go","type":"button","name":"Press go"}]}]`
	if !strings.Contains(string(got.Body), attachment) {
		b.Errorf("got %s, want %s in it", got.Body, attachment)
	}
	if want := `"metadata":{"embeds":[{"type":"message_attachment"}]}`; !strings.Contains(string(got.Body), want) {
		b.Errorf("got %s, want %s in it", got.Body, want)
	}
}

func postPending(b *bench) {
	in := Post{Message: "once", PendingPostID: newID()}
	first := b.post(in)
	in.Message = "twice"
	if second := b.post(in); second.ID != first.ID || second.Message != "once" {
		b.Errorf("again: got %q (%s), want the first post %s", second.Message, second.ID, first.ID)
	}
	in.ChannelID = b.channel
	if others, err := b.CreatePost(b.ctx, "bob", in); err != nil || others.ID != first.ID {
		b.Errorf("another user: got %s %v, want the bot's post", others.ID, err)
	}
	if p := b.post(Post{Message: "once", PendingPostID: newID()}); p.ID == first.ID {
		b.Error("another pending_post_id: got the same post, want a new one")
	}
	// A create that failed may be tried again.
	bad := Post{ChannelID: b.channel, PendingPostID: newID(), Message: strings.Repeat("x", maxMessageRunes+1)}
	if _, err := b.CreatePost(b.ctx, Bot, bad); err == nil {
		b.Fatal("too long: got success, want an error")
	}
	bad.Message = "short"
	if p := b.post(bad); p.Message != "short" {
		b.Errorf("second try: got %q, want %q", p.Message, "short")
	}
}

func postLength(b *bench) {
	b.post(Post{Message: strings.Repeat("é", maxMessageRunes)})
	a := b.call(Bot, http.MethodPost, "/posts", map[string]string{
		"channel_id": b.channel, "message": strings.Repeat("é", maxMessageRunes+1),
	})
	const tooLong = "model.post.is_valid.message_length.app_error"
	b.refused("create", a.Err(), http.StatusBadRequest, tooLong)
	p := b.post(Post{Message: "short"})
	a = b.call(Bot, http.MethodPut, "/posts/"+p.ID+"/patch",
		map[string]string{"message": strings.Repeat("x", maxMessageRunes+1)})
	b.refused("patch", a.Err(), http.StatusBadRequest, tooLong)
}

func postBodySize(b *bench) {
	long := func(n int) map[string]any {
		return map[string]any{"channel_id": b.channel, "message": "x", "props": map[string]any{
			"attachments": []*Attachment{{Text: strings.Repeat("a", n)}},
		}}
	}
	if a := b.call(Bot, http.MethodPost, "/posts", long(100_000)); a.Status != http.StatusCreated {
		b.Errorf("100,000 characters: got %d, want 201", a.Status)
	}
	a := b.call(Bot, http.MethodPost, "/posts", long(301_000))
	b.refused("over 300,000 bytes", a.Err(), http.StatusRequestEntityTooLarge, "api.context.request_body_too_large.app_error")
	a = b.call(Bot, http.MethodPost, "/posts", []byte(`{"channel_id":`))
	b.refused("broken", a.Err(), http.StatusBadRequest, "api.context.invalid_body_param.app_error")
}

func postPatch(b *bench) {
	p := b.card(button("go"))
	got := b.patch(p.ID, map[string]any{"message": "two"})
	if got.Message != "two" || len(got.Actions()) != 1 || got.EditAt == 0 {
		b.Errorf("message only: got %q, %d buttons, edited %d", got.Message, len(got.Actions()), got.EditAt)
	}
	b.fine("click after it", b.clicks("alice", p, "go", ""))

	got = b.patch(p.ID, map[string]any{"props": map[string]any{"attachments": []*Attachment{{Text: "new"}}}})
	if got.Message != "two" || len(got.Actions()) != 0 || got.Props["from_bot"] != nil {
		b.Errorf("props only: got %q with props %v, want all replaced, from_bot too", got.Message, got.Props)
	}
	edited := got.EditAt
	got = b.patch(p.ID, map[string]any{"message": "two", "props": map[string]any{"attachments": []*Attachment{{Text: "new"}}}})
	if got.EditAt != edited {
		b.Errorf("same content: got edited %d, want %d as before", got.EditAt, edited)
	}
	for name, c := range map[string]struct{ user, id string }{
		"another's post": {"bob", p.ID}, "unknown post": {Bot, newID()},
	} {
		a := b.call(c.user, http.MethodPut, "/posts/"+c.id+"/patch", map[string]string{"message": "x"})
		b.refused(name, a.Err(), http.StatusForbidden, errIDPermission)
	}
}

func postPut(b *bench) {
	p := b.card(button("go"))
	got, err := do[Post](b.ctx, b.Peer, Bot, http.MethodPut, "/posts/"+p.ID, map[string]any{"id": p.ID, "message": "new"})
	b.ok(err)
	if got.Message != "new" || len(got.Props) != 0 {
		b.Errorf("got %q with props %v, want the new text and no props", got.Message, got.Props)
	}
	a := b.call(Bot, http.MethodPut, "/posts/"+p.ID, map[string]any{"id": newID(), "message": "new"})
	b.refused("another id", a.Err(), http.StatusBadRequest, "api.context.invalid_body_param.app_error")
	a = b.call("bob", http.MethodPut, "/posts/"+p.ID, map[string]any{"id": p.ID, "message": "new"})
	b.refused("another's post", a.Err(), http.StatusForbidden, errIDPermission)
}

func postThread(b *bench) {
	root := b.post(Post{Message: "root"})
	reply := b.post(Post{Message: "reply", RootID: root.ID})
	if reply.RootID != root.ID || reply.ReplyCount != 1 {
		b.Errorf("got root %q, %d replies, want %q, 1", reply.RootID, reply.ReplyCount, root.ID)
	}
	thread, err := b.Thread(b.ctx, reply.ID)
	b.ok(err)
	if len(thread) != 2 || thread[0].ID != root.ID || thread[1].ID != reply.ID {
		b.Errorf("thread: got %d posts, want root and reply", len(thread))
	}
	other := b.must(b.NewChannel(b.ctx, "O", "other", Bot))
	const noRoot = "api.post.create_post.root_id.app_error"
	for name, c := range map[string]struct{ channel, root, id string }{
		"a reply": {b.channel, reply.ID, noRoot}, "unknown": {b.channel, newID(), noRoot},
		"another channel's": {other, root.ID, "api.post.create_post.channel_root_id.app_error"},
	} {
		a := b.call(Bot, http.MethodPost, "/posts", map[string]string{
			"channel_id": c.channel, "root_id": c.root, "message": "x",
		})
		b.refused(name, a.Err(), http.StatusBadRequest, c.id)
	}
	b.call(Bot, http.MethodDelete, "/posts/"+root.ID, nil)
	a := b.call(Bot, http.MethodPost, "/posts", map[string]string{
		"channel_id": b.channel, "root_id": root.ID, "message": "x",
	})
	b.refused("deleted root", a.Err(), http.StatusBadRequest, noRoot)
}

func postSince(b *bench) {
	old, edited, deleted := b.post(Post{Message: "old"}), b.post(Post{Message: "a"}), b.post(Post{Message: "b"})
	mark := b.post(Post{Message: "mark"})
	fresh := b.post(Post{Message: "new"})
	b.patch(edited.ID, map[string]any{"message": "a2"})
	b.call(Bot, http.MethodDelete, "/posts/"+deleted.ID, nil)
	list, err := b.Since(b.ctx, Bot, b.channel, mark.UpdateAt)
	b.ok(err)
	for name, id := range map[string]string{"new": fresh.ID, "edited": edited.ID, "deleted": deleted.ID} {
		if !slices.Contains(list.Order, id) {
			b.Errorf("since: got %v, want the %s post %s", list.Order, name, id)
		}
	}
	if slices.Contains(list.Order, old.ID) || slices.Contains(list.Order, mark.ID) {
		b.Errorf("since: got an old post in %v", list.Order)
	}
	if list.Posts[deleted.ID].DeleteAt == 0 || list.Posts[edited.ID].Message != "a2" {
		b.Errorf("since: got deleted at %d and %q", list.Posts[deleted.ID].DeleteAt, list.Posts[edited.ID].Message)
	}
	// Earlier versions of edited posts come too, as deleted posts of their own
	// without their text.
	versions := 0
	for _, id := range list.Order {
		p := list.Posts[id]
		if p.OriginalID == edited.ID && p.Message == "" && p.DeleteAt != 0 {
			versions++
		}
	}
	if versions != 1 || len(list.Order) != 4 {
		b.Errorf("since: got %d posts with %d old versions, want 4 with 1", len(list.Order), versions)
	}
	// A reply touches its root, which comes again.
	mark = b.post(Post{Message: "mark"})
	b.post(Post{Message: "reply", RootID: old.ID})
	list, err = b.Since(b.ctx, Bot, b.channel, mark.UpdateAt)
	b.ok(err)
	if len(list.Order) != 2 || !slices.Contains(list.Order, old.ID) {
		b.Errorf("since a reply: got %v, want the reply and its root", list.Order)
	}
}

func postDeleted(b *bench) {
	p := b.post(Post{Message: "x"})
	if a := b.call("bob", http.MethodDelete, "/posts/"+p.ID, nil); a.Status != http.StatusForbidden {
		b.Errorf("another's: got %d, want 403", a.Status)
	}
	if a := b.call(Bot, http.MethodDelete, "/posts/"+p.ID, nil); a.Status != http.StatusOK {
		b.Fatalf("delete: got %d, want 200", a.Status)
	}
	b.refused("read", b.call(Bot, http.MethodGet, "/posts/"+p.ID, nil).Err(), 404, "app.post.get.app_error")
	a := b.call(Bot, http.MethodPut, "/posts/"+p.ID+"/patch", map[string]string{"message": "y"})
	b.refused("patch", a.Err(), http.StatusForbidden, errIDPermission)
	b.refused("unknown", b.call(Bot, http.MethodGet, "/posts/"+newID(), nil).Err(), 404, "app.post.get.app_error")
}

func postBadAttachment(b *bench) {
	p := b.post(Post{Message: "x", Props: map[string]any{"attachments": []any{
		map[string]any{"text": 5}, map[string]any{"text": "good"},
	}}})
	if got := Read(p); got != "x\ngood" {
		b.Errorf("got %q, want the good attachment alone", got)
	}
}

// postMentions holds LiveMentions against the server's own opinion. It leaves
// out @here, which reaches those who happen to be online.
func postMentions(b *bench) {
	b.ok(b.Watch(b.ctx, "bob"))
	attach := func(a Attachment) map[string]any { return map[string]any{"attachments": []*Attachment{&a}} }
	for name, p := range map[string]Post{
		"message":            {Message: "hey @bob"},
		"at the end":         {Message: "ask @bob."},
		"upper case":         {Message: "@BOB"},
		"in brackets":        {Message: "(@bob)"},
		"after a dot":        {Message: "x.@bob"},
		"in an address":      {Message: "me@bob.com"},
		"channel":            {Message: "@channel"},
		"all":                {Message: "@all"},
		"nobody":             {Message: "@bobby"},
		"escaped":            {Message: `\@bob`},
		"zero width space":   {Message: "@\u200bbob"},
		"code span":          {Message: "`@bob`"},
		"two backticks":      {Message: "``@bob ` @here``"},
		"open code span":     {Message: "`@bob"},
		"fence":              {Message: "```\n@bob\n```"},
		"open fence":         {Message: "```\n@bob"},
		"tilde fence":        {Message: "~~~\n@bob\n~~~"},
		"short end of fence": {Message: "````\n```\n@bob\n````"},
		"after a fence":      {Message: "```\nx\n```\n@bob"},
		"indented":           {Message: "x\n\n    @bob"},
		"quoted":             {Message: "> @bob"},
		"link text":          {Message: "[@bob](http://example.com)"},
		"link target":        {Message: "[x](http://example.com/@bob)"},
		"bold":               {Message: "**@bob**"},
		"entity":             {Message: "&#64;bob"},
		"html":               {Message: "<b>@bob</b>"},
		"attachment text":    {Message: "x", Props: attach(Attachment{Text: "@bob"})},
		"pretext":            {Message: "x", Props: attach(Attachment{Pretext: "@bob"})},
		"title":              {Message: "x", Props: attach(Attachment{Title: "@bob"})},
		"fallback":           {Message: "x", Props: attach(Attachment{Fallback: "@bob", Text: "y"})},
		"author":             {Message: "x", Props: attach(Attachment{AuthorName: "@bob"})},
		"footer":             {Message: "x", Props: attach(Attachment{Footer: "@bob"})},
		"field value":        {Message: "x", Props: attach(Attachment{Fields: []*Field{{Title: "t", Value: "@bob"}}})},
		"field title":        {Message: "x", Props: attach(Attachment{Fields: []*Field{{Title: "@bob", Value: "v"}}})},
		"code in field":      {Message: "x", Props: attach(Attachment{Fields: []*Field{{Title: "t", Value: "`@bob`"}}})},
	} {
		p.ChannelID = b.channel
		made, err := b.CreatePost(b.ctx, Bot, p)
		b.ok(err)
		got := slices.ContainsFunc(LiveMentions(p), func(n string) bool {
			return slices.Contains([]string{"bob", "channel", "here", "all"}, n)
		})
		if want := b.notified(made.ID); got != want {
			b.Errorf("%s: LiveMentions %v, so bob is notified %v; the server says %v", name, LiveMentions(p), got, want)
		}
	}
}

// notified reports whether the server tells bob that the post mentions him.
func (b *bench) notified(postID string) bool {
	b.Helper()
	events, err := b.Events(b.ctx, "bob")
	b.ok(err)
	for _, e := range events {
		if p, isPost := e.post(); isPost && e.Event == "posted" && p.ID == postID {
			ids, _ := e.Data["mentions"].(string)
			return strings.Contains(ids, b.Accounts["bob"].ID)
		}
	}
	b.Fatalf("bob did not hear of post %s", postID)
	return false
}

func postFile(b *bench) {
	a := b.call(Bot, http.MethodPost, "/files?channel_id="+b.channel+"&filename=job.log", []byte("line\n"))
	if a.Status != http.StatusCreated {
		b.Fatalf("upload: got %d %s, want 201", a.Status, a.Body)
	}
	id := fileID(a.Body)
	p := b.post(Post{Message: "log", FileIDs: []string{id}})
	if len(p.FileIDs) != 1 || p.FileIDs[0] != id {
		b.Errorf("post: got files %v, want %s", p.FileIDs, id)
	}
	if got := b.read(p.ID); got.Metadata == nil || len(got.Metadata.Files) != 1 || got.Metadata.Files[0].Name != "job.log" {
		b.Errorf("read: got %+v, want job.log", got.Metadata)
	}
	if got := b.call("alice", http.MethodGet, "/files/"+id, nil); string(got.Body) != "line\n" {
		b.Errorf("content: got %q, want %q", got.Body, "line\n")
	}
	a = b.call("carol", http.MethodPost, "/files?channel_id="+b.channel+"&filename=x", []byte("x"))
	b.refused("a stranger", a.Err(), http.StatusForbidden, errIDPermission)
}

func postEvents(b *bench) {
	b.ok(b.Watch(b.ctx, "bob"))
	p := b.post(Post{Message: "one"})
	b.patch(p.ID, map[string]any{"message": "two"})
	got, err := b.AwaitPost(b.ctx, "bob", func(q Post) bool { return q.ID == p.ID && q.Message == "two" })
	b.ok(err)
	if got.EditAt == 0 {
		b.Error("got an edit without its time")
	}
	b.call(Bot, http.MethodDelete, "/posts/"+p.ID, nil)
	events, err := b.Events(b.ctx, "bob")
	b.ok(err)
	var kinds []string
	for _, e := range events {
		if q, isPost := e.post(); isPost && q.ID == p.ID {
			kinds = append(kinds, e.Event)
		}
	}
	if want := []string{"posted", "post_edited", "post_deleted"}; !slices.Equal(kinds, want) {
		b.Errorf("events: got %v, want %v", kinds, want)
	}
}
