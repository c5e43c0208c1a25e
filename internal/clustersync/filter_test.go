package clustersync

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func newFilter(t testing.TB, spec FilterSpec) *Filter {
	t.Helper()
	f, err := NewFilter(spec, "own_records")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func ns(t testing.TB, name string) Namespace {
	t.Helper()
	db, coll, ok := strings.Cut(name, ".")
	if !ok {
		t.Fatalf("%q is no namespace", name)
	}
	return Namespace{db, coll}
}

// Spec §11.1 and §6.
func TestFilterIncludes(t *testing.T) {
	re := func(p, o string) *Regex { return &Regex{Pattern: p, Options: o} }
	for _, tt := range []struct {
		name    string
		spec    FilterSpec
		in, out string
	}{
		{"none", FilterSpec{}, "a.b x.y", "admin.a local.oplog.rs config.x a.system.js a.system.buckets.x own_records.x " +
			"mongosync_reserved_for_internal_use.x mongosync_internal_a.x mongosync_reserved_for_verification_src.x __mdb_internal_mongosync.x percona_clustersync_mongodb.x"},
		{"database", FilterSpec{Include: []NamespacePattern{{Database: "a"}}}, "a.b a.c", "b.a aa.b A.b a.system.views"},
		{"collections", FilterSpec{Include: []NamespacePattern{{Database: "a", Collections: []string{"x", "y.z"}}}}, "a.x a.y.z", "a.y a.z b.x"},
		{"either of two", FilterSpec{Include: []NamespacePattern{{Database: "a", Collections: []string{"x"}}, {Database: "b"}}}, "a.x b.q", "a.q"},
		{"regex is not anchored", FilterSpec{Include: []NamespacePattern{{DatabaseRegex: re("ell", "")}}}, "hello.a ell.b", "hEllo.a help.a"},
		{"regex, case", FilterSpec{Include: []NamespacePattern{{DatabaseRegex: re("^ell", "i")}}}, "ELL.a elle.a", "hello.a"},
		{"regex of collections", FilterSpec{Include: []NamespacePattern{{Database: "a", CollectionsRegex: re(`^log_\d+$`, "")}}}, "a.log_1 a.log_22", "a.log_ a.log_x b.log_1"},
		{"union", FilterSpec{Include: []NamespacePattern{{Database: "a", Collections: []string{"q"}, CollectionsRegex: re("^l", "")}}}, "a.q a.l", "a.x"},
		{"extended", FilterSpec{Include: []NamespacePattern{{DatabaseRegex: re("^ a [ ] b # comment\n$", "x")}}}, "a b.c", "ab.c a.b"},
		{"exclude", FilterSpec{Exclude: []NamespacePattern{{Database: "a"}, {Database: "b", Collections: []string{"x"}}}}, "b.y c.x", "a.x b.x admin.x"},
		{"exclude wins", FilterSpec{Include: []NamespacePattern{{Database: "a"}}, Exclude: []NamespacePattern{{Database: "a", CollectionsRegex: re("^t", "")}}}, "a.x", "a.tmp b.x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFilter(t, tt.spec)
			for name := range strings.FieldsSeq(strings.ReplaceAll(tt.in, "a b.c", "a_b.c")) {
				if n := ns(t, strings.ReplaceAll(name, "a_b", "a b")); !f.Includes(n) {
					t.Errorf("%s is not in", n)
				}
			}
			for name := range strings.FieldsSeq(tt.out) {
				if n := ns(t, name); f.Includes(n) {
					t.Errorf("%s is in", n)
				}
			}
		})
	}
}

// Spec §11.3, row by row.
func TestFilterRename(t *testing.T) {
	f := newFilter(t, FilterSpec{
		Include: []NamespacePattern{{Database: "whole"}, {Database: "all2"}, {Database: "part", Collections: []string{"x", "y"}}, {Database: "holey"}},
		Exclude: []NamespacePattern{{Database: "holey", Collections: []string{"tmp"}}},
	})
	for _, tt := range []struct {
		from, to string
		want     RenameVerdict
	}{
		{"whole.a", "whole.b", RenameFollow},
		{"part.x", "part.y", RenameFollow},
		{"whole.a", "all2.a", RenameFollow},
		{"whole.a", "part.x", RenameRefuse}, // in, but not the whole database
		{"whole.a", "holey.x", RenameRefuse},
		{"other.a", "whole.a", RenameCopy},
		{"part.q", "whole.a", RenameCopy},
		{"part.q", "part.x", RenameRefuse},
		{"other.a", "holey.x", RenameRefuse},
		{"whole.a", "other.a", RenameRefuse},
		{"part.x", "part.q", RenameRefuse},
		{"whole.a", "admin.a", RenameRefuse},
		{"other.a", "other.b", RenameIgnore},
		{"part.q", "part.r", RenameIgnore},
	} {
		got, reason := f.Rename(ns(t, tt.from), ns(t, tt.to))
		if got != tt.want {
			t.Errorf("%s to %s: %d, want %d", tt.from, tt.to, got, tt.want)
		}
		if got == RenameRefuse && (!strings.Contains(reason, tt.from) || !strings.Contains(reason, tt.to)) {
			t.Errorf("%s to %s: %q does not name both", tt.from, tt.to, reason)
		}
	}
}

func TestZeroFilter(t *testing.T) {
	var f *Filter
	for _, f := range []*Filter{f, {}} {
		n := Namespace{"a", "b"}
		v, _ := f.Rename(n, Namespace{"c", "d"})
		if !f.Includes(n) || f.Includes(Namespace{"admin", "x"}) || !f.WholeDatabase("a") || f.Filtering() || f.Remapping() || f.Natural(n) ||
			f.Target(n) != n || v != RenameFollow || !f.Keeps(Document{Body: []byte{}}) || f.Keeps(Document{}) {
			t.Error("a zero filter does something")
		}
	}
}

func TestRemapAndNatural(t *testing.T) {
	f := newFilter(t, FilterSpec{Remap: []Remap{{"a", "b"}, {"c", "b"}}, Natural: []NamespacePattern{{Database: "a", Collections: []string{"x"}}}})
	for from, to := range map[string]string{"a.x": "b.x", "c.x": "b.x", "b.x": "b.x", "d.x": "d.x"} {
		if got := f.Target(ns(t, from)); got != ns(t, to) {
			t.Errorf("%s is %s", from, got)
		}
	}
	if !f.Natural(ns(t, "a.x")) || f.Natural(ns(t, "a.y")) {
		t.Error("natural order")
	}
	every := newFilter(t, FilterSpec{Natural: []NamespacePattern{{Database: "."}}})
	if !every.Natural(Namespace{"any\nthing", "x"}) || every.Filtering() {
		t.Error("natural order of every database")
	}
}

// A filter of whole databases never depends on the collection; what one element excludes, no other brings back; and a namespace that is in
// stays in when elements are added to the include list.
func TestFilterProperties(t *testing.T) {
	name := rapid.SampledFrom([]string{"a", "b", "ab", "x", "system.x", "admin", "a.b"})
	element := rapid.Custom(func(t *rapid.T) NamespacePattern {
		var p NamespacePattern
		if rapid.Bool().Draw(t, "regex") {
			p.DatabaseRegex = &Regex{Pattern: rapid.SampledFrom([]string{"a", "^b$", "[ab]+", "x"}).Draw(t, "pattern")}
		} else {
			p.Database = rapid.SampledFrom([]string{"a", "b", "ab", "x"}).Draw(t, "db")
		}
		if rapid.Bool().Draw(t, "collections") {
			p.Collections = []string{rapid.SampledFrom([]string{"a", "b", "x", "a.b"}).Draw(t, "coll")}
		}
		return p
	})
	rapid.Check(t, func(rt *rapid.T) {
		spec := FilterSpec{
			Include: rapid.SliceOfN(element, 0, 3).Draw(rt, "include"), Exclude: rapid.SliceOfN(element, 0, 3).Draw(rt, "exclude"),
		}
		n := Namespace{name.Draw(rt, "db"), name.Draw(rt, "coll")}
		f := newFilter(t, spec)
		if f.Includes(n) {
			if Internal(n) {
				rt.Errorf("%s is internal and in", n)
			}
			if len(spec.Include) > 0 {
				more := newFilter(t, FilterSpec{Include: append(spec.Include[:len(spec.Include):len(spec.Include)], element.Draw(rt, "more")), Exclude: spec.Exclude})
				if !more.Includes(n) {
					rt.Errorf("%s is out once more is included", n)
				}
			}
		}
		if newFilter(t, FilterSpec{Include: spec.Exclude}).Includes(n) && len(spec.Exclude) > 0 && f.Includes(n) {
			rt.Errorf("%s is excluded and in", n)
		}
		if f.WholeDatabase(n.Database) && !Internal(n) && !f.Includes(n) {
			rt.Errorf("%s is out of a whole database", n)
		}
		v, _ := f.Rename(n, Namespace{name.Draw(rt, "db2"), name.Draw(rt, "coll2")})
		if (v == RenameIgnore || v == RenameCopy) == f.Includes(n) && v != RenameRefuse {
			rt.Errorf("rename of %s is judged %d", n, v)
		}
	})
}

func extJSON(t testing.TB, text string) bson.Raw {
	t.Helper()
	var raw bson.Raw
	if err := bson.UnmarshalExtJSON([]byte(text), false, &raw); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return raw
}

// Spec §11.5: equal as MongoDB compares.
func TestDocumentFilter(t *testing.T) {
	for _, tt := range []struct {
		wanted, doc string
		keeps       bool
	}{
		{`1`, `{"f":1}`, true},
		{`1`, `{"f":{"$numberLong":"1"}}`, true},
		{`1`, `{"f":1.0}`, true},
		{`1`, `{"f":{"$numberDecimal":"1.000"}}`, true},
		{`1`, `{"f":{"$numberDecimal":"1.0001"}}`, false},
		{`0.5`, `{"f":{"$numberDecimal":"0.50"}}`, true},
		{`0.1`, `{"f":{"$numberDecimal":"0.1"}}`, false}, // the double is not quite a tenth
		{`{"$numberDecimal":"100"}`, `{"f":{"$numberDecimal":"1E+2"}}`, true},
		{`{"$numberDecimal":"1E+6000"}`, `{"f":{"$numberDecimal":"10E+5999"}}`, true},
		{`0`, `{"f":-0.0}`, true},
		{`0`, `{"f":{"$numberDecimal":"-0E+3"}}`, true},
		{`{"$numberDouble":"NaN"}`, `{"f":{"$numberDecimal":"NaN"}}`, true},
		{`{"$numberDouble":"-Infinity"}`, `{"f":{"$numberDecimal":"-Infinity"}}`, true},
		{`{"$numberDouble":"-Infinity"}`, `{"f":{"$numberDouble":"Infinity"}}`, false},
		{`9007199254740993`, `{"f":9007199254740992.0}`, false},
		{`1`, `{"f":true}`, false},
		{`1`, `{"f":"1"}`, false},
		{`"a"`, `{"f":"a"}`, true},
		{`"a"`, `{"f":"A"}`, false},
		{`"a"`, `{"g":"a"}`, false},
		{`"a"`, `{"g":{"f":"a"}}`, false},
		{`true`, `{"f":true}`, true},
		{`{"$oid":"0123456789abcdef01234567"}`, `{"f":{"$oid":"0123456789abcdef01234567"}}`, true},
		{`{"$date":"2026-01-01T00:00:00Z"}`, `{"f":{"$date":{"$numberLong":"1767225600000"}}}`, true},
		{`{"$binary":{"base64":"AAE=","subType":"00"}}`, `{"f":{"$binary":{"base64":"AAE=","subType":"00"}}}`, true},
		{`{"$binary":{"base64":"AAE=","subType":"00"}}`, `{"f":{"$binary":{"base64":"AAE=","subType":"05"}}}`, false},
		{`1,"b"`, `{"f":"b"}`, true},
	} {
		f := newFilter(t, FilterSpec{Documents: &DocumentFilter{Field: "f", Values: mustValues(t, tt.wanted)}})
		if got := f.Keeps(Document{Format: MongoDB, Body: extJSON(t, tt.doc)}); got != tt.keeps {
			t.Errorf("%s of %s: %t", tt.wanted, tt.doc, got)
		}
		revs := fmt.Sprintf(`[{"_id":"a","_deleted":true},%s]`, tt.doc)
		if got := f.Keeps(Document{Format: Tidegate, Body: []byte(revs)}); got != tt.keeps {
			t.Errorf("%s of revisions %s: %t", tt.wanted, revs, got)
		}
	}
}

func mustValues(t testing.TB, list string) []bson.RawValue {
	t.Helper()
	values, err := matchValues([]byte("[" + list + "]"))
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// Numbers are equal as texts exactly if they are equal as numbers.
func TestCanonicalValueOfNumbers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		i := rapid.Int64().Draw(rt, "int")
		d := rapid.Float64().Draw(rt, "double")
		if rapid.Bool().Draw(rt, "near") {
			d = float64(i)
		}
		same := canonicalValue(value(t, i)) == canonicalValue(value(t, d))
		exact := d == math.Trunc(d) && d >= -(1<<63) && d < 1<<63 && int64(d) == i
		if same != exact {
			rt.Errorf("%d and %v: %t", i, d, same)
		}
		dec, err := bson.ParseDecimal128(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if canonicalValue(value(t, i)) != canonicalValue(value(t, dec)) {
			rt.Errorf("%d and %s", i, dec)
		}
	})
}

func value(t testing.TB, v any) bson.RawValue {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "v", Value: v}})
	if err != nil {
		t.Fatal(err)
	}
	return bson.Raw(raw).Lookup("v")
}

// Every plan can be kept and read back: filters through BSON give the same answers.
func TestFilterSpecRoundTrip(t *testing.T) {
	spec := FilterSpec{
		Include: []NamespacePattern{{DatabaseRegex: &Regex{"a", "i"}}, {Database: "b", Collections: []string{"x"}}},
		Exclude: []NamespacePattern{{Database: "b", CollectionsRegex: &Regex{"^t", ""}}},
		Natural: []NamespacePattern{{Database: "."}}, Remap: []Remap{{"a", "c"}},
		Documents: &DocumentFilter{Field: "f", Values: mustValues(t, `1,"x",{"$oid":"0123456789abcdef01234567"}`)},
	}
	raw, err := bson.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var back FilterSpec
	if err := bson.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	f, g := newFilter(t, spec), newFilter(t, back)
	for _, name := range []string{"a.x", "A.x", "b.x", "b.t", "b.y", "c.c"} {
		n := ns(t, name)
		if f.Includes(n) != g.Includes(n) || f.Target(n) != g.Target(n) || f.Natural(n) != g.Natural(n) {
			t.Errorf("%s differs after being kept", n)
		}
	}
	if !g.Keeps(Document{Body: extJSON(t, `{"f":1.0}`)}) || g.Keeps(Document{Body: extJSON(t, `{"f":2}`)}) {
		t.Error("the document filter differs after being kept")
	}
}
