package delta

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/tidegate/tidegate"
)

// When a string is patched rather than written in full (replication.md §8), bytes.
const (
	patchFrom  = 60 // how long the new text must be
	patchSaves = 6  // how much shorter the patch must be
)

// string writes the delta between two strings.
func (d *differ) string(o, n uint32) bool {
	old, new := d.old.text(o), d.new.text(n)
	if bytes.Equal(old, new) { // they differ in escapes only
		return false
	}
	full := d.new.value(n)
	if len(new) >= patchFrom && len(old) > 0 {
		start := len(d.out)
		patch := appendPatch(nil, old, new)
		d.out = append(d.out, '[')
		d.out = tidegate.AppendJSONString(d.out, string(patch))
		d.out = append(d.out, ",0,2]"...)
		if len(d.out)-start+patchSaves <= len(full) {
			return true
		}
		d.out = d.out[:start]
	}
	d.out = append(d.out, full...)
	return true
}

// edit is a piece of the old text, old[start:end], that becomes new[newStart:newEnd].
type edit struct{ start, end, newStart, newEnd int }

// appendPatch appends the operations that make the text old the text new.
func appendPatch(dst, old, new []byte) []byte {
	at := 0
	for _, e := range edits(old, new) {
		dst = appendOp(dst, e.start-at, '=')
		dst = appendOp(dst, e.end-e.start, '-')
		if e.newEnd > e.newStart {
			dst = appendOp(dst, e.newEnd-e.newStart, '+')
			dst = append(append(dst, new[e.newStart:e.newEnd]...), '|')
		}
		at = e.end
	}
	return appendOp(dst, len(old)-at, '=')
}

func appendOp(dst []byte, n int, op byte) []byte {
	if n == 0 {
		return dst
	}
	return append(strconv.AppendInt(dst, int64(n), 10), op)
}

// edits returns what is to be changed, in order. No edit cuts a character in two.
func edits(old, new []byte) []edit {
	prefix := commonPrefix(old, new)
	suffix := commonSuffix(old[prefix:], new[prefix:])
	found := searchEdits(old[prefix:len(old)-suffix], new[prefix:len(new)-suffix])
	for i := range found {
		e := &found[i]
		e.start, e.end, e.newStart, e.newEnd = e.start+prefix, e.end+prefix, e.newStart+prefix, e.newEnd+prefix
	}
	return join(found, old, new)
}

// near is up to how many bytes between two edits are not worth a copy of their own. Making one of such edits also
// leaves room to move the ends of the others, since a character has at most four bytes.
const near = 6

// join makes one of edits that are near to each other, and moves the ends of edits to where characters begin.
// What is between edits is the same in both texts.
func join(found []edit, old, new []byte) []edit {
	joined := found[:0]
	for _, e := range found {
		if n := len(joined); n > 0 && e.start-joined[n-1].end < near {
			joined[n-1].end, joined[n-1].newEnd = e.end, e.newEnd
		} else {
			joined = append(joined, e)
		}
	}
	for i := range joined {
		e := &joined[i]
		for e.start > 0 && (inside(old, e.start) || inside(new, e.newStart)) {
			e.start, e.newStart = e.start-1, e.newStart-1
		}
		for inside(old, e.end) || inside(new, e.newEnd) {
			e.end, e.newEnd = e.end+1, e.newEnd+1
		}
	}
	return joined
}

// inside reports whether a character began before text[i] and goes on there.
func inside(text []byte, i int) bool { return i < len(text) && !utf8.RuneStart(text[i]) }

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// Bounds of the search for the fewest edits: how many bytes they may insert and delete, and how many bytes may be
// looked at beyond twice the length of the texts.
const (
	maxEdited = 256
	maxLooks  = 1 << 18
)

// search looks for the fewest edits by the greedy method of Myers (An O(ND) Difference Algorithm, 1986).
type search struct {
	old, new []byte
	// furthest[d][i] is how far into old one gets with d bytes edited, i of them deleted; or nowhere.
	furthest [][]int32
}

const nowhere = -1

// searchEdits finds the fewest edits between two texts. If that would take too long, all is one edit.
func searchEdits(old, new []byte) []edit {
	all := []edit{{0, len(old), 0, len(new)}}
	if len(old) == 0 && len(new) == 0 {
		return nil
	}
	if len(old) == 0 || len(new) == 0 || max(len(old)-len(new), len(new)-len(old)) > maxEdited {
		return all
	}
	s := search{old: old, new: new}
	looks := maxLooks + 2*(len(old)+len(new))
	for d := 0; d <= maxEdited; d++ {
		row := make([]int32, d+1)
		s.furthest = append(s.furthest, row)
		for i := range row {
			x, _ := s.step(d, i)
			if row[i] = int32(x); x == nowhere {
				continue
			}
			y := x - (2*i - d)
			n := commonPrefix(old[x:], new[y:])
			if x+n == len(old) && y+n == len(new) {
				return s.trace(d, i)
			}
			row[i] += int32(n)
			if looks -= n + 1; looks < 0 {
				return all
			}
		}
	}
	return all
}

// step returns where in old the path to furthest[d][i] is behind its last edit, and whether that inserts.
func (s *search) step(d, i int) (x int, inserts bool) {
	if d == 0 {
		return 0, false
	}
	x = nowhere
	before := s.furthest[d-1]
	if i < d {
		if at := int(before[i]); at != nowhere && at-(2*i-d) <= len(s.new) {
			x, inserts = at, true
		}
	}
	if i > 0 {
		if at := int(before[i-1]); at != nowhere && at < len(s.old) && at+1 > x {
			x, inserts = at+1, false
		}
	}
	return x, inserts
}

// trace walks back from furthest[d][i] and returns the edits on the way, in order.
func (s *search) trace(d, i int) []edit {
	var back []edit
	for ; d > 0; d-- {
		x, inserts := s.step(d, i)
		y := x - (2*i - d)
		e := edit{x, x, y, y}
		if inserts {
			e.newStart--
		} else {
			e.start--
			i--
		}
		if n := len(back); n > 0 && back[n-1].start == e.end && back[n-1].newStart == e.newEnd {
			back[n-1].start, back[n-1].newStart = e.start, e.newStart
		} else {
			back = append(back, e)
		}
	}
	slices.Reverse(back)
	return back
}
