package mattermost

import (
	"fmt"
	"strings"
)

// SetupSteps is what an administrator of a server does so that the bot can work there, as text for
// a terminal. callbackURL is the bot's public address. Secrets are named, never shown.
func SetupSteps(s Server, callbackURL string) string {
	command := s.Command
	if command == "" {
		command = "ocim"
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Mattermost server %s (%s)", s.Name, s.URL)
	line("")
	line("1. Bot account. System Console > Integrations > Bot Accounts: enable bot accounts.")
	line("   Then Integrations > Bot Accounts > Add: name it %s, role Member. Leave \"post:all\" and", command)
	line("   \"post:channels\" off: the bot joins the channels that it works in.")
	line("   Keep the access token in the secret that bot_token names; it is shown once.")
	line("   With mmctl:  mmctl bot create %s --with-token", command)
	line("2. Teams. Add the bot to %s, and to each private channel that it shall post in.", teamList(s.Teams))
	line("   Public channels it joins by itself.  mmctl team users add <team> %s", command)
	line("3. Rights. The bot registers /%s itself, once for each team, and renews its token. For that it", command)
	line("   needs the permission manage_slash_commands and nothing else. On a server without a licence no")
	line("   role can be made for it, but the role system_custom_group_admin is free: it is about custom")
	line("   groups, which need a licence. Give that role the permission, and the bot the role:")
	line("     mmctl permissions add system_custom_group_admin manage_slash_commands")
	line("     mmctl permissions role assign system_custom_group_admin %s", command)
	line("   (mmctl calls the first one Enterprise only; the server takes it without a licence.) From 11.2 on")
	line("   the permission is manage_own_slash_commands. What it costs: the permission counts in every team,")
	line("   so whoever has the bot's token can add commands there and see the tokens of others. With a")
	line("   licence, a team scheme keeps it to the bot's teams. The other way is to make the bot an admin of")
	line("   its teams; that counts in these teams only, but lets it into all their channels, private ones")
	line("   too. Never make it a system admin.")
	line("   Optional: answers that come late appear where the person asked, instead of in a direct message:")
	line("     mmctl permissions add system_custom_group_admin create_post_ephemeral")
	line("4. Network. The server must reach %s/mattermost/ with POST.", strings.TrimRight(callbackURL, "/"))
	line("   If that is an internal address, System Console > Developer > Allow untrusted internal")
	line("   connections must list its host name exactly as written there, or its range as CIDR.")
	line("   Otherwise every command fails with \"address forbidden\" in the server's log.")
	line("5. Path secret. Make one with `openssl rand -hex 24` and keep it in the secret that path_secret")
	line("   names. It never leaves the bot: the last part of each address that the server calls is made")
	line("   from it, another one for commands, buttons and dialogs (HMAC-SHA-256). By these addresses the bot")
	line("   tells the server from others: keep them out of proxies' access logs. With a new path secret")
	line("   the bot registers anew, and the buttons of old cards no longer work.")
	line("6. Address. %s should be the server's SiteURL, letter by letter: answers that take longer", s.URL)
	line("   go to an address that the server builds from its SiteURL, and no other host is trusted.")
	return b.String()
}

func teamList(teams []string) string {
	if len(teams) == 0 {
		return "each team"
	}
	if len(teams) == 1 {
		return "the team " + teams[0]
	}
	return "the teams " + strings.Join(teams, ", ")
}
