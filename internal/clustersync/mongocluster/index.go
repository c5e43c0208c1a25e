package mongocluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// maxNotUnique is how many of the documents that keep an index from being unique are named.
const maxNotUnique = 100

// CreateIndexes implements [clustersync.Destination] (spec §8.6). All are asked for at once, because a server builds them in one scan; if
// it refuses, one by one, to tell which.
func (c *Cluster) CreateIndexes(ctx context.Context, ns clustersync.Namespace, specs []bson.Raw) ([]clustersync.RefusedIndex, error) {
	specs, err := c.unnamed(ctx, ns, specs)
	if err != nil || len(specs) == 0 {
		return nil, err
	}
	if err = c.createIndexes(ctx, ns, specs); err == nil || !itsOwnFault(err) {
		return nil, err
	}
	var refused []clustersync.RefusedIndex
	for _, spec := range specs {
		if err := c.createIndexes(ctx, ns, []bson.Raw{spec}); err != nil {
			switch {
			case hasCode(err, codeIndexOptions, codeIndexKeySpecs):
			case itsOwnFault(err):
				refused = append(refused, clustersync.RefusedIndex{Name: lookupString(spec, "name"), Err: err})
			default:
				return refused, err
			}
		}
	}
	return refused, nil
}

// unnamed leaves out specs whose name an index has already: it is the same, or newer. The server would say so, but one is known that dies.
func (c *Cluster) unnamed(ctx context.Context, ns clustersync.Namespace, specs []bson.Raw) ([]bson.Raw, error) {
	have, err := c.indexes(ctx, ns)
	if err != nil && !errors.Is(err, clustersync.ErrNotFound) {
		return nil, err
	}
	names := map[string]bool{}
	for _, spec := range have {
		names[lookupString(spec, "name")] = true
	}
	var out []bson.Raw
	for _, spec := range specs {
		if !names[lookupString(spec, "name")] {
			out = append(out, spec)
		}
	}
	return out, nil
}

func (c *Cluster) createIndexes(ctx context.Context, ns clustersync.Namespace, specs []bson.Raw) error {
	var clean []bson.Raw
	for _, spec := range specs {
		clean = append(clean, indexSpec(spec))
	}
	cmd := newDoc().string("createIndexes", ns.Collection).array("indexes", clean).document("writeConcern", marshal(bson.D{{Key: "w", Value: "majority"}}))
	_, err := c.run(ctx, "create indexes of "+ns.String(), ns.Database, cmd.end())
	return err
}

// indexSpec is a spec as createIndexes takes it. Version 2 is everybody's default, and some refuse to hear of versions.
func indexSpec(spec bson.Raw) bson.Raw {
	if lookupInt(spec, "v") == 2 {
		return withoutMember(spec, "ns", "v")
	}
	return withoutMember(spec, "ns")
}

// itsOwnFault tells a refusal of a spec from a server that cannot be reached or does not let the user.
func itsOwnFault(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && !errors.Is(err, clustersync.ErrUnreachable) && !errors.Is(err, clustersync.ErrUnauthorized) && !hasCode(err, codeWritesBlocked)
}

// DropIndex implements [clustersync.Destination].
func (c *Cluster) DropIndex(ctx context.Context, ns clustersync.Namespace, name string) error {
	_, err := c.run(ctx, "drop index "+name+" of "+ns.String(), ns.Database, bson.D{{Key: "dropIndexes", Value: ns.Collection}, {Key: "index", Value: name}, {Key: "writeConcern", Value: majority}})
	if hasCode(err, codeIndexNotFound, codeNamespaceNotFound) {
		return nil
	}
	return err
}

// ModifyIndex implements [clustersync.Destination] (spec §9.2). What collMod lacks, or takes and does not do, is done by making the
// index anew.
func (c *Cluster) ModifyIndex(ctx context.Context, ns clustersync.Namespace, name string, change bson.D) error {
	verb := "modify index " + name + " of " + ns.String()
	caps, err := c.capabilities(ctx)
	if err != nil {
		return err
	}
	if caps.collMod {
		_, err := c.run(ctx, verb, ns.Database, bson.D{{Key: "collMod", Value: ns.Collection},
			{Key: "index", Value: append(bson.D{{Key: "name", Value: name}}, change...)}, {Key: "writeConcern", Value: majority}})
		switch {
		case hasCode(err, codeNotUnique):
			return notUnique(err, name)
		case err != nil && !isUnsupported(err) && !hasCode(err, codeBadValue, codeInvalidOptions, codeUnknownField):
			return err
		}
	}
	spec, err := c.indexNamed(ctx, ns, name)
	if err != nil {
		return err
	}
	if spec == nil {
		return &failure{verb: verb, kind: clustersync.ErrNotFound, err: clustersync.ErrNotFound, text: clustersync.ErrNotFound.Error()}
	}
	if isChanged(spec, change) {
		return nil
	}
	return c.rebuild(ctx, verb, ns, spec, change)
}

// indexNamed returns the spec of an index, nil if there is none.
func (c *Cluster) indexNamed(ctx context.Context, ns clustersync.Namespace, name string) (bson.Raw, error) {
	specs, err := c.indexes(ctx, ns)
	for _, spec := range specs {
		if lookupString(spec, "name") == name {
			return spec, nil
		}
	}
	return nil, err
}

// isChanged reports whether an index is what the change asks for.
func isChanged(spec bson.Raw, change bson.D) bool {
	for _, want := range change {
		switch want.Key {
		case "forceNonUnique":
			if truth(want.Value) && (lookupBool(spec, "unique") || lookupBool(spec, "prepareUnique")) {
				return false
			}
		case "expireAfterSeconds":
			n, err := spec.LookupErr("expireAfterSeconds")
			got, _ := n.AsInt64OK()
			if err != nil || got != number64(want.Value) {
				return false
			}
		case "unique", "hidden":
			if lookupBool(spec, want.Key) != truth(want.Value) {
				return false
			}
		case "prepareUnique":
			if lookupBool(spec, want.Key) != truth(want.Value) && !lookupBool(spec, "unique") {
				return false
			}
		}
	}
	return true
}

// rebuild drops an index and makes it as the change wants it. A server that cannot prepare an index makes it unique at once (spec §9.2).
// If it refuses, the index is made as it was.
func (c *Cluster) rebuild(ctx context.Context, verb string, ns clustersync.Namespace, spec bson.Raw, change bson.D) error {
	name := lookupString(spec, "name")
	wanted := changed(spec, change)
	if lookupBool(wanted, "unique") && !lookupBool(spec, "unique") {
		if err := c.findDuplicates(ctx, ns, wanted); err != nil {
			return err
		}
	}
	if err := c.DropIndex(ctx, ns, name); err != nil {
		return err
	}
	err := c.createIndexes(ctx, ns, []bson.Raw{wanted})
	if err == nil {
		made, lookErr := c.indexNamed(ctx, ns, name)
		if lookErr != nil {
			return lookErr
		}
		if made == nil || !isChanged(made, fallbackOf(change)) {
			err = unsupportedErr(verb, "the server takes the option and forgets it")
		} else {
			return nil
		}
	}
	_ = c.DropIndex(ctx, ns, name)
	if back := c.createIndexes(ctx, ns, []bson.Raw{spec}); back != nil {
		return errors.Join(err, back)
	}
	if hasCode(err, codeDuplicateKey) || hasCode(err, codeInternal) && strings.Contains(err.Error(), uniqueFailed) {
		return &clustersync.NotUniqueError{Index: name}
	}
	if itsOwnFault(err) {
		return unsupportedErr(verb, "it cannot be made this way")
	}
	return err
}

// changed is the spec as the change makes it.
func changed(spec bson.Raw, change bson.D) bson.Raw {
	out := spec
	for _, want := range change {
		switch want.Key {
		case "prepareUnique", "unique":
			out = withoutMember(out, "prepareUnique", "unique")
			if truth(want.Value) {
				out = withMember(out, "unique", value(true))
			}
		case "forceNonUnique":
			out = withoutMember(out, "prepareUnique", "unique")
		case "hidden":
			out = withoutMember(out, "hidden")
			if truth(want.Value) {
				out = withMember(out, "hidden", value(true))
			}
		case "expireAfterSeconds":
			out = withMember(withoutMember(out, "expireAfterSeconds"), "expireAfterSeconds", value(number64(want.Value)))
		}
	}
	return out
}

// fallbackOf is what a rebuilt index can be asked to be.
func fallbackOf(change bson.D) bson.D {
	var out bson.D
	for _, want := range change {
		if want.Key == "prepareUnique" {
			want = bson.E{Key: "unique", Value: want.Value}
		}
		out = append(out, want)
	}
	return out
}

// findDuplicates looks for documents that would keep an index from being unique. Servers without such aggregations say so when the index is made.
func (c *Cluster) findDuplicates(ctx context.Context, ns clustersync.Namespace, spec bson.Raw) error {
	name := lookupString(spec, "name")
	if lookupBool(spec, "sparse") || lookupDoc(spec, "partialFilterExpression") != nil || lookupDoc(spec, "collation") != nil {
		return nil
	}
	var key bson.D
	elements, _ := lookupDoc(spec, "key").Elements()
	for i, e := range elements {
		key = append(key, bson.E{Key: fmt.Sprintf("f%d", i), Value: bson.D{{Key: "$ifNull", Value: bson.A{"$" + e.Key(), nil}}}})
	}
	groups, err := c.all(ctx, "look for duplicates in "+ns.String(), ns.Database, bson.D{{Key: "aggregate", Value: ns.Collection}, {Key: "pipeline", Value: bson.A{
		bson.D{{Key: "$group", Value: bson.D{{Key: "_id", Value: key}, {Key: "ids", Value: bson.D{{Key: "$push", Value: "$_id"}}}, {Key: "n", Value: bson.D{{Key: "$sum", Value: 1}}}}}},
		bson.D{{Key: "$match", Value: bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 1}}}}}},
		bson.D{{Key: "$limit", Value: maxNotUnique}}}}, {Key: "allowDiskUse", Value: true}, {Key: "cursor", Value: bson.D{}}})
	if err != nil {
		return passingOnly(err)
	}
	var ids []bson.RawValue
	for _, group := range groups {
		ids = append(ids, arrayValues(group, "ids")...)
	}
	if len(ids) == 0 {
		return nil
	}
	return &clustersync.NotUniqueError{Index: name, IDs: ids[:min(len(ids), maxNotUnique)]}
}

// notUnique reads which documents are named by error 359.
func notUnique(err error, name string) error {
	out := &clustersync.NotUniqueError{Index: name}
	var command mongo.CommandError
	if errors.As(err, &command) {
		violations, _ := documents(command.Raw, "violations")
		for _, v := range violations {
			out.IDs = append(out.IDs, arrayValues(v, "ids")...)
		}
	}
	out.IDs = out.IDs[:min(len(out.IDs), maxNotUnique)]
	return out
}

func arrayValues(doc bson.Raw, name string) []bson.RawValue {
	v, err := doc.LookupErr(name)
	if err != nil {
		return nil
	}
	array, _ := v.ArrayOK()
	values, _ := array.Values()
	return values
}

// value makes a raw value of a Go one.
func value(v any) bson.RawValue { return marshal(bson.D{{Key: "v", Value: v}}).Lookup("v") }

func truth(v any) bool {
	b, ok := v.(bool)
	return ok && b
}

func number64(v any) int64 {
	n, _ := value(v).AsInt64OK()
	return n
}
