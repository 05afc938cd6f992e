package gitlabtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"time"
)

// maxJournal is the largest journal that is read, in bytes: some ten thousands of requests.
const maxJournal = 64 << 20

// line is one line of a journal: a change of speed, or a request that changed pipelines or files.
type line struct {
	At     time.Time      `json:"at"`
	Speed  float64        `json:"speed,omitempty"`
	Method string         `json:"method,omitempty"`
	Path   string         `json:"path,omitempty"` // still percent-encoded
	Query  url.Values     `json:"query,omitempty"`
	Body   map[string]any `json:"body,omitempty"` // secrets masked
	User   string         `json:"user,omitempty"`
}

// Keep makes the simulated GitLab outlive the process. It repeats the requests in the file at path,
// each at its own instant, and from then on adds every request that changes pipelines or files.
// Since nothing else decides what pipelines do, they stand afterwards where they would have stood,
// under the same ids: time went on for them while nobody was there.
//
// Hooks, faults and what a test does by the methods of Server are not kept. Call Keep once, after
// AddProject and Override with the same arguments and the same Options.Seed and FirstPipeline as
// before, and ahead of AddHook and of the first request. The file belongs to the server until
// [Server.Close]. A last line that was cut short is dropped; any other that cannot be
// repeated is an error.
func (s *Server) Keep(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("simulated GitLab: open the journal: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.repeat(f); err != nil {
		return errors.Join(fmt.Errorf("simulated GitLab: journal %s: %w", path, err), f.Close())
	}
	s.journal = f
	// The source began anew with the process, but whoever got its identifiers may remember them.
	s.rng = rand.New(rand.NewPCG(uint64(s.opts.Seed), uint64(s.clock.Now().UnixNano())))
	return nil
}

// repeat does what the journal says, and leaves it ready for the next line. The caller holds mu.
func (s *Server) repeat(f *os.File) error {
	raw, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return err
	}
	if len(raw) > maxJournal {
		return fmt.Errorf("more than %d bytes", maxJournal)
	}
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1]
	speed := s.opts.Speed
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, maxJournal)
	for n := 1; sc.Scan(); n++ {
		var l line
		d := json.NewDecoder(bytes.NewReader(sc.Bytes()))
		d.UseNumber()
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if n == 1 {
			s.at = l.At
		}
		s.advanceTo(l.At)
		if l.Speed > 0 {
			s.opts.Speed = l.Speed
			continue
		}
		if err := s.again(l); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	s.advance()
	if err := f.Truncate(int64(len(raw))); err != nil {
		return err
	}
	if _, err := f.Seek(int64(len(raw)), io.SeekStart); err != nil {
		return err
	}
	if len(raw) > 0 && s.opts.Speed == speed {
		return nil
	}
	s.opts.Speed = speed
	return writeLine(f, line{At: s.at, Speed: speed})
}

// again does what a request did. Who may ask was settled then. The caller holds mu.
func (s *Server) again(l line) error {
	rt, vars, _ := match(s.routes, l.Method, l.Path)
	if rt == nil || !rt.kept() {
		return fmt.Errorf("%s %s is no request that is kept", l.Method, l.Path)
	}
	p := s.find(vars["id"])
	if p == nil {
		return fmt.Errorf("%s %s: no such project", l.Method, l.Path)
	}
	u, err := url.Parse(s.baseURL + l.Path)
	if err != nil {
		return err
	}
	u.RawQuery = l.Query.Encode()
	r, err := http.NewRequestWithContext(context.Background(), l.Method, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	params := merged(l.Query, l.Body)
	if rt.access == anyone {
		params["token"] = p.TriggerToken
	}
	c := &call{Server: s, r: r, path: vars, body: l.Body, params: params, project: p, role: Maintainer, token: &token{user: s.userNamed(l.User)}}
	if a := rt.serve(c); a.status >= http.StatusMultipleChoices && a.pipeline == 0 {
		return fmt.Errorf("%s %s: got status %d", l.Method, l.Path, a.status)
	}
	return nil
}

// kept says whether requests of the route belong in the journal: those that act on pipelines and
// files. Hooks are named by those who start the server.
func (rt *route) kept() bool {
	return rt.method != http.MethodGet && rt.method != http.MethodHead && (rt.access == anyone || rt.access == writes)
}

// keep adds a request to the journal if it changed something. The caller holds mu.
func (s *Server) keep(rt *route, e *Entry, a *reply) {
	if s.journal == nil || rt == nil || !rt.kept() || a.status >= http.StatusMultipleChoices && a.pipeline == 0 {
		return
	}
	l := line{At: s.at, Method: e.Method, Path: e.Path, Query: e.Query, Body: e.Body, User: e.User}
	if err := writeLine(s.journal, l); err != nil {
		s.log.Error("simulated GitLab cannot keep a request", "err", err)
	}
}

func writeLine(w io.Writer, l line) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = w.Write(append(raw, '\n')) // in one piece, so that a kill leaves no half of a line
	return err
}
