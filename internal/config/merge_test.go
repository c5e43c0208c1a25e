package config

import (
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	const base = `{"sync":"function(d){}","revs_limit":30,"password":"p1","cache":{"rev_cache":{"size":5},"channel_cache":{"max_length":7}},
		"cors":{"origin":["http://a"],"max_age":3},"scopes":{"s":{"collections":{"c1":{"sync":"function(){}"}}}},
		"replications":{"r":{"remote":"http://u:p2@h/d","direction":"pull","continuous":true}}}`
	for _, tc := range []struct{ name, patch, want string }{
		{"nothing", `{}`, base},
		{"a field", `{"revs_limit":40}`, strings.Replace(base, `"revs_limit":30`, `"revs_limit":40`, 1)},
		{"null resets", `{"revs_limit":null}`, strings.Replace(base, `"revs_limit":30,`, ``, 1)},
		{"objects member by member", `{"cache":{"rev_cache":{"size":6}}}`, strings.Replace(base, `"size":5`, `"size":6`, 1)},
		{"null in an object", `{"cache":{"rev_cache":null}}`, strings.Replace(base, `"rev_cache":{"size":5},`, ``, 1)},
		{"arrays as a whole", `{"cors":{"origin":["http://b"]}}`, strings.Replace(base, `["http://a"]`, `["http://b"]`, 1)},
		{"a new member of a map", `{"scopes":{"s":{"collections":{"c2":{}}}}}`, strings.Replace(base, `"c1":{"sync":"function(){}"}`, `"c1":{"sync":"function(){}"},"c2":{}`, 1)},
		{"a member of a map", `{"scopes":{"s":{"collections":{"c1":null}}}}`, strings.Replace(base, `"c1":{"sync":"function(){}"}`, ``, 1)},
		{"a replication in a map", `{"replications":{"r":{"continuous":false}}}`, strings.Replace(base, `"continuous":true`, `"continuous":false`, 1)},
		{"a replication in an array", `{"replications":[{"replication_id":"r","continuous":false}]}`, strings.Replace(base, `"continuous":true`, `"continuous":false`, 1)},
		{"a replication goes", `{"replications":{"r":null}}`, strings.Replace(base, `"r":{"remote":"http://u:p2@h/d","direction":"pull","continuous":true}`, ``, 1)},
		{"masks", `{"password":"xxxxx","replications":{"r":{"remote":"http://u:****@h/d"}}}`, base},
		{"an older spelling", `{"rev_cache_size":6}`, strings.Replace(base, `"size":5`, `"size":6`, 1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old := mustParse(t, base)
			before := string(old.Encode())
			got, err := old.Merge([]byte(tc.patch))
			if err != nil {
				t.Fatal(err)
			}
			if want := mustParse(t, tc.want); string(got.Encode()) != string(want.Encode()) {
				t.Errorf("got  %s\nwant %s", got.Encode(), want.Encode())
			}
			if string(old.Encode()) != before {
				t.Error("the old config was changed")
			}
		})
	}
}

func TestMergeRefusesWhatParseRefuses(t *testing.T) {
	for _, patch := range []string{`{"sink":1}`, `{"revs_limit":"x"}`, `[]`, `{`, `{"users":{}}`, `{"cache":{"rev_cache":{"sise":1}}}`} {
		if _, err := mustParse(t, `{"revs_limit":5}`).Merge([]byte(patch)); err == nil {
			t.Errorf("%s was accepted", patch)
		}
	}
}
