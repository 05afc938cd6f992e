//go:build e2e

package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocim/adapters/mattermost/mattermosttest"
	"ocim/e2e/process"
)

// mattermostChat is a Mattermost server, real or fake: both have the same people, channels and API.
type mattermostChat struct {
	*mattermosttest.Peer
}

const mattermostName = "chat"

func (m mattermostChat) configure(c *process.Config) {
	c.Mattermost = []process.Mattermost{{
		Name: mattermostName, URL: m.URL, BotToken: m.Accounts[mattermosttest.Bot].Token, Teams: []string{mattermosttest.Team},
		PathSecret: "path-secret-of-the-story-tests", Users: []string{m.Accounts[alice].ID},
	}}
}

func (m mattermostChat) names() []string {
	return []string{
		m.Accounts[alice].ID, "USER", m.Accounts[bob].ID, "USER",
		"Platform: mattermost", "Platform: PLATFORM", "Workspace: " + mattermostName, "Workspace: WORKSPACE",
	}
}

func (m mattermostChat) connect(ctx context.Context, _ *process.Bot) error {
	return until(ctx, func() (bool, error) {
		got, err := m.Command(ctx, alice, m.Channels[mattermosttest.Channel], "", "/ocim whoami")
		return err == nil && got.Err == nil && len(got.Ephemeral) == 1, err
	})
}

func (m mattermostChat) typed(ctx context.Context, who, text string) (told, error) {
	return m.told(m.Command(ctx, who, m.Channels[mattermosttest.Channel], "", "/ocim "+text))
}

func (m mattermostChat) told(r mattermosttest.Reply, err error) (told, error) {
	if err == nil && r.Err != nil {
		err = r.Err
	}
	if err != nil {
		return told{}, err
	}
	t := told{errors: r.FieldErrors}
	for _, p := range r.Ephemeral {
		lines, _ := readPost(p)
		t.lines = append(t.lines, lines...)
	}
	t.lines = append(t.lines, unmarked(r.DialogError)...)
	for _, d := range r.Dialogs {
		out := dialog{title: d.Dialog.Title, lines: unmarked(d.Dialog.IntroductionText), native: d}
		for _, e := range d.Dialog.Elements {
			out.fields = append(out.fields, e.DisplayName)
		}
		t.dialogs = append(t.dialogs, out)
	}
	return t, nil
}

func (m mattermostChat) click(ctx context.Context, who string, on message, label string) (told, error) {
	post, err := m.Post(ctx, on.id)
	if err != nil {
		return told{}, err
	}
	for _, a := range post.Actions() {
		if a.Name == label {
			return m.told(m.Click(ctx, who, post, a.ID, ""))
		}
	}
	return told{}, fmt.Errorf("no button %s on: %s", label, mattermosttest.Read(post))
}

func (m mattermostChat) submit(ctx context.Context, who string, d dialog, values map[string]string) (told, error) {
	open, ok := d.native.(mattermosttest.OpenDialog)
	if !ok {
		return told{}, errors.New("not a dialog of Mattermost")
	}
	sent := map[string]any{}
	for _, e := range open.Dialog.Elements {
		sent[e.Name] = nil // what a client sends for a field that was left empty
		if v, filled := values[e.Name]; filled {
			sent[e.Name] = v
		}
	}
	return m.told(m.SubmitDialog(ctx, who, m.Channels[mattermosttest.Channel], open, sent))
}

func (m mattermostChat) messages(ctx context.Context) ([]message, error) {
	posts, err := m.Posts(ctx, m.Channels[mattermosttest.Channel])
	if err != nil {
		return nil, err
	}
	var out []message
	for _, p := range posts {
		if strings.HasPrefix(p.Type, "system_") {
			continue // somebody joined
		}
		one := message{
			id: p.ID, thread: p.RootID, channel: p.RootID == "", bot: p.UserID == m.Accounts[mattermosttest.Bot].ID,
			pings: mattermosttest.LiveMentions(p),
		}
		one.lines, one.buttons = readPost(p)
		if p.EditAt > 0 {
			one.edits = 1 // how many there were is not told
		}
		out = append(out, one)
	}
	return out, nil
}

// readPost returns the lines of a post and the labels of its buttons, links in a line of their own
// included: Mattermost has no buttons that open an address.
func readPost(p mattermosttest.Post) (lines, buttons []string) {
	add := func(text string) {
		for line := range strings.SplitSeq(text, "\n") {
			if label, isLink := linkAlone(line); isLink {
				buttons = append(buttons, label)
				continue
			}
			lines = append(lines, unmarked(line)...)
		}
	}
	add(p.Message)
	for _, a := range p.Attachments() {
		add(a.Pretext)
		add(a.Title)
		add(a.Text)
		for _, f := range a.Fields {
			add(fmt.Sprintf("%s: %v", f.Title, f.Value))
		}
		add(a.Footer)
	}
	actions := p.Actions()
	for i, a := range actions {
		buttons = slices.Insert(buttons, i, a.Name)
	}
	// Slack shows one message in its thread and in the channel; Mattermost needs two places.
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "More in the thread" })
	return lines, buttons
}

func linkAlone(line string) (label string, ok bool) {
	if line != "[Open in GitLab]("+strings.TrimPrefix(line, "[Open in GitLab](") || !strings.HasSuffix(line, ")") {
		return "", false
	}
	return "Open in GitLab", true
}
