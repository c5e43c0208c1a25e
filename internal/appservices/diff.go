package appservices

import (
	"fmt"
	"slices"
	"strings"
)

// diffView is the answer about the diff of a draft. What tidegate has none of is always empty.
type diffView struct {
	Diffs         []string       `json:"diffs"`
	Hosting       changedNames   `json:"hosting_files_diff"`
	Dependencies  changedNames   `json:"dependencies_diff"`
	GraphQL       fieldDiffs     `json:"graphql_config_diff"`
	SchemaOptions validationDiff `json:"schema_options_diff"`
	Notices       []string       `json:"notices,omitempty"` // tidegate's own
}

type changedNames struct {
	Added    []string `json:"added"`
	Deleted  []string `json:"deleted"`
	Modified []string `json:"modified"`
}

type fieldDiffs struct {
	Fields []string `json:"field_diffs"`
}

type validationDiff struct {
	GraphQL []string `json:"graphql_validation_diff"`
	REST    []string `json:"rest_validation_diff"`
}

func newDiffView(diffs []string) diffView {
	none := changedNames{[]string{}, []string{}, []string{}}
	return diffView{diffs, none, none, fieldDiffs{[]string{}}, validationDiff{[]string{}, []string{}}, nil}
}

// diffSnapshots returns the unified diffs of the files of two configurations; none if they are the same.
func diffSnapshots(old, next *snapshot) []string {
	a, b := old.files(), next.files()
	diffs := []string{}
	names := append(sortedKeys(a), sortedKeys(b)...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if d := unified(name, string(a[name]), string(b[name])); d != "" {
			diffs = append(diffs, d)
		}
	}
	return diffs
}

// diffContext is how many lines are shown around a change.
const diffContext = 3

// maxDiffCells bounds the table of a comparison; larger files are shown whole, as taken away and added.
const maxDiffCells = 4 << 20

// unified returns the differences of two texts in unified form; "" if there are none.
func unified(name, old, next string) string {
	if old == next {
		return ""
	}
	ops := compare(lines(old), lines(next))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", name, name)
	for start := 0; start < len(ops); {
		first := start
		for first < len(ops) && ops[first].kind == ' ' {
			first++
		}
		if first == len(ops) {
			break
		}
		start = hunk(&b, ops, first)
	}
	return b.String()
}

// hunk writes the hunk of the change at first and returns where the next may begin.
func hunk(b *strings.Builder, ops []lineOp, first int) int {
	from, last := max(0, first-diffContext), first
	for i := first; i < len(ops) && i-last <= 2*diffContext; i++ {
		if ops[i].kind != ' ' {
			last = i
		}
	}
	to := min(len(ops), last+1+diffContext)
	var oldLines, newLines int
	for _, op := range ops[from:to] {
		if op.kind != '+' {
			oldLines++
		}
		if op.kind != '-' {
			newLines++
		}
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", ops[from].old, oldLines, ops[from].next, newLines)
	for _, op := range ops[from:to] {
		fmt.Fprintf(b, "%c%s\n", op.kind, op.text)
	}
	return to
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// lineOp is a line that stays (' '), goes ('-') or comes ('+'), with its number on both sides, from 1.
type lineOp struct {
	kind      byte
	text      string
	old, next int
}

// compare returns the lines of both texts by their longest common subsequence.
func compare(a, b []string) []lineOp {
	common := commonTable(a, b)
	var ops []lineOp
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case common != nil && i < len(a) && j < len(b) && a[i] == b[j]:
			ops = append(ops, lineOp{' ', a[i], i + 1, j + 1})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common == nil || common[i+1][j] >= common[i][j+1]):
			ops = append(ops, lineOp{'-', a[i], i + 1, j + 1})
			i++
		default:
			ops = append(ops, lineOp{'+', b[j], i + 1, j + 1})
			j++
		}
	}
	return ops
}

// commonTable holds at [i][j] how long the longest common subsequence of a[i:] and b[j:] is; nil if it would be too large.
func commonTable(a, b []string) [][]int32 {
	if (len(a)+1)*(len(b)+1) > maxDiffCells {
		return nil
	}
	t := make([][]int32, len(a)+1)
	for i := range t {
		t[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	return t
}
