package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/slack-go/slack"
)

// bareArgument makes this program the yardstick and nothing else.
const bareArgument = "bare-handler"

// serveBare answers until its input ends. It prints its address first.
func serveBare() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: bareHandler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = srv.Close()
	}()
	fmt.Fprintln(os.Stdout, l.Addr())
	if err := srv.Serve(l); err != nil && err != http.ErrServerClosed {
		return err
	}
	return nil
}

// bareHandler is the least that a bot in Go can do with a request: net/http, the check of who sent
// it, decoding, and an empty answer. Nothing is decided and nothing is kept.
func bareHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slack/commands", func(w http.ResponseWriter, r *http.Request) {
		v, err := slack.NewSecretsVerifier(r.Header, signingSecret)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(io.TeeReader(http.MaxBytesReader(w, r.Body, 1<<20), &v))
		if err != nil || v.Ensure() != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		c, err := slack.SlashCommandParse(r)
		if err != nil || c.Command == "" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	want := sha256.Sum256([]byte(hookToken))
	mux.HandleFunc("POST /gitlab/webhook", func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("X-Gitlab-Token")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
		var event struct {
			Kind       string `json:"object_kind"`
			Attributes struct {
				ID        int64  `json:"id"`
				Ref       string `json:"ref"`
				SHA       string `json:"sha"`
				Status    string `json:"status"`
				Source    string `json:"source"`
				Variables []struct {
					Key   string `json:"key"`
					Value string `json:"value"`
				} `json:"variables"`
			} `json:"object_attributes"`
			Project struct {
				ID int64 `json:"id"`
			} `json:"project"`
			Commit struct {
				Message string `json:"message"`
			} `json:"commit"`
		}
		if err != nil || json.Unmarshal(body, &event) != nil || event.Attributes.ID == 0 {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	return mux
}
