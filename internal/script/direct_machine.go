package script

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
		if root == rootDoc && len(m.in.Attachments) > 0 {
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
