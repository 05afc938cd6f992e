//go:build e2e

package story

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"ocim/e2e/process"
	"ocim/internal/clock"
)

// The people of every platform: alice may do everything, bob may only look. Both are in the channel.
const (
	alice = "alice"
	bob   = "bob"
)

// platform is a chat as its people use it. What they read is returned without markup, so that the
// same story has the same words everywhere.
type platform interface {
	// configure adds the platform to what the bot is told.
	configure(c *process.Config)
	// connect waits until commands reach a bot that has just started.
	connect(ctx context.Context, b *process.Bot) error
	// typed sends what follows "/ocim " and returns what only that person is told.
	typed(ctx context.Context, who, text string) (told, error)
	// click presses the button with that label.
	click(ctx context.Context, who string, m message, label string) (told, error)
	// submit fills a dialog in and sends it.
	submit(ctx context.Context, who string, d dialog, values map[string]string) (told, error)
	// messages is what stands in the channel and in its threads, oldest first.
	messages(ctx context.Context) ([]message, error)
	// names are the platform's own words, each followed by what stands for it in every story.
	names() []string
}

// told is what one person got for what he did.
type told struct {
	lines   []string
	dialogs []dialog
	errors  map[string]string // by field of the dialog
}

func (t told) String() string { return strings.Join(t.lines, "\n") }

// message is one message in the channel or in a thread of it, as people see it now.
type message struct {
	id, thread string
	// channel is set for what the whole channel sees, a thread's reply that is sent there too
	// included.
	channel bool
	bot     bool // it is the bot's
	lines   []string
	buttons []string
	pings   []string // who is notified
	edits   int
}

func (m message) String() string {
	return strings.Join(m.lines, "\n") + "\n[" + strings.Join(m.buttons, "] [") + "]"
}

// dialog is a form on a person's screen.
type dialog struct {
	title  string
	lines  []string
	fields []string // labels
	native any
}

// unmarked takes the markup of both platforms out of a text and returns its lines, none of them
// empty. Links keep their label.
func unmarked(text string) []string {
	text = regexp.MustCompile(`\[((?:[^\]\\]|\\.)*)\]\(https?://[^)]*\)`).ReplaceAllString(text, "$1")
	text = strings.NewReplacer(
		"&lt;", "<", "&gt;", ">", "&#36;", "$", "&amp;", "&", // entities
		"*", "", "_", "", "`", "", "\\", "", "\u200b", "", // marks and what disarms them
		"∗", "", "＿", "", "ˋ", "", "∼", "~", "∶", ":", // look-alikes, for Slack's fields
	).Replace(text)
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// neutral replaces what differs from one story to the next: the names given, times, numbers of
// requests and hashes.
func neutral(lines, names []string) []string {
	replace := strings.NewReplacer(names...)
	number := regexp.MustCompile(`\b\d{10,}\b`)
	hash := regexp.MustCompile(`\b[0-9a-f]{8,}\b`)
	span := regexp.MustCompile(`\b\d+ (?:s|min|h|days)\b(?: \d\d (?:s|min)\b)?`)
	at := regexp.MustCompile(`\b\d\d:\d\d(?::\d\d)?(?: UTC|Z)?\b`)
	out := make([]string, len(lines))
	for i, line := range lines {
		line = hash.ReplaceAllString(number.ReplaceAllString(replace.Replace(line), "NUMBER"), "HASH")
		out[i] = at.ReplaceAllString(span.ReplaceAllString(line, "TIME"), "CLOCK")
		// In a command to Slack this is how Slack itself spells the word; elsewhere it is just typed.
		out[i] = strings.ReplaceAll(out[i], "<!channel>", "@channel")
	}
	return out
}

// until looks again and again until found is true or ctx ends.
func until(ctx context.Context, found func() (bool, error)) error {
	for {
		ok, err := found()
		if ok || err != nil {
			return err
		}
		if err := clock.Sleep(ctx, clock.System{}, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func sorted(lines []string) []string {
	out := slices.Clone(lines)
	slices.Sort(out)
	return out
}
