package gitlab

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errNotObject = errors.New("not a JSON object")

// members calls f with the name and the raw value of each member of the JSON object that begins b.
// Values are stepped over, not checked: of a webhook of many kilobytes ocim needs a few numbers, and
// encoding/json would look at every byte twice. Names with escapes are given as they stand; GitLab
// sends none. What follows the object is ignored.
func members(b []byte, f func(name, value []byte)) error {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return errNotObject
	}
	if i = space(b, i+1); i < len(b) && b[i] == '}' {
		return nil
	}
	for {
		start := i
		if i >= len(b) || b[i] != '"' {
			return errNotObject
		}
		if i = skipString(b, i); i < 0 {
			return errNotObject
		}
		name := b[start+1 : i-1]
		if i = space(b, i); i >= len(b) || b[i] != ':' {
			return errNotObject
		}
		start = space(b, i+1)
		if i = skipValue(b, start); i < 0 {
			return errNotObject
		}
		f(name, b[start:i])
		if i = space(b, i); i >= len(b) {
			return errNotObject
		}
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case '}':
			return nil
		default:
			return errNotObject
		}
	}
}

// space returns the index of the first byte at or after i that is not white space.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index after the string that begins at i, -1 if it has no end.
func skipString(b []byte, i int) int {
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		end := i + n
		slashes := 0
		for end-1-slashes >= i && b[end-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return end + 1
		}
		i = end + 1
	}
	return -1
}

// skipValue returns the index after the value that begins at i, -1 if there is none.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i)
	}
	start := i
	for i < len(b) && bytes.IndexByte([]byte(",}] \n\t\r"), b[i]) < 0 {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

func skipNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// number is the integer in a raw value, 0 if it holds anything else.
func number(raw []byte) int64 {
	var n int64
	if json.Unmarshal(raw, &n) != nil {
		return 0
	}
	return n
}

// text is the string in a raw value, empty if it holds anything else.
func text(raw []byte) string {
	if len(raw) >= 2 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(bytes.ToValidUTF8(raw[1:len(raw)-1], []byte("\uFFFD")))
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
