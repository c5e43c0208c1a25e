package devicesync

import (
	"encoding/json"
	"fmt"
)

// routing is the sync function of partition mode (device-sync.md §9.4): each document is in the channel named by the value of one field.
// Its verbs are the field's name as a string, and whether the field is required.
const routing = `function (doc) {
	var value = doc[%[1]s];
	if (value === undefined || value === null) {
		if (%[2]t && !doc._deleted) {
			throw({forbidden: "the partition key is missing"});
		}
		return;
	}
	if (typeof value !== "string" && typeof value !== "number") {
		throw({forbidden: "the partition key must be a string or a number"});
	}
	channel("" + value);
}`

// RoutingFunction is the source of the sync function that takes the place of the configured ones in partition mode; "" in any other.
func (r *Row) RoutingFunction() string {
	p := r.Config.Partition
	if r.Record.State == Terminated || r.Config.Mode != Partition || p == nil {
		return ""
	}
	key, err := json.Marshal(p.Key) // a string: it cannot fail
	if err != nil {
		return ""
	}
	return fmt.Sprintf(routing, key, p.Required)
}
