package appservices

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidegate/tidegate/internal/linediff"
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

// unified returns the differences of two texts in unified form; "" if there are none.
func unified(name, old, next string) string {
	if old == next {
		return ""
	}
	ops := linediff.Compare(old, next)
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", name, name)
	for start := 0; start < len(ops); {
		first := start
		for first < len(ops) && ops[first].Kind == ' ' {
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
func hunk(b *strings.Builder, ops []linediff.Op, first int) int {
	from, last := max(0, first-diffContext), first
	for i := first; i < len(ops) && i-last <= 2*diffContext; i++ {
		if ops[i].Kind != ' ' {
			last = i
		}
	}
	to := min(len(ops), last+1+diffContext)
	var oldLines, newLines int
	for _, op := range ops[from:to] {
		if op.Kind != '+' {
			oldLines++
		}
		if op.Kind != '-' {
			newLines++
		}
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", ops[from].Old, oldLines, ops[from].New, newLines)
	for _, op := range ops[from:to] {
		fmt.Fprintf(b, "%c%s\n", op.Kind, op.Text)
	}
	return to
}
