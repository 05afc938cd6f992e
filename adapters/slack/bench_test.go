package slack

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"ocim/adapters/chat"
)

// BenchmarkCommand is a signed command from the first byte to the answer, with nothing behind it.
func BenchmarkCommand(b *testing.B) {
	body := strings.TrimSpace(string(fixture(b, "slash_command_escaped_entities.form")))
	benchmark(b, "/slack/commands", body)
}

// BenchmarkClick is the same for a button.
func BenchmarkClick(b *testing.B) {
	body := "payload=" + queryEscape(strings.TrimSpace(string(fixture(b, "block_actions_button_message.json"))))
	benchmark(b, "/slack/interactions", body)
}

func benchmark(b *testing.B, path, body string) {
	b.Helper()
	a, clk := newTest(b, func(context.Context, chat.Incoming) chat.Answer { return chat.Answer{} })
	r := sign(path, formType, testSecret, clk.Now(), body)
	h := a.Routes()[path]
	b.ReportAllocs()
	for b.Loop() {
		r.Body = nopCloser{strings.NewReader(body)}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatalf("got status %d, want 200", w.Code)
		}
	}
}

// BenchmarkRenderCard lays out the card that is edited all the time.
func BenchmarkRenderCard(b *testing.B) {
	m := messages()["card_running"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := render(m); err != nil {
			b.Fatal(err)
		}
	}
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }
