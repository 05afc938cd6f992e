package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"ocim/adapters/chat"
	"ocim/ops"
)

// command is a slash command. Only ids are used; names are shown at most.
// Slack: docs.slack.dev, interactivity/implementing-slash-commands.
type command struct {
	TeamID       string `json:"team_id"`
	EnterpriseID string `json:"enterprise_id"`
	ChannelID    string `json:"channel_id"`
	UserID       string `json:"user_id"`
	UserName     string `json:"user_name"`
	Command      string `json:"command"`
	Text         string `json:"text"`
	ResponseURL  string `json:"response_url"`
	TriggerID    string `json:"trigger_id"`
	SSLCheck     string `json:"ssl_check"`
}

// decodeCommand reads the form of a slash command without building a map of all its fields.
func decodeCommand(body string) (command, error) {
	var c command
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		name, value, _ := strings.Cut(pair, "=")
		field := c.field(name)
		if field == nil || *field != "" {
			continue
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			return command{}, fmt.Errorf("decode field %s: %w", name, err)
		}
		*field = v
	}
	return c, nil
}

func (c *command) field(name string) *string {
	switch name {
	case "team_id":
		return &c.TeamID
	case "enterprise_id":
		return &c.EnterpriseID
	case "channel_id":
		return &c.ChannelID
	case "user_id":
		return &c.UserID
	case "user_name":
		return &c.UserName
	case "command":
		return &c.Command
	case "text":
		return &c.Text
	case "response_url":
		return &c.ResponseURL
	case "trigger_id":
		return &c.TriggerID
	case "ssl_check":
		return &c.SSLCheck
	}
	return nil
}

// interaction is a click, a sent dialog or a question for options. The payloads have many more
// fields; decoding only these costs a fraction of decoding all.
// Slack: docs.slack.dev, reference/interaction-payloads.
type interaction struct {
	Type        string  `json:"type"`
	Team        *entity `json:"team"` // null for an app installed on the whole organisation
	Enterprise  *entity `json:"enterprise"`
	AppID       string  `json:"api_app_id"`
	TriggerID   string  `json:"trigger_id"`
	ResponseURL string  `json:"response_url"`
	User        struct {
		ID       string `json:"id"`
		Username string `json:"username"`
		Name     string `json:"name"`
	} `json:"user"`
	Container struct {
		Type      string `json:"type"`
		MessageTS string `json:"message_ts"`
		ThreadTS  string `json:"thread_ts"`
		ChannelID string `json:"channel_id"`
	} `json:"container"`
	Channel *entity `json:"channel"`
	Message *struct {
		TS       string `json:"ts"`
		ThreadTS string `json:"thread_ts"`
		User     string `json:"user"`
		BotID    string `json:"bot_id"`
		AppID    string `json:"app_id"`
	} `json:"message"`
	Actions []struct {
		ActionID string `json:"action_id"`
		Type     string `json:"type"`
		Value    string `json:"value"`
	} `json:"actions"`
	View *struct {
		CallbackID      string `json:"callback_id"`
		PrivateMetadata string `json:"private_metadata"`
		State           struct {
			Values map[string]map[string]inputValue `json:"values"`
		} `json:"state"`
	} `json:"view"`

	// Of block_suggestion.
	BlockID string `json:"block_id"`
	Value   string `json:"value"`
}

type entity struct {
	ID string `json:"id"`
}

// inputValue is what a person entered in one input, whatever its kind. An input left empty has
// null in its field.
type inputValue struct {
	Value    *string `json:"value"`
	Selected *struct {
		Value string `json:"value"`
	} `json:"selected_option"`
	Date    *string `json:"selected_date"`
	User    *string `json:"selected_user"`
	Channel *string `json:"selected_channel"`
	Place   *string `json:"selected_conversation"`
}

func (v inputValue) text() string {
	if v.Selected != nil {
		return v.Selected.Value
	}
	for _, s := range []*string{v.Value, v.Date, v.User, v.Channel, v.Place} {
		if s != nil {
			return *s
		}
	}
	return ""
}

// decodeInteraction reads the JSON of an interaction.
func decodeInteraction(payload []byte) (*interaction, error) {
	var in interaction
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, fmt.Errorf("decode interaction: %w", err)
	}
	return &in, nil
}

// payloadField takes the JSON out of the form that carries an interaction over HTTP.
func payloadField(body string) ([]byte, error) {
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if v, ok := strings.CutPrefix(pair, "payload="); ok {
			p, err := url.QueryUnescape(v)
			if err != nil {
				return nil, fmt.Errorf("decode payload: %w", err)
			}
			return []byte(p), nil
		}
	}
	return nil, errors.New("no payload")
}

// claims are the workspace and the organisation that the interaction says it comes from.
func (in *interaction) claims() (team, enterprise string) {
	if in.Team != nil {
		team = in.Team.ID
	}
	if in.Enterprise != nil {
		enterprise = in.Enterprise.ID
	}
	return team, enterprise
}

func (in *interaction) actorName() string {
	if in.User.Username != "" {
		return in.User.Username
	}
	return in.User.Name
}

// ours tells whether the message with the pressed button is the bot's own. Slack sends an app only
// clicks on its own messages; the check keeps it so if that should change. Ephemeral messages come
// without the message.
func (in *interaction) ours(id *identity) bool {
	m := in.Message
	switch {
	case m == nil:
		return true
	case id != nil && m.BotID != "" && m.BotID == id.botID, id != nil && m.User != "" && m.User == id.userID:
		return true
	}
	return m.AppID != "" && m.AppID == in.AppID
}

// place is where the pressed button stands: the conversation and the message.
func (in *interaction) place(team string) (ops.Conversation, string) {
	c := ops.Conversation{Platform: Platform, Workspace: team, Channel: in.Container.ChannelID}
	if c.Channel == "" && in.Channel != nil {
		c.Channel = in.Channel.ID
	}
	ts, thread := in.Container.MessageTS, in.Container.ThreadTS
	if in.Message != nil {
		if ts == "" {
			ts = in.Message.TS
		}
		if thread == "" {
			thread = in.Message.ThreadTS
		}
	}
	if thread != ts { // the first message of a thread stands in the channel
		c.Thread = thread
	}
	return c, ts
}

// values flattens what was entered: our inputs have the field's name as block_id and one element.
func (in *interaction) values() map[string]string {
	out := make(map[string]string, len(in.View.State.Values))
	for field, elements := range in.View.State.Values {
		for _, v := range elements {
			out[field] = v.text()
		}
	}
	return out
}

// envelope is what a dialog's private_metadata holds: the handler's sealed state, and the channel
// in which the dialog was opened. The channel only says where to answer; it is not trusted.
type envelope struct {
	Channel string `json:"c,omitempty"`
	State   string `json:"s"`
}

// dialogState takes an envelope apart. Metadata that is not an envelope counts as bare state.
func dialogState(metadata string) (state, channel string) {
	var e envelope
	if err := json.Unmarshal([]byte(metadata), &e); err != nil {
		return metadata, ""
	}
	if !validID(e.Channel, "CDG") {
		e.Channel = ""
	}
	return e.State, e.Channel
}

// incoming translates a command.
func (c *command) incoming(team, key string) chat.Incoming {
	return chat.Incoming{
		Key: key, Kind: chat.Command,
		Actor:     ops.Actor{Platform: Platform, Workspace: team, UserID: c.UserID},
		ActorName: c.UserName,
		From:      ops.Conversation{Platform: Platform, Workspace: team, Channel: c.ChannelID},
		Trigger:   trigger(c.Command),
		Text:      commandText(c.Text),
	}
}

// trigger is the command's own word if it is one; Slack's have at most 32 characters.
func trigger(command string) string {
	word, ok := strings.CutPrefix(command, "/")
	if !ok || word == "" || len(word) > 64 || chat.Clean(word) != word || strings.ContainsAny(word, " /") {
		return ""
	}
	return command
}

// mentionText is what somebody typed, or nearly so, where Slack has put a mention. Source:
// docs.slack.dev/messaging/formatting-message-text, "Retrieving messages".
func mentionText(inner string) string {
	id, label, _ := strings.Cut(inner, "|")
	sign := id[:1]
	if sign == "!" {
		sign = "@" // <!here>, <!subteam^S1|@team>, <!date^1|then>
		if kind, _, special := strings.Cut(id[1:], "^"); special && kind != "subteam" && label != "" {
			return label
		}
	}
	if label == "" {
		label = id[1:]
		if _, after, ok := strings.Cut(label, "^"); ok {
			label = after
		}
	}
	return sign + strings.TrimLeft(label, "@#")
}

// commandText undoes what Slack does to the text of a command when should_escape is on: links that
// it recognised stand as <url|typed>, mentions as <@U…>, <#C…|name> and <!…>, and & < > are entities.
// Mentions become words again, so that they can be read where the text is shown; Slack takes none of
// those for a mention. The name of a person is not always there, and then it is the id.
func commandText(s string) string {
	if !strings.ContainsAny(s, "<&") {
		return s
	}
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		end := strings.IndexByte(s[i:], '>')
		if end < 0 {
			break
		}
		b.WriteString(s[:i])
		inner := s[i+1 : i+end]
		if inner == "" {
			b.WriteString("<>")
		} else if strings.ContainsRune("@#!", rune(inner[0])) {
			b.WriteString(mentionText(inner))
		} else if address, typed, ok := strings.Cut(inner, "|"); ok && typed != "" {
			b.WriteString(typed)
		} else {
			b.WriteString(address)
		}
		s = s[i+end+1:]
	}
	b.WriteString(s)
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(b.String())
}
