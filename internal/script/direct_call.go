package script

import (
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/dop251/goja/ast"
)

// call compiles the calls that the direct evaluator knows: helpers, functions that the script declares, some methods
// of strings and arrays, and a few of the language's own functions.
func (c *compiler) call(e *ast.CallExpression) expr {
	switch callee := e.Callee.(type) {
	case *ast.Identifier:
		name := callee.Name.String()
		if v := c.lookup(name); v != nil {
			return c.callDeclared(v, e.ArgumentList)
		}
		return c.callHelper(name, c.exprs(e.ArgumentList))
	case *ast.DotExpression:
		name := callee.Identifier.Name.String()
		if id, ok := callee.Left.(*ast.Identifier); ok && c.lookup(id.Name.String()) == nil {
			return c.callBuiltin(id.Name.String()+"."+name, c.exprs(e.ArgumentList))
		}
		return c.method(callee.Left, name, e.ArgumentList)
	}
	c.fail()
	return nothing
}

// callDeclared compiles the call of a function that the script declares.
func (c *compiler) callDeclared(v *variable, list []ast.Expression) expr {
	code := v.code
	if code == nil {
		c.fail()
		return nothing
	}
	args, hops := c.exprs(list), c.fn.depth-v.owner.depth
	return func(m *machine, f *frame) value {
		m.spend(1)
		var buf [4]value
		values := buf[:0]
		for _, arg := range args {
			values = append(values, arg(m, f))
		}
		return m.invoke(code, f.at(hops), values)
	}
}

// invoke calls a function. outer is the frame of the function around it.
func (m *machine) invoke(code *function, outer *frame, args []value) value {
	if m.halt != running {
		return value{}
	}
	f := m.push(code.slots, outer)
	if f == nil {
		return value{}
	}
	copy(f.slots[:code.params], args)
	m.returns = value{}
	code.body(m, f)
	result := m.returns
	m.returns = value{}
	m.pop(f)
	return result
}

// helper is one of the functions of sync-function.md §4.
type helper func(m *machine, args []value)

// callHelper compiles the call of a global function.
func (c *compiler) callHelper(name string, args []expr) expr {
	h := consoleHelper(name)
	if h == nil && c.program.kind == kindSync {
		h = syncHelper(name)
	}
	if h == nil {
		c.fail()
		return nothing
	}
	return callGo(h, args)
}

func callGo(h helper, args []expr) expr {
	return func(m *machine, f *frame) value {
		m.spend(1)
		var buf [4]value
		values := buf[:0]
		for _, arg := range args {
			values = append(values, arg(m, f))
		}
		if m.halt == running {
			h(m, values)
		}
		return value{}
	}
}

func syncHelper(name string) helper {
	switch name {
	case "channel":
		return func(m *machine, args []value) {
			for _, v := range args {
				m.out.channels = m.names("channel", v, m.out.channels)
			}
		}
	case "access":
		return func(m *machine, args []value) { m.grant("access", args) }
	case "role":
		return func(m *machine, args []value) { m.grant("role", args) }
	case "requireUser":
		return func(m *machine, args []value) {
			m.require(reasonWrongUser, arg(args, 0), func(u *User, s string) bool { return u.Name == s })
		}
	case "requireRole":
		return func(m *machine, args []value) {
			m.require(reasonMissingRole, arg(args, 0), func(u *User, s string) bool { return slices.Contains(u.Roles, s) })
		}
	case "requireAccess":
		return func(m *machine, args []value) {
			m.require(reasonMissingAccess, arg(args, 0), func(u *User, s string) bool { return slices.Contains(u.Channels, s) })
		}
	case "requireAdmin":
		return func(m *machine, args []value) {
			m.require(reasonAdminRequired, value{}, func(*User, string) bool { return false })
		}
	case "reject":
		return (*machine).reject
	case "expiry":
		return (*machine).expiry
	}
	return nil
}

func consoleHelper(name string) helper {
	switch name {
	case "log", "console.log", "console.info", "console.debug", "console.warn":
		return func(m *machine, args []value) { m.log(slog.LevelInfo, args) }
	case "console.error":
		return func(m *machine, args []value) { m.log(slog.LevelError, args) }
	}
	return nil
}

// arg is the i-th argument, undefined if there are fewer.
func arg(args []value, i int) value {
	if i < len(args) {
		return args[i]
	}
	return value{}
}

// names appends the strings of a list argument: a string, or an array's strings. null and undefined are skipped in
// silence, everything else with a warning.
func (m *machine) names(helper string, v value, to []string) []string {
	switch v.kind {
	case kindString:
		return append(to, string(v.text))
	case kindUndefined, kindNull:
		return to
	case kindArray, kindList:
		for _, e := range m.elements(v) {
			switch e.kind {
			case kindString:
				m.spend(1)
				to = append(to, string(e.text))
			case kindUndefined, kindNull:
			default:
				m.out.warn(helper + ": ignored " + describe(e))
			}
		}
		return to
	}
	m.out.warn(helper + ": ignored " + describe(v))
	return to
}

// describe names a value that was ignored.
func describe(v value) string {
	switch v.kind {
	case kindNumber, kindBool:
		b, _ := v.appendText(append([]byte(v.typeOf()), ' '))
		return string(b)
	case kindArray, kindList:
		return "array"
	}
	return v.typeOf()
}

func (m *machine) grant(helper string, args []value) {
	left, right := arg(args, 0), arg(args, 1)
	if left.kind == kindString && len(left.text) == 0 || right.kind == kindString && len(right.text) == 0 {
		return
	}
	g := grant{role: helper == "role"}
	g.left = m.names(helper, left, nil)
	g.right = m.names(helper, right, nil)
	m.out.grants = append(m.out.grants, g)
}

// require rejects the write unless the writer is the admin context or has one of the wanted names.
func (m *machine) require(reason string, wanted value, has func(u *User, name string) bool) {
	u := &m.in.User
	if u.Admin {
		return
	}
	switch wanted.kind {
	case kindString:
		if has(u, string(wanted.text)) {
			return
		}
	case kindArray, kindList:
		m.spend(len(u.Channels) / 16)
		for _, e := range m.elements(wanted) {
			if m.spend(1 + len(u.Channels)/16); m.halt != running {
				return
			}
			if e.kind == kindString && has(u, string(e.text)) {
				return
			}
		}
	}
	if m.halt == running {
		m.halt = haltThrown
		m.out.reject(thrownRejection(http.StatusForbidden, reason))
	}
}

func (m *machine) reject(args []value) {
	status, message := arg(args, 0), arg(args, 1)
	if status.kind != kindNumber || !message.isPrimitive() {
		m.bail()
		return
	}
	if !(status.num >= http.StatusBadRequest) {
		return
	}
	s := ""
	if message.kind != kindUndefined {
		s = string(m.toText(message))
	}
	m.out.reject(calledRejection(int(min(math.Floor(status.num), statusRejectedBeyond+1)), s))
}

func (m *machine) expiry(args []value) {
	switch v := arg(args, 0); v.kind {
	case kindUndefined, kindNull:
	case kindNumber:
		m.out.setExpiry('n', strconv.FormatFloat(v.num, 'g', -1, 64))
	case kindString:
		m.out.setExpiry('s', string(v.text))
	default:
		m.out.setExpiry('o', describe(v))
	}
}

// log notes a line of the script's log. Objects are shown as JSON, which is the engine's.
func (m *machine) log(level slog.Level, args []value) {
	var b []byte
	for i, v := range args {
		if !v.isPrimitive() {
			m.bail()
			return
		}
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, m.toText(v)...)
	}
	m.out.logLine(level, string(b))
}

// throw ends the run with a thrown value: {forbidden: …} and {unauthorized: …} are rejections, all else is an exception.
func (m *machine) throw(v value) {
	if m.halt != running {
		return
	}
	switch v.kind {
	case kindRoot, kindObject, kindTable:
		for _, r := range [...]struct {
			name   string
			status int
		}{{"forbidden", http.StatusForbidden}, {"unauthorized", http.StatusUnauthorized}} {
			message := m.member(v, r.name)
			if !message.truthy() {
				continue
			}
			if !message.isPrimitive() {
				m.bail()
				return
			}
			if m.halt == running {
				m.halt = haltThrown
				m.out.reject(thrownRejection(r.status, string(m.toText(message))))
			}
			return
		}
		m.fault("[object Object]")
	case kindArray, kindList:
		m.fault("array")
	default:
		m.fault(string(m.toText(v)))
	}
}

// callBuiltin compiles the calls of the language's own functions.
func (c *compiler) callBuiltin(name string, args []expr) expr {
	if h := consoleHelper(name); h != nil {
		return callGo(h, args)
	}
	if len(args) != 1 {
		c.fail()
		return nothing
	}
	e := args[0]
	switch name {
	case "Array.isArray":
		return func(m *machine, f *frame) value {
			v := e(m, f)
			return boolean(v.kind == kindArray || v.kind == kindList)
		}
	case "Object.keys":
		return func(m *machine, f *frame) value {
			v := e(m, f)
			if v.kind != kindRoot && v.kind != kindObject && v.kind != kindTable {
				return m.bail()
			}
			return value{kind: kindList, heap: &heapObject{elems: m.propertyNames(v)}}
		}
	}
	c.fail()
	return nothing
}
