package clustersync

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const pair = `"source":"cluster0","destination":"cluster1"`

// A body that does not parse, or has the wrong types, is InvalidRequest and says where (spec §3).
func TestParseStartRefuses(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"nothing", ``, "empty"},
		{"space", "  \n", "empty"},
		{"not JSON", `{`, "ends too early"},
		{"not JSON either", `{'source':"cluster0"}`, "syntax error at byte 1"},
		{"comment", `{/*hi*/}`, "syntax error"},
		{"trailing comma", `{` + pair + `,}`, "syntax error"},
		{"NaN", `{"source":NaN}`, "syntax error"},
		{"array", `[]`, "must be a JSON object"},
		{"string", `"source"`, "must be a JSON object"},
		{"null", `null`, "must be a JSON object"},
		{"two objects", `{} {}`, "more in the body"},
		{"rubbish behind", `{} x`, "syntax error"},
		{"invalid UTF-8", "{\"source\":\"\xff\"}", "not valid JSON"},
		{"unknown", `{` + pair + `,"reversable":true}`, `"reversable" is not known`},
		{"unknown by case", `{` + pair + `,"Reversible":true}`, `"Reversible" is not known`},
		{"unknown, nested", `{` + pair + `,"verification":{"enable":true}}`, `"verification.enable" is not known`},
		{"unknown, in a list", `{` + pair + `,"includeNamespaces":[{"database":"a"},{"db":"a"}]}`, `"includeNamespaces[1].db" is not known`},
		{"duplicate", `{` + pair + `,"source":"cluster1"}`, `"source" is given twice`},
		{"duplicate, nested", `{` + pair + `,"sharding":{"shardingEntries":[],"shardingEntries":[]}}`, `"sharding.shardingEntries" is given twice`},
		{"duplicate, escaped", `{` + pair + `,"sourc\u0065":"cluster1"}`, `"source" is given twice`},
		{"null member", `{` + pair + `,"reversible":null}`, `"reversible" must not be null`},
		{"null element", `{` + pair + `,"includeNamespaces":[null]}`, `"includeNamespaces[0]" must not be null`},
		{"number for string", `{"source":0}`, `"source" is of the wrong type`},
		{"string for bool", `{` + pair + `,"reversible":"true"}`, `"reversible" is of the wrong type`},
		{"number for mode", `{` + pair + `,"enableUserWriteBlocking":1}`, `"enableUserWriteBlocking" is of the wrong type`},
		{"object for list", `{` + pair + `,"includeNamespaces":{"database":"a"}}`, `"includeNamespaces" is of the wrong type`},
		{"string for list", `{` + pair + `,"includeNamespaces":[{"database":"a","collections":"b"}]}`, `"includeNamespaces[0].collections" is of the wrong type`},
		{"bool for object", `{` + pair + `,"verification":false}`, `"verification" is of the wrong type`},
		{"deep", `{` + pair + `,"documentFilter":{"matchValues":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`, "nested too deeply"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseStart([]byte(tt.body))
			if NameOf(err) != InvalidRequest || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v (%s), want %s with %s", err, NameOf(err), InvalidRequest, tt.want)
			}
		})
	}
}

func TestParseEmpty(t *testing.T) {
	for body, want := range map[string]string{
		`{}`: "", ` { } `: "", ``: "empty", `null`: "must be a JSON object", `[]`: "must be a JSON object", `{"a":1}`: `"a" is not known`,
		`{"a":null}`: `must not be null`, `{}{}`: "more in the body", `data=1`: "syntax error",
	} {
		err := ParseEmpty([]byte(body))
		if want == "" && err != nil || want != "" && (err == nil || NameOf(err) != InvalidRequest || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", body, err, want)
		}
	}
}

func replicaSet(major int) Info {
	return Info{Version: string(rune('0'+major)) + ".0.30", Major: major, Topology: ReplicaSet, MongoDB: true, CanBlock: true, ChangeSource: "changeStream"}
}

func shardedCluster(major, shards int) Info {
	i := replicaSet(major)
	i.Topology, i.Shards = Sharded, shards
	return i
}

// planOf reads a body and makes a plan for these clusters.
func planOf(body string, src, dst Info, env Environment) (*Plan, error) {
	req, err := ParseStart([]byte(body))
	if err != nil {
		return nil, err
	}
	p, err := req.plan(env)
	if err != nil {
		return nil, err
	}
	return p, p.settle(req, src, dst)
}

// The combination matrix of spec §5.1.2, each line of it.
func TestCombinations(t *testing.T) {
	v8, v5 := replicaSet(8), replicaSet(5)
	const off = `,"verification":{"enabled":false}`
	for _, tt := range []struct {
		more     string // members besides source and destination
		src, dst Info
		env      Environment
		want     string // part of the description; "": allowed
	}{
		{"", v8, v8, Environment{}, ""},
		{`,"reversible":true`, v8, v8, Environment{}, ""},
		{`,"reversible":true,"enableUserWriteBlocking":true`, v8, v8, Environment{}, ""},
		{`,"reversible":true,"enableUserWriteBlocking":"sourceAndDestination"`, v8, v8, Environment{}, ""},
		{`,"reversible":true,"enableUserWriteBlocking":false`, v8, v8, Environment{}, "reversible"},
		{`,"reversible":true,"enableUserWriteBlocking":"none"`, v8, v8, Environment{}, "reversible"},
		{`,"reversible":true,"enableUserWriteBlocking":"destinationOnly"`, v8, v8, Environment{}, "reversible"},
		{`,"reversible":true,"buildIndexes":"never"`, v8, v8, Environment{}, "never"},
		{`,"reversible":true,"includeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, "namespace filter"},
		{`,"reversible":true,"excludeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, "namespace filter"},
		{`,"reversible":true,"namespaceRemap":[{"from":{"database":"a"},"to":{"database":"b"}}]` + off, v8, v8, Environment{}, "namespaceRemap"},
		{`,"reversible":true,"documentFilter":{"field":"a","matchValues":[1]}` + off, v8, v8, Environment{}, "documentFilter"},
		{`,"reversible":true,"preExistingDestinationData":true,"excludeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, "reversible"},
		{`,"reversible":true,"sharding":{"shardingEntries":[]}`, v8, shardedCluster(8, 2), Environment{}, "same topology"},
		{`,"reversible":true`, shardedCluster(8, 3), shardedCluster(8, 2), Environment{}, "number of shards"},
		{`,"reversible":true`, shardedCluster(8, 2), shardedCluster(8, 2), Environment{}, ""},
		{`,"reversible":true`, replicaSet(7), v8, Environment{}, "major version"},
		{`,"reversible":true`, v5, v5, Environment{}, "6.0"},

		{`,"enableUserWriteBlocking":true,"includeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, "namespace filter"},
		{`,"enableUserWriteBlocking":"destinationOnly","includeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, ""},
		{`,"enableUserWriteBlocking":true`, v5, v8, Environment{}, "6.0"},
		{`,"enableUserWriteBlocking":"destinationOnly"`, v5, v8, Environment{}, ""},
		{`,"enableUserWriteBlocking":"both"`, v8, v8, Environment{}, "must be a boolean"},

		{`,"buildIndexes":"afterDataCopy"`, v5, v8, Environment{}, "6.0"},
		{`,"buildIndexes":"excludeHashedAfterCopy"`, v5, v8, Environment{}, "6.0"},
		{`,"buildIndexes":"excludeHashed"`, v5, v8, Environment{}, ""},
		{`,"buildIndexes":"later"`, v8, v8, Environment{}, "must be one of"},

		{`,"sharding":{"shardingEntries":[],"createSupportingIndexes":true}`, v5, shardedCluster(6, 1), Environment{}, "6.0"},
		{``, v8, shardedCluster(8, 1), Environment{}, `"sharding" is required`},
		{`,"sharding":{"shardingEntries":[]}`, v8, shardedCluster(8, 1), Environment{}, ""},
		{`,"sharding":{"shardingEntries":[]}`, v8, v8, Environment{}, `only for`},
		{`,"sharding":{"shardingEntries":[]}`, shardedCluster(8, 1), shardedCluster(8, 1), Environment{}, `only for`},
		{`,"sharding":{}`, v8, shardedCluster(8, 1), Environment{}, "shardingEntries"},

		{`,"namespaceRemap":[{"from":{"database":"a"},"to":{"database":"b"}}]`, v8, v8, Environment{}, "verification"},
		{`,"namespaceRemap":[{"from":{"database":"a"},"to":{"database":"b"}}]`, v8, v8, Environment{DisableVerification: true}, ""},
		{`,"namespaceRemap":[{"from":{"database":"a"},"to":{"database":"b"}}]` + off, v8, v8, Environment{}, ""},
		{`,"documentFilter":{"field":"a","matchValues":[1]}`, v8, v8, Environment{}, "verification"},
		{``, v8, v8, Environment{MigrationName: "x"}, "verification"},
		{off, v8, v8, Environment{MigrationName: "x"}, ""},

		{`,"preExistingDestinationData":true`, v8, v8, Environment{}, "includeNamespaces"},
		{`,"destinationDataHandling":"ignorePreExistingNamespaces"`, v8, v8, Environment{}, "includeNamespaces"},
		{`,"destinationDataHandling":"ignorePreExistingNamespaces","includeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, ""},
		{`,"destinationDataHandling":"requireEmptyDestination","preExistingDestinationData":true,"includeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, "contradict"},
		{`,"destinationDataHandling":"x"`, v8, v8, Environment{}, "destinationDataHandling"},
		{`,"preExistingDestinationData":true,"enableUserWriteBlocking":"destinationOnly","includeNamespaces":[{"database":"a"}]`, v8, v8, Environment{}, "enableUserWriteBlocking"},
	} {
		_, err := planOf(`{`+pair+tt.more+`}`, tt.src, tt.dst, tt.env)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.more, err)
		case tt.want != "" && (err == nil || NameOf(err) != InvalidOption || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v (%s), want %s with %s", tt.more, err, NameOf(err), InvalidOption, tt.want)
		}
	}
	if _, err := planOf(`{`+pair+`}`, shardedCluster(8, 2), v8, Environment{}); NameOf(err) != UnsupportedServer {
		t.Errorf("sharded to replica set: %v", err)
	}
}

// Options that are wrong by themselves.
func TestBadOptions(t *testing.T) {
	v8 := replicaSet(8)
	sharded := func(entries string) string { return `,"sharding":{"shardingEntries":[` + entries + `]}` }
	key := func(key string) string {
		return sharded(`{"database":"a","collection":"b","shardCollection":{"key":` + key + `}}`)
	}
	docs := func(filter string) string {
		return `,"verification":{"enabled":false},"documentFilter":{` + filter + `}`
	}
	remap := func(pairs ...string) string {
		var all []string
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, `{"from":{"database":"`+pairs[i]+`"},"to":{"database":"`+pairs[i+1]+`"}}`)
		}
		return `,"verification":{"enabled":false},"namespaceRemap":[` + strings.Join(all, ",") + `]`
	}
	for _, tt := range []struct {
		more string
		dst  Info
		name ErrorName
		want string
	}{
		{key(`[]`), shardedCluster(8, 1), InvalidOption, "key"},
		{key(`[{}]`), shardedCluster(8, 1), InvalidOption, "one field"},
		{key(`[{"x":1,"y":1}]`), shardedCluster(8, 1), InvalidOption, "one field"},
		{key(`[{"x":2}]`), shardedCluster(8, 1), InvalidOption, "1, -1"},
		{key(`[{"x":"2d"}]`), shardedCluster(8, 1), InvalidOption, "hashed"},
		{key(`["x"]`), shardedCluster(8, 1), InvalidRequest, "not an object"},
		{sharded(`{"database":"a"}`), shardedCluster(8, 1), InvalidOption, "a collection"},
		{sharded(`{"database":"admin","collection":"x","shardCollection":{"key":[{"x":1}]}}`), shardedCluster(8, 1), InvalidOption, "system"},

		{docs(`"field":"a.b","matchValues":[1]`), v8, InvalidOption, "top-level"},
		{docs(`"field":"$a","matchValues":[1]`), v8, InvalidOption, "top-level"},
		{docs(`"field":"","matchValues":[1]`), v8, InvalidOption, "required"},
		{docs(`"matchValues":[1]`), v8, InvalidOption, "required"},
		{docs(`"field":"a","matchValues":[]`), v8, InvalidOption, "empty"},
		{docs(`"field":"a"`), v8, InvalidOption, "empty"},
		{docs(`"field":"a","matchValues":1`), v8, InvalidRequest, "array"},
		{docs(`"field":"a","matchValues":[null]`), v8, InvalidOption, "[0]"},
		{docs(`"field":"a","matchValues":[1,{"b":1}]`), v8, InvalidOption, "[1]"},
		{docs(`"field":"a","matchValues":[{"$regularExpression":{"pattern":"a","options":""}}]`), v8, InvalidOption, "[0]"},
		{docs(`"field":"a","matchValues":[{"$oid":"nope"}]`), v8, InvalidRequest, "extended JSON"},
		{docs(`"field":"a","matchValues":["x",true,1.5,{"$oid":"0123456789abcdef01234567"},{"$date":"2026-01-01T00:00:00Z"},{"$numberDecimal":"1.5"}]`), v8, "", ""},

		{remap("a", "b", "a", "c"), v8, InvalidOption, "second time"},
		{remap("a", "admin"), v8, InvalidOption, "system"},
		{remap("a", "mongosync_internal_x"), v8, InvalidOption, "system"},
		{remap("local", "a"), v8, InvalidOption, "system"},
		{remap("a", "own_records"), v8, InvalidOption, "system"},
		{remap("a", "X", "b", "x"), v8, InvalidOption, "case"},
		{remap("a", "x", "b", "x"), v8, "", ""},
		{remap("a", strings.Repeat("x", 64)), v8, InvalidOption, "63"},
		{remap("a", "x y"), v8, InvalidOption, "characters"},
		{remap("a", "x.y"), v8, InvalidOption, "characters"},
		{remap("a", "x|y"), v8, InvalidOption, "characters"},
		{remap("a", ""), v8, InvalidOption, "to.database"},

		{`,"includeNamespaces":[{"database":"admin"}]`, v8, InvalidOption, "system"},
		{`,"includeNamespaces":[{"database":"a","collections":["system.js"]}]`, v8, InvalidOption, "system"},
		{`,"excludeNamespaces":[{"database":"mongosync_reserved_for_internal_use"}]`, v8, InvalidOption, "system"},
		{`,"excludeNamespaces":[{"database":"own_records"}]`, v8, InvalidOption, "system"},
		{`,"includeNamespaces":[{}]`, v8, InvalidOption, "neither"},
		{`,"includeNamespaces":[{"collections":["a"]}]`, v8, InvalidOption, "neither"},
		{`,"includeNamespaces":[{"database":"a","databaseRegex":{"pattern":"a"}}]`, v8, InvalidOption, "both"},
		{`,"includeNamespaces":[{"database":"a","collections":[]}]`, v8, InvalidOption, "empty"},
		{`,"includeNamespaces":[{"databaseRegex":{"pattern":"(?=a)"}}]`, v8, InvalidOption, "look-around"},
		{`,"includeNamespaces":[{"databaseRegex":{"pattern":"(a)\\1"}}]`, v8, InvalidOption, "back-references"},
		{`,"includeNamespaces":[{"databaseRegex":{"pattern":"a","options":"g"}}]`, v8, InvalidOption, "option"},
		{`,"includeNamespaces":[{"databaseRegex":{"pattern":""}}]`, v8, InvalidOption, "empty"},
		{`,"copyInNaturalOrder":[{"database":"."}]`, v8, "", ""},
	} {
		_, err := planOf(`{`+pair+tt.more+`}`, v8, tt.dst, Environment{MetadataDatabase: "own_records"})
		switch {
		case tt.name == "" && err != nil:
			t.Errorf("%s: %v", tt.more, err)
		case tt.name != "" && (err == nil || NameOf(err) != tt.name || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v (%s), want %s with %s", tt.more, err, NameOf(err), tt.name, tt.want)
		}
	}
	for body, want := range map[string]string{
		`{}`: `"source" is required`, `{"source":"cluster0"}`: `"destination" is required`,
		`{"source":"a","destination":"cluster1"}`:        `"source" must be`,
		`{"source":"cluster0","destination":"cluster0"}`: "different",
	} {
		if _, err := planOf(body, v8, v8, Environment{}); NameOf(err) != InvalidOption || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

// Defaults of spec §5.1 and §5.1.1.
func TestDefaults(t *testing.T) {
	v8 := replicaSet(8)
	for _, tt := range []struct {
		more     string
		src      Info
		blocking WriteBlocking
		asked    bool
		indexes  BuildIndexes
	}{
		{"", v8, BlockDestination, false, IndexesAfterCopy},
		{"", replicaSet(5), BlockDestination, false, IndexesBeforeCopy},
		{"", Info{Topology: Gateways}, BlockDestination, false, IndexesAfterCopy},
		{`,"reversible":true`, v8, BlockBoth, false, IndexesAfterCopy},
		{`,"enableUserWriteBlocking":true`, v8, BlockBoth, true, IndexesAfterCopy},
		{`,"enableUserWriteBlocking":false`, v8, BlockNone, true, IndexesAfterCopy},
		{`,"preExistingDestinationData":true,"includeNamespaces":[{"database":"a"}]`, v8, BlockNone, false, IndexesAfterCopy},
		{`,"buildIndexes":"excludeHashed"`, v8, BlockDestination, false, ExcludeHashed},
	} {
		p, err := planOf(`{`+pair+tt.more+`}`, tt.src, v8, Environment{})
		if err != nil {
			t.Errorf("%s: %v", tt.more, err)
			continue
		}
		if p.WriteBlocking != tt.blocking || p.WriteBlockingAsked != tt.asked || p.BuildIndexes != tt.indexes {
			t.Errorf("%s: %s (asked %t), %s; want %s (asked %t), %s", tt.more, p.WriteBlocking, p.WriteBlockingAsked, p.BuildIndexes, tt.blocking, tt.asked, tt.indexes)
		}
		if !p.Verification || !p.DetectRandomID || p.Filter == nil {
			t.Errorf("%s: %+v", tt.more, p)
		}
	}
}

// What is asked for of the order of reading is refused where it would mean nothing.
func TestOrderNeedsMongoDB(t *testing.T) {
	for more, refused := range map[string]bool{
		`,"copyInNaturalOrder":[{"database":"a"}]`: true, `,"detectRandomId":true`: true, `,"detectRandomId":false`: false, ``: false,
	} {
		_, err := planOf(`{`+pair+more+`}`, Info{Topology: Gateways}, replicaSet(8), Environment{})
		if (err != nil) != refused || refused && NameOf(err) != InvalidOption {
			t.Errorf("%s from tidegate: %v", more, err)
		}
		if _, err := planOf(`{`+pair+more+`}`, replicaSet(8), Info{Topology: Gateways}, Environment{}); err != nil {
			t.Errorf("%s from MongoDB: %v", more, err)
		}
	}
}

func TestShardKeyIsJoined(t *testing.T) {
	p, err := planOf(`{`+pair+`,"sharding":{"shardingEntries":[{"database":"a","collection":"b","shardCollection":{"key":[{"y":1},{"x":"hashed"},{"z":-1}]}}]}}`,
		replicaSet(8), shardedCluster(8, 2), Environment{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := bson.Marshal(bson.D{{Key: "y", Value: int32(1)}, {Key: "x", Value: "hashed"}, {Key: "z", Value: int32(-1)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Sharding) != 1 || string(p.Sharding[0].Key) != string(want) || p.Sharding[0].Namespace != (Namespace{"a", "b"}) {
		t.Errorf("%v", p.Sharding)
	}
}

// Whatever is sent, the parser gives either a request or one of two errors, and plans are made of requests only.
func FuzzStartBody(f *testing.F) {
	for _, body := range []string{
		`{}`, `{` + pair + `}`, `{` + pair + `,"reversible":true,"enableUserWriteBlocking":"none"}`, `[`, `{"a":{"b":[{"c":null}]}}`,
		`{` + pair + `,"includeNamespaces":[{"databaseRegex":{"pattern":"a b # c","options":"imsx"}}]}`,
		`{` + pair + `,"documentFilter":{"field":"a","matchValues":[{"$numberDecimal":"1E+6000"},{"$numberDouble":"NaN"}]}}`,
		`{` + pair + `,"sharding":{"shardingEntries":[{"database":"a","collection":"b","shardCollection":{"key":[{"x":1}]}}]}}`,
		`{` + pair + `,"namespaceRemap":[{"from":{"database":"a"},"to":{"database":"b"}}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := planOf(string(body), replicaSet(8), replicaSet(8), Environment{})
		if err == nil {
			if p.Filter == nil || p.BuildIndexes == "" || p.WriteBlocking == "" {
				t.Errorf("an unfinished plan: %+v", p)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Name != InvalidRequest && e.Name != InvalidOption || e.Text == "" {
			t.Errorf("%#v", err)
		}
	})
}
