package script

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestQuoteUnsafeIntegers(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1}`:                               `{"a":1}`,
		`9007199254740991`:                      `9007199254740991`,
		`9007199254740992`:                      `"9007199254740992"`,
		`[-9007199254740992,5]`:                 `["-9007199254740992",5]`,
		`{"9007199254740993":9007199254740993}`: `{"9007199254740993":"9007199254740993"}`,
		`"\"9007199254740993"`:                  `"\"9007199254740993"`,
		`"\\",9007199254740993`:                 `"\\","9007199254740993"`,
		`12345678901234567890.0`:                `12345678901234567890.0`,
		`12345678901234567890e1`:                `12345678901234567890e1`,
		`0.12345678901234567890`:                `0.12345678901234567890`,
	} {
		if got := string(quoteUnsafeIntegers([]byte(in))); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// FuzzQuoteUnsafeIntegers: of any JSON text the values stay the same except that integers which a float64 cannot hold
// exactly become strings.
func FuzzQuoteUnsafeIntegers(f *testing.F) {
	f.Add([]byte(`{"a":[1,9007199254740993,"9007199254740993",-12345678901234567890]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return
		}
		got := quoteUnsafeIntegers(bytes.Clone(text))
		var a, b any
		if decodeNumbers(text, &a) != nil || decodeNumbers(got, &b) != nil {
			t.Fatalf("%s became %s", text, got)
		}
		if !reflect.DeepEqual(quoteByHand(a), b) {
			t.Errorf("%s became %s", text, got)
		}
	})
}

func decodeNumbers(text []byte, v *any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}

func quoteByHand(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = quoteByHand(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = quoteByHand(v[k])
		}
	case json.Number:
		if n, ok := new(big.Int).SetString(string(v), 10); ok && n.CmpAbs(big.NewInt(1<<53-1)) > 0 {
			return string(v)
		}
	}
	return v
}

// FuzzDirectJSON: the reader of the direct evaluator agrees with encoding/json on valid text, and survives any other.
func FuzzDirectJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, "x\n\u00e9\ud83d\ude00", null, true] , "b":{"c":-1.5e3}}`))
	f.Add([]byte(`{"a":"\ud800"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := scanObject(text)
		got := make(map[string]any)
		exact := true
		for s.next() {
			key, ok := decodeKey(s.key)
			v, fine := asAny(s.value)
			if _, twice := got[string(key)]; !ok || !fine || twice || !utf8.Valid(key) {
				exact = false
			}
			got[string(key)] = v
		}
		var want map[string]any
		if decodeNumbers(text, new(any)) != nil || json.Unmarshal(text, new(map[string]json.RawMessage)) != nil || !exact || s.bad {
			return
		}
		if err := json.Unmarshal(text, &want); err != nil || want == nil {
			return // numbers out of range; null
		}
		if len(got) != len(want) {
			t.Fatalf("%s: got %v, want %v", text, got, want)
		}
		for k, v := range want {
			if !reflect.DeepEqual(got[k], v) {
				t.Errorf("%s: member %q: got %v, want %v", text, k, got[k], v)
			}
		}
	})
}

// FuzzDirectRun runs the corpus directly on documents that may be anything. It must not panic, and on valid JSON it must
// agree with QuickJS.
func FuzzDirectRun(f *testing.F) {
	for _, seed := range []string{`{"type":"order","channels":["a",1],"items":[{"k":"x"}],"n":5}`, `{"a":`, `{"type":"\ud800"}`, `[]`, ``, `{"items":[[[`, `{"k"`, `{"n":-}`} {
		f.Add([]byte(seed), []byte(`{"type":"order"}`))
	}
	engines := testEngines{"quickjs": sharedEngines()["quickjs"]}
	var functions []*testFunction
	for _, c := range corpus {
		if c.direct {
			functions = append(functions, engines.function(c.source))
		}
	}
	f.Fuzz(func(t *testing.T, body, old []byte) {
		in := input("")
		in.Body, in.OldBody = body, old
		comparable := uniqueObject(body) && uniqueObject(old)
		for _, fn := range functions {
			if m := fn.direct.run(in); m != nil {
				fn.direct.release(m)
			}
			if comparable {
				fn.agree(t, in)
			}
		}
	})
}

// uniqueObject reports whether text is what jsondoc lets through: an object in UTF-8, every name once, no half
// surrogates, not deep.
func uniqueObject(text []byte) bool {
	v, ok := any(nil), utf8.Valid(text) && json.Valid(text) && nesting(string(text)) < 100
	if ok {
		v, ok = asAny(bytes.TrimSpace(text))
	}
	_, object := v.(map[string]any)
	return ok && object
}

// asAny reads a JSON value with the functions of the direct evaluator.
func asAny(b []byte) (any, bool) {
	v, ok := decodeValue(b, rootDoc)
	if !ok {
		return nil, false
	}
	switch v.kind {
	case kindNull:
		return nil, true
	case kindBool:
		return v.truthy(), true
	case kindNumber:
		return v.num, true
	case kindString:
		return string(v.text), b[0] == '"'
	case kindArray:
		parts, ok := splitArray(b, nil)
		list := make([]any, len(parts))
		for i, p := range parts {
			var fine bool
			list[i], fine = asAny(p)
			ok = ok && fine
		}
		return list, ok
	}
	out := make(map[string]any)
	s := scanObject(b)
	for s.next() {
		key, ok := decodeKey(s.key)
		e, fine := asAny(s.value)
		if _, twice := out[string(key)]; !ok || !fine || twice || !utf8.Valid(key) {
			return nil, false
		}
		out[string(key)] = e
	}
	return out, !s.bad
}

// TestNumbersAsText holds the text of numbers against the engine's.
func TestNumbersAsText(t *testing.T) {
	v, err := gojaEngine{}.load(newProgram(kindSync, fn(`console.log(String(doc.n))`)), Limits{}.withDefaults(1))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Int64(), func(n int64) float64 { return float64(n) }),
			rapid.Map(rapid.IntRange(-30, 30), func(e int) float64 { return math.Pow10(e) })).Draw(t, "n")
		if math.IsInf(n, 0) || n != n || math.Abs(n) < 1e-300 && n != 0 {
			n = 1
		}
		// With an exponent it is a number for the script, however large.
		in := input(`{"n":` + strconv.FormatFloat(n, 'e', -1, 64) + `}`)
		text, err := v.call(syncArgs(in, false))
		if err != nil {
			t.Fatal(err)
		}
		o := outcome{}
		if err := o.read(text); err != nil {
			t.Fatal(err)
		}
		if got := string(appendNumber(nil, n)); got != o.lines[0].text {
			t.Errorf("got %s, want %s", got, o.lines[0].text)
		}
	})
}

func FuzzSplitRecords(f *testing.F) {
	f.Add("C1:aW3:é😀J5:403 x")
	f.Add("C99999999999999999999:a")
	f.Fuzz(func(t *testing.T, s string) {
		recs, err := splitRecords(s, nil)
		if err != nil {
			return
		}
		n := 0
		for _, r := range recs {
			n += len(r.text) + 3
		}
		if n > len(s) {
			t.Errorf("%q gives %q", s, recs)
		}
	})
}
