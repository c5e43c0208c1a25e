package script

import "strconv"

// member reads v.name.
func (m *machine) member(v value, name string) value {
	if m.halt != running {
		return value{}
	}
	switch v.kind {
	case kindUndefined, kindNull:
		return m.fault("TypeError: cannot read property '" + name + "' of " + string(nullish(v)))
	case kindRoot, kindObject, kindTable:
		if w, ok := m.own(v, []byte(name)); ok || m.halt != running {
			return w
		}
		return m.absent(name)
	}
	if name == "length" {
		switch v.kind {
		case kindString:
			m.spend(len(v.text) / directBytes)
			return number(float64(utf16Len(v.text)))
		case kindArray, kindList:
			return number(float64(len(m.elements(v))))
		}
	}
	return m.bail()
}

func nullish(v value) []byte {
	b, _ := v.appendText(nil)
	return b
}

// own reads the object v's own member of that name.
func (m *machine) own(v value, name []byte) (value, bool) {
	switch v.kind {
	case kindTable:
		for i, k := range v.heap.keys {
			if k == string(name) {
				return v.heap.elems[i], true
			}
		}
		m.spend(len(v.heap.keys) / 4)
	case kindRoot:
		if w, ok := m.find(m.roots[v.root].text, v.root, name); ok {
			return w, true
		}
		return m.added(v.root, string(name))
	case kindObject:
		return m.find(v.text, v.root, name)
	}
	return value{}, false
}

// find looks a member up in the text of an object.
func (m *machine) find(object []byte, root rootID, name []byte) (value, bool) {
	s := scanObject(object)
	for s.next() {
		key, ok := decodeKey(s.key)
		if !ok {
			m.bail()
		}
		if string(key) == string(name) {
			m.spend(s.pos / directBytes)
			return m.decode(s.value, root), true
		}
	}
	if s.bad {
		m.bail()
	}
	m.spend(s.pos / directBytes)
	return value{}, false
}

// elements gives the elements of an array. Those of a JSON array are decoded once in a run.
func (m *machine) elements(v value) []value {
	if v.kind == kindList {
		return v.heap.elems
	}
	for i := range m.arrays {
		if e := &m.arrays[i]; e.root == v.root && &e.text[0] == &v.text[0] {
			return e.elems
		}
	}
	if m.spend(len(v.text)/directBytes + len(m.arrays)); m.halt != running {
		return nil
	}
	var ok bool
	if m.parts, ok = splitArray(v.text, m.parts[:0]); !ok {
		m.bail()
		return nil
	}
	m.spend(len(m.parts))
	elems := make([]value, len(m.parts))
	for i, part := range m.parts {
		elems[i] = m.decode(part, v.root)
	}
	m.arrays = append(m.arrays, arrayEntry{v.root, v.text, elems})
	return elems
}

// index reads v[key].
func (m *machine) index(v, key value) value {
	if m.halt != running {
		return value{}
	}
	if v.isNullish() {
		return m.fault("TypeError: cannot read a property of " + string(nullish(v)))
	}
	if key.kind == kindNumber {
		switch v.kind {
		case kindArray, kindList:
			return m.element(m.elements(v), key.num)
		case kindString:
			return m.unit(v.text, key.num)
		}
	}
	switch v.kind {
	case kindRoot, kindObject, kindTable:
		name, ok := key.appendText(nil)
		if !ok {
			return m.bail()
		}
		if w, ok := m.own(v, name); ok || m.halt != running {
			return w
		}
		return m.absent(string(name))
	case kindString, kindArray, kindList:
		if key.kind == kindString && string(key.text) == "length" {
			return m.member(v, "length")
		}
	}
	return m.bail()
}

// element is elems[i]; array prototypes have no numbered members.
func (m *machine) element(elems []value, i float64) value {
	if !(i >= 0 && i < 1<<31) || i != float64(int(i)) {
		return m.bail()
	}
	if int(i) >= len(elems) {
		return value{}
	}
	return elems[int(i)]
}

// unit is s[i], one UTF-16 unit.
func (m *machine) unit(s []byte, i float64) value {
	m.spend(len(s) / directBytes)
	if !(i >= 0 && i < 1<<31) || i != float64(int(i)) || !isASCII(s) {
		return m.bail()
	}
	if int(i) >= len(s) {
		return value{}
	}
	return text(s[int(i) : int(i)+1])
}

// set does v[key] = w for arrays and objects that the script made.
func (m *machine) set(v, key, w value) {
	if m.halt != running {
		return
	}
	switch {
	case v.isNullish():
		m.fault("TypeError: cannot set a property of " + string(nullish(v)))
	case v.kind == kindList && key.kind == kindNumber:
		m.setElement(v.heap, key.num, w)
	case v.kind == kindTable && (key.kind == kindString || key.kind == kindNumber):
		name, _ := key.appendText(nil)
		if isArrayIndex(name) || string(name) == "__proto__" {
			m.bail() // enumerated in another order; not a plain member
			return
		}
		m.setMember(v.heap, string(name), w)
	default:
		m.bail()
	}
}

func (m *machine) setElement(list *heapObject, i float64, w value) {
	n := len(list.elems)
	switch {
	case i >= 0 && i < float64(n) && i == float64(int(i)):
		list.elems[int(i)] = w
	case i == float64(n):
		list.elems = append(list.elems, w)
	default:
		m.bail()
	}
}

func (m *machine) setMember(table *heapObject, name string, w value) {
	for i, k := range table.keys {
		if k == name {
			table.elems[i] = w
			return
		}
	}
	m.spend(1 + len(table.keys)/4)
	table.keys = append(table.keys, name)
	table.elems = append(table.elems, w)
}

// toText is the conversion to a string of + and of templates.
func (m *machine) toText(v value) []byte {
	if v.kind == kindString {
		return v.text
	}
	b, ok := v.appendText(nil)
	if !ok {
		m.bail()
	}
	return b
}

// propertyNames gives the names that for-in and Object.keys enumerate.
func (m *machine) propertyNames(v value) []value {
	var names []value
	add := func(name []byte) {
		if isArrayIndex(name) {
			m.bail()
		}
		names = append(names, text(name))
	}
	switch v.kind {
	case kindTable:
		for _, k := range v.heap.keys {
			add([]byte(k))
		}
		return names
	case kindArray, kindList:
		for i := range m.elements(v) {
			names = append(names, text(strconv.AppendInt(nil, int64(i), 10)))
		}
		m.spend(len(names))
		return names
	case kindRoot:
		for _, name := range [...]string{"_id", "_rev", "_deleted", "_attachments"} {
			if _, ok := m.added(v.root, name); ok {
				add([]byte(name))
			}
		}
		v.text = m.roots[v.root].text
	case kindObject:
	default:
		m.bail()
		return nil
	}
	s := scanObject(v.text)
	for s.next() {
		key, ok := decodeKey(s.key)
		if !ok {
			m.bail()
		}
		add(key)
	}
	if s.bad {
		m.bail()
	}
	m.spend(len(names) + len(v.text)/directBytes)
	return names
}
