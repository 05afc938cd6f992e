package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ocim/internal/clock"
)

// The processors that the server and the generator, with the stubs, run on.
const (
	serverCPU    = 0
	generatorCPU = 1
)

const (
	// tick is the unit of CPU times in /proc: USER_HZ (man 7 time).
	tick = 10 * time.Millisecond
	// disturbance is the share of the machine that others may use while something is measured.
	disturbance = 0.15
)

// pin puts every thread of this process on the generator's processor. Threads that come later
// inherit it.
func pin() error {
	if runtime.NumCPU() < 2 {
		return errors.New("there is one processor only")
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(generatorCPU)
	for range 3 { // a thread may have been made meanwhile
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// pinned writes a program to dir that runs program on the server's processor.
func pinned(dir, program string) (string, error) {
	path := filepath.Join(dir, filepath.Base(program)+"-pinned")
	text := fmt.Sprintf("#!/bin/sh\nexec taskset -c %d '%s' \"$@\"\n", serverCPU, program)
	return path, os.WriteFile(path, []byte(text), 0o700)
}

// load is how much time processors have spent so far.
type load struct {
	busy, total time.Duration
}

// machineLoad reads what all processes together use. Interrupts do not count: those of the loopback
// device are the measured servers' own.
func machineLoad() load {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return load{}
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var l load
	for i, f := range strings.Fields(string(line))[1:] {
		n, _ := strconv.ParseInt(f, 10, 64)
		d := time.Duration(n) * tick
		switch i { // man 5 proc: user nice system idle iowait irq softirq steal guest guest_nice
		case 0, 1, 2, 7:
			l.busy += d
			l.total += d
		case 3, 4, 5, 6:
			l.total += d
		}
	}
	return l
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// idle waits until others leave the machine alone, at most until the patience is used up.
func (b *bench) idle(ctx context.Context) {
	for b.patience > 0 && ctx.Err() == nil {
		from, own, began := machineLoad(), ownCPU(), time.Now()
		if clock.Sleep(ctx, clock.System{}, 300*time.Millisecond) != nil {
			return
		}
		to := machineLoad()
		if float64(to.busy-from.busy-(ownCPU()-own)) < disturbance*float64(to.total-from.total) {
			return
		}
		b.patience -= time.Since(began)
	}
}

// server is something that is measured.
type server interface {
	// address is host:port of its listener.
	address() string
	// cpu is what it has used so far.
	cpu() time.Duration
	stop() error
}

// bare is the yardstick in a process of its own.
type bare struct {
	cmd  *exec.Cmd
	in   io.Closer
	addr string
}

// startBare runs this program again as the bare handler.
func (b *bench) startBare(ctx context.Context) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{self, bareArgument}
	if b.pinned {
		args = append([]string{"taskset", "-c", strconv.Itoa(serverCPU)}, args...)
	}
	s := &bare{cmd: exec.CommandContext(ctx, args[0], args[1:]...)}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the bare handler: %w", err)
	}
	if _, err := fmt.Fscanln(out, &s.addr); err != nil {
		return nil, errors.Join(fmt.Errorf("start the bare handler: %w", err), s.stop())
	}
	return s, nil
}

func (s *bare) address() string { return s.addr }

func (s *bare) cpu() time.Duration { return processCPU(s.cmd.Process.Pid) }

func (s *bare) stop() error {
	err := s.in.Close() // it ends when its input does
	return errors.Join(err, s.cmd.Wait())
}

// processCPU is the time in user and kernel mode of a process that runs. It counts nanoseconds
// where the kernel does, which are needed for short stretches, and steps of 10 ms elsewhere.
func processCPU(pid int) time.Duration {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "task")
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	var sum time.Duration
	for _, t := range tasks {
		// The first field is the time on a processor in ns (Documentation/scheduler/sched-stats.rst).
		if text, err := os.ReadFile(filepath.Join(dir, t.Name(), "schedstat")); err == nil {
			ns, _, _ := strings.Cut(string(text), " ")
			n, _ := strconv.ParseInt(ns, 10, 64)
			sum += time.Duration(n)
		}
	}
	return sum
}

// stretch is one stretch of load with what it cost the server.
type stretch struct {
	outcome
	cpu       time.Duration
	disturbed bool // others used too much of the machine meanwhile
}

// perRequest is the server's CPU time for one good answer.
func (s stretch) perRequest() time.Duration {
	return s.cpu / time.Duration(max(1, len(s.took)))
}

// measure runs f, which puts load on s, in a quiet moment. Wrong answers are remembered: they fail
// the bench.
func (b *bench) measure(ctx context.Context, what string, s server, f func() outcome) stretch {
	b.idle(ctx)
	runtime.GC()
	done := b.record(ctx, what, s)
	before, own, used := machineLoad(), ownCPU(), s.cpu()
	st := stretch{outcome: f()}
	st.cpu = s.cpu() - used
	done()
	after := machineLoad()
	others := after.busy - before.busy - (ownCPU() - own) - st.cpu
	st.disturbed = float64(others) > disturbance*float64(after.total-before.total)
	if st.bad > 0 {
		b.wrong = append(b.wrong, fmt.Sprintf("%s: %d of %d answers were wrong; the first: %s", what, st.bad, st.bad+len(st.took), st.first))
	}
	b.debugf("%-28s %9.0f/s  p50 %-9v p99 %-9v cpu/request %-8v others %4.1f%%", what, st.rate(), st.quantile(.5).Round(time.Microsecond),
		st.quantile(.99).Round(time.Microsecond), st.perRequest().Round(100*time.Nanosecond), 100*float64(others)/float64(max(1, after.total-before.total)))
	return st
}

// record writes a profile of a bot to the folder that was asked for, with perf, until the function
// that it returns is called.
func (b *bench) record(ctx context.Context, what string, s server) func() {
	r, ok := s.(*bot)
	if !ok || b.profiles == "" {
		return func() {}
	}
	name := filepath.Join(b.profiles, strings.NewReplacer(" ", "-", ",", "").Replace(what)+".perf")
	cmd := exec.CommandContext(ctx, "perf", "record", "-q", "-g", "-o", name, "-p", strconv.Itoa(r.pid()))
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(b.err, "no profile:", err)
		return func() {}
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}
