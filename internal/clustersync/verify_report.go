package clustersync

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Difference is one thing that is not the same on both sides.
type Difference struct {
	Source      string         `json:"source,omitempty"`      // namespace there; "" if it has none
	Destination string         `json:"destination,omitempty"` // namespace there; "" if it has none
	ID          string         `json:"_id,omitempty"`         // of the document, as extended JSON; "" if collections differ themselves
	What        DifferenceKind `json:"what"`
	Detail      string         `json:"detail,omitempty"` // never contents of documents, only names of members
}

func (d Difference) String() string {
	var b strings.Builder
	switch {
	case d.Source == "":
		b.WriteString(d.Destination)
	case d.Destination == "" || d.Destination == d.Source:
		b.WriteString(d.Source)
	default:
		b.WriteString(d.Source + " → " + d.Destination)
	}
	if d.ID != "" {
		b.WriteString(" _id " + d.ID)
	}
	b.WriteString(": " + string(d.What))
	if d.Detail != "" {
		b.WriteString(" (" + d.Detail + ")")
	}
	return b.String()
}

// DifferenceKind says how two sides differ.
type DifferenceKind string

// The kinds of differences.
const (
	MissingDocument   DifferenceKind = "document missing on the destination"
	ExtraDocument     DifferenceKind = "document not on the source"
	OtherDocument     DifferenceKind = "documents differ"
	MissingCollection DifferenceKind = "collection missing on the destination"
	ExtraCollection   DifferenceKind = "collection not on the source"
	OtherOptions      DifferenceKind = "options differ"
	OtherIndexes      DifferenceKind = "indexes differ"
)

// Report is what a verification found.
type Report struct {
	Equal       bool              `json:"equal"`
	Collections []CollectionCheck `json:"collections"`
	// Total is the number of differences; AtLeast if there are more of them, which were not counted.
	Total   int64 `json:"totalDifferences"`
	AtLeast bool  `json:"atLeast,omitempty"`
	// OnlyDestination is how many of them are documents that the source does not have, and Remedy what to do about those, for people.
	OnlyDestination int64        `json:"onlyOnDestination"`
	Remedy          string       `json:"remedy,omitempty"`
	Differences     []Difference `json:"differences"` // the first of them
	Documents       int64        `json:"documents"`   // hashed, of both sides
	Bytes           int64        `json:"bytes"`       // of them
	Seconds         float64      `json:"seconds"`
}

// CollectionCheck is what was found of one collection.
type CollectionCheck struct {
	Source           string `json:"source"`
	Destination      string `json:"destination"`
	SourceCount      int64  `json:"sourceCount"`
	DestinationCount int64  `json:"destinationCount"`
	Differences      int64  `json:"differences"`
	NotCompared      string `json:"notCompared,omitempty"` // why its documents were not compared
}

// strangersHint says how so many documents may have come to be on the destination only, and what to do about it; "" if there are none. What is purged on a
// tidegate source, or deleted by applyOps on MongoDB, leaves no change that a sync could follow.
func (s sides) strangersHint(n int64) string {
	if n == 0 {
		return ""
	}
	untold, remove := "deleted on the source without a change event (applyOps)", "delete them on the destination as a user with bypassWriteBlockingMode"
	if s.source.Kind() == Tidegate {
		untold = "purged on the source, which leaves no change"
	}
	if s.destination.Kind() == Tidegate {
		remove = "purge them on the destination (POST /{db}/_purge on its admin listener, with the header Tidegate-Bypass-Write-Block: true)"
	}
	return fmt.Sprintf("Documents that are only on the destination (%d) were either written there by others, or %s. If they are not to be there, %s", n, untold, remove)
}

// Exit codes of the command.
const (
	ExitEqual     = 0
	ExitDifferent = 3 // 1 is for what could not be compared, 2 for a command line that was not understood
)

// ExitCode is what the command ends with.
func (r Report) ExitCode() int {
	if r.Equal {
		return ExitEqual
	}
	return ExitDifferent
}

// String is the report for people.
func (r Report) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "COLLECTION\tSOURCE\tDESTINATION\tDIFFERENCES")
	for _, c := range r.Collections {
		name := c.Source
		if c.Destination != c.Source {
			name += " → " + c.Destination
		}
		if c.NotCompared != "" {
			fmt.Fprintf(table, "%s\t\t\tnot compared: %s\n", name, c.NotCompared)
			continue
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\n", name, c.SourceCount, c.DestinationCount, c.Differences)
	}
	_ = table.Flush() // into memory
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "  %s\n", d)
	}
	if more := r.Total - int64(len(r.Differences)); more > 0 {
		fmt.Fprintf(&b, "  … and %d more\n", more)
	}
	if r.Remedy != "" {
		fmt.Fprintf(&b, "%s.\n", r.Remedy)
	}
	verdict := "equal"
	if !r.Equal {
		atLeast := ""
		if r.AtLeast {
			atLeast = "at least "
		}
		verdict = fmt.Sprintf("different in %s%d places", atLeast, r.Total)
	}
	fmt.Fprintf(&b, "%s: %d collections, %d documents, %.1f MB read in %.1f s\n", verdict, len(r.Collections), r.Documents, float64(r.Bytes)/1e6, r.Seconds)
	return b.String()
}
