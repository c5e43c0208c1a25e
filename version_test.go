package tidegate_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

// Three sources, and one that differs from the first in its last character only.
const (
	srcA = "YfwlAAAAAAAAAAAAAAAAAA"
	srcB = "fndVBBBBBBBBBBBBBBBBB/"
	srcC = "+cc/CCCCCCCCCCCCCCCCCC"
	srcD = "YfwlAAAAAAAAAAAAAAAAAQ"
)

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]Version{
		"1@" + srcA: {1, srcA}, "18ea00000b40000@" + srcB: {0x18ea00000b40000, srcB},
		"ffffffffffffffff@" + srcC: {1<<64 - 1, srcC}, "1abcd000000@Revision+Tree+Encoding": {0x1abcd000000, LegacySource},
	} {
		v, err := ParseVersion(in)
		if err != nil || v != want || v.String() != in || v.IsZero() {
			t.Errorf("ParseVersion(%q) = %+v, %v", in, v, err)
		}
	}
	for _, in := range []string{
		"", "@", "1", "1@", "@" + srcA, "0@" + srcA, "01@" + srcA, "A@" + srcA, "1g@" + srcA, "-1@" + srcA, "1ffffffffffffffff@" + srcA,
		"1@*", "1@" + srcA[1:], "1@" + srcA + "A", "1@" + strings.Replace(srcA, "A", "=", 1), "1@" + strings.Replace(srcA, "A", "-", 1),
		" 1@" + srcA, "1@" + srcA + " ", "1@2@" + srcA[2:], "1-abcd",
	} {
		if v, err := ParseVersion(in); err != ErrInvalidVersion || !v.IsZero() {
			t.Errorf("ParseVersion(%q) = %+v, %v", in, v, err)
		}
	}
	if (Version{}).String() != "" {
		t.Error("the zero version has a text")
	}
}

func TestParseVersionVector(t *testing.T) {
	a, b, c := "5@"+srcA, "3@"+srcB, "2@"+srcC
	va, vb, vc := Version{5, srcA}, Version{3, srcB}, Version{2, srcC}
	old := Version{4, srcA}
	for _, x := range []struct {
		in   string
		want VersionVector
		out  string
	}{
		{a, VersionVector{Current: va}, a},
		{a + ";", VersionVector{Current: va}, a},
		{a + ";" + b, VersionVector{Current: va, Previous: []Version{vb}}, a + ";" + b},
		{a + "," + b, VersionVector{Current: va, Previous: []Version{vb}}, a + ";" + b},
		{a + ", " + b + ", " + c, VersionVector{Current: va, Previous: []Version{vb, vc}}, a + ";" + b + "," + c},
		{a + "," + b + ";", VersionVector{Current: va, Merge: []Version{vb}}, a + "," + b + ";"},
		{a + "," + b + ";" + c, VersionVector{Current: va, Merge: []Version{vb}, Previous: []Version{vc}}, a + "," + b + ";" + c},
		{a + ", " + b + "; " + c, VersionVector{Current: va, Merge: []Version{vb}, Previous: []Version{vc}}, a + "," + b + ";" + c},
		{a + ",4@" + srcA + "," + b + ";" + c, VersionVector{Current: va, Merge: []Version{old, vb}, Previous: []Version{vc}}, a + ",4@" + srcA + "," + b + ";" + c},
		{a + ";1@" + srcD, VersionVector{Current: va, Previous: []Version{{1, srcD}}}, a + ";1@" + srcD},
	} {
		v, err := ParseVersionVector(x.in)
		if err != nil || !reflect.DeepEqual(v, x.want) || v.String() != x.out {
			t.Errorf("ParseVersionVector(%q) = %v, %v, want %v", x.in, v, err, x.want)
		}
	}
	for name, in := range map[string]string{
		"nothing": "", "only a semicolon": ";", "no current": ";" + a, "an empty merge": a + ",;" + b, "a comma at the end": a + ",",
		"a comma at the end of the previous": a + ";" + b + ",", "an empty place": a + ",," + b, "two semicolons": a + ";" + b + ";" + c,
		"two semicolons at once": a + ";;", "rev-tree IDs": "2-abcd", "with a rev-tree ID": a + ";1-ab", "not a version": a + ";x",
		"a source twice, previous": a + ";" + b + ",2@" + srcB, "a source twice, merged": a + "," + b + ",2@" + srcB + ";",
		"a source in both": a + "," + b + ";2@" + srcB, "the current source again": a + ";4@" + srcA,
		"the current source merged, not older": a + "," + a + ";", "the current source merged, newer": a + ",6@" + srcA + ";",
	} {
		if v, err := ParseVersionVector(in); err != ErrInvalidVersion || !v.IsZero() {
			t.Errorf("%s: ParseVersionVector(%q) = %v, %v", name, in, v, err)
		}
	}
}

func TestKnowsAndDominates(t *testing.T) {
	parse := func(s string) VersionVector {
		v, err := ParseVersionVector(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		return v
	}
	v := parse("5@" + srcA + ",4@" + srcB + ";3@" + srcC)
	for _, c := range []struct {
		version Version
		want    bool
	}{
		{Version{5, srcA}, true}, {Version{4, srcA}, true}, {Version{6, srcA}, false},
		{Version{4, srcB}, true}, {Version{5, srcB}, false},
		{Version{3, srcC}, true}, {Version{4, srcC}, false},
		{Version{1, srcD}, false},
	} {
		if got := v.Knows(c.version); got != c.want {
			t.Errorf("knows %v: %v", c.version, got)
		}
	}
	newer, older, other := parse("6@"+srcA+";4@"+srcB), parse("5@"+srcA), parse("7@"+srcC+";5@"+srcA)
	if !newer.Dominates(older) || older.Dominates(newer) || !newer.Dominates(newer) {
		t.Error("an edit does not dominate what it was made from")
	}
	if newer.Dominates(other) || other.Dominates(newer) {
		t.Error("of two edits of one version one dominates")
	}
}

// TestLegacyVersion holds the example of replication.md §4.3.
func TestLegacyVersion(t *testing.T) {
	for in, want := range map[string]string{
		"1-abcd":                             "1abcd000000@Revision+Tree+Encoding",
		"3-67a06e8ba083e88a8b4a9ad87b73ca37": "367a06e8ba0@Revision+Tree+Encoding",
		"255-0":                              "ff0000000000@Revision+Tree+Encoding",
		"1-xyz":                              "10000000000@Revision+Tree+Encoding",
		"16777215-ffffffffff":                "ffffffffffffffff@Revision+Tree+Encoding",
		"16777216-0":                         "ffffff0000000000@Revision+Tree+Encoding",
	} {
		v := LegacyVersion(rev(in))
		if v.String() != want {
			t.Errorf("LegacyVersion(%s) = %v, want %s", in, v, want)
		}
		if back, err := ParseVersion(v.String()); err != nil || back != v {
			t.Errorf("%v is not taken as a version: %v", v, err)
		}
	}
	if !LegacyVersion(RevID{}).IsZero() {
		t.Error("no revision has a version")
	}
}

func TestVersionVectorBinary(t *testing.T) {
	version := rapid.Custom(func(t *rapid.T) Version {
		return Version{rapid.Uint64Min(1).Draw(t, "time"), rapid.SampledFrom([]string{srcA, srcB, srcC, srcD, LegacySource}).Draw(t, "source")}
	})
	list := rapid.SliceOfN(version, 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		v := VersionVector{Current: version.Draw(t, "cv"), Merge: list.Draw(t, "mv"), Previous: list.Draw(t, "pv")}
		if len(v.Merge) == 0 {
			v.Merge = nil
		}
		if len(v.Previous) == 0 {
			v.Previous = nil
		}
		b := v.AppendBinary([]byte("x"))
		got, rest, err := ParseVersionVectorBinary(append(b[1:len(b):len(b)], "rest"...))
		if err != nil || !reflect.DeepEqual(got, v) || string(rest) != "rest" {
			t.Fatalf("%v came back as %v, %q, %v", v, got, rest, err)
		}
		cut := rapid.IntRange(1, len(b)-1).Draw(t, "cut")
		if got, _, err := ParseVersionVectorBinary(b[1:cut]); ErrorCode(err) != Corrupt || err == nil {
			t.Fatalf("cut at %d: %v, %v", cut, got, err)
		}
	})
	b := VersionVector{}.AppendBinary(nil)
	if v, _, err := ParseVersionVectorBinary(b); err != nil || !v.IsZero() {
		t.Errorf("the zero vector came back as %v, %v", v, err)
	}
	if !bytes.Equal(b, []byte{1, 0, 0, 0, 0}) {
		t.Errorf("the format changed: %x", b)
	}
}

func FuzzParseVersionVector(f *testing.F) {
	for _, s := range []string{"1@" + srcA, "5@" + srcA + ",4@" + srcB + "; 3@" + srcC, "5@" + srcA + ",4@" + srcA + ";", "1-abcd", "1@*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersionVector(s)
		if err != nil {
			if ErrorCode(err) != Invalid || !v.IsZero() {
				t.Fatalf("%q: %v, %v", s, v, err)
			}
			return
		}
		back, err := ParseVersionVector(v.String())
		if err != nil || !reflect.DeepEqual(back, v) {
			t.Fatalf("%q is written as %v and read as %v, %v", s, v, back, err)
		}
		if !v.Knows(v.Current) || !v.Dominates(back) || strings.Contains(v.String(), " ") {
			t.Fatalf("%q: %v", s, v)
		}
	})
}
