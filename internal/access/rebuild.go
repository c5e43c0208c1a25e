package access

import (
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// granted is everything that documents grant to one principal, of several grants the lowest sequence.
type granted struct {
	channels map[store.Collection]tidegate.Grants
	roles    tidegate.Grants
}

// scanGrants reads what all documents grant to a principal by the generations that are live.
func scanGrants(rd store.Reader, space store.Space, routing *store.Routing, principal string) (granted, error) {
	g := granted{channels: map[store.Collection]tidegate.Grants{}, roles: tidegate.Grants{}}
	prefix := store.NewKey(space, store.KindGrant).Name(principal)
	it := rd.Scan(store.Prefix(prefix))
	defer it.Close()
	for it.Next() {
		physical, _, err := store.CutCollection(it.Key()[len(prefix):])
		if err != nil {
			return g, err
		}
		coll, live := routing.Logical(physical)
		if !live {
			continue
		}
		set, err := decodeGrants(it.Value())
		if err != nil {
			return g, err
		}
		if len(set.channels) > 0 && g.channels[coll] == nil {
			g.channels[coll] = tidegate.Grants{}
		}
		addGrants(g.channels[coll], set.channels)
		addGrants(g.roles, set.roles)
	}
	return g, it.Err()
}

// addGrants adds more to g.
func addGrants(g, more tidegate.Grants) {
	for name, at := range more {
		g.Add(name, at)
	}
}

// rebuild returns the record with what the principal has by itself computed anew from its explicit grants
// and those of all documents; what it had and no longer has goes to its history, as lost at sequence at
// (sync-function.md §6). rec is not changed.
func rebuild(rec *record, docs granted, at tidegate.Seq, window time.Duration, now time.Time) *record {
	next := rec.clone()
	next.channels = make(map[store.Collection]holding)
	if !rec.deleted {
		for coll := range merged(rec.explicit, docs.channels) {
			next.channels[coll] = hold(rec.channels[coll], rec.since, rec.explicit[coll], docs.channels[coll])
		}
		next.roles = hold(rec.roles, rec.since, rec.explicitRoles, docs.roles)
	} else {
		next.roles = holding{}
	}
	forgetBefore := now.Add(-window)
	next.lost = make(map[store.Collection]history)
	for coll := range merged(rec.lost, rec.channels) {
		lost := rec.lost[coll].add(rec.channels[coll], next.channels[coll], at, now).trim(forgetBefore)
		if len(lost) > 0 {
			next.lost[coll] = lost
		}
	}
	next.lostRoles = rec.lostRoles.add(rec.roles, next.roles, at, now).trim(forgetBefore)
	return next
}

// hold unites grants from several sources. None counts as older than since. old is what the principal had
// before.
func hold(old holding, since tidegate.Seq, sources ...tidegate.Grants) holding {
	h := holding{grants: tidegate.Grants{}}
	for _, source := range sources {
		for name, at := range source {
			h.grants.Add(name, max(at, since))
		}
	}
	for name, at := range h.grants {
		if _, had := old.grants[name]; !had {
			continue
		}
		if since := old.heldSince(name); since < at {
			if h.earlier == nil {
				h.earlier = tidegate.Grants{}
			}
			h.earlier[name] = since
		}
	}
	return h
}

// merged returns the keys of both maps.
func merged[V, W any](a map[store.Collection]V, b map[store.Collection]W) map[store.Collection]struct{} {
	keys := make(map[store.Collection]struct{}, len(a)+len(b))
	for k := range a {
		keys[k] = struct{}{}
	}
	for k := range b {
		keys[k] = struct{}{}
	}
	return keys
}
