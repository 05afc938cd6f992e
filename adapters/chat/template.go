package chat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"
)

// Templates renders the messages that people see. Each message is one file; an operator replaces
// one by putting a file of the same name into a folder of his own. Safe for concurrent use.
type Templates struct {
	set  *template.Template
	base *template.Template // the built-in ones
	own  map[string]string  // path of each file of the operator's, by message
}

// LoadTemplates reads NAME.tmpl files from base, and replaces those that overrides has as well; an
// empty overrides replaces none. Each of those is tried with data of the shape that fields.txt in
// base describes, so that a mistake is found now and not when something has failed. All broken
// files are reported together, each with file and line. A file that matches no message is an error
// as well: it would silently do nothing.
func LoadTemplates(base fs.FS, overrides string) (*Templates, error) {
	t := &Templates{own: map[string]string{}}
	names, err := t.loadBase(base)
	if err != nil {
		return nil, err
	}
	if t.set, err = t.base.Clone(); err != nil {
		return nil, fmt.Errorf("copy the templates: %w", err)
	}
	problems := t.loadOwn(names, overrides)
	if text, err := fs.ReadFile(base, "fields.txt"); err == nil {
		fields, err := ReadSchema(string(text))
		if err != nil {
			return nil, err
		}
		for _, n := range slices.Sorted(maps.Keys(t.own)) {
			problems = append(problems, t.try(n, fields))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return t, nil
}

// loadBase reads the built-in templates and returns their names.
func (t *Templates) loadBase(base fs.FS) ([]string, error) {
	t.base = template.New("").Funcs(funcs()).Option("missingkey=error")
	files, err := fs.Glob(base, "*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	names := make([]string, 0, len(files))
	for _, file := range files {
		text, err := fs.ReadFile(base, file)
		if err != nil {
			return nil, fmt.Errorf("read template: %w", err)
		}
		name := strings.TrimSuffix(file, ".tmpl")
		if _, err := t.base.New(name).Parse(string(text)); err != nil {
			return nil, located(file, name, err)
		}
		names = append(names, name)
	}
	return names, nil
}

// loadOwn reads the operator's templates over the built-in ones.
func (t *Templates) loadOwn(names []string, dir string) (problems []error) {
	if dir == "" {
		return nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return []error{fmt.Errorf("read the folder of templates: %w", err)}
	}
	for _, f := range files {
		name, isTemplate := strings.CutSuffix(f.Name(), ".tmpl")
		if !isTemplate {
			continue
		}
		path := filepath.Join(dir, f.Name())
		if !slices.Contains(names, name) {
			problems = append(problems, fmt.Errorf("%s: there is no message of that name; the messages are %s", path, strings.Join(names, ", ")))
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			problems = append(problems, fmt.Errorf("read template: %w", err))
			continue
		}
		if strings.TrimSpace(string(text)) == "" {
			problems = append(problems, fmt.Errorf("%s:1: the file is empty; a message has to say something", path))
			continue
		}
		if err := t.replace(name, path, string(text), names); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

// replace takes one template of the operator's in.
func (t *Templates) replace(name, path, text string, names []string) error {
	alone, err := template.New(name).Funcs(funcs()).Parse(text)
	if err != nil {
		return located(path, name, err)
	}
	for _, part := range alone.Templates() {
		if part.Name() != name && slices.Contains(names, part.Name()) {
			return fmt.Errorf("%s: it defines %s, which is a message of its own", path, part.Name())
		}
	}
	if _, err := t.set.New(name).Parse(text); err != nil {
		return located(path, name, err)
	}
	t.own[name] = path
	return nil
}

// try renders a message with all data that it may get and with none.
func (t *Templates) try(name string, fields *Schema) error {
	path := t.own[name]
	for i, data := range fields.samples(name) {
		m, err := render(t.set, name, data)
		if err != nil {
			return located(path, name, err)
		}
		if i == 0 && (len(m.Blocks) == 0 || m.Summary == "") {
			return fmt.Errorf("%s:1: the message says nothing", path)
		}
	}
	return nil
}

// located puts the file into an error of text/template, which names the template and the line, and
// says in words what its commonest errors mean.
func located(path, name string, err error) error {
	text := err.Error()
	if i := strings.Index(text, "template: "+name+":"); i >= 0 {
		text = path + ":" + text[i+len("template: "+name+":"):]
	} else {
		text = path + ": " + text
	}
	for _, r := range [][2]string{
		{`executing "` + name + `" at `, ""},
		{"map has no entry for key", "there is no field"},
		{"nil pointer evaluating interface {}.", "it may be missing, so ask for it with {{with}} or {{if}}: "},
	} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	return errors.New(text)
}

// Render makes a message from a template. The blocks hold what the template says; buttons and tone
// are the caller's. If an operator's template fails after all, the built-in one is used, and the
// message says so: nobody should miss a failure because of a typing mistake.
func (t *Templates) Render(name string, data any) (Message, error) {
	m, err := render(t.set, name, data)
	if err == nil || t.own[name] == "" {
		return m, err
	}
	m, err = render(t.base, name, data)
	m.Blocks = append(m.Blocks, Block{Kind: Context, Text: Text{{Text: "⚠️ The operator's " + name + ".tmpl does not work; this is the built-in text."}}})
	return m, err
}

func render(set *template.Template, name string, data any) (Message, error) {
	var b bytes.Buffer
	if err := set.ExecuteTemplate(&b, name, data); err != nil {
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
