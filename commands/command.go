package commands

import (
	"context"

	"ocim/adapters/chat"
	"ocim/ops"
)

//go:generate go test -run ^TestDocs$ -update .

// Command is one verb that people type. Parsing, help, dialogs and the docs page all come from it.
type Command struct {
	Name    string
	Summary string
	Needs   ops.Permission // empty: everybody may
	Mutates bool           // takes --plan, which shows what would be sent and sends nothing
	Params  []Param
	Pairs   bool     // takes key=value parameters of the operation
	Example []string // each one is parsed by a test
	Run     func(ctx context.Context, c *Call) (chat.Answer, error)
}

// Param is one positional argument.
type Param struct {
	Name     string
	Help     string
	Optional bool
	Fold     bool // names, ids and verbs: case does not matter, since phones capitalise
}

// Call is one use of a command.
type Call struct {
	*Commands
	In      chat.Incoming
	Command *Command
	Args    map[string]string // by Param.Name; absent if not given
	Pairs   map[string]string
	Plan    bool
	Why     string
}

// table lists the commands in the order of the help. To add one, write its file and add its
// variable here; a test names a command that is missing.
func table() []*Command {
	return []*Command{
		helpCommand(),
		deployCommand(),
		statusCommand(),
		operationsCommand(),
		logsCommand(),
		cancelCommand(),
		retryCommand(),
		whoamiCommand(),
	}
}
