// Package process runs the bot's real program as a child, for tests and measurements that a bot
// inside the test cannot stand for: kills, signals, start times, memory. It writes ocim.yaml, starts
// the program, waits until it serves, and ends it in the ways in which programs end.
//
// It needs Linux, for /proc and for children that die with their parent.
package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"ocim/internal/clock"
)

// Options are what a Bot is made of.
type Options struct {
	// Dir is an empty folder for ocim.yaml, the store and the log.
	Dir string
	// Crash takes the build with crash points.
	Crash bool
	// Program is the program's path; when empty, it is built.
	Program string
	// Env is added to the child's environment, as NAME=value. The child inherits nothing but PATH
	// and TMPDIR.
	Env []string
	// Config becomes ocim.yaml.
	Config Config
}

// Bot is the program with its folder, running or not. It can be started again and again on the same
// store and addresses. Its methods may be called from many goroutines, but one at a time of Start,
// Kill and Terminate.
type Bot struct {
	opt           Options
	public, admin string
	env           []string

	mu  sync.Mutex
	run *run
}

// run is one life of the program.
type run struct {
	cmd    *exec.Cmd
	began  time.Time
	upAt   time.Time
	up     chan struct{} // closed when it says that it serves
	ended  chan struct{} // closed when it has ended and all it wrote is in the log
	exit   *os.ProcessState
	failed error // what kept us from waiting for it
}

// Errors of Start and of what needs a running program.
var (
	ErrEnded   = errors.New("the bot has ended")
	ErrRunning = errors.New("the bot is running already")
)

// New writes ocim.yaml and picks the addresses. It starts nothing. The caller calls Kill in the end,
// whatever happened.
func New(ctx context.Context, o Options) (*Bot, error) {
	if o.Program == "" {
		var err error
		if o.Program, err = Program(o.Crash); err != nil {
			return nil, err
		}
	}
	b := &Bot{opt: o}
	var err error
	if b.public, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if b.admin, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	return b, b.SetConfig(o.Config)
}

// SetConfig writes ocim.yaml anew, for the next Start.
func (b *Bot) SetConfig(c Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, env := c.text(b.public, b.admin, b.Database())
	b.env = env
	if err := os.WriteFile(b.path("ocim.yaml"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

func (b *Bot) path(name string) string { return filepath.Join(b.opt.Dir, name) }

// PublicURL is the address for chats and GitLab, without a trailing slash. It is known before the
// first Start and stays.
func (b *Bot) PublicURL() string { return "http://" + b.public }

// AdminURL is the address of /healthz, /readyz and /metrics, without a trailing slash.
func (b *Bot) AdminURL() string { return "http://" + b.admin }

// Database is the path of the store's file.
func (b *Bot) Database() string { return b.path("ocim.db") }

// LogFile is the path of the file with all that the program wrote, in all its lives.
func (b *Bot) LogFile() string { return b.path("ocim.log") }

// Logs is the content of LogFile; empty when there is none.
func (b *Bot) Logs() string {
	text, err := os.ReadFile(b.LogFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

// Start runs the program and waits until it serves, which the program says in its log. The error is
// ErrEnded when it ends before that; a kill at a crash point does so. When ctx ends first the
// program is killed. env is added to the environment for this life only, such as
// OCIM_CRASH_AT=name.
func (b *Bot) Start(ctx context.Context, env ...string) error {
	b.mu.Lock()
	if b.run != nil && !b.run.over() {
		b.mu.Unlock()
		return ErrRunning
	}
	r, err := b.launch(env)
	if err == nil {
		b.run = r
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("start %s: %w", b.opt.Program, err)
	}
	select {
	case <-r.up:
		return nil
	case <-r.ended:
		select {
		case <-r.up: // it served, and has ended since
			return nil
		default:
		}
		return fmt.Errorf("%w before it served: %s", ErrEnded, r.exit)
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("wait until the bot serves: %w", context.Cause(ctx)), b.Kill())
	}
}

// launch starts the program with its output in the log. The output goes through a pipe, so that the
// line that says it is up is seen at once.
func (b *Bot) launch(env []string) (*run, error) {
	log, err := os.OpenFile(b.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	// Not CommandContext: the program outlives the context that Start waits with.
	cmd := exec.Command(b.opt.Program, "serve", "--config", b.path("ocim.yaml"))
	cmd.Dir = b.opt.Dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, b.env...)
	cmd.Env = append(append(cmd.Env, b.opt.Env...), env...)
	cmd.Stdout, cmd.Stderr = in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r := &run{cmd: cmd, began: clock.System{}.Now(), up: make(chan struct{}), ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = in.Close() // the child has its own
		started <- err
		if err != nil {
			return
		}
		r.copy(out, log)
		r.failed = cmd.Wait()
		r.exit = cmd.ProcessState
		close(r.ended)
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, out.Close(), log.Close())
	}
	return r, nil
}

// copy moves what the program writes into the log until the program ends, and closes both.
func (r *run) copy(out io.ReadCloser, log io.WriteCloser) {
	defer func() { _, _ = out.Close(), log.Close() }()
	lines := bufio.NewReader(out)
	serves := false
	for {
		line, err := lines.ReadBytes('\n')
		_, _ = log.Write(line)
		if !serves && saysUp(line) {
			serves, r.upAt = true, clock.System{}.Now()
			close(r.up)
		}
		if err != nil {
			return
		}
	}
}

// saysUp knows the line that cmd/bot logs when both listeners are open and all parts run.
func saysUp(line []byte) bool {
	var record struct {
		Msg string `json:"msg"`
	}
	return json.Unmarshal(line, &record) == nil && record.Msg == "ocim is up"
}

func (r *run) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (b *Bot) current() *run {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.run
}

// Ended is closed when the program of the last Start has ended. Before the first Start it is nil.
func (b *Bot) Ended() <-chan struct{} {
	if r := b.current(); r != nil {
		return r.ended
	}
	return nil
}

// Running says whether the program is there.
func (b *Bot) Running() bool {
	r := b.current()
	return r != nil && !r.over()
}

// Kill sends SIGKILL and waits until the program has ended. A program that has ended is no error,
// nor is one that was never started.
func (b *Bot) Kill() error {
	r := b.current()
	if r == nil {
		return nil
	}
	if err := r.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the bot: %w", err)
	}
	<-r.ended
	return nil
}

// Signal sends a signal to the program and does not wait.
func (b *Bot) Signal(s os.Signal) error {
	r := b.current()
	if r == nil || r.over() {
		return ErrEnded
	}
	return r.cmd.Process.Signal(s)
}

// Terminate sends SIGTERM and waits until the program has ended or ctx does; a program that does
// not end in time goes on. It returns the exit code.
func (b *Bot) Terminate(ctx context.Context) (code int, err error) {
	if err := b.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	return b.Wait(ctx)
}

// Wait waits until the program has ended and returns its exit code, which is -1 after a signal.
func (b *Bot) Wait(ctx context.Context) (code int, err error) {
	r := b.current()
	if r == nil {
		return -1, ErrEnded
	}
	select {
	case <-r.ended:
	case <-ctx.Done():
		return -1, fmt.Errorf("wait for the end of the bot: %w", context.Cause(ctx))
	}
	if exit := (*exec.ExitError)(nil); r.failed != nil && !errors.As(r.failed, &exit) {
		return -1, r.failed
	}
	return r.exit.ExitCode(), nil
}

// Restart kills the program if it runs, and starts it again.
func (b *Bot) Restart(ctx context.Context, env ...string) error {
	if err := b.Kill(); err != nil {
		return err
	}
	return b.Start(ctx, env...)
}

// Began is when the program of the last Start was started.
func (b *Bot) Began() time.Time {
	if r := b.current(); r != nil {
		return r.began
	}
	return time.Time{}
}

// UpAfter is how long the last Start took from the fork to the program's word that it serves; zero
// if it has not given it.
func (b *Bot) UpAfter() time.Duration {
	r := b.current()
	if r == nil {
		return 0
	}
	select {
	case <-r.up:
		return r.upAt.Sub(r.began)
	default:
		return 0
	}
}

// Tail is the end of the log, n lines at most and each of them cut, for messages of failed tests.
func (b *Bot) Tail(n int) string {
	lines := strings.Split(strings.TrimSpace(b.Logs()), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, l := range lines {
		lines[i] = l[:min(len(l), 400)]
	}
	return strings.Join(lines, "\n")
}

// Ports are picked below those that the kernel gives to outgoing connections (32768 and above, by
// net.ipv4.ip_local_port_range), so that no connection takes one while the bot is down.
const firstPort, lastPort = 20000, 32000

// freeAddress finds a loopback address on which nothing listens.
func freeAddress(ctx context.Context) (string, error) {
	for range 200 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		return addr, l.Close()
	}
	return "", fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}
