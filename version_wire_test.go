package tidegate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

// src makes a source of 22 characters that begin with a name.
func src(name string) string { return name + strings.Repeat("A", 22-len(name)) }

// ver reads "5@x" as time 5 of src("x"); RTE stands for the source of rev-tree revisions.
func ver(t interface{ Fatalf(string, ...any) }, s string) Version {
	hex, name, _ := strings.Cut(s, "@")
	if name != "RTE" {
		s = hex + "@" + src(name)
	} else {
		s = hex + "@" + LegacySource
	}
	v, err := ParseVersion(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

// vec reads a vector in the short form "5@a,1@b,2@c;3@d": current, merge and previous versions.
func vec(t interface{ Fatalf(string, ...any) }, s string) VersionVector {
	if s == "" {
		return VersionVector{}
	}
	head, previous, _ := strings.Cut(s, ";")
	var v VersionVector
	for i, part := range strings.Split(head, ",") {
		if i == 0 {
			v.Current = ver(t, part)
		} else {
			v.Merge = append(v.Merge, ver(t, part))
		}
	}
	if previous != "" {
		for part := range strings.SplitSeq(previous, ",") {
			v.Previous = append(v.Previous, ver(t, part))
		}
	}
	return v
}

// short writes a vector as vec reads it.
func short(v VersionVector) string {
	s := strings.ReplaceAll(v.String(), LegacySource, "RTE")
	return strings.ReplaceAll(s, strings.Repeat("A", 21), "")
}

// The forms of replication.md §4.3, written with short sources.
func TestParseVersionHistory(t *testing.T) {
	long := func(s string) string {
		for _, name := range "abcd" {
			s = strings.ReplaceAll(s, "@"+string(name), "@"+src(string(name)))
		}
		return strings.ReplaceAll(s, "@RTE", "@"+LegacySource)
	}
	for _, c := range []struct{ history, want, legacy, again string }{
		{"", "5@a", "", ""},
		{"3@b", "5@a;3@b", "", "3@b"},
		{"3@b, 4@c", "5@a;3@b,4@c", "", "3@b,4@c"},
		{"3@b,4@c;", "5@a,3@b,4@c;", "", "3@b,4@c;"},
		{" 3@b, 4@c; 1@d ", "5@a,3@b,4@c;1@d", "", "3@b,4@c;1@d"},
		{"4@a,3@b;", "5@a,4@a,3@b;", "", "4@a,3@b;"}, // a merge version may have the current one's source
		{"3@b,2-c0,1-ab", "5@a;3@b", "2-c0,1-ab", "3@b,2-c0,1-ab"},
		{"3@b, 2-c0, 1-ab", "5@a;3@b", "2-c0,1-ab", "3@b,2-c0,1-ab"},
		{"2-c0,1-ab", "5@a", "2-c0,1-ab", "2-c0,1-ab"},
		{"3@b,4@c;2-c0", "5@a,3@b,4@c;", "2-c0", "3@b,4@c;2-c0"},
		{"1abcd000000@RTE", "5@a;1abcd000000@RTE", "", "1abcd000000@RTE"},
	} {
		v, legacy, err := ParseVersionHistory(ver(t, "5@a"), long(c.history))
		if err != nil || short(v) != c.want || string(AppendRevHistory(nil, legacy)) != c.legacy {
			t.Errorf("%q: %s and %v, error %v, want %s and %s", c.history, short(v), legacy, err, c.want, c.legacy)
			continue
		}
		if got := string(v.AppendHistory(nil, legacy)); got != long(c.again) {
			t.Errorf("%q: written as %q, want %q", c.history, got, long(c.again))
		}
	}
	for _, bad := range []string{
		"3@b;4@c;1@d", "3@b,,4@c", "x", "3@*", "*", "0@b", "3@b,3@b", "3@a", "3@b;4@b", "1-ab,3@b", "1-ab;3@b", "3@b,1-", "5@a,3@b;", ",", "3B@b",
	} {
		if v, _, err := ParseVersionHistory(ver(t, "5@a"), long(bad)); err == nil {
			t.Errorf("%q is taken as %s", bad, short(v))
		}
	}
}

func TestParseAnyRev(t *testing.T) {
	a, b := "18ea@"+src("a"), "3@"+src("b")
	for _, c := range []struct{ in, name string }{
		{"", ""}, {" ", ""}, {"1-ab", "1-ab"}, {" 12-ab ", "12-ab"}, {a, a}, {a + ";" + b, a}, {a + ", " + b, a}, {a + "," + b + ";", a},
		{a + "," + b + ",2-c0", a}, {a + ";", a},
	} {
		got, err := ParseAnyRev(c.in)
		if err != nil || got.String() != c.name || got.IsZero() != (c.name == "") {
			t.Errorf("%q: %q, error %v, want %q", c.in, got, err, c.name)
		}
	}
	for _, bad := range []string{"-ab", "0-ab", "1-", "x", a + ",", a + ",x", "18ea@*", "@" + src("a"), ";" + a, "," + a} {
		if got, err := ParseAnyRev(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, got)
		}
	}
	whole, err := ParseAnyRev(a + ", " + b + ", 2-c0, 1-ab")
	if err != nil || len(whole.Vector.Previous) != 1 || !slices.Equal(whole.Legacy, revs("2-c0 1-ab")) {
		t.Errorf("%+v %v", whole, err)
	}
	for s, want := range map[string]bool{"1-a": true, "10-": true, "-a": false, "": false, "1": false, "1a-b": false, a: false} {
		if IsTreeRev(s) != want {
			t.Errorf("%q is a rev-tree ID: %v", s, !want)
		}
	}
}

func TestParseRevHistory(t *testing.T) {
	for _, history := range []string{"2-b,1-a", "2-b, 1-a", " 2-b ,1-a "} {
		got, err := ParseRevHistory(rev("3-c"), history)
		if err != nil || string(AppendRevHistory(nil, got)) != "3-c,2-b,1-a" {
			t.Errorf("%q: %v %v", history, got, err)
		}
	}
	if got, err := ParseRevHistory(rev("3-c"), ""); err != nil || len(got) != 1 {
		t.Errorf("no history: %v %v", got, err)
	}
	for _, bad := range []string{"2-b,,1-a", "2-b,", "x", "5@" + src("a")} {
		if got, err := ParseRevHistory(rev("3-c"), bad); err == nil {
			t.Errorf("%q is taken as %v", bad, got)
		}
	}
}

// What is written is read back, with spaces or without.
func TestVersionHistoryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawVector(t)
		var legacy []RevID
		for i := rapid.IntRange(0, 3).Draw(t, "legacy"); i > 0; i-- {
			legacy = append(legacy, rev(fmt.Sprintf("%d-ab", i)))
		}
		text := string(v.AppendHistory(nil, legacy))
		if rapid.Bool().Draw(t, "spaces") {
			text = strings.NewReplacer(",", ", ", ";", "; ").Replace(text)
		}
		got, tail, err := ParseVersionHistory(v.Current, text)
		if err != nil || got.String() != v.String() || !slices.Equal(tail, legacy) {
			t.Fatalf("%q: %v %v %v, want %v %v", text, got, tail, err, v, legacy)
		}
		whole, err := ParseAnyRev(v.String())
		if err != nil || whole.Vector.String() != v.String() {
			t.Fatalf("%s: %v %v", v, whole.Vector, err)
		}
	})
}

// drawVector makes some vector that is well formed.
func drawVector(t *rapid.T) VersionVector {
	sources := rapid.Permutation([]string{"a", "b", "c", "d", "e"}).Draw(t, "sources")
	draw := func(i int) Version {
		return Version{Time: rapid.Uint64Range(1, 1<<62).Draw(t, "time"), Source: src(sources[i])}
	}
	v := VersionVector{Current: draw(0)}
	merges := rapid.IntRange(0, 2).Draw(t, "merges")
	for i := 1; i <= merges; i++ {
		v.Merge = append(v.Merge, draw(i))
	}
	for i := merges + 1; i < rapid.IntRange(merges+1, 5).Draw(t, "versions"); i++ {
		v.Previous = append(v.Previous, draw(i))
	}
	return v
}

func FuzzParseAnyRev(f *testing.F) {
	for _, s := range []string{"1-ab", "5@" + src("a"), "5@" + src("a") + ",3@" + src("b") + ";2-c0", ";,", "5@" + src("a") + ", 3@" + src("b")} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAnyRev(s)
		if err != nil {
			return
		}
		text := a.String()
		if history := a.Vector.AppendHistory(nil, a.Legacy); len(history) > 0 {
			text += "," + string(history)
		}
		again, err := ParseAnyRev(text)
		if err != nil || again.String() != a.String() || !slices.Equal(again.Legacy, a.Legacy) || again.Vector.String() != a.Vector.String() {
			t.Errorf("%q reads %+v, then %q reads %+v: %v", s, a, text, again, err)
		}
	})
}
