package jsondoc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

func TestGet(t *testing.T) {
	obj := []byte(" { \"a\" : 1 ,\"b\":{\"a\":2},\"\\u0063\":[1,\"]\"],\"d\": \"x\\\"}\" , \"\":null,\"e\":false} ")
	for name, want := range map[string]string{
		"a": "1", "b": `{"a":2}`, "c": `[1,"]"]`, "d": `"x\"}"`, "": "null", "e": "false",
	} {
		if got, ok := jsondoc.Get(obj, name); !ok || string(got) != want {
			t.Errorf("Get(%q) = %s, %v, want %s", name, got, ok, want)
		}
	}
	for _, name := range []string{"f", "A", `\u0063`, "]"} {
		if got, ok := jsondoc.Get(obj, name); ok || got != nil {
			t.Errorf("Get(%q) = %s", name, got)
		}
	}
	for _, in := range []string{``, `{}`, `[]`, `"a"`, `1`, `["a",1]`} {
		if got, ok := jsondoc.Get([]byte(in), "a"); ok {
			t.Errorf("Get of %s = %s", in, got)
		}
	}
}

func TestGetReturnsNoSpareRoom(t *testing.T) {
	obj := []byte(`{"a":1,"b":2}`)
	value, _ := jsondoc.Get(obj, "a")
	_ = append(value, "XXXX"...)
	if string(obj) != `{"a":1,"b":2}` {
		t.Errorf("appending to a value changed the object: %s", obj)
	}
}

func TestMembers(t *testing.T) {
	var got []string
	for name, value := range jsondoc.Members([]byte(`{ "a": 1, "\u0062\n" : [ ] ,"c":{"x":"y"}}`)) {
		got = append(got, fmt.Sprintf("%q=%s", name, value))
	}
	if want := `"a"=1 "b\n"=[ ] "c"={"x":"y"}`; strings.Join(got, " ") != want {
		t.Errorf("members %s, want %s", got, want)
	}
	for name := range jsondoc.Members([]byte(`{"a":1,"b":2}`)) {
		if name != "a" {
			t.Errorf("went on after the loop ended: %s", name)
		}
		break
	}
}

func TestElements(t *testing.T) {
	for in, want := range map[string]string{
		`[]`: "", ` [ ] `: "", `[1]`: "1", `[ 1 , "a,b" ,[2,3], {"x":[4]},null,-1.5e3 ]`: `1|"a,b"|[2,3]|{"x":[4]}|null|-1.5e3`,
		`{"a":1}`: "", `1`: "", ``: "", `[[[]]]`: `[[]]`, `["\\","\"",""]`: `"\\"|"\""|""`,
	} {
		var got []string
		for e := range jsondoc.Elements([]byte(in)) {
			got = append(got, string(e))
		}
		if strings.Join(got, "|") != want {
			t.Errorf("elements of %s: %q, want %s", in, got, want)
		}
	}
	for range jsondoc.Elements([]byte(`[1,2]`)) {
		break
	}
}

func TestCompact(t *testing.T) {
	for in, want := range map[string]string{
		` `: ``, ` 1 `: `1`, "{ \"a b\" :\t[ 1 ,\r\n2 ] , \"c\\\" d\" : \" e \" }": `{"a b":[1,2],"c\" d":" e "}`, `{"a":1}`: `{"a":1}`,
	} {
		if got := jsondoc.Compact([]byte("x"), []byte(in)); string(got) != "x"+want {
			t.Errorf("Compact(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestAppendDoc(t *testing.T) {
	id := jsondoc.Member{Name: "_id", Value: []byte(`"x"`)}
	deleted := jsondoc.Member{Name: "_deleted", Value: []byte("true")}
	for _, c := range []struct {
		body    string
		members []jsondoc.Member
		want    string
	}{
		{`{}`, nil, `{}`},
		{`{"a":1}`, nil, `{"a":1}`},
		{`{}`, []jsondoc.Member{id}, `{"_id":"x"}`},
		{`{"a":1}`, []jsondoc.Member{id}, `{"_id":"x","a":1}`},
		{` {"a":1,"b":{}}`, []jsondoc.Member{id, deleted}, `{"_id":"x","_deleted":true,"a":1,"b":{}}`},
		{`{ }`, []jsondoc.Member{id, deleted}, `{"_id":"x","_deleted":true}`},
		{``, []jsondoc.Member{id}, `{"_id":"x"}`},
	} {
		if got := jsondoc.AppendDoc([]byte("{"), []byte(c.body), c.members...); string(got) != "{"+c.want {
			t.Errorf("AppendDoc(%s) = %s, want %s", c.body, got[1:], c.want)
		}
	}
}

func TestStrings(t *testing.T) {
	for text, want := range map[string]string{
		"": `""`, "a": `"a"`, "é😀\u2028": `"é😀` + "\u2028" + `"`, "<&>": `"<&>"`, "\"\\/": `"\"\\/"`,
		"\b\f\n\r\t": `"\b\f\n\r\t"`, "\x00\x1f\x7f": `"\u0000\u001f` + "\x7f" + `"`, "a\xffb\xc3": `"a` + "\ufffd" + `b` + "\ufffd" + `"`, "\ufffd": `"` + "\ufffd" + `"`,
	} {
		got := jsondoc.AppendString([]byte("x"), text)
		if string(got) != "x"+want {
			t.Errorf("AppendString(%q) = %s, want %s", text, got[1:], want)
		}
		if err := jsondoc.Check(got[1:], jsondoc.Limits{}); err != nil {
			t.Errorf("AppendString(%q): %v", text, err)
		}
		if back, ok := jsondoc.Unquote(got[1:]); !ok || back != strings.ToValidUTF8(strings.ReplaceAll(text, "\xff", "\ufffd"), "\ufffd") {
			t.Errorf("Unquote(%s) = %q, %v", got[1:], back, ok)
		}
	}
	for _, in := range []string{``, `"`, `1`, `null`, `{}`, `"a`, `a"`} {
		if got, ok := jsondoc.Unquote([]byte(in)); ok || got != "" {
			t.Errorf("Unquote(%s) = %q", in, got)
		}
	}
}
