package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the configuration. Its text never holds a secret.
type Problem struct {
	File string // as given to Load, or the name of the OCIM_ variable that holds the value
	Line int    // counted from 1; 0 when no line is to blame
	Path string // such as clusters[2].instances[0]; empty for the file as a whole
	Msg  string // what is wrong and, where it is not obvious, what to write instead
}

// String is the problem on one line, as compilers print theirs.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.Msg)
	return b.String()
}

// Problems is everything that is wrong, in the order of the file. It is the error of [Load].
type Problems []Problem //nolint:errname // the list is looked at as often as it is returned

// maxProblems keeps the answer to a file that is not ours at all readable.
const maxProblems = 100

// Error lists the problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// inOrder sorts by line, with overrides from the environment last, and cuts the list to a length
// that a person reads.
func (ps Problems) inOrder() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(order(a)-order(b), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	if len(ps) <= maxProblems {
		return ps
	}
	more := Problem{File: ps[0].File, Msg: fmt.Sprintf("%d more problems are not shown", len(ps)-maxProblems)}
	return append(ps[:maxProblems:maxProblems], more)
}

// order puts what has a line first and variables of the environment last.
func order(p Problem) int {
	switch {
	case strings.HasPrefix(strings.TrimPrefix(p.File, `"`), prefix):
		return 2
	case p.Line == 0:
		return 1
	}
	return 0
}
