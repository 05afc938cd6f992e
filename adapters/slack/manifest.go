package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	slackapi "github.com/slack-go/slack"
)

// Manifest is the app manifest from which a Slack app is made, as JSON: over HTTP at publicURL, or
// over Socket Mode, where publicURL is not used. The scopes are the fewest that work. Whoever wants
// the bot to look for a message whose post had no answer ([Workspace] History) adds
// channels:history and groups:history.
// Source: slackapi/manifest-schema, version 2.
func Manifest(publicURL string, socket bool) ([]byte, error) {
	events := &slackapi.EventSubscriptions{BotEvents: []string{"app_uninstalled", "tokens_revoked"}}
	interactivity := &slackapi.Interactivity{IsEnabled: true}
	command := slackapi.ManifestSlashCommand{
		Command:      "/ocim",
		Description:  "Deploy application instances and follow what happens",
		UsageHint:    "help | deploy <instance> | status | logs <operation>",
		ShouldEscape: true,
	}
	if !socket {
		base := strings.TrimRight(publicURL, "/")
		u, err := url.Parse(base)
		if err != nil {
			return nil, errors.New("the public address is not a URL")
		}
		if u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, errors.New("the public address must be an https URL without query: Slack calls nothing else")
		}
		command.Url = base + "/slack/commands"
		events.RequestUrl = base + "/slack/events"
		interactivity.RequestUrl = base + "/slack/interactions"
		interactivity.MessageMenuOptionsUrl = base + "/slack/options"
	}
	m := slackapi.Manifest{
		Metadata: slackapi.ManifestMetadata{MajorVersion: 2},
		Display:  slackapi.Display{Name: "ocim", Description: "Deploys application instances from chat"},
		Features: slackapi.Features{
			// Without the tab Slack refuses direct messages from the bot (messages_tab_disabled).
			AppHome:       slackapi.AppHome{MessagesTabEnabled: true, MessagesTabReadOnlyEnabled: true},
			BotUser:       slackapi.BotUser{DisplayName: "ocim", AlwaysOnline: true},
			SlashCommands: []slackapi.ManifestSlashCommand{command},
		},
		OAuthConfig: slackapi.OAuthConfig{Scopes: slackapi.OAuthScopes{
			Bot: []string{"commands", "chat:write", "im:write", "users:read"},
		}},
		Settings: slackapi.Settings{
			EventSubscriptions: events,
			Interactivity:      interactivity,
			SocketModeEnabled:  socket,
		},
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(b, '\n'), nil
}
