package database

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// CheckOptions of Check.
type CheckOptions struct {
	MaxProblems int  // how many problems are reported in words; 100 if 0
	ReadBlobs   bool // read the content of attachments in the blob store and compare it with its key
}

// Problem is something that is not as it must be.
type Problem struct {
	Kind string // one of the Check… constants
	What string // which row or document, and what is wrong with it
}

// The kinds of problems.
const (
	CheckRecord   = "record"   // a document record does not decode, or contradicts itself
	CheckBody     = "body"     // a leaf without body, or a body that does not decode or never goes
	CheckIndex    = "index"    // the feed's index is not what the records give (hardening.md, I13)
	CheckSequence = "sequence" // sequences that are not unique or are in the future
	CheckGrant    = "grant"    // grants of documents are not what the records give
	CheckExpiry   = "expiry"   // an expiry row is missing, or belongs to nothing
	CheckBlob     = "blob"     // references to and content of attachments disagree
	CheckAccess   = "access"   // a principal is not what its explicit grants and those of documents give
	CheckLocal    = "local"    // a local document does not decode or never goes
	CheckClient   = "client"   // a client record, or a body in quarantine, does not decode or is not what is counted
	CheckLedger   = "ledger"   // the memory of deletions is not what its counter says, or does not decode
	CheckKey      = "key"      // a row of a kind that there is not, or whose key makes no sense
)

// CheckReport is what Check found.
type CheckReport struct {
	Started, Ended time.Time
	LastSequence   tidegate.Seq

	Documents, Tombstones, Conflicts int
	Ledger, Guards                   int // deletions without bodies, which are Tombstones too; purged documents
	Bodies, IndexEntries, Grants     int
	Locals, Expiries                 int
	Clients, Quarantined             int // clients that replicate; bodies that were not made current
	BlobRefs, Blobs                  int // Blobs: in the store and in the blob store together
	// Garbage counts what is in nobody's way and goes by itself: files without reference.
	Garbage int

	Problems  []Problem // the first ones
	NProblems int       // all
}

// OK reports whether no problem was found.
func (r *CheckReport) OK() bool { return r.NProblems == 0 }

func (r *CheckReport) String() string {
	return fmt.Sprintf("%d documents (%d tombstones, %d in conflict), %d bodies, %d index entries, %d grants, %d blobs, last sequence %d: %d problems",
		r.Documents, r.Tombstones, r.Conflicts, r.Bodies, r.IndexEntries, r.Grants, r.Blobs, r.LastSequence, r.NProblems)
}

// Check reads the whole database in one snapshot and compares everything that is stored twice with what it was
// computed from. It changes nothing. It holds one line for each document's rows in memory at a time, plus a
// set of the sequences.
func (db *Database) Check(ctx context.Context, o CheckOptions) (*CheckReport, error) {
	c := &checker{db: db, ctx: ctx, o: o, report: &CheckReport{Started: db.opts.Now()}, seed: maphash.MakeSeed()}
	if c.o.MaxProblems == 0 {
		c.o.MaxProblems = 100
	}
	err := db.st.View(ctx, c.run)
	if err != nil {
		return nil, fmt.Errorf("check database: %w", err)
	}
	c.report.Ended = db.opts.Now()
	return c.report, nil
}

// oldBodyKey names the body of a revision.
type oldBodyKey struct {
	coll store.Collection
	id   string
	rev  tidegate.RevID
}

// checker is a Check under way.
type checker struct {
	db     *Database
	ctx    context.Context //nolint:containedctx // lives for one call of Check
	o      CheckOptions
	r      store.Reader
	report *CheckReport

	routing   *store.Routing
	lastRun   tidegate.Seq            // the last sequence that the run under way gave out
	seqs      map[tidegate.Seq]string // who has which sequence
	seed      maphash.Seed
	expected  map[uint64]struct{} // hashes of the keys of rows that records and local documents give
	oldBodies map[oldBodyKey]bool // bodies that have a time to go
	opened    map[blob.Key]bool   // content in the blob store that was looked at
}

func (c *checker) problem(kind, format string, args ...any) {
	c.report.NProblems++
	if len(c.report.Problems) < c.o.MaxProblems {
		c.report.Problems = append(c.report.Problems, Problem{Kind: kind, What: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) run(r store.Reader) error {
	c.r, c.seqs, c.expected = r, map[tidegate.Seq]string{}, map[uint64]struct{}{}
	c.oldBodies, c.opened = map[oldBodyKey]bool{}, map[blob.Key]bool{}
	var err error
	if c.report.LastSequence, err = r.LastSequence(c.db.space); err != nil {
		return err
	}
	steps := []func() error{
		c.readGenerations, c.readExpiries, c.checkDocs, c.checkLedger, c.checkBodies, c.checkLocals, c.checkRows, c.checkRefs,
		c.checkContent, c.checkAccess, c.checkClients,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// checkAccess compares principals with a computation from scratch.
func (c *checker) checkAccess() error {
	_, _, err := access.Check(c.r, c.db.space, func(what string) { c.problem(CheckAccess, "%s", what) })
	return err
}

// scan walks all rows of a kind. rest is the key behind the kind.
func (c *checker) scan(kind store.Kind, fn func(rest, value []byte) error) error {
	it := c.r.Scan(store.Prefix(store.NewKey(c.db.space, kind)))
	defer it.Close()
	for n := 0; it.Next(); n++ {
		if n%1024 == 0 && c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if err := fn(it.Key()[store.Header:], it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// cutDoc takes a collection and a document ID off a key. coll is nil if it makes no sense.
func (c *checker) cutDoc(kind string, rest []byte) (coll *collection, id string, after []byte) {
	number, after, err := store.CutCollection(rest)
	if err == nil {
		id, after, err = store.CutName(after)
	}
	if err != nil {
		c.problem(CheckKey, "%s: key %x does not make sense", kind, rest)
		return nil, "", nil
	}
	return c.db.anyCollection(number), id, after
}

// checkDocs checks each record, and that everything it calls for is there.
func (c *checker) checkDocs() error {
	return c.scan(store.KindDoc, func(rest, value []byte) error {
		coll, id, after := c.cutDoc("document", rest)
		if coll == nil {
			return nil
		}
		g := c.generation(coll.id)
		switch g.standing {
		case genUnknown:
			c.problem(CheckKey, "document %q is in generation %d, which there is not", id, coll.id)
			return nil
		case genOld:
			c.checkOldDoc(g, id, value)
			return nil
		}
		rec, err := parseRecord(value)
		if err != nil || len(after) > 0 {
			c.problem(CheckRecord, "document %q: %v", id, err)
			return nil
		}
		if g.standing == genNext {
			err = c.checkNext(g, id, rec)
		} else {
			err = c.checkLive(g, id, rec)
		}
		if err != nil {
			return err
		}
		c.checkSequences(g, id, rec)
		c.checkRecord(id, rec)
		if err := c.checkEntries(g, id, rec); err != nil {
			return err
		}
		if err := c.checkDocGrants(g, id, rec); err != nil {
			return err
		}
		return c.checkDocExpiry(g.coll, id, rec)
	})
}

// checkLive checks what is asked of records of the live generation only.
func (c *checker) checkLive(g generation, id string, rec *record) error {
	c.report.Documents++
	if rec.flags()&recDeleted != 0 {
		c.report.Tombstones++
	}
	if rec.flags()&recCompact != 0 {
		c.report.Ledger++
	}
	if rec.flags()&recConflict != 0 {
		c.report.Conflicts++
	}
	if other, taken := c.seqs[rec.seq]; taken {
		c.problem(CheckSequence, "documents %q and %q both have sequence %d", id, other, rec.seq)
	}
	c.seqs[rec.seq] = id
	return c.checkLeaves(g.coll, id, rec)
}

// checkSequences checks that no sequence in the document is in the future, and that nothing in it is younger than it. Only
// grants may be, which an offline resync makes at a sequence of its own.
func (c *checker) checkSequences(g generation, id string, rec *record) {
	if rec.seq > g.last {
		c.problem(CheckSequence, "document %q: sequence %d is above the last, %d", id, rec.seq, g.last)
	}
	for _, ch := range rec.channels {
		last := tidegate.Seq(0)
		for _, p := range ch.periods {
			end := p.End
			if end == 0 {
				end = rec.seq + 1
			}
			if p.Start < last || p.Start == 0 || end < p.Start || p.Start > rec.seq || p.End > rec.seq {
				c.problem(CheckRecord, "document %q: periods in channel %q are out of order: %v", id, ch.name, ch.periods)
				break
			}
			last = p.End
		}
	}
	for _, grants := range []map[string]tidegate.Grants{rec.grants.Access, rec.grants.Roles} {
		for who, names := range grants {
			for name, seq := range names {
				if seq > g.last || seq == 0 {
					c.problem(CheckRecord, "document %q: grant of %q to %q at sequence %d", id, name, who, seq)
				}
			}
		}
	}
}

// checkRecord checks that the channels are those of the current revision, and that the vector is one.
func (c *checker) checkRecord(id string, rec *record) {
	i, _ := rec.tree.Winner()
	if members := rec.memberSet(); !equalChannels(members, rec.tree.At(i).Channels) {
		c.problem(CheckRecord, "document %q: is in channels %q, its current revision in %q", id, members, rec.tree.At(i).Channels)
	}
	if _, err := tidegate.ParseAnyRev(rec.vector.String()); err != nil {
		c.problem(CheckRecord, "document %q: its version vector %q does not make sense", id, rec.vector)
	}
}

// checkLeaves checks that each leaf has its body.
func (c *checker) checkLeaves(coll *collection, id string, rec *record) error {
	for _, leaf := range rec.tree.Leaves() {
		stored, err := c.r.Get(coll.bodyKey(id, leaf.ID))
		if err != nil {
			return err
		}
		if bodiless(leaf) {
			if stored != nil {
				c.problem(CheckBody, "document %q: leaf %s is of the ledger and has a body", id, leaf.ID)
			}
			continue
		}
		if stored == nil {
			c.problem(CheckBody, "document %q: leaf %s has no body", id, leaf.ID)
			continue
		}
		y, err := parseBody(stored)
		if err == nil && (y.deleted != leaf.Deleted() || (len(y.attachments) > 0) != (leaf.Flags&tidegate.RevAttachments != 0)) {
			c.problem(CheckBody, "document %q: the body of leaf %s is not what the tree says", id, leaf.ID)
		}
	}
	return nil
}

// checkBodies checks each body: it decodes, belongs to a document, refers to content, and goes one day if its
// revision is no leaf.
func (c *checker) checkBodies() error {
	var lastKey string
	var rec *record
	return c.scan(store.KindBody, func(rest, value []byte) error {
		coll, id, after := c.cutDoc("body", rest)
		if coll == nil {
			return nil
		}
		c.report.Bodies++
		text, _, err := store.CutName(after)
		var rev tidegate.RevID
		if err == nil {
			rev, err = tidegate.ParseRevID(text)
		}
		if err != nil {
			c.problem(CheckKey, "body of document %q: bad revision %q", id, text)
			return nil
		}
		y, err := parseBody(value)
		if err != nil {
			c.problem(CheckBody, "document %q: revision %s: %v", id, rev, err)
			return nil
		}
		if key := string(coll.docKey(c.routing.Live(coll.id), id)); key != lastKey {
			lastKey, rec = key, nil
			stored, err := c.r.Get([]byte(key))
			if err != nil {
				return err
			}
			if stored == nil {
				c.problem(CheckBody, "revision %s of document %q, which does not exist", rev, id)
			} else if rec, err = parseRecord(stored); err != nil {
				rec = nil // reported already
			}
		}
		for name, a := range y.attachments {
			if err := c.checkAttachment(coll, id, rev, name, &a); err != nil {
				return err
			}
		}
		if rec == nil {
			return nil
		}
		return c.checkOldBody(coll, id, rev, rec, &y)
	})
}

// checkOldBody checks that the body of a revision that is no leaf has a time to go.
func (c *checker) checkOldBody(coll *collection, id string, rev tidegate.RevID, rec *record, y *body) error {
	i, ok := rec.tree.Find(rev)
	if ok && (rec.tree.IsLeaf(i) || (y.closed && rec.tree.At(i).Flags&tidegate.RevClosed != 0)) {
		return nil
	}
	if !c.oldBodies[oldBodyKey{coll.id, id, rev}] {
		c.problem(CheckBody, "document %q: old revision %s never goes", id, rev)
	}
	return nil
}

// checkAttachment checks that the reference and the content of an attachment are there.
func (c *checker) checkAttachment(coll *collection, id string, rev tidegate.RevID, name string, a *tidegate.Attachment) error {
	ref, err := c.r.Get(coll.refKey(a.Key, id))
	if err != nil {
		return err
	}
	if ref == nil {
		c.problem(CheckBlob, "document %q: revision %s: no reference to attachment %q", id, rev, name)
	}
	size := a.Length
	if a.Encoding != "" {
		size = a.EncodedLength
	}
	if data, err := c.r.Get(c.db.blobKey(a.Key)); err != nil {
		return err
	} else if data != nil {
		if int64(len(data)) != size {
			c.problem(CheckBlob, "document %q: revision %s: attachment %q has %d bytes instead of %d", id, rev, name, len(data), size)
		}
		return nil
	}
	if c.opened[a.Key] {
		return nil // looked at already
	}
	c.opened[a.Key] = true
	file, n, err := c.db.blobs.Open(c.ctx, c.db.space, a.Key)
	if err != nil {
		c.problem(CheckBlob, "document %q: revision %s: content of attachment %q: %v", id, rev, name, err)
		return nil
	}
	defer file.Close()
	if n != size {
		c.problem(CheckBlob, "document %q: revision %s: attachment %q has %d bytes instead of %d", id, rev, name, n, size)
	}
	if v, ok := c.db.blobs.(blob.Verifier); ok && c.o.ReadBlobs {
		if err := v.Verify(c.ctx, c.db.space, a.Key); err != nil {
			c.problem(CheckBlob, "document %q: revision %s: content of attachment %q: %v", id, rev, name, err)
		}
	}
	return nil
}
