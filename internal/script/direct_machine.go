package script

import (
	"strconv"
)

// rootID names one of the arguments of the function.
type rootID uint8

const (
	rootNone rootID = iota
	rootDoc
	rootOld
	rootMeta
	rootCount
)

// halt says why evaluation ended early.
type halt uint8

const (
	running halt = iota
	// halted by the script: a throw, or an exception. The outcome says what.
	haltThrown
	// halted by the evaluator: something it does not do itself. The run is given to an engine, from the start.
	haltBail
)

const (
	// directWork bounds one direct run, in steps of a few nanoseconds each: a run that needs more is the engine's,
	// which has a clock. Reading JSON counts one step for directBytes bytes.
	directWork  = 200_000
	directBytes = 16
	// directSlots and directDepth bound the local variables of all active functions, and those functions.
	directSlots = 256
	directDepth = 32
	// directText bounds the bytes of strings that one run makes.
	directText = 1 << 20
)

// machine is the state of one direct run. Once halt is set every operation that has an effect does nothing, so that
// expressions need not look at it after each operand.
type machine struct {
	program *directProgram
	in      *SyncInput
	out     outcome
	halt    halt
	work    int // steps left
	made    int // bytes of strings made
	returns value

	roots  [rootCount]rootState
	stack  [directSlots]value
	top    int
	high   int // the greatest top of this run
	frames [directDepth]frame
	depth  int
	arrays []arrayEntry
	parts  [][]byte // scratch of splitArray
}

// rootState is what is known of one argument.
type rootState struct {
	text    []byte
	scanned bool
	// slots are the members that the program names, by keyID; JSON text, nil if absent.
	slots [maxDirectKeys][]byte
}

// maxDirectKeys bounds the different member names in a program.
const maxDirectKeys = 64

// arrayEntry remembers the elements of a JSON array that was indexed once.
type arrayEntry struct {
	root  rootID
	text  []byte
	elems []value
}

// frame is one active function's variables. outer is the frame of the function around it in the source.
type frame struct {
	slots []value
	outer *frame
}

// at returns the frame hops functions further out.
func (f *frame) at(hops int) *frame {
	for ; hops > 0; hops-- {
		f = f.outer
	}
	return f
}

// bail gives the run to an engine.
func (m *machine) bail() value {
	if m.halt == running {
		m.halt = haltBail
	}
	return value{}
}

// fault ends the run with an exception.
func (m *machine) fault(detail string) value {
	if m.halt == running {
		m.halt = haltThrown
		m.out.throwFault(detail)
	}
	return value{}
}

// spend takes n steps off the run's allowance.
func (m *machine) spend(n int) {
	if m.work -= n; m.work < 0 {
		m.bail()
	}
}

// make counts n bytes of a new string.
func (m *machine) makeText(n int) bool {
	if m.made += n; m.made > directText {
		m.bail()
	}
	return m.halt == running
}

// push makes a frame with n variables. It returns nil if there is no room.
func (m *machine) push(n int, outer *frame) *frame {
	if m.depth >= len(m.frames) || m.top+n > len(m.stack) {
		m.bail()
		return nil
	}
	f := &m.frames[m.depth]
	f.slots, f.outer = m.stack[m.top:m.top+n:m.top+n], outer
	clear(f.slots)
	m.depth++
	m.top += n
	m.high = max(m.high, m.top)
	return f
}

// pop takes the last frame away.
func (m *machine) pop(f *frame) {
	m.depth--
	m.top -= len(f.slots)
}

// scan fills the slots of a root by one pass over its members.
func (m *machine) scan(root rootID) *rootState {
	r := &m.roots[root]
	if r.scanned {
		return r
	}
	r.scanned = true
	if m.spend(len(r.text) / directBytes); m.halt != running {
		return r
	}
	keys := &m.program.keys
	s := scanObject(r.text)
	for s.next() {
		if id, ok := keys.find(s.key); ok {
			r.slots[id] = s.value
		}
	}
	if s.bad {
		m.bail()
	}
	return r
}

// rootMember reads a member of doc, oldDoc or meta whose name the program spells out.
func (m *machine) rootMember(root rootID, key keyID) value {
	r := m.scan(root)
	if r.slots[key] != nil {
		return m.decode(r.slots[key], root)
	}
	name := m.program.keys.names[key]
	if v, ok := m.added(root, name); ok {
		return v
	}
	return m.absent(name)
}

// added gives the members that doc and oldDoc have beside those of the body (sync-function.md §3).
func (m *machine) added(root rootID, name string) (value, bool) {
	if root == rootMeta || len(name) == 0 || name[0] != '_' || m.program.kind == kindFilter && name != "_deleted" {
		return value{}, false
	}
	switch name {
	case "_id":
		if isASCII([]byte(m.in.DocID)) {
			return constant(m.in.DocID), true
		}
		m.bail()
	case "_rev":
		if root == rootDoc {
			return text(m.in.Rev.Append(nil)), true
		}
	case "_deleted":
		if root == rootDoc && m.in.Deleted || root == rootOld && m.in.OldDeleted {
			return boolean(true), true
		}
	case "_attachments":
		if root == rootDoc && m.in.Attachments != nil {
			return m.decode(m.in.Attachments, root), true
		}
	}
	return value{}, false
}

func (m *machine) decode(b []byte, root rootID) value {
	v, ok := decodeValue(b, root)
	if !ok {
		m.bail()
	}
	return v
}

// absent is the value of a member that an object does not have itself.
func (m *machine) absent(name string) value {
	if inObjectPrototype(name) {
		return m.bail()
	}
	return value{}
}

// inObjectPrototype reports whether every object inherits a property of that name.
func inObjectPrototype(name string) bool {
	switch name {
	case "constructor", "toString", "toLocaleString", "valueOf", "hasOwnProperty", "isPrototypeOf",
		"propertyIsEnumerable", "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__":
		return true
	}
	return false
}

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
