package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/ops"
)

// limited makes the program work on few requests at the same time.
func limited(places int) rigOption {
	return func(s *rigSetup) { s.operations += fmt.Sprintf("\nlimits: {in_flight: %d}", places) }
}

// dial opens a connection and sends the beginning of a request.
func (l *live) dial(beginning string) net.Conn {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.app.public.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, beginning) // the bot may have closed it already
	return conn
}

// metric reads one value from the admin listener.
func (l *live) metric(name string) float64 {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.adminURL()+"/metrics", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				l.t.Fatal(err)
			}
			return v
		}
	}
	l.t.Fatalf("no metric %s", name)
	return 0
}

// settled makes sure that what has been sent has been looked at.
func (l *live) settled() {
	for range 5 {
		l.pause()
	}
}

// slowRequests are beginnings of requests that never end.
func slowRequests() []string {
	head := func(path, header string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: bot\r\nContent-Length: 500\r\n" + header + "\r\n"
	}
	return []string{
		"",
		"POST /slack/commands HTTP/1.1\r\nHost: b",
		head("/slack/commands", "Content-Type: application/x-www-form-urlencoded\r\n") + "token=x",
		head("/slack/interactions", "Content-Type: text/plain\r\n"),
		head(matterPath("commands"), "Content-Type: application/x-www-form-urlencoded\r\n") + "t",
		head("/gitlab/webhook", "X-Gitlab-Token: "+rigHook+"\r\n") + "{",
		head("/nothing", ""),
	}
}

// Clients that connect and say nothing, that never end their headers or bodies: many times
// as many as there are places. Everybody else is served at once, and the connections stay bounded.
func TestF23I12_SlowClientsCostNobodyAnything(t *testing.T) {
	t.Parallel()
	const places = 4
	r := newRig(t, talking, limited(places))
	l := r.run().online()
	slow := slowRequests()
	for i := range 3 * connections(places) {
		l.dial(slow[i%len(slow)])
		if i%20 == 19 { // they come over some seconds
			l.settled()
			l.clock.Advance(500 * time.Millisecond)
		}
	}
	for i := range 20 {
		for _, beginning := range slow {
			l.dial(beginning)
		}
		l.settled()
		l.clock.Advance(patience + time.Millisecond)
		if got := l.sendSlack(r.talk.slackCommand("help")); got.status != 200 || !strings.Contains(got.body, "deploy") {
			t.Fatalf("command %d among slow clients: got %d %s, want an answer", i, got.status, got.body)
		}
		l.clock.Advance(patience + time.Millisecond)
		if got := l.send("/gitlab/webhook", http.Header{"X-Gitlab-Token": {rigHook}}, []byte(`{}`)); got.status != 200 {
			t.Fatalf("webhook %d among slow clients: got %d, want 200", i, got.status)
		}
		if got := get(t, l.adminURL()+"/healthz"); got != 200 {
			t.Fatalf("health among slow clients: got %d, want 200", got)
		}
		if open := l.metric("ocim_connections_open"); open > float64(connections(places)) {
			t.Fatalf("got %v connections open, want at most %d", open, connections(places))
		}
	}
	if l.metric("ocim_connections_cut_total") == 0 {
		t.Error("no connection was closed to make room")
	}
}

// A client that is slow is not refused for that alone.
func TestF23_SlowClientIsServedWhileThereIsRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, talking, limited(2))
	l := r.run().online()
	req := r.talk.slackCommand("help")
	var b strings.Builder
	fmt.Fprintf(&b, "POST /slack/commands HTTP/1.1\r\nHost: bot\r\nConnection: close\r\nContent-Length: %d\r\n", len(req.Body))
	if err := req.Header.Write(&b); err != nil {
		t.Fatal(err)
	}
	conn := l.dial(b.String() + "\r\n" + string(req.Body[:10]))
	for range 10 {
		l.settled()
		l.clock.Advance(patience)
		if got := l.sendSlack(r.talk.slackCommand("help")); got.status != 200 {
			t.Fatalf("somebody else: got %d, want 200", got.status)
		}
	}
	if _, err := conn.Write(req.Body[10:]); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") {
		t.Errorf("got %.60q and %v, want 200", got, err)
	}
}

// The store hangs, and webhooks come ten times as fast as places become free: those without a place
// are told to come again, chat is answered as ever, and afterwards everything works.
func TestF23_BurstOfWebhooksIsShedAndChatIsServed(t *testing.T) {
	t.Parallel()
	const places = 8
	r := newRig(t, talking, limited(places), plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: time.Hour}}}}}), limited(places))
	l := r.run().online()
	id := r.deploy("alice", "demo")
	l.pump(func() bool { return l.in(id, ops.Running) && l.asleep() })
	hook := r.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	header, body, err := r.lab.BuildHook(hook, r.op(id).Pipelines[0].Ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	release := r.hangStore()
	var mu sync.Mutex
	var burst sync.WaitGroup
	statuses := map[int]int{}
	for range 10 * places {
		burst.Go(func() {
			got := l.send("/gitlab/webhook", header, body)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	l.await(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return statuses[503] == 9*places
	})
	for range 3 {
		if got := l.sendSlack(r.talk.slackCommand("help")); got.status != 200 || !strings.Contains(got.body, "deploy") {
			t.Errorf("a command during the burst: got %d %s, want an answer", got.status, got.body)
		}
	}
	if got := get(t, l.adminURL()+"/healthz"); got != 200 {
		t.Errorf("health during the burst: got %d, want 200", got)
	}
	release()
	burst.Wait()
	if statuses[200] != places || statuses[503] != 9*places {
		t.Errorf("got answers %v, want %d of 200 and the rest 503", statuses, places)
	}
	if got := l.metric("ocim_requests_shed_total"); got != 9*places {
		t.Errorf("got %v requests counted as shed, want %d", got, 9*places)
	}
	if got := l.send("/gitlab/webhook", header, body); got.status != 200 {
		t.Errorf("after the burst: got %d, want 200", got.status)
	}
}

// The same the other way round: commands that wait for the store leave webhooks their places.
func TestF23_BurstOfCommandsLeavesWebhooksTheirPlaces(t *testing.T) {
	t.Parallel()
	const places = 4
	r := newRig(t, talking, limited(places))
	l := r.run().online()
	_, _ = r.app.service.Fleet.Instances(t.Context())
	release := r.hangStore()
	defer release()
	var burst sync.WaitGroup
	shed := make(chan int, 10*places)
	for range 10 * places {
		req := r.talk.slackCommand("deploy demo")
		burst.Go(func() { shed <- l.sendSlack(req).status })
	}
	for range 9 * places {
		if got := <-shed; got != 503 {
			t.Errorf("a command without a place: got %d, want 503", got)
		}
	}
	if got := l.send("/gitlab/webhook", http.Header{"X-Gitlab-Token": {rigHook}}, []byte(`{}`)); got.status != 200 {
		t.Errorf("webhook: got %d, want 200", got.status)
	}
	release()
	burst.Wait()
	for range places {
		if got := <-shed; got != 200 {
			t.Errorf("a command with a place: got %d, want 200", got)
		}
	}
	l.pump(func() bool { return len(r.lab.Keys()) == 1 })
	r.exactlyOnce(1)
}

func TestI12_CrowdClosesWhoIsWaitedForLongestAndNobodyAtWork(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRig(t)
	c := newCrowd(l, r.clock, 3, newMetrics())
	dial := func() *guest {
		t.Helper()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		conn, err := c.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r.clock.Advance(time.Second)
		return conn.(*guest)
	}
	working, reading, idle := dial(), dial(), dial()
	slot, other := make(chan struct{}), make(chan struct{})
	working.begin(slot, false)
	reading.begin(slot, true)
	r.clock.Advance(patience)
	fourth := dial()
	if working.gone || reading.gone || !idle.gone || fourth.gone {
		t.Errorf("got working %t, reading %t, idle %t closed; want the one that is waited for longest", working.gone, reading.gone, idle.gone)
	}
	if c.makeRoom(other, patience) {
		t.Error("somebody was closed to make room elsewhere")
	}
	if !c.makeRoom(slot, patience) || !reading.gone {
		t.Error("the request that is waited for was not closed to make room")
	}
	if c.makeRoom(slot, 0) {
		t.Error("somebody else was closed to make room: nobody holds a place that is waited for")
	}
	fifth := dial()
	fifth.begin(slot, false)
	fourth.begin(other, false)
	if c.open != 3 || c.waited.Len() != 0 {
		t.Fatalf("got %d open and %d waited for, want 3 and 0", c.open, c.waited.Len())
	}
	refused, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	go func() { _, _ = c.Accept() }() // finds no room, and goes on to wait for the next
	if _, err := refused.Read(make([]byte, 1)); err == nil {
		t.Error("a fourth was let in while three are being answered")
	}
	fourth.end()
	for _, g := range []*guest{working, fourth, fifth, reading, idle} {
		g.Close()
		g.end()
	}
	if c.open != 0 || c.waited.Len() != 0 {
		t.Errorf("got %d open and %d waited for after all have gone, want none", c.open, c.waited.Len())
	}
}
