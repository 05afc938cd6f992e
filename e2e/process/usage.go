package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what the program has of the machine.
type Usage struct {
	// RSS is the resident memory in bytes, PeakRSS the most it was in this life.
	RSS, PeakRSS int64
	// CPU is the time spent in user and kernel mode in this life. The kernel counts in steps of
	// 10 ms.
	CPU time.Duration
	// FDs is the number of open file descriptors, Threads that of threads of the kernel.
	FDs, Threads int
}

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every Linux that Go runs on
// (man 5 proc, man 7 time).
const tick = 10 * time.Millisecond

// Usage reads /proc. It fails when the program does not run.
func (b *Bot) Usage() (Usage, error) {
	r := b.current()
	if r == nil || r.over() {
		return Usage{}, ErrEnded
	}
	var u Usage
	dir := filepath.Join("/proc", strconv.Itoa(r.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, fmt.Errorf("read the bot's memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.ParseInt(fields[0], 10, 64)
		switch name {
		case "VmRSS":
			u.RSS = n << 10
		case "VmHWM":
			u.PeakRSS = n << 10
		case "Threads":
			u.Threads = int(n)
		}
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("read the bot's CPU time: %w", err)
	}
	// The command's name stands in parentheses and may hold spaces. Behind it utime and stime are the
	// 12th and 13th field.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return u, fmt.Errorf("read the bot's CPU time: %d fields in stat, want 13 or more", len(fields))
	}
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("read the bot's CPU time: %w", err)
		}
		u.CPU += time.Duration(n) * tick
	}
	open, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return u, fmt.Errorf("count the bot's descriptors: %w", err)
	}
	u.FDs = len(open)
	return u, nil
}
