//go:build e2e

package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const serverModule = "github.com/mattermost/mattermost/server/v8"

// build returns the path of the server's program. It is the program that make e2e-prepare builds, by the same command: the go command
// itself knows whether there is anything to do. Tests in other processes that
// want the program at the same time wait for each other.
func build(ctx context.Context) (program string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "e2e", "mattermost", "server")
	bin := filepath.Join(root, "e2e", "mattermost", "bin")
	program = filepath.Join(bin, "mattermost")
	unlock, err := lock(bin)
	if err != nil {
		return "", err
	}
	defer unlock()

	// The program reads its translations and templates from the module cache,
	// so that the module must be there even when the program is.
	if out, err := goTool(ctx, source, "mod", "download", serverModule); err != nil {
		return "", fmt.Errorf("%w: module %s: %w\n%s", errUnavailable, serverModule, err, out)
	}
	if out, err := goTool(ctx, source, "list", "-deps", "-f", "{{.Standard}}", "."); err != nil {
		return "", fmt.Errorf("%w: modules of the server: %w\n%s", errUnavailable, err, out)
	}
	// No -trimpath: the compiled-in source path is how the program finds the
	// module cache.
	if out, err := goTool(ctx, source, "build", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "."); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
}

// lock keeps other processes out of the directory, which it makes, until the
// returned function is called. It ends with the process as well.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// goTool runs the go command in dir, without this module's flags.
func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// moduleRoot finds the directory of ocim's go.mod above the test.
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
			return "", fmt.Errorf("no go.mod of ocim above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
