package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile is the size of the largest file that is read, in bytes. A fleet of a thousand clusters
// takes a tenth of it.
const maxFile = 1 << 20

// Load reads and checks the file at path. The environment, in the form of [os.Environ], provides
// secrets and overrides. The error is of type [Problems] and lists everything that is wrong.
func Load(path string, environ []string) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, Problems{{File: path, Msg: err.Error()}}
	}
	return Parse(path, data, environ)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("this file does not exist; begin with a copy of config/sample.yaml")
	}
	if err != nil {
		return nil, errors.New("cannot be read: " + reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, errors.New("cannot be read: " + reason(err))
	}
	return data, nil
}

// Outline reads the file at path as [Load] does, for whoever is about to make its secrets: a secret
// that is not there yet, or is not right, is listed in missing and empty in the Config. What else is
// wrong is an error, a secret that stands in the file itself included.
func Outline(path string, environ []string) (cfg *Config, missing Problems, err error) {
	data, err := read(path)
	if err != nil {
		return nil, nil, Problems{{File: path, Msg: err.Error()}}
	}
	return parse(path, data, environ, true)
}

// Parse checks data as [Load] does; name stands for the file in messages.
func Parse(name string, data []byte, environ []string) (*Config, error) {
	cfg, _, err := parse(name, data, environ, false)
	return cfg, err
}

func parse(name string, data []byte, environ []string, outline bool) (*Config, Problems, error) {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	root, err := tree(name, data)
	if err != nil {
		return nil, nil, err
	}
	d := newDecoder(name)
	d.override(root, env)
	var f File
	d.decode(root, reflect.ValueOf(&f).Elem(), "")
	b := newBuilder(d, env)
	b.outline = outline
	cfg := b.build(&f)
	if len(d.problems) > 0 {
		return nil, nil, d.problems.inOrder()
	}
	cfg.Warnings = b.warnings.inOrder()
	return cfg, b.missing.inOrder(), nil
}

// tree parses the one YAML document that data must be. Nothing is expanded: an alias stays a node,
// and the decoder refuses it, so that no small file becomes a large one.
func tree(name string, data []byte) (*yaml.Node, error) {
	if len(data) > maxFile {
		return nil, Problems{{File: name, Msg: fmt.Sprintf("is larger than %d KiB", maxFile>>10)}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0])) {
		return nil, Problems{{File: name, Msg: "is empty; begin with a copy of config/sample.yaml"}}
	}
	if err != nil {
		return nil, Problems{syntax(name, err)}
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		return nil, Problems{{File: name, Line: next.Line, Msg: "a second document begins here (---); only one is read"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, Problems{syntax(name, err)}
	}
	return doc.Content[0], nil
}

// syntax is an error of the YAML parser as a Problem. The parser quotes names of anchors, which
// may be a secret with an asterisk before it.
func syntax(name string, err error) Problem {
	p := Problem{File: name, Msg: "is not valid YAML"}
	if l, ok := errors.AsType[*yaml.LoadError](err); ok {
		p.Line = l.Mark.Line
		p.Msg = "not valid YAML: " + l.Message
		if strings.Contains(l.Message, "anchor") {
			p.Msg = "not valid YAML: a text that begins with * or & must be put in quotes"
		}
	}
	return p
}
