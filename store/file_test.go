package store_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/internal/secret"
	"ocim/ops"
	"ocim/store"
	"ocim/store/storetest"
)

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := storetest.OpenIn(t, dir, nil)
	o := store.Options{Path: filepath.Join(dir, storetest.File)}
	if _, err := store.Open(t.Context(), o); !errors.Is(err, store.ErrLocked) {
		t.Errorf("second open: got %v, want %v", err, store.ErrLocked)
	}
	storetest.Close(t, first)
	second, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open after the first was closed: %v", err)
	}
	storetest.Close(t, second)
}

func TestNobodyElseReadsTheFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data 100%?#")
	s := storetest.OpenIn(t, dir, nil)
	if !s.Fresh() {
		t.Error("fresh: got false, want true")
	}
	if err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Create(t.Context(), storetest.Op(1), nil) }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		"": 0o700 | os.ModeDir, storetest.File: 0o600, storetest.File + "-wal": 0o600, storetest.File + "-shm": 0o600, storetest.File + ".lock": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("mode of %q: got %v, want %v", name, info.Mode(), want)
		}
	}
	storetest.Close(t, s)
	if s = storetest.OpenIn(t, dir, nil); s.Fresh() {
		t.Error("fresh with an operation in it: got true, want false")
	}
}

func TestDamageIsFoundAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := storetest.OpenIn(t, dir, nil)
	err := s.Update(t.Context(), func(tx ops.Tx) error {
		for i := range 200 {
			if err := tx.Create(t.Context(), storetest.Full(i), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Close(t, s)
	path := filepath.Join(dir, storetest.File)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noise := []byte(strings.Repeat("damage! ", 1024))
	for name, bad := range map[string][]byte{
		"not a database": noise,
		"cut":            whole[:len(whole)/2],
		"overwritten":    append(append(append([]byte(nil), whole[:40960]...), noise...), whole[40960+len(noise):]...),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.Open(t.Context(), store.Options{Path: path})
		if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%s: got %v, want an error that says what to do", name, err)
		}
	}
}

// TestUnconfirmedCommit: when a caller cannot wait for the disk, it is told that nobody knows.
func TestUnconfirmedCommit(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	blocked, goOn := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.Update(ctx, func(ops.Tx) error {
			close(blocked)
			<-goOn
			return nil
		})
	}()
	<-blocked
	cancel()
	close(goOn)
	err := <-first // either outcome is honest, and neither comes before the function has returned
	if err != nil && (ops.ReasonOf(err) != ops.ReasonStoreUnavailable || !errors.Is(err, context.Canceled)) {
		t.Errorf("got %v, want nil or store_unavailable because of the context", err)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := storetest.OpenIn(t, dir, nil)
	key, old := secret.New(strings.Repeat("k", 32)), secret.New(strings.Repeat("o", 32))
	before, err := store.NewBox(old)
	if err != nil {
		t.Fatal(err)
	}
	box, err := store.NewBox(key, old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.NewBox(secret.New("short")); err == nil {
		t.Error("short key: got no error")
	}
	const name, plain = "mattermost/team", "canary-token"
	if _, err := s.Secret(t.Context(), name); !errors.Is(err, ops.ErrNotFound) {
		t.Errorf("unknown secret: got %v, want %v", err, ops.ErrNotFound)
	}
	for _, b := range []*store.Box{before, box} { // the second replaces the first
		if err := s.PutSecret(t.Context(), name, b.Seal(name, secret.New(plain))); err != nil {
			t.Fatal(err)
		}
		sealed, err := s.Secret(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := box.Open(name, sealed); err != nil || got.Reveal() != plain {
			t.Errorf("open: got %v, want the secret", err)
		}
		if _, err := box.Open("other", sealed); !errors.Is(err, store.ErrBox) {
			t.Errorf("open under another name: got %v, want %v", err, store.ErrBox)
		}
	}
	sealed, _ := s.Secret(t.Context(), name)
	if _, err := before.Open(name, sealed); !errors.Is(err, store.ErrBox) {
		t.Errorf("open with a key that is no more: got %v, want %v", err, store.ErrBox)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := box.Open(name, sealed); !errors.Is(err, store.ErrBox) {
		t.Errorf("open of a changed one: got %v, want %v", err, store.ErrBox)
	}
	storetest.Close(t, s)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), plain) {
			t.Errorf("%s holds the secret, or cannot be read: %v", file, err)
		}
	}
}

// TestO72_NoStageTable: start and end results are stored, stages and jobs are not.
func TestO72_NoStageTable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := storetest.OpenIn(t, dir, nil)
	if err := s.Update(t.Context(), func(tx ops.Tx) error { return tx.Create(t.Context(), storetest.Full(1), nil) }); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range storetest.Rows(t, dir, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`) {
		got = append(got, row[0])
	}
	want := []string{"deliveries", "events", "goose_db_version", "operations", "pipelines", "runs", "secrets", "seen", "wakeups"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("tables: got +, want -:\n%s", d)
	}
	for _, row := range storetest.Rows(t, dir, `SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'`) {
		if column := row[0] + "." + row[1]; strings.Contains(column, "stage") || strings.Contains(column, "job") && column != "pipelines.jobs" {
			t.Errorf("column %s: want none for stages or jobs", column)
		}
	}
	// The one column about jobs is a summary: counts and what runs now, whatever their number.
	summary := storetest.Rows(t, dir, `SELECT jobs FROM pipelines ORDER BY place LIMIT 1`)
	if want := `{"total":5,"done":2,"running":"build","stage":"test","manual":"go","max_id":77}`; summary[0][0] != want {
		t.Errorf("summary of jobs: got %s, want %s", summary[0][0], want)
	}
}

// TestParametersAreNumberedInOrder reads every SQL text of the package. SQLite's driver numbers
// parameters by their first appearance, PostgreSQL by their name; only where both agree does a
// query mean the same on both.
func TestParametersAreNumberedInOrder(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	parameter, count := regexp.MustCompile(`\$\d+`), 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			highest := 0
			for _, p := range parameter.FindAllString(lit.Value, -1) {
				i, err := strconv.Atoi(p[1:])
				if err != nil || i > highest+1 {
					t.Errorf("%s: %s after $%d", set.Position(lit.Pos()), p, highest)
				}
				highest = max(highest, i)
			}
			count += min(highest, 1)
			return true
		})
	}
	if count < 20 {
		t.Errorf("queries with parameters: found %d, want at least 20: does the test still look in the right place?", count)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	commits, jobs := make(chan int, 100), make(chan string, 100)
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "x.db"), Metrics: store.Metrics{
		Commit: func(n int, _ time.Duration) { commits <- n },
		Job:    func(kind ops.JobKind, _ time.Duration, err error) { jobs <- fmt.Sprint(kind, " ", err) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer storetest.Close(t, s)
	wake(t, s, "op1", time.UnixMicro(1))
	if got := receive(t, "commit", commits); got != 1 {
		t.Errorf("updates in the commit: got %d, want 1", got)
	}
	_, err = s.Drain(t.Context(), ops.JobAdvance, func(context.Context, string) (time.Time, error) { return time.Time{}, nil })
	if got, want := receive(t, "job", jobs), "advance <nil>"; got != want || err != nil {
		t.Errorf("job: got %q, %v, want %q", got, err, want)
	}
}
