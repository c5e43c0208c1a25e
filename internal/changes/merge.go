package changes

import "github.com/tidegate/tidegate"

// merge walks several sources in the order of their sequences.
type merge struct {
	rows    rowReader
	reverse bool
	heap    []*source // by their next row; none is at its end
	group   []*source // the sources of the last group
}

// add takes a source in, unless it is empty.
func (m *merge) add(s *source) error {
	ok, err := m.ready(s)
	if err != nil || !ok {
		return err
	}
	m.heap = append(m.heap, s)
	for i := len(m.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !m.before(i, parent) {
			break
		}
		m.heap[i], m.heap[parent] = m.heap[parent], m.heap[i]
		i = parent
	}
	return nil
}

// ready makes sure that the source has a next row, and reports whether it has.
func (m *merge) ready(s *source) (bool, error) {
	if s.at < len(s.rows) {
		return true, nil
	}
	if s.from > s.to {
		return false, nil
	}
	err := m.rows.fill(s)
	return err == nil && len(s.rows) > 0, err
}

func (m *merge) before(i, j int) bool {
	a, b := m.heap[i].head().seq, m.heap[j].head().seq
	if m.reverse {
		return a > b
	}
	return a < b
}

// peek returns the sequence of the next group.
func (m *merge) peek() (tidegate.Seq, bool) {
	if len(m.heap) == 0 {
		return 0, false
	}
	return m.heap[0].head().seq, true
}

// next collects the sources whose next row has the next sequence. Their heads are valid until take.
func (m *merge) next() []*source {
	m.group = m.group[:0]
	seq := m.heap[0].head().seq
	for len(m.heap) > 0 && m.heap[0].head().seq == seq {
		m.group = append(m.group, m.heap[0])
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
		m.down()
	}
	return m.group
}

// down sinks the top to its place.
func (m *merge) down() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(m.heap) {
			return
		}
		if child+1 < len(m.heap) && m.before(child+1, child) {
			child++
		}
		if !m.before(child, i) {
			return
		}
		m.heap[i], m.heap[child] = m.heap[child], m.heap[i]
		i = child
	}
}

// take moves the sources of the last group past their row.
func (m *merge) take() error {
	for _, s := range m.group {
		s.at++
		if err := m.add(s); err != nil {
			return err
		}
	}
	m.group = m.group[:0]
	return nil
}
