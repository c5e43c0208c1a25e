package mapping_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
)

func marshal(t testing.TB, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func dec(t testing.TB, s string) bson.Decimal128 {
	t.Helper()
	d, err := bson.ParseDecimal128(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var oid = bson.ObjectID{0x50, 0x7f, 0x1f, 0x77, 0xbc, 0xf8, 0x6c, 0xd7, 0x99, 0x43, 0x90, 0x11}

// TestDocuments shows what each type is written down as, and that it comes back byte for byte.
func TestDocuments(t *testing.T) {
	for _, c := range []struct {
		doc  bson.D
		id   string
		body string
	}{
		{bson.D{{Key: "_id", Value: "a"}, {Key: "s", Value: "ü\x00\u2028"}, {Key: "b", Value: true}, {Key: "n", Value: nil}, {Key: "l", Value: bson.A{int32(1), "x", bson.A{}}}}, "a",
			`{"_id":"a","s":"ü\u0000` + "\u2028" + `","b":true,"n":null,"l":[1,"x",[]]}`},
		{bson.D{{Key: "_id", Value: oid}}, "507f1f77bcf86cd799439011", `{"_id":"507f1f77bcf86cd799439011"}`},
		{bson.D{{Key: "_id", Value: oid.Hex()}}, `~"507f1f77bcf86cd799439011"`, `{"_id":"~\"507f1f77bcf86cd799439011\""}`},
		{bson.D{{Key: "_id", Value: int32(5)}}, "~5", `{"_id":"~5"}`},
		{bson.D{{Key: "_id", Value: 5.0}}, "~5", `{"_id":"~5","~_id":5.0}`},
		{bson.D{{Key: "_id", Value: int64(5)}}, "~5", `{"_id":"~5","~_id":{"$numberLong":"5"}}`},
		{bson.D{{Key: "_id", Value: dec(t, "5.00")}}, "~5", `{"_id":"~5","~_id":{"$numberDecimal":"5.00"}}`},
		{bson.D{{Key: "_id", Value: math.Copysign(0, -1)}}, "~0", `{"_id":"~0","~_id":-0.0}`},
		{bson.D{{Key: "_id", Value: 1.5}}, "~1.5", `{"_id":"~1.5"}`},
		{bson.D{{Key: "_id", Value: dec(t, "0.1")}}, `~{"$numberDecimal":"0.1"}`, `{"_id":"~{\"$numberDecimal\":\"0.1\"}"}`},
		{bson.D{{Key: "_id", Value: ""}}, `~""`, `{"_id":"~\"\""}`},
		{bson.D{{Key: "_id", Value: "_x"}}, `~"_x"`, `{"_id":"~\"_x\""}`},
		{bson.D{{Key: "_id", Value: "~x"}}, "~x", `{"_id":"~x"}`},
		{bson.D{{Key: "_id", Value: "~5"}}, `~"~5"`, `{"_id":"~\"~5\""}`},
		{bson.D{{Key: "_id", Value: nil}}, "~null", `{"_id":"~null"}`},
		{bson.D{{Key: "_id", Value: bson.D{{Key: "a", Value: 1.0}, {Key: "$b", Value: "x"}}}}, `~{"a":1,"~$b":"x"}`, `{"_id":"~{\"a\":1,\"~$b\":\"x\"}","~_id":{"a":1.0,"~$b":"x"}}`},
		{bson.D{{Key: "_id", Value: bson.DateTime(-5)}}, `~{"$date":{"$numberLong":"-5"}}`, `{"_id":"~{\"$date\":{\"$numberLong\":\"-5\"}}"}`},
		{bson.D{{Key: "_id", Value: "n"}, {Key: "i", Value: int32(-7)}, {Key: "l", Value: int64(7)}, {Key: "L", Value: int64(1) << 53}, {Key: "d", Value: 7.0}, {Key: "e", Value: 1e21}, {Key: "m", Value: math.Copysign(0, -1)}}, "n",
			`{"_id":"n","i":-7,"l":{"$numberLong":"7"},"L":9007199254740992,"d":7.0,"e":1e+21,"m":-0.0}`},
		{bson.D{{Key: "_id", Value: "x"}, {Key: "a", Value: math.Inf(1)}, {Key: "b", Value: math.Inf(-1)}, {Key: "c", Value: math.Float64frombits(0x7ff8000000000000)}, {Key: "d", Value: math.Float64frombits(0x7ff8000000000001)}}, "x",
			`{"_id":"x","a":{"$numberDouble":"Infinity"},"b":{"$numberDouble":"-Infinity"},"c":{"$numberDouble":"NaN"},"d":{"$numberDouble":"NaN:7ff8000000000001"}}`},
		{bson.D{{Key: "_id", Value: "d"}, {Key: "a", Value: dec(t, "1.10")}, {Key: "b", Value: dec(t, "1E+3")}, {Key: "c", Value: dec(t, "NaN")}}, "d",
			`{"_id":"d","a":{"$numberDecimal":"1.10"},"b":{"$numberDecimal":"1E+3"},"c":{"$numberDecimal":"NaN"}}`},
		{bson.D{{Key: "_id", Value: "t"}, {Key: "o", Value: oid}, {Key: "ts", Value: bson.Timestamp{T: 7, I: 8}}, {Key: "re", Value: bson.Regex{Pattern: "a.b", Options: "im"}}, {Key: "js", Value: bson.JavaScript("f()")},
			{Key: "sy", Value: bson.Symbol("s")}, {Key: "u", Value: bson.Undefined{}}, {Key: "mi", Value: bson.MinKey{}}, {Key: "ma", Value: bson.MaxKey{}}, {Key: "p", Value: bson.DBPointer{DB: "db.c", Pointer: oid}},
			{Key: "cs", Value: bson.CodeWithScope{Code: "g()", Scope: bson.D{{Key: "$x", Value: 1.5}}}}}, "t",
			`{"_id":"t","o":{"$oid":"507f1f77bcf86cd799439011"},"ts":{"$timestamp":{"t":7,"i":8}},"re":{"$regularExpression":{"pattern":"a.b","options":"im"}},"js":{"$code":"f()"},` +
				`"sy":{"$symbol":"s"},"u":{"$undefined":true},"mi":{"$minKey":1},"ma":{"$maxKey":1},"p":{"$dbPointer":{"$ref":"db.c","$id":{"$oid":"507f1f77bcf86cd799439011"}}},` +
				`"cs":{"$code":"g()","$scope":{"~$x":1.5}}}`},
		{bson.D{{Key: "_id", Value: "b"}, {Key: "b", Value: bson.Binary{Subtype: 4, Data: []byte{1, 2}}}, {Key: "o", Value: bson.Binary{Subtype: 2, Data: []byte{3}}}, {Key: "bad", Value: "\xff"}}, "b",
			`{"_id":"b","b":{"$binary":{"base64":"AQI=","subType":"04"}},"o":{"$binary":{"base64":"Aw==","subType":"02"}},"bad":{"$stringBytes":"/w=="}}`},
		{bson.D{{Key: "_id", Value: "k"}, {Key: "_rev", Value: "1-x"}, {Key: "~_rev", Value: "y"}, {Key: "~_id", Value: "z"}, {Key: "$set", Value: 1.5}, {Key: "~$set", Value: 2.5}, {Key: "", Value: 3.5}, {Key: "a.b", Value: bson.D{{Key: "_rev", Value: "in"}, {Key: "$oid", Value: "no"}}}}, "k",
			`{"_id":"k","~_rev":"1-x","~~_rev":"y","~~_id":"z","~$set":1.5,"$set":2.5,"":3.5,"a.b":{"_rev":"in","~$oid":"no"}}`},
	} {
		id, body, err := mapping.DocumentToJSON(marshal(t, c.doc))
		if err != nil || id != c.id || string(body) != c.body {
			t.Errorf("%v:\n got %q %s, %v\nwant %q %s", c.doc, id, body, err, c.id, c.body)
			continue
		}
		back, err := mapping.DocumentToBSON(body)
		if err != nil || !bytes.Equal(back, marshal(t, c.doc)) {
			t.Errorf("%s came back as\n%x (%v), want\n%x", body, []byte(back), err, []byte(marshal(t, c.doc)))
		}
	}
}

// TestNumbers shows what JSON numbers become, and come back as.
func TestNumbers(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "-0": "-0.0", "2147483647": "2147483647", "2147483648": "2147483648", "9223372036854775807": "9223372036854775807",
		"9223372036854775808": "9223372036854775808", "9223372036854776000": "9223372036854776000.0", "9223372036854775809": "9223372036854775809", "1.10": "1.1", "1E2": "100.0", "100e-2": "1.0",
		"0.1": "0.1", "0.1000000000000000055511151231257827": "0.1000000000000000055511151231257827", "1e400": "1e400", "0e999999999999": "0e999999999999",
		"123456789012345678901234567890": "123456789012345678901234567890", "5e-324": "5e-324", "1e-7": "1e-07", "0.000001": "0.000001", "1e20": "100000000000000000000.0",
	} {
		raw, err := mapping.DocumentToBSON([]byte(`{"_id":"a","n":` + in + `}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		_, body, err := mapping.DocumentToJSON(raw)
		if got := string(body); err != nil || got != `{"_id":"a","n":`+want+`}` {
			t.Errorf("%s came back as %s (%v), want %s", in, got, err, want)
		}
	}
}

func TestUnmappable(t *testing.T) {
	deep := bson.D{{Key: "x", Value: int32(1)}}
	for range 130 {
		deep = bson.D{{Key: "x", Value: deep}}
	}
	twice := append(bson.D{}, bson.E{Key: "_id", Value: "a"}, bson.E{Key: "x", Value: int32(1)}, bson.E{Key: "x", Value: int32(2)})
	for name, doc := range map[string]bson.D{
		"no _id": {{Key: "x", Value: 1}}, "long _id": {{Key: "_id", Value: strings.Repeat("x", 251)}}, "array": {{Key: "_id", Value: bson.A{}}}, "regex": {{Key: "_id", Value: bson.Regex{}}},
		"deep": {{Key: "_id", Value: "a"}, {Key: "d", Value: deep}}, "twice": twice, "key": {{Key: "_id", Value: "a"}, {Key: "\xff", Value: int32(1)}}, "bad regex": {{Key: "_id", Value: "a"}, {Key: "r", Value: bson.Regex{Pattern: "\xff"}}},
	} {
		if _, _, err := mapping.DocumentToJSON(marshal(t, doc)); !errors.Is(err, clustersync.ErrUnmappable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, doc := range []string{
		`{"x":1}`, `{"_id":"_a"}`, `{"_id":"a","_foo":1}`, `{"_id":"a","x":{"$numberLiteral":"1e400"}}`, `{"_id":"a","x\u0000":1}`, `{"_id":"a","~_id":"b"}`,
		`{"_id":"~5","~_id":5}`, `{"_id":"a","_attachments":{"x":{"stub":true}}}`, `{"_id":"a","~_attachments":{"x":{"data":{"$binary":{"base64":"AQI=","subType":"00"}}}}}`, `[`, ``,
	} {
		if raw, err := mapping.DocumentToBSON([]byte(doc)); !errors.Is(err, clustersync.ErrUnmappable) {
			t.Errorf("%s: %v, %v", doc, raw, err)
		}
	}
	big := marshal(t, bson.D{{Key: "_id", Value: "a"}, {Key: "x", Value: strings.Repeat("\x01", 5<<20)}}) // six bytes each as JSON
	if _, _, err := mapping.DocumentToJSON(big); !errors.Is(err, clustersync.ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
}

// TestLookalikes shows that objects of tidegate documents stand for a value only if they are just what is written for it.
func TestLookalikes(t *testing.T) {
	for in, want := range map[string]bson.Type{
		`{"$oid":"507f1f77bcf86cd799439011"}`: bson.TypeObjectID, `{"$oid":"507F1F77BCF86CD799439011"}`: bson.TypeEmbeddedDocument, `{"$oid":5}`: bson.TypeEmbeddedDocument,
		`{"$numberLong":"05"}`: bson.TypeEmbeddedDocument, `{"$numberLong":"99999999999"}`: bson.TypeEmbeddedDocument, `{"$numberLong":"5"}`: bson.TypeInt64,
		`{"$timestamp":{"i":8,"t":7}}`: bson.TypeTimestamp, `{ "$ti\u006destamp" : {"t":7, "i":8} }`: bson.TypeTimestamp, `{"$timestamp":{"t":7.0,"i":8}}`: bson.TypeEmbeddedDocument,
		`{"$numberInt":"5"}`: bson.TypeEmbeddedDocument, `{"$numberDouble":"5.0"}`: bson.TypeEmbeddedDocument, `{"$numberDouble":"NaN"}`: bson.TypeDouble,
		`{"$date":"2020-01-01T00:00:00Z"}`: bson.TypeEmbeddedDocument, `{"$numberDecimal":"1.0"}`: bson.TypeDecimal128, `{"$numberDecimal":"1.0e3"}`: bson.TypeEmbeddedDocument,
		`{"$undefined":false}`: bson.TypeEmbeddedDocument, `{"$undefined":true,"x":1}`: bson.TypeEmbeddedDocument, `{"$stringBytes":"YQ=="}`: bson.TypeEmbeddedDocument,
		`{"$code":"f","$scope":{}}`: bson.TypeCodeWithScope, `{"$code":"f"}`: bson.TypeJavaScript, `{"$scope":{},"$code":"f"}`: bson.TypeCodeWithScope, `{"$ref":"x"}`: bson.TypeEmbeddedDocument,
	} {
		raw, err := mapping.DocumentToBSON([]byte(`{"_id":"a","v":` + in + `}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := raw.Lookup("v").Type; got != want {
			t.Errorf("%s is %v, want %v", in, got, want)
		}
		checkRoundTripJSON(t, raw)
	}
}

// checkRoundTripJSON checks that BSON that came from JSON comes back from it.
func checkRoundTripJSON(t testing.TB, raw bson.Raw) {
	t.Helper()
	_, body, err := mapping.DocumentToJSON(raw)
	if err != nil {
		t.Errorf("%v does not go back: %v", raw, err)
		return
	}
	again, err := mapping.DocumentToBSON(body)
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("%v became %s and then %v (%v)", raw, body, again, err)
	}
}

func TestKeys(t *testing.T) {
	for _, ids := range [][]any{
		{int32(1), int64(1), 1.0, dec(t, "1"), dec(t, "1.000"), dec(t, "10E-1")},
		{math.NaN(), dec(t, "NaN"), math.Float64frombits(0xfff8000000000000)},
		{math.Inf(1), dec(t, "Infinity")},
		{0.5, dec(t, "0.5"), dec(t, "0.50")},
		{dec(t, "1E+6000"), dec(t, "10E+5999")},
		{int32(0), math.Copysign(0, -1), dec(t, "-0"), dec(t, "0E+10")},
		{float64(1 << 62), int64(1 << 62)},
		{bson.D{{Key: "a", Value: int32(1)}}, bson.D{{Key: "a", Value: 1.0}}},
		{"a"}, {"1"}, {true}, {0.1}, {dec(t, "0.1")}, {bson.D{{Key: "a", Value: bson.A{int64(2), "x"}}}}, {bson.Binary{Data: []byte("x")}}, {bson.MinKey{}}, {bson.Symbol("a")},
	} {
		var first string
		for i, v := range ids {
			id, _, err := mapping.DocumentID(marshal(t, bson.D{{Key: "_id", Value: v}}))
			if err != nil {
				t.Fatalf("%v: %v", v, err)
			}
			if i == 0 {
				first = id
			} else if id != first {
				t.Errorf("%v has the ID %q, its equal %q", v, id, first)
			}
		}
		key, err := mapping.KeyOf(first)
		if err != nil {
			t.Fatal(err)
		}
		if id, exact, err := mapping.DocumentID(key); err != nil || !exact || id != first {
			t.Errorf("%q is the key %v, and that %q %v %v", first, key, id, exact, err)
		}
	}
}

func TestNamespaces(t *testing.T) {
	for mongo, gateway := range map[string]string{
		"shop/orders": "shop/_default.orders", "shop/_default": "shop/_default._default", "shop/fs.files": "shop/_default.fs%2Efiles", "shop/_tmp": "shop/_default.-%2D_tmp",
		"shop/~a.b": "shop/a.b", "shop/a.b": "shop/_default.a%2Eb", "shopDB/x": "shop+d+b/_default.x", "a+b/x": "a$2bb/_default.x", "Shop/x": "x$$+shop/_default.x",
		"9/x": "x$$9/_default.x", "x/%41": "x/_default.-%2D%2541", "ü/ü": "x$$$c3$bc/_default.-%2D%C3%BC", "shop/-x": "shop/_default.-x",
	} {
		m, g := split(mongo), split(gateway)
		got, err := mapping.Namespace(m, clustersync.MongoDB, clustersync.Tidegate)
		if err != nil || got != g {
			t.Errorf("%v is %v, %v, want %v", m, got, err, g)
		}
		back, err := mapping.Namespace(g, clustersync.Tidegate, clustersync.MongoDB)
		if err != nil || back != m {
			t.Errorf("%v is %v, %v, want %v", g, back, err, m)
		}
	}
	for _, gateway := range []string{"a/b/_default.x", "a$b/_default.x", "a+9/_default.x", "a/_default.a%b", "a/_default.%41", "a/_default.a%41", "a/x", "a/_default.~x", "a/_default.a%00b", "a/_default.%7Ea%2Eb"} {
		i := strings.LastIndex(gateway, "/")
		ns := clustersync.Namespace{Database: gateway[:i], Collection: gateway[i+1:]}
		if got, err := mapping.Namespace(ns, clustersync.Tidegate, clustersync.MongoDB); !errors.Is(err, clustersync.ErrUnmappable) || !strings.Contains(err.Error(), gateway[i+1:]) {
			t.Errorf("%v is %v, %v", ns, got, err)
		}
	}
	long := clustersync.Namespace{Database: "a", Collection: strings.Repeat("ü", 100)}
	if got, err := mapping.Namespace(long, clustersync.MongoDB, clustersync.Tidegate); !errors.Is(err, clustersync.ErrUnmappable) {
		t.Errorf("%v is %v, %v", long, got, err)
	}
}

func split(s string) clustersync.Namespace {
	db, coll, _ := strings.Cut(s, "/")
	return clustersync.Namespace{Database: db, Collection: coll}
}

func TestConvert(t *testing.T) {
	gateway := func(body string) clustersync.Document {
		return clustersync.Document{Key: clustersync.Key{ID: "a", Raw: marshal(t, bson.D{{Key: "_id", Value: "a"}})}, Format: clustersync.Tidegate, Body: []byte(body)}
	}
	c, err := mapping.Convert(gateway(`[{"_id":"a","_rev":"2-b","_deleted":true},{"_id":"a","_rev":"2-a","x":1,"_exp":"2030-01-01T00:00:00Z"},{"_id":"a","_rev":"1-z","x":2}]`), clustersync.MongoDB)
	if err != nil || !bytes.Equal(c.Doc.Body, marshal(t, bson.D{{Key: "_id", Value: "a"}, {Key: "x", Value: int32(1)}})) || c.Dropped != 1 || !c.Expires {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = mapping.Convert(gateway(`[{"_id":"a","_rev":"2-b","_deleted":true}]`), clustersync.MongoDB)
	if err != nil || c.Doc.Body != nil || c.Doc.Key.Raw == nil {
		t.Errorf("%+v, %v", c, err)
	}
	attached := `[{"_id":"a","_rev":"1-b","_attachments":{"pic.png":{"content_type":"image/png","digest":"sha1-x","length":3,"revpos":1,"data":"YWJj"},"z":{"digest":"q","length":9,"encoding":"gzip","encoded_length":3,"revpos":1,"data":"YWJj"}}}]`
	c, err = mapping.Convert(gateway(attached), clustersync.MongoDB)
	bin := bson.Binary{Data: []byte("abc")}
	want := marshal(t, bson.D{{Key: "_id", Value: "a"}, {Key: "_attachments", Value: bson.D{{Key: "pic.png", Value: bson.D{{Key: "content_type", Value: "image/png"}, {Key: "data", Value: bin}}},
		{Key: "z", Value: bson.D{{Key: "encoding", Value: "gzip"}, {Key: "length", Value: int64(9)}, {Key: "data", Value: bin}}}}}})
	if err != nil || !bytes.Equal(c.Doc.Body, want) {
		t.Fatalf("%v, %v, want %v", bson.Raw(c.Doc.Body), err, want)
	}
	back, err := mapping.Convert(c.Doc, clustersync.Tidegate)
	if got := `{"_id":"a","_attachments":{"pic.png":{"content_type":"image/png","data":"YWJj"},"z":{"encoding":"gzip","length":9,"encoded_length":3,"data":"YWJj"}}}`; err != nil || string(back.Doc.Body) != got {
		t.Errorf("%s, %v", back.Doc.Body, err)
	}
	a, err := mapping.Canonical(gateway(attached))
	b, err2 := mapping.Canonical(c.Doc)
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("%v %v %s %s", err, err2, hex.EncodeToString(a), hex.EncodeToString(b))
	}
}

func TestCanonicalLeaves(t *testing.T) {
	leaves := func(body string) string {
		out, err := mapping.CanonicalLeaves(clustersync.Document{Format: clustersync.Tidegate, Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	a := leaves(`[{"_id":"a","_rev":"2-b","x":1,"y":{"b":1,"a":2},"_attachments":{"p":{"digest":"d","length":1,"stub":true,"revpos":1}}},{"_id":"a","_rev":"2-c","_deleted":true}]`)
	if b := leaves(`[{"_rev":"2-b","_id":"a","_revisions":{"start":2,"ids":["b","a"]},"_attachments":{"p":{"digest":"d","length":1,"data":"eA==","revpos":2}},"y":{"a":2,"b":1},"x":1}]`); a != b {
		t.Errorf("%q\n%q", a, b)
	}
	for _, other := range []string{`[{"_id":"a","_rev":"2-b","x":1}]`, `[{"_id":"a","_rev":"2-a","x":1,"y":{"b":1,"a":2},"_attachments":{"p":{"digest":"d","length":1,"stub":true,"revpos":1}}}]`} {
		if leaves(other) == a {
			t.Error(other)
		}
	}
	if got := leaves(`[{"_id":"a","_rev":"2-b","_deleted":true}]`); got != "" {
		t.Error(got)
	}
}
