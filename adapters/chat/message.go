package chat

import "errors"

// ErrCannotFind is returned by Platform.Find where looking is impossible.
var ErrCannotFind = errors.New("this platform cannot look up a message")

// Message is one message, neutral of any platform.
type Message struct {
	// Key finds the message again; it is stored with the message where the platform can.
	Key string
	// Summary is the plain text of notifications and screen readers. Never empty.
	Summary string
	Blocks  []Block
	Buttons []Button
	// Tone colours the message where the platform can.
	Tone Tone
	// Broadcast tells a reply in a thread to the whole channel as well.
	Broadcast bool
}

// Tone is the mood of a message.
type Tone string

// The tones.
const (
	ToneNeutral Tone = ""
	ToneBusy    Tone = "busy"
	ToneGood    Tone = "good"
	ToneBad     Tone = "bad"
	ToneWarn    Tone = "warn"
)

// BlockKind says how a block is laid out.
type BlockKind int

// The kinds of blocks.
const (
	Heading BlockKind = iota + 1
	Paragraph
	Fields  // label and text, side by side where there is room
	Code    // preformatted lines
	Context // small print
	Divider
)

// Block is one piece of a message's layout.
type Block struct {
	Kind   BlockKind
	Text   Text    // Heading, Paragraph, Context
	Fields []Entry // Fields
	Code   string  // Code: foreign text, shown as it is
}

// Entry is a labelled value.
type Entry struct {
	Label string // ours
	Text  Text
}

// Text is a run of styled spans. Every Span's Text is foreign as far as a renderer is concerned:
// it is escaped for the platform, so no span can become a mention, a link or markup by itself.
type Text []Span

// Style says how a span is shown.
type Style int

// The styles.
const (
	Plain Style = iota
	Bold
	Italic
	Mono
	Link    // to URL
	Mention // of the person with the id User; Text is the name where mentions are impossible
	Break   // a line break; Text is empty
)

// Span is a piece of text in one style.
type Span struct {
	Style Style
	Text  string
	URL   string
	User  string
}

// Button is one thing that a person can press.
type Button struct {
	Label string // at most 30 characters
	Verb  string // stable word for tests and metrics, letters only
	Token string // sealed by us; opaque to the platform. Empty for a button that only opens URL
	URL   string
	Style ButtonStyle
}

// ButtonStyle colours a button.
type ButtonStyle string

// The button styles.
const (
	ButtonPlain   ButtonStyle = ""
	ButtonPrimary ButtonStyle = "primary"
	ButtonDanger  ButtonStyle = "danger"
)

// Dialog is a form in a window of its own, or a question: without Fields it has an Intro.
type Dialog struct {
	Name   string // tells the handler which dialog was sent
	Title  string // at most 24 characters
	Submit string // label of the button, at most 24 characters
	State  string // sealed by us, comes back with the values; at most 2,000 bytes
	Intro  string // plain text above the fields
	Fields []Field
}

// FieldKind is the kind of an input field.
type FieldKind string

// The kinds of fields.
const (
	FieldText   FieldKind = "text"
	FieldLines  FieldKind = "lines"
	FieldChoice FieldKind = "choice" // one of Options
	FieldSearch FieldKind = "search" // options come from the handler as the person types; Options are the first ones
)

// Field is one input of a dialog.
type Field struct {
	Name     string // letters, digits and _
	Label    string // at most 24 characters
	Hint     string // at most 150 characters
	Kind     FieldKind
	Options  []Option
	Default  string
	Optional bool
	MaxLen   int // 0: the platform's limit
}

// Option is one choice.
type Option struct {
	Label string // at most 75 characters
	Value string // at most 75 characters
}
