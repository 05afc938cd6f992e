//go:build ocim_crash

// Package crash names the instants at which a kill must do no harm; see crash.go.
package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var passages atomic.Int64 //nolint:gochecknoglobals // one count for the process, only in the crash build

// Point kills the process when OCIM_CRASH_AT names it and it has been passed often enough.
func Point(name string) {
	if log := os.Getenv("OCIM_CRASH_LOG"); log != "" {
		if f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(name + "\n")
			_ = f.Close()
		}
	}
	want, count, _ := strings.Cut(os.Getenv("OCIM_CRASH_AT"), ":")
	if want != name {
		return
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		n = 1
	}
	if passages.Add(1) == n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
