//go:build e2e

package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocim/internal/clock"
)

// process is a child that dies with the test, and with the test's process
// too.
type process struct {
	log   string
	ended chan struct{} // closed when err is set
	err   error
}

// run starts cmd with its output in the file log, and kills it when the test
// ends.
func run(tb testing.TB, cmd *exec.Cmd, log string) (*process, error) {
	tb.Helper()
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = f, f
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &process{log: log, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		_ = f.Close()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		if tb.Failed() {
			tb.Logf("the last lines of %s:\n%s", filepath.Base(log), p.tail())
		}
	})
	return p, nil
}

// tail is the end of what the process wrote, long lines cut.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	lines = lines[max(0, len(lines)-10):]
	for i := range lines {
		lines[i] = lines[i][:min(len(lines[i]), 300)]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

// startPostgres runs a PostgreSQL of the test's own on loopback, without any
// care for its data, and returns its data source name.
func startPostgres(ctx context.Context, tb testing.TB) (string, error) {
	tb.Helper()
	bin, err := postgresBin()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "ocim-postgres-")
	if err != nil {
		return "", err
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	who, err := postgresUser(dir)
	if err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"),
		"--pgdata", data, "--username", "ocim", "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, who
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return "", err
	}
	port := strings.TrimPrefix(addr, "127.0.0.1:")
	server := exec.Command(filepath.Join(bin, "postgres"),
		"-D", data, "-p", port, "-h", "127.0.0.1", "-k", dir,
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	server.Dir, server.SysProcAttr = dir, who
	p, err := run(tb, server, filepath.Join(dir, "postgres.log"))
	if err != nil {
		return "", err
	}
	for !strings.Contains(p.tail(), "ready to accept connections") {
		select {
		case <-p.ended:
			return "", fmt.Errorf("it ended: %w\n%s", p.err, p.tail())
		default:
		}
		if err := clock.Sleep(ctx, clock.System{}, 10*time.Millisecond); err != nil {
			return "", fmt.Errorf("not ready: %w\n%s", err, p.tail())
		}
	}
	return "postgres://ocim@" + addr + "/postgres?sslmode=disable&connect_timeout=10", nil
}

// postgresBin finds the newest PostgreSQL that Debian installed.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%w: PostgreSQL (apt-get install postgresql)", errUnavailable)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

// postgresUser gives dir to the user postgres and says how to run as him, if
// we are root, as whom PostgreSQL refuses to run.
func postgresUser(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if uidErr != nil || gidErr != nil {
		return nil, fmt.Errorf("user postgres has the ids %q and %q", u.Uid, u.Gid)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
