package delta

// A delta's tree has nodes for its objects, for their members, and for the first elements of its arrays: what is
// inside these is taken literally or not at all.

// keptElements is how many elements of an array get nodes: no form of a delta has more than three.
const keptElements = 4

// parseDelta reads a delta, which must be an object. The brackets around a value that is taken literally do not
// count as depth, so that the result is not deeper than the limit if the old document is not.
func parseDelta(raw []byte, lim Limits) (*tree, error) {
	s := scanner{depth: lim.Depth, maxNodes: maxBytes}
	s.begin(raw)
	start := s.space(0)
	if start == len(raw) || raw[start] != '{' {
		return nil, invalid("not an object")
	}
	if !s.end(s.delta(start, 0)) {
		return nil, invalid(s.why)
	}
	return &s.tree, nil
}

// delta reads a delta value.
func (s *scanner) delta(i, depth int) int {
	if i >= len(s.raw) {
		return s.fail("unexpected end")
	}
	switch s.raw[i] {
	case '{':
		at := s.open(i, kindObject)
		return s.close(at, s.object(i, depth+1, func(i int) int { return s.delta(i, depth+1) }, true))
	case '[':
		at, n := s.open(i, kindArray), 0
		return s.close(at, s.array(i, depth, func(i int) int {
			n++
			return s.element(i, depth, n <= keptElements)
		}))
	}
	return s.read(i, depth, true)
}

// element reads an element of an array and makes one node for it, or none.
func (s *scanner) element(i, depth int, keep bool) int {
	if !keep {
		return s.read(i, depth, false)
	}
	if i >= len(s.raw) {
		return s.fail("unexpected end")
	}
	at := s.open(i, kindOf(s.raw[i]))
	if s.raw[i] != '"' {
		return s.close(at, s.read(i, depth, false))
	}
	end, _, escaped := s.string(i)
	s.nodes[at].escaped = escaped
	return s.close(at, end)
}

// elements returns the first elements of an array, at most keptElements.
func (t *tree) elements(array uint32) (elements [keptElements]uint32, n int) {
	for at := array + 1; at < t.nodes[array].next; at = t.nodes[at].next {
		elements[n] = at
		n++
	}
	return elements, n
}
