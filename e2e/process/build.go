package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Variables that name programs built elsewhere, such as one with the race detector in it. Their
// names do not begin with OCIM_, which would be taken for settings.
const (
	programVariable = "E2E_OCIM"
	crashVariable   = "E2E_OCIM_CRASH"
)

// Program is the path of the bot's program, built from this source tree once in each test binary.
// With crash it is the build in which crash points kill; see ocim/internal/crash. It may be called
// from many goroutines. A program that the environment names (E2E_OCIM, E2E_OCIM_CRASH) is taken as
// it is.
func Program(crash bool) (string, error) {
	if crash {
		return crashProgram()
	}
	return program()
}

var (
	program      = sync.OnceValues(func() (string, error) { return build("ocim", programVariable) })
	crashProgram = sync.OnceValues(func() (string, error) { return build("ocim-crash", crashVariable, "ocim_crash") })
)

// build makes bin/name. The go command decides what is to be compiled; linking takes a second or
// two. Test binaries that build at the same time do not see each other's halves.
func build(name, variable string, tags ...string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return filepath.Abs(path)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	tags = append([]string{"sqlite_omit_load_extension", "osusergo", "netgo"}, tags...) // as in the Makefile
	out := filepath.Join(root, "bin", name)
	part := fmt.Sprintf("%s.%d", out, os.Getpid())
	// Once for all tests of the binary, so that no test's context may end it.
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w", "-tags", strings.Join(tags, ","), "-o", part, "./cmd/bot")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, text)
	}
	return out, os.Rename(part, out)
}

var errNoModule = errors.New("there is no go.mod of ocim above the working directory")

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module ocim\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errNoModule
		}
		dir = filepath.Dir(dir)
	}
}
