package replicate

import (
	"strconv"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// Bounds of lists of changes. Real peers send 200 rows at a time.
const (
	maxRows     = 10_000
	maxRowDepth = 4
)

// Bits of a row of changes in versions 3 and 4 (replication.md §6).
const (
	flagDeleted = 1 << iota
	flagRevoked
	flagRemoved
)

// changeRow is a row of a changes message: [sequence, docID, revID, flags?, size?].
type changeRow struct {
	seq     []byte // raw JSON, opaque
	id, rev string
	flags   int
}

// proposedRow is a row of proposeChanges: [docID, revID, serverRevID?, size?].
type proposedRow struct{ id, rev, parent string }

// parseArray checks that body is a JSON array with at most maxRows elements and returns them. An empty body, and null,
// are an empty array.
func parseArray(body []byte) ([][]byte, error) {
	if len(body) == 0 {
		return nil, nil
	}
	if err := jsondoc.Check(body, jsondoc.Limits{Depth: maxRowDepth, Bytes: len(body)}); err != nil {
		return nil, errNotJSON
	}
	return elementsOf(body, maxRows)
}

// elementsOf returns the elements of a checked array, or of null; more than limit are an error.
func elementsOf(raw []byte, limit int) ([][]byte, error) {
	raw = trimSpace(raw)
	if string(raw) == "null" {
		return nil, nil
	}
	if len(raw) == 0 || raw[0] != '[' {
		return nil, errNotArray
	}
	var all [][]byte
	for e := range jsondoc.Elements(raw) {
		if len(all) == limit {
			return nil, errTooManyRows
		}
		all = append(all, e)
	}
	return all, nil
}

func trimSpace(raw []byte) []byte {
	for len(raw) > 0 && (raw[0] == ' ' || raw[0] == '\n' || raw[0] == '\r' || raw[0] == '\t') {
		raw = raw[1:]
	}
	for len(raw) > 0 && (raw[len(raw)-1] == ' ' || raw[len(raw)-1] == '\n' || raw[len(raw)-1] == '\r' || raw[len(raw)-1] == '\t') {
		raw = raw[:len(raw)-1]
	}
	return raw
}

// maxRowItems bounds the items of one row.
const maxRowItems = 16

// parseChanges reads the body of a changes message.
func parseChanges(body []byte) ([]changeRow, error) {
	elements, err := parseArray(body)
	if err != nil {
		return nil, err
	}
	rows := make([]changeRow, len(elements))
	for i, e := range elements {
		items, err := elementsOf(e, maxRowItems)
		if err != nil || len(items) < 3 {
			return nil, errBadRow
		}
		r := &rows[i]
		r.seq = items[0]
		var ok, ok2 bool
		r.id, ok = jsondoc.Unquote(items[1])
		r.rev, ok2 = jsondoc.Unquote(items[2])
		if !ok || !ok2 {
			return nil, errBadRow
		}
		if len(items) > 3 {
			r.flags, err = parseFlags(items[3])
			if err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

// parseFlags reads the flags of a row: an integer, or the boolean "deleted" of version 2.
func parseFlags(raw []byte) (int, error) {
	switch string(raw) {
	case "true":
		return flagDeleted, nil
	case "false", "null":
		return 0, nil
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil || n < 0 {
		return 0, errBadRow
	}
	return n, nil
}

// parseProposals reads the body of a proposeChanges message.
func parseProposals(body []byte) ([]proposedRow, error) {
	elements, err := parseArray(body)
	if err != nil {
		return nil, err
	}
	rows := make([]proposedRow, len(elements))
	for i, e := range elements {
		items, err := elementsOf(e, maxRowItems)
		if err != nil || len(items) < 2 {
			return nil, errBadRow
		}
		r := &rows[i]
		for k, to := range []*string{&r.id, &r.rev, &r.parent} {
			if k >= len(items) || k == 2 && string(items[k]) == "null" {
				continue
			}
			var ok bool
			if *to, ok = jsondoc.Unquote(items[k]); !ok {
				return nil, errBadRow
			}
		}
	}
	return rows, nil
}

// wanted is what a peer answers to a row that it was offered.
type wanted struct {
	send  bool
	known []string // revisions of the document that the peer has, its delta base first
}

// maxKnown bounds how many known revisions of one row are kept.
const maxKnown = 100

// parseWanted reads the answer to a changes message of n rows. Trailing entries may be missing; more than n are
// ignored, as is whatever is no list: it is not wanted.
func parseWanted(body []byte, n int) ([]wanted, error) {
	elements, err := parseArray(body)
	if err != nil {
		return nil, err
	}
	answers := make([]wanted, n)
	for i, e := range elements[:min(n, len(elements))] {
		if len(e) == 0 || e[0] != '[' {
			continue
		}
		answers[i].send = true
		for k := range jsondoc.Elements(e) {
			if rev, ok := jsondoc.Unquote(k); ok && len(answers[i].known) < maxKnown {
				answers[i].known = append(answers[i].known, rev)
			}
		}
	}
	return answers, nil
}

// appendChangeRow appends a row of a changes message.
func appendChangeRow(b []byte, v Version, seq tidegate.Since, id, rev string, flags int) []byte {
	b = seq.AppendJSON(append(b, '['))
	b = tidegate.AppendJSONString(append(b, ','), id)
	b = tidegate.AppendJSONString(append(b, ','), rev)
	switch {
	case flags == 0:
	case v >= V3:
		b = strconv.AppendInt(append(b, ','), int64(flags), 10)
	case flags&flagDeleted != 0:
		b = append(b, ",true"...)
	}
	return append(b, ']')
}
