package access

import (
	"fmt"
	"maps"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Check compares what is stored of every principal with a computation from scratch out of its explicit
// grants and those of documents (hardening.md, I13), and calls problem for each contradiction. Principals
// that are marked for a rebuild are computed anyway before they are used, so only their rows are read. It
// returns how many principals and sessions there are.
func Check(rd store.Reader, space store.Space, problem func(what string)) (principals, sessions int, err error) {
	c := checker{rd: rd, space: space, problem: problem}
	if c.last, err = rd.LastSequence(space); err != nil {
		return 0, 0, err
	}
	if c.routing, err = store.ReadRouting(rd, space); err != nil {
		return 0, 0, err
	}
	err = c.each(store.KindPrincipal, func(principal string, value []byte) error {
		principals++
		return c.principal(principal, value)
	})
	if err != nil {
		return 0, 0, err
	}
	err = c.each(store.KindInvalid, func(principal string, value []byte) error {
		if m, err := decodeMark(value); err != nil || m.first > m.last || m.last > c.last {
			c.report(principal, "its mark makes no sense")
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	if err := c.nextMarks(); err != nil {
		return 0, 0, err
	}
	err = c.each(store.KindSession, func(_ string, value []byte) error {
		sessions++
		if _, err := decodeSession(value); err != nil {
			c.problem("a session does not decode")
		}
		return nil
	})
	return principals, sessions, err
}

type checker struct {
	rd      store.Reader
	space   store.Space
	routing *store.Routing
	last    tidegate.Seq
	problem func(string)
}

func (c *checker) report(principal, what string) { c.problem(fmt.Sprintf("%q: %s", principal, what)) }

// each calls f with the name and value of every row of a kind.
func (c *checker) each(kind store.Kind, f func(name string, value []byte) error) error {
	it := c.rd.Scan(store.Prefix(store.NewKey(c.space, kind)))
	defer it.Close()
	for it.Next() {
		name, rest, err := store.CutName(it.Key()[store.Header:])
		if err != nil || len(rest) > 0 {
			c.problem(fmt.Sprintf("the key %q makes no sense", it.Key()))
			continue
		}
		if err := f(name, it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// nextMarks checks the marks that runs of resync leave.
func (c *checker) nextMarks() error {
	it := c.rd.Scan(store.Prefix(store.NewKey(c.space, store.KindNextMark)))
	defer it.Close()
	for it.Next() {
		run, rest, err := store.CutCollection(it.Key()[store.Header:])
		if err == nil {
			_, _, err = store.CutName(rest)
		}
		n := uint32(run)
		known := c.routing != nil && n != 0 && (n == c.routing.Run || n == c.routing.Marks || n == c.routing.Dropped)
		if m, bad := decodeMark(it.Value()); err != nil || bad != nil || m.first > m.last || !known {
			c.problem(fmt.Sprintf("the mark %x of a resync makes no sense", it.Key()[store.Header:]))
		}
	}
	return it.Err()
}

// principal checks one record.
func (c *checker) principal(principal string, value []byte) error {
	rec, err := decodeRecord(value)
	if err != nil {
		c.report(principal, "its record does not decode")
		return nil
	}
	if rec.seq > c.last || rec.since > c.last {
		c.report(principal, "its sequence is in the future")
	}
	m, err := readMarks(c.rd, c.space, c.routing, principal)
	if err != nil || m.own != nil || m.next != nil {
		return err
	}
	docs, err := scanGrants(c.rd, c.space, c.routing, principal)
	if tidegate.ErrorCode(err) == tidegate.Corrupt {
		c.report(principal, "a grant to it does not decode")
		return nil
	}
	if err != nil {
		return err
	}
	scratch := rebuild(rec, docs, 0, 0, time.Time{})
	for coll := range merged(rec.channels, scratch.channels) {
		if !maps.Equal(rec.channels[coll].grants, scratch.channels[coll].grants) {
			c.report(principal, fmt.Sprintf("its channels in collection %d are not those it is granted", coll))
		}
	}
	if !maps.Equal(rec.roles.grants, scratch.roles.grants) {
		c.report(principal, "its roles are not those it is granted")
	}
	return nil
}
