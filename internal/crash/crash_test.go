package crash_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// build makes the program that passes the points. It is built once for each kind of build.
func build(t *testing.T, tags string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "pass")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-o", out, "./testdata/pass")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return out
}

func TestPointKillsWhereItIsAsked(t *testing.T) {
	t.Parallel()
	path := build(t, "ocim_crash")
	all := "first 1,second 1,first 2,second 2,first 3,second 3"
	for _, tc := range []struct {
		name, at, said string
		killed         bool
	}{
		{"not asked", "", all, false},
		{"at the first passage", "first", "", true},
		{"before what follows", "second", "first 1", true},
		{"at the third passage", "second:3", "first 1,second 1,first 2,second 2,first 3", true},
		{"never passed so often", "second:4", all, false},
		{"no such point", "third", all, false},
		{"part of a name", "sec", all, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "passed")
			cmd := exec.CommandContext(t.Context(), path)
			cmd.Env = append(os.Environ(), "OCIM_CRASH_AT="+tc.at, "OCIM_CRASH_LOG="+log)
			out, err := cmd.Output()
			if got := strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ","); got != tc.said {
				t.Errorf("it said %q, want %q", got, tc.said)
			}
			var exit *exec.ExitError
			killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
			if killed != tc.killed || !tc.killed && err != nil {
				t.Errorf("it ended with %v, want killed %t", err, tc.killed)
			}
			passed, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Count(tc.said, ",") + 1
			if tc.said == "" {
				want = 0
			}
			if tc.killed {
				want++
			}
			if got := strings.Count(string(passed), "\n"); got != want {
				t.Errorf("the log names %d passages, want %d:\n%s", got, want, passed)
			}
		})
	}
}

// Ordinary builds do not even look.
func TestPointDoesNothingInOrdinaryBuilds(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), build(t, ""))
	log := filepath.Join(t.TempDir(), "passed")
	cmd.Env = append(os.Environ(), "OCIM_CRASH_AT=first", "OCIM_CRASH_LOG="+log)
	out, err := cmd.Output()
	if err != nil || strings.Count(string(out), "\n") != 6 {
		t.Errorf("got %q, %v, want it to run to its end", out, err)
	}
	if _, err := os.Stat(log); err == nil {
		t.Error("it wrote a log of passages")
	}
}
