package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ocim/adapters/chat"
	"ocim/internal/crash"
	"ocim/ops"
)

const (
	// metadataType marks our messages. Any app of the workspace can read metadata, so it carries
	// the message's key and nothing else.
	metadataType = "ocim_message"
	pageSize     = 200
	maxPages     = 10
	maxMembers   = 1000 // of one page
)

// Post implements [chat.Platform] with chat.postMessage.
func (a *Adapter) Post(ctx context.Context, to ops.Conversation, m chat.Message) (string, error) {
	const method = "chat.postMessage"
	ws, err := a.workspace(to.Platform, to.Workspace)
	if err != nil {
		return "", err
	}
	form, err := a.content(m)
	if err != nil {
		return "", invalidContent(method, err)
	}
	form.Set("channel", to.Channel)
	form.Set("unfurl_links", "false")
	form.Set("unfurl_media", "false")
	if to.Thread != "" {
		form.Set("thread_ts", to.Thread)
		if m.Broadcast {
			form.Set("reply_broadcast", "true")
		}
	}
	if m.Key != "" {
		meta, err := json.Marshal(metadata{EventType: metadataType, Payload: metadataPayload{Key: m.Key}})
		if err != nil {
			return "", invalidContent(method, err)
		}
		form.Set("metadata", string(meta))
	}
	var out struct {
		TS string `json:"ts"`
	}
	crash.Point("chat.post.before")
	err = a.call(ctx, ws, method, form, &out)
	crash.Point("chat.post.after")
	if err != nil {
		return "", err
	}
	if !validTS(out.TS) {
		return "", unavailable(method, errors.New("the answer names no message"), false)
	}
	return out.TS, nil
}

// Update implements [chat.Platform] with chat.update. Text and blocks are always sent together:
// text alone would remove the blocks.
func (a *Adapter) Update(ctx context.Context, to ops.Conversation, ref string, m chat.Message) error {
	const method = "chat.update"
	ws, err := a.workspace(to.Platform, to.Workspace)
	if err != nil {
		return err
	}
	form, err := a.content(m)
	if err != nil {
		return invalidContent(method, err)
	}
	form.Set("channel", to.Channel)
	form.Set("ts", ref)
	crash.Point("chat.update.before")
	err = a.call(ctx, ws, method, form, nil)
	crash.Point("chat.update.after")
	return err
}

// content is what a post and an update have in common. parse is named because chat.update, unlike
// chat.postMessage, would look for names and channels in the text.
func (a *Adapter) content(m chat.Message) (url.Values, error) {
	text, blocks, err := a.render(m).form()
	if err != nil {
		return nil, err
	}
	return url.Values{"text": {text}, "blocks": {blocks}, "parse": {"none"}}, nil
}

type metadata struct {
	EventType string          `json:"event_type"`
	Payload   metadataPayload `json:"event_payload"`
}

type metadataPayload struct {
	Key string `json:"key"`
}

// historyPage is what Find reads of conversations.history and conversations.replies.
type historyPage struct {
	Messages []struct {
		TS       string          `json:"ts"`
		User     string          `json:"user"`
		BotID    string          `json:"bot_id"`
		Metadata json.RawMessage `json:"metadata"`
	} `json:"messages"`
	More bool `json:"has_more"`
	Next struct {
		Cursor string `json:"next_cursor"`
	} `json:"response_metadata"`
}

// Find implements [chat.Platform]. It needs Workspace.History and the history scopes. The newest
// 2,000 messages of a channel are searched; a thread is searched as far.
func (a *Adapter) Find(ctx context.Context, to ops.Conversation, key string) (string, bool, error) {
	ws, err := a.workspace(to.Platform, to.Workspace)
	if err != nil {
		return "", false, err
	}
	if !ws.History || key == "" {
		return "", false, chat.ErrCannotFind
	}
	id, err := a.identity(ctx, ws)
	if err != nil {
		return "", false, err
	}
	method := "conversations.history"
	form := url.Values{
		"channel": {to.Channel}, "include_all_metadata": {"true"}, "limit": {strconv.Itoa(pageSize)},
	}
	if to.Thread != "" {
		method = "conversations.replies"
		form.Set("ts", to.Thread)
	}
	for range maxPages {
		var page historyPage
		err := a.call(ctx, ws, method, form, &page)
		if err != nil {
			return "", false, cannotFind(err)
		}
		for _, m := range page.Messages {
			var meta metadata
			if m.User != id.userID && (m.BotID == "" || m.BotID != id.botID) || json.Unmarshal(m.Metadata, &meta) != nil {
				continue // another app may have copied our metadata
			}
			if meta.EventType == metadataType && meta.Payload.Key == key && validTS(m.TS) {
				return m.TS, true, nil
			}
		}
		if page.Next.Cursor == "" {
			return "", false, nil
		}
		form.Set("cursor", page.Next.Cursor)
	}
	return "", false, chat.ErrCannotFind // there is more than we look through: nothing is proven
}

// cannotFind turns a missing scope into the statement that there is no way to look.
func cannotFind(err error) error {
	var e *ops.Error
	if errors.As(err, &e) && e.Err != nil && strings.Contains(e.Err.Error(), "missing_scope") {
		return fmt.Errorf("%w: %w", chat.ErrCannotFind, err)
	}
	return err
}

// Direct implements [chat.Platform] with conversations.open.
func (a *Adapter) Direct(ctx context.Context, p ops.Actor) (ops.Conversation, error) {
	const method = "conversations.open"
	ws, err := a.workspace(p.Platform, p.Workspace)
	if err != nil {
		return ops.Conversation{}, err
	}
	var out struct {
		Channel entity `json:"channel"`
	}
	if err := a.call(ctx, ws, method, url.Values{"users": {p.UserID}}, &out); err != nil {
		return ops.Conversation{}, err
	}
	if !validID(out.Channel.ID, "DGC") {
		return ops.Conversation{}, unavailable(method, errors.New("the answer names no conversation"), false)
	}
	return ops.Conversation{Platform: Platform, Workspace: ws.TeamID, Channel: out.Channel.ID}, nil
}

// Member implements [chat.Platform] with users.info. Bots and deactivated accounts are not Active.
// Restricted accounts, and people whose home is another workspace (Slack Connect), are Guests.
//
// Whether a person is in a channel can only be asked with channels:read or groups:read. Without
// them Member is true: who types or clicks in a channel is in it, and the bot asks for no more
// scopes than it needs. The policy decides on the person's id either way.
func (a *Adapter) Member(ctx context.Context, p ops.Actor, c ops.Conversation) (chat.Membership, error) {
	ws, err := a.workspace(p.Platform, p.Workspace)
	if err != nil {
		return chat.Membership{}, err
	}
	var out struct {
		User struct {
			TeamID          string `json:"team_id"`
			Deleted         bool   `json:"deleted"`
			Bot             bool   `json:"is_bot"`
			Restricted      bool   `json:"is_restricted"`
			UltraRestricted bool   `json:"is_ultra_restricted"`
			Stranger        bool   `json:"is_stranger"`
			Enterprise      struct {
				Teams []string `json:"teams"`
			} `json:"enterprise_user"`
		} `json:"user"`
	}
	err = a.call(ctx, ws, "users.info", url.Values{"user": {p.UserID}}, &out)
	if ops.CodeOf(err) == ops.CodeNotFound {
		return chat.Membership{}, nil
	}
	if err != nil {
		return chat.Membership{}, err
	}
	u := out.User
	home := u.TeamID == ws.TeamID || strings.HasPrefix(ws.TeamID, "E") || slices.Contains(u.Enterprise.Teams, ws.TeamID)
	m := chat.Membership{
		Active: !u.Deleted && !u.Bot,
		Guest:  u.Restricted || u.UltraRestricted || u.Stranger || !home,
		Member: true,
	}
	if !m.Active {
		m.Member = false
		return m, nil
	}
	m.Member, err = a.inChannel(ctx, ws, p.UserID, c.Channel)
	return m, err
}

// inChannel looks for a person among the members of a channel where the bot may ask.
func (a *Adapter) inChannel(ctx context.Context, ws *workspace, user, channel string) (bool, error) {
	id := ws.known.Load()
	if channel == "" || strings.HasPrefix(channel, "D") || id == nil || !id.scopes["channels:read"] && !id.scopes["groups:read"] {
		return true, nil
	}
	form := url.Values{"channel": {channel}, "limit": {strconv.Itoa(maxMembers)}}
	for range maxPages {
		var page struct {
			Members []string `json:"members"`
			Next    struct {
				Cursor string `json:"next_cursor"`
			} `json:"response_metadata"`
		}
		if err := a.call(ctx, ws, "conversations.members", form, &page); err != nil {
			if errors.Is(cannotFind(err), chat.ErrCannotFind) {
				return true, nil
			}
			return false, err
		}
		if slices.Contains(page.Members, user) {
			return true, nil
		}
		if page.Next.Cursor == "" {
			return false, nil
		}
		form.Set("cursor", page.Next.Cursor)
	}
	return true, nil // more members than we look through
}

// Permalink implements [chat.Platform]. It is empty until the workspace's address is known.
func (a *Adapter) Permalink(to ops.Conversation, ref string) string {
	ws, err := a.workspace(to.Platform, to.Workspace)
	if err != nil {
		return ""
	}
	id := ws.known.Load()
	if id == nil || id.url == "" || !validID(to.Channel, "CDG") || !validTS(ref) {
		return ""
	}
	link := id.url + "archives/" + to.Channel + "/p" + strings.Replace(ref, ".", "", 1)
	if validTS(to.Thread) {
		link += "?thread_ts=" + to.Thread + "&cid=" + to.Channel
	}
	return link
}

// identity is who the bot is in ws; auth.test is asked once.
func (a *Adapter) identity(ctx context.Context, ws *workspace) (*identity, error) {
	if id := ws.known.Load(); id != nil {
		return id, nil
	}
	const method = "auth.test"
	var out struct {
		URL          string `json:"url"`
		TeamID       string `json:"team_id"`
		EnterpriseID string `json:"enterprise_id"`
		UserID       string `json:"user_id"`
		BotID        string `json:"bot_id"`
	}
	h, err := a.callHeader(ctx, ws, method, url.Values{}, &out)
	if err != nil {
		if ops.CodeOf(err) != ops.CodeUnavailable {
			ws.trouble.Store(&err)
		}
		return nil, err
	}
	if out.TeamID != ws.TeamID && out.EnterpriseID != ws.TeamID {
		var err error = &ops.Error{
			Code: ops.CodeDenied, Reason: ops.ReasonChatUnavailable,
			Msg:  "The bot token belongs to another Slack workspace than " + ws.TeamID + ".",
			Next: "Put the token of this workspace into the configuration, or correct the team id.",
		}
		ws.trouble.Store(&err)
		return nil, err
	}
	ws.trouble.Store(nil)
	id := &identity{userID: out.UserID, botID: out.BotID, scopes: scopes(h)}
	if u, err := url.Parse(out.URL); err == nil && u.Scheme == "https" && u.Host != "" {
		id.url = "https://" + u.Host + "/"
	}
	ws.known.Store(id)
	return id, nil
}

// scopes reads what the token may do from the header of any answer.
func scopes(h http.Header) map[string]bool {
	out := map[string]bool{}
	for s := range strings.SplitSeq(h.Get("X-Oauth-Scopes"), ",") {
		if s = strings.TrimSpace(s); s != "" {
			out[s] = true
		}
	}
	return out
}

// Check asks every workspace who the bot is there, once, and returns all that is wrong.
func (a *Adapter) Check(ctx context.Context) error {
	var errs []error
	for _, ws := range a.order {
		if _, err := a.identity(ctx, ws); err != nil {
			errs = append(errs, fmt.Errorf("slack workspace %s: %w", ws.TeamID, err))
		}
	}
	return errors.Join(errs...)
}
