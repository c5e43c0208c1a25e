package gatewaycluster_test

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// TestAmend: a stream that goes on after a crash tells how the collections differ from those that the sync has on record, whatever its
// position says.
func TestAmend(t *testing.T) {
	r := newRig(t)
	c := r.cluster()
	r.must("PUT", "/db/", `{"scopes":{"_default":{"collections":{"stays":{},"again":{},"remade":{}}}}}`)
	r.must("PUT", "/db._default.stays/before", `{}`)
	r.must("PUT", "/db._default.remade/before", `{}`)
	r.must("PUT", "/old/", `{}`)
	listed, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]clustersync.Ref{}
	for _, coll := range listed {
		known[coll.String()] = coll.Ref
	}
	from := mark(t, c)
	r.must("PUT", "/db._default.again/d", `{}`)
	r.must("PUT", "/db._default.stays/d", `{}`)
	r.must("DELETE", "/old/?purge=true", "")

	// The sync has on record: stays; no again, which it saw dropped; made, which is dropped since; a collection of a database that is no more;
	// remade, which it saw made after the position.
	records := []clustersync.Known{
		{Ref: known["db._default.stays"]}, {Ref: clustersync.Ref{Namespace: ns("db", "_default.made"), UUID: "of another time"}},
		{Ref: known["old._default._default"]}, {Ref: known["db._default.remade"], Made: bson.Timestamp{T: from.Time.T + 1}},
	}
	amended, err := c.Amend(t.Context(), from, records, func(clustersync.Namespace) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	stream, err := c.Changes(t.Context(), amended)
	if err != nil {
		t.Fatal(err)
	}
	to := mark(t, c)
	for at := amended; !c.Reached(at, to); {
		var events []clustersync.Event
		events, at, err = stream.Next(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			told[fmt.Sprint(e.Op, " ", e.Ref.Namespace)] = true
			if e.Ref == known["db._default.stays"] && e.Doc.Key.ID == "before" {
				t.Error("what was told before is told again")
			}
		}
	}
	for _, want := range []string{
		fmt.Sprint(clustersync.OpCreate, " db._default.again"), fmt.Sprint(clustersync.OpDrop, " db._default.made"),
		fmt.Sprint(clustersync.OpDrop, " old._default._default"), fmt.Sprint(clustersync.OpTouched, " db._default.stays"),
		fmt.Sprint(clustersync.OpTouched, " db._default.again"), fmt.Sprint(clustersync.OpTouched, " db._default.remade"),
	} {
		if !told[want] {
			t.Errorf("%q is not told; told: %v", want, told)
		}
	}
	if len(told) != 6 {
		t.Errorf("told: %v", told)
	}
}
