// Command bench measures the real bot against a bare handler and prints one table: for each goal
// what was measured, as a ratio to the bare handler in the same round where that makes sense. What
// the rows mean, and the last numbers, stand in docs/performance.md.
//
// It runs bin/ocim, the bare handler (this program again) and the load with its stubs of Slack and
// GitLab, the servers on one processor and the load on another. A missed goal is printed; wrong
// answers make it fail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == bareArgument {
		if err := serveBare(); err != nil {
			fmt.Fprintln(os.Stderr, "bare handler:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what all measurements share.
type bench struct {
	rounds   int
	duration time.Duration
	short    bool
	verbose  bool
	program  string
	profiles string
	dir      string
	pinned   bool
	patience time.Duration // left for waiting until others leave the machine alone
	peers    *peers
	out, err io.Writer
	wrong    []string
}

// row is one line of the table.
type row struct {
	goal, what, want, got string
	ok                    bool
	note                  string
}

// part measures one or more goals.
type part struct {
	goals string
	run   func(context.Context) ([]row, error)
}

var errWrong = errors.New("there were wrong answers")

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	b := &bench{out: out, err: errOut}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.IntVar(&b.rounds, "rounds", 5, "rounds that are compared; the median counts")
	fs.DurationVar(&b.duration, "duration", 2*time.Second, "of one stretch of load")
	fs.BoolVar(&b.short, "short", false, "a rough look, in about 40 s on a quiet machine")
	fs.BoolVar(&b.verbose, "v", false, "tell each stretch")
	fs.DurationVar(&b.patience, "patience", 30*time.Second, "how long to wait in all for a quiet machine")
	fs.StringVar(&b.program, "program", "bin/ocim", "the bot")
	fs.StringVar(&b.profiles, "profile", "", "a folder for profiles of the bot, made with perf; numbers are worse meanwhile")
	only := fs.String("only", "", "goals to measure, such as B1,B4; empty is all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if b.short {
		b.rounds, b.duration, b.patience = min(b.rounds, 2), min(b.duration, 700*time.Millisecond), min(b.patience, 3*time.Second)
	}
	var err error
	if b.program, err = filepath.Abs(b.program); err != nil {
		return err
	}
	if _, err := os.Stat(b.program); err != nil {
		return fmt.Errorf("%w: make build makes it", err)
	}
	if err := pin(); err != nil {
		fmt.Fprintf(errOut, "not pinned to processors, so ratios say less: %v\n", err)
	} else {
		b.pinned = true
	}
	// With one processor, more would only take turns.
	runtime.GOMAXPROCS(2)
	if b.dir, err = os.MkdirTemp("", "ocim-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.program, err = install(b.program, b.dir); err != nil {
		return err
	}
	if b.peers, err = startPeers(); err != nil {
		return err
	}
	defer b.peers.close()
	rows, err := b.all(ctx, strings.Split(strings.ToUpper(*only), ","))
	b.table(rows)
	if len(b.wrong) > 0 {
		err = errors.Join(err, fmt.Errorf("%w:\n%s", errWrong, strings.Join(b.wrong, "\n")))
	}
	return err
}

// install copies the program, as an installation does. The kernel may hold a file that the linker has
// just written in huge pages, and would count all of it as resident memory whatever is used.
func install(program, dir string) (string, error) {
	in, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer in.Close()
	path := filepath.Join(dir, "ocim")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		return "", err
	}
	// By hand, since the kernel may share the blocks and the cached pages of a file that it copies.
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 32<<10))
	return path, errors.Join(err, out.Close())
}

func (b *bench) all(ctx context.Context, only []string) (rows []row, err error) {
	for _, p := range []part{
		{"B1,B2", b.commands}, {"B4", b.hooks}, {"B3,B7", b.people}, {"B5", b.starts}, {"B6", b.memory}, {"B8", b.cards}, {"B9", b.idleCPU},
	} {
		wanted := func(goal string) bool { return only[0] == "" || slices.Contains(only, goal) }
		if !slices.ContainsFunc(strings.Split(p.goals, ","), wanted) {
			continue
		}
		got, err := p.run(ctx)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", p.goals, err)
		}
		for _, r := range got {
			if wanted(r.goal) {
				rows = append(rows, r)
			}
		}
	}
	slices.SortStableFunc(rows, func(x, y row) int { return strings.Compare(x.goal, y.goal) })
	return rows, nil
}

func (b *bench) table(rows []row) {
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "goal\twhat\twanted\tmeasured\t\tnote")
	for _, r := range rows {
		verdict := "ok"
		if !r.ok {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.goal, r.what, r.want, r.got, verdict, r.note)
	}
	_ = w.Flush()
}

func (b *bench) debugf(format string, args ...any) {
	if b.verbose {
		fmt.Fprintf(b.err, format+"\n", args...)
	}
}
