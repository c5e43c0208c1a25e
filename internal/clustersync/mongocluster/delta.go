package mongocluster

import (
	"context"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of one update: the server's own buffer for them overflows on huge ones (spec §8.5).
const (
	maxDeltaFields = 100
	maxDeltaBytes  = 512 << 10
)

// ApplyDelta implements [clustersync.Destination] (spec §8.5).
func (c *Cluster) ApplyDelta(ctx context.Context, ns clustersync.Namespace, key clustersync.Key, delta bson.Raw) error {
	id, err := key.Raw.LookupErr("_id")
	if err != nil {
		return c.failed("apply update", err)
	}
	updates, err := deltaUpdates(delta)
	if err != nil {
		return err
	}
	ops := make([]bson.Raw, len(updates))
	for i, u := range updates {
		op := newDoc().document("q", newDoc().append("_id", id).end())
		if u.pipeline {
			op.array("u", []bson.Raw{u.doc})
		} else {
			op.document("u", u.doc)
		}
		ops[i] = op.boolean("upsert", false).end()
	}
	_, failed, err := write{command: "update", list: "updates", ns: ns, ordered: true, bypass: true}.send(ctx, c, ops)
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		return failed[0].error()
	}
	return nil
}

type deltaUpdate struct {
	doc      bson.Raw
	pipeline bool
}

// deltaUpdates turns an updateDescription into updates, to be sent in their order: truncations first, because a path cannot be cut and set
// in one update; then sets and unsets in pieces.
func deltaUpdates(delta bson.Raw) ([]deltaUpdate, error) {
	truncated, err := truncations(delta)
	if err != nil {
		return nil, err
	}
	b := deltaBuilder{ambiguous: lookupDoc(delta, "disambiguatedPaths"), updates: truncated}
	updated, _ := lookupDoc(delta, "updatedFields").Elements()
	for _, e := range updated {
		if err := b.set(e.Key(), e.Value()); err != nil {
			return nil, err
		}
	}
	if removed, err := delta.LookupErr("removedFields"); err == nil {
		array, _ := removed.ArrayOK()
		values, _ := array.Values()
		for _, v := range values {
			if err := b.unset(text(v)); err != nil {
				return nil, err
			}
		}
	}
	b.cut()
	return b.updates, nil
}

func truncations(delta bson.Raw) ([]deltaUpdate, error) {
	if _, err := delta.LookupErr("truncatedArrays"); err != nil {
		return nil, nil
	}
	cuts, err := documents(delta, "truncatedArrays")
	var out []deltaUpdate
	for _, cut := range cuts {
		field, size := lookupString(cut, "field"), lookupInt(cut, "newSize")
		out = append(out, deltaUpdate{doc: marshal(bson.D{{Key: "$push", Value: bson.D{{Key: field, Value: bson.D{{Key: "$each", Value: bson.A{}}, {Key: "$slice", Value: size}}}}}})})
	}
	return out, err
}

// deltaBuilder collects sets and unsets into updates that are not too large.
type deltaBuilder struct {
	ambiguous bson.Raw
	updates   []deltaUpdate
	sets      *doc
	unsets    *doc
	fields    int
}

func (b *deltaBuilder) set(path string, value bson.RawValue) error {
	if steps, odd, err := b.oddPath(path); err != nil {
		return err
	} else if odd {
		b.cut()
		b.updates = append(b.updates, setField(steps, &value))
		return nil
	}
	b.room(len(value.Value) + len(path))
	b.sets.append(path, value)
	b.fields++
	return nil
}

func (b *deltaBuilder) unset(path string) error {
	if steps, odd, err := b.oddPath(path); err != nil {
		return err
	} else if odd {
		b.cut()
		b.updates = append(b.updates, setField(steps, nil))
		return nil
	}
	b.room(len(path))
	b.unsets.string(path, "")
	b.fields++
	return nil
}

func (b *deltaBuilder) room(bytes int) {
	if b.sets != nil && (b.fields >= maxDeltaFields || len(b.sets.bytes)+len(b.unsets.bytes)+bytes > maxDeltaBytes) {
		b.cut()
	}
	if b.sets == nil {
		b.sets, b.unsets = newDoc(), newDoc()
	}
}

func (b *deltaBuilder) cut() {
	if b.sets == nil {
		return
	}
	u := newDoc()
	if sets := b.sets.end(); len(sets) > 5 {
		u.document("$set", sets)
	}
	if unsets := b.unsets.end(); len(unsets) > 5 {
		u.document("$unset", unsets)
	}
	if update := u.end(); len(update) > 5 {
		b.updates = append(b.updates, deltaUpdate{doc: update})
	}
	b.sets, b.unsets, b.fields = nil, nil, 0
}

// oddPath tells paths that $set would read otherwise: with a field name that has a dot, begins with a dollar or is all digits (spec §8.5).
// Such a path is followed by name, which works through documents; through arrays it does not.
func (b *deltaBuilder) oddPath(path string) (steps []string, odd bool, err error) {
	value, lookup := b.ambiguous.LookupErr(path)
	if lookup != nil {
		if !strings.HasPrefix(path, "$") && !strings.Contains(path, ".$") {
			return nil, false, nil
		}
		return strings.Split(path, "."), true, nil
	}
	array, _ := value.ArrayOK()
	values, err := array.Values()
	if err != nil {
		return nil, false, err
	}
	indexed, named := false, false
	for _, v := range values {
		if name, ok := v.StringValueOK(); ok {
			steps = append(steps, name)
			named = named || strings.Contains(name, ".") || strings.HasPrefix(name, "$") || isDigits(name)
			continue
		}
		indexed = true
		n, _ := v.AsInt64OK()
		steps = append(steps, strconv.FormatInt(n, 10))
	}
	if named && indexed {
		return nil, false, unsupportedErr("apply update", "a path through an array to a field with an odd name")
	}
	return steps, named, nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// setField is a pipeline stage that sets the field at the end of a path of names, or removes it.
func setField(steps []string, value *bson.RawValue) deltaUpdate {
	var leaf any = "$$REMOVE"
	if value != nil {
		leaf = bson.D{{Key: "$literal", Value: *value}}
	}
	expression := leaf
	for i := len(steps) - 1; i >= 0; i-- {
		input := any("$$ROOT")
		for _, step := range steps[:i] {
			input = bson.D{{Key: "$getField", Value: bson.D{{Key: "field", Value: bson.D{{Key: "$literal", Value: step}}}, {Key: "input", Value: input}}}}
		}
		expression = bson.D{{Key: "$setField", Value: bson.D{{Key: "field", Value: bson.D{{Key: "$literal", Value: steps[i]}}}, {Key: "input", Value: input}, {Key: "value", Value: expression}}}}
	}
	return deltaUpdate{doc: marshal(bson.D{{Key: "$replaceWith", Value: expression}}), pipeline: true}
}
