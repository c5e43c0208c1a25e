package jsondoc_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

func TestSplit(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		name, in string
		keep     bool
		want     jsondoc.Doc
	}{
		{name: "empty", in: `{}`, want: jsondoc.Doc{Body: b(`{}`)}},
		{name: "plain", in: `{"a":1,"b":[true,null],"":""}`, want: jsondoc.Doc{Body: b(`{"a":1,"b":[true,null],"":""}`)}},
		{name: "spaces", in: " {\n\t\"a\" : [ 1 , { \"b c\" : \" x \" } ] , \"d\" : 2 }\r\n", want: jsondoc.Doc{Body: b(`{"a":[1,{"b c":" x "}],"d":2}`)}},
		{name: "all that are understood", in: `{"_id":"i","_rev":"1-a","_deleted":true,"_removed":false,"_purged":1,"_exp":7,"_attachments":{"x":{}},"_revisions":{"start":1}}`,
			want: jsondoc.Doc{ID: "i", HasID: true, Rev: "1-a", HasRev: true, HasDeleted: true, Deleted: true, Removed: true, Purged: true,
				Exp: b(`7`), Attachments: b(`{"x":{}}`), Revisions: b(`{"start":1}`), Body: b(`{}`)}},
		{name: "first", in: `{"_id":"i","a":1}`, want: jsondoc.Doc{ID: "i", HasID: true, Body: b(`{"a":1}`)}},
		{name: "last", in: `{"a":1,"_id":"i"}`, want: jsondoc.Doc{ID: "i", HasID: true, Body: b(`{"a":1}`)}},
		{name: "between", in: `{"a":1,"_id":"i","b":2}`, want: jsondoc.Doc{ID: "i", HasID: true, Body: b(`{"a":1,"b":2}`)}},
		{name: "among", in: `{"_exp":null,"a":1, "b":2 ,"_id":"i" ,"_rev":"1-a", "c":3,"d":4}`,
			want: jsondoc.Doc{ID: "i", HasID: true, Rev: "1-a", HasRev: true, Exp: b(`null`), Body: b(`{"a":1,"b":2,"c":3,"d":4}`)}},
		{name: "only at the top", in: `{"a":{"_id":1,"_x":2}}`, want: jsondoc.Doc{Body: b(`{"a":{"_id":1,"_x":2}}`)}},
		{name: "escaped name", in: `{"\u005fid":"i","\u0061":1}`, want: jsondoc.Doc{ID: "i", HasID: true, Body: b(`{"\u0061":1}`)}},
		{name: "escaped value", in: `{"_id":"\u00e9\n\"\/\ud83d\ude00"}`, want: jsondoc.Doc{ID: "é\n\"/😀", HasID: true, Body: b(`{}`)}},
		{name: "not deleted", in: `{"_deleted":false}`, want: jsondoc.Doc{HasDeleted: true, Body: b(`{}`)}},
		{name: "null rev", in: `{"_rev":null}`, want: jsondoc.Doc{HasRev: true, Body: b(`{}`)}},
		{name: "unknown, dropped", in: `{"_foo":{"a":1},"b":2,"_sync_x":1,"_":3}`,
			want: jsondoc.Doc{Unknown: []string{"_foo", "_sync_x", "_"}, Body: b(`{"b":2}`)}},
		{name: "unknown, kept", in: `{"_foo": {"a": 1},"_rev":"1-a","b":2,"_":3}`, keep: true,
			want: jsondoc.Doc{Rev: "1-a", HasRev: true, Unknown: []string{"_foo", "_"}, Body: b(`{"_foo":{"a":1},"b":2,"_":3}`)}},
		{name: "raw values stay as they are", in: `{"_attachments": { "a" : [ 1 ] } ,"_exp": "x y" }`,
			want: jsondoc.Doc{Attachments: b(`{ "a" : [ 1 ] }`), Exp: b(`"x y"`), Body: b(`{}`)}},
		{name: "numbers keep their digits", in: `{"a":-0,"b":1E400,"c":9007199254740993,"d":1.10,"e":1e+2,"f":0.1e-7}`,
			want: jsondoc.Doc{Body: b(`{"a":-0,"b":1E400,"c":9007199254740993,"d":1.10,"e":1e+2,"f":0.1e-7}`)}},
	} {
		got, err := jsondoc.Split([]byte(c.in), jsondoc.Limits{}, c.keep)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, show(got), show(&c.want))
		}
	}
}

// show makes the raw members of a Doc readable.
func show(d *jsondoc.Doc) map[string]any {
	return map[string]any{"id": d.ID, "rev": d.Rev, "flags": []bool{d.HasID, d.HasRev, d.HasDeleted, d.Deleted, d.Removed, d.Purged},
		"exp": string(d.Exp), "attachments": string(d.Attachments), "revisions": string(d.Revisions), "unknown": d.Unknown, "body": string(d.Body)}
}

func TestSplitBodyIsItsOwn(t *testing.T) {
	raw := []byte(`{"a":"x"}`)
	d, err := jsondoc.Split(raw, jsondoc.Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if string(d.Body) != `{"a":"x"}` {
		t.Errorf("the body changed with the input: %q", d.Body)
	}
}

// TestSplitBodyIsSmall: attachments that came with a body do not stay in memory with it.
func TestSplitBodyIsSmall(t *testing.T) {
	for _, size := range []int{10, 5000, 10 << 20} {
		for _, in := range []string{`{"_attachments":{"x":{"data":"%s"}},"a":1}`, `{"a":1,"_attachments":{"x":{"data":"%s"}}}`} {
			d, err := jsondoc.Split([]byte(strings.Replace(in, "%s", strings.Repeat("A", size), 1)), jsondoc.Limits{}, false)
			if err != nil || string(d.Body) != `{"a":1}` || cap(d.Body) > 2048 {
				t.Errorf("%d bytes inline: body of %d bytes keeps %d, %v", size, len(d.Body), cap(d.Body), err)
			}
		}
	}
}

// refused is what neither Split nor Check takes, with the reason.
var refused = map[string]string{
	`{`:                     "Bad JSON: unexpected end at byte 1",
	`{"a"`:                  "Bad JSON: unexpected end at byte 4",
	`{"a":`:                 "Bad JSON: unexpected end at byte 5",
	`{"a":1`:                "Bad JSON: unexpected end at byte 6",
	`{"a":1,`:               "Bad JSON: unexpected end at byte 7",
	`{"a":1,}`:              "Bad JSON: expected a key at byte 7",
	`{,}`:                   "Bad JSON: expected a key at byte 1",
	`{a:1}`:                 "Bad JSON: expected a key at byte 1",
	`{'a':1}`:               "Bad JSON: expected a key at byte 1",
	`{1:1}`:                 "Bad JSON: expected a key at byte 1",
	`{"a" 1}`:               "Bad JSON: expected : at byte 5",
	`{"a"::1}`:              "Bad JSON: no value begins like this at byte 5",
	`{"a":1 "b":2}`:         "Bad JSON: expected , or } at byte 7",
	`{"a":[1 2]}`:           "Bad JSON: expected , or ] at byte 8",
	`{"a":[1,]}`:            "Bad JSON: no value begins like this at byte 8",
	`{"a":[}`:               "Bad JSON: no value begins like this at byte 6",
	`{"a":1}}`:              "Bad JSON: unexpected text after the value at byte 7",
	`{"a":1}{}`:             "Bad JSON: unexpected text after the value at byte 7",
	`{"a":1} x`:             "Bad JSON: unexpected text after the value at byte 8",
	`{"a":/**/1}`:           "Bad JSON: no value begins like this at byte 5",
	"{\"a\":1}\x00":         "Bad JSON: unexpected text after the value at byte 7",
	"\ufeff{\"a\":1}":       "Bad JSON: no value begins like this at byte 0",
	"{\u00a0\"a\":1}":       "Bad JSON: expected a key at byte 1",
	`{"a":1,"a":2}`:         "Bad JSON: duplicate key at byte 7",
	`{"a":1,"\u0061":2}`:    "Bad JSON: duplicate key at byte 7",
	`{"\u0061":1,"a":2}`:    "Bad JSON: duplicate key at byte 12",
	`{"x":{"b":1,"b":2}}`:   "Bad JSON: duplicate key at byte 12",
	`{"x":[{"b":1,"b":2}]}`: "Bad JSON: duplicate key at byte 13",
	`{"":1,"":2}`:           "Bad JSON: duplicate key at byte 6",
	`{"_id":"a","_id":"a"}`: "Bad JSON: duplicate key at byte 11",
	`{"_foo":1,"_foo":1}`:   "Bad JSON: duplicate key at byte 10",
	`{"long enough to be compared by its ends":1,"long enough to be compared by its ends":2}`: "Bad JSON: duplicate key at byte 44",
	`{"😀":1,"\ud83d\ude00":2}`:  "Bad JSON: duplicate key at byte 10",
	`{"a":"`:                    "Bad JSON: unexpected end at byte 6",
	`{"a":"x}`:                  "Bad JSON: unexpected end at byte 8",
	`{"a":"\`:                   "Bad JSON: bad escape at byte 6",
	`{"a":"\x"}`:                "Bad JSON: bad escape at byte 6",
	`{"a":"\u12"}`:              "Bad JSON: bad escape at byte 6",
	`{"a":"\u12g4"}`:            "Bad JSON: bad escape at byte 6",
	`{"a":"\ud800"}`:            "Bad JSON: bad escape at byte 6",
	`{"a":"\ud800x"}`:           "Bad JSON: bad escape at byte 6",
	`{"a":"\ud800\n12345"}`:     "Bad JSON: bad escape at byte 6",
	`{"a":"\ud800\u0041"}`:      "Bad JSON: bad escape at byte 6",
	`{"a":"\ud800\ud800"}`:      "Bad JSON: bad escape at byte 6",
	`{"a":"\udc00\ud800"}`:      "Bad JSON: bad escape at byte 6",
	"{\"a\":\"\n\"}":            "Bad JSON: control character in a string at byte 6",
	"{\"a\":\"12345678\x1f\"}":  "Bad JSON: control character in a string at byte 14",
	"{\"a\x00\":1}":             "Bad JSON: control character in a string at byte 3",
	"{\"a\":\"\xff\"}":          "Bad JSON: not UTF-8 at byte 6",
	"{\"a\":\"\xc0\x80\"}":      "Bad JSON: not UTF-8 at byte 6",  // overlong
	"{\"a\":\"\xed\xa0\x80\"}":  "Bad JSON: not UTF-8 at byte 6",  // a surrogate
	"{\"a\":\"\xf4\x90\x80\x80": "Bad JSON: not UTF-8 at byte 6",  // beyond Unicode
	"{\"a\":\"abcdefgh\xe2\x82": "Bad JSON: not UTF-8 at byte 14", // cut off
	"{\"a\xff\":1}":             "Bad JSON: not UTF-8 at byte 3",  // in a key
	`{"a":tru}`:                 "Bad JSON: no value begins like this at byte 5",
	`{"a":True}`:                "Bad JSON: no value begins like this at byte 5",
	`{"a":nul`:                  "Bad JSON: no value begins like this at byte 5",
	`{"a":truex}`:               "Bad JSON: expected , or } at byte 9",
	`{"a":NaN}`:                 "Bad JSON: no value begins like this at byte 5",
	`{"a":Infinity}`:            "Bad JSON: no value begins like this at byte 5",
	`{"a":+1}`:                  "Bad JSON: no value begins like this at byte 5",
	`{"a":.5}`:                  "Bad JSON: no value begins like this at byte 5",
	`{"a":-}`:                   "Bad JSON: bad number at byte 6",
	`{"a":-x}`:                  "Bad JSON: bad number at byte 6",
	`{"a":01}`:                  "Bad JSON: bad number at byte 7",
	`{"a":-00}`:                 "Bad JSON: bad number at byte 8",
	`{"a":1.}`:                  "Bad JSON: bad number at byte 7",
	`{"a":1.e1}`:                "Bad JSON: bad number at byte 7",
	`{"a":1e}`:                  "Bad JSON: bad number at byte 7",
	`{"a":1e+}`:                 "Bad JSON: bad number at byte 8",
	`{"a":1e1.5}`:               "Bad JSON: expected , or } at byte 8",
	`{"a":0x1}`:                 "Bad JSON: expected , or } at byte 6",
	`{"a":1_0}`:                 "Bad JSON: expected , or } at byte 6",
	`{"a":-`:                    "Bad JSON: unexpected end at byte 6",
}

func TestRefused(t *testing.T) {
	for in, reason := range refused {
		_, err := jsondoc.Split([]byte(in), jsondoc.Limits{}, false)
		if tidegate.ErrorCode(err) != tidegate.Invalid || err.Error() != reason {
			t.Errorf("Split(%q): %v, want %s", in, err, reason)
		}
		err = jsondoc.Check([]byte(in), jsondoc.Limits{})
		if tidegate.ErrorCode(err) != tidegate.Invalid || err.Error() != reason {
			t.Errorf("Check(%q): %v, want %s", in, err, reason)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	for in, reason := range map[string]string{
		"":                      "Document body is empty",
		" \n":                   "Document body is empty",
		`[]`:                    "Document body must be JSON",
		`"x"`:                   "Document body must be JSON",
		`null`:                  "Document body must be JSON",
		` 12 `:                  "Document body must be JSON",
		`nul`:                   "Bad JSON: no value begins like this at byte 0",
		`{"_id":1}`:             "Bad _id: wrong type",
		`{"_id":null}`:          "Bad _id: wrong type",
		`{"_rev":1}`:            "Bad _rev: wrong type",
		`{"_rev":{}}`:           "Bad _rev: wrong type",
		`{"_deleted":1}`:        "Bad _deleted: wrong type",
		`{"_deleted":null}`:     "Bad _deleted: wrong type",
		`{"_id":["x"],"_rev":1`: "Bad JSON: unexpected end at byte 21",
	} {
		_, err := jsondoc.Split([]byte(in), jsondoc.Limits{}, false)
		if tidegate.ErrorCode(err) != tidegate.Invalid || err.Error() != reason {
			t.Errorf("Split(%q): %v, want %s", in, err, reason)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, in := range []string{`1`, ` "x" `, `null`, `[]`, `[ ]`, `{ }`, `[[],{}]`, `-0.0e-0`, `""`, `{"a":{"a":{"a":1}},"b":{"a":1}}`} {
		if err := jsondoc.Check([]byte(in), jsondoc.Limits{}); err != nil {
			t.Errorf("Check(%q): %v", in, err)
		}
	}
	if err := jsondoc.Check(nil, jsondoc.Limits{}); err != jsondoc.ErrEmpty {
		t.Errorf("Check of nothing: %v", err)
	}
}

func TestLimits(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":`, n-1) + `{}` + strings.Repeat(`}`, n-1) }
	arrays := func(n int) string { return `{"a":` + strings.Repeat(`[`, n-1) + strings.Repeat(`]`, n-1) + `}` }
	for _, c := range []struct {
		name string
		in   string
		lim  jsondoc.Limits
		want string
	}{
		{"default depth", nested(128), jsondoc.Limits{}, ""},
		{"beyond the default depth", nested(129), jsondoc.Limits{}, "Bad JSON: nested too deep at byte 640"},
		{"depth", arrays(5), jsondoc.Limits{Depth: 5}, ""},
		{"beyond depth", arrays(6), jsondoc.Limits{Depth: 5}, "Bad JSON: nested too deep at byte 9"},
		{"far beyond depth", arrays(100_000), jsondoc.Limits{}, "Bad JSON: nested too deep at byte 132"},
		{"only the object", `{"a":1}`, jsondoc.Limits{Depth: 1}, ""},
		{"side by side is not deep", `{"a":[],"b":[],"c":{}}`, jsondoc.Limits{Depth: 2}, ""},
		{"size", `{"a":1}`, jsondoc.Limits{Bytes: 7}, ""},
		{"beyond size", `{"a":1} `, jsondoc.Limits{Bytes: 7}, "Document too large!"},
		{"default size", `{"a":"` + strings.Repeat("x", 20<<20-8) + `"}`, jsondoc.Limits{}, ""},
		{"beyond the default size", `{"a":"` + strings.Repeat("x", 20<<20-7) + `"}`, jsondoc.Limits{}, "Document too large!"},
	} {
		_, splitErr := jsondoc.Split([]byte(c.in), c.lim, false)
		checkErr := jsondoc.Check([]byte(c.in), c.lim)
		for _, err := range []error{splitErr, checkErr} {
			switch {
			case c.want == "" && err != nil, c.want != "" && (err == nil || err.Error() != c.want):
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			case c.want == "Document too large!" && tidegate.ErrorCode(err) != tidegate.TooLarge:
				t.Errorf("%s: code %v", c.name, tidegate.ErrorCode(err))
			}
		}
	}
}
