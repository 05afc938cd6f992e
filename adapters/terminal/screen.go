package terminal

import (
	"fmt"
	"strings"

	"ocim/adapters/chat"
)

// paint draws the newest messages above the line on which the person types. That line lies outside
// the scrolling region and is never touched, so an update cannot eat what is being typed. The
// caller holds the lock.
func (t *Terminal) paint() {
	width, height := t.cfg.Size()
	if t.left || width < 20 || height < 6 {
		return
	}
	rows := height - 2
	var lines []string
	for _, p := range t.posts {
		lines = append(lines, t.layout(p, width-1)...)
		lines = append(lines, "")
	}
	if t.dialog != nil {
		lines = append(lines, wrapDialog(t.dialog.lines(), width-1)...)
	}
	if len(lines) > rows {
		lines = lines[len(lines)-rows:]
	}
	var b strings.Builder
	b.WriteString("\x1b7")
	for i := range rows {
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[K", i+1)
		if i < len(lines) {
			b.WriteString(lines[i] + reset) // a line that was broken may have left its style open
		}
	}
	fmt.Fprintf(&b, "\x1b[%d;1H\x1b[K%s\x1b8", rows+1, t.style(dim, strings.Repeat("─", min(width-1, 60))))
	fmt.Fprint(t.cfg.Out, b.String())
}

// prompt clears the typing line and puts the cursor on it.
func (t *Terminal) prompt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cfg.Size == nil || t.left {
		return
	}
	width, height := t.cfg.Size()
	t.paint()
	ask := t.who.Name + "> "
	if t.dialog != nil {
		ask = t.dialog.ask() + " "
	}
	fmt.Fprintf(t.cfg.Out, "\x1b[%d;1H\x1b[K%s", height, t.style(bold, chat.Cut(ask, max(width/2, 10))))
}

// enter switches to a screen of our own and keeps the typing line out of what scrolls.
func (t *Terminal) enter() {
	if t.cfg.Size == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = false
	_, height := t.cfg.Size()
	fmt.Fprintf(t.cfg.Out, "\x1b[?1049h\x1b[2J\x1b[1;%dr", max(height-1, 2))
}

// leave gives the screen back and prints what stood there, so that nothing is lost from sight. What
// changes afterwards is not shown: the screen belongs to the shell again.
func (t *Terminal) leave() {
	if t.cfg.Size == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = true
	width, _ := t.cfg.Size()
	fmt.Fprint(t.cfg.Out, "\x1b[r\x1b[?1049l")
	for _, p := range t.posts {
		fmt.Fprintln(t.cfg.Out, strings.Join(t.layout(p, max(width-1, 20)), "\n"))
	}
}
