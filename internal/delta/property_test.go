package delta

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// equal reports whether two JSON texts have the same values, with the same digits.
func equal(a, b []byte) bool {
	decode := func(raw []byte) (v any, err error) {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		err = dec.Decode(&v)
		return v, err
	}
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

// texts draws strings, of which some are long and differ little, with characters of all lengths.
func texts() *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{"a", "b", "ab", "é", "è", "€", "₭", "😀", "😁", "\"", "\\", "\n", "|", "1=", "lorem ipsum dolor sit amet "})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 40).Draw(t, "pieces"), "")
	})
}

var keyGen = rapid.SampledFrom([]string{"a", "b", "c", "0", "1", "0-", "1-", "-", "", "é", "x\"y", "_attachments"})

// values draws JSON.
func values(t *rapid.T, depth int) string {
	most := 5
	if depth == 0 {
		most = 3
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0, 1:
		return rapid.SampledFrom([]string{"0", "-0", "1", "1.0", "1e0", "true", "false", "null", "12345678901234567890"}).Draw(t, "scalar")
	case 2, 3:
		return jsonString(t, texts().Draw(t, "text"))
	case 4:
		var elements []string
		for range rapid.IntRange(0, 6).Draw(t, "elements") {
			elements = append(elements, values(t, depth-1))
		}
		return "[" + strings.Join(elements, space(t)+",") + "]"
	default:
		return objects(t, depth)
	}
}

func objects(t *rapid.T, depth int) string {
	var members []string
	for _, key := range rapid.SliceOfNDistinct(keyGen, 0, 6, rapid.ID).Draw(t, "keys") {
		members = append(members, jsonString(t, key)+":"+space(t)+values(t, depth-1))
	}
	return "{" + strings.Join(members, ","+space(t)) + "}"
}

func space(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "", " ", "\n\t"}).Draw(t, "space")
}

// jsonString writes a string with or without more escapes than it needs.
func jsonString(t *rapid.T, s string) string {
	b, _ := json.Marshal(s)
	if rapid.IntRange(0, 3).Draw(t, "escapes") == 0 {
		return strconv.QuoteToASCII(strings.NewReplacer("😀", "x", "😁", "y", "\"", "", "\\", "", "\n", "").Replace(s))
	}
	return string(b)
}

// mutate changes a document in a few places, by way of its decoded form.
func mutate(t *rapid.T, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			old := v[key]
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0:
				delete(v, key)
			case 1, 2:
				v[key] = mutate(t, old)
			}
		}
		if rapid.Bool().Draw(t, "add") {
			v[keyGen.Draw(t, "key")] = json.RawMessage(values(t, 1))
		}
		return v
	case []any:
		for i := range v {
			if rapid.IntRange(0, 4).Draw(t, "change") == 0 {
				v[i] = mutate(t, v[i])
			}
		}
		from := rapid.IntRange(0, len(v)).Draw(t, "from")
		to := rapid.IntRange(from, len(v)).Draw(t, "to")
		switch rapid.IntRange(0, 4).Draw(t, "cut") {
		case 0:
			return append(v[:from:from], v[to:]...)
		case 1:
			return append(v[:from:from], append([]any{json.RawMessage(values(t, 1))}, v[from:]...)...)
		}
		return v
	case string:
		return mutateText(t, v)
	default:
		return json.RawMessage(values(t, 1))
	}
}

func mutateText(t *rapid.T, s string) string {
	runes := []rune(s)
	for range rapid.IntRange(0, 4).Draw(t, "edits") {
		from := rapid.IntRange(0, len(runes)).Draw(t, "from")
		to := min(len(runes), from+rapid.IntRange(0, 8).Draw(t, "length"))
		put := []rune(rapid.SampledFrom([]string{"", "x", "é", "è", "₭", "😁😀", "lorem"}).Draw(t, "put"))
		runes = append(runes[:from:from], append(put, runes[to:]...)...)
	}
	return string(runes)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := objects(t, 4)
		new := objects(t, 4)
		if rapid.IntRange(0, 3).Draw(t, "near") > 0 {
			var v any
			dec := json.NewDecoder(strings.NewReader(old))
			dec.UseNumber()
			if err := dec.Decode(&v); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(mutate(t, v))
			if err != nil {
				t.Fatal(err)
			}
			new = string(b)
		}
		roundTrip(t, []byte(old), []byte(new))
	})
}

// roundTrip checks a delta between two objects that are well-formed.
func roundTrip(t interface{ Fatalf(string, ...any) }, old, new []byte) {
	d, ok := diff(old, new)
	if !ok {
		t.Fatalf("no delta from %s to %s", old, new)
	}
	got, err := Apply(old, d, Limits{})
	if err != nil {
		t.Fatalf("apply %s to %s: %v", d, old, err)
	}
	if !equal(got, new) {
		t.Fatalf("%s on %s made %s, want %s", d, old, got, new)
	}
	// Each member of old may cost a deletion; all else is no longer than new with brackets around it.
	if len(d) > len(old)+2*len(new)+8 {
		t.Fatalf("from %s to %s: %d bytes: %s", old, new, len(d), d)
	}
	if sent, ok := Diff(old, new); ok != (len(d) < len(new)) || ok && !bytes.Equal(sent, d) {
		t.Fatalf("from %s to %s: %s, %v", old, new, sent, ok)
	}
	if equal(old, new) != (string(d) == "{}") {
		t.Fatalf("from %s to %s: %s", old, new, d)
	}
}

// TestPatches checks text patches alone, down to short texts.
func TestPatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := texts().Draw(t, "old")
		new := mutateText(t, old)
		if rapid.IntRange(0, 9).Draw(t, "other") == 0 {
			new = texts().Draw(t, "new")
		}
		patch := appendPatch(nil, []byte(old), []byte(new))
		if !utf8.Valid(patch) {
			t.Fatalf("from %q to %q: %q cuts a character", old, new, patch)
		}
		for rest := []byte(old); ; { // and does no copy or skip begin inside one
			n := digits(patch)
			if n == 0 {
				break
			}
			count, _ := strconv.Atoi(string(patch[:n]))
			op := patch[n]
			patch = patch[n+1:]
			if op == '+' {
				patch = patch[count+1:]
				continue
			}
			if !utf8.Valid(rest[:count]) {
				t.Fatalf("from %q to %q: a character is cut", old, new)
			}
			rest = rest[count:]
		}
		got, err := applyPatch([]byte(old), appendPatch(nil, []byte(old), []byte(new)))
		if err != nil || string(got) != new {
			t.Fatalf("from %q to %q: %q, %v", old, new, got, err)
		}
	})
}

func FuzzApply(f *testing.F) {
	for _, c := range table {
		f.Add([]byte(c.old), []byte(c.delta))
	}
	for _, c := range invalidDeltas {
		f.Add([]byte(c.old), []byte(c.delta))
	}
	f.Fuzz(func(t *testing.T, old, delta []byte) {
		got, err := Apply(old, delta, Limits{})
		if err != nil {
			return
		}
		if len(got) > len(old)+len(delta) {
			t.Fatalf("%d and %d bytes made %d", len(old), len(delta), len(got))
		}
		s := scanner{depth: defaultDepth, maxNodes: maxValues}
		if s.parse(old) { // what comes of a good document is one
			if s := (&scanner{depth: defaultDepth, maxNodes: maxValues}); !s.parse(got) {
				t.Fatalf("%s on %s made %s: %s", delta, old, got, s.why)
			}
		}
	})
}

func FuzzDiff(f *testing.F) {
	for _, c := range table {
		f.Add([]byte(c.old), []byte(c.new))
	}
	f.Fuzz(func(t *testing.T, old, new []byte) {
		if _, ok := diff(old, new); ok {
			roundTrip(t, old, new)
		}
	})
}
