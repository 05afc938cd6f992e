package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ocim/adapters/chat"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
	"ocim/ops"
)

// live is a program that runs as it does in production, but for its clock.
type live struct {
	*rig
	stop func()
	done chan struct{}
	err  error // once done is closed
}

// run opens the listeners and starts everything. It ends with the test if not before.
func (r *rig) run() *live {
	r.t.Helper()
	if err := r.talk.listen(r.app); err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &live{rig: r, stop: stop, done: make(chan struct{})}
	app := r.app
	go func() {
		l.err = app.Run(ctx)
		close(l.done)
	}()
	r.t.Cleanup(func() { l.stop(); l.pump(l.stopped) })
	return l
}

func (l *live) stopped() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// pump lets time go by, a little at a time, until cond holds.
func (l *live) pump(cond func() bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), time.Minute)
	defer cancel()
	for !cond() {
		if ctx.Err() != nil {
			l.t.Fatal("waited for a minute in vain")
		}
		l.lab.Tick()
		l.clock.Advance(50 * time.Millisecond)
		l.pause()
	}
}

// await is pump while time stands still.
func (l *live) await(cond func() bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), time.Minute)
	defer cancel()
	for !cond() {
		if ctx.Err() != nil {
			l.t.Fatal("waited for a minute in vain")
		}
		l.pause()
	}
}

// asleep reports whether nothing is being worked on and nothing is due.
func (l *live) asleep() bool {
	l.t.Helper()
	for _, kind := range []ops.JobKind{ops.JobAdvance, ops.JobDeliver} {
		at, some, err := l.app.store.NextDue(l.t.Context(), kind)
		if err != nil {
			l.t.Fatal(err)
		}
		// A lease is for a minute, and nothing else here is that far away.
		if now := l.clock.Now(); some && (!at.After(now) || kind == ops.JobAdvance && at.Sub(now) > 31*time.Second) {
			return false
		}
	}
	return true
}

// pause lets others work for about a millisecond: what they do takes real time.
func (l *live) pause() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
}

// in reports whether an operation is in one of the states.
func (l *live) in(id string, states ...ops.State) bool {
	for _, s := range states {
		if l.op(id).State == s {
			return true
		}
	}
	return false
}

func (l *live) publicURL() string { return "http://" + l.app.public.Addr().String() }
func (l *live) adminURL() string  { return "http://" + l.app.adminL.Addr().String() }

// get returns the status of an address, 0 if nobody answers.
func get(t *testing.T, url string) int {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// leases counts the wake-ups that somebody still holds, in a store that is closed.
func leases(t *testing.T, r *rig) int {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(r.dir, "ocim.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := -1
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM wakeups WHERE leased_until > 0").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A stop at any moment leaves nothing half: no work is leased, every request that was accepted is
// on disk, and the next start brings each to its end with one pipeline and one final card.
func TestF04I03I04_StopAtAnyMomentLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	trials := 12
	if testing.Short() {
		trials = 4
	}
	for seed := range trials {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(uint64(seed), 4))
			r := newRig(t, plain(gitlabtest.Script{}))
			r.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1 + random.IntN(2), Do: []gitlabtest.Action{
				gitlabtest.DropAfter(), gitlabtest.DropBefore(), gitlabtest.RateLimited(5 * time.Second),
			}[random.IntN(3)]})
			l := r.run()
			var ids []string
			for _, name := range []string{"demo", "shop", "campus"} {
				ids = append(ids, r.deploy("alice", name))
				for range random.IntN(20) {
					l.lab.Tick()
					l.clock.Advance(time.Duration(random.IntN(2000)) * time.Millisecond)
					l.pause()
				}
			}
			began := r.clock.Now()
			l.stop()
			l.pump(l.stopped)
			if l.err != nil {
				t.Errorf("Run: got %v, want nil after it was told to stop", l.err)
			}
			if took := r.clock.Now().Sub(began); took > 20*time.Second {
				t.Errorf("the stop took %s, want at most 20 s", took)
			}
			if n := leases(t, r); n != 0 {
				t.Errorf("got %d wake-ups still leased, want none", n)
			}
			r.restart()
			for _, id := range ids {
				r.until(id, ops.Succeeded)
			}
			r.pass(time.Minute)
			for _, id := range ids {
				mustContain(t, read(new(r.card(id).Now())), "succeeded")
			}
			r.exactlyOnce(len(ids))
		})
	}
}

// GitLab and chat hang for ever. The stop still comes in time; what was cut off goes on later.
func TestF04_StopIsInTimeWhilePeersHang(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	_, _ = r.app.service.Fleet.Instances(t.Context())
	hang := r.lab.Inject(gitlabtest.Fault{Do: gitlabtest.Hang()})
	release := r.chat.Hang()
	l := r.run()
	id := r.deploy("alice", "demo")
	l.pump(func() bool { return r.chat.Calls("post") > 0 })
	began := r.clock.Now()
	l.stop()
	l.pump(l.stopped)
	if took := r.clock.Now().Sub(began); l.err != nil || took > 20*time.Second {
		t.Errorf("got %v after %s, want nil within 20 s", l.err, took)
	}
	mustContain(t, r.logs.String(), "work was cut off to stop in time")
	if n := leases(t, r); n != 0 {
		t.Errorf("got %d wake-ups still leased, want none", n)
	}
	hang.Release()
	r.lab.Heal()
	release()
	r.restart()
	r.until(id, ops.Succeeded)
	r.exactlyOnce(1)
}

// A disk that hangs for good cannot keep the process alive.
func TestF04_StopIsInTimeWhileTheStoreHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{}))
	l := r.run()
	release := r.hangStore()
	began := r.clock.Now()
	l.stop()
	l.pump(l.stopped)
	if took := r.clock.Now().Sub(began); took > 21*time.Second {
		t.Errorf("the stop took %s, want about 20 s", took)
	}
	if !errors.Is(l.err, context.DeadlineExceeded) {
		t.Errorf("got %v, want it said that the store did not close in time", l.err)
	}
	release()
	r.closed = func() {} // it has told its error already
	// The writer ends once the disk answers; only then may the test's folder go.
	if err := r.app.store.Update(t.Context(), func(ops.Tx) error { return nil }); err == nil {
		t.Error("the store took an update after it was closed")
	}
}

// hangStore makes every write wait until release is called, as a disk that does not answer.
func (r *rig) hangStore() (release func()) {
	r.t.Helper()
	held, over, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := r.app.store
	go func() {
		defer close(gone)
		_ = s.Update(context.Background(), func(ops.Tx) error {
			close(held)
			<-over
			return nil
		})
	}()
	<-held
	released := false
	release = func() {
		if !released {
			released = true
			close(over)
			<-gone
		}
	}
	r.t.Cleanup(release)
	return release
}

// The listener goes first, so that nothing new is taken; then what works behind it; the store last.
// A request that is under way is answered, and what it said is on disk.
func TestF04I03_StopFollowsTheWayOfRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: time.Hour}}}}}))
	behind := watching{make(chan struct{})}
	r.app.runners = append(r.app.runners, behind)
	l := r.run()
	id := r.deploy("alice", "demo")
	l.pump(func() bool { return l.in(id, ops.Running) && l.asleep() })
	hook := r.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	header, body, err := r.lab.BuildHook(hook, r.op(id).Pipelines[0].Ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	release := r.hangStore()
	answered := make(chan int, 1)
	sent := r.logs.String()
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.publicURL()+"/gitlab/webhook", strings.NewReader(string(body)))
		if err != nil {
			answered <- -1
			return
		}
		req.Header = header
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	l.await(func() bool { return strings.Contains(stacks(), "(*Store).MarkHook") })
	if got := get(t, l.adminURL()+"/readyz"); got != 200 {
		t.Errorf("ready before the stop: got %d, want 200", got)
	}
	l.stop()
	l.await(func() bool { // the public listener is closed at once
		conn, err := net.Dial("tcp", l.app.public.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if l.stopped() {
		t.Fatal("it has stopped while a request was under way")
	}
	if health, ready := get(t, l.adminURL()+"/healthz"), get(t, l.adminURL()+"/readyz"); health != 200 || ready != 503 {
		t.Errorf("while it stops: got healthz %d and readyz %d, want 200 and 503", health, ready)
	}
	if err := r.app.store.View(t.Context(), func(ops.Reader) error { return nil }); err != nil {
		t.Errorf("the store went before the request: %v", err)
	}
	select {
	case <-behind.told:
		t.Error("what works behind the listener was stopped before the request was answered")
	default:
	}
	release()
	if got := <-answered; got != 200 {
		t.Errorf("the request under way: got %d, want 200", got)
	}
	l.pump(l.stopped)
	if l.err != nil {
		t.Errorf("got %v, want nil", l.err)
	}
	if err := r.app.store.View(t.Context(), func(ops.Reader) error { return nil }); err == nil {
		t.Error("the store is open after Run has returned")
	}
	after := strings.TrimPrefix(r.logs.String(), sent)
	if i, j := strings.Index(after, "ocim stops"), strings.Index(after, "ocim has stopped"); i < 0 || j < i {
		t.Errorf("the log does not tell the stop: %s", after)
	}
}

func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// A part that fails takes the program with it, and its error is the program's.
func TestF04_PartThatFailsStopsEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	broken := errors.New("token revoked")
	r.app.runners = append(r.app.runners, failing{broken})
	l := r.run()
	l.pump(l.stopped)
	if !errors.Is(l.err, broken) {
		t.Errorf("got %v, want %v", l.err, broken)
	}
}

// watching tells when it was told to stop.
type watching struct{ told chan struct{} }

func (w watching) Run(ctx context.Context) error {
	<-ctx.Done()
	close(w.told)
	return nil
}

type failing struct{ err error }

func (f failing) Run(context.Context) error { return f.err }

// Not parallel: it looks at all goroutines of the process.
func TestF04I12_NothingRunsAfterRunHasReturned(t *testing.T) { //nolint:paralleltest // see above
	before := goleak.IgnoreCurrent()
	r := newRig(t, plain(gitlabtest.Script{}))
	l := r.run()
	a := chat.NewAcker(r.app.commands, r.clock, time.Second, time.Second, r.app.opt.log)
	in := r.incoming("alice")
	in.Kind, in.Text = chat.Command, "deploy demo"
	a.Answer(t.Context(), in)
	op, ok := r.byKey(in.Key)
	if !ok {
		t.Fatal("no operation")
	}
	for range 20 {
		get(t, l.publicURL()+"/nothing")
		get(t, l.adminURL()+"/metrics")
	}
	l.pump(func() bool { return l.in(op.ID, ops.Succeeded) })
	l.stop()
	l.pump(l.stopped)
	a.Wait()
	r.lab.Close() // its side of the connections that the program keeps for the next call
	if err := goleak.Find(before, goleak.IgnoreAnyFunction("testing.tRunner")); err != nil {
		t.Error(err)
	}
}

func TestReinsCutWhatTheyHoldAndWhatComesLater(t *testing.T) {
	t.Parallel()
	var r reins
	early, done := r.hold(t.Context())
	gone, end := r.hold(t.Context())
	end()
	r.cutAll()
	late, _ := r.hold(t.Context())
	if early.Err() == nil || late.Err() == nil {
		t.Errorf("got %v and %v, want both ended", early.Err(), late.Err())
	}
	done()
	if gone.Err() == nil || len(r.held) != 0 {
		t.Errorf("got %d held, want none", len(r.held))
	}
}

func TestWaitTellsWhoWasFirst(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(time.Unix(0, 0))
	if !wait(c, time.Second, func() {}) {
		t.Error("got false for what ends at once")
	}
	block := make(chan struct{})
	defer close(block)
	got := make(chan bool)
	go func() { got <- wait(c, time.Second, func() { <-block }) }()
	if err := c.Waiting(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Second)
	if <-got {
		t.Error("got true for what never ends")
	}
}
