package mattermosttest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// Call is one request that reached the server, as the ledger keeps it.
type Call struct {
	At     time.Time
	Method string
	// Path is the path below /api/v4 ("/posts"), or the whole path elsewhere.
	Path  string
	Query string
	// User is the name of the caller, empty without a valid session. The
	// token itself is not kept.
	User string
	// Body is what was sent, with every token of the server masked.
	Body string
	// Status is what was answered, 0 while under way or when nothing was.
	Status int
	// Fault is the fault that the call met, if any.
	Fault FaultKind
}

// Calls lists all calls so far, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// CallsTo lists the calls of a method ("" for any) to paths that match
// pattern, as [path.Match] does: "/posts/*/patch".
func (s *Server) CallsTo(method, pattern string) []Call {
	return slices.DeleteFunc(s.Calls(), func(c Call) bool { return !matches(method, pattern, c.Method, c.Path) })
}

func matches(method, pattern, gotMethod, gotPath string) bool {
	if method != "" && method != gotMethod {
		return false
	}
	hit, _ := path.Match(pattern, gotPath)
	return pattern == "" || hit
}

// record begins an entry of the ledger and returns its number.
func (s *Server) record(r *http.Request, body []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Call{
		At: s.clock.Now(), Method: r.Method, Path: strings.TrimPrefix(r.URL.Path, "/api/v4"),
		Query: r.URL.RawQuery, Body: string(s.mask(body)),
	}
	if u := s.session(r); u != nil {
		c.User = u.name
	}
	s.calls = append(s.calls, c)
	s.ledgerChanged()
	return len(s.calls) - 1
}

func (s *Server) mask(body []byte) []byte {
	for _, t := range s.tokens {
		body = bytes.ReplaceAll(body, []byte(t.value), []byte("***"))
	}
	for _, c := range s.commands {
		body = bytes.ReplaceAll(body, []byte(c.Token), []byte("***"))
	}
	return body
}

func (s *Server) answered(n, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[n].Status = status
	s.ledgerChanged()
}

func (s *Server) ledgerChanged() {
	close(s.called)
	s.called = make(chan struct{})
}

// AwaitCalls waits until n calls as CallsTo finds them have arrived, answered
// or not, and returns them. It ends with ctx.
func (s *Server) AwaitCalls(ctx context.Context, n int, method, pattern string) ([]Call, error) {
	for {
		s.mu.Lock()
		changed := s.called
		s.mu.Unlock()
		got := s.CallsTo(method, pattern)
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return got, fmt.Errorf("%d of %d calls to %s %s: %w", len(got), n, method, pattern, ctx.Err())
		}
	}
}

// Post is the post as stored, with the integrations that the API hides.
// Deleted posts are still there, with DeleteAt set.
func (s *Server) Post(id string) (Post, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(id)
	if r == nil {
		return Post{}, false
	}
	return r.now().clone(), true
}

// History is every version of a post, as stored, oldest first.
func (s *Server) History(id string) []Post {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(id)
	if r == nil {
		return nil
	}
	out := make([]Post, 0, len(r.versions))
	for i := range r.versions {
		out = append(out, r.versions[i].clone())
	}
	return out
}

// Posts is what is in a channel, as stored and without the deleted, oldest
// first.
func (s *Server) Posts(channelID string) []Post {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[channelID]
	if ch == nil {
		return nil
	}
	var out []Post
	for _, r := range ch.posts {
		if r.now().DeleteAt == 0 {
			out = append(out, r.now().clone())
		}
	}
	return out
}

// Commands are the registered slash commands, with their tokens.
func (s *Server) Commands() []SlashCommand {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []SlashCommand
	for _, c := range s.commands {
		out = append(out, *c)
	}
	return out
}
