package jsondoc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// The tests of this file hold this package against encoding/json and jsontext: what it accepts, what it
// makes of it, and that nothing in a document changes on the way (hardening.md, I11).

// oracle reports whether raw is JSON by the rules of this package, depth and size apart: jsontext refuses
// duplicate names and invalid UTF-8 as well.
func oracle(raw []byte) bool { return jsontext.Value(raw).IsValid() }

// decode makes a Go value of JSON; numbers keep their digits.
func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// canonical makes the canonical form of a value in the obvious way.
func canonical(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var members []string
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			members = append(members, canonical(name)+":"+canonical(v[name]))
		}
		return "{" + strings.Join(members, ",") + "}"
	case []any:
		var elements []string
		for _, e := range v {
			elements = append(elements, canonical(e))
		}
		return "[" + strings.Join(elements, ",") + "]"
	case json.Number:
		return v.String()
	case string:
		q, err := jsontext.AppendQuote(nil, v)
		if err != nil {
			panic(err)
		}
		return string(q)
	default:
		return strings.TrimSuffix(fmt.Sprint(v), "<nil>") + map[bool]string{true: "null"}[v == nil]
	}
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// compare runs everything of this package on one input and holds it against the oracles.
func compare(t failer, raw []byte) {
	t.Helper()
	lim := jsondoc.Limits{Depth: 10_000}
	err := jsondoc.Check(raw, lim)
	if (err == nil) != oracle(raw) {
		t.Fatalf("Check(%q) = %v, jsontext says valid = %v", raw, err, oracle(raw))
	}
	if err == nil && !json.Valid(raw) {
		t.Fatalf("Check(%q) accepts what encoding/json does not", raw)
	}
	compareSplit(t, raw, err == nil)
	if err != nil {
		walkAll(raw)
		return
	}
	want, err := decode(raw)
	if err != nil {
		t.Fatalf("decode %q: %v", raw, err)
	}
	compact := jsondoc.Compact(nil, raw)
	var theirs bytes.Buffer
	if err := json.Compact(&theirs, raw); err != nil || !bytes.Equal(compact, theirs.Bytes()) {
		t.Fatalf("Compact(%q) = %s, encoding/json says %s", raw, compact, theirs.Bytes())
	}
	switch want := want.(type) {
	case map[string]any:
		if got := jsondoc.AppendCanonical(nil, raw, false); string(got) != canonical(want) {
			t.Fatalf("AppendCanonical(%q) = %s, want %s", raw, got, canonical(want))
		}
		got := map[string]any{}
		for name, value := range jsondoc.Members(raw) {
			if got[name], err = decode(value); err != nil {
				t.Fatalf("member %q of %q: %v", name, raw, err)
			}
			if v, ok := jsondoc.Get(raw, name); !ok || !bytes.Equal(v, value) {
				t.Fatalf("Get(%q, %q) = %s, want %s", raw, name, v, value)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("members of %q: %v", raw, got)
		}
	case []any:
		got := []any{}
		for e := range jsondoc.Elements(raw) {
			v, err := decode(e)
			if err != nil {
				t.Fatalf("element of %q: %v", raw, err)
			}
			got = append(got, v)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("elements of %q: %v", raw, got)
		}
	case string:
		if got, ok := jsondoc.Unquote(bytes.TrimSpace(raw)); !ok || got != want {
			t.Fatalf("Unquote(%q) = %q", raw, got)
		}
	}
}

// compareSplit holds Split against a document that encoding/json has taken apart.
func compareSplit(t failer, raw []byte, valid bool) {
	t.Helper()
	for _, keep := range []bool{false, true} {
		d, err := jsondoc.Split(raw, jsondoc.Limits{Depth: 10_000}, keep)
		if err == nil && !valid {
			t.Fatalf("Split(%q) accepts what Check refuses", raw)
		}
		if err != nil {
			continue
		}
		v, err := decode(raw)
		if err != nil {
			t.Fatalf("decode %q: %v", raw, err)
		}
		want := v.(map[string]any)
		understood := []string{"_id", "_rev", "_deleted", "_removed", "_purged", "_exp", "_attachments", "_revisions"}
		for name := range want {
			if strings.HasPrefix(name, "_") && (!keep || slices.Contains(understood, name)) {
				delete(want, name)
			}
		}
		got, err := decode(d.Body)
		if err != nil || !reflect.DeepEqual(got, any(want)) {
			t.Fatalf("Split(%q): body %s, want %v", raw, d.Body, want)
		}
		if compact := jsondoc.Compact(nil, d.Body); !bytes.Equal(compact, d.Body) {
			t.Fatalf("Split(%q): body %s is not compact", raw, d.Body)
		}
		// What a client reads back is what it wrote.
		again, err := jsondoc.Split(jsondoc.AppendDoc(nil, d.Body, jsondoc.Member{Name: "_id", Value: []byte(`"x"`)}), jsondoc.Limits{Depth: 10_000}, keep)
		if err != nil || again.ID != "x" || !bytes.Equal(again.Body, d.Body) {
			t.Fatalf("%s came back as %+v, %v", d.Body, again, err)
		}
	}
}

// walkAll runs the functions that take only checked JSON on what is not: they must end and not panic.
func walkAll(raw []byte) {
	for range jsondoc.Members(raw) {
	}
	for range jsondoc.Elements(raw) {
	}
	jsondoc.Get(raw, "a")
	jsondoc.Unquote(raw)
	jsondoc.Compact(nil, raw)
	jsondoc.AppendCanonical(nil, raw, true)
	jsondoc.AppendDoc(nil, raw, jsondoc.Member{Name: "a", Value: []byte("1")})
}

// drawJSON draws JSON text: odd strings and numbers, spaces, nesting, and underscore members at the top.
func drawJSON() *rapid.Generator[string] {
	space := rapid.SampledFrom([]string{"", "", "", " ", "\n\t"})
	char := rapid.OneOf(
		rapid.SampledFrom([]string{"a", "b", "_", "é", "😀", "\u2028", `\"`, `\\`, `\/`, `\n`, `\u0000`, `\u0061`, `\ud83d\ude00`, `\u001F`, "\x7f"}),
		rapid.StringMatching(`[a-z ]{1,12}`))
	str := rapid.Custom(func(t *rapid.T) string {
		return `"` + strings.Join(rapid.SliceOfN(char, 0, 6).Draw(t, "chars"), "") + `"`
	})
	number := rapid.OneOf(rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,9})?([eE][-+]?[0-9]{1,4})?`),
		rapid.SampledFrom([]string{"-0", "9007199254740993", "1E400", "0.1e-999"}))
	name := rapid.OneOf(str, rapid.SampledFrom([]string{`"_id"`, `"_rev"`, `"_deleted"`, `"_exp"`, `"_attachments"`, `"_x"`, `"\u005fid"`}))
	var value func(depth int) *rapid.Generator[string]
	value = func(depth int) *rapid.Generator[string] {
		scalar := rapid.OneOf(str, number, rapid.SampledFrom([]string{"true", "false", "null"}))
		if depth == 0 {
			return scalar
		}
		inner := value(depth - 1)
		array := rapid.Custom(func(t *rapid.T) string {
			var b strings.Builder
			b.WriteString("[" + space.Draw(t, "space"))
			for i := range rapid.IntRange(0, 4).Draw(t, "elements") {
				if i > 0 {
					b.WriteString("," + space.Draw(t, "space"))
				}
				b.WriteString(inner.Draw(t, "element") + space.Draw(t, "space"))
			}
			return b.String() + "]"
		})
		object := rapid.Custom(func(t *rapid.T) string {
			var b strings.Builder
			b.WriteString("{" + space.Draw(t, "space"))
			most := 6
			if depth == 3 {
				most = 40
			}
			for i := range rapid.IntRange(0, most).Draw(t, "members") {
				if i > 0 {
					b.WriteString("," + space.Draw(t, "space"))
				}
				b.WriteString(name.Draw(t, "name") + space.Draw(t, "space") + ":" + space.Draw(t, "space"))
				b.WriteString(inner.Draw(t, "value") + space.Draw(t, "space"))
			}
			return b.String() + "}"
		})
		if depth == 3 {
			return object
		}
		return rapid.OneOf(scalar, array, object)
	}
	return rapid.Custom(func(t *rapid.T) string {
		return space.Draw(t, "space") + value(rapid.IntRange(0, 3).Draw(t, "depth")).Draw(t, "json") + space.Draw(t, "space")
	})
}

// TestI11 runs well-formed documents (some have duplicate names) through everything.
func TestI11(t *testing.T) {
	docs := drawJSON()
	rapid.Check(t, func(t *rapid.T) { compare(t, []byte(docs.Draw(t, "doc"))) })
}

// TestDamaged runs documents with one fault through everything.
func TestDamaged(t *testing.T) {
	docs := drawJSON()
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(docs.Draw(t, "doc"))
		at := rapid.IntRange(0, len(raw)-1).Draw(t, "at")
		switch rapid.IntRange(0, 3).Draw(t, "fault") {
		case 0:
			raw = raw[:at]
		case 1:
			raw = slices.Delete(raw, at, at+1)
		case 2:
			raw[at] = rapid.Byte().Draw(t, "byte")
		default:
			raw = slices.Insert(raw, at, rapid.SampledFrom([]byte(`{}[]",:\0e-. x`)).Draw(t, "byte"))
		}
		compare(t, raw)
	})
}

// TestI11CheckerCatches plants faults in a round trip and expects the comparison to notice.
func TestI11CheckerCatches(t *testing.T) {
	const doc = `{"a":-0,"b":9007199254740993,"c":1E400,"d":"\u0000"}`
	want, err := decode([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	for fault, bad := range map[string]string{
		"a float on the way":  `{"a":-0,"b":9007199254740992,"c":1E400,"d":"\u0000"}`,
		"a lost sign":         `{"a":0,"b":9007199254740993,"c":1E400,"d":"\u0000"}`,
		"an exponent changed": `{"a":-0,"b":9007199254740993,"c":1e400,"d":"\u0000"}`,
		"a lost character":    `{"a":-0,"b":9007199254740993,"c":1E400,"d":""}`,
	} {
		got, err := decode([]byte(bad))
		if err != nil {
			t.Fatal(err)
		}
		if reflect.DeepEqual(got, want) || canonical(got) == canonical(want) {
			t.Errorf("%s was not noticed", fault)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte(sample))
	for in := range refused {
		f.Add([]byte(in))
	}
	for _, in := range []string{` {"_id":"a" , "b":[1,{"c":-0}],"_x":1} `, `[1,"\ud83d\ude00"]`, `{"b":1,"a":2,"\u0061b":{"z":1,"y":2}}`} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, raw []byte) { compare(t, raw) })
}
