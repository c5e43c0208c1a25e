package script

import (
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

// Members that generated documents have and generated programs read.
var memberNames = []string{"type", "channels", "owner", "n", "flag", "items", "sub", "k", "10", "length", "indexOf", "é", "forbidden"}

var wordSample = []string{"", "a", "b", "x", "type", "order", "bob", "amy", "role:r", "*", "!", "a,b", "10", "é", "😀", "\u2028", "a b", "length",
	"A-1-b", "3600", "2030-01-01T00:00:00Z", "tab\there", `q"\`}

// word draws a short string.
func word() *rapid.Generator[string] { return rapid.SampledFrom(wordSample) }

// jsonText draws a JSON value as text, in one of the ways it can be written.
func jsonText(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		kind := rapid.IntRange(0, 11).Draw(t, "kind")
		if depth <= 0 {
			kind %= 8
		}
		switch kind {
		case 0:
			return "null"
		case 1:
			return rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool")
		case 2, 3:
			return rapid.SampledFrom([]string{"0", "1", "2", "-0", "-1", "1.5", "1e3", "1E-7", "9007199254740991", "9007199254740992",
				"-9007199254740993", "123456789012345678901234567890", "1e21", "0.1", "3600", "5e-324", "1234567890123456.5"}).Draw(t, "number")
		case 8, 9:
			return objectText(depth-1, 4).Draw(t, "object")
		case 10, 11:
			elems := rapid.SliceOfN(jsonText(depth-1), 0, 4).Draw(t, "array")
			return "[" + strings.Join(elems, rapid.SampledFrom([]string{",", " , "}).Draw(t, "comma")) + "]"
		}
		return stringText().Draw(t, "string")
	})
}

// stringText draws a JSON string, plain or with every character escaped.
func stringText() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := word().Draw(t, "text")
		if !rapid.Bool().Draw(t, "escaped") {
			return string(appendJSONString(nil, s))
		}
		b := []byte{'"'}
		for _, r := range s {
			if r > 0xFFFF {
				r -= 0x10000
				b = fmt.Appendf(b, `\u%04x\u%04X`, 0xD800+r>>10, 0xDC00+r&0x3FF)
				continue
			}
			b = fmt.Appendf(b, `\u%04X`, r)
		}
		return string(append(b, '"'))
	})
}

// objectText draws a JSON object of members with different names.
func objectText(depth, max int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(memberNames), 0, max, rapid.ID[string]).Draw(t, "names")
		space := rapid.SampledFrom([]string{"", "", " ", "\n\t"}).Draw(t, "space")
		var members []string
		for _, name := range names {
			value := jsonText(depth)
			switch name {
			case "channels", "items":
				value = rapid.OneOf(value, listText(depth))
			}
			members = append(members, string(appendJSONString(nil, name))+space+":"+space+value.Draw(t, "value"))
		}
		return "{" + space + strings.Join(members, space+","+space) + space + "}"
	})
}

func listText(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return "[" + strings.Join(rapid.SliceOfN(rapid.OneOf(stringText(), jsonText(depth-1)), 0, 4).Draw(t, "list"), ",") + "]"
	})
}

// inputs draws the input of a run.
func inputs() *rapid.Generator[*SyncInput] {
	return rapid.Custom(func(t *rapid.T) *SyncInput {
		in := &SyncInput{
			DocID:   rapid.SampledFrom([]string{"doc1", "dé", `"q"`}).Draw(t, "id"),
			Rev:     tidegate.RevID{Generation: 2, Digest: "0abc"},
			Deleted: rapid.Bool().Draw(t, "deleted"),
			Body:    []byte(objectText(3, 6).Draw(t, "doc")),
			Now:     testNow,
			User: rapid.SampledFrom([]User{{Admin: true}, guest, amy, star,
				{Name: "bob", Roles: []string{"a"}, Channels: []string{"a", "b"}}}).Draw(t, "user"),
		}
		if rapid.Bool().Draw(t, "hasOld") {
			in.OldBody = []byte(objectText(3, 6).Draw(t, "old"))
			in.OldDeleted = rapid.Bool().Draw(t, "oldDeleted")
			if rapid.IntRange(0, 5).Draw(t, "same") == 0 {
				in.OldBody = in.Body
			}
		}
		if rapid.IntRange(0, 4).Draw(t, "attachments") == 0 {
			in.Attachments = []byte(`{"a.txt":{"stub":true,"length":5}}`)
		}
		if rapid.IntRange(0, 4).Draw(t, "meta") == 0 {
			in.Meta = []byte(`{"xattrs":{"k":` + jsonText(2).Draw(t, "xattr") + `}}`)
		}
		return in
	})
}

// programGen writes a random program of the direct evaluator's subset, mostly one that does not stop at its first
// statement.
type programGen struct {
	t      *rapid.T
	vars   []string // variables in scope
	funcs  []string // functions declared so far, of one parameter
	inLoop bool
	serial int
}

func (g *programGen) pick(n int) int { return rapid.IntRange(0, n-1).Draw(g.t, "pick") }

func (g *programGen) of(list ...string) string { return rapid.SampledFrom(list).Draw(g.t, "of") }

func (g *programGen) fresh(prefix string) string {
	g.serial++
	return prefix + strconv.Itoa(g.serial)
}

// program draws a whole function.
func (g *programGen) program() string {
	var b strings.Builder
	b.WriteString("function (doc, oldDoc, meta) {\n")
	g.vars = []string{"doc", "oldDoc", "meta"}
	fmt.Fprintf(&b, "var list = [%s, %s], table = {k: %s, \"a b\": 1, type: doc.type}; let count = %s, name = %s;\n",
		g.stringExpr(1), g.expr(1), g.expr(1), g.of("0", "1", "2"), g.stringExpr(1))
	for range g.pick(3) {
		name, param := g.fresh("f"), g.fresh("p")
		inner := programGen{t: g.t, vars: append([]string{param}, g.vars...), funcs: g.funcs, serial: 100 * (g.serial + 1)}
		fmt.Fprintf(&b, "function %s(%s) { %s return %s; }\n", name, param, inner.statements(2, 1), inner.expr(3))
		g.funcs = append(g.funcs, name)
	}
	for range 1 + g.pick(3) {
		v := g.fresh("v")
		fmt.Fprintf(&b, "%s %s = %s;\n", g.of("var", "let"), v, g.expr(3))
		g.vars = append(g.vars, v)
	}
	b.WriteString(g.statements(5, 3))
	b.WriteString("}")
	return b.String()
}

func (g *programGen) statements(max, depth int) string {
	var b strings.Builder
	for range 1 + g.pick(max) {
		b.WriteString(g.statement(depth))
		b.WriteString("\n")
	}
	return b.String()
}

func (g *programGen) local() string {
	if len(g.vars) <= 3 {
		return ""
	}
	return rapid.SampledFrom(g.vars[3:]).Draw(g.t, "local")
}

func (g *programGen) statement(depth int) string {
	if g.pick(4) == 0 {
		return g.update()
	}
	kind := g.pick(20)
	if depth <= 0 {
		kind = 8 + kind%8
	}
	switch kind {
	case 0, 1:
		return fmt.Sprintf("if (%s) { %s}", g.expr(3), g.nested(depth))
	case 2:
		return fmt.Sprintf("if (%s) { %s} else { %s}", g.expr(3), g.nested(depth), g.nested(depth))
	case 3:
		i := g.fresh("i")
		list := g.list()
		return fmt.Sprintf("for (%s %s = 0; %s < 3 && %s < %s.length; %s++) { %s}", g.of("var", "let"), i, i, i, list, i, g.loopBody(depth, list+"["+i+"]"))
	case 4:
		x := g.fresh("x")
		return fmt.Sprintf("for (%s %s %s) { %s}", g.of("var", "let", "const"), x, g.of("of "+g.list(), "in "+g.expr(1)), g.loopBody(depth, x))
	case 5:
		x := g.fresh("e")
		call := g.of("forEach", "map", "some", "filter", "every")
		inner := *g
		inner.vars = append(append([]string(nil), g.vars...), x)
		inner.inLoop = false
		body := inner.statements(2, depth-1)
		g.serial = inner.serial
		return fmt.Sprintf("%s.%s(function (%s) { %s return %s; });", g.list(), call, x, body, g.expr(1))
	case 6:
		return fmt.Sprintf("switch (%s) { case %s: %s break; case %s: %s default: %s}", g.expr(2), g.expr(1), g.nested(0), g.expr(1), g.nested(0), g.nested(0))
	case 7:
		return fmt.Sprintf("{ let %s = %s; channel(%s); }", "v1", g.expr(2), g.expr(1))
	}
	return g.simple(kind)
}

// update draws a statement that changes one of the variables that every program has.
func (g *programGen) update() string {
	switch g.pick(8) {
	case 0:
		return "list.push(" + g.stringExpr(1) + ");"
	case 1:
		return "list[" + g.of("0", "1", "list.length", "count", "9", "-1", "'0'") + "] = " + g.stringExpr(1) + ";"
	case 2:
		return "table." + g.of("k", "x", "type", "indexOf") + " = " + g.expr(1) + ";"
	case 3:
		return "table[" + g.stringExpr(1) + "] = " + g.expr(0) + ";"
	case 4:
		return g.of("count++;", "++count;", "count += 2;", "count -= 1;", "count *= 3;", "count %= 2;", "count /= 4;")
	case 5:
		return "name += " + g.expr(1) + ";"
	case 6:
		return "channel(list, name, table.k);"
	}
	return "if (" + g.expr(2) + ") throw " + g.of("new Error("+g.stringExpr(0)+")", "new Error()", "table", "list", "name") + ";"
}

func (g *programGen) nested(depth int) string {
	inner := *g
	s := inner.statements(2, depth-1)
	g.serial = inner.serial
	return s
}

func (g *programGen) loopBody(depth int, element string) string {
	inner := *g
	inner.inLoop = true
	v := inner.fresh("y")
	inner.vars = append(append([]string(nil), g.vars...), v)
	s := "var " + v + " = " + element + "; " + inner.statements(2, depth-1)
	g.serial = inner.serial
	return s
}

func (g *programGen) simple(kind int) string {
	switch kind {
	case 8, 9, 10:
		return fmt.Sprintf("channel(%s);", g.of(g.stringExpr(2), g.list(), g.expr(2), g.stringExpr(1)+", "+g.expr(1)))
	case 11:
		return fmt.Sprintf("%s(%s, %s);", g.of("access", "access", "role"), g.of(`"bob"`, `["role:r","amy"]`, g.expr(1)), g.of(`"x"`, `"role:r"`, g.list(), g.expr(1)))
	case 12:
		return fmt.Sprintf("%s(%s);", g.of("requireUser", "requireRole", "requireAccess", "expiry", "console.log", "log", "console.error"), g.of(g.stringExpr(1), g.list(), g.expr(1)))
	case 13, 14:
		if v := g.local(); v != "" {
			return fmt.Sprintf(g.of("%s = %s;", "%s += %s;", "%s = [%s];", "%s.push(%s);", "%s.k = %s;", "%s[0] = %s;"), v, g.stringExpr(2))
		}
	case 15:
		if v := g.local(); v != "" {
			return g.of(v+"++;", "--"+v+";", v+" -= 2;")
		}
	case 16:
		return fmt.Sprintf("if (%s) throw(%s);", g.expr(2), g.of("{forbidden: "+g.stringExpr(2)+"}", "{unauthorized: "+g.expr(1)+"}", g.expr(1)))
	case 17:
		return fmt.Sprintf("if (%s) return;", g.expr(2))
	case 18:
		if g.inLoop {
			return fmt.Sprintf("if (%s) %s;", g.expr(2), g.of("break", "continue"))
		}
	case 19:
		return fmt.Sprintf("reject(%s, %s);", g.of("399", "400", "403.7", "1000", g.expr(1)), g.expr(1))
	}
	return fmt.Sprintf("channel(%s);", g.stringExpr(2))
}

func (g *programGen) member() string {
	root := g.of("doc", "doc", "doc", "oldDoc", "meta.xattrs")
	if g.pick(6) == 0 {
		return root + "[" + g.expr(1) + "]"
	}
	return root + "." + g.of("type", "channels", "owner", "n", "flag", "items", "sub", "k", "é", "_id", "_rev", "_deleted", "_attachments", "forbidden")
}

func literal(s string) string {
	return strings.ReplaceAll(string(appendJSONString(nil, s)), "\u2028", "\\u2028")
}

// stringExpr draws an expression that is likely to be a string.
func (g *programGen) stringExpr(depth int) string {
	if depth <= 0 {
		return literal(word().Draw(g.t, "literal"))
	}
	switch g.pick(7) {
	case 0:
		return g.stringExpr(0) + " + " + g.expr(depth-1)
	case 1:
		return "(doc.type || " + g.stringExpr(0) + ")"
	case 2:
		return "`t-${" + g.expr(depth-1) + "}`"
	case 3:
		return "(" + g.stringExpr(depth-1) + ")" + g.of(".toUpperCase()", ".toLowerCase()", ".trim()", ".substring(1)", ".slice(-2)", ".charAt(0)", ".substr(1, 2)",
			`.split("-")[0]`, `.split(",").join("-")`, "[0]", ".toString()")
	case 4:
		return "typeof " + g.member()
	}
	return literal(word().Draw(g.t, "literal"))
}

// list draws an expression that is likely to be an array.
func (g *programGen) list() string {
	switch g.pick(7) {
	case 0:
		return "[" + g.expr(1) + ", " + g.stringExpr(1) + "]"
	case 1:
		return "(doc.items || [])"
	case 2:
		return "(Array.isArray(doc.channels) ? doc.channels : [doc.channels])"
	case 3:
		return "Object.keys(doc)"
	case 4:
		return g.of(`["a","b"].concat(doc.channels)`, `["a","b","c"].slice(1)`, `["a","b"].map(function (s) { return "m-" + s; })`, `(doc.items || []).filter(s => typeof s === "string")`)
	case 5:
		return `[]`
	}
	return `["a", "b", "x"]`
}

func (g *programGen) expr(depth int) string {
	if depth <= 0 {
		return g.of("null", "undefined", "true", "false", "0", "1", "2.5", "3600", "-1", "1e21", g.stringExpr(0), g.stringExpr(0))
	}
	switch g.pick(19) {
	case 16:
		return g.of("list", "table", "count", "name")
	case 17:
		return g.of("list[count]", "list[0]", "list.length", "table.k", "table['a b']", "table.x", "table[name]", "(name in table)", "('k' in table)", "('toString' in table)",
			"Object.keys(table).join('-')", "Object.keys(table).length", "table.hasOwnProperty(name)", "table.hasOwnProperty('k')", "typeof table", "typeof list[5]", "(table === table)", "(list == table)")
	case 18:
		return g.of("(count + 1)", "(count > 1)", "(count % 2 === 0)", "(count / 3)", "(-count)", "name.length", "name.substring(count)", "name.substring(1, count)", "name.slice(-count)",
			"name.slice(count, -1)", "name.substr(-2, count)", "name.charAt(count)", "name[count]", "(name + count)", "(name < 'b')", "name.split('-').length", "list.concat(name, ['q']).length", "list.slice(-1)[0]",
			"list.join(name)", "count.toString()", "(count, name)", "(oldDoc === null)", "(doc === oldDoc)")
	case 0, 1, 2, 3:
		return g.member()
	case 4:
		return rapid.SampledFrom(g.vars).Draw(g.t, "var")
	case 5:
		return g.of("!", "!", "typeof ", "-", "+", "void ") + "(" + g.expr(depth-1) + ")"
	case 6, 7:
		op := g.of("===", "!==", "==", "!=", "<", ">", "<=", ">=", "+", "+", "-", "*", "/", "%", "in")
		return "(" + g.expr(depth-1) + " " + op + " " + g.expr(depth-1) + ")"
	case 8:
		return "(" + g.expr(depth-1) + g.of(" && ", " || ", " ?? ") + g.expr(depth-1) + ")"
	case 9:
		return "(" + g.expr(depth-1) + " ? " + g.expr(depth-1) + " : " + g.expr(depth-1) + ")"
	case 10:
		return g.list()
	case 11:
		if len(g.funcs) > 0 {
			return rapid.SampledFrom(g.funcs).Draw(g.t, "func") + "(" + g.expr(depth-1) + ")"
		}
		return g.member()
	case 12:
		return g.list() + g.of(".length", "[0]", ".indexOf("+g.expr(depth-1)+")", ".includes("+g.expr(depth-1)+")", ".join()", `.some(x => x === "a")`)
	case 13:
		return g.of("Array.isArray("+g.member()+")", "doc.hasOwnProperty("+g.expr(0)+")", "(oldDoc && oldDoc.type)", "(oldDoc ? oldDoc.owner : doc.owner)", "{k: "+g.expr(0)+"}.k", "doc.type.length")
	case 14:
		return "(" + g.stringExpr(depth-1) + ")" + g.of(".length", ".indexOf("+g.stringExpr(0)+")", ".startsWith("+g.stringExpr(0)+")", ".endsWith("+g.stringExpr(0)+")", ".includes("+g.stringExpr(0)+")")
	}
	return g.stringExpr(depth)
}
