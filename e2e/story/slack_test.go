//go:build e2e

package story

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ocim/adapters/slack/slacktest"
	"ocim/e2e/process"
)

const (
	slackTeam    = "T0STORY01"
	slackAlice   = "U0ALICE01"
	slackBob     = "U0BOB0001"
	slackBot     = "U0OCIMBOT"
	slackChannel = "C0DEPLOYS"
)

// slackChat is a workspace of the strict fake, over signed HTTP or over Socket Mode.
type slackChat struct {
	*slacktest.Server
	socket bool
}

func newSlack(socket bool) (slackChat, error) {
	w := slacktest.Workspace{
		ID: slackTeam, Domain: "example", Name: "Example", AppID: "A0OCIM001", BotUser: slackBot, BotID: "B0OCIM001",
		Users: []slacktest.User{
			{ID: slackAlice, Name: alice, RealName: "Alice"},
			{ID: slackBob, Name: bob, RealName: "Bob"},
			{ID: slackBot, Name: "ocim", RealName: "ocim", Bot: true},
		},
		Channels: []slacktest.Channel{{ID: slackChannel, Name: "deploys", Members: []string{slackAlice, slackBob, slackBot}}},
	}
	s, err := slacktest.New(slacktest.Options{Workspace: &w})
	if err != nil {
		return slackChat{}, err
	}
	s.SetRealLimits(true)
	return slackChat{Server: s, socket: socket}, nil
}

func (s slackChat) configure(c *process.Config) {
	w := process.Slack{
		Workspace: slackTeam, SigningSecret: s.SigningSecret(), BotToken: s.BotToken(), APIURL: s.APIURL(), Users: []string{slackAlice},
	}
	if s.socket {
		w.SigningSecret, w.AppToken = "", s.AppToken()
	}
	c.Slack = []process.Slack{w}
}

func (s slackChat) names() []string {
	return []string{
		slackAlice, "USER", slackBob, "USER",
		"Platform: slack", "Platform: PLATFORM", "Workspace: " + slackTeam, "Workspace: WORKSPACE",
	}
}

func (s slackChat) connect(ctx context.Context, b *process.Bot) error {
	if !s.socket {
		s.SetBotURL(b.PublicURL())
		return nil
	}
	s.SetSocketMode(true)
	return s.Until(ctx, func() bool { return len(s.Sockets()) > 0 })
}

func slackID(who string) string {
	if who == alice {
		return slackAlice
	}
	return slackBob
}

// acted does something and waits until the person is shown something for it: a message, a modal or
// the end of one.
func (s slackChat) acted(ctx context.Context, who string, act func(user string) error) (told, error) {
	user := slackID(who)
	before, views := len(s.Ephemerals(user)), s.Views(user)
	if err := act(user); err != nil {
		return told{}, err
	}
	news := func() []slacktest.View {
		return slices.DeleteFunc(s.Views(user), func(v slacktest.View) bool {
			return slices.ContainsFunc(views, func(old slacktest.View) bool { return old.ID == v.ID })
		})
	}
	if err := s.Until(ctx, func() bool { return len(s.Ephemerals(user)) > before || len(news()) > 0 }); err != nil {
		return told{}, fmt.Errorf("wait for what %s is shown: %w", who, err)
	}
	var t told
	for _, m := range s.Ephemerals(user)[before:] {
		lines, _ := s.read(m)
		t.lines = append(t.lines, lines...)
	}
	for _, v := range news() {
		t.dialogs = append(t.dialogs, s.dialog(v))
	}
	return t, nil
}

func (s slackChat) dialog(v slacktest.View) dialog {
	d := dialog{title: v.Title, native: v.ID}
	for _, b := range v.Blocks {
		text := s.ReadView(slacktest.View{Blocks: []slacktest.Object{b}})
		if b["type"] == "input" {
			label, _, _ := strings.Cut(text, ":")
			d.fields = append(d.fields, label)
			continue
		}
		d.lines = append(d.lines, unmarked(text)...)
	}
	return d
}

func (s slackChat) typed(ctx context.Context, who, text string) (told, error) {
	return s.acted(ctx, who, func(user string) error {
		got, err := s.Command(ctx, slacktest.CommandOpts{User: user, Channel: slackChannel, Text: text})
		if err == nil && got.Error != "" {
			err = fmt.Errorf("slack shows %s", got.Error)
		}
		return err
	})
}

func (s slackChat) click(ctx context.Context, who string, on message, label string) (told, error) {
	m, ok := s.Message(slackChannel, on.id)
	if !ok {
		return told{}, fmt.Errorf("no message %s", on.id)
	}
	for _, b := range m.Blocks {
		elements, _ := b["elements"].([]any)
		for _, e := range elements {
			button, _ := e.(slacktest.Object)
			text, _ := button["text"].(slacktest.Object)
			if button["type"] != "button" || text["text"] != label {
				continue
			}
			id, _ := button["action_id"].(string)
			return s.acted(ctx, who, func(user string) error {
				got, err := s.Click(ctx, user, slackChannel, on.id, id)
				if err == nil && !got.OK() {
					err = fmt.Errorf("the click was answered %d %s", got.Status, got.Err)
				}
				return err
			})
		}
	}
	return told{}, fmt.Errorf("no button %s on: %s", label, s.Read(m))
}

func (s slackChat) submit(ctx context.Context, who string, d dialog, values map[string]string) (told, error) {
	id, _ := d.native.(string)
	view, ok := s.View(id)
	if !ok {
		return told{}, fmt.Errorf("the modal %s is not open", id)
	}
	sent := map[string]any{}
	for field, v := range values {
		sent[field] = v
		// In a searching menu one chooses from what the bot offers.
		for _, b := range view.Blocks {
			e, _ := b["element"].(slacktest.Object)
			if b["block_id"] != field || e["type"] != "external_select" {
				continue
			}
			action, _ := e["action_id"].(string)
			if _, _, err := s.Suggest(ctx, slackID(who), slacktest.Where{ViewID: id}, field+"/"+action, ""); err != nil {
				return told{}, err
			}
		}
	}
	var refused map[string]string
	t, err := s.acted(ctx, who, func(user string) error {
		got, err := s.SubmitView(ctx, user, id, sent)
		switch {
		case err != nil:
			return err
		case got.Error != "":
			return fmt.Errorf("slack shows %s", got.Error)
		case len(got.Errors) > 0:
			refused = got.Errors
			return errRefused
		}
		return nil
	})
	if refused != nil {
		return told{errors: refused}, nil
	}
	return t, err
}

func (s slackChat) messages(context.Context) ([]message, error) {
	var out []message
	for _, m := range s.Messages(slackChannel) {
		one := message{
			id: m.TS, channel: m.ThreadTS == "" || m.ThreadTS == m.TS || m.Broadcast, bot: m.User == slackBot, edits: m.Edits(),
		}
		if m.ThreadTS != m.TS {
			one.thread = m.ThreadTS
		}
		one.lines, one.buttons = s.read(m)
		for _, l := range s.LiveTokens(m) {
			if l.Kind != slacktest.Link && l.Kind != slacktest.Date {
				one.pings = append(one.pings, strings.NewReplacer(slackAlice, alice, slackBob, bob).Replace(l.Target))
			}
		}
		slices.Sort(one.pings)
		one.pings = slices.Compact(one.pings)
		out = append(out, one)
	}
	return out, nil
}

// read returns the lines of a message and the labels of its buttons. A field is one line.
func (s slackChat) read(m slacktest.Message) (lines, buttons []string) {
	if len(m.Blocks) == 0 {
		return unmarked(m.Text), nil
	}
	read := func(b slacktest.Object) string { return s.Read(slacktest.Message{Blocks: []slacktest.Object{b}}) }
	for _, b := range m.Blocks {
		fields, _ := b["fields"].([]any)
		switch {
		case b["type"] == "actions":
			buttons = append(buttons, slacktest.Buttons(slacktest.Message{Blocks: []slacktest.Object{b}})...)
		case len(fields) > 0:
			for _, f := range fields {
				text := read(slacktest.Object{"type": "section", "fields": []any{f}})
				lines = append(lines, unmarked(strings.Replace(text, "\n", ": ", 1))...)
			}
		default:
			lines = append(lines, unmarked(read(b))...)
		}
	}
	return lines, buttons
}
