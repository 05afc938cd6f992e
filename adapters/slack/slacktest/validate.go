package slacktest

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"
)

// Limits of messages and Block Kit. Sources: docs.slack.dev, reference/block-kit and the method
// pages; comments in @slack/types 3.2.0. Lengths count characters; Slack does not say which unit it
// means, and this package counts Unicode code points.
const (
	maxMessageBlocks = 50
	maxViewBlocks    = 100
	maxViewJSON      = 250_000
	maxStack         = 3 // modals of one user at a time
	maxAttachments   = 100
	// maxPostText is where chat.postMessage cuts text, maxUpdateText where chat.update refuses it.
	maxPostText   = 40_000
	maxUpdateText = 4_000
	// maxBlockText is the sum of all text in the blocks of one message. Observed, not documented:
	// slackapi/bolt-js#2509.
	maxBlockText    = 13_200
	maxMarkdownText = 12_000
	maxSnippet      = 1 << 20
)

// Problem is one violation, pointing into the arguments.
type Problem struct {
	Text    string // as Slack words it, as far as observed
	Pointer string // JSON pointer
}

func (p Problem) String() string { return p.Text + " [json-pointer:" + p.Pointer + "]" }

// ValidateMessage checks the blocks of a message as chat.postMessage does, and returns every
// problem found. The sum of all text is not part of it: that has an error of its own.
func ValidateMessage(blocks []Object) []Problem {
	c := newChecker(maxMessageBlocks)
	c.blocks("/blocks", toAny(blocks))
	return c.problems
}

// ValidateView checks a modal or a Home tab as views.open and views.publish do.
func ValidateView(view Object) []Problem {
	c := newChecker(maxViewBlocks)
	c.view("/view", view)
	return c.problems
}

// blockText is the sum of all text in blocks.
func blockText(blocks []Object) int {
	n := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case Object:
			if t, ok := v["text"].(string); ok {
				n += utf8.RuneCountInString(t)
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	for _, b := range blocks {
		walk(b)
	}
	return n
}

// A rule checks the value at path.
type rule func(c *checker, path string, v any)

// A shape is the set of fields that an object may have. Fields whose name begins with "!" are
// required; fields not named are refused.
type shape map[string]rule

type checker struct {
	maxBlocks int
	problems  []Problem
	blockIDs  map[string]bool
	actionIDs map[string]bool // of the block being checked
	shapes    map[string]shape
	elements  map[string]shape
	inputs    bool // an input block was seen
}

func newChecker(maxBlocks int) *checker {
	return &checker{
		maxBlocks: maxBlocks, blockIDs: map[string]bool{},
		shapes: blockShapes(), elements: elementShapes(),
	}
}

func (c *checker) fail(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Text: fmt.Sprintf(format, args...), Pointer: path})
}

// object checks o against sh. The type field is always allowed.
func (c *checker) object(path string, o Object, sh shape) {
	for _, name := range sortedKeys(sh) {
		if required, ok := requiredName(name); ok {
			if _, present := o[required]; !present {
				c.fail(path, "missing required field: %s", required)
			}
		}
	}
	for _, key := range sortedKeys(o) {
		if key == "type" {
			continue
		}
		r, ok := sh["!"+key]
		if !ok {
			r, ok = sh[key]
		}
		if !ok {
			c.fail(path, "invalid additional property: %s", key)
			continue
		}
		r(c, path+"/"+key, o[key])
	}
}

func requiredName(name string) (string, bool) {
	if name != "" && name[0] == '!' {
		return name[1:], true
	}
	return "", false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// asObject reports a value that is not an object.
func (c *checker) asObject(path string, v any) (Object, bool) {
	o, ok := v.(Object)
	if !ok {
		c.fail(path, "must be an object")
	}
	return o, ok
}

// asList reports a value that is not a list of lo to hi items.
func (c *checker) asList(path string, v any, lo, hi int) ([]any, bool) {
	vs, ok := v.([]any)
	if !ok {
		c.fail(path, "must be an array")
		return nil, false
	}
	if len(vs) < lo {
		c.fail(path, "must have at least %d items", lo)
	}
	if len(vs) > hi {
		c.fail(path, "no more than %d items allowed", hi)
	}
	return vs, true
}

// blocks checks the list of blocks at path.
func (c *checker) blocks(path string, v any) {
	vs, ok := c.asList(path, v, 0, c.maxBlocks)
	if !ok {
		return
	}
	for i, v := range vs {
		c.block(path+"/"+strconv.Itoa(i), v)
	}
}

func (c *checker) block(path string, v any) {
	b, ok := c.asObject(path, v)
	if !ok {
		return
	}
	typ := str(b, "type")
	if typ == "" {
		c.fail(path, "missing required field: type")
		return
	}
	sh, ok := c.shapes[typ]
	if !ok {
		c.fail(path+"/type", "unsupported type: %s", typ)
		return
	}
	if id := str(b, "block_id"); id != "" {
		if c.blockIDs[id] {
			c.fail(path+"/block_id", "block_id %s already exists", id)
		}
		c.blockIDs[id] = true
	}
	c.actionIDs = map[string]bool{}
	c.object(path, b, sh)
	switch typ {
	case "input":
		c.inputs = true
	case "section":
		if b["text"] == nil && b["fields"] == nil {
			c.fail(path, "missing required field: text")
		}
	case "image":
		if (b["image_url"] == nil) == (b["slack_file"] == nil) {
			c.fail(path, "must provide exactly one of image_url and slack_file")
		}
	}
}

// view checks a modal or a Home tab.
func (c *checker) view(path string, view Object) {
	if len(mustJSON(view)) > maxViewJSON {
		c.fail(path, "must be less than %d bytes", maxViewJSON+1)
		return
	}
	sh := shape{
		"!blocks":          func(c *checker, p string, v any) { c.blocks(p, v) },
		"private_metadata": text(0, 3000), "callback_id": text(0, 255), "external_id": text(0, 255),
	}
	switch typ := str(view, "type"); typ {
	case "modal":
		sh["!title"] = plain(1, 24)
		sh["submit"], sh["close"] = plain(1, 24), plain(1, 24)
		sh["clear_on_close"], sh["notify_on_close"], sh["submit_disabled"] = boolean, boolean, boolean
	case "home":
	case "":
		c.fail(path, "missing required field: type")
		return
	default:
		c.fail(path+"/type", "unsupported type: %s", typ)
		return
	}
	c.object(path, view, sh)
	if c.inputs && str(view, "type") == "modal" && view["submit"] == nil {
		c.fail(path, "missing required field: submit")
	}
}

// text is a JSON string of lo to hi characters.
func text(lo, hi int) rule {
	return func(c *checker, path string, v any) {
		t, ok := v.(string)
		if !ok {
			c.fail(path, "must be a string")
			return
		}
		n := utf8.RuneCountInString(t)
		if n < lo {
			c.fail(path, "must be more than %d characters", lo-1)
		}
		if n > hi {
			c.fail(path, "must be less than %d characters", hi+1)
		}
	}
}

func boolean(c *checker, path string, v any) {
	if _, ok := v.(bool); !ok {
		c.fail(path, "must be a boolean")
	}
}

// anything is for fields that this package does not look into.
func anything(*checker, string, any) {}

// number is an integer from lo to hi.
func number(lo, hi float64) rule {
	return func(c *checker, path string, v any) {
		n, ok := v.(float64)
		if !ok || n < lo || n > hi {
			c.fail(path, "must be an integer between %g and %g", lo, hi)
		}
	}
}

func oneOf(allowed ...string) rule {
	return func(c *checker, path string, v any) {
		if s, _ := v.(string); !slices.Contains(allowed, s) {
			c.fail(path, "must be one of %v", allowed)
		}
	}
}

// textObject is a text object of the types named, lo to hi characters. A length violation is
// reported twice, as Slack does: once for the object and once for its text.
func textObject(lo, hi int, types ...string) rule {
	return func(c *checker, path string, v any) {
		o, ok := c.asObject(path, v)
		if !ok {
			return
		}
		if typ := str(o, "type"); !slices.Contains(types, typ) {
			c.fail(path+"/type", "unsupported type: %s", typ)
			return
		}
		sh := shape{"!text": text(lo, hi)}
		if str(o, "type") == "mrkdwn" {
			sh["verbatim"] = boolean
		} else {
			sh["emoji"] = boolean
		}
		before := len(c.problems)
		c.object(path, o, sh)
		if len(c.problems) > before {
			p := Problem{Text: "failed to match all allowed schemas", Pointer: path}
			c.problems = slices.Insert(c.problems, before, p)
		}
	}
}

func plain(lo, hi int) rule  { return textObject(lo, hi, "plain_text") }
func either(lo, hi int) rule { return textObject(lo, hi, "plain_text", "mrkdwn") }

// items is a list of lo to hi values that follow r.
func items(lo, hi int, r rule) rule {
	return func(c *checker, path string, v any) {
		vs, ok := c.asList(path, v, lo, hi)
		if !ok {
			return
		}
		for i, v := range vs {
			r(c, path+"/"+strconv.Itoa(i), v)
		}
	}
}

// form is an object of one fixed shape.
func form(sh shape) rule {
	return func(c *checker, path string, v any) {
		if o, ok := c.asObject(path, v); ok {
			c.object(path, o, sh)
		}
	}
}

// element is one of the named block elements.
func element(types ...string) rule {
	return func(c *checker, path string, v any) {
		o, ok := c.asObject(path, v)
		if !ok {
			return
		}
		typ := str(o, "type")
		sh, known := c.elements[typ]
		if !known || !slices.Contains(types, typ) {
			c.fail(path+"/type", "unsupported type: %s", typ)
			return
		}
		if id := str(o, "action_id"); id != "" {
			if c.actionIDs[id] {
				c.fail(path+"/action_id", "action_id %s already exists in this block", id)
			}
			c.actionIDs[id] = true
		}
		c.object(path, o, sh)
		if (typ == "static_select" || typ == "multi_static_select") && (o["options"] == nil) == (o["option_groups"] == nil) {
			c.fail(path, "must provide exactly one of options and option_groups")
		}
	}
}
