package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// What both sides of the bench know.
const (
	signingSecret = "signing-secret-of-the-bench-0001"
	hookToken     = "webhook-token-of-the-bench-0001"
	readToken     = "glpat-read-token-of-the-bench-1"
	triggerToken  = "glptt-trigger-token-of-the-bench"
	projectID     = 42
	users         = 500 // so many that each stays within what one person may ask
	channels      = 8
)

// source makes requests. It is used by one connection at a time.
type source interface {
	// next appends a whole request to buf[:0].
	next(buf []byte) []byte
	// good tells whether the answer is the one that the last request must have.
	good(status int, body []byte) bool
}

// traffic makes a source for each connection.
type traffic func() source

// team, user and channel are Slack's ids of the bench's world.
func team(n int) string    { return fmt.Sprintf("T0BENCH%02d", n) }
func user(n int) string    { return fmt.Sprintf("U0BENCH%03d", n) }
func channel(n int) string { return fmt.Sprintf("C0BENCH%03d", n) }

// botToken names its workspace, so that the stub knows whom it answers.
func botToken(n int) string { return "xoxb-token-of-" + team(n) }

// instance is the name of the n-th instance.
func instance(n int64) string { return fmt.Sprintf("i%06d", n) }

// commands makes signed slash commands, each for the deploy of another instance, as Slack sends
// them: docs.slack.dev, interactivity/implementing-slash-commands.
type commands struct {
	count  *atomic.Int64 // instances named so far, shared by all connections
	accept []byte        // what an answer must hold; nil: anything
	mac    hash.Hash
	form   []byte
	sum    []byte
}

// newCommands returns traffic which expects that each answer holds accept.
func newCommands(count *atomic.Int64, accept string) traffic {
	return func() source {
		c := &commands{count: count, mac: hmac.New(sha256.New, []byte(signingSecret))}
		if accept != "" {
			c.accept = []byte(accept)
		}
		return c
	}
}

func (c *commands) next(buf []byte) []byte {
	n := c.count.Add(1)
	f := append(c.form[:0], "token=gIkuvaNzQIHg97ATvDxqgjtO&team_id="...)
	f = append(f, team(0)...)
	f = append(f, "&team_domain=bench&channel_id="...)
	f = append(f, channel(int(n%channels))...)
	f = append(f, "&channel_name=deployments&user_id="...)
	f = append(f, user(int(n%users))...)
	f = append(f, "&user_name=ann&command=%2Focim&text=deploy+"...)
	f = append(f, instance(n-1)...)
	f = append(f, "&api_app_id=A0BENCH01&is_enterprise_install=false&response_url=http%3A%2F%2F127.0.0.1%3A1%2Fcommands%2FT0BENCH00%2F"...)
	f = strconv.AppendInt(f, 1_000_000_000_000+n, 10)
	f = append(f, "%2FQEbB5KBjFZ1QpDgN5XyP8kVn&trigger_id="...)
	f = strconv.AppendInt(f, 1_000_000_000_000+n, 10)
	f = append(f, ".738474920.0123456789abcdef0123456789abcdef"...)
	c.form = f
	stamp := strconv.AppendInt(nil, time.Now().Unix(), 10)
	c.mac.Reset()
	_, _ = c.mac.Write([]byte("v0:"))
	_, _ = c.mac.Write(stamp)
	_, _ = c.mac.Write([]byte(":"))
	_, _ = c.mac.Write(f)
	c.sum = c.mac.Sum(c.sum[:0])
	b := append(buf[:0], "POST /slack/commands HTTP/1.1\r\nHost: ocim.bench\r\nUser-Agent: Slackbot 1.0 (+https://api.slack.com/robots)\r\n"+
		"Accept: application/json,*/*\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Slack-Request-Timestamp: "...)
	b = append(b, stamp...)
	b = append(b, "\r\nX-Slack-Signature: v0="...)
	b = hex.AppendEncode(b, c.sum)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(f)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, f...)
}

func (c *commands) good(status int, body []byte) bool {
	return status == 200 && (c.accept == nil || strings.Contains(string(body), string(c.accept)))
}

// hooks makes GitLab's pipeline webhooks about one tracked pipeline after another.
type hooks struct{ count *atomic.Int64 }

func newHooks(count *atomic.Int64) traffic { return func() source { return &hooks{count} } }

func (h *hooks) next(buf []byte) []byte { return appendHook(buf[:0], h.count.Add(1)-1) }

func (*hooks) good(status int, _ []byte) bool { return status == 200 }

// appendHook appends the webhook for the pipeline of the n-th seeded operation. Its shape is that of
// lib/gitlab/data_builder/pipeline.rb in GitLab, with one job.
func appendHook(b []byte, n int64) []byte {
	var body [2 << 10]byte
	j := append(body[:0], `{"object_kind":"pipeline","object_attributes":{"id":`...)
	j = strconv.AppendInt(j, pipelineID(n), 10)
	j = append(j, `,"iid":3,"name":null,"ref":"main","ref_protected":true,"tag":false,"sha":"bcbb5ec396a2c0f828686f14fac9b80b780504f2",`+
		`"before_sha":"0000000000000000000000000000000000000000","source":"trigger","status":"running","detailed_status":"running",`+
		`"stages":["generate","build","deploy"],"created_at":"2026-11-20 14:00:01 UTC","finished_at":null,"duration":null,"queued_duration":2,`+
		`"protected_ref":true,"variables":[{"key":"INSTANCE_NAME","value":"`...)
	j = append(j, instance(n)...)
	j = append(j, `"},{"key":"DEPLOYMENT_REQUEST_ID","value":"`...)
	j = strconv.AppendInt(j, number(n), 10)
	j = append(j, `"},{"key":"NEW_INSTANCE_TRIGGER","value":"1"}],"url":"https://gitlab.bench/ops/grove/-/pipelines/1"},"merge_request":null,`+
		`"user":{"id":5,"name":"ocim-bot","username":"ocim-bot","avatar_url":null,"email":"[REDACTED]"},`+
		`"project":{"id":42,"name":"grove","description":"","web_url":"https://gitlab.bench/ops/grove","avatar_url":null,`+
		`"git_ssh_url":"git@gitlab.bench:ops/grove.git","git_http_url":"https://gitlab.bench/ops/grove.git","namespace":"ops","visibility_level":0,`+
		`"path_with_namespace":"ops/grove","default_branch":"main","ci_config_path":null},"commit":{"id":"bcbb5ec396a2c0f828686f14fac9b80b780504f2",`+
		`"message":"Update the instance","title":"Update the instance","timestamp":"2026-11-20T13:59:58+00:00",`+
		`"url":"https://gitlab.bench/ops/grove/-/commit/bcbb5ec396a2","author":{"name":"Ann","email":"ann@bench.example"}},"source_pipeline":null,`+
		`"builds":[{"id":377,"stage":"generate","name":"generate","status":"running","created_at":"2026-11-20 14:00:01 UTC",`+
		`"started_at":"2026-11-20 14:00:03 UTC","finished_at":null,"duration":1.2,"queued_duration":2.1,"failure_reason":null,"when":"on_success",`+
		`"manual":false,"allow_failure":false,"user":{"id":5,"name":"ocim-bot","username":"ocim-bot"},"runner":null,`+
		`"artifacts_file":{"filename":null,"size":null},"environment":null}]}`...)
	b = append(b, "POST /gitlab/webhook HTTP/1.1\r\nHost: ocim.bench\r\nUser-Agent: GitLab/19.1.0\r\nContent-Type: application/json\r\n"+
		"X-Gitlab-Event: Pipeline Hook\r\nX-Gitlab-Instance: https://gitlab.bench\r\nX-Gitlab-Token: "+hookToken+"\r\n"+
		"X-Gitlab-Webhook-Uuid: 4b1d3e0a-76a2-4b7e-9a4e-9d1c1b5d2c11\r\nX-Gitlab-Event-Uuid: 01aa2d3e-5f0c-4e5e-8f5e-0d6a3d4c5b6a\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(j)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, j...)
}

// hostile makes requests that must be refused: forged, stale and unsigned ones, garbage, and bodies
// beyond every limit.
type hostile struct {
	inner *commands
	big   []byte
}

func newHostile() traffic {
	return func() source {
		return &hostile{
			inner: &commands{count: new(atomic.Int64), mac: hmac.New(sha256.New, []byte("not the signing secret of anybody"))},
			big:   chunkedBody(1200 << 10),
		}
	}
}

func (h *hostile) next(buf []byte) []byte {
	switch n := rand.IntN(20); {
	case n < 9: // signed with another secret
		return h.inner.next(buf)
	case n < 12: // no signature
		return append(buf[:0], "POST /slack/commands HTTP/1.1\r\nHost: ocim.bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
			"Content-Length: 36\r\n\r\ncommand=%2Focim&text=deploy+i000001&"...)
	case n < 14: // a webhook with a wrong token
		return append(buf[:0], "POST /gitlab/webhook HTTP/1.1\r\nHost: ocim.bench\r\nContent-Type: application/json\r\nX-Gitlab-Token: guess\r\n"+
			"Content-Length: 27\r\n\r\n{\"object_kind\":\"pipeline\"}\n"...)
	case n < 17: // not HTTP at all
		return append(buf[:0], "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 GET ../../etc/passwd\r\n\r\n"...)
	case n < 19: // announces 8 MiB
		return append(buf[:0], "POST /slack/commands HTTP/1.1\r\nHost: ocim.bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
			"X-Slack-Request-Timestamp: 1\r\nX-Slack-Signature: v0=00\r\nContent-Length: 8388608\r\n\r\ntext="...)
	}
	b := append(buf[:0], "POST /slack/interactions HTTP/1.1\r\nHost: ocim.bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"X-Slack-Request-Timestamp: 1\r\nX-Slack-Signature: v0=00\r\nTransfer-Encoding: chunked\r\n\r\n"...)
	return append(b, h.big...)
}

func (*hostile) good(status int, _ []byte) bool {
	return status >= 400 && status < 500 || status == 503
}

// chunkedBody is a body of about n bytes in chunks of 32 KiB.
func chunkedBody(n int) []byte {
	var b strings.Builder
	chunk := "8000\r\n" + strings.Repeat("a", 0x8000) + "\r\n"
	for b.Len() < n {
		b.WriteString(chunk)
	}
	b.WriteString("0\r\n\r\n")
	return []byte(b.String())
}
