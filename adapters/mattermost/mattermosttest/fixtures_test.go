package mattermosttest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/mattermost/mattermosttest"
)

// recorded reads a payload that a real server sent. The recordings are kept
// beside the project, not in it.
func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "shared", "fixtures", "mattermost", name))
	if err != nil {
		t.Skipf("no recorded payload: %v", err)
	}
	return b
}

// shape lists the paths of a JSON document with the kinds of their values:
// "props.attachments[].id number". Values do not count, and neither does the
// order of keys.
func shape(t *testing.T, doc []byte) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatalf("decode %s: %v", doc, err)
	}
	var out []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				if len(k) == 26 {
					k = "ID" // a map by id
				}
				walk(path+"."+k, e)
			}
			out = append(out, path+" object")
		case []any:
			for _, e := range v {
				walk(path+"[]", e)
			}
			out = append(out, path+" array")
		default:
			out = append(out, fmt.Sprintf("%s %T", path, v))
		}
	}
	walk("", v)
	slices.Sort(out)
	return slices.Compact(out)
}

func sameShape(t *testing.T, name string, got []byte) {
	t.Helper()
	if diff := cmp.Diff(shape(t, recorded(t, name)), shape(t, got)); diff != "" {
		t.Errorf("%s (-recorded +fake):\n%s", name, diff)
	}
}

// sameKeys compares the keys of two JSON objects in their order of writing.
func sameKeys(t *testing.T, name string, got []byte) {
	t.Helper()
	keys := func(doc []byte) []string {
		var v map[string]any
		if err := json.Unmarshal(doc, &v); err != nil {
			t.Fatalf("decode %s: %v", doc, err)
		}
		return slices.SortedFunc(maps.Keys(v), func(a, b string) int {
			return bytes.Index(doc, []byte(`"`+a+`":`)) - bytes.Index(doc, []byte(`"`+b+`":`))
		})
	}
	if diff := cmp.Diff(keys(recorded(t, name)), keys(got)); diff != "" {
		t.Errorf("%s: order of keys (-recorded +fake):\n%s", name, diff)
	}
}

// recorder is a fake server and an integration that keeps the last request.
type recorder struct {
	fixture
	t      *testing.T
	url    string
	body   []byte
	header http.Header
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	recorded(t, "README.md")
	r := &recorder{fixture: setup(t, mattermosttest.Options{}), t: t}
	r.url = integration(t, func(_ http.ResponseWriter, req *http.Request) {
		r.body, _ = io.ReadAll(req.Body)
		r.header = req.Header.Clone()
	}).URL
	return r
}

func (r *recorder) call(user, method, path string, body any) []byte {
	r.t.Helper()
	a, err := r.peer.Do(r.t.Context(), user, method, path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return a.Body
}

// The payloads of the fake have the shapes that were recorded from a real
// 11.1 server.

func TestCommandPayloadsAreAsRecorded(t *testing.T) {
	t.Parallel()
	f := newRecorder(t)
	call := f.call
	f.command(t, f.url)
	command := call(mattermosttest.Bot, http.MethodGet, "/commands?custom_only=true&team_id="+f.peer.TeamID, nil)
	sameShape(t, "rest_create_command_response.json", []byte(strings.Trim(string(command), "[]\n")))

	executed := call("alice", http.MethodPost, "/commands/execute", map[string]string{
		"channel_id": f.channel, "command": "/ocim list @bob ~" + mattermosttest.Channel,
	})
	sameShape(t, "rest_execute_command_response.json", executed)
	formKeys(t, "slash_command.form", f.body)
	headerKeys(t, "slash_command.headers.json", f.header)
}

func TestPostPayloadsAreAsRecorded(t *testing.T) {
	t.Parallel()
	f := newRecorder(t)
	call := f.call
	created := call(mattermosttest.Bot, http.MethodPost, "/posts", map[string]any{
		"channel_id": f.channel, "message": "x", "props": map[string]any{"ocim": map[string]any{"incident": "x1"}},
	})
	sameShape(t, "rest_create_post_response.json", created)
	var root mattermosttest.Post
	if err := json.Unmarshal(created, &root); err != nil {
		t.Fatal(err)
	}
	sameShape(t, "rest_create_reply_response.json", call(mattermosttest.Bot, http.MethodPost, "/posts",
		map[string]any{"channel_id": f.channel, "message": "x", "root_id": root.ID}))
	sameShape(t, "rest_patch_post_response.json", call(mattermosttest.Bot, http.MethodPut, "/posts/"+root.ID+"/patch",
		map[string]any{"message": "y"}))
	sameShape(t, "rest_get_thread_response.json", call("alice", http.MethodGet, "/posts/"+root.ID+"/thread", nil))
	sameShape(t, "rest_channel.json", call(mattermosttest.Bot, http.MethodGet, "/channels/"+f.channel, nil))
	sameShape(t, "rest_error_404_post.json", call("alice", http.MethodGet, "/posts/"+strings.Repeat("x", 26), nil))
	sameShape(t, "rest_upload_file_response.json", call(mattermosttest.Bot, http.MethodPost,
		"/files?channel_id="+f.channel+"&filename=pod.log", []byte("x")))
}

func TestActionPayloadsAreAsRecorded(t *testing.T) {
	t.Parallel()
	f := newRecorder(t)
	call := f.call
	card := cardWith(t, f.fixture, f.url)
	sameShape(t, "rest_get_post_with_actions_as_user.json", call("alice", http.MethodGet, "/posts/"+card.ID, nil))
	sameShape(t, "rest_click_response.json", call("alice", http.MethodPost, "/posts/"+card.ID+"/actions/ack", nil))
	sameShape(t, "action_button.json", f.body)
	sameKeys(t, "action_button.json", f.body)
	headerKeys(t, "action_button.headers.json", f.header)
	call("alice", http.MethodPost, "/posts/"+card.ID+"/actions/sel", map[string]string{"selected_option": "2"})
	sameShape(t, "action_select.json", f.body)

	for name, cancelled := range map[string]bool{"dialog_submission.json": false, "dialog_cancelled.json": true} {
		values := map[string]any{}
		if !cancelled {
			values = map[string]any{"desc": nil, "owner": "x", "page": true, "sev": "high", "title": "t"}
		}
		call("alice", http.MethodPost, "/actions/dialogs/submit", mattermosttest.Submission{
			URL: f.url, CallbackID: "cb", State: "s", ChannelID: f.channel, TeamID: f.peer.TeamID,
			Submission: values, Cancelled: cancelled,
		})
		sameShape(t, name, f.body)
		sameKeys(t, name, f.body)
	}
}

// cardWith posts the buttons and menus of the recorded post.
func cardWith(t *testing.T, f fixture, url string) mattermosttest.Post {
	t.Helper()
	in := &mattermosttest.Integration{URL: url, Context: map[string]any{
		"deep": map[string]any{"a": []int{1, 2}}, "incident": "inc-1", "n": 3, "op": "noop",
	}}
	p, err := f.peer.CreatePost(t.Context(), mattermosttest.Bot, mattermosttest.Post{
		ChannelID: f.channel, Message: "incident", Props: map[string]any{"attachments": []*mattermosttest.Attachment{{
			Title: "Incident", Text: "pod crash", Actions: []mattermosttest.Action{
				{ID: "ack", Type: "button", Name: "Ack", Integration: in},
				{
					ID: "sel", Type: "select", Name: "Pick",
					Options:     []mattermosttest.Option{{Text: "One", Value: "1"}, {Text: "Two", Value: "2"}},
					Integration: &mattermosttest.Integration{URL: url, Context: map[string]any{"op": "noop"}},
				},
				{ID: "selu", Type: "select", Name: "Who", DataSource: "users", Integration: in},
			},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func formKeys(t *testing.T, name string, got []byte) {
	t.Helper()
	keys := func(b []byte) []string {
		form, err := url.ParseQuery(string(b))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for k := range form {
			out = append(out, k)
		}
		slices.Sort(out)
		return out
	}
	if diff := cmp.Diff(keys(recorded(t, name)), keys(got)); diff != "" {
		t.Errorf("%s (-recorded +fake):\n%s", name, diff)
	}
}

func headerKeys(t *testing.T, name string, got http.Header) {
	t.Helper()
	var want struct{ Header http.Header }
	if err := json.Unmarshal(recorded(t, name), &want); err != nil {
		t.Fatal(err)
	}
	for _, h := range []http.Header{want.Header, got} {
		h.Del("Content-Length")
		h.Del("Authorization") // differs by the token
	}
	if diff := cmp.Diff(want.Header, got); diff != "" {
		t.Errorf("%s (-recorded +fake):\n%s", name, diff)
	}
}

// TestEventsAreAsRecorded does the same for the WebSocket.
func TestEventsAreAsRecorded(t *testing.T) {
	t.Parallel()
	recorded(t, "README.md")
	f := setup(t, mattermosttest.Options{})
	ctx := t.Context()
	if err := f.peer.Watch(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	app := integration(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"text":"default list"}`))
	})
	f.command(t, app.URL)
	if _, err := f.peer.Command(ctx, "alice", f.channel, "", "/ocim"); err != nil {
		t.Fatal(err)
	}
	p, err := f.peer.CreatePost(ctx, "bob", mattermosttest.Post{ChannelID: f.channel, Message: "hey @alice help"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path string }{{http.MethodPut, "/posts/" + p.ID + "/patch"}, {http.MethodDelete, "/posts/" + p.ID}} {
		if _, err := f.peer.Do(ctx, "bob", c.method, c.path, map[string]string{"message": "edited"}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := f.peer.Events(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		name, wanted := map[string]string{
			"hello": "ws_hello.json", "posted": "ws_posted.json", "post_edited": "ws_post_edited.json",
			"ephemeral_message": "ws_ephemeral_message_from_command.json",
		}[e.Event]
		if !wanted {
			continue
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		sameShape(t, name, b)
		if post, isText := e.Data["post"].(string); isText {
			var want struct{ Data struct{ Post string } }
			if err := json.Unmarshal(recorded(t, name), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(shape(t, []byte(want.Data.Post)), shape(t, []byte(post))); diff != "" {
				t.Errorf("%s, the post (-recorded +fake):\n%s", name, diff)
			}
		}
	}
}
