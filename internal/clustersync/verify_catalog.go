package clustersync

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// notCompared says why the documents of a pair are not compared; "" if they are (spec §18.1).
func notCompared(p Pair) string {
	switch {
	case p.Source.Type == View:
		return "a view has no documents"
	case p.Source.Type == TimeSeries:
		return "time-series collections are not synced"
	case p.Source.Capped:
		return "a capped collection forgets documents on each side by itself"
	default:
		return ""
	}
}

// catalogRules say what of a catalog is compared.
type catalogRules struct {
	during  bool // in a sync: unique, TTL, hidden and the sizes of capped collections come after the comparison (spec §9.2)
	indexes func(Pair) []bson.Raw
	foreign func(Namespace) bool
	include func(Namespace) bool // of the destination's names that no pair has; nil: those in databases that pairs have
}

// compareCatalogs lists both clusters anew, since the pairs may have been listed long ago.
func (v *Verifier) compareCatalogs(ctx context.Context) ([]Difference, error) {
	pairs, err := v.cfg.Pairs(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := v.cfg.Source.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the source: %w", err)
	}
	now := map[string]Collection{}
	for _, c := range listed {
		now[refKey(c.Ref)] = c
	}
	var gone []Difference
	for i, p := range pairs {
		key := refKey(p.Source.Ref)
		c, ok := now[key]
		switch {
		case !ok:
			gone = append(gone, Difference{Destination: p.Destination.String(), What: ExtraCollection})
		case notCompared(p) == "" && !v.isHashed(key):
			return nil, fmt.Errorf("%s is not hashed yet: %w", p.Source.Namespace, ErrUnreachable) // and so it is asked again
		default:
			pairs[i].Source = c
		}
		delete(now, key)
	}
	out, err := v.both.catalogs(ctx, pairs, catalogRules{during: true, indexes: v.cfg.Indexes, foreign: v.cfg.Foreign})
	for _, c := range now {
		if c.Type == Plain && v.cfg.Include != nil && v.cfg.Include(c.Namespace) {
			out = append(out, Difference{Source: c.String(), What: MissingCollection})
		}
	}
	return append(out, gone...), err
}

func (v *Verifier) isHashed(pair string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.hashed[pair]
}

// catalogs compares collections, options, indexes and views of the pairs with what the destination lists.
func (s sides) catalogs(ctx context.Context, pairs []Pair, rules catalogRules) ([]Difference, error) {
	listed, err := s.destination.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the destination: %w", err)
	}
	there := make(map[Namespace]Collection, len(listed))
	for _, c := range listed {
		there[c.Namespace] = c
	}
	var out []Difference
	databases := map[string]bool{}
	for _, p := range pairs {
		if s.mixed() && p.Source.Type == View {
			continue // it has no counterpart
		}
		databases[p.Destination.Database] = true
		c, ok := there[p.Destination]
		delete(there, p.Destination)
		if !ok {
			out = append(out, Difference{Source: p.Source.String(), Destination: p.Destination.String(), What: MissingCollection})
			continue
		}
		if !s.mixed() {
			out = append(out, compareCollections(p, c, rules)...)
		}
	}
	for ns, c := range there {
		mine := databases[ns.Database]
		if rules.include != nil {
			mine = rules.include(ns)
		}
		if mine && (rules.foreign == nil || !rules.foreign(ns)) && !strings.HasPrefix(ns.Collection, "system.") {
			out = append(out, Difference{Destination: ns.String(), What: ExtraCollection, Detail: string(c.Type)})
		}
	}
	slices.SortFunc(out, func(a, b Difference) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

func compareCollections(p Pair, c Collection, rules catalogRules) []Difference {
	differs := func(what DifferenceKind, detail string) Difference {
		return Difference{Source: p.Source.String(), Destination: p.Destination.String(), What: what, Detail: detail}
	}
	if p.Source.Type != c.Type {
		return []Difference{differs(OtherOptions, fmt.Sprintf("%s and %s", p.Source.Type, c.Type))}
	}
	var out []Difference
	a, b := normalOptions(p.Source.Options, rules.during), normalOptions(c.Options, rules.during)
	if names := differentMembers(a, b); len(names) > 0 {
		out = append(out, differs(OtherOptions, strings.Join(names, ", ")))
	}
	wanted := p.Source.Indexes
	if rules.indexes != nil {
		wanted = rules.indexes(p)
	}
	if names := differentMembers(indexesByName(wanted, rules.during), indexesByName(c.Indexes, rules.during)); len(names) > 0 {
		out = append(out, differs(OtherIndexes, strings.Join(names, ", ")))
	}
	return out
}

// normalOptions are the options of a collection that mean something, each as text.
func normalOptions(options bson.Raw, during bool) map[string]string {
	out := memberTexts(options)
	for _, name := range []string{"uuid", "autoIndexId", "flags", "ns", "idIndex"} {
		delete(out, name)
	}
	// What is not said means these.
	for name, usual := range map[string]string{
		"validationLevel": `"strict"`, "validationAction": `"error"`, "validator": `{}`, "pipeline": `[]`,
		"changeStreamPreAndPostImages": `{"enabled":false}`, "capped": "false",
	} {
		if strings.ReplaceAll(out[name], " ", "") == usual {
			delete(out, name)
		}
	}
	if _, capped := out["capped"]; capped && during {
		delete(out, "size")
		delete(out, "max")
	}
	return out
}

// indexesByName are the specs of indexes, each as text, by their names.
func indexesByName(specs []bson.Raw, during bool) map[string]string {
	out := map[string]string{}
	for _, spec := range specs {
		name, _ := spec.Lookup("name").StringValueOK()
		m := memberTexts(spec)
		for _, member := range []string{"ns", "v", "background", "dropDups", "name"} {
			delete(m, member)
		}
		if during {
			for _, member := range []string{"unique", "prepareUnique", "hidden", "expireAfterSeconds"} {
				delete(m, member)
			}
		}
		for member, text := range m {
			if text == "false" {
				delete(m, member) // as if it were not said
			}
		}
		m["key"] = keyPattern(spec.Lookup("key"))
		out[name] = fmt.Sprint(m) // sorted by member
	}
	return out
}

// keyPattern writes the keys of an index in one way: old ones have 0, true or "" for 1 (spec §9.1).
func keyPattern(v bson.RawValue) string {
	doc, ok := v.DocumentOK()
	if !ok {
		return ""
	}
	elements, err := doc.Elements()
	if err != nil {
		return ""
	}
	var out []string
	for _, e := range elements {
		direction := "1"
		if s, ok := e.Value().StringValueOK(); ok && s != "" {
			direction = s
		} else if f, ok := asNumber(e.Value()); ok && f < 0 {
			direction = "-1"
		}
		out = append(out, e.Key()+":"+direction)
	}
	return strings.Join(out, ",")
}

// memberTexts are those of a document, each as text. Numbers are written alike whatever their type.
func memberTexts(doc bson.Raw) map[string]string {
	out := map[string]string{}
	elements, err := doc.Elements()
	if err != nil {
		return out
	}
	for _, e := range elements {
		if f, ok := asNumber(e.Value()); ok {
			out[e.Key()] = fmt.Sprint(f)
			continue
		}
		text, err := bson.MarshalExtJSON(bson.D{{Key: "v", Value: e.Value()}}, false, false)
		if err != nil {
			text = []byte(e.Value().String())
		}
		out[e.Key()] = strings.TrimSuffix(strings.TrimPrefix(string(text), `{"v":`), "}")
	}
	return out
}

// asNumber is the value of a number.
func asNumber(v bson.RawValue) (float64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return float64(v.Int32()), true
	case bson.TypeInt64:
		return float64(v.Int64()), true
	case bson.TypeDouble:
		return v.Double(), true
	default:
		return 0, false
	}
}

// differentMembers are the names whose texts are not the same, sorted.
func differentMembers(a, b map[string]string) []string {
	different := map[string]bool{}
	for name, text := range a {
		if other, ok := b[name]; !ok || other != text {
			different[name] = true
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			different[name] = true
		}
	}
	return slices.Sorted(maps.Keys(different))
}

// memberDifference names the members of two documents that are not the same, never what they hold.
func memberDifference(a, b []byte, isBSON bool) string {
	var x, y map[string]string
	if isBSON {
		x, y = rawMembers(a), rawMembers(b)
	} else {
		x, y = jsonMembers(a), jsonMembers(b)
	}
	if x == nil || y == nil {
		return ""
	}
	names := differentMembers(x, y)
	if len(names) == 0 {
		return "the order of members"
	}
	if n := len(names); n > maxListedFields {
		names = append(names[:maxListedFields], fmt.Sprintf("and %d more", n-maxListedFields))
	}
	return "members " + strings.Join(names, ", ")
}

// rawMembers are those of a document as bytes, so that types count.
func rawMembers(doc bson.Raw) map[string]string {
	elements, err := doc.Elements()
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, e := range elements {
		out[e.Key()] += string(rune(e.Value().Type)) + string(e.Value().Value)
	}
	return out
}

func jsonMembers(doc []byte) map[string]string {
	var m map[string]json.RawMessage
	if json.Unmarshal(doc, &m) != nil {
		return nil
	}
	out := map[string]string{}
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}
