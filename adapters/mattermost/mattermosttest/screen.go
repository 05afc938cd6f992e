package mattermosttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// handshakeTimeout bounds the dial of a socket.
const handshakeTimeout = 10 * time.Second

// screen is what one user is shown: everything that his socket received.
type screen struct {
	conn *websocket.Conn

	mu      sync.Mutex
	events  []Event
	changed chan struct{} // closed and replaced at each event
	ended   error
}

// Watch opens the user's socket, so that nothing is missed from now on.
// Everything else that is about a user's screen opens it when needed.
func (p *Peer) Watch(ctx context.Context, user string) error {
	_, err := p.screen(ctx, user)
	return err
}

func (p *Peer) screen(ctx context.Context, user string) (*screen, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.screens[user]; s != nil {
		return s, nil
	}
	d := websocket.Dialer{HandshakeTimeout: handshakeTimeout}
	url := "ws" + strings.TrimPrefix(p.URL, "http") + "/api/v4/websocket"
	header := http.Header{"Authorization": {"Bearer " + p.Accounts[user].Token}}
	conn, resp, err := d.DialContext(ctx, url, header)
	if err != nil {
		return nil, fmt.Errorf("open the socket of %s: %w", user, err)
	}
	_ = resp.Body.Close()
	s := &screen{conn: conn, changed: make(chan struct{})}
	go s.read()
	if _, err := s.await(ctx, 0, func(e Event) bool { return e.Event == "hello" }); err != nil {
		s.close()
		return nil, fmt.Errorf("no hello for %s: %w", user, err)
	}
	p.screens[user] = s
	return s, nil
}

func (s *screen) close() { _ = s.conn.Close() }

func (s *screen) read() {
	s.conn.SetReadLimit(maxAnswer)
	for {
		var e Event
		err := s.conn.ReadJSON(&e)
		s.mu.Lock()
		if err != nil {
			s.ended = err
		} else {
			s.events = append(s.events, e)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// await returns the number of the first event from the given one on that
// matches.
func (s *screen) await(ctx context.Context, from int, match func(Event) bool) (int, error) {
	for {
		s.mu.Lock()
		events, changed, ended := s.events[from:], s.changed, s.ended
		s.mu.Unlock()
		if i := slices.IndexFunc(events, match); i >= 0 {
			return from + i, nil
		}
		from += len(events)
		if ended != nil {
			return 0, fmt.Errorf("socket ended: %w", ended)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// settle waits until the user's socket has everything that the server sent
// before now: it makes the server send one more event, which comes last.
func (p *Peer) settle(ctx context.Context, user string, s *screen) ([]Event, error) {
	mark, from := newID(), s.len()
	path := "/users/" + p.Accounts[user].ID + "/preferences"
	_, err := do[json.RawMessage](ctx, p, user, http.MethodPut, path, []map[string]string{
		{"user_id": p.Accounts[user].ID, "category": "settled", "name": mark, "value": "1"},
	})
	if err != nil {
		return nil, fmt.Errorf("settle the screen of %s: %w", user, err)
	}
	i, err := s.await(ctx, from, func(e Event) bool {
		text, _ := e.Data["preferences"].(string)
		return e.Event == "preferences_changed" && strings.Contains(text, mark)
	})
	if err != nil {
		return nil, fmt.Errorf("settle the screen of %s: %w", user, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events[:i]), nil
}

// Events is all that the user's socket received since it opened.
func (p *Peer) Events(ctx context.Context, user string) ([]Event, error) {
	s, err := p.screen(ctx, user)
	if err != nil {
		return nil, err
	}
	return p.settle(ctx, user, s)
}

// AwaitPost waits until the user is shown a post, new or edited, that
// matches. Posts seen since his socket opened count; see Watch.
func (p *Peer) AwaitPost(ctx context.Context, user string, match func(Post) bool) (Post, error) {
	s, err := p.screen(ctx, user)
	if err != nil {
		return Post{}, err
	}
	var found Post
	_, err = s.await(ctx, 0, func(e Event) bool {
		post, isPost := e.post()
		if isPost && e.Event != "post_deleted" && match(post) {
			found = post
			return true
		}
		return false
	})
	if err != nil {
		return Post{}, fmt.Errorf("await a post as %s: %w", user, errors.Join(err, ctx.Err()))
	}
	return found, nil
}

// post is the post of an event, which travels as JSON in a string.
func (e Event) post() (Post, bool) {
	var out Post
	text, isText := e.Data["post"].(string)
	return out, isText && json.Unmarshal([]byte(text), &out) == nil
}

func (e Event) dialog() (OpenDialog, bool) {
	var out OpenDialog
	text, isText := e.Data["dialog"].(string)
	return out, isText && json.Unmarshal([]byte(text), &out) == nil
}
