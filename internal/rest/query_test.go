package rest

import (
	"net/http"
	"slices"
	"testing"

	"github.com/tidegate/tidegate"
)

func TestQueryBoolean(t *testing.T) {
	for raw, want := range map[string]bool{
		"x=true": true, "x=1": true, "x=t": true, "x=TRUE": true, "x=false": false, "x=0": false, "x=f": false,
		"x=yes": false, "x=": false, "x": false, "": true, "y=1": true, // absent: the default, here true
	} {
		q, err := parseQuery(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.boolean("x", true); got != want {
			t.Errorf("%q: %v", raw, got)
		}
	}
}

func TestQueryInteger(t *testing.T) {
	for raw, want := range map[string]uint64{
		"n=5": 5, "n=0": 0, "n=-1": 7, "n=x": 7, "n=1.5": 7, "": 7, "n=": 7, "n=99999999999999999999": 7,
	} {
		q, _ := parseQuery(raw)
		if got := q.integer("n", 7); got != want {
			t.Errorf("%q: %d, want %d", raw, got, want)
		}
	}
}

func TestQueryJSONText(t *testing.T) {
	for raw, want := range map[string]string{
		"k=abc": "abc", "k=%22abc%22": "abc", "k=%22a%5C%22b%22": `a"b`, "k=%22": `"`, "k=a+b": "a b", "k=12:3": "12:3",
		"k=%22%5Cufff0%22": "\ufff0", "k=": "",
	} {
		q, _ := parseQuery(raw)
		if got := q.jsonText("k"); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
	q, _ := parseQuery("start_key=%22b%22")
	if v, ok := q.jsonTextOf("startkey", "start_key"); !ok || v != "b" {
		t.Errorf("second spelling: %q %v", v, ok)
	}
}

func TestQueryArray(t *testing.T) {
	for raw, want := range map[string][]string{
		"a=%5B%22x%22%5D": {"x"}, "a=%5B%5D": {}, "": nil,
	} {
		q, _ := parseQuery(raw)
		if got, err := q.array("a"); err != nil || !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%q: %v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"a=x", "a=", "a=%22x%22", "a=%5B1%5D", "a=%5Bnull%5D", "a=%5B%22x%22", "a=%7B%7D", "a=null"} {
		q, _ := parseQuery(raw)
		_, err := q.array("a")
		if tidegate.ErrorReason(err) != "a URL param is not a JSON string array" {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// A rev that got lost in a malformed query would turn an update into something else.
func TestQueryMalformed(t *testing.T) {
	for _, raw := range []string{"rev=%zz", "rev=1-a;x=2", "a=%"} {
		if _, err := parseQuery(raw); errorStatus(err) != 400 || err == nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestQueryRev(t *testing.T) {
	const rev = "2-0123456789abcdef0123456789abcdef"
	for _, tt := range []struct{ query, ifMatch, want string }{
		{"rev=" + rev, "", rev},
		{"", `"` + rev + `"`, rev},
		{"", rev, rev},
		{"", `W/"` + rev + `"`, rev},
		{"rev=1-a", `"` + rev + `"`, "1-a"}, // the parameter beats the header
		{"", "", ""},
	} {
		q, _ := parseQuery(tt.query)
		h := http.Header{}
		if tt.ifMatch != "" {
			h.Set("If-Match", tt.ifMatch)
		}
		if got, err := q.rev(h); err != nil || got.String() != tt.want {
			t.Errorf("%+v: %v, %v", tt, got, err)
		}
	}
	q, _ := parseQuery("rev=x")
	if _, err := q.rev(http.Header{}); err != tidegate.ErrInvalidRevID {
		t.Errorf("malformed: %v", err)
	}
}

// FuzzSince: reading the parameter since never panics; what is accepted reads back as what it says.
func FuzzSince(f *testing.F) {
	for _, seed := range []string{"0", "12", "12:3", "1:2:3", "1::3", `"12:3"`, "now", "-1", "1:2:3:4", ":", "", "99999999999999999999", `"`, "1_0"} {
		f.Add(seed)
	}
	s := &Server{}
	f.Fuzz(func(t *testing.T, text string) {
		q := query{values: map[string][]string{"since": {text}}}
		o, err := s.feedOptions(q, feedNormal)
		if err != nil {
			if errorStatus(err) != 400 || errorReason(err) != "Invalid sequence" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if o.now {
			return
		}
		again, err := tidegate.ParseSince(o.Since.String())
		if err != nil || again.Compare(o.Since) != 0 {
			t.Fatalf("%q was read as %v, which reads back as %v, %v", text, o.Since, again, err)
		}
	})
}

func TestAccepts(t *testing.T) {
	for header, want := range map[string]accepted{
		"":                                    {any: true},
		"*/*":                                 {any: true},
		"application/json":                    {json: true},
		"application/*":                       {json: true},
		"APPLICATION/JSON; charset=utf-8":     {json: true},
		"application/json, */*;q=0.1":         {json: true, any: true},
		"text/html":                           {},
		"multipart/related, application/json": {json: true, multipart: true},
		"multipart/mixed":                     {multipart: true},
		"application/json;q=0, multipart/*":   {multipart: true},
		"text/plain, multipart/related;q=0.0": {},
	} {
		if got := accepts(http.Header{"Accept": {header}}); got != want {
			t.Errorf("%q: %+v, want %+v", header, got, want)
		}
	}
	if got := accepts(http.Header{}); !got.any {
		t.Error("absent Accept does not take everything")
	}
}
