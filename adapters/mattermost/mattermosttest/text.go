package mattermosttest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/mattermost/mattermost/server/public/shared/markdown"
)

// Live is what of a post's text does something: it notifies, can be clicked,
// or makes the reader's client fetch something. Foreign text in a post should
// add nothing to it.
type Live struct {
	Mentions []string // without the @: "bob", "channel", "here", "all"
	Links    []string // destinations
	Images   []string // sources
	Hashtags []string // with the #
	Channels []string // without the ~
}

// LiveMentions are the names whose mention in the post would notify people,
// whether or not such a user exists. As on the server, the message and each
// attachment's text, pretext and field values count; title and fallback do
// not, and neither does code (Mattermost: app.getExplicitMentions).
func LiveMentions(p Post) []string { return LiveText(p).Mentions }

// LiveText finds everything live in a post. Links, images, hashtags and
// channel links are looked for also where mentions do not count: titles,
// field titles, author and footer show Markdown too.
func LiveText(p Post) Live {
	var l Live
	notifying, shown := textsOf(p)
	for _, text := range notifying {
		l.Mentions = append(l.Mentions, mentionsIn(text)...)
	}
	for _, text := range append(notifying, shown...) {
		l.inspect(text)
	}
	for _, list := range []*[]string{&l.Mentions, &l.Links, &l.Images, &l.Hashtags, &l.Channels} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return l
}

// textsOf divides a post's texts into those whose mentions notify and those
// that are only shown.
func textsOf(p Post) (notifying, shown []string) {
	notifying = append(notifying, p.Message)
	for _, a := range p.Attachments() {
		notifying = append(notifying, a.Pretext, a.Text)
		shown = append(shown, a.Title, a.AuthorName, a.Footer)
		for _, f := range a.Fields {
			if v, isText := f.Value.(string); isText {
				notifying = append(notifying, v)
			}
			shown = append(shown, f.Title)
		}
	}
	return notifying, shown
}

// plain returns the runs of ordinary text of a Markdown text: no code, no
// link destinations, neighbouring pieces joined.
func plain(text string) []string {
	var out []string
	run := ""
	markdown.Inspect(text, func(node any) bool {
		t, isText := node.(*markdown.Text)
		if isText {
			run += t.Text
			return false
		}
		if run != "" {
			out = append(out, run)
		}
		run = ""
		return true
	})
	if run != "" {
		out = append(out, run)
	}
	return out
}

func mentionsIn(text string) []string {
	var out []string
	for _, run := range plain(text) {
		words := strings.FieldsFunc(run, func(r rune) bool {
			return !strings.ContainsRune(":.-_@", r) && !unicode.IsLetter(r) && !unicode.IsNumber(r)
		})
		for _, word := range words {
			word = strings.TrimLeft(word, ":.-_")
			name := strings.ToLower(strings.TrimRight(word, ":.-_"))
			if strings.HasPrefix(name, "@") && len(name) > 1 {
				out = append(out, name[1:])
				continue
			}
			// "x.@bob" notifies bob: the server tries the parts too.
			for _, part := range strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(":.-", r) }) {
				if strings.HasPrefix(part, "@") && len(part) > 1 {
					out = append(out, part[1:])
				}
			}
		}
	}
	return out
}

func (l *Live) inspect(text string) {
	markdown.Inspect(text, func(node any) bool {
		switch n := node.(type) {
		case *markdown.InlineLink:
			l.Links = append(l.Links, n.Destination())
		case *markdown.ReferenceLink:
			l.Links = append(l.Links, n.Destination())
		case *markdown.Autolink:
			l.Links = append(l.Links, n.Destination())
		case *markdown.InlineImage:
			l.Images = append(l.Images, n.Destination())
		case *markdown.ReferenceImage:
			l.Images = append(l.Images, n.Destination())
		}
		return true
	})
	for _, run := range plain(text) {
		l.Hashtags = append(l.Hashtags, strings.Fields(hashtags(run))...)
		for _, m := range channelLink().FindAllStringSubmatch(run, -1) {
			l.Channels = append(l.Channels, strings.TrimRight(m[1], "-_."))
		}
	}
}

func channelLink() *regexp.Regexp { return regexp.MustCompile(`(?:^|[^\w~])~([a-z0-9][\w.-]*)`) }

// hashtags lists the hashtags of a text as a post's hashtags field does: a
// letter first, a letter or digit last, and between them also dash,
// underscore and dot (Mattermost: model.ParseHashtags).
func hashtags(text string) string {
	wordRune := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	var out []string
	for word := range strings.FieldsSeq(text) {
		word = strings.TrimLeftFunc(word, func(r rune) bool { return r != '#' && !wordRune(r) })
		word = strings.TrimRightFunc(word, func(r rune) bool { return !wordRune(r) })
		tag := strings.TrimLeft(word, "#")
		runes := []rune(tag)
		if tag == word || len(runes) < 2 || !unicode.IsLetter(runes[0]) {
			continue
		}
		if !strings.ContainsFunc(tag, func(r rune) bool { return !strings.ContainsRune("-_.", r) && !wordRune(r) }) {
			out = append(out, "#"+tag)
		}
	}
	return strings.Join(out, " ")
}

// Read is the post as text on a screen, for tests that compare what a person
// sees: message, then each attachment with its fields, then buttons in
// [brackets] and menus in <angle brackets> with their choices.
func Read(p Post) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if strings.TrimSpace(text) != "" {
			b.WriteString(text + "\n")
		}
	}
	line("%s", p.Message)
	for _, a := range p.Attachments() {
		line("%s", a.Pretext)
		line("%s", a.AuthorName)
		line("%s", a.Title)
		line("%s", a.Text)
		for _, f := range a.Fields {
			line("%s: %v", f.Title, f.Value)
		}
		line("%s", a.Footer)
		var actions []string
		for _, act := range a.Actions {
			actions = append(actions, readAction(act))
		}
		line("%s", strings.Join(actions, " "))
	}
	return strings.TrimRight(b.String(), "\n")
}

func readAction(a Action) string {
	if a.Type != "select" {
		return "[" + a.Name + "]"
	}
	choices := []string{a.Name}
	for _, o := range a.Options {
		choices = append(choices, o.Text)
	}
	if a.DataSource != "" {
		choices = append(choices, a.DataSource)
	}
	return "<" + strings.Join(choices, " | ") + ">"
}
