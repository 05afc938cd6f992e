package config

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite testdata and sample.yaml")

// TestLoad runs testdata/*.txt. A case holds ocim.yaml, optionally env (lines NAME=value) and
// files/NAME; want is the problems, or the warnings and what Print shows. $WORK is the folder of
// the files. The sections good.yaml and good.env are put in front when the case asks for
// them with the lines "+good" in ocim.yaml and env.
func TestLoad(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(cases) == 0 {
		t.Fatalf("got %d cases and error %v, want some", len(cases), err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			runCase(t, name)
		})
	}
}

func runCase(t *testing.T, name string) {
	t.Helper()
	ar, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	var yaml, env, want string
	for _, f := range ar.Files {
		text := strings.ReplaceAll(string(f.Data), "$WORK", work)
		switch {
		case f.Name == "ocim.yaml":
			yaml = text
		case f.Name == "env":
			env = text
		case f.Name == "want":
			want = string(f.Data)
		case strings.HasPrefix(f.Name, "files/"):
			if err := os.WriteFile(filepath.Join(work, strings.TrimPrefix(f.Name, "files/")), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("unknown section %s", f.Name)
		}
	}
	got := outcome(t, include(t, yaml, "testdata/good.yaml"), strings.Split(include(t, env, "testdata/good.env"), "\n"))
	got = strings.ReplaceAll(got, work, "$WORK")
	if *update {
		rewrite(t, name, ar, got)
		return
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got (-), want (+):\n%s", diff)
	}
}

// include replaces the line +good by the text of a file.
func include(t *testing.T, text, file string) string {
	t.Helper()
	if !strings.Contains(text, "+good\n") {
		return text
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(text, "+good\n", string(data), 1)
}

func rewrite(t *testing.T, name string, ar *txtar.Archive, got string) {
	t.Helper()
	files := ar.Files[:0]
	for _, f := range ar.Files {
		if f.Name != "want" {
			files = append(files, f)
		}
	}
	ar.Files = append(files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(ar), 0o600); err != nil {
		t.Fatal(err)
	}
}

// outcome is the problems of a file, or its warnings and effective values.
func outcome(t *testing.T, yaml string, environ []string) string {
	t.Helper()
	cfg, err := Parse("ocim.yaml", []byte(yaml), environ)
	if err != nil {
		if _, ok := errors.AsType[Problems](err); !ok {
			t.Errorf("got an error of type %T, want Problems", err)
		}
		return err.Error() + "\n"
	}
	var b bytes.Buffer
	for _, w := range cfg.Warnings {
		b.WriteString("warning: " + w.String() + "\n")
	}
	if err := cfg.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLoadReadsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, bytes.Repeat([]byte("#"), maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "ocim.yaml")
	if err := os.WriteFile(good, []byte("key: env:K\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "none.yaml")
	for _, tt := range []struct{ name, path, want string }{
		{"missing", missing, missing + ": this file does not exist; begin with a copy of config/sample.yaml"},
		{"folder", dir, dir + ": cannot be read: is a directory"},
		{"large", big, big + ": is larger than 1024 KiB"},
		{"good", good, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(tt.path, []string{"K=" + strings.Repeat("k", minKey)})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOperationOfCluster(t *testing.T) {
	t.Parallel()
	cfg, err := Parse("ocim.yaml", []byte(include(t, "+good\n", "testdata/good.yaml")),
		strings.Split(include(t, "+good\n", "testdata/good.env"), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, cluster, verb string
		ok                  bool
		start, value        string
	}{
		{"default row", "eu", "deploy", true, StartTrigger, "{instance}"},
		{"changed by the project", "shop", "deploy", true, StartPipeline, "{cluster}-{instance}"},
		{"unknown verb", "eu", "explode", false, "", ""},
		{"unknown cluster", "mars", "deploy", false, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			op, ok := cfg.Operation(tt.cluster, tt.verb)
			if ok != tt.ok || op.Start != tt.start || op.Variables["INSTANCE_NAME"] != tt.value {
				t.Errorf("got %v, start %q, INSTANCE_NAME %q; want %v, %q, %q",
					ok, op.Start, op.Variables["INSTANCE_NAME"], tt.ok, tt.start, tt.value)
			}
		})
	}
	if op, _ := cfg.Operation("shop", "deploy"); op.Variables["NEW_INSTANCE_TRIGGER"] != "" {
		t.Errorf("got NEW_INSTANCE_TRIGGER %q, want it removed by null", op.Variables["NEW_INSTANCE_TRIGGER"])
	}
	if op, _ := cfg.Operation("eu", "deploy"); op.Variables["NEW_INSTANCE_TRIGGER"] != "1" {
		t.Error("a project's change reached the table that other projects use")
	}
}

// TestT20_ConfigurationShowsNoSecret looks for every secret of a complete configuration in what is
// printed, and in the problems of a file that is wrong in every place where a secret stands.
func TestT20_ConfigurationShowsNoSecret(t *testing.T) {
	t.Parallel()
	yaml := include(t, "+good\n", "testdata/good.yaml")
	env := strings.Split(include(t, "+good\n", "testdata/good.env"), "\n")
	cfg, err := Parse("ocim.yaml", []byte(yaml), env)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(cfg.Secrets()), strings.Count(yaml, " env:"); got < want {
		t.Errorf("got %d secrets, want the %d of the file and those that projects inherit", got, want)
	}
	shown := outcome(t, yaml, env)
	// The secret itself where a reference belongs: pasted into the file, and by an override.
	plain := yaml
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			plain = strings.ReplaceAll(plain, "env:"+k+"\n", "'"+v+"'\n")
			plain = strings.ReplaceAll(plain, "env:"+k+"]", "'"+v+"']")
		}
	}
	if strings.Contains(plain, "env:") {
		t.Fatalf("got a reference left in the file, want all replaced:\n%s", plain)
	}
	shown += outcome(t, plain, nil)
	for _, s := range cfg.Secrets() {
		shown += outcome(t, yaml, append(env, "OCIM_GITLAB_0_TOKEN="+s.Reveal(), "OCIM_NO_SUCH="+s.Reveal()))
		shown += outcome(t, yaml, append(env, "OCIM_GITLAB_0_URL=https://user:"+s.Reveal()+"@gitlab.com"))
		shown += outcome(t, "key: *"+s.Reveal(), nil)
	}
	for _, s := range cfg.Secrets() {
		if strings.Contains(shown, s.Reveal()) {
			t.Errorf("a secret of %d bytes is shown", s.Len())
		}
	}
}

func TestWorldReadableSecretFile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		mode     os.FileMode
		problems int
		warnings string
	}{
		{"private", 0o600, 0, ""},
		{"readable by everyone", 0o644, 0, "chmod o-rwx"},
		{"writable by everyone", 0o646, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(file, []byte(strings.Repeat("k", minKey)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, tt.mode); err != nil {
				t.Fatal(err)
			}
			cfg, err := Parse("ocim.yaml", []byte("key: file:"+file), nil)
			problems, _ := errors.AsType[Problems](err)
			if len(problems) != tt.problems {
				t.Fatalf("got %v, want %d problems", err, tt.problems)
			}
			if cfg != nil && !strings.Contains(cfg.Warnings.Error(), tt.warnings) {
				t.Errorf("got warnings %v, want %q among them", cfg.Warnings, tt.warnings)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	cases, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range cases {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if file.Name == "ocim.yaml" {
				f.Add(file.Data, "OCIM_LISTEN_PUBLIC", ":1")
			}
		}
	}
	good, err := os.ReadFile("testdata/good.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "OCIM_OPERATIONS_DEPLOY_VARIABLES_X", "{instance}")
	f.Add([]byte("a: &a [*a, *a]\n"), "OCIM_CLUSTERS_3_INSTANCES_2", "demo")
	const canary = "canary-6f1d0c5a9be24f7788aa" // 27 bytes: short for a key, long enough for a token
	f.Fuzz(func(t *testing.T, data []byte, name, value string) {
		if strings.Contains(string(data)+name+value, canary) {
			t.Skip("the file itself holds the canary")
		}
		env := []string{name + "=" + value}
		for _, v := range []string{"OCIM_KEY", "A", "B", "SLACK_BOT_TOKEN", "GITLAB_TOKEN"} {
			env = append(env, v+"="+canary)
		}
		cfg, err := Parse("ocim.yaml", data, env)
		switch problems, ok := errors.AsType[Problems](err); {
		case err != nil && (!ok || len(problems) == 0 || cfg != nil):
			t.Fatalf("got %v, %T %v; want a config or problems", cfg, err, err)
		case err != nil:
			if strings.Contains(err.Error(), canary) {
				t.Fatalf("the value of a secret is shown: %v", err)
			}
			for _, p := range problems {
				if strings.ContainsAny(p.String(), "\n\r\x1b") {
					t.Fatalf("got a problem of more than one line: %q", p.String())
				}
			}
		default:
			var b bytes.Buffer
			if err := cfg.Print(&b); err != nil || strings.Contains(b.String(), canary) {
				t.Fatalf("got error %v and %s", err, b.String())
			}
		}
	})
}
