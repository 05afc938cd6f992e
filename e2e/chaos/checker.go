// Package chaos kills the bot's real program under load, at every crash point and at random, and
// judges what came of it by what the people, GitLab and chat saw. The bot's own opinion is never
// asked.
package chaos

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Said is what a person was told about a request.
type Said int

// What a person can be told.
const (
	// Unanswered: nothing came back, or nothing that tells whether the request was taken.
	Unanswered Said = iota
	// Accepted: the bot has promised to do it.
	Accepted
	// Refused: the bot has said that it does nothing.
	Refused
)

// Request is one deploy that a person asked for.
type Request struct {
	// Token is unique, and travels as a parameter into the pipeline and onto the card.
	Token    string
	Instance string
	Said     Said
	// Operation is the id in the answer; only accepted requests have one.
	Operation string
	// Canceled: somebody asked to cancel it. It may then end without a pipeline.
	Canceled bool
}

// Pipeline is one that GitLab started for a request.
type Pipeline struct {
	ID       int64
	Token    string
	Instance string
	// Key is ocim_key, Number is DEPLOYMENT_REQUEST_ID.
	Key, Number string
	// Status is that of everything that the request set in motion, in GitLab's words.
	Status string
}

// Message is one that stands in chat.
type Message struct {
	// Place is where it stands, and how the bot may behave there.
	Place *Place
	// Key is the bot's own name of the message, from its metadata. Two messages of one key are one
	// message and its duplicate.
	Key string
	// Summary is the text for notifications, Body all that people read.
	Summary, Body string
}

// Place is a chat workspace.
type Place struct {
	Name string
	// Findable: the bot may look through what it has posted, so that it needs no duplicates.
	Findable bool
	// Lost is the number of messages that chat took without telling the bot.
	Lost int
}

// History is all that was seen from outside.
type History struct {
	Requests  []Request
	Pipelines []Pipeline
	Messages  []Message
	Kills     int
}

// Verdict is what Check has found.
type Verdict struct {
	// Problems are breaches of a promise, each a sentence. None is what is wanted.
	Problems []string
	// Accepted, Unanswered and Refused count the requests, Duplicates the messages that stand twice.
	Accepted, Unanswered, Refused, Duplicates int
}

var (
	summary = regexp.MustCompile(`^deploy of (\S+) on \S+: ([a-z ]+?)(?:, \d+ of \d+ jobs)? \(([a-z0-9]+)\)$`)
	version = regexp.MustCompile(`version=[^0-9]?([0-9.]+)`)
)

// card is what a card says.
type card struct{ operation, instance, state, token string }

func readCard(m Message) (card, bool) {
	s, v := summary.FindStringSubmatch(m.Summary), version.FindStringSubmatch(m.Body)
	if s == nil || v == nil {
		return card{}, false
	}
	return card{operation: s[3], instance: s[1], state: s[2], token: v[1]}, true
}

// finals are the states in which a card may be left, with the status of GitLab's pipeline that they
// tell of; empty if there is no pipeline.
var finals = map[string]string{"succeeded": "success", "failed": "failed", "canceled": "canceled", "refused": ""}

// Check judges a history that has come to rest.
func Check(h History) Verdict {
	c := checker{h: h, pipelines: map[string][]Pipeline{}, cards: map[string][]card{}, sent: map[string]int{}}
	c.read()
	c.pipelinesOnce()
	for _, r := range h.Requests {
		c.request(r)
	}
	c.strangers()
	c.duplicates()
	slices.Sort(c.v.Problems)
	return c.v
}

type checker struct {
	h         History
	v         Verdict
	pipelines map[string][]Pipeline // by token
	cards     map[string][]card     // by token
	sent      map[string]int        // messages by key
}

func (c *checker) problem(format string, args ...any) {
	c.v.Problems = append(c.v.Problems, fmt.Sprintf(format, args...))
}

func (c *checker) read() {
	for _, p := range c.h.Pipelines {
		c.pipelines[p.Token] = append(c.pipelines[p.Token], p)
	}
	for _, m := range c.h.Messages {
		if m.Key == "" {
			c.problem("a message without a key in %s: %q", m.Place.Name, m.Summary)
			continue
		}
		c.sent[m.Key]++
		if !strings.Contains(m.Key, ".card.") {
			continue
		}
		got, ok := readCard(m)
		if !ok {
			c.problem("card %s cannot be read: %q", m.Key, m.Summary)
			continue
		}
		if !strings.HasPrefix(m.Key, got.operation+".") {
			c.problem("card %s shows operation %s", m.Key, got.operation)
		}
		// Of a card and its duplicates the bot keeps one current.
		c.cards[got.token] = append(c.cards[got.token], got)
	}
}

// pipelinesOnce: a key, and a number, belongs to one pipeline.
func (c *checker) pipelinesOnce() {
	keys, numbers := map[string][]int64{}, map[string][]int64{}
	for _, p := range c.h.Pipelines {
		keys[p.Key] = append(keys[p.Key], p.ID)
		numbers[p.Number] = append(numbers[p.Number], p.ID)
	}
	for what, by := range map[string]map[string][]int64{"key": keys, "request number": numbers} {
		for _, name := range slices.Sorted(maps.Keys(by)) {
			if name == "" {
				c.problem("pipelines %v carry no %s", by[name], what)
			} else if len(by[name]) > 1 {
				c.problem("pipelines %v carry the same %s %s", by[name], what, name)
			}
		}
	}
}

// request: what was promised to the person who asked.
func (c *checker) request(r Request) {
	ps := c.pipelines[r.Token]
	switch r.Said {
	case Accepted:
		c.v.Accepted++
	case Unanswered:
		c.v.Unanswered++
	case Refused:
		c.v.Refused++
		if len(ps) > 0 {
			c.problem("request %s was refused, and GitLab has pipelines %v of it", r.Token, ids(ps))
		}
	}
	if len(ps) > 1 {
		c.problem("request %s has pipelines %v, want one", r.Token, ids(ps))
	}
	for _, p := range ps {
		if p.Instance != r.Instance {
			c.problem("pipeline %d of request %s is for instance %s, want %s", p.ID, r.Token, p.Instance, r.Instance)
		}
	}
	cards := c.cards[r.Token]
	current := c.current(r, cards)
	excused := r.Canceled && current.state == "canceled"
	if r.Said == Accepted && len(ps) == 0 && !excused {
		c.problem("request %s (operation %s) was accepted, and GitLab has no pipeline of it; its card says %q", r.Token, r.Operation, current.state)
	}
	if (r.Said == Accepted || len(ps) > 0) && len(cards) == 0 {
		c.problem("request %s (operation %s) has no card", r.Token, r.Operation)
		return
	}
	if len(cards) > 0 {
		c.card(r, current, ps)
	}
}

// current picks the card that the bot keeps up to date: of duplicates, the one that has ended.
func (c *checker) current(r Request, cards []card) card {
	var current card
	operations := map[string]bool{}
	for _, k := range cards {
		operations[k.operation] = true
		if _, final := finals[k.state]; final || current.state == "" {
			current = k
		}
	}
	if len(operations) > 1 {
		c.problem("request %s became operations %v", r.Token, slices.Sorted(maps.Keys(operations)))
	}
	return current
}

// card: it is final, it is right, and its end was told in the thread.
func (c *checker) card(r Request, k card, ps []Pipeline) {
	if r.Operation != "" && k.operation != r.Operation {
		c.problem("request %s was answered as operation %s, its card says %s", r.Token, r.Operation, k.operation)
	}
	if k.instance != r.Instance {
		c.problem("the card of %s shows instance %s, want %s", k.operation, k.instance, r.Instance)
	}
	status, final := finals[k.state]
	switch {
	case !final:
		c.problem("the card of %s (request %s) was left %q", k.operation, r.Token, k.state)
		return
	case len(ps) == 0 && (k.state == "succeeded" || k.state == "failed"):
		c.problem("the card of %s says %s, and GitLab has no pipeline", k.operation, k.state)
	case len(ps) > 0 && ps[0].Status != status:
		c.problem("the card of %s says %s, and pipeline %d is %s", k.operation, k.state, ps[0].ID, ps[0].Status)
	}
	if c.sent[k.operation+".end.1"] == 0 {
		c.problem("the end of %s was not told in its thread", k.operation)
	}
	if k.state == "failed" && c.sent[k.operation+".log.1"] == 0 {
		c.problem("%s failed, and its log is not in its thread", k.operation)
	}
}

// strangers: nothing happened that nobody asked for, and nothing runs on.
func (c *checker) strangers() {
	asked := map[string]bool{}
	for _, r := range c.h.Requests {
		asked[r.Token] = true
	}
	for _, p := range c.h.Pipelines {
		if !asked[p.Token] {
			c.problem("pipeline %d belongs to no request (%q)", p.ID, p.Token)
		}
		if !slices.Contains([]string{"success", "failed", "canceled"}, p.Status) {
			c.problem("pipeline %d was left %s", p.ID, p.Status)
		}
	}
	for _, token := range slices.Sorted(maps.Keys(c.cards)) {
		if !asked[token] {
			c.problem("a card belongs to no request (%q)", token)
		}
	}
}

// duplicates: where the bot may look, there are none. Elsewhere each kill and each lost answer
// costs at most one.
func (c *checker) duplicates() {
	type in struct {
		place *Place
		key   string
	}
	count := map[in]int{}
	for _, m := range c.h.Messages {
		count[in{m.Place, m.Key}]++
	}
	extra, allowed := 0, c.h.Kills
	lost := map[*Place]bool{}
	for i, n := range count {
		if !lost[i.place] {
			lost[i.place] = true
			allowed += i.place.Lost
		}
		if n == 1 {
			continue
		}
		c.v.Duplicates += n - 1
		if i.place.Findable {
			c.problem("%d messages %s stand in %s, where the bot can look", n, i.key, i.place.Name)
		} else {
			extra += n - 1
		}
	}
	if extra > allowed {
		c.problem("%d duplicates of messages, want at most %d: one for each kill and each lost answer", extra, allowed)
	}
}

func ids(ps []Pipeline) []int64 {
	out := make([]int64, len(ps))
	for i, p := range ps {
		out[i] = p.ID
	}
	return out
}
