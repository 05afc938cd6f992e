package mattermost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/ops"
)

const (
	// A response_url works five times and for 30 minutes (Mattermost: app.CreateCommandWebhook,
	// store.CommandWebhook.TryUse). We stop a little earlier.
	responseUses = 5
	responseLife = 29 * time.Minute
)

// replier implements [chat.Replier] for one request.
type replier struct {
	a       *Adapter
	s       *server
	in      chat.Incoming
	trigger string
	hook    string // our own spelling of response_url; empty if there is none to be trusted
	till    time.Time
	used    atomic.Int32
}

func (a *Adapter) replier(s *server, in chat.Incoming, trigger, responseURL string) *replier {
	return &replier{
		a: a, s: s, in: in, trigger: trigger,
		hook: s.hookURL(responseURL), till: a.clock.Now().Add(responseLife),
	}
}

// hookURL checks a response_url, and builds it anew on the configured address: the bot never
// connects to a place that a request names.
func (s *server) hookURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != s.base.Scheme || u.User != nil || u.Opaque != "" || u.Fragment != "" || u.RawQuery != "" || u.ForceQuery {
		return ""
	}
	path, ok := strings.CutPrefix(u.EscapedPath(), s.base.EscapedPath())
	if !ok || !strings.EqualFold(u.Host, s.base.Host) || !regexp.MustCompile(`^/hooks/commands/[a-z0-9]{26}$`).MatchString(path) {
		return ""
	}
	return s.base.String() + path
}

// Later implements [chat.Replier]. The ways are tried in this order: the command's response_url, a
// post that only this person sees, a direct message.
func (r *replier) Later(ctx context.Context, m chat.Message) error {
	if r.hook != "" && r.a.clock.Now().Before(r.till) && r.used.Add(1) <= responseUses {
		err := r.s.respond(ctx, r.hook, r.s.render(ctx, r.a.signer, m, binding{channel: r.in.From.Channel, user: r.in.Actor.UserID}))
		if err == nil {
			return nil
		}
		r.s.log.Info("response_url did not work", "err", err)
	}
	return r.a.private(ctx, r.s, r.in, m, true)
}

// private shows a message to one person, beside the answer to a request. Where that takes a direct
// message and direct is false, the message is dropped.
func (a *Adapter) private(ctx context.Context, s *server, in chat.Incoming, m chat.Message, direct bool) error {
	err := s.ephemeral(ctx, a.signer, in, m)
	if err == nil || !direct {
		if errors.Is(err, errNoEphemeral) {
			return nil
		}
		return err
	}
	return a.direct(ctx, in.Actor, m)
}

// contain keeps a panic of a goroutine from ending the process. It is deferred.
func (a *Adapter) contain(s *server) {
	if p := recover(); p != nil {
		s.log.Error("sending a message panicked", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

func (a *Adapter) direct(ctx context.Context, actor ops.Actor, m chat.Message) error {
	to, err := a.Direct(ctx, actor)
	if err != nil {
		return err
	}
	_, err = a.Post(ctx, to, m)
	return err
}

// ephemeral needs the permission create_post_ephemeral, which bots do not have by default.
func (s *server) ephemeral(ctx context.Context, signer *ops.Signer, in chat.Incoming, m chat.Message) error {
	if s.noEphemeral.Load() {
		return errNoEphemeral
	}
	p := s.render(ctx, signer, m, binding{channel: in.From.Channel, user: in.Actor.UserID})
	err := s.call(ctx, "show a private post", func(ctx context.Context) (*model.Response, error) {
		_, resp, err := s.client.CreatePostEphemeral(ctx, &model.PostEphemeral{
			UserID: in.Actor.UserID,
			Post: &model.Post{
				ChannelId: in.From.Channel, RootId: in.From.Thread, Message: p.message, Props: p.props(""),
			},
		})
		return resp, err
	})
	if ops.CodeOf(err) == ops.CodeDenied && ops.ReasonOf(err) != ops.ReasonChatUnauthorized {
		s.noEphemeral.Store(true)
		return errNoEphemeral
	}
	return err
}

// errNoEphemeral: the server has refused this already.
var errNoEphemeral = errors.New("the bot may not show private posts on this server")

// respond posts to a response_url. It is a secret of its own, so the bot's token stays here, and no
// error names it.
func (s *server) respond(ctx context.Context, hook string, p rendered) error {
	body, err := json.Marshal(commandResponse(p))
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook, bytes.NewReader(body))
	if err != nil {
		return errors.New("build the request")
	}
	req.Header.Set("Content-Type", jsonBody)
	resp, err := s.http.Do(req)
	if err != nil {
		return s.explain("use a response_url", nil, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return s.explain("use a response_url", model.BuildResponse(resp), nil)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be used again
	return nil
}

// OpenDialog implements [chat.Replier].
func (r *replier) OpenDialog(ctx context.Context, d chat.Dialog) error {
	if r.trigger == "" || r.in.Kind == chat.Submit {
		return &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "A dialog can only be opened by a command or a button."}
	}
	dialog, err := r.a.dialog(r.s, r.in, d)
	if err != nil {
		return err
	}
	req := model.OpenDialogRequest{TriggerId: r.trigger, URL: r.s.callback(dialogsRoute), Dialog: dialog}
	if err := req.IsValid(); err != nil {
		return &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "The dialog is not one that Mattermost can show.", Err: err}
	}
	return r.s.call(ctx, "open a dialog", func(ctx context.Context) (*model.Response, error) {
		return r.s.client.OpenInteractiveDialog(ctx, req)
	})
}
