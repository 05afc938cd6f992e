package gitlab_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocim/adapters/gitlab"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/ops"
)

// methods calls every method of an Adapter that talks to GitLab.
func methods(a *gitlab.Adapter) map[string]func(context.Context) error {
	ref := ops.PipelineRef{Project: "cluster", ID: 9001}
	return map[string]func(context.Context) error{
		"Probe":     func(ctx context.Context) error { _, err := a.Probe(ctx, "cluster"); return err },
		"Find":      func(ctx context.Context) error { _, err := a.Find(ctx, spec(), nothingKnown); return err },
		"Create":    func(ctx context.Context) error { _, err := a.Create(ctx, spec()); return err },
		"Tree":      func(ctx context.Context) error { _, err := a.Tree(ctx, tree(ref)); return err },
		"Cancel":    func(ctx context.Context) error { return a.Cancel(ctx, ref) },
		"Jobs":      func(ctx context.Context) error { _, err := a.Jobs(ctx, ref); return err },
		"Tail":      func(ctx context.Context) error { _, err := a.Tail(ctx, "cluster", 1, 1000); return err },
		"Instances": func(ctx context.Context) error { _, err := a.Instances(ctx, "cluster", "instances"); return err },
		"Latest":    func(ctx context.Context) error { _, _, err := a.Latest(ctx, "cluster"); return err },
		"Recent":    func(ctx context.Context) error { _, err := a.Recent(ctx, "cluster", start(), nothingKnown); return err },
	}
}

func single(t *testing.T, base string, change ...func(*gitlab.Config)) *gitlab.Adapter {
	t.Helper()
	cfg := gitlab.Config{
		Clock: clock.NewFake(start()), Rate: 1000, Burst: 10_000,
		Projects: map[string]gitlab.Project{"cluster": {
			BaseURL: base, ID: 42, Ref: "main", Token: secret.New(readToken), WriteToken: secret.New(writeToken),
			TriggerToken: secret.New(triggerToken),
		}},
	}
	for _, c := range change {
		c(&cfg)
	}
	return newAdapter(t, cfg)
}

// TestT16_RedirectsAndForeignAddressesAreNeverFollowed sends every method through redirects and page
// links to another server, which must not see one request.
func TestT16_RedirectsAndForeignAddressesAreNeverFollowed(t *testing.T) {
	t.Parallel()
	var strayed atomic.Int64
	foreign := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(foreign.Close)
	link := `<` + foreign.URL + `/api/v4/x?page=2&page_token=x>; rel="next"`
	answers := map[string]http.HandlerFunc{
		"foreign page": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("page") == "" {
				w.Header().Set("Link", link)
			}
			_, _ = io.WriteString(w, `[]`)
		},
		"malformed link": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "<>;rel,;;<x;y>;next")
			_, _ = io.WriteString(w, `[]`)
		},
		"foreign web_url": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"id":9001,"status":"running","started_at":"2026-05-04T10:00:00Z","web_url":%q}`, foreign.URL)
		},
	}
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		answers[fmt.Sprint(status)] = func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, foreign.URL+r.URL.Path, status)
		}
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(answer)
			t.Cleanup(srv.Close)
			for method, call := range methods(single(t, srv.URL)) {
				err := call(short(t))
				if name[0] == '3' && ops.CodeOf(err) != ops.CodeUnavailable {
					t.Errorf("%s: got %v, want unavailable", method, err)
				}
			}
		})
	}
	t.Cleanup(func() {
		if n := strayed.Load(); n != 0 {
			t.Errorf("requests to the foreign server: got %d, want 0", n)
		}
	})
}

func TestT16_AddressesThatAreNoGitLabAreRefused(t *testing.T) {
	t.Parallel()
	for _, base := range []string{
		"", "gitlab.example.com", "//gitlab.example.com", "ftp://gitlab.example.com", "file:///etc/passwd", "gopher://x",
		"http://", "https://user:pass@gitlab.example.com", "https://user@gitlab.example.com", "https://gitlab.example.com?x=1",
		"https://gitlab.example.com/#x", "https://evil.example.com", "https://gitlab.example.com.evil.example.com",
		"https://gitlab.example.com:444", "http://gitlab.example.com", "https://gitlab.example.com@evil.example.com",
		"https://evil.example.com\\@gitlab.example.com", "https://[::1", "https://gitlab.example.com:x", "https://%67itlab.example.com",
		"http://127.0.0.1", "http://2130706433", "http://0x7f.1", "http://[::ffff:127.0.0.1]", "javascript:alert(1)", "data:,x",
	} {
		_, err := gitlab.New(gitlab.Config{
			Clock: clock.NewFake(start()), AllowedHosts: []string{"https://gitlab.example.com"},
			Projects: map[string]gitlab.Project{"cluster": {BaseURL: base, ID: 42}},
		})
		if err == nil && base != "https://%67itlab.example.com" {
			t.Errorf("New with %q: got no error", base)
		}
	}
}

// TestT16_AddressesOfMachineryAreRefusedAtDial: a name that leads to a cloud's metadata service, or
// to no host at all, ends before the connection.
func TestT16_AddressesOfMachineryAreRefusedAtDial(t *testing.T) {
	t.Parallel()
	for _, base := range []string{
		"http://169.254.169.254", "http://[fe80::1]", "http://0.0.0.0", "http://[::]", "http://224.0.0.1", "http://[::ffff:169.254.169.254]",
	} {
		_, err := single(t, base).Create(short(t), spec())
		if e := opsError(t, err); !e.NotSent || !strings.Contains(e.Error(), "not on the list") {
			t.Errorf("%s: got %v, want refused at dial", base, err)
		}
	}
}

// TestT18_AnswersOfAnySizeAreCapped streams endless answers of several kinds into every method.
func TestT18_AnswersOfAnySizeAreCapped(t *testing.T) {
	t.Parallel()
	chunk := []byte(strings.Repeat("x", 64<<10))
	var sent atomic.Int64
	endless := func(w io.Writer, begin string) {
		_, _ = io.WriteString(w, begin)
		for {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.WriteString(z, `{"name":"`)
	for range 256 { // 16 MiB unpacked
		_, _ = z.Write(chunk)
	}
	_ = z.Close()
	answers := map[string]http.HandlerFunc{
		"object":       func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"name":"`) },
		"list":         func(w http.ResponseWriter, _ *http.Request) { endless(w, `[{"name":"`) },
		"after object": func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"id":9001}`) },
		"error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			endless(w, `{"message":"`)
		},
		"refusal": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			endless(w, `{"message":"`)
		},
		"bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(answer)
			t.Cleanup(srv.Close)
			a := single(t, srv.URL, func(c *gitlab.Config) { c.MaxBody = 1 << 20 })
			for method, call := range methods(a) {
				if method == "Tail" {
					continue // has a bound of its own
				}
				err := call(short(t))
				var e *ops.Error
				// Any 200 means that GitLab took the cancellation.
				if name != "after object" && method != "Cancel" && !errors.As(err, &e) {
					t.Errorf("%s: got %v, want an error", method, err)
				}
			}
		})
	}
	t.Cleanup(func() {
		if n := sent.Load(); n > 512<<20 {
			t.Errorf("bytes sent: got %d MiB, want far less", n>>20)
		}
	})
}

func TestT18_EndlessLogsAndListsEnd(t *testing.T) {
	t.Parallel()
	t.Run("log", func(t *testing.T) {
		t.Parallel()
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			line := []byte(strings.Repeat(strings.Repeat("y", 99)+"\n", 1000))
			for {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}))
		t.Cleanup(srv.Close)
		_, err := single(t, srv.URL).Tail(short(t), "cluster", 1, 1000)
		if e := opsError(t, err); !strings.Contains(e.Msg, "larger than 64 MiB") {
			t.Errorf("got %v, want a sentence about its size", err)
		}
	})
	t.Run("pages", func(t *testing.T) {
		t.Parallel()
		var n atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Next-Page", "2")
			_, _ = fmt.Fprintf(w, `[{"id":%d,"status":"success","name":"x","type":"tree"}]`, n.Add(1))
		}))
		t.Cleanup(srv.Close)
		a := single(t, srv.URL)
		if found, err := a.Find(short(t), spec(), nothingKnown); len(found) > 0 || ops.ReasonOf(err) != ops.ReasonOutcomeUnknown || ops.CodeOf(err) != ops.CodeUnavailable {
			t.Errorf("Find: got %v %v, want unavailable outcome_unknown", found, err)
		}
		if _, err := a.Instances(short(t), "cluster", "instances"); err != nil {
			t.Errorf("Instances: %v", err)
		}
		if got := n.Load(); got > 100 {
			t.Errorf("pages read: got %d, want at most 100", got)
		}
	})
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(c *gitlab.Config) { c.Timeout = 200 * time.Millisecond })
		w.server.Inject(gitlabtest.Fault{Do: gitlabtest.Hang()})
		for method, call := range methods(w.Adapter) {
			if err := call(short(t)); ops.CodeOf(err) != ops.CodeUnavailable || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v, want unavailable after the deadline", method, err)
			}
		}
	})
}

// TestT20_OurTokensAreInNoErrorAndNoLog lets GitLab repeat every secret it was sent, in answers of all
// kinds, and searches what comes out.
func TestT20_OurTokensAreInNoErrorAndNoLog(t *testing.T) {
	t.Parallel()
	forms := map[string]func(w http.ResponseWriter, status int, all string){
		"json message": func(w http.ResponseWriter, status int, all string) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"message":{"base":[%q]}}`, all)
		},
		"long text before": func(w http.ResponseWriter, status int, all string) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"message":%q}`, strings.Repeat("x", 475)+triggerToken+all)
		},
		"plain text": func(w http.ResponseWriter, status int, all string) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, all)
		},
		"location": func(w http.ResponseWriter, status int, all string) {
			w.Header().Set("Location", "https://x.example/"+strings.Join(strings.Fields(all), ""))
			w.WriteHeader(status)
		},
		"names": func(w http.ResponseWriter, _ int, all string) {
			_, _ = fmt.Fprintf(w, `{"id":%q}`, all)
		},
		"headers": func(w http.ResponseWriter, status int, all string) {
			w.Header().Set("Date", strings.Join(strings.Fields(all), " "))
			w.Header().Set("Retry-After", strings.Join(strings.Fields(all), " "))
			w.WriteHeader(status)
		},
	}
	for name, form := range forms {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 418, 422, 429, 500, 503} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					form(w, status, fmt.Sprint(r.Header, string(body), triggerToken))
				}))
				t.Cleanup(srv.Close)
				w := newWorld(t)
				for method, call := range methods(single(t, srv.URL)) {
					err := call(short(t))
					var e *ops.Error
					if err == nil || !errors.As(err, &e) {
						continue
					}
					for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v %v", err, e, e.Err), e.Msg, e.Next, w.log.String()} {
						if i := strings.Index(text, "canary"); i >= 0 {
							t.Errorf("%s: a token stands in %q", method, text[max(0, i-60):min(len(text), i+60)])
						}
					}
				}
			})
		}
	}
}
