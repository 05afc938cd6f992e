package gitlabtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseID reads a decimal id.
func parseID(s string) (int64, bool) {
	id, err := strconv.ParseInt(s, 10, 64)
	return id, err == nil && id > 0
}

// text is a parameter's value as a string; maps and lists give an empty one.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// decodeBody reads a JSON or form body into parameters, as Grape does.
func decodeBody(r *http.Request, body []byte) (map[string]any, *reply) {
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var params map[string]any
		if err := d.Decode(&params); err != nil {
			return nil, grape("400 Bad request - Message body does not match declared format")
		}
		return params, nil
	case "application/x-www-form-urlencoded", "":
		q, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, grape("400 Bad request - Message body does not match declared format")
		}
		return nest(q), nil
	}
	return nil, &reply{status: http.StatusUnsupportedMediaType, body: map[string]any{
		"error": fmt.Sprintf("The provided content-type '%s' is not supported.", kind),
	}}
}

// nest turns the names a[b] and a[] of a form or query into maps and lists, one level deep, which
// is all that the routes here need.
func nest(q url.Values) map[string]any {
	params := map[string]any{}
	for name, values := range q {
		last := values[len(values)-1]
		outer, rest, ok := strings.Cut(name, "[")
		inner, closed := strings.CutSuffix(rest, "]")
		switch {
		case !ok || !closed:
			params[name] = last
		case inner == "":
			list := make([]any, len(values))
			for i, v := range values {
				list[i] = v
			}
			params[outer] = list
		default:
			m, ok := params[outer].(map[string]any)
			if !ok {
				m = map[string]any{}
				params[outer] = m
			}
			m[inner] = last
		}
	}
	return params
}

// merged are the parameters of body and query; the body wins, as in Rack.
func merged(q url.Values, body map[string]any) map[string]any {
	params := nest(q)
	maps.Copy(params, body)
	return params
}

// query reads the declared query parameters of a GET request and collects Grape's complaints.
type query struct {
	params map[string]any
	wrong  []string
}

func (q *query) str(name string) string { return text(q.params[name]) }

// oneOf reads a value that must be one of a list; the empty value passes.
func (q *query) oneOf(name string, allowed ...string) string {
	v := q.str(name)
	if v == "" {
		return ""
	}
	if slices.Contains(allowed, v) {
		return v
	}
	q.wrong = append(q.wrong, name+" does not have a valid value")
	return ""
}

// list reads a value or a list of values that must be of a set.
func (q *query) list(name string, allowed func(string) bool) []string {
	var values []string
	switch v := q.params[name].(type) {
	case []any:
		for _, x := range v {
			values = append(values, text(x))
		}
	case string:
		if v != "" {
			values = []string{v}
		}
	}
	for _, v := range values {
		if !allowed(v) {
			q.wrong = append(q.wrong, name+" does not have a valid value")
			return nil
		}
	}
	return values
}

func (q *query) boolean(name string) bool {
	switch q.str(name) {
	case "", "false", "0", "no", "f":
		return false
	case "true", "1", "yes", "t":
		return true
	}
	q.wrong = append(q.wrong, name+" is invalid")
	return false
}

func (q *query) number(name string, otherwise int) int {
	v := q.str(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		q.wrong = append(q.wrong, name+" is invalid")
		return otherwise
	}
	return n
}

func (q *query) instant(name string) time.Time {
	v := q.str(name)
	if v == "" {
		return time.Time{}
	}
	// A plus sign in an unescaped query arrives as a space.
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateOnly, time.DateTime} {
		if t, err := time.Parse(layout, strings.ReplaceAll(v, " 0", "+0")); err == nil {
			return t.UTC()
		}
	}
	q.wrong = append(q.wrong, name+" is invalid")
	return time.Time{}
}

// refusal is the answer to what was wrong, or nil.
func (q *query) refusal() *reply {
	if len(q.wrong) == 0 {
		return nil
	}
	return grape(strings.Join(q.wrong, ", "))
}
