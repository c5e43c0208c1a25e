package rest

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// TestCutArrayRoundTrip: what is cut out, put back, is the body.
func TestCutArray(t *testing.T) {
	for _, tt := range []struct {
		in, obj string
		elems   []string
	}{
		{`{"docs":[{"a":1},{"b":[1,2,{"c":"]}"}]}],"new_edits":false}`, `{"docs":[],"new_edits":false}`, []string{`{"a":1}`, `{"b":[1,2,{"c":"]}"}]}`}},
		{` { "x" : "\"docs\":[" , "docs" : [ 1 , "a,b" , null ] } `, `{ "x" : "\"docs\":[" , "docs" : [] }`, []string{`1`, `"a,b"`, `null`}},
		{`{"docs":[]}`, `{"docs":[]}`, nil},
		{`{"docs":[ ]}`, `{"docs":[]}`, nil},
		{`{"a":{"docs":[1]},"docs":[2]}`, `{"a":{"docs":[1]},"docs":[]}`, []string{`2`}},
	} {
		obj, array, err := cutArray([]byte(tt.in), "docs", jsondoc.Limits{})
		if err != nil || string(obj) != tt.obj {
			t.Errorf("%s: %s, %v", tt.in, obj, err)
			continue
		}
		var elems []string
		for e, err := range elements(array) {
			if err != nil {
				t.Errorf("%s: %v", tt.in, err)
			}
			elems = append(elems, string(e))
		}
		if len(elems) != len(tt.elems) {
			t.Errorf("%s: elements %q", tt.in, elems)
			continue
		}
		for i := range elems {
			if elems[i] != tt.elems[i] {
				t.Errorf("%s: element %d is %s", tt.in, i, elems[i])
			}
		}
	}
	for _, in := range []string{`{"x":1}`, `{"docs":{}}`, `{"docs":"[]"}`, `{"docs":null}`} {
		if _, array, err := cutArray([]byte(in), "docs", jsondoc.Limits{}); err != nil || array != nil {
			t.Errorf("%s: %s, %v", in, array, err)
		}
	}
	for _, in := range []string{``, `[`, `[]`, `{`, `{"docs":[}`, `{"docs":[1]`, `{"docs":[1]]}`, `{"docs":[1],"docs":[2]}`, `{"docs":[1]}x`, `"docs"`} {
		if _, _, err := cutArray([]byte(in), "docs", jsondoc.Limits{}); err == nil {
			t.Errorf("%s: no error", in)
		}
	}
}

// acceptsWhole reports whether the body is taken when it is cut apart: every piece must pass.
func acceptsWhole(raw []byte) bool {
	_, array, err := cutArray(raw, "docs", jsondoc.Limits{})
	if err != nil {
		return false
	}
	if array == nil {
		return true
	}
	for e, err := range elements(array) {
		if err != nil || jsondoc.Check(e, jsondoc.Limits{}) != nil {
			return false
		}
	}
	return true
}

// FuzzCutArray: cutting a body apart accepts exactly what checking it whole accepts.
func FuzzCutArray(f *testing.F) {
	for _, seed := range []string{`{"docs":[{"a":1},{"b":2}],"new_edits":false}`, `{"docs":[1 2]}`, `{"docs":[,]}`, `{"docs":[1,]}`, `{"docs":[{"a":"\"]"}]}`,
		`{"docs":[[1,[2]],"x"]}`, `{"docs":["a\\"]}`, `{"do\u0063s":[1]}`, `{"docs":[1}`, `{"docs":[nul]}`, `{"docs":[tru e]}`, `{"docs":[1:2]}`, `{"docs":[{]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		want := jsondoc.Check(raw, jsondoc.Limits{}) == nil && bytes.HasPrefix(bytes.TrimSpace(raw), []byte{'{'})
		if got := acceptsWhole(raw); got != want {
			// Cut apart, elements are one level less deep, and their keys are checked for each by itself: both only
			// matter at the very bounds, which short inputs do not reach.
			t.Fatalf("%q: cut apart %v, whole %v", raw, got, want)
		}
	})
}

func TestCutArrayAcceptsWhatCheckAccepts(t *testing.T) {
	piece := rapid.SampledFrom([]string{`{`, `}`, `[`, `]`, `,`, `:`, `"docs"`, `"a"`, `1`, `null`, ` `, `"x\"]"`, `{"docs":[`, `]}`, `{"a":1}`})
	rapid.Check(t, func(t *rapid.T) {
		var raw []byte
		for _, p := range rapid.SliceOfN(piece, 0, 14).Draw(t, "pieces") {
			raw = append(raw, p...)
		}
		want := jsondoc.Check(raw, jsondoc.Limits{}) == nil && bytes.HasPrefix(bytes.TrimSpace(raw), []byte{'{'})
		if got := acceptsWhole(raw); got != want {
			t.Fatalf("%s: cut apart %v, whole %v", raw, got, want)
		}
	})
}
