package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"ocim/internal/clock"
	"ocim/ops"
	"ocim/store"
	"ocim/store/storetest"
)

// child says what a copy of this test's binary is to do, and where, until it is killed.
const child, childFile = "OCIM_STORE_TEST_CHILD", "OCIM_STORE_TEST_FILE"

func TestMain(m *testing.M) {
	switch mode, path := os.Getenv(child), os.Getenv(childFile); mode {
	case "":
		os.Exit(m.Run())
	case "migrate":
		_, err := store.OpenWith(context.Background(), store.Options{Path: path}, steps(3))
		fmt.Fprintln(os.Stderr, "migrated", err)
	default:
		fmt.Fprintln(os.Stderr, record(path, mode == "early"))
	}
}

// record creates operations without end and prints the id of each when it has been recorded, or,
// if early, when it is about to be.
func record(path string, early bool) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		return err
	}
	start := rand.Int64N(1 << 40)
	var next atomic.Int64
	var out sync.Mutex
	say := func(id string) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintln(os.Stdout, id)
	}
	errs := make(chan error)
	for range 8 {
		go func() {
			for {
				op := storetest.Op(int(start + next.Add(1)))
				if early {
					say(op.ID)
				}
				err := s.Update(ctx, func(tx ops.Tx) error { return tx.Create(ctx, op, nil) })
				if err != nil {
					errs <- err
					return
				}
				if !early {
					say(op.ID)
				}
			}
		}()
	}
	return <-errs
}

// spawn starts a child.
func spawn(t *testing.T, mode, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), child+"="+mode, childFile+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

// killRecorder lets a child acknowledge some operations, kills it, and returns how many it has
// acknowledged and how many of those are not in the store.
func killRecorder(t *testing.T, mode, dir string) (acked, lost int) {
	t.Helper()
	cmd, lines := spawn(t, mode, filepath.Join(dir, storetest.File))
	var ids []string
	for until := 1 + rand.IntN(150); lines.Scan(); {
		if ids = append(ids, lines.Text()); len(ids) == until {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // says that it was killed
	s := storetest.OpenIn(t, dir, nil)
	defer storetest.Close(t, s)
	for _, id := range ids {
		err := s.View(t.Context(), func(r ops.Reader) error {
			_, err := r.Operation(t.Context(), id)
			return err
		})
		switch {
		case errors.Is(err, ops.ErrNotFound):
			lost++
		case err != nil:
			t.Fatal(err)
		}
	}
	return len(ids), lost
}

// TestI03_AckMeansOnDisk kills a process that acknowledges operations: each one that it has
// acknowledged must be there afterwards. The counter-proof is a process that acknowledges first
// and records then, which must be caught.
func TestI03_AckMeansOnDisk(t *testing.T) {
	t.Parallel()
	trials := 20
	if testing.Short() {
		trials = 5
	}
	t.Run("recorded first", func(t *testing.T) {
		t.Parallel()
		dir, all := t.TempDir(), 0
		for range trials {
			acked, lost := killRecorder(t, "late", dir)
			if all += acked; lost > 0 {
				t.Errorf("lost %d of %d acknowledged operations", lost, acked)
			}
		}
		t.Logf("%d kills, %d acknowledged operations", trials, all)
	})
	t.Run("acknowledged first", func(t *testing.T) {
		t.Parallel()
		dir, all := t.TempDir(), 0
		for range trials {
			_, lost := killRecorder(t, "early", dir)
			all += lost
		}
		if all == 0 {
			t.Error("a process that acknowledges too early was not caught: the check proves nothing")
		}
	})
}

// steps is a history of n migrations. The second takes long enough to be killed in its middle.
func steps(n int) fstest.MapFS {
	all := fstest.MapFS{}
	for i, sql := range []string{
		`CREATE TABLE one (a TEXT); INSERT INTO one VALUES ('kept');`,
		`CREATE TABLE two (a BIGINT, b TEXT);
INSERT INTO two (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
SELECT i, 'some text that takes some room in the file, so that the step is slow' FROM n;
CREATE INDEX two_a ON two (a);`,
		`ALTER TABLE one ADD COLUMN b TEXT;
CREATE TABLE operations (id TEXT); CREATE TABLE wakeups (leased_until BIGINT, due_at BIGINT);`,
	} {
		if i < n {
			all[fmt.Sprintf("%05d_step.sql", i+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql + "\n")}
		}
	}
	return all
}

func TestF27_KillInsideMigration(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{100_000, 1_000_000, 5_000_000, 12_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, storetest.File)
			cmd, _ := spawn(t, "migrate", path)
			for { // the journal grows while the step runs, and no other way
				if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > size {
					break
				}
				if err := clock.Sleep(t.Context(), clock.System{}, time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			done := storetest.Rows(t, dir, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`)
			t.Logf("killed when %s steps were done", done[0][0])
			for range 2 { // it is taken on, and then there is nothing to do
				s, err := store.OpenWith(t.Context(), store.Options{Path: path}, steps(3))
				if err != nil {
					t.Fatalf("open after the kill: %v", err)
				}
				storetest.Close(t, s)
			}
			got := storetest.Rows(t, dir, `SELECT (SELECT COUNT(*) FROM two), (SELECT COUNT(*) FROM one), (SELECT MAX(version_id) FROM goose_db_version)`)
			if want := "200000 1 3"; strings.Join(got[0], " ") != want {
				t.Errorf("rows of two, rows of one, version: got %v, want %s", got[0], want)
			}
		})
	}
}

func TestF27_OldBinaryRefusesNewSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, storetest.File)
	s, err := store.OpenWith(t.Context(), store.Options{Path: path}, steps(3))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Close(t, s)
	before := storetest.Rows(t, dir, `SELECT name, sql FROM sqlite_master ORDER BY name`)
	_, err = store.OpenWith(t.Context(), store.Options{Path: path}, steps(2))
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "version 3, this one knows 2") {
		t.Errorf("open by an older ocim: got %v, want %v with both versions", err, store.ErrNewer)
	}
	after := storetest.Rows(t, dir, `SELECT name, sql FROM sqlite_master ORDER BY name`)
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("schema after the refusal: got %v, want %v", after, before)
	}
}
