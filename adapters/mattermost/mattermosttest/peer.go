package mattermosttest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Account is a user of the set-up, people and bots alike.
type Account struct {
	ID, Token string
}

// World is a set-up server: the names of the package's constants, and "alice",
// "bob", "carol" and "dave", with their ids.
type World struct {
	URL      string
	TeamID   string
	Accounts map[string]Account
	Channels map[string]string
	// Wait lets d pass on the server's clock, for things that expire.
	Wait func(ctx context.Context, d time.Duration) error
}

// Peer is a Mattermost server, fake or real, as its users see it. It uses
// nothing but the public API. It is safe for concurrent use; what one user is
// told in a channel while he acts twice there may be reported by both replies.
type Peer struct {
	World
	http *http.Client

	mu      sync.Mutex
	screens map[string]*screen
	closed  map[string]bool // dialogs submitted or cancelled, by trigger id
}

// Answer is an API answer as it came.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Err is the API error of the answer, nil below 400.
func (a Answer) Err() *APIError {
	if a.Status < 400 {
		return nil
	}
	var e APIError
	if json.Unmarshal(a.Body, &e) != nil || e.ID == "" {
		e = APIError{Message: string(a.Body)}
	}
	e.StatusCode = a.Status
	return &e
}

// Reply is what a user got for a command, a click or a dialog.
type Reply struct {
	Status int
	Err    *APIError // nil unless the server refused or the integration failed
	// Ephemeral are the posts that only this user was shown, in the channel
	// where he acted, in order.
	Ephemeral []Post
	// Dialogs are those that opened meanwhile.
	Dialogs []OpenDialog
	// FieldErrors, DialogError and Next are a dialog's answer: what is shown at
	// a field, what at the bottom, and the next form.
	FieldErrors map[string]string
	DialogError string
	Next        *Dialog
	// Body is the API's own answer to the user's client.
	Body []byte
}

// Text is what the user was told, all in one.
func (r Reply) Text() string {
	var b bytes.Buffer
	for i, p := range r.Ephemeral {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(Read(p))
	}
	return b.String()
}

// maxAnswer bounds what Peer reads of an API answer, in bytes.
const maxAnswer = 16 << 20

// NewPeer returns the peer for a set-up server. Its sockets close when the
// test ends.
func NewPeer(tb testing.TB, w World) *Peer {
	tb.Helper()
	p := &Peer{
		World: w, http: &http.Client{Transport: &http.Transport{}},
		screens: map[string]*screen{}, closed: map[string]bool{},
	}
	tb.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.screens {
			s.close()
		}
		p.http.CloseIdleConnections()
	})
	return p
}

// Do makes an API call as a user ("" for nobody). The path is that below
// /api/v4, or whole if it begins with "/hooks/". A body that is neither nil
// nor bytes is sent as JSON. The error is about the connection only.
func (p *Peer) Do(ctx context.Context, user, method, path string, body any) (Answer, error) {
	raw, isBytes := body.([]byte)
	if !isBytes && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return Answer{}, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		raw = b
	}
	if len(path) < 7 || path[:7] != "/hooks/" {
		path = "/api/v4" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, bytes.NewReader(raw))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if user != "" {
		a, known := p.Accounts[user]
		if !known {
			return Answer{}, fmt.Errorf("nobody here is called %q", user)
		}
		req.Header.Set("Authorization", "Bearer "+a.Token)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("read %s %s: %w", method, path, err)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: b}, nil
}

// do makes a call that must succeed, and decodes its answer.
func do[T any](ctx context.Context, p *Peer, user, method, path string, body any) (T, error) {
	var out T
	a, err := p.Do(ctx, user, method, path, body)
	if err != nil {
		return out, err
	}
	if apiErr := a.Err(); apiErr != nil {
		return out, fmt.Errorf("%s %s as %s: %w", method, path, user, apiErr)
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		return out, fmt.Errorf("%s %s as %s: %w", method, path, user, err)
	}
	return out, nil
}

// acted posts one thing that a user does in a channel, and gathers what he was
// told there meanwhile.
func (p *Peer) acted(ctx context.Context, user, channelID, path string, body any) (Reply, error) {
	s, err := p.screen(ctx, user)
	if err != nil {
		return Reply{}, err
	}
	from := s.len()
	a, err := p.Do(ctx, user, http.MethodPost, path, body)
	if err != nil {
		return Reply{}, err
	}
	r := Reply{Status: a.Status, Err: a.Err(), Body: a.Body}
	events, err := p.settle(ctx, user, s)
	if err != nil {
		return r, err
	}
	for _, e := range events[from:] {
		if post, isPost := e.post(); isPost && e.Event == "ephemeral_message" && post.ChannelID == channelID {
			r.Ephemeral = append(r.Ephemeral, post)
		}
		if d, isDialog := e.dialog(); isDialog {
			r.Dialogs = append(r.Dialogs, d)
		}
	}
	return r, nil
}

// Command types text ("/ocim help") in a channel, in a thread if rootID is
// set.
func (p *Peer) Command(ctx context.Context, user, channelID, rootID, text string) (Reply, error) {
	return p.acted(ctx, user, channelID, "/commands/execute", map[string]string{
		"channel_id": channelID, "team_id": p.TeamID, "root_id": rootID, "command": text,
	})
}

// Click presses the button of a post, or chooses selected in a menu. For an
// ephemeral post, give the post as the user saw it: it holds the cookie.
func (p *Peer) Click(ctx context.Context, user string, post Post, actionID, selected string) (Reply, error) {
	body := map[string]string{"selected_option": selected}
	if a, found := post.action(actionID); found && a.Cookie != "" {
		body["cookie"] = a.Cookie
	}
	return p.acted(ctx, user, post.ChannelID, "/posts/"+post.ID+"/actions/"+actionID, body)
}

// Dialogs are the dialogs open on the user's screen.
func (p *Peer) Dialogs(ctx context.Context, user string) ([]OpenDialog, error) {
	events, err := p.Events(ctx, user)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var open []OpenDialog
	for _, e := range events {
		if d, isDialog := e.dialog(); isDialog && !p.closed[d.TriggerID] {
			open = append(open, d)
		}
	}
	return open, nil
}

// SubmitDialog fills in a dialog as a client does: with the dialog's own
// state and callback id. A dialog that got errors stays open.
func (p *Peer) SubmitDialog(
	ctx context.Context, user, channelID string, d OpenDialog, values map[string]any,
) (Reply, error) {
	r, err := p.SubmitDialogRaw(ctx, user, Submission{
		URL: d.URL, CallbackID: d.Dialog.CallbackID, State: d.Dialog.State, ChannelID: channelID, TeamID: p.TeamID,
		Submission: values,
	})
	if err == nil && r.Err == nil && r.DialogError == "" && len(r.FieldErrors) == 0 && r.Next == nil {
		p.closeDialog(d)
	}
	return r, err
}

// CancelDialog closes a dialog. The integration hears of it if it asked to.
func (p *Peer) CancelDialog(ctx context.Context, user, channelID string, d OpenDialog) (Reply, error) {
	p.closeDialog(d)
	if !d.Dialog.NotifyOnCancel {
		return Reply{Status: http.StatusOK}, nil
	}
	return p.SubmitDialogRaw(ctx, user, Submission{
		URL: d.URL, CallbackID: d.Dialog.CallbackID, State: d.Dialog.State, ChannelID: channelID, TeamID: p.TeamID,
		Submission: map[string]any{}, Cancelled: true,
	})
}

func (p *Peer) closeDialog(d OpenDialog) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed[d.TriggerID] = true
}

// SubmitDialogRaw sends a submission as it is given, with no dialog open:
// what a user with a script can do.
func (p *Peer) SubmitDialogRaw(ctx context.Context, user string, in Submission) (Reply, error) {
	r, err := p.acted(ctx, user, in.ChannelID, "/actions/dialogs/submit", in)
	if err != nil || r.Err != nil {
		return r, err
	}
	var out struct {
		Error  string            `json:"error"`
		Errors map[string]string `json:"errors"`
		Form   *Dialog           `json:"form"`
	}
	if err := json.Unmarshal(r.Body, &out); err != nil {
		return r, fmt.Errorf("decode the answer to a dialog: %w", err)
	}
	r.DialogError, r.FieldErrors, r.Next = out.Error, out.Errors, out.Form
	return r, nil
}

// CreatePost writes a post as a user or as the bot. Of in, what a client may
// say is sent.
func (p *Peer) CreatePost(ctx context.Context, user string, in Post) (Post, error) {
	body := map[string]any{"channel_id": in.ChannelID, "message": in.Message}
	maps.Copy(body, optional(in))
	return do[Post](ctx, p, user, http.MethodPost, "/posts", body)
}

func optional(in Post) map[string]any {
	out := map[string]any{}
	if in.RootID != "" {
		out["root_id"] = in.RootID
	}
	if in.Props != nil {
		out["props"] = in.Props
	}
	if in.PendingPostID != "" {
		out["pending_post_id"] = in.PendingPostID
	}
	if in.FileIDs != nil {
		out["file_ids"] = in.FileIDs
	}
	return out
}

// Forge posts, as a user, a message whose button "forged" sends context to
// url: nothing on the server stops a user from doing that.
func (p *Peer) Forge(ctx context.Context, user, channelID, url string, context map[string]any) (Post, error) {
	return p.CreatePost(ctx, user, Post{ChannelID: channelID, Message: "harmless", Props: map[string]any{
		"attachments": []*Attachment{{Text: "click me", Actions: []Action{{
			ID: "forged", Type: "button", Name: "Click", Integration: &Integration{URL: url, Context: context},
		}}}},
	}})
}

// Post reads a post as the admin, who sees all channels.
func (p *Peer) Post(ctx context.Context, id string) (Post, error) {
	return do[Post](ctx, p, Admin, http.MethodGet, "/posts/"+id, nil)
}

// Posts reads a channel, oldest post first.
func (p *Peer) Posts(ctx context.Context, channelID string) ([]Post, error) {
	list, err := do[PostList](ctx, p, Admin, http.MethodGet, "/channels/"+channelID+"/posts?per_page=200", nil)
	if err != nil {
		return nil, err
	}
	out := make([]Post, 0, len(list.Order))
	for _, id := range slices.Backward(list.Order) {
		out = append(out, list.Posts[id])
	}
	return out, nil
}

// Since reads what changed in a channel after an instant in Unix
// milliseconds.
func (p *Peer) Since(ctx context.Context, user, channelID string, since int64) (PostList, error) {
	path := "/channels/" + channelID + "/posts?since=" + strconv.FormatInt(since, 10)
	return do[PostList](ctx, p, user, http.MethodGet, path, nil)
}

// Thread reads a thread, its root first.
func (p *Peer) Thread(ctx context.Context, id string) ([]Post, error) {
	list, err := do[PostList](ctx, p, Admin, http.MethodGet, "/posts/"+id+"/thread", nil)
	if err != nil {
		return nil, err
	}
	out := make([]Post, 0, len(list.Order))
	for _, id := range list.Order {
		out = append(out, list.Posts[id])
	}
	slices.SortFunc(out, func(a, b Post) int { return cmp.Compare(a.CreateAt, b.CreateAt) }) // the server's order varies
	return out, nil
}

// named is whatever has an id.
type named struct {
	ID string `json:"id"`
}

// NewChannel makes a channel with a unique name and these members, kind "O"
// for open or "P" for private. The name begins with prefix.
func (p *Peer) NewChannel(ctx context.Context, kind, prefix string, members ...string) (string, error) {
	out, err := do[named](ctx, p, Admin, http.MethodPost, "/channels", map[string]string{
		"team_id": p.TeamID, "type": kind, "name": prefix + "-" + newID(), "display_name": prefix,
	})
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if err := p.Join(ctx, out.ID, m); err != nil {
			return "", err
		}
	}
	return out.ID, nil
}

// Join puts a user into a channel.
func (p *Peer) Join(ctx context.Context, channelID, user string) error {
	_, err := do[json.RawMessage](ctx, p, Admin, http.MethodPost, "/channels/"+channelID+"/members",
		map[string]string{"user_id": p.Accounts[user].ID})
	return err
}

// Leave takes a user out of a channel.
func (p *Peer) Leave(ctx context.Context, channelID, user string) error {
	path := "/channels/" + channelID + "/members/" + p.Accounts[user].ID
	_, err := do[json.RawMessage](ctx, p, Admin, http.MethodDelete, path, nil)
	return err
}

// Direct opens the direct channel of two users.
func (p *Peer) Direct(ctx context.Context, user, other string) (string, error) {
	ids := []string{p.Accounts[user].ID, p.Accounts[other].ID}
	out, err := do[named](ctx, p, user, http.MethodPost, "/channels/direct", ids)
	return out.ID, err
}
