package mattermost

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/internal/crash"
	"ocim/ops"
)

const (
	findPage = 60 // posts in one look; Mattermost allows 200
	// findPages bounds how far back Find looks: ten pages are 600 posts of one channel.
	findPages = 10
	rootGone  = "api.post.create_post.root_id.app_error"
	// editTooLate: the server's PostEditTimeLimit is over.
	editTooLate = "api.post.update_post.permissions_time_limit.app_error"
	// triggerTooLate: a dialog was opened later than its trigger allows (model/integration_action.go).
	triggerTooLate = "interactive_message.decode_trigger_id.expired"
)

// Post implements [chat.Platform]. A broadcast reply stands in the channel itself with a link to
// its thread, because Mattermost cannot show one post in both. A thread whose first post is gone
// is left for the channel. If the bot is not in the channel it joins, which a public one allows.
func (a *Adapter) Post(ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
	s, err := a.place(to)
	if err != nil {
		return "", err
	}
	thread := to.Thread
	if m.Broadcast && thread != "" {
		m.Blocks = append(slices.Clone(m.Blocks), chat.Block{Kind: chat.Paragraph, Text: chat.Text{
			{Style: chat.Link, Text: "More in the thread", URL: a.Permalink(to, thread)},
		}})
		thread = ""
	}
	p := s.render(ctx, a.signer, m, binding{channel: to.Channel}).editable()
	crash.Point("chat.post.before")
	ref, err := s.post(ctx, to.Channel, thread, m.Key, p)
	if thread != "" && strings.HasSuffix(apiErrorID(err), "root_id.app_error") {
		ref, err = s.post(ctx, to.Channel, "", m.Key, p)
	}
	if ops.CodeOf(err) == ops.CodeDenied && s.join(ctx, to.Channel) {
		ref, err = s.post(ctx, to.Channel, thread, m.Key, p)
	}
	crash.Point("chat.post.after")
	if err != nil {
		return "", err
	}
	s.remember(ref, to.Channel)
	return ref, nil
}

// place returns the server of a conversation whose ids are well-formed.
func (a *Adapter) place(to ops.Conversation) (*server, error) {
	s, err := a.server(to.Workspace)
	if err != nil {
		return nil, err
	}
	if to.Platform != Platform || !validID(to.Channel) || to.Thread != "" && !validID(to.Thread) {
		return nil, &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "This is no conversation of Mattermost."}
	}
	return s, nil
}

func (s *server) post(ctx context.Context, channel, thread, key string, p rendered) (ref string, err error) {
	post := &model.Post{
		ChannelId: channel, RootId: thread, Message: p.message, Props: p.props(key),
		PendingPostId: s.pendingID(channel, thread, key),
	}
	err = s.call(ctx, "create a post", func(ctx context.Context) (*model.Response, error) {
		made, resp, err := s.client.CreatePost(ctx, post)
		if err != nil {
			return resp, err
		}
		if ref = made.Id; !validID(ref) || made.ChannelId != channel {
			return resp, errGarbage
		}
		return resp, nil
	})
	return ref, err
}

// pendingID makes a repeated post within 30 s return the first one instead of a second (Mattermost:
// app.deduplicateCreatePost). It must be hard to guess: whoever repeats it gets the post.
func (s *server) pendingID(channel, thread, key string) string {
	if key == "" {
		return ""
	}
	h := hmac.New(sha256.New, []byte(s.BotToken.Reveal()))
	h.Write([]byte("pending\x00" + channel + "\x00" + thread + "\x00" + key))
	return hex.EncodeToString(h.Sum(nil)[:20])
}

// join tries to enter a channel.
func (s *server) join(ctx context.Context, channel string) bool {
	bot, err := s.me(ctx)
	if err != nil {
		return false
	}
	err = s.call(ctx, "join the channel", func(ctx context.Context) (*model.Response, error) {
		_, resp, err := s.client.AddChannelMember(ctx, channel, bot)
		return resp, err
	})
	if err != nil {
		s.log.Info("bot could not join a channel", "channel", channel, "err", err)
	}
	return err == nil
}

// Update implements [chat.Platform]. Mattermost answers 403 for a post that is gone, so a refusal
// is looked into.
func (a *Adapter) Update(ctx context.Context, to ops.Conversation, ref string, m chat.Message) error {
	s, err := a.place(to)
	if err != nil {
		return err
	}
	if !validID(ref) {
		return &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "This is no message of Mattermost."}
	}
	p := s.render(ctx, a.signer, m, binding{channel: to.Channel}).editable()
	props := p.props(m.Key)
	patch := func(message *string) error {
		return s.call(ctx, "edit a post", func(ctx context.Context) (*model.Response, error) {
			_, resp, err := s.client.PatchPost(ctx, ref, &model.PostPatch{Message: message, Props: &props})
			return resp, err
		})
	}
	crash.Point("chat.update.before")
	err = patch(&p.message)
	if p.message == "" && apiErrorID(err) == editTooLate { // the attachment may be changed at any time
		err = patch(nil)
	}
	crash.Point("chat.update.after")
	if ops.CodeOf(err) == ops.CodeDenied && ops.ReasonOf(err) != ops.ReasonChatUnauthorized {
		if _, gone := s.getPost(ctx, ref); gone != nil && ops.CodeOf(gone) == ops.CodeNotFound {
			return gone
		}
	}
	return err
}

func (s *server) getPost(ctx context.Context, ref string) (post *model.Post, err error) {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	err = s.call(ctx, "look up a post", func(ctx context.Context) (resp *model.Response, err error) {
		post, resp, err = s.client.GetPost(ctx, ref, "")
		if err == nil && post.Id != ref {
			err = errGarbage
		}
		return resp, err
	})
	return post, err
}

// Find implements [chat.Platform]. It looks through the last 600 posts of the channel, threads
// included, and trusts only posts of the bot's own account: anybody may set a post's properties.
func (a *Adapter) Find(ctx context.Context, to ops.Conversation, key string) (string, bool, error) {
	s, err := a.place(to)
	if err != nil {
		return "", false, err
	}
	if key == "" {
		return "", false, chat.ErrCannotFind
	}
	bot, err := s.me(ctx)
	if err != nil {
		return "", false, err
	}
	for page := range findPages {
		var list *model.PostList
		err := s.call(ctx, "look through a channel", func(ctx context.Context) (resp *model.Response, err error) {
			list, resp, err = s.client.GetPostsForChannel(ctx, to.Channel, page, findPage, "", false, false)
			return resp, err
		})
		if err != nil {
			return "", false, err
		}
		for _, id := range list.Order {
			post := list.Posts[id]
			if post == nil || post.UserId != bot || post.DeleteAt != 0 || !validID(post.Id) {
				continue
			}
			if got, ok := post.GetProp(keyProp).(string); ok && got == key {
				s.remember(post.Id, to.Channel)
				return post.Id, true, nil
			}
		}
		if len(list.Order) < findPage {
			break
		}
	}
	return "", false, nil
}

// Direct implements [chat.Platform].
func (a *Adapter) Direct(ctx context.Context, actor ops.Actor) (ops.Conversation, error) {
	s, err := a.person(actor)
	if err != nil {
		return ops.Conversation{}, err
	}
	bot, err := s.me(ctx)
	if err != nil {
		return ops.Conversation{}, err
	}
	to := ops.Conversation{Platform: Platform, Workspace: s.Name}
	err = s.call(ctx, "open a direct channel", func(ctx context.Context) (*model.Response, error) {
		channel, resp, err := s.client.CreateDirectChannel(ctx, bot, actor.UserID)
		if err != nil {
			return resp, err
		}
		if to.Channel = channel.Id; !validID(to.Channel) {
			return resp, errGarbage
		}
		return resp, nil
	})
	return to, err
}

// person returns the server of an actor whose id is well-formed.
func (a *Adapter) person(actor ops.Actor) (*server, error) {
	s, err := a.server(actor.Workspace)
	if err != nil {
		return nil, err
	}
	if actor.Platform != Platform || !validID(actor.UserID) {
		return nil, &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "This is no person of Mattermost."}
	}
	return s, nil
}

// Rate implements [chat.Platform]. Mattermost's own limit, where it is switched on, is ten requests
// a second with bursts of a hundred (RateLimitSettings); half of that is left for answers.
func (a *Adapter) Rate() chat.Rate {
	return chat.Rate{PostsPerChannel: 2, EditsPerMinute: 200, MinEditGapMillis: 1000}
}

// Member implements [chat.Platform]. Nothing is cached: who was removed a second ago is not a
// member. An error means that it is not known, and whoever asks must then refuse.
func (a *Adapter) Member(ctx context.Context, actor ops.Actor, c ops.Conversation) (chat.Membership, error) {
	s, err := a.person(actor)
	if err != nil {
		return chat.Membership{}, err
	}
	user, err := s.user(ctx, actor.UserID)
	if err != nil {
		if ops.CodeOf(err) == ops.CodeNotFound {
			return chat.Membership{}, nil
		}
		return chat.Membership{}, err
	}
	m := chat.Membership{Active: user.DeleteAt == 0, Guest: slices.Contains(strings.Fields(user.Roles), model.SystemGuestRoleId)}
	if c.Workspace != actor.Workspace || !validID(c.Channel) {
		return m, nil
	}
	err = s.call(ctx, "look up a membership", func(ctx context.Context) (*model.Response, error) {
		ctx, cancel := context.WithTimeout(ctx, quickTimeout)
		defer cancel()
		got, resp, err := s.client.GetChannelMember(ctx, c.Channel, actor.UserID, "")
		if err == nil {
			m.Member = got.UserId == actor.UserID && got.ChannelId == c.Channel
		}
		return resp, err
	})
	if err != nil && ops.CodeOf(err) != ops.CodeNotFound {
		return m, err
	}
	return m, nil
}

// Permalink implements [chat.Platform].
func (a *Adapter) Permalink(to ops.Conversation, ref string) string {
	s := a.servers[to.Workspace]
	if s == nil || !validID(ref) {
		return ""
	}
	return s.base.String() + "/_redirect/pl/" + ref
}
