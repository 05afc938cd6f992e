package chat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// Templates renders the messages that people see. Each message is one file; an operator replaces
// one by putting a file of the same name into a folder of his own. Safe for concurrent use.
type Templates struct {
	set *template.Template
}

// LoadTemplates reads NAME.tmpl files from base, and replaces those that overrides has as well.
// All broken files are reported together. An overriding file that matches no message is an error:
// it would silently do nothing.
func LoadTemplates(base fs.FS, overrides string) (*Templates, error) {
	set := template.New("").Funcs(funcs()).Option("missingkey=error")
	names, err := fs.Glob(base, "*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	known := map[string]bool{}
	var problems []error
	add := func(name string, text []byte, err error) {
		if err == nil {
			_, err = set.New(strings.TrimSuffix(name, ".tmpl")).Parse(string(text))
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("template %s: %w", name, err))
		}
	}
	for _, n := range names {
		known[n] = true
		text, err := fs.ReadFile(base, n)
		add(n, text, err)
	}
	if overrides != "" {
		found, err := filepath.Glob(filepath.Join(overrides, "*.tmpl"))
		if err != nil {
			return nil, fmt.Errorf("list templates in %s: %w", overrides, err)
		}
		for _, path := range found {
			n := filepath.Base(path)
			if !known[n] {
				problems = append(problems, fmt.Errorf("template %s: there is no message of that name", path))
				continue
			}
			text, err := os.ReadFile(path)
			add(n, text, err)
		}
	}
	return &Templates{set: set}, errors.Join(problems...)
}

// Render makes a message from a template. The blocks hold what the template says; buttons and tone
// are the caller's.
func (t *Templates) Render(name string, data any) (Message, error) {
	var b bytes.Buffer
	if err := t.set.ExecuteTemplate(&b, name, data); err != nil {
		return Message{}, fmt.Errorf("render %s: %w", name, err)
	}
	blocks, summary := Parse(b.String())
	return Message{Blocks: blocks, Summary: Cut(summary, 300)}, nil
}

func funcs() template.FuncMap {
	return template.FuncMap{
		"bold":     func(v any) string { return wrap("*", v) },
		"italic":   func(v any) string { return wrap("_", v) },
		"code":     func(v any) string { return wrap("`", v) },
		"link":     func(label, target any) string { return "[" + escaped(label) + "](" + escaped(target) + ")" },
		"mention":  func(id, name any) string { return "<@" + escaped(id) + "|" + escaped(name) + ">" },
		"fence":    fence,
		"duration": Duration,
		"clock":    func(at time.Time) string { return at.UTC().Format("15:04 MST") },
		"date":     func(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 MST") },
		"join":     join,
	}
}

func escaped(v any) string {
	switch v := v.(type) {
	case Foreign:
		return v.String()
	case string:
		return Foreign(v).String()
	}
	return Foreign(fmt.Sprint(v)).String()
}

func wrap(mark string, v any) string {
	s := escaped(v)
	if s == "" {
		return ""
	}
	return mark + s + mark
}

func fence(v any) string {
	var s string
	switch v := v.(type) {
	case Foreign:
		s = string(v)
	case string:
		s = v
	default:
		s = fmt.Sprint(v)
	}
	s = strings.ReplaceAll(strings.Trim(CleanLines(s), "\n"), "\t", "    ")
	return "\t" + strings.ReplaceAll(s, "\n", "\n\t")
}

func join(sep string, list []Foreign) string {
	parts := make([]string, len(list))
	for i, f := range list {
		parts[i] = f.String()
	}
	return strings.Join(parts, sep)
}

// Duration is a length of time as people say it: 45 s, 12 min, 1 h 05 min.
func Duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 10*time.Minute:
		if s := int(d.Seconds()) % 60; s != 0 {
			return fmt.Sprintf("%d min %02d s", int(d.Minutes()), s)
		}
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
