package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/slack/slacktest"
	"ocim/ops"
)

// badRequest is something that the public listener must not act on.
type badRequest struct {
	path   string
	header http.Header
	body   []byte
	whole  bool // false: the body is sent without its last byte, and the sending side closed
	long   bool // the length is not announced

	status int
	says   string // what the answer tells whoever asked; empty where it must tell nothing
	logs   string // what the one line in the log holds
}

// chatty shows every line of the log.
func chatty(s *rigSetup) { s.level = slog.LevelDebug }

// Everything that can be wrong with a request, on every route of the real listener. Each ends in a
// quiet refusal or a clear answer and in one line of the log; none of them does anything.
func TestT01T02T05T17T23I14_BadRequestsAreRefusedWithOneLineEach(t *testing.T) {
	t.Parallel()
	r := newRig(t, talking, chatty, plain(gitlabtest.Script{Stages: []gitlabtest.Stage{{Name: "s", Jobs: []gitlabtest.Job{{Name: "j", Duration: 100 * time.Hour}}}}}))
	p := r.run().online().inhabit()
	l := p.live
	all := map[string]badRequest{}
	maps.Copy(all, p.badSlack())
	maps.Copy(all, p.badMattermost())
	maps.Copy(all, p.badHooks())
	l.pump(l.asleep)
	before := l.everything(p.ids)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		bad := all[name]
		seen := len(r.logs.String())
		got := l.deliver(bad)
		if got.status != bad.status || bad.says == "" && len(got.body) > 60 || !strings.Contains(strings.ReplaceAll(got.body, `\\`, ""), bad.says) {
			t.Errorf("%s: got %d %.200q, want %d and %q", name, got.status, got.body, bad.status, bad.says)
		}
		lines := strings.Split(strings.TrimSpace(r.logs.String()[seen:]), "\n")
		if len(lines) != 1 || !strings.Contains(lines[0], bad.logs) || lines[0] == "" {
			t.Errorf("%s: got %d lines in the log, want one with %q:\n%s", name, len(lines), bad.logs, strings.Join(lines, "\n"))
		}
	}
	if after := l.everything(p.ids); after != before {
		t.Errorf("bad requests left a trace. After:\n%s\nbefore:\n%s", after, before)
	}
	for _, env := range append(r.talk.env(), "K="+rigKey, "R="+rigRead, "W="+rigWrite, "T="+rigTrigger, "H="+rigHook, "C="+r.talk.matter.Commands()[0].Token) {
		if _, secret, _ := strings.Cut(env, "="); strings.Contains(r.logs.String(), secret) {
			t.Errorf("secret %s is in the log", env)
		}
	}
}

// everything is what could have been changed: all operations with their events, what was asked of
// GitLab, and every message.
func (l *live) everything(ids []string) string {
	l.t.Helper()
	var b strings.Builder
	if err := l.app.store.View(l.t.Context(), func(r ops.Reader) error {
		all, err := r.Operations(l.t.Context(), ops.Filter{Limit: 1000})
		fmt.Fprintf(&b, "%d operations\n", len(all))
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	for _, id := range ids {
		op := l.op(id)
		fmt.Fprintf(&b, "%s %s run %d, %d events\n", id, op.State, op.Run, len(l.events(id)))
	}
	fmt.Fprintf(&b, "%d writes to GitLab\n", len(l.lab.Writes()))
	for _, s := range []*slacktest.Server{l.talk.http, l.talk.socket} {
		fmt.Fprintf(&b, "%d messages, %d views\n", len(s.Messages(slackOps)), len(s.Views(ann)))
	}
	posts := 0
	for _, id := range l.talk.peer.Channels {
		posts += len(l.talk.matter.Posts(id))
	}
	fmt.Fprintf(&b, "%d posts\n", posts)
	return b.String()
}

// deliver sends a bad request and returns the answer, as far as there is one.
func (l *live) deliver(bad badRequest) answer {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.app.public.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.publicURL()+bad.path, bytes.NewReader(bad.body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header, req.Close = bad.header.Clone(), true
	if bad.long {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(bad.body)), -1
	}
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		l.t.Fatal(err)
	}
	text := wire.Bytes()
	if !bad.whole {
		text = text[:len(text)-1]
	}
	go func() {
		_, _ = conn.Write(text) // the bot may answer and hang up before it has all
		if !bad.whole {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	got, err := io.ReadAll(conn)
	head, body, found := strings.Cut(string(got), "\r\n\r\n")
	if err != nil && !found || !found {
		return answer{body: fmt.Sprint(err)}
	}
	a := answer{body: strings.TrimSpace(body)}
	_, _ = fmt.Sscanf(head, "HTTP/1.1 %d", &a.status)
	return a
}

func with(h http.Header, key string, values ...string) http.Header {
	h = h.Clone()
	h[http.CanonicalHeaderKey(key)] = values
	return h
}

// deep is JSON of n arrays in each other.
func deep(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func (p *inhabited) badSlack() map[string]badRequest {
	s := p.talk.http
	good := p.talk.slackCommand("deploy demo")
	request := func(r slacktest.Request, status int, logs string) badRequest {
		u, err := url.Parse(r.URL)
		if err != nil {
			p.t.Fatal(err)
		}
		return badRequest{path: u.Path, header: r.Header, body: r.Body, whole: true, status: status, logs: logs}
	}
	signed := func(path, contentType, body string) slacktest.Request {
		return s.Stale(slacktest.Request{URL: p.publicURL() + path, Header: http.Header{"Content-Type": {contentType}}, Body: []byte(body)}, 0)
	}
	const form = "application/x-www-form-urlencoded"
	field := func(name, value string) slacktest.Request {
		v, err := url.ParseQuery(string(good.Body))
		if err != nil {
			p.t.Fatal(err)
		}
		v.Set(name, value)
		return signed("/slack/commands", form, v.Encode())
	}
	interaction := func(payload string) slacktest.Request {
		return signed("/slack/interactions", form, url.Values{"payload": {payload}}.Encode())
	}
	click, err := s.ClickPayload(ann, slackOps, p.cards[0].TS, buttonID(p.t, p.cards[0], "Cancel"))
	if err != nil {
		p.t.Fatal(err)
	}
	clicked := func(change func(slacktest.Object)) string {
		var c slacktest.Object
		if err := json.Unmarshal([]byte(jsonText(p.t, click)), &c); err != nil {
			p.t.Fatal(err)
		}
		change(c)
		return jsonText(p.t, c)
	}
	otherTeam := clicked(func(c slacktest.Object) { c["team"] = slacktest.Object{"id": socketTeam} })
	all := map[string]badRequest{
		"unsigned":                  request(s.Unsigned(good), 401, "signature headers missing"),
		"forged":                    request(s.Forged(good), 401, "signature does not match"),
		"tampered":                  request(s.Tampered(good), 401, "signature does not match"),
		"stale":                     request(s.Stale(good, 6*time.Minute), 401, "timestamp too far"),
		"of the future":             request(s.Stale(good, -6*time.Minute), 401, "timestamp too far"),
		"two signatures":            request(slacktest.Request{URL: good.URL, Header: with(good.Header, slacktest.HeaderSignature, "v0=00", good.Header.Get(slacktest.HeaderSignature)), Body: good.Body}, 401, "missing or doubled"),
		"upper-case signature":      request(slacktest.Request{URL: good.URL, Header: with(good.Header, slacktest.HeaderSignature, "v0="+strings.ToUpper(good.Header.Get(slacktest.HeaderSignature)[3:])), Body: good.Body}, 401, "signature malformed"),
		"time that is no number":    request(slacktest.Request{URL: good.URL, Header: with(good.Header, slacktest.HeaderTimestamp, "soon"), Body: good.Body}, 401, "not a number"),
		"oversized":                 request(signed("/slack/commands", form, "text="+strings.Repeat("x", 1<<20)), 413, "too large"),
		"wrong content type":        request(signed("/slack/commands", "application/json", "{}"), 415, "wrong content type"),
		"no content type":           request(slacktest.Request{URL: good.URL, Header: with(good.Header, "Content-Type"), Body: good.Body}, 415, "wrong content type"),
		"workspace of another app":  request(field("team_id", socketTeam), 403, "workspace does not belong"),
		"unknown workspace":         request(field("team_id", "T0NOBODY1"), 403, "workspace does not belong"),
		"two workspaces":            request(signed("/slack/commands", form, "team_id="+socketTeam+"&"+string(good.Body)), 403, "workspace does not belong"),
		"user that is no id":        request(field("user_id", "<!channel>"), 403, "without user or channel"),
		"percent without digits":    request(signed("/slack/commands", form, "text=%zz&"+string(good.Body)), 400, "command malformed"),
		"click of another app":      request(interaction(otherTeam), 403, "workspace does not belong"),
		"click with two workspaces": request(interaction(strings.TrimSuffix(clicked(func(slacktest.Object) {}), "}")+`,"team":{"id":"`+socketTeam+`"}}`), 403, "workspace does not belong"),
		"click on another's post": request(interaction(clicked(func(c slacktest.Object) {
			c["message"] = slacktest.Object{"ts": p.cards[0].TS, "user": "U0MALLORY", "bot_id": "B0MALLORY", "app_id": "A0MALLORY"}
		})), 403, "not ours"),
		"interaction that is no JSON":   request(interaction("{"), 400, "interaction malformed"),
		"interaction of deep arrays":    request(interaction(`{"team":`+deep(100_000)+`}`), 400, "interaction malformed"),
		"interaction of other types":    request(interaction(`{"team":"T0OCIM001","actions":{"a":1}}`), 400, "interaction malformed"),
		"interaction without a payload": request(signed("/slack/interactions", form, "a=b"), 400, "interaction malformed"),
		"event that is no JSON":         request(signed("/slack/events", "application/json", `{"type":`), 400, "event malformed"),
		"event of another app":          request(signed("/slack/events", "application/json", `{"type":"event_callback","team_id":"`+socketTeam+`"}`), 403, "workspace does not belong"),
	}
	long, cut := all["oversized"], request(good, 400, "body cut off")
	long.long = true
	cut.whole = false
	all["oversized without a length"], all["truncated"] = long, cut
	// Genuine requests whose content makes no sense are answered in words.
	told := func(r slacktest.Request, says, logs string) badRequest {
		b := request(r, 200, logs)
		b.says = says
		return b
	}
	all["not UTF-8"] = told(signed("/slack/commands", form, strings.Replace(string(good.Body), "text=deploy+demo", "text=deploy+%ff%fe%c0%af", 1)), "unknown_instance", "request refused")
	all["unknown verb"] = told(field("text", "obliterate demo"), "unknown_verb", "request refused")
	all["unknown instance"] = told(field("text", "deploy dmeo"), "unknown_instance", "request refused")
	all["unknown key"] = told(field("text", "deploy demo theme=blue"), "unknown_parameter", "request refused")
	all["person who may not"] = told(field("user_id", "U0BEN0001"), "not_allowed", "request refused")
	all["instance that is busy"] = told(field("text", "deploy demo"), "instance_busy", "request refused")
	out := map[string]badRequest{}
	for name, b := range all {
		out["slack: "+name] = b
	}
	return out
}

func (p *inhabited) badMattermost() map[string]badRequest {
	k := p.talk
	form := formHeader()
	jsonType := http.Header{"Content-Type": {"application/json"}}
	good := k.matterCommand(p.next(), "deploy campus")
	command := func(name, value string) []byte {
		v := maps.Clone(good)
		v.Set(name, value)
		v.Set("trigger_id", p.next())
		return []byte(v.Encode())
	}
	click := func(change func(map[string]any)) []byte {
		var c map[string]any
		if err := json.Unmarshal([]byte(jsonText(p.t, p.matterClick())), &c); err != nil {
			p.t.Fatal(err)
		}
		change(c)
		return []byte(jsonText(p.t, c))
	}
	other := strings.Repeat("z", 26)
	bob := k.peer.Accounts["bob"].ID
	const notOurs, unverified = "not one of this bot's", "could not be verified"
	commands, actions, dialogs := matterPath("commands"), matterPath("actions"), matterPath("dialogs")
	forged := p.matterSubmission("dialog_submission", map[string]any{"instance": "eu/demo"})
	forged.State = strings.Replace(forged.State, ".", "A.", 1)
	stolen := p.matterSubmission("dialog_submission", map[string]any{"instance": "eu/demo"})
	stolen.UserID = bob
	all := map[string]badRequest{
		"wrong path secret":       {path: "/mattermost/commands/mm/" + strings.Repeat("x", len(rigPath)), header: form, body: []byte(good.Encode()), status: 404, logs: "not the secret of this route"},
		"prefix of the secret":    {path: commands[:len(commands)-1], header: form, body: []byte(good.Encode()), status: 404, logs: "not the secret of this route"},
		"unknown server":          {path: "/mattermost/commands/elsewhere/" + rigPath, header: form, body: []byte(good.Encode()), status: 404, logs: "no such server"},
		"wrong content type":      {path: commands, header: jsonType, body: []byte("{}"), status: 415, logs: "wrong content type"},
		"form for a click":        {path: actions, header: form, body: []byte("a=b"), status: 415, logs: "wrong content type"},
		"oversized":               {path: commands, header: form, body: []byte("text=" + strings.Repeat("x", 1<<20)), status: 413, logs: "too long"},
		"oversized, no length":    {path: commands, header: form, body: []byte("text=" + strings.Repeat("x", 1<<20)), long: true, status: 413, logs: "too long"},
		"malformed form":          {path: commands, header: form, body: []byte("token=%zz"), status: 400, logs: "not a form"},
		"without ids":             {path: commands, header: form, body: command("user_id", ""), status: 400, logs: "missing or malformed"},
		"id that is no id":        {path: commands, header: form, body: command("channel_id", "../../../../etc/passwd"), status: 400, logs: "missing or malformed"},
		"wrong token":             {path: commands, header: form, body: command("token", other), status: 200, says: unverified, logs: "token is not that of the team"},
		"no token":                {path: commands, header: form, body: command("token", ""), status: 200, says: unverified, logs: "token is not that of the team"},
		"token of another team":   {path: commands, header: form, body: command("team_id", other), status: 200, says: unverified, logs: "token is not that of the team"},
		"person who may not":      {path: commands, header: form, body: command("user_id", bob), status: 200, says: "not_allowed", logs: "request refused"},
		"unknown verb":            {path: commands, header: form, body: command("text", "obliterate demo"), status: 200, says: "unknown_verb", logs: "request refused"},
		"not UTF-8":               {path: commands, header: form, body: command("text", "deploy \xff\xfe\xc0\xaf"), status: 200, says: "unknown_instance", logs: "request refused"},
		"click, no JSON":          {path: actions, header: jsonType, body: []byte("{"), status: 400, logs: "not the expected JSON"},
		"click, two values":       {path: actions, header: jsonType, body: append(click(func(map[string]any) {}), "{}"...), status: 400, logs: "more than one"},
		"click, deep":             {path: actions, header: jsonType, body: []byte(`{"context":` + deep(100_000) + `}`), status: 400, logs: "not the expected JSON"},
		"click, not UTF-8":        {path: actions, header: jsonType, body: []byte("{\"user_id\":\"\xff\xfe\"}"), status: 400, logs: "missing or malformed"},
		"click, other channel":    {path: actions, header: jsonType, body: click(func(c map[string]any) { c["channel_id"] = other }), status: 200, says: notOurs, logs: "click refused"},
		"click, no seal":          {path: actions, header: jsonType, body: click(func(c map[string]any) { delete(c["context"].(map[string]any), "m") }), status: 200, says: notOurs, logs: "click refused"},
		"click, other token":      {path: actions, header: jsonType, body: click(func(c map[string]any) { c["context"].(map[string]any)["t"] = "x" }), status: 200, says: notOurs, logs: "click refused"},
		"click, channel twice":    {path: actions, header: jsonType, body: []byte(strings.TrimSuffix(string(click(func(map[string]any) {})), "}") + `,"channel_id":"` + other + `"}`), status: 200, says: notOurs, logs: "click refused"},
		"click, person may not":   {path: actions, header: jsonType, body: click(func(c map[string]any) { c["user_id"] = bob }), status: 200, says: "not_allowed", logs: "request refused"},
		"dialog, forged state":    {path: dialogs, header: jsonType, body: []byte(jsonText(p.t, forged)), status: 200, says: "too old or not one of this bot", logs: "dialog refused"},
		"dialog, other person":    {path: dialogs, header: jsonType, body: []byte(jsonText(p.t, stolen)), status: 200, says: "too old or not one of this bot", logs: "dialog refused"},
		"dialog, no JSON":         {path: dialogs, header: jsonType, body: []byte("null"), status: 400, logs: "dialog refused"},
		"dialog, deep submission": {path: dialogs, header: jsonType, body: []byte(`{"submission":{"a":` + deep(100_000) + `}}`), status: 400, logs: "dialog refused"},
	}
	out := map[string]badRequest{}
	for name, b := range all {
		b.whole = true
		out["mattermost: "+name] = b
	}
	out["mattermost: truncated"] = badRequest{path: commands, header: form, body: []byte(good.Encode()), status: 400, logs: "cut off"}
	return out
}

func (p *inhabited) badHooks() map[string]badRequest {
	hook := p.lab.AddHook(rigProject, gitlabtest.Hook{URL: "http://127.0.0.1:1/", Token: rigHook})
	header, body, err := p.lab.BuildHook(hook, p.op(p.ids[0]).Pipelines[0].Ref.ID)
	if err != nil {
		p.t.Fatal(err)
	}
	edit := func(old, to string) []byte {
		if !strings.Contains(string(body), old) {
			p.t.Fatalf("the hook has no %s: %s", old, body)
		}
		return []byte(strings.ReplaceAll(string(body), old, to))
	}
	token := func(values ...string) http.Header { return with(header, "X-Gitlab-Token", values...) }
	pid := fmt.Sprint(`"id":`, p.op(p.ids[0]).Pipelines[0].Ref.ID)
	op := p.op(p.ids[0])
	stranger := strings.ReplaceAll(string(edit(pid, `"id":7`)), op.Key, strings.Repeat("0", 32))
	stranger = strings.ReplaceAll(stranger, fmt.Sprint(op.Number), "1")
	const wrong, meaningless = "wrong or missing secret", "without meaning"
	all := map[string]badRequest{
		"no token":             {header: token(), body: body, status: 401, logs: wrong},
		"blank token":          {header: token(" "), body: body, status: 401, logs: wrong},
		"wrong token":          {header: token("x" + rigHook[1:]), body: body, status: 401, logs: wrong},
		"prefix of the token":  {header: token(rigHook[:len(rigHook)-1]), body: body, status: 401, logs: wrong},
		"longer token":         {header: token(rigHook + "x"), body: body, status: 401, logs: wrong},
		"two tokens":           {header: token("x", rigHook), body: body, status: 401, logs: wrong},
		"unknown signature":    {header: with(token(), "Webhook-Signature", "v1,AAAA"), body: body, status: 401, logs: "without id or time"},
		"oversized":            {header: header, body: bytes.Repeat([]byte(" "), 4<<20+1), status: 200, logs: "larger than allowed"},
		"oversized, no length": {header: header, body: bytes.Repeat([]byte(" "), 4<<20+1), long: true, status: 200, logs: "larger than allowed"},
		"empty":                {header: header, body: []byte(" "), status: 200, logs: meaningless},
		"no JSON":              {header: header, body: []byte("<html>"), status: 200, logs: meaningless},
		"half":                 {header: header, body: body[:len(body)/2], status: 200, logs: meaningless},
		"deep":                 {header: header, body: []byte(`{"object_kind":"pipeline","object_attributes":` + deep(100_000) + `}`), status: 200, logs: "not ours"},
		"other types":          {header: header, body: []byte(`{"object_kind":"pipeline","project":[],"object_attributes":7}`), status: 200, logs: "not ours"},
		"other kind":           {header: header, body: []byte(`{"object_kind":"emoji","project":{"id":42}}`), status: 200, logs: "concerns no pipeline"},
		"stranger's project":   {header: header, body: edit(`"id":42`, `"id":43`), status: 200, logs: "not ours"},
		"stranger's pipeline":  {header: header, body: []byte(stranger), status: 200, logs: "not ours"},
		"not UTF-8":            {header: header, body: []byte(strings.ReplaceAll(stranger, `"ref":"main"`, "\"ref\":\"\xff\xfe\"")), status: 200, logs: "not ours"},
	}
	out := map[string]badRequest{}
	for name, b := range all {
		b.whole, b.path = true, "/gitlab/webhook"
		out["gitlab: "+name] = b
	}
	out["gitlab: truncated"] = badRequest{path: "/gitlab/webhook", header: header, body: body, status: 400, logs: "ended early"}
	return out
}
