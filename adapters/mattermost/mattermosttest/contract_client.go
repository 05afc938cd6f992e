package mattermosttest

import (
	"errors"
	"net/http"
	"strings"

	"github.com/mattermost/mattermost/server/public/model"
)

func clientCases() []contractCase {
	return []contractCase{
		{"Mattermost's Go client posts, edits and reads", clientPosts},
		{"Mattermost's Go client manages commands", clientCommands},
		{"Mattermost's Go client opens and submits dialogs", clientDialogs},
		{"Mattermost's Go client sees errors", clientErrors},
		{"Mattermost's Go client listens", clientListens},
	}
}

func (b *bench) client(user string) *model.Client4 {
	c := model.NewAPIv4Client(b.URL)
	c.SetToken(b.Accounts[user].Token)
	return c
}

func clientPosts(b *bench) {
	c := b.client(Bot)
	me, _, err := c.GetMe(b.ctx, "")
	b.ok(err)
	if me.Id != b.Accounts[Bot].ID || !me.IsBot {
		b.Errorf("me: got %s bot=%v", me.Id, me.IsBot)
	}
	root, resp, err := c.CreatePost(b.ctx, &model.Post{
		ChannelId: b.channel, Message: "root", PendingPostId: newID(),
		Props: model.StringInterface{"attachments": []*model.MessageAttachment{{Text: "text", Actions: []*model.PostAction{{
			Id: "go", Type: model.PostActionTypeButton, Name: "Go", Style: "primary",
			Integration: &model.PostActionIntegration{URL: b.app.url, Context: map[string]any{"id": "1"}},
		}}}}},
	})
	b.ok(err)
	if resp.StatusCode != http.StatusCreated || len(root.Attachments()) != 1 || root.Attachments()[0].Actions[0].Id != "go" {
		b.Errorf("create: got %d and %d attachments", resp.StatusCode, len(root.Attachments()))
	}
	if _, err = b.client("alice").DoPostAction(b.ctx, root.Id, "go"); err != nil {
		b.Errorf("click: %v", err)
	}
	reply, _, err := c.CreatePost(b.ctx, &model.Post{ChannelId: b.channel, Message: "reply", RootId: root.Id})
	b.ok(err)
	text := "patched"
	patched, _, err := c.PatchPost(b.ctx, root.Id, &model.PostPatch{Message: &text})
	b.ok(err)
	if patched.Message != text || len(patched.Attachments()) != 1 {
		b.Errorf("patch: got %q with %d attachments", patched.Message, len(patched.Attachments()))
	}
	thread, _, err := c.GetPostThread(b.ctx, root.Id, "", false)
	b.ok(err)
	since, _, err := c.GetPostsSince(b.ctx, b.channel, root.CreateAt, false)
	b.ok(err)
	if len(thread.Posts) != 2 || since.Posts[reply.Id] == nil {
		b.Errorf("got a thread of %d and %d posts since", len(thread.Posts), len(since.Posts))
	}
	file, _, err := c.UploadFile(b.ctx, []byte("log"), b.channel, "job.log")
	b.ok(err)
	if file.FileInfos[0].Size != 3 {
		b.Errorf("file: got %+v", file.FileInfos[0])
	}
	direct, _, err := c.CreateDirectChannel(b.ctx, b.Accounts[Bot].ID, b.Accounts["bob"].ID)
	b.ok(err)
	if direct.Type != model.ChannelTypeDirect || direct.TeamId != "" {
		b.Errorf("direct: got %+v", direct)
	}
}

func clientCommands(b *bench) {
	c := b.client(Bot)
	team, _, err := c.GetTeamByName(b.ctx, Team, "")
	b.ok(err)
	cmd, _, err := c.CreateCommand(b.ctx, &model.Command{
		TeamId: team.Id, Trigger: "k" + newID(), Method: model.CommandMethodPost, URL: b.app.url,
		AutoComplete: true, AutoCompleteHint: "[sub]", AutoCompleteDesc: "d", DisplayName: "ocim",
	})
	b.ok(err)
	cmd.URL += "/moved"
	updated, _, err := c.UpdateCommand(b.ctx, cmd)
	b.ok(err)
	list, _, err := c.ListCommands(b.ctx, team.Id, true)
	b.ok(err)
	found := 0
	for _, o := range list {
		if o.Id == cmd.Id && o.URL == updated.URL && o.Token == cmd.Token {
			found++
		}
	}
	if found != 1 {
		b.Errorf("list: got it %d times among %d, want once", found, len(list))
	}
	token, _, err := c.RegenCommandToken(b.ctx, cmd.Id)
	b.ok(err)
	b.app.answerJSON(`{"text":"hi"}`)
	out, _, err := b.client("alice").ExecuteCommandWithTeam(b.ctx, b.channel, team.Id, "/"+cmd.Trigger+" x")
	b.ok(err)
	if got := b.app.last(); out.Text != "hi" || got.path != "/moved" || got.form().Get("token") != token {
		b.Errorf("execute: got %q from %s, want hi from /moved with the new token", out.Text, got.path)
	}
	_, err = c.DeleteCommand(b.ctx, cmd.Id)
	b.ok(err)
}

func clientDialogs(b *bench) {
	c := b.client(Bot)
	d := model.Dialog{
		CallbackId: "cb", Title: "Deploy", State: "s", SubmitLabel: "Go",
		Elements: []model.DialogElement{{DisplayName: "Instance", Name: "instance", Type: "text", MaxLength: 80}},
	}
	_, err := c.OpenInteractiveDialog(b.ctx, model.OpenDialogRequest{TriggerId: b.trigger(), URL: b.app.url + "/dialog", Dialog: d})
	b.ok(err)
	if shown := b.shown(); len(shown) != 1 || shown[0].Dialog.Elements[0].MaxLength != 80 {
		b.Errorf("got %+v, want the dialog", shown)
	}
	b.app.answerJSON(`{"errors":{"instance":"unknown"}}`)
	out, _, err := b.client("alice").SubmitInteractiveDialog(b.ctx, model.SubmitDialogRequest{
		URL: b.app.url + "/dialog", State: "s", ChannelId: b.channel, TeamId: b.TeamID,
		Submission: map[string]any{"instance": "x"},
	})
	b.ok(err)
	if out.Errors["instance"] != "unknown" {
		b.Errorf("submit: got %+v, want the field's error", out)
	}
}

func clientErrors(b *bench) {
	c := b.client(Bot)
	_, resp, err := c.CreatePost(b.ctx, &model.Post{ChannelId: b.channel, Message: strings.Repeat("x", maxMessageRunes+1)})
	var appErr *model.AppError
	if !errors.As(err, &appErr) || appErr.Id != "model.post.is_valid.message_length.app_error" ||
		appErr.StatusCode != http.StatusBadRequest || resp.RequestId == "" {
		b.Errorf("too long: got %v, want an AppError with its id", err)
	}
	c.SetToken(newID())
	_, resp, err = c.GetMe(b.ctx, "")
	if !errors.As(err, &appErr) || resp.StatusCode != http.StatusUnauthorized {
		b.Errorf("bad token: got %v, want 401", err)
	}
}

func clientListens(b *bench) {
	ws, err := model.NewWebSocketClient4("ws"+strings.TrimPrefix(b.URL, "http"), b.Accounts[Bot].Token)
	b.ok(err)
	ws.Listen()
	defer ws.Close()
	want := ""
	for {
		select {
		case e, open := <-ws.EventChannel:
			switch {
			case !open:
				b.Fatalf("the socket closed: %v", ws.ListenError)
			case e.EventType() == model.WebsocketEventHello:
				want = b.post(Post{Message: "heard"}).ID
			case e.EventType() == model.WebsocketEventPosted:
				if text, _ := e.GetData()["post"].(string); want != "" && strings.Contains(text, want) {
					return
				}
			}
		case <-ws.ResponseChannel:
		case <-b.ctx.Done():
			b.Fatal("got no event for the bot's own post")
		}
	}
}
