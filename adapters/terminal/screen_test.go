package terminal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"ocim/adapters/chat"
)

// vt is a terminal as ECMA-48 and the DEC private codes define it, as far as the painter uses them.
// It notes what a real one would do wrong: unknown codes, writing over the edge, scrolling.
type vt struct {
	mu            sync.Mutex
	width, height int
	cells         [][]rune
	row, col      int // from 0
	savedRow      int
	savedCol      int
	bottom        int // last row that scrolls
	alternate     bool
	problems      []string
}

func newVT(width, height int) *vt {
	v := &vt{width: width, height: height, bottom: height - 1}
	for range height {
		v.cells = append(v.cells, slices.Repeat([]rune{' '}, width))
	}
	return v
}

func (v *vt) size() (width, height int) { return v.width, v.height }

// Write implements [io.Writer]. Each call of the painter holds whole codes.
func (v *vt) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := string(p)
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if r == '\x1b' {
			n = v.escape(s)
		} else {
			v.put(r)
		}
		s = s[n:]
	}
	return len(p), nil
}

func (v *vt) put(r rune) {
	switch {
	case r == '\n' && v.row == v.bottom:
		v.problems = append(v.problems, "the screen scrolled")
	case r == '\n':
		v.row, v.col = v.row+1, 0
	case r < ' ':
		v.problems = append(v.problems, fmt.Sprintf("control character %q", r))
	case v.col >= v.width:
		v.problems = append(v.problems, fmt.Sprintf("row %d is too long", v.row))
	default:
		v.cells[v.row][v.col] = r
		v.col++
	}
}

func (v *vt) escape(s string) int {
	switch {
	case strings.HasPrefix(s, "\x1b7"):
		v.savedRow, v.savedCol = v.row, v.col
		return 2
	case strings.HasPrefix(s, "\x1b8"):
		v.row, v.col = v.savedRow, v.savedCol
		return 2
	}
	end := strings.IndexFunc(s[min(2, len(s)):], func(r rune) bool { return r >= '@' && r <= '~' })
	if !strings.HasPrefix(s, "\x1b[") || end < 0 {
		v.problems = append(v.problems, fmt.Sprintf("unknown code %.10q", s))
		return 1
	}
	args, final := s[2:2+end], s[2+end]
	one, two, _ := strings.Cut(args, ";")
	a, _ := strconv.Atoi(one)
	b, _ := strconv.Atoi(two)
	switch {
	case final == 'm':
	case final == 'H':
		v.row, v.col = min(max(a-1, 0), v.height-1), min(max(b-1, 0), v.width-1)
	case final == 'K':
		for i := v.col; i < v.width; i++ {
			v.cells[v.row][i] = ' '
		}
	case final == 'J' && args == "2":
		for i := range v.cells {
			v.cells[i] = slices.Repeat([]rune{' '}, v.width)
		}
	case final == 'r' && args != "":
		v.bottom = b - 1
	case final == 'r':
		v.bottom = v.height - 1
	case args == "?1049":
		v.alternate = final == 'h'
	default:
		v.problems = append(v.problems, fmt.Sprintf("unknown code %q", s[:3+end]))
	}
	return 3 + end
}

// rows is what the screen shows.
func (v *vt) rows() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]string, len(v.cells))
	for i, r := range v.cells {
		out[i] = strings.TrimRight(string(r), " ")
	}
	return out
}

func (v *vt) trouble() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.problems)
}

func (v *vt) at() (row, col int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.row, v.col
}

func TestCardsChangeInPlace(t *testing.T) {
	t.Parallel()
	v := newVT(60, 20)
	d := newDesk(t, v, v.size)
	d.enter()
	ref := d.post(t, card("running", "Cancel"))
	d.post(t, card("another one"))
	d.prompt()
	before := v.rows()
	if !v.alternate || !slices.Contains(before, "┃ deploy demo · running") || before[19] != "alice>" {
		t.Fatalf("got screen\n%s\nwant the cards and the line to type on", strings.Join(before, "\n"))
	}
	_, _ = fmt.Fprint(v, "dep") // what the person types while a card changes
	row, col := v.at()
	if err := d.Update(t.Context(), d.Here(), ref, card("succeeded", "Cancel")); err != nil {
		t.Fatal(err)
	}
	after := v.rows()
	for i := range before {
		want := strings.ReplaceAll(before[i], "running", "succeeded")
		if i == 19 {
			want = "alice> dep"
		}
		if after[i] != want {
			t.Errorf("row %d: got %q, want %q", i, after[i], want)
		}
	}
	if r, c := v.at(); r != row || c != col {
		t.Errorf("the cursor went from %d,%d to %d,%d", row, col, r, c)
	}
	if p := v.trouble(); len(p) > 0 {
		t.Errorf("got %q, want a clean screen", p)
	}
}

func TestScreenKeepsTheNewestInSight(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{40, 8}, {20, 6}, {200, 60}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			v := newVT(size[0], size[1])
			d := newDesk(t, v, v.size)
			d.enter()
			long := card(strings.Repeat("a long state with <b> and *stars* ", 20), "Cancel", "Logs", "Retry")
			long.Blocks = append(long.Blocks,
				chat.Block{Kind: chat.Code, Code: strings.Repeat("x", 500) + "\x1b[2J\x1b[5;5H\r\nnext"},
				chat.Block{Kind: chat.Divider},
				chat.Block{Kind: chat.Paragraph, Text: chat.Text{{Style: chat.Bold, Text: strings.Repeat("bold words ", 30)}, {Style: chat.Break}, {Style: chat.Mention, Text: "alice"}}},
				chat.Block{Kind: chat.Context, Text: chat.Text{{Text: "small\nprint"}}})
			for range 30 {
				d.post(t, long)
			}
			d.post(t, card("the newest"))
			d.prompt()
			rows := v.rows()
			if !slices.ContainsFunc(rows, func(r string) bool { return strings.Contains(r, "demo") }) || !strings.HasPrefix(rows[size[1]-1], "alice>") {
				t.Errorf("got screen\n%s\nwant the newest card and the line to type on", strings.Join(rows, "\n"))
			}
			if p := v.trouble(); len(p) > 0 {
				t.Errorf("got %q, want a clean screen", p[:min(5, len(p))])
			}
		})
	}
}

func TestDialogOnTheScreen(t *testing.T) {
	t.Parallel()
	v := newVT(60, 24)
	d := newDesk(t, v, v.size)
	d.asks(deploy())
	d.enter()
	d.types(t, "deploy")
	d.prompt()
	rows := v.rows()
	if !slices.Contains(rows, "╭─ Deploy") || !slices.Contains(rows, "│   2) shop on eu") || rows[23] != "Instance>" {
		t.Errorf("got screen\n%s\nwant the dialog", strings.Join(rows, "\n"))
	}
	d.types(t, "1")
	d.prompt()
	rows = v.rows()
	if !slices.Contains(rows, "│ Instance: eu/demo") || rows[23] != "Version>" {
		t.Errorf("got screen\n%s\nwant the next question", strings.Join(rows, "\n"))
	}
	d.types(t, ":esc")
	if rows = v.rows(); slices.ContainsFunc(rows, func(r string) bool { return strings.HasPrefix(r, "╭─") }) {
		t.Errorf("got screen\n%s\nwant the dialog gone", strings.Join(rows, "\n"))
	}
}

func TestLeaveGivesTheScreenBack(t *testing.T) {
	t.Parallel()
	v := newVT(60, 20)
	d := newDesk(t, v, v.size)
	d.enter()
	d.leave()
	if v.alternate || v.bottom != 19 {
		t.Errorf("got alternate %v and rows to %d, want the terminal as it was", v.alternate, v.bottom)
	}
	out := &buffer{}
	d = newDesk(t, out, v.size)
	d.post(t, card("running"))
	out.take()
	d.leave()
	if got := out.take(); !strings.Contains(got, "deploy demo · running") {
		t.Errorf("got %q, want what stood on the screen", got)
	}
}

func TestNothingIsPaintedAfterLeaving(t *testing.T) {
	t.Parallel()
	out := &buffer{}
	d := newDesk(t, out, func() (int, int) { return 40, 20 })
	d.asks(deploy())
	d.enter()
	ref := d.post(t, card("running"))
	d.post(t, card(strings.Repeat("wide ", 30)))
	out.take()
	d.leave()
	for l := range strings.SplitSeq(out.take(), "\n") {
		if n := visible(l); n > 40 {
			t.Errorf("got a line of %d columns on a screen of 40: %q", n, l)
		}
	}
	if err := d.Update(t.Context(), d.Here(), ref, card("succeeded")); err != nil {
		t.Fatal(err)
	}
	d.types(t, "deploy") // opens a dialog
	d.prompt()
	if got := out.take(); got != "" {
		t.Errorf("got %q on the shell's screen, want nothing", got)
	}
}

func TestDialogIsBrokenIntoLines(t *testing.T) {
	t.Parallel()
	v := newVT(40, 24)
	d := newDesk(t, v, v.size)
	question := deploy()
	question.Intro = strings.Repeat("what it has changed so far stays as it is, ", 4)
	d.asks(question)
	d.enter()
	d.types(t, "deploy")
	d.prompt()
	rows := v.rows()
	if got := strings.Count(strings.ReplaceAll(strings.Join(rows, " "), "│ ", ""), "stays as it is"); got < 3 {
		t.Errorf("got screen\n%s\nwant all of the question", strings.Join(rows, "\n"))
	}
	if p := v.trouble(); len(p) > 0 {
		t.Errorf("got %q, want a clean screen", p)
	}
}

func TestTinyScreensAreLeftAlone(t *testing.T) {
	t.Parallel()
	out := &buffer{}
	d := newDesk(t, out, func() (int, int) { return 10, 3 })
	d.post(t, card("running"))
	if got := out.take(); got != "" {
		t.Errorf("got %q, want nothing painted", got)
	}
}
