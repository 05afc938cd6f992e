package chat

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func plain(s string) Text { return Text{{Text: s}} }

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, markup, summary string
		want                  []Block
	}{
		{"nothing", "", "", nil},
		{"blank lines", "\n \n\r\n", "", nil},
		{"a paragraph is its own summary", "hello", "hello", []Block{{Kind: Paragraph, Text: plain("hello")}}},
		{"lines join to a paragraph", "one\ntwo", "one two", []Block{{Kind: Paragraph, Text: Text{{Text: "one"}, {Style: Break}, {Text: "two"}}}}},
		{"a blank line divides paragraphs", "one\n\ntwo", "one", []Block{{Kind: Paragraph, Text: plain("one")}, {Kind: Paragraph, Text: plain("two")}}},
		{"a summary of its own", "! *sum* mary\n# head", "sum mary", []Block{{Kind: Heading, Text: plain("head")}}},
		{"a heading joins nothing", "# one\n# two\nthree", "one", []Block{
			{Kind: Heading, Text: plain("one")}, {Kind: Heading, Text: plain("two")}, {Kind: Paragraph, Text: plain("three")},
		}},
		{"small print joins", "> a\n> b", "a b", []Block{{Kind: Context, Text: Text{{Text: "a"}, {Style: Break}, {Text: "b"}}}}},
		{"fields join", "| A | 1\n| *B* | `2`", "", []Block{{Kind: Fields, Fields: []Entry{
			{Label: "A", Text: plain("1")}, {Label: "B", Text: Text{{Style: Mono, Text: "2"}}},
		}}}},
		{"an empty value", "| A | ", "", []Block{{Kind: Fields, Fields: []Entry{{Label: "A"}}}}},
		{"a bar in a value", `| A | 1 | 2 \| 3`, "", []Block{{Kind: Fields, Fields: []Entry{{Label: "A", Text: plain("1 | 2 | 3")}}}}},
		{"a bar in a label", `| A\|B | 1`, "", []Block{{Kind: Fields, Fields: []Entry{{Label: "A|B", Text: plain("1")}}}}},
		{"a field without a value is text", "| A", "| A", []Block{{Kind: Paragraph, Text: plain("| A")}}},
		{"code keeps its markup", "\t*a*  \n\t\n\t# b", "", []Block{{Kind: Code, Code: "*a*\n\n# b"}}},
		{"a line across", "a\n---\nb", "a", []Block{{Kind: Paragraph, Text: plain("a")}, {Kind: Divider}, {Kind: Paragraph, Text: plain("b")}}},
		{"signs without a space are text", "!a\n#b\n>c\n|d\n----", "!a #b >c |d ----", []Block{{Kind: Paragraph, Text: Text{
			{Text: "!a"}, {Style: Break}, {Text: "#b"}, {Style: Break}, {Text: ">c"}, {Style: Break}, {Text: "|d"}, {Style: Break}, {Text: "----"},
		}}}},
		{"carriage returns go", "# head\r\ntext\r\n", "head", []Block{{Kind: Heading, Text: plain("head")}, {Kind: Paragraph, Text: plain("text")}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, summary := Parse(tt.markup)
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("blocks (-got +want):\n%s", diff)
			}
			if summary != tt.summary {
				t.Errorf("got summary %q, want %q", summary, tt.summary)
			}
		})
	}
}

func TestInline(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, markup string
		want         Text
	}{
		{"plain", "a b", plain("a b")},
		{"styles", "*a* _b_ `c`", Text{{Style: Bold, Text: "a"}, {Text: " "}, {Style: Italic, Text: "b"}, {Text: " "}, {Style: Mono, Text: "c"}}},
		{"a link", "[x](https://a.example/y)", Text{{Style: Link, Text: "x", URL: "https://a.example/y"}}},
		{"an escaped address", `[x](https://a.example/\-\-\~y)`, Text{{Style: Link, Text: "x", URL: "https://a.example/--~y"}}},
		{"a link that may not be", "[x](javascript:alert)", plain("x")},
		{"a link to a file", "[x](file:///etc/passwd)", plain("x")},
		{"half a link", "[x](https://a.example", plain("[x](https://a.example")},
		{"brackets", "[x] (y)", plain("[x] (y)")},
		{"an escaped bracket in a label", `[a\]b](https://a.example)`, Text{{Style: Link, Text: "a]b", URL: "https://a.example"}}},
		{"a mention", "<@U1|ann>", Text{{Style: Mention, User: "U1", Text: "ann"}}},
		{"a mention without a name", "<@U1>", Text{{Style: Mention, User: "U1"}}},
		{"escaped characters in a mention", `<@U\>1|a\|b>`, Text{{Style: Mention, User: "U>1", Text: "a|b"}}},
		{"not a mention", "<!channel>", plain("<!channel>")},
		{"one mark", "2 * 3 and a_b", plain("2 * 3 and a_b")},
		{"nothing between marks", "** __ ``", plain("** __ ``")},
		{"escaped", `\*a\* \\ \[x\]\(y\)`, plain(`*a* \ [x](y)`)},
		{"a backslash at the end", `a\`, plain(`a\`)},
		{"an escaped mark inside", `*a\*b*`, Text{{Style: Bold, Text: "a*b"}}},
		{"marks do not nest", "*a _b_*", Text{{Style: Bold, Text: "a _b_"}}},
		{"runes", "é*ü*", Text{{Text: "é"}, {Style: Bold, Text: "ü"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(Inline(tt.markup), tt.want); diff != "" {
				t.Errorf("got other spans (-got +want):\n%s", diff)
			}
		})
	}
}

// hostileParts is what attacks on the markup are made of.
func hostileParts() []string {
	return []string{
		"*", "_", "`", "[", "]", "(", ")", "<", ">", "#", "|", "!", "-", "---", "~", "@", "\\", "\\\\", "\n", "\r\n", "\t", " ", "! ", "# ", "> ", "| ", "a", "é", "😀",
		"https://evil.example", "[x](https://evil.example)", "<@U0ANN0001|x>", "<!channel>", "@here", "\x00", "\x1b[31m", "\u202e", "\u200b", "\u2028", "\u0085", "\xff", "\xf0\x9f",
		"{{.ID}}", "%s", "&amp;", "1.", "=",
	}
}

func hostileString(r *rand.Rand) string {
	parts := hostileParts()
	var b strings.Builder
	for range 1 + r.IntN(7) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

// checkForeign checks that a foreign text, wherever a template prints it, stays the text that it is
// and changes nothing around it.
func checkForeign(t *testing.T, s string) {
	t.Helper()
	clean := Clean(s)
	for _, line := range []struct {
		name, before, after string
		want                []Block
	}{
		{"alone", "", "", nil},
		{"in a sentence", "a ", " b", []Block{{Kind: Paragraph, Text: plain("a " + clean + " b")}}},
		{"in a heading", "# x", "y", []Block{{Kind: Heading, Text: plain("x" + clean + "y")}}},
		{"in small print", "> x", "y", []Block{{Kind: Context, Text: plain("x" + clean + "y")}}},
		{"as a label", "| x", "y | v", []Block{{Kind: Fields, Fields: []Entry{{Label: "x" + clean + "y", Text: plain("v")}}}}},
		{"as a value", "| l | x", "y", []Block{{Kind: Fields, Fields: []Entry{{Label: "l", Text: plain("x" + clean + "y")}}}}},
		{"in bold", "*x", "y*", []Block{{Kind: Paragraph, Text: Text{{Style: Bold, Text: "x" + clean + "y"}}}}},
		{"in italics", "_x", "y_", []Block{{Kind: Paragraph, Text: Text{{Style: Italic, Text: "x" + clean + "y"}}}}},
		{"in code", "`x", "y`", []Block{{Kind: Paragraph, Text: Text{{Style: Mono, Text: "x" + clean + "y"}}}}},
		{"as a link's label", "[x", "y](https://a.example)", []Block{{Kind: Paragraph, Text: Text{{Style: Link, Text: "x" + clean + "y", URL: "https://a.example"}}}}},
		{"as a name", "<@U1|x", "y>", []Block{{Kind: Paragraph, Text: Text{{Style: Mention, User: "U1", Text: "x" + clean + "y"}}}}},
		{"as an id", "<@x", "y|n>", []Block{{Kind: Paragraph, Text: Text{{Style: Mention, User: "x" + clean + "y", Text: "n"}}}}},
	} {
		got, summary := Parse(line.before + Foreign(s).String() + line.after)
		if line.want == nil { // spaces at its ends may go
			if len(got) > 1 || len(got) == 1 && (got[0].Kind != Paragraph || len(got[0].Text) != 1 || got[0].Text[0].Style != Plain) {
				t.Errorf("%q %s: got %+v, want one plain paragraph", s, line.name, got)
			}
			if strings.TrimSpace(summary) != strings.TrimSpace(clean) {
				t.Errorf("%q %s: got summary %q, want %q", s, line.name, summary, clean)
			}
			continue
		}
		if diff := cmp.Diff(got, line.want); diff != "" {
			t.Errorf("%q %s (-got +want):\n%s", s, line.name, diff)
		}
	}
}

func TestForeignTextChangesNothingAroundIt(t *testing.T) {
	t.Parallel()
	for _, p := range hostileParts() {
		checkForeign(t, p)
	}
	r := rand.New(rand.NewPCG(2, 14))
	for range 5_000 {
		checkForeign(t, hostileString(r))
	}
}

// FuzzForeign puts any text into every place of the markup. That the platforms show the same text
// without bringing it to life is fuzzed beside their renderers.
func FuzzForeign(f *testing.F) {
	for _, p := range hostileParts() {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, s string) { checkForeign(t, s) })
}

func FuzzParse(f *testing.F) {
	for _, p := range []string{
		"! s\n# h\n> c\n| a | b\n---\n\tcode\ntext *b* _i_ `m` [l](https://a.example) <@U1|n>", "[", "<@", "*", "`", "\\", "| |", "|  | ", "\xff*\xff*", "[](https://a.example)",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, markup string) {
		blocks, _ := Parse(markup)
		for _, b := range blocks {
			if b.Kind < Heading || b.Kind > Divider {
				t.Errorf("got a block of kind %d", b.Kind)
			}
			for _, s := range b.Text {
				if s.Style == Link && !SafeURL(s.URL) {
					t.Errorf("got a link to %q", s.URL)
				}
				if s.Style < Plain || s.Style > Break {
					t.Errorf("got a span of style %d", s.Style)
				}
			}
		}
	})
}

func TestSafeURL(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]bool{
		"https://gitlab.example.org/a/-/pipelines/7": true, "http://127.0.0.1:8080/x?y=1&z=%20#f": true, "https://a.example": true, "HTTPS://A.EXAMPLE/": true,
		"https://xn--bcher-kva.example/~x/b_c!": true, "https://[::1]/": false,
		"": false, "a.example": false, "//a.example": false, "/path": false, "https://": false, "https:///x": false, "javascript:alert(1)": false, "JaVaScRiPt:alert(1)": false,
		"data:text/html,x": false, "file:///etc/passwd": false, "mailto:a@b.example": false, "https://user@a.example": false, "https://user:pass@a.example": false,
		"https://a.example/<x>": false, "https://a.example/a|b": false, "https://a.example/a b": false, "https://a.example/\n": false, "https://a.example/é": false,
		"https://a.example/`x`": false, "https://a.example/(x)": false, "https://a.example/*x*": false, "https://a.example/\x00": false, "https://a.example/\u202e": false,
		"https://a.example/%zz": false, " https://a.example": false, "https://a.example/" + strings.Repeat("x", 2000): false, "ftp://a.example": false,
	} {
		if got := SafeURL(target); got != want {
			t.Errorf("%q: got %v, want %v", target, got, want)
		}
	}
}

func TestForeignIsValid(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 5))
	for range 5_000 {
		s := hostileString(r)
		if got := Foreign(s).String(); !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\t\x00\x1b") {
			t.Fatalf("%q: got %q, want one clean line", s, got)
		}
	}
}
