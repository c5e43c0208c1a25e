package database

import (
	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// standing says what a generation of a collection's routed rows is for.
type standing byte

const (
	genUnknown standing = iota
	genLive
	genNext // a run builds it
	genOld  // to be removed; what is left of it is in nobody's way
)

// generation is a generation taken apart.
type generation struct {
	coll     *collection
	physical store.Collection
	standing standing
	last     tidegate.Seq // no sequence in it is above
}

// readGenerations notes which generations there are.
func (c *checker) readGenerations() (err error) {
	if c.routing, err = c.db.routes.Read(c.r); err != nil || c.routing == nil {
		return err
	}
	c.lastRun, err = lastRunSequence(c.r, c.db.space, c.routing)
	return err
}

// generation says what the rows with a physical number are.
func (c *checker) generation(physical store.Collection) generation {
	coll, live := c.routing.Logical(physical)
	if live {
		return generation{c.db.anyCollection(coll), physical, genLive, c.report.LastSequence}
	}
	if c.routing == nil {
		return generation{}
	}
	for _, g := range c.routing.Generations {
		if g.HasNext && g.Next == physical {
			return generation{c.db.anyCollection(g.Collection), physical, genNext, c.lastRun}
		}
	}
	for _, o := range c.routing.Old {
		if o.Physical == physical {
			return generation{c.db.anyCollection(o.Collection), physical, genOld, 0}
		}
	}
	return generation{}
}

// isOld reports whether an index or grant row is of a generation that goes.
func (c *checker) isOld(kind store.Kind, rest []byte) bool {
	if c.routing == nil || len(c.routing.Old) == 0 {
		return false
	}
	if kind == store.KindGrant {
		var err error
		if _, rest, err = store.CutName(rest); err != nil {
			return false
		}
	}
	physical, _, err := store.CutCollection(rest)
	return err == nil && c.generation(physical).standing == genOld
}

// checkOldDoc notes what expiry row a record of a generation that goes still has.
func (c *checker) checkOldDoc(g generation, id string, value []byte) {
	rec, err := parseRecord(value)
	if err == nil && !rec.expiry.IsZero() {
		c.allow(g.coll.expiryKey(rec.expiry, expireDoc, id, tidegate.RevID{}))
	}
}

// checkNext checks a record of the generation that a run builds against that of the live one: the same document,
// routed alike, or sequenced by the run.
func (c *checker) checkNext(g generation, id string, rec *record) error {
	stored, err := c.r.Get(g.coll.docKey(c.routing.Live(g.coll.id), id))
	if err != nil {
		return err
	}
	live, err := parseRecord(stored)
	if err != nil {
		if stored == nil {
			c.problem(CheckRecord, "document %q is in the next generation and not in the live one", id)
		}
		return nil // what does not decode is reported where it stands
	}
	same := live.tree.Len() == rec.tree.Len() && live.saved.Equal(rec.saved)
	for i := 0; same && i < rec.tree.Len(); i++ {
		same = live.tree.At(i).ID == rec.tree.At(i).ID
	}
	if !same {
		c.problem(CheckRecord, "document %q is not the same in the next generation and in the live one", id)
	}
	if rec.seq != live.seq && rec.seq <= c.routing.Base {
		c.problem(CheckSequence, "document %q: sequence %d in the next generation, %d in the live one", id, rec.seq, live.seq)
	}
	return nil
}
