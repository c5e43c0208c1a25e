package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
)

// Problem is one thing that is wrong with a config.
type Problem struct {
	Path    string // as "databases.db1.revs_limit"; "" for the whole text
	Line    int    // from 1; 0 when the problem is not at a place in a text
	Column  int    // from 1, in bytes
	Message string
	// Unknown says that the problem is a key that does not exist.
	Unknown bool
}

// String is one line: place, path and message.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Error is all problems of a config, in the order of the text. It never holds the value of a setting that
// may be a secret.
type Error struct{ Problems []Problem }

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes the error an Invalid one whose reason is what REST answers (gateway-rest.md §10.3): lines
// joined by newlines, headed by "JSON Unknown Field" if a key is unknown, by "Bad JSON" if the text is no JSON.
func (e *Error) Unwrap() error {
	prefix := ""
	switch {
	case slices.ContainsFunc(e.Problems, func(p Problem) bool { return p.Unknown }):
		prefix = "JSON Unknown Field: "
	case len(e.Problems) == 1 && e.Problems[0].Path == "" && e.Problems[0].Line > 0:
		prefix = "Bad JSON: "
	}
	return tidegate.Errorf(tidegate.Invalid, "%s%s", prefix, e.Error())
}

// maxProblems bounds how many problems of one config are reported; reading ends there.
const maxProblems = 100

// problems collects what is found while reading, up to maxProblems.
type problems []Problem

// full reports whether there is no room for another problem.
func (ps problems) full() bool { return len(ps) >= maxProblems }

func (ps *problems) add(at pos, path, format string, args ...any) {
	if ps.full() {
		return
	}
	*ps = append(*ps, Problem{Path: path, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
}

func (ps *problems) unknown(at pos, path, format string, args ...any) {
	if !ps.full() {
		ps.add(at, path, format, args...)
		(*ps)[len(*ps)-1].Unknown = true
	}
}

// err returns the problems in the order of the text, or nil.
func (ps problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return &Error{Problems: ps}
}

// Under returns err with path put before the path of each problem; another error stays as it is.
func Under(path string, err error) error {
	ps := slices.Clone(problems(Problems(err)))
	if len(ps) == 0 {
		return err
	}
	for i := range ps {
		ps[i].Path = join(path, ps[i].Path)
	}
	return &Error{Problems: ps}
}
