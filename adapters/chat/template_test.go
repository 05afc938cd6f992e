package chat_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/templates"
)

// own makes a folder with an operator's templates.
func own(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOperatorsTemplateReplacesTheBuiltInOne(t *testing.T) {
	t.Parallel()
	dir := own(t, map[string]string{
		"whoami.tmpl": "! me\n# Hello {{.Name}}\n{{bold .UserID}}, you may {{join \" and \" .May}}.\n",
		"notes.txt":   "not a template",
	})
	text, err := chat.LoadTemplates(templates.FS, dir)
	if err != nil {
		t.Fatal(err)
	}
	type view struct {
		Platform, Workspace, UserID, Name, Trigger chat.Foreign
		May                                        []chat.Foreign
	}
	got, err := text.Render("whoami", view{UserID: "U1", Name: "*Ann*\n# x", May: []chat.Foreign{"start", "retry"}})
	if err != nil {
		t.Fatal(err)
	}
	want := chat.Message{Summary: "me", Blocks: []chat.Block{
		{Kind: chat.Heading, Text: chat.Text{{Text: "Hello *Ann* # x"}}},
		{Kind: chat.Paragraph, Text: chat.Text{{Style: chat.Bold, Text: "U1"}, {Text: ", you may start and retry."}}},
	}}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("message (-got +want):\n%s", diff)
	}
}

func TestBadTemplatesAreAllReportedAtTheStartWithFileAndLine(t *testing.T) {
	t.Parallel()
	dir := own(t, map[string]string{
		"card.tmpl":       "# fine\n{{.Instance}}\n{{.Instanz}}\n",
		"end.tmpl":        "one\n{{if .Final}}no end\n",
		"log.tmpl":        "{{.Failure.Job}}\n",
		"logs.tmpl":       "x\n{{nofunction .ID}}\n",
		"help.tmpl":       " \n\n",
		"error.tmpl":      "{{/* nothing */}}{{if false}}x{{end}}",
		"plan.tmpl":       "x\n\n{{duration .Body}}",
		"operations.tmpl": "{{range .Operations}}{{.Nope}}{{end}}",
		"deploy.tmpl":     "x",
		"status.tmpl":     "{{define \"card\"}}x{{end}}y",
	})
	_, err := chat.LoadTemplates(templates.FS, dir)
	if err == nil {
		t.Fatal("got no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{
		"card.tmpl:3:2: <.Instanz>: there is no field \"Instanz\"",
		"end.tmpl:3: unexpected EOF",
		"log.tmpl:1:10: <.Failure.Job>: it may be missing, so ask for it with {{with}} or {{if}}: Job",
		"logs.tmpl:2: function \"nofunction\" not defined",
		"help.tmpl:1: the file is empty; a message has to say something",
		"error.tmpl:1: the message says nothing",
		"plan.tmpl:3:11: <.Body>: wrong type for value; expected time.Duration; got chat.Foreign",
		"operations.tmpl:1:23: <.Nope>: there is no field \"Nope\"",
		"status.tmpl: it defines card, which is a message of its own",
		"deploy.tmpl: there is no message of that name; the messages are accepted, card, end,",
	} {
		found := false
		for _, l := range lines {
			found = found || strings.HasPrefix(l, filepath.Join(dir, want))
		}
		if !found {
			t.Errorf("got\n%s\nwant a line that begins with %s", err, filepath.Join(dir, want))
		}
	}
	if len(lines) != 10 {
		t.Errorf("got %d lines, want 10:\n%s", len(lines), err)
	}
	if _, err := chat.LoadTemplates(templates.FS, filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a folder that is not there: got %v, want its name", err)
	}
}

func TestTemplateThatFailsLaterGivesWayToTheBuiltInOne(t *testing.T) {
	t.Parallel()
	base := fstest.MapFS{"card.tmpl": {Data: []byte("# {{.ID}}")}, "fields.txt": {Data: []byte("message card View the card\ntype View it\n  ID text its id\n")}}
	dir := own(t, map[string]string{"card.tmpl": `{{if eq .ID "k1"}}{{.Nope}}{{else}}mine{{end}}`})
	text, err := chat.LoadTemplates(base, dir)
	if err != nil {
		t.Fatal(err)
	}
	type view struct{ ID chat.Foreign }
	got, err := text.Render("card", view{"k1"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Blocks) != 2 || got.Blocks[0].Text.String() != "k1" || !strings.Contains(got.Blocks[1].Text.String(), "card.tmpl does not work") {
		t.Errorf("got %+v, want the built-in text with a word on it", got)
	}
	if got, err := text.Render("card", view{"k2"}); err != nil || got.Summary != "mine" {
		t.Errorf("got %+v, %v, want the operator's text where it works", got, err)
	}
	if _, err := text.Render("nothing", view{}); err == nil {
		t.Error("a message that is not there: got no error")
	}
}

func TestNoWayOfPrintingEscapesTheEscape(t *testing.T) {
	t.Parallel()
	for _, how := range []string{
		`{{.V}}`, `{{print .V}}`, `{{printf "%s" .V}}`, `{{printf "%v" .V}}`, `{{printf "%+v" .}}`, `{{printf "%#v" .V}}`, `{{println .V}}`,
		`{{range .L}}{{.}}{{end}}`, `{{index .L 0}}`, `{{printf "%v" .L}}`, `{{join "" .L}}`, `{{slice .V 0}}`, `{{with $x := .V}}{{$x}}{{end}}`,
	} {
		base := fstest.MapFS{"m.tmpl": {Data: []byte("text " + how)}}
		text, err := chat.LoadTemplates(base, "")
		if err != nil {
			t.Fatal(err)
		}
		const bad = "*b* <@U1|x> [l](https://evil.example)"
		m, err := text.Render("m", struct {
			V chat.Foreign
			L []chat.Foreign
		}{bad, []chat.Foreign{bad}})
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		for _, b := range m.Blocks {
			for _, s := range b.Text {
				if s.Style != chat.Plain {
					t.Errorf("%s: got %+v, want plain text", how, s)
				}
			}
		}
	}
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	data := map[string]any{
		"T": chat.Foreign("a*b"), "Empty": chat.Foreign(""), "S": "s_t", "N": 7, "D": 90 * time.Second, "At": time.Date(2026, 11, 21, 23, 5, 0, 0, time.FixedZone("X", 3600)),
		"L": []chat.Foreign{"x|y", "z"}, "Code": chat.Foreign("\n\tone\n*two*\r\n\x1b[31m\n"),
	}
	for _, tt := range []struct {
		call string
		want chat.Text
	}{
		{`bold .T`, chat.Text{{Style: chat.Bold, Text: "a*b"}}},
		{`italic .S`, chat.Text{{Style: chat.Italic, Text: "s_t"}}},
		{`code .N`, chat.Text{{Style: chat.Mono, Text: "7"}}},
		{`bold .Empty`, nil},
		{`link .T "https://a.example/_x_"`, chat.Text{{Style: chat.Link, Text: "a*b", URL: "https://a.example/_x_"}}},
		{`link .T "javascript:x"`, chat.Text{{Text: "a*b"}}},
		{`mention "U1" .T`, chat.Text{{Style: chat.Mention, User: "U1", Text: "a*b"}}},
		{`duration .D`, chat.Text{{Text: "1 min 30 s"}}},
		{`clock .At`, chat.Text{{Text: "22:05 UTC"}}},
		{`date .At`, chat.Text{{Text: "2026-11-21 22:05 UTC"}}},
		{`join ", " .L`, chat.Text{{Text: "x|y, z"}}},
	} {
		text, err := chat.LoadTemplates(fstest.MapFS{"m.tmpl": {Data: []byte("{{" + tt.call + "}}")}}, "")
		if err != nil {
			t.Fatal(err)
		}
		m, err := text.Render("m", data)
		if err != nil {
			t.Errorf("%s: %v", tt.call, err)
			continue
		}
		var got chat.Text
		if len(m.Blocks) > 0 {
			got = m.Blocks[0].Text
		}
		if diff := cmp.Diff(got, tt.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", tt.call, diff)
		}
	}
	text, err := chat.LoadTemplates(fstest.MapFS{"m.tmpl": {Data: []byte("a\n{{fence .Code}}\nb")}}, "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := text.Render("m", data)
	if err != nil || len(m.Blocks) != 3 || m.Blocks[1].Code != "    one\n*two*\n[31m" {
		t.Errorf("fence: got %+v, %v", m.Blocks, err)
	}
}

func TestSchemaIsChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"message card View x":                   "there is no type View",
		"type View x\n  A []Nope x":             "View.A: there is no kind []Nope",
		"what is this":                          "fields.txt:1:",
		"# fine\n  A text before any type":      "fields.txt:2:",
		"type View x\n  A text x\nmessage m":    "fields.txt:3:",
		"type View x\n  A text":                 "fields.txt:2:",
		"type View x\n  A ?View x\nmessage a b": "fields.txt:3:",
	} {
		if _, err := chat.ReadSchema(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
	if _, err := chat.LoadTemplates(fstest.MapFS{"fields.txt": {Data: []byte("?")}}, ""); err == nil {
		t.Error("got no error for a broken fields.txt")
	}
	if _, err := chat.LoadTemplates(fstest.MapFS{"m.tmpl": {Data: []byte("{{")}}, ""); err == nil || !strings.HasPrefix(err.Error(), "m.tmpl:1:") {
		t.Errorf("a broken built-in template: got %v, want file and line", err)
	}
}

func FuzzTemplates(f *testing.F) {
	for _, s := range []string{"{{.ID}}", "# {{.Action}}\n| a | {{bold .Why}}", "{{range .Pipelines}}{{.Label}}{{end}}", "{{with .Failure}}{{fence .Tail}}{{end}}", "{{define \"end\"}}x{{end}}y", "{{template \"card\" .}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "template") || strings.Contains(text, "block") {
			return // recursion is bounded by text/template, but slow
		}
		dir := own(t, map[string]string{"card.tmpl": text})
		set, err := chat.LoadTemplates(templates.FS, dir)
		if err != nil {
			if !strings.HasPrefix(err.Error(), filepath.Join(dir, "card.tmpl")+":") {
				t.Errorf("got %q, want it to begin with file and line", err)
			}
			return
		}
		if m, err := set.Render("error", struct {
			Msg, Pattern, Reason, Next, Operation, Link chat.Foreign
			Suggest                                     []chat.Foreign
		}{Msg: "m", Reason: "r"}); err != nil || m.Summary == "" {
			t.Errorf("another message: got %+v, %v", m, fmt.Sprint(err))
		}
	})
}
