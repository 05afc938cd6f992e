//go:build e2e

package rig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const serverModule = "github.com/mattermost/mattermost/server/v8"

// build returns the server's program and whether it had to be built now. The
// program is kept in e2e/mattermost/bin under a name that changes with its
// source, its modules and the Go release.
func build(ctx context.Context) (program string, built bool, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", false, err
	}
	source := filepath.Join(root, "e2e", "mattermost", "server")
	sum := sha256.New()
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", false, err
		}
		sum.Write(b)
	}
	sum.Write([]byte(runtime.Version()))
	program = filepath.Join(root, "e2e", "mattermost", "bin", "mattermost-"+hex.EncodeToString(sum.Sum(nil))[:12])

	// The program reads its translations and templates from the module cache,
	// so that the module must be there even when the program is.
	if out, err := goTool(ctx, source, "mod", "download", serverModule); err != nil {
		return "", false, fmt.Errorf("%w: module %s: %w\n%s", errUnavailable, serverModule, err, out)
	}
	if _, err := os.Stat(program); err == nil {
		return program, false, nil
	}
	if out, err := goTool(ctx, source, "list", "-deps", "-f", "{{.Standard}}", "."); err != nil {
		return "", false, fmt.Errorf("%w: modules of the server: %w\n%s", errUnavailable, err, out)
	}
	// No -trimpath: the compiled-in source path is how the program finds the
	// module cache.
	part := fmt.Sprintf("%s.%d", program, os.Getpid())
	if out, err := goTool(ctx, source, "build", "-ldflags=-s -w", "-o", part, "."); err != nil {
		return "", false, fmt.Errorf("%w\n%s", err, out)
	}
	return program, true, os.Rename(part, program)
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
