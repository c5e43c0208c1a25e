package database

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// expect notes that the row must be there with this value.
func (c *checker) expect(kind, doc string, key, value []byte) error {
	c.allow(key)
	stored, err := c.r.Get(key)
	if err != nil {
		return err
	}
	if stored == nil {
		c.problem(kind, "document %q: no row %x", doc, key[store.Header:])
	} else if !bytes.Equal(stored, value) {
		c.problem(kind, "document %q: row %x is not what the record gives", doc, key[store.Header:])
	}
	return nil
}

// allow notes that the row may be there.
func (c *checker) allow(key []byte) { c.expected[maphash.Bytes(c.seed, key)] = struct{}{} }

// recomputed is a transaction that writes nowhere: what a package puts into it from nothing is what it must
// have put into the store.
type recomputed struct {
	store.Reader
	kind store.Kind // rows of other kinds are left aside
	rows []row
}

var _ store.Tx = (*recomputed)(nil)

func (t *recomputed) Get([]byte) ([]byte, error) { return nil, nil }
func (t *recomputed) Delete([]byte) error        { return nil }
func (t *recomputed) NextSequence(store.Space) (tidegate.Seq, error) {
	return 0, fmt.Errorf("take a sequence: nothing is being written")
}

func (t *recomputed) Put(key, value []byte) error {
	if store.Kind(key[store.Header-1]) == t.kind {
		t.rows = append(t.rows, row{bytes.Clone(key), bytes.Clone(value)})
	}
	return nil
}

// checkEntries compares the feed's index with what the record gives (hardening.md, I13).
func (c *checker) checkEntries(g generation, id string, rec *record) error {
	t := &recomputed{kind: store.KindChannel}
	if err := changes.WriteIndex(t, c.db.space, g.physical, id, nil, rec.docState()); err != nil {
		return err
	}
	for _, r := range t.rows {
		if err := c.expectEntry(id, r.key, r.value); err != nil {
			return err
		}
	}
	return nil
}

// expectEntry notes that the row of the index must be there. Which other leaves a removal lists is as of the write that made it.
func (c *checker) expectEntry(id string, key, value []byte) error {
	want, err := changes.ParseEntry(1<<53, string(value))
	if err != nil || want.Flags&changes.Removed == 0 {
		return c.expect(CheckIndex, id, key, value)
	}
	stored, err := c.r.Get(key)
	if err != nil || stored == nil {
		return cmp.Or(err, c.expect(CheckIndex, id, key, value))
	}
	if have, err := changes.ParseEntry(1<<53, string(stored)); err == nil {
		want.Others = have.Others
	}
	return c.expect(CheckIndex, id, key, want.AppendBinary(nil))
}

// checkDocGrants compares the grants of principals with what the record gives.
func (c *checker) checkDocGrants(g generation, id string, rec *record) error {
	grants := grantsOf(rec)
	if grants == nil {
		return nil
	}
	t := &recomputed{kind: store.KindGrant}
	if _, err := access.WriteGrants(t, c.db.space, g.physical, id, nil, grants, rec.seq); err != nil {
		return err
	}
	for _, r := range t.rows {
		if err := c.expect(CheckGrant, id, r.key, r.value); err != nil {
			return err
		}
	}
	return nil
}

// checkDocExpiry checks that a document that expires has its row.
func (c *checker) checkDocExpiry(coll *collection, id string, rec *record) error {
	if rec.expiry.IsZero() {
		return nil
	}
	return c.expect(CheckExpiry, id, coll.expiryKey(rec.expiry, expireDoc, id, tidegate.RevID{}), nothing)
}

// checkRows finds rows that no record gives.
func (c *checker) checkRows() error {
	for kind, what := range map[store.Kind]string{
		store.KindChannel: CheckIndex, store.KindGrant: CheckGrant, store.KindExpiry: CheckExpiry,
	} {
		err := c.scan(kind, func(rest, _ []byte) error {
			switch kind {
			case store.KindChannel:
				c.report.IndexEntries++
			case store.KindGrant:
				c.report.Grants++
			default:
				c.report.Expiries++
				if len(rest) > 8 && rest[8] == expireBody {
					return nil // one whose body is gone is harmless
				}
			}
			if kind != store.KindExpiry && c.isOld(kind, rest) {
				return nil
			}
			key := append(store.NewKey(c.db.space, kind), rest...)
			if _, ok := c.expected[maphash.Bytes(c.seed, key)]; !ok {
				c.problem(what, "row %x belongs to nothing", rest)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readExpiries notes which bodies have a time to go.
func (c *checker) readExpiries() error {
	return c.scan(store.KindExpiry, func(rest, _ []byte) error {
		row, err := parseDue(append(store.NewKey(c.db.space, store.KindExpiry), rest...))
		if err != nil {
			c.problem(CheckKey, "expiry: key %x does not make sense", rest)
			return nil
		}
		if row.what == expireBody {
			c.oldBodies[oldBodyKey{row.coll, row.id, row.rev}] = true
		}
		return nil
	})
}

// checkLocals checks local documents.
func (c *checker) checkLocals() error {
	return c.scan(store.KindLocal, func(rest, value []byte) error {
		coll, id, _ := c.cutDoc("local document", rest)
		if coll == nil {
			return nil
		}
		c.report.Locals++
		l, err := parseLocal(value)
		if err != nil {
			c.problem(CheckLocal, "local document %q: %v", id, err)
			return nil
		}
		if l.expiry.IsZero() {
			return nil
		}
		return c.expect(CheckLocal, id, coll.expiryKey(l.expiry, expireLocal, id, tidegate.RevID{}), nothing)
	})
}

// checkRefs checks that references to attachments hold.
func (c *checker) checkRefs() error {
	return c.scan(store.KindBlobRef, func(rest, _ []byte) error {
		c.report.BlobRefs++
		row, err := parseBlobRow(append(store.NewKey(c.db.space, store.KindBlobRef), rest...))
		if err != nil {
			c.problem(CheckKey, "attachment reference: key %x does not make sense", rest)
			return nil
		}
		used, err := c.db.hasContent(c.r, row)
		if err != nil {
			return nil // a body that does not decode was reported
		}
		if !used {
			c.problem(CheckBlob, "document %q refers to content %x that no stored revision has", row.id, row.key)
		}
		return nil
	})
}

// checkContent checks that content in the store is what its key says, and counts content that nothing refers to.
func (c *checker) checkContent() error {
	err := c.scan(store.KindBlob, func(rest, value []byte) error {
		c.report.Blobs++
		var key blob.Key
		if len(rest) != len(key) {
			c.problem(CheckKey, "attachment content: key %x does not make sense", rest)
			return nil
		}
		copy(key[:], rest)
		if contentKey(value) != key {
			c.problem(CheckBlob, "content %x is damaged", key)
		}
		used, err := c.db.referred(c.r, key)
		if err == nil && !used {
			c.problem(CheckBlob, "content %x is in the store though nothing refers to it", key)
		}
		return err
	})
	if err != nil {
		return err
	}
	for key, err := range c.db.blobs.All(c.ctx, c.db.space) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		c.report.Blobs++
		used, err := c.db.referred(c.r, key)
		if err != nil {
			return err
		}
		if !used {
			c.report.Garbage++
		}
	}
	return nil
}
