package mattermost

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"ocim/internal/clock"
	"ocim/internal/secret"
)

// What the bot remembers of a server is bounded, and what it forgets it can ask for again.
func TestI12_MemoryOfAServerIsBounded(t *testing.T) {
	t.Parallel()
	base, err := url.Parse("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	a := &Adapter{clock: clock.NewFake(time.Unix(0, 0)), log: slog.New(slog.DiscardHandler)}
	s := newServer(a, Server{Name: "main", BotToken: secret.New("t")}, base, nil)
	for i := range 3 * rememberMax {
		id := fmt.Sprintf("%026d", i)
		s.remember(id, strings.Repeat("c", 26))
		if n := len(s.posts); n > rememberMax {
			t.Fatalf("got %d posts remembered, want at most %d", n, rememberMax)
		}
		if _, ok := s.remembered(id); !ok {
			t.Fatalf("post %d was forgotten at once", i)
		}
	}
}
