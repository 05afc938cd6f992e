package main

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/ops"
)

// usage is what a leak would make grow.
type usage struct {
	goroutines, descriptors int
	heap                    uint64 // bytes that are in use after a collection
	series                  int    // of metrics
}

func (r *rig) usage() usage {
	r.t.Helper()
	var m runtime.MemStats
	for range 3 { // finalizers and pools need more than one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.descriptors = len(entries)
	}
	families, err := r.app.metrics.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		u.series += len(f.GetMetric())
	}
	return u
}

// rows counts what stands in a table.
func (r *rig) rows(table, where string) int {
	r.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(r.dir, "ocim.db")+"?mode=ro")
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	n := -1
	if err := db.QueryRowContext(r.t.Context(), "SELECT COUNT(*) FROM "+table+" WHERE "+where).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// flood is traffic of all kinds, most of it refused, none of it like what came before.
type flood struct {
	*rig
	random *rand.Rand
	front  *guard

	card  chattest.Sent
	first chat.Incoming
	n     int
}

func (f *flood) event() {
	f.n++
	in := f.incoming("alice")
	in.Kind = chat.Command
	in.From.Channel = fmt.Sprint("C", f.n)
	switch k := f.random.IntN(20); {
	case k < 5: // a stranger, in a channel and a workspace that nobody has heard of
		in.Actor.UserID, in.ActorName, in.Actor.Workspace = fmt.Sprint("U", f.n), fmt.Sprint("name", f.n), fmt.Sprint("W", f.n)
		in.Text = "deploy demo"
	case k < 7:
		in.Text = fmt.Sprintf("deploy no-such-%d", f.n)
	case k < 8:
		in.Text = fmt.Sprintf("deploy cluster-%d/demo key%d=value", f.n, f.n)
	case k < 10: // the same request once more
		in = f.first
	case k < 11:
		in.Text = fmt.Sprintf("verb%d", f.n)
	case k < 12:
		in.Text = fmt.Sprintf("status op%d", f.n)
	case k < 13:
		in.Text = "operations"
	case k < 15: // a button that is nobody's
		in.Kind, in.Button, in.Message, in.From = chat.Click, fmt.Sprintf("token-%d.%d", f.n, f.n), f.card.Ref, f.card.To
	case k < 16: // a form that is nobody's
		in.Kind, in.Dialog, in.State, in.Values = chat.Submit, "deploy", fmt.Sprint("state-", f.n), map[string]string{"instance": "demo"}
	default:
		f.webhook(k)
		return
	}
	f.app.commands.Handle(f.t.Context(), in)
}

func (f *flood) webhook(k int) {
	token, path := rigHook, "/gitlab/webhook"
	body := fmt.Sprintf(`{"object_kind":"pipeline","project":{"id":%d},"object_attributes":{"id":%d,"status":"success"}}`, rigProject, 1_000_000+f.n)
	switch k {
	case 17:
		token = fmt.Sprint("token-", f.n)
	case 18:
		body = fmt.Sprintf(`{"object_kind":"build","project_id":%d,"pipeline_id":%d}`, rigProject, 2_000_000+f.n)
	case 19:
		path = fmt.Sprint("/path-", f.n)
	}
	req := httptest.NewRequestWithContext(f.t.Context(), http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("X-Gitlab-Token", token)
	f.front.ServeHTTP(httptest.NewRecorder(), req)
}

// operation is one that is taken, canceled, retried and brought to its end.
func (f *flood) operation() {
	f.t.Helper()
	id := f.deploy("alice", "demo")
	f.until(id, ops.Running)
	f.typed("alice", "cancel "+id)
	f.until(id, ops.Canceled)
	f.typed("carol", "retry "+id)
	f.until(id, ops.Succeeded)
}

// A hundred times as much of everything makes the program no larger. Not parallel: it counts what
// the whole process uses.
func TestF26I12_NothingGrowsWithTheNumberOfEvents(t *testing.T) { //nolint:paralleltest // see above
	window := 5000
	if testing.Short() {
		window = 1000
	}
	const windows = 4
	r := newRig(t, plain(gitlabtest.Script{}), func(s *rigSetup) { s.lab.LedgerReads = 100 })
	f := &flood{rig: r, random: rand.New(rand.NewPCG(2, 6))}
	f.front = newGuard(r.app.mux, 8, func(chan struct{}, time.Duration) bool { return false }, r.app.metrics, r.clock, r.app.opt.log)
	f.first = r.incoming("alice")
	f.first.Kind, f.first.Text = chat.Command, "deploy shop"
	r.app.commands.Handle(t.Context(), f.first)
	op, ok := r.byKey(f.first.Key)
	if !ok {
		t.Fatal("no operation")
	}
	r.until(op.ID, ops.Succeeded)
	f.card = r.card(op.ID)

	accepted := 1
	play := func(operations bool) usage {
		for i := range window {
			f.event()
			if operations && i%(window/4) == 0 {
				accepted++
				f.operation()
			}
			if i%250 == 0 {
				r.pass(5 * time.Second)
				r.logs.Reset()
			}
		}
		r.pass(15 * time.Minute) // the last run is no longer looked at
		r.logs.Reset()
		return r.usage()
	}
	play(true) // caches fill, pools grow
	accepting := play(true)
	first := play(false) // the fakes remember each operation, so that the heap is compared without
	last := play(false)
	t.Logf("after %d events %+v, after %d %+v, after %d %+v", 2*window, accepting, 3*window, first, windows*window, last)
	first.goroutines, first.descriptors, first.series = accepting.goroutines, accepting.descriptors, accepting.series
	if last.goroutines > first.goroutines+3 {
		t.Errorf("goroutines grew from %d to %d:\n%s", first.goroutines, last.goroutines, stacks())
	}
	if last.descriptors > first.descriptors+3 {
		t.Errorf("descriptors grew from %d to %d", first.descriptors, last.descriptors)
	}
	if last.series > first.series {
		t.Errorf("series of metrics grew from %d to %d", first.series, last.series)
	}
	if most := first.heap + 16<<10; last.heap > most {
		t.Errorf("heap grew from %d to %d bytes in %d events, want at most %d", first.heap, last.heap, window, most)
	}
	for _, c := range []struct {
		table, where string
		most         int
	}{
		{"operations", "TRUE", accepted},
		{"runs", "TRUE", 2 * accepted},
		{"pipelines", "TRUE", 2 * accepted},
		{"deliveries", "NOT done", 0},
		{"wakeups", "TRUE", 0},
		{"secrets", "TRUE", 0},
		{"seen", "TRUE", 2 * accepted},
	} {
		if n := r.rows(c.table, c.where); n > c.most {
			t.Errorf("got %d rows of %s where %s after %d events, want at most %d", n, c.table, c.where, f.n, c.most)
		}
	}
	r.clock.Advance(25 * time.Hour)
	if err := r.app.store.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.rows("seen", "TRUE"); n != 0 {
		t.Errorf("got %d keys of requests after a day, want none", n)
	}
	r.exactlyOnce(1 + 2*(accepted-1))
}
