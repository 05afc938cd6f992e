// Command server is a Mattermost server for ocim's end-to-end tests: the
// public team edition, built as a program of its own from its module and
// run beside the tests. It is never linked into ocim and never shipped.
//
// It is not the module's own cmd/mattermost: that one imports the
// enterprise package, whose imports are not public.
package main

import (
	"fmt"
	"os"

	"github.com/mattermost/mattermost/server/v8/cmd/mattermost/commands"

	// The built-in slash commands register themselves on import, as in
	// cmd/mattermost.
	_ "github.com/mattermost/mattermost/server/v8/channels/app/slashcommands"
)

func main() {
	if err := commands.Run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mattermost:", err)
		os.Exit(1)
	}
}
