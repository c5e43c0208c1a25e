package access

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// DocGrants are the grants that one document makes by its current revision.
type DocGrants struct {
	Access map[string]tidegate.Grants // "bob" or "role:r" → channel → since which sequence
	Roles  map[string]tidegate.Grants // user → role (without prefix) → since which sequence
}

// WriteGrants stores the change of a document's grants inside a transaction that gives the document the
// sequence seq. old are the grants stored before, new those from now on; nil is none.
//
// A grant that continues keeps the sequence it has in old, whatever new says; a new one with sequence 0
// gets seq. Neither argument is changed. A seq of 0 stands for a change that has none, like a purge: one is
// taken if any grant changes, since readers have to learn of it.
//
// It returns the principals whose grants changed ("user:bob", "role:r"). They are marked for a rebuild as
// of seq; the caller gives them to Registry.Invalidate once the transaction is done.
func WriteGrants(tx store.Tx, space store.Space, coll store.Collection, docID string, old, new *DocGrants, seq tidegate.Seq) (changed []string, err error) {
	before, after := old.byPrincipal(), new.byPrincipal()
	for _, principal := range unionKeys(before, after) {
		was, is := before[principal], after[principal].carry(before[principal])
		if is.equal(was) {
			continue
		}
		if seq == 0 {
			if seq, err = tx.NextSequence(space); err != nil {
				return nil, err
			}
		}
		key := grantRow(space, principal, coll, docID)
		if is.empty() {
			err = tx.Delete(key)
		} else {
			err = tx.Put(key, is.at(seq).encode())
		}
		if err != nil {
			return nil, err
		}
		changed = append(changed, principal)
	}
	return changed, markAll(tx, space, changed, seq)
}

// grantSet is what one document grants to one principal. A sequence of 0 is that of the write under way.
type grantSet struct{ channels, roles tidegate.Grants }

// byPrincipal turns a document's grants round: principal → what it is granted.
func (g *DocGrants) byPrincipal() map[string]grantSet {
	if g == nil {
		return nil
	}
	into := make(map[string]grantSet, len(g.Access)+len(g.Roles))
	for name, channels := range g.Access {
		principal := name
		if !strings.HasPrefix(name, rolePrefix) {
			principal = userPrefix + name
		}
		set := into[principal]
		set.channels = channels
		into[principal] = set
	}
	for name, roles := range g.Roles {
		set := into[userPrefix+name]
		set.roles = roles
		into[userPrefix+name] = set
	}
	return into
}

// carry gives grants that are in old too the sequence they have there.
func (s grantSet) carry(old grantSet) grantSet {
	return grantSet{carry(s.channels, old.channels), carry(s.roles, old.roles)}
}

func carry(g, old tidegate.Grants) tidegate.Grants {
	if len(g) == 0 || len(old) == 0 {
		return g
	}
	carried := maps.Clone(g)
	for name := range g {
		if at, ok := old[name]; ok {
			carried[name] = at
		}
	}
	return carried
}

func (s grantSet) equal(o grantSet) bool {
	return maps.Equal(s.channels, o.channels) && maps.Equal(s.roles, o.roles)
}

func (s grantSet) empty() bool { return len(s.channels) == 0 && len(s.roles) == 0 }

// at replaces sequences of 0 by seq.
func (s grantSet) at(seq tidegate.Seq) grantSet {
	return grantSet{replaceZero(s.channels, seq), replaceZero(s.roles, seq)}
}

func replaceZero(g tidegate.Grants, seq tidegate.Seq) tidegate.Grants {
	filled := make(tidegate.Grants, len(g))
	for name, at := range g {
		filled[name] = cmp.Or(at, seq)
	}
	return filled
}

func (s grantSet) encode() []byte {
	w := writer{b: append(make([]byte, 0, 64), grantsVersion)}
	w.grants(s.channels)
	w.grants(s.roles)
	return w.b
}

func decodeGrants(b []byte) (grantSet, error) {
	r := reader{b: b}
	r.version(grantsVersion)
	s := grantSet{channels: r.grants(), roles: r.grants()}
	return s, r.end("grant")
}

// unionKeys returns the keys of both maps in order.
func unionKeys(a, b map[string]grantSet) []string {
	keys := slices.AppendSeq(make([]string, 0, len(a)+len(b)), maps.Keys(a))
	keys = slices.AppendSeq(keys, maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// pendingMark says that a principal must be rebuilt before it is used: what it was granted changed at the
// sequences from first to last.
type pendingMark struct{ first, last tidegate.Seq }

func (m pendingMark) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(m.first))
	return binary.BigEndian.AppendUint64(b, uint64(m.last))
}

func decodeMark(b []byte) (pendingMark, error) {
	if len(b) != 16 {
		return pendingMark{}, tidegate.Errorf(tidegate.Corrupt, "a stored mark of a principal does not make sense")
	}
	return pendingMark{
		first: tidegate.Seq(binary.BigEndian.Uint64(b)),
		last:  tidegate.Seq(binary.BigEndian.Uint64(b[8:])),
	}, nil
}

// mark notes that a principal must be rebuilt as of seq. The lowest sequence stays until the rebuild.
func mark(tx store.Tx, space store.Space, principal string, seq tidegate.Seq) error {
	return markRow(tx, invalidRow(space, principal), pendingMark{first: seq, last: seq})
}

// markRow unites a mark with the one that is stored.
func markRow(tx store.Tx, key store.Key, m pendingMark) error {
	b, err := tx.Get(key)
	if err != nil {
		return err
	}
	if b != nil {
		was, err := decodeMark(b)
		if err != nil {
			return err
		}
		m = pendingMark{first: min(was.first, m.first), last: max(was.last, m.last)}
	}
	return tx.Put(key, m.encode())
}

// markAll marks principals for a rebuild and tells everybody by an event at seq.
func markAll(tx store.Tx, space store.Space, principals []string, seq tidegate.Seq) error {
	for _, principal := range principals {
		if err := mark(tx, space, principal, seq); err != nil {
			return err
		}
	}
	return writeEvents(tx, space, principals, seq)
}
