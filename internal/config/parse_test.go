package config

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestSyntaxErrorsTellThePlace(t *testing.T) {
	deep := strings.Repeat("[", maxConfigDepth+1)
	for _, tc := range []struct{ name, src, want string }{
		{"line comment", "{\n  // note\n}", "line 2, column 3: comments are not allowed in JSON"},
		{"block comment", "{\"a\": /* x */ 1}", "line 1, column 7: comments are not allowed in JSON"},
		{"hash comment", "# x\n{}", "line 1, column 1: comments are not allowed in JSON"},
		{"trailing comma in object", "{\"name\": \"x\",\n}", "line 2, column 1: trailing comma before '}'"},
		{"trailing comma in array", "{\"name\": [1, ]}", "line 1, column 14: trailing comma before ']'"},
		{"missing comma", "{\"name\": 1\n \"b\": 2}", "line 2, column 2: expected ',' or '}', found '\"'"},
		{"missing colon", "{\"name\" 1}", "line 1, column 9: expected ':' after the key \"name\", found '1'"},
		{"bare key", "{name: 1}", "line 1, column 2: expected a key in double quotes, found 'n'"},
		{"more after the end", "{} {}", "line 1, column 4: unexpected '{' after the end of the value"},
		{"nothing", "", "line 1, column 1: expected a value, found end of the text"},
		{"open object", "{\"name\": 1", "line 1, column 11: expected ',' or '}', found end of the text"},
		{"open string", "{\"name\": \"x}", "line 1, column 10: the string that begins here is never closed"},
		{"string over lines", "{\"sync\": \"function() {\n}\"}", "line 1, column 10: the string that begins here is not closed on its line; a value of several lines goes between back quotes"},
		{"open back quote", "{\n\"sync\": `function() {}}", "line 2, column 9: the back quote that begins here is never closed"},
		{"control character", "\"a\tb\"", "line 1, column 3: a control character in a string must be written as an escape"},
		{"bad escape", `"\x"`, `line 1, column 2: unknown escape \x`},
		{"half escape", `"\u12"`, `line 1, column 2: malformed \u escape`},
		{"lone surrogate", `"\ud800"`, `line 1, column 2: half of a surrogate pair in a \u escape`},
		{"bad UTF-8", "\"\xff\"", "line 1, column 2: the string is not valid UTF-8"},
		{"leading zero", "01", "line 1, column 1: malformed number"},
		{"no digits", "-", "line 1, column 1: malformed number"},
		{"bad fraction", "1.", "line 1, column 1: malformed number"},
		{"too deep", deep, "nested deeper than 64 levels"},
		{"after several lines of back quotes", "{\"sync\": `a\nb\nc`, }", "line 3, column 5: trailing comma before '}'"},
		{"duplicate key", "{\"name\": 1,\n\"name\": 2}", "line 2, column 1: name: the key is given twice; the first is at line 1, column 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseDatabase([]byte(tc.src))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestBackQuotes(t *testing.T) {
	for _, tc := range []struct{ name, src, want string }{
		{"plain", "{\"sync\": `function(d){\n  channel(\"a\\n\");\n}`}", "function(d){\n  channel(\"a\\n\");\n}"},
		{"within quotes", "{\"sync\": \"`function(d){}`\"}", "function(d){}"},
		{"within quotes, JSON escapes", "{\"sync\": \"`function(d){ channel(\\\"a\\\") }`\"}", `function(d){ channel("a") }`},
		{"within quotes, raw quotes", "{\"sync\": \"`function(d){ channel(\"a\") }`\"}", `function(d){ channel("a") }`},
		{"within quotes, several lines", "{\"sync\": \"`function(d){\n}`\"}", "function(d){\n}"},
		{"a string that only begins with one", "{\"sync\": \"`function(d){}\"}", "`function(d){}"},
		{"tabs and returns", "{\"sync\": `function(d){\r\n\t}`}", "function(d){\r\n\t}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := ParseDatabase([]byte(tc.src))
			if err != nil {
				t.Fatal(err)
			}
			if string(cfg.Sync) != tc.want {
				t.Fatalf("got  %q\nwant %q", cfg.Sync, tc.want)
			}
		})
	}
}

// FuzzParse holds the parser against another strict one: without our two extensions they agree on what is
// JSON and on what it says.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e+3,true,null,"x\u00e9\ud83d\ude00"]}`, "[]", `"`, "{\"a\":`x`}", `{"a":1,"a":2}`, "\ufeff{}", "[1,]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		n, err := parse(src, nil)
		if err == nil {
			again, err := parse(n.appendJSON(nil), nil)
			if err != nil {
				t.Fatalf("what was parsed does not parse again: %v", err)
			}
			if string(again.appendJSON(nil)) != string(n.appendJSON(nil)) {
				t.Fatal("what was parsed does not stay the same")
			}
		}
		if strings.ContainsAny(string(src), "`") || strings.HasPrefix(string(src), "\ufeff") || err != nil && strings.Contains(err.Error(), "nested deeper") {
			return
		}
		v := jsontext.Value(src)
		if oracle := v.IsValid(); oracle != (err == nil) {
			t.Fatalf("%q: ours says %v, the oracle's validity is %v", src, err, oracle)
		}
		if err == nil {
			if err := v.Compact(); err != nil {
				t.Fatal(err)
			}
			theirs, _ := parse(v, nil)
			if string(theirs.appendJSON(nil)) != string(n.appendJSON(nil)) {
				t.Fatalf("%q: values differ", src)
			}
		}
	})
}
