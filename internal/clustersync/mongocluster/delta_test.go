package mongocluster

import (
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestDeltaUpdates(t *testing.T) {
	for _, c := range []struct{ delta, want string }{
		{`{}`, ``},
		{`{"updatedFields":{"a":1,"b.c":2},"removedFields":["d"]}`, `{"$set":{"a":1,"b.c":2},"$unset":{"d":""}}`},
		{`{"removedFields":["d"]}`, `{"$unset":{"d":""}}`},
		// A path that is cut and set goes in two updates.
		{`{"updatedFields":{"a.0":9},"removedFields":[],"truncatedArrays":[{"field":"a","newSize":2}]}`,
			`{"$push":{"a":{"$each":[],"$slice":2}}} {"$set":{"a.0":9}}`},
		// An index is what $set takes digits for.
		{`{"updatedFields":{"a.0":1},"disambiguatedPaths":{"a.0":["a",0]}}`, `{"$set":{"a.0":1}}`},
		// A field that is all digits, and ones with dots and dollars, are followed by name.
		{`{"updatedFields":{"a.0":1},"disambiguatedPaths":{"a.0":["a","0"]}}`,
			`[{"$replaceWith":{"$setField":{"field":{"$literal":"a"},"input":"$$ROOT","value":{"$setField":{"field":{"$literal":"0"},"input":{"$getField":{"field":{"$literal":"a"},"input":"$$ROOT"}},"value":{"$literal":1}}}}}}]`},
		{`{"updatedFields":{"$x":1}}`, `[{"$replaceWith":{"$setField":{"field":{"$literal":"$x"},"input":"$$ROOT","value":{"$literal":1}}}}]`},
		{`{"removedFields":["a.b"],"disambiguatedPaths":{"a.b":["a.b"]}}`, `[{"$replaceWith":{"$setField":{"field":{"$literal":"a.b"},"input":"$$ROOT","value":"$$REMOVE"}}}]`},
	} {
		updates, err := deltaUpdates(parse(t, c.delta))
		if err != nil {
			t.Errorf("%s: %v", c.delta, err)
			continue
		}
		var texts []string
		for _, u := range updates {
			text := relaxed(u.doc)
			if u.pipeline {
				text = "[" + text + "]"
			}
			texts = append(texts, text)
		}
		if got := strings.Join(texts, " "); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.delta, got, c.want)
		}
	}
	if _, err := deltaUpdates(parse(t, `{"updatedFields":{"a.0.$b":1},"disambiguatedPaths":{"a.0.$b":["a",0,"$b"]}}`)); !isUnsupported(err) {
		t.Errorf("a path through an array to an odd name: %v, want ErrUnsupported", err)
	}
}

// TestDeltaPieces: no update is larger than the server's buffer takes (spec §8.5).
func TestDeltaPieces(t *testing.T) {
	var fields bson.D
	for i := range 250 {
		fields = append(fields, bson.E{Key: fmt.Sprintf("f%03d", i), Value: int32(i)})
	}
	fields = append(fields, bson.E{Key: "long", Value: strings.Repeat("x", maxDeltaBytes)}, bson.E{Key: "last", Value: 1})
	updates, err := deltaUpdates(marshal(bson.D{{Key: "updatedFields", Value: fields}}))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, u := range updates {
		elements, _ := lookupDoc(u.doc, "$set").Elements()
		total += len(elements)
		if len(elements) > maxDeltaFields || len(elements) > 1 && len(u.doc) > maxDeltaBytes+100 {
			t.Errorf("an update has %d fields and %d bytes", len(elements), len(u.doc))
		}
	}
	if total != 252 || len(updates) < 4 {
		t.Errorf("%d fields in %d updates, want 252", total, len(updates))
	}
}

func parse(t *testing.T, text string) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		t.Fatal(err)
	}
	return marshal(d)
}

func relaxed(doc bson.Raw) string {
	text, err := bson.MarshalExtJSON(doc, false, false)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
