package archtest

import (
	"fmt"
	"go/ast"
	"strings"
	"testing"
)

// maxLines is how long a file may be; the goal is half of it.
const maxLines = 800

// faults returns what is wrong with a file beside its imports.
func faults(s source) []string {
	var out []string
	if s.lines > maxLines {
		out = append(out, fmt.Sprintf("%s has %d lines: split it by what it does; %d is the most", s.path, s.lines, maxLines))
	}
	if !s.test {
		return out
	}
	find(s.file, false, func(call *ast.CallExpr, inBubble bool) {
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return
		}
		on, _ := fun.X.(*ast.Ident)
		where := s.fset.Position(call.Pos())
		switch name := fun.Sel.Name; {
		case on != nil && on.Name == "time" && name == "Sleep" && !inBubble:
			out = append(out, fmt.Sprintf("%s: time.Sleep waits for luck: wait for what should happen, or sleep inside synctest.Test, where time is not real", where))
		case on != nil && (name == "Skip" || name == "Skipf" || name == "SkipNow") && len(on.Name) <= 2:
			out = append(out, fmt.Sprintf("%s: %s.%s: a test that does not run finds nothing", where, on.Name, name))
		}
	})
	return out
}

// find calls visit for every call below n, with whether it is inside the function given to synctest.Test, or to a
// helper named bubble that passes it on.
func find(n ast.Node, inBubble bool, visit func(*ast.CallExpr, bool)) {
	ast.Inspect(n, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		visit(call, inBubble)
		if inBubble || !isCall(call, "synctest", "Test") && !isBubble(call) {
			return true
		}
		for _, arg := range call.Args {
			find(arg, true, visit)
		}
		return false
	})
}

func isBubble(call *ast.CallExpr) bool {
	fun, ok := call.Fun.(*ast.Ident)
	return ok && fun.Name == "bubble"
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	on, ok := fun.X.(*ast.Ident)
	return ok && on.Name == pkg && fun.Sel.Name == name
}

func TestFiles(t *testing.T) {
	for _, s := range sources(t) {
		for _, fault := range faults(s) {
			t.Error(fault)
		}
	}
}

// TestFilesCatches plants each fault.
func TestFilesCatches(t *testing.T) {
	body := func(code string) string { return "package x\nfunc TestX(t *testing.T) {\n" + code + "\n}\n" }
	for _, c := range []struct {
		name, file, text string
		want             string
	}{
		{"short", "a.go", "package x\n" + strings.Repeat("\n", 799), ""},
		{"long", "a.go", "package x\n" + strings.Repeat("\n", 800), "801 lines"},
		{"long test", "a_test.go", "package x\n" + strings.Repeat("\n", 800), "801 lines"},
		{"sleep", "a_test.go", body("time.Sleep(1)"), "a_test.go:3:1: time.Sleep"},
		{"sleep in a helper", "a_test.go", "package x\nfunc wait() { for { go func() { time.Sleep(1) }() } }", "time.Sleep"},
		{"sleep in a bubble", "a_test.go", body("synctest.Test(t, func(t *testing.T) { go func() { time.Sleep(1) }() })"), ""},
		{"sleep in a named bubble", "a_test.go", body("bubble(t, func(t *testing.T) { time.Sleep(1) })"), ""},
		{"sleep after a bubble", "a_test.go", body("synctest.Test(t, func(t *testing.T) {}); time.Sleep(1)"), "time.Sleep"},
		{"sleep in the product", "a.go", body("time.Sleep(1)"), ""},
		{"skip", "a_test.go", body(`t.Skip("slow")`), "t.Skip"},
		{"skip, formatted", "a_test.go", body(`tb.Skipf("slow")`), "tb.Skipf"},
		{"skip, plain", "a_test.go", body(`f.SkipNow()`), "f.SkipNow"},
		{"skip in a bubble", "a_test.go", body("synctest.Test(t, func(t *testing.T) { t.Skip() })"), "t.Skip"},
		{"skip of something else", "a_test.go", body(`dec.Skip()`), ""},
	} {
		s, err := parse(c.file, []byte(c.text))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := strings.Join(faults(s), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
