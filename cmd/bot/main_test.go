package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestMistypedCommandLineIsUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, 0, "Available Commands"},
		{"version", []string{"version"}, 0, "ocim dev"},
		{"unknown command", []string{"sevre"}, exitUsage, `unknown command "sevre"`},
		{"argument too many", []string{"version", "now"}, exitUsage, `unknown command "now"`},
		{"unknown flag", []string{"serve", "--nope"}, exitUsage, "--nope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if code := run(t.Context(), tt.args, strings.NewReader(""), &out, &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("got exit code %d and %q, want %d and %q", code, out.String(), tt.code, tt.want)
			}
		})
	}
}
