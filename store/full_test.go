package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"ocim/ops"
)

// TestFullDisk: when the file cannot grow, changes are refused with a reason, whoever was told
// "recorded" stays recorded, reading goes on, and all is well again when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ocim.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.WithoutCancel(t.Context())) }()
	limit := func(pages int) {
		t.Helper()
		err := s.writer.do(t.Context(), func(tx *tx) error {
			_, err := tx.c.one([]any{new(int)}, fmt.Sprint("PRAGMA max_page_count = ", pages))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	see := func(key string) error {
		return s.Update(t.Context(), func(tx ops.Tx) error { return tx.Seen(t.Context(), key, "op1", s.clock.Now()) })
	}
	limit(1) // SQLite takes this as: not larger than it is now
	var mu sync.Mutex
	recorded, refused := []string{}, 0
	var done sync.WaitGroup
	for i := range 8 {
		done.Go(func() {
			for n := range 200 {
				key := fmt.Sprintf("request %d.%d of some length, to fill a page sooner", i, n)
				err := see(key)
				mu.Lock()
				if err == nil {
					recorded = append(recorded, key)
				} else if refused++; ops.ReasonOf(err) != ops.ReasonStoreUnavailable {
					t.Errorf("on a full disk: got %v, want reason %s", err, ops.ReasonStoreUnavailable)
				}
				mu.Unlock()
			}
		})
	}
	done.Wait()
	if len(recorded) == 0 || refused == 0 {
		t.Errorf("recorded %d and refused %d, want some of each", len(recorded), refused)
	}
	var keys []string
	err = s.view(t.Context(), func(r *reader) (err error) {
		keys, err = r.texts(`SELECT key FROM seen`)
		return err
	})
	if err != nil || len(keys) != len(recorded) {
		t.Errorf("rows: got %d, %v, want the %d that were recorded", len(keys), err, len(recorded))
	}
	limit(1 << 30)
	if err := see("later"); err != nil {
		t.Errorf("when there is room again: got %v", err)
	}
}
