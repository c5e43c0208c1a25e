package mapping_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// names are those that rules are about, and others.
var names = rapid.OneOf(
	rapid.SampledFrom([]string{"", "a", "$", "$x", "~", "~$x", "~~$x", "$$x", "_x", "~_x", "~~_x", "_rev", "~_rev", "~_id", "~~_id", "_attachments", "~_attachments", "a.b", "$oid", "~$oid",
		"$numberLong", "$code", "$scope", "~$numberLiteral", "$numberLiteral", "ü", "\u2028", "😀", "_deleted", "$date", "$binary", "0"}),
	rapid.StringN(0, 4, 12).Filter(func(s string) bool { return !bytes.ContainsRune([]byte(s), 0) }),
)

// scalars are values of every type of BSON that holds no others.
func scalars() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int32().AsAny(), rapid.Int64().AsAny(), rapid.Float64().AsAny(),
		rapid.SampledFrom([]any{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0.0, 1e21, 5e-324, math.MaxFloat64, float64(1 << 53), int64(1<<53 + 1), int64(5), int32(5), 5.0, "\xff", "a\xc0"}),
		rapid.Map(rapid.Uint64(), func(n uint64) any { return math.Float64frombits(n) }),
		rapid.String().AsAny(), rapid.SampledFrom([]any{"1.5", "NaN", "507f1f77bcf86cd799439011", "~5", "~\"x\"", "_a", "1e400", "0.10000000000000000001"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 12, 12), func(b []byte) any { return bson.ObjectID(b) }),
		rapid.Map(rapid.Int64(), func(n int64) any { return bson.DateTime(n) }),
		rapid.Map(rapid.Uint64(), func(n uint64) any { return bson.Timestamp{T: uint32(n >> 32), I: uint32(n)} }),
		rapid.Custom(func(t *rapid.T) any {
			return bson.Binary{Subtype: rapid.Byte().Draw(t, "subtype"), Data: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "data")}
		}),
		rapid.Custom(func(t *rapid.T) any {
			return bson.NewDecimal128(rapid.Uint64().Draw(t, "high"), rapid.Uint64().Draw(t, "low"))
		}),
		rapid.Custom(func(t *rapid.T) any {
			d, err := bson.ParseDecimal128(fmt.Sprintf("%dE%d", rapid.Int64Range(-1000, 1000).Draw(t, "digits"), rapid.IntRange(-20, 20).Draw(t, "exponent")))
			if err != nil {
				t.Fatal(err)
			}
			return d
		}),
		rapid.SampledFrom([]any{bson.MinKey{}, bson.MaxKey{}, bson.Undefined{}, bson.Symbol("s"), bson.JavaScript("f"), bson.Regex{Pattern: "a", Options: "i"},
			bson.DBPointer{DB: "a.b", Pointer: oid}, bson.CodeWithScope{Code: "f", Scope: bson.D{{Key: "$a", Value: 1.0}}}}),
	)
}

func values(depth int) *rapid.Generator[any] {
	if depth == 0 {
		return scalars()
	}
	return rapid.OneOf(scalars(), rapid.SliceOfN(values(depth-1), 0, 3).AsAny(), members(depth-1).AsAny())
}

func members(depth int) *rapid.Generator[bson.D] {
	return rapid.Custom(func(t *rapid.T) bson.D {
		var d bson.D
		for _, name := range rapid.SliceOfNDistinct(names, 0, 4, rapid.ID).Draw(t, "names") {
			d = append(d, bson.E{Key: name, Value: values(depth).Draw(t, "value")})
		}
		return append(bson.D{}, d...)
	})
}

// TestFromMongo: every MongoDB document comes back byte for byte, and is a document that tidegate takes.
func TestFromMongo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := bson.D{{Key: "_id", Value: rapid.OneOf(scalars(), members(1).AsAny()).Draw(t, "_id")}}
		for _, e := range members(2).Draw(t, "members") {
			if e.Key != "_id" {
				d = append(d, e)
			}
		}
		checkMongo(t, mustMarshal(t, d))
	})
}

func mustMarshal(t interface{ Fatal(...any) }, v any) bson.Raw {
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// checkMongo checks one document; one that cannot be mapped is no fault, but those that are drawn seldom are.
func checkMongo(t rapid.TB, raw bson.Raw) {
	id, body, err := mapping.DocumentToJSON(raw)
	if err != nil {
		return
	}
	split, err := jsondoc.Split(body, jsondoc.Limits{}, false)
	if err != nil || len(split.Unknown) > 0 || split.HasRev || split.ID != id || split.Deleted {
		t.Fatalf("%s is no document for tidegate: %v %+v", body, err, split)
	}
	back, err := mapping.DocumentToBSON(body)
	if err != nil {
		t.Fatalf("%v became %s, which does not go back: %v", raw, body, err)
	}
	if !bytes.Equal(back, raw) {
		t.Fatalf("%v became %s\nand then %v", raw, body, back)
	}
	key, exact, err := mapping.DocumentID(raw)
	if err != nil || key != id {
		t.Fatalf("document %q has the key %q, %v", id, key, err)
	}
	implied, err := mapping.KeyOf(id)
	if err != nil {
		t.Fatal(err)
	}
	if same := implied.Lookup("_id").Equal(raw.Lookup("_id")); same != exact {
		t.Fatalf("%q is %v: exact is %v", id, implied, exact)
	}
	a, err := mapping.Canonical(clustersync.Document{Format: clustersync.MongoDB, Body: raw})
	if err != nil || !bytes.Equal(a, raw) {
		t.Fatalf("canonical: %v %v", bson.Raw(a), err)
	}
}

// TestFromGateway: every tidegate document comes back with the same value, its numbers as they were or with the same value.
func TestFromGateway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.SampledFrom([]string{"a", "~5", "~5.0", "~null", "~x", "~\"5\"", "~\"~5\"", "~{\"a\":1}", "~[1]", "507f1f77bcf86cd799439011", "~{\"$oid\":\"507f1f77bcf86cd799439011\"}"}),
			rapid.StringN(1, 10, 40).Filter(func(s string) bool { return s[0] != '_' })).Draw(t, "_id")
		body := append(jsondoc.AppendString([]byte(`{"_id":`), id), `,"v":`...)
		body = append(append(body, jsonValue(t, 3)...), '}')
		checkGateway(t, id, body)
	})
}

// jsonValue draws JSON, also such as looks like what stands for other types.
func jsonValue(t *rapid.T, depth int) []byte {
	kind := rapid.IntRange(0, 7).Draw(t, "kind")
	if depth == 0 {
		kind %= 5
	}
	switch kind {
	case 0:
		return []byte(rapid.SampledFrom([]string{"null", "true", "false", "[]", "{}"}).Draw(t, "word"))
	case 1:
		return strconv.AppendInt(nil, rapid.Int64().Draw(t, "int"), 10)
	case 2:
		return []byte(rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,4})?`).Draw(t, "number"))
	case 3:
		return jsondoc.AppendString(nil, rapid.String().Draw(t, "string"))
	case 4:
		return []byte(rapid.SampledFrom([]string{`{"$oid":"507f1f77bcf86cd799439011"}`, `{"$oid":"5"}`, `{"$numberLong":"5"}`, `{"$numberLong":"5000000000"}`, `{"$date":{"$numberLong":"5"}}`,
			`{"$numberDecimal":"1.50"}`, `{"$numberDecimal":"1.5E0"}`, `{"$numberDouble":"NaN"}`, `{"$numberDouble":"1.5"}`, `{"$binary":{"subType":"00","base64":""}}`, `{"$binary":{"base64":"YQ","subType":"00"}}`,
			`{"$code":"f","$scope":{"a":{"$oid":"507f1f77bcf86cd799439011"}}}`, `{"$symbol":"x"}`, `{"~$symbol":"x"}`, `{"$numberLiteral":"1.5"}`, `{"$stringBytes":"/w=="}`, `{"$stringBytes":"YQ=="}`}).Draw(t, "wrapped"))
	case 5, 6:
		b := []byte("{")
		for i, name := range rapid.SliceOfNDistinct(names, 0, 3, rapid.ID).Draw(t, "names") {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(jsondoc.AppendString(b, name), ':'), jsonValue(t, depth-1)...)
		}
		return append(b, '}')
	}
	b := []byte("[")
	for i := range rapid.IntRange(0, 3).Draw(t, "elements") {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, jsonValue(t, depth-1)...)
	}
	return append(b, ']')
}

func checkGateway(t rapid.TB, id string, body []byte) {
	raw, err := mapping.DocumentToBSON(body)
	if err != nil {
		return
	}
	backID, back, err := mapping.DocumentToJSON(raw)
	if err != nil {
		t.Fatalf("%s became %v, which does not go back: %v", body, raw, err)
	}
	if backID != id || !sameJSON(body, back) {
		t.Fatalf("%s became %v\nand then %s", body, raw, back)
	}
	again, err := mapping.DocumentToBSON(back)
	if err != nil || !bytes.Equal(again, raw) {
		t.Fatalf("%s became %v and %v (%v)", body, raw, again, err)
	}
}

// sameJSON compares two texts as values, numbers by their exact decimal values.
func sameJSON(a, b []byte) bool {
	return string(normal(a)) == string(normal(b))
}

// normal is a text in a form of its own: sorted, with numbers as digits and exponent.
func normal(raw []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return raw
	}
	out, _ := json.Marshal(normalValue(v))
	return out
}

func normalValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		return normalNumber(string(v))
	case []any:
		for i := range v {
			v[i] = normalValue(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = normalValue(v[k])
		}
	}
	return v
}

// normalNumber gives sign, digits and exponent, computed in another way than the code does.
func normalNumber(s string) string {
	mantissa, exponent, sign := s, 0, ""
	for i := range s {
		if s[i] == 'e' || s[i] == 'E' {
			mantissa = s[:i]
			exponent, _ = strconv.Atoi(s[i+1:])
			break
		}
	}
	if mantissa[0] == '-' {
		sign, mantissa = "-", mantissa[1:]
	}
	digits := ""
	point := false
	for _, c := range mantissa {
		switch {
		case c == '.':
			point = true
		default:
			digits += string(c)
			if point {
				exponent--
			}
		}
	}
	for len(digits) > 0 && digits[0] == '0' {
		digits = digits[1:]
	}
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits, exponent = digits[:len(digits)-1], exponent+1
	}
	if digits == "" {
		exponent = 0
	}
	return fmt.Sprintf("%s%se%d", sign, digits, exponent)
}

// TestNamespaceProperties: names that are mapped come back, both ways.
func TestNamespaceProperties(t *testing.T) {
	word := rapid.OneOf(rapid.StringMatching(`[-a-zA-Z0-9_$()+/%~.]{1,8}`), rapid.StringN(1, 6, 20), rapid.Just("_default"))
	rapid.Check(t, func(t *rapid.T) {
		ns := clustersync.Namespace{Database: word.Draw(t, "db"), Collection: word.Draw(t, "coll")}
		if rapid.Bool().Draw(t, "scoped") {
			ns.Collection += "." + word.Draw(t, "coll")
		}
		for _, dir := range [][2]clustersync.Kind{{clustersync.MongoDB, clustersync.Tidegate}, {clustersync.Tidegate, clustersync.MongoDB}} {
			there, err := mapping.Namespace(ns, dir[0], dir[1])
			if err != nil {
				continue
			}
			back, err := mapping.Namespace(there, dir[1], dir[0])
			if legalName(ns) && (err != nil || back != ns) {
				t.Fatalf("%v became %v and then %v (%v)", ns, there, back, err)
			}
		}
	})
}

// legalName reports whether a server of MongoDB would have such a collection.
func legalName(ns clustersync.Namespace) bool {
	return !bytes.ContainsAny([]byte(ns.Database), "/\\. \"$*<>:|?\x00") && !bytes.ContainsAny([]byte(ns.Collection), "$\x00") && ns.Collection[0] != '.'
}

func FuzzDocuments(f *testing.F) {
	f.Add([]byte(mustMarshal(f, bson.D{{Key: "_id", Value: 5.0}, {Key: "$x", Value: bson.D{{Key: "_y", Value: nil}}}})))
	for _, v := range []any{oid, "_x", bson.D{{Key: "a", Value: 1.0}}, bson.DateTime(5), math.NaN(), bson.NewDecimal128(1<<62, 3), bson.Binary{Subtype: 2, Data: []byte("x")}} {
		f.Add([]byte(mustMarshal(f, bson.D{{Key: "_id", Value: v}, {Key: "v", Value: bson.A{v, bson.CodeWithScope{Code: "f", Scope: bson.D{{Key: "~$oid", Value: v}}}, bson.Regex{Pattern: "a"}}}})))
	}
	for _, v := range []string{`{"$oid":"507f1f77bcf86cd799439011"}`, `{"$timestamp":{"i":1,"t":2}}`, `{"$code":"f","$scope":{"$x":1}}`, `{"$numberDecimal":"1E+3"}`, `[-0,0.1,1e400,18446744073709551616]`} {
		f.Add([]byte(`{"_id":"a","~_id":"b","v":` + v + `,"~$y":` + v + `}`))
		f.Add([]byte(`{"_id":"a","v":` + v + `}`))
	}
	f.Add([]byte(`{"_id":"~5","x":{"$numberLong":"5"},"y":1e400}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 0 && in[0] == '{' && in[len(in)-1] == '}' {
			if split, err := jsondoc.Split(in, jsondoc.Limits{}, false); err == nil && len(split.Attachments) == 0 {
				checkFuzzedJSON(t, split)
			}
			return
		}
		if len(in) >= 5 { // its length and its end are not what is looked for
			in = bytes.Clone(in)
			binary.LittleEndian.PutUint32(in, uint32(len(in)))
			in[len(in)-1] = 0
		}
		fuzzMongo(t, in)
	})
}

// checkFuzzedJSON checks what counts of a document.
func checkFuzzedJSON(t *testing.T, split *jsondoc.Doc) {
	body := jsondoc.AppendDoc(nil, split.Body, jsondoc.Member{Name: "_id", Value: jsondoc.AppendString(nil, split.ID)})
	checkGateway(t, split.ID, body)
}

// fuzzMongo checks that a second time nothing changes; the first may bring _id to the front and name the members of arrays.
func fuzzMongo(t *testing.T, raw bson.Raw) {
	first, err := mapping.Canonical(clustersync.Document{Format: clustersync.MongoDB, Body: raw})
	if err != nil {
		return
	}
	if len(first) != len(raw) {
		t.Logf("%d bytes became %d", len(raw), len(first)) // names of arrays' members
	}
	checkMongo(t, first)
}
