package store

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/tidegate/tidegate"
)

// Document records, the feed's index and the grants of documents depend on the sync function. Their keys carry a
// physical collection number, so that an online resync can build a second generation of them beside the one that is
// read (resync.md §3.9). A collection's first generation has its own number; later ones have numbers from FirstPhysical on, which
// are never used twice.
//
// One row of a space says which generations there are. Whoever reads or writes routed rows takes the number from the snapshot or
// transaction that it reads or writes in, so nobody sees one generation under the idea of another.

// FirstPhysical is the first number that no collection has as its own.
const FirstPhysical Collection = 1 << 31

// Routing is what the row says. A nil Routing is that of a space that never had an online resync: every collection
// has its own number. It is not changed once it is shared.
type Routing struct {
	Version uint64 // of the row: it changes with each change of it

	Numbers uint32       // physical numbers given so far
	Runs    uint32       // runs begun so far
	Run     uint32       // the run that builds the next generation; 0: none
	Base    tidegate.Seq // what that run sequences anew lies above it
	// Marks is the run whose marks of principals count beside the ordinary ones, since it became visible and they
	// have not been moved yet; 0: none.
	Marks    uint32
	Switched uint32 // the last run that became visible; 0: none
	// Dropped is the run whose marks are to be removed, since it was given up; 0: none.
	Dropped uint32

	Generations []Generation    // in order of collections; of those that had a run
	Old         []OldGeneration // to be removed
}

// Generation says where a collection's routed rows are.
type Generation struct {
	Collection Collection
	Live       Collection // physical
	Next       Collection // physical, if HasNext
	HasNext    bool       // a run is under way
	Function   uint32     // the run whose function became the collection's; 0: the configured one
}

// OldGeneration are rows that nobody reads any more.
type OldGeneration struct{ Collection, Physical Collection }

// find returns the generation of a collection; nil if it never had a run.
func (r *Routing) find(coll Collection) *Generation {
	if r == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.Generations, coll, func(g Generation, c Collection) int { return cmp.Compare(g.Collection, c) })
	if !ok {
		return nil
	}
	return &r.Generations[i]
}

// Live returns the physical number of what is read of a collection.
func (r *Routing) Live(coll Collection) Collection {
	if g := r.find(coll); g != nil {
		return g.Live
	}
	return coll
}

// Next returns the physical number of what a run builds for a collection.
func (r *Routing) Next(coll Collection) (next Collection, ok bool) {
	if g := r.find(coll); g != nil && g.HasNext {
		return g.Next, true
	}
	return 0, false
}

// Function returns the run whose function is the collection's; 0: the configured one is.
func (r *Routing) Function(coll Collection) uint32 {
	if g := r.find(coll); g != nil {
		return g.Function
	}
	return 0
}

// Logical returns the collection whose live generation has the physical number; live is false if none has.
func (r *Routing) Logical(physical Collection) (coll Collection, live bool) {
	if r == nil {
		return physical, physical < FirstPhysical
	}
	for i := range r.Generations {
		if r.Generations[i].Live == physical {
			return r.Generations[i].Collection, true
		}
	}
	return physical, physical < FirstPhysical && r.find(physical) == nil
}

// LastSwitch returns the last run that became visible; 0: none did.
func (r *Routing) LastSwitch() uint32 {
	if r == nil {
		return 0
	}
	return r.Switched
}

// Clone returns a copy that can be changed.
func (r *Routing) Clone() *Routing {
	if r == nil {
		return &Routing{}
	}
	c := *r
	c.Generations, c.Old = slices.Clone(r.Generations), slices.Clone(r.Old)
	return &c
}

// Generation returns the generation of a collection for changing it.
func (r *Routing) Generation(coll Collection) *Generation {
	if g := r.find(coll); g != nil {
		return g
	}
	r.Generations = append(r.Generations, Generation{Collection: coll, Live: coll})
	slices.SortFunc(r.Generations, func(a, b Generation) int { return cmp.Compare(a.Collection, b.Collection) })
	return r.find(coll)
}

// NewPhysical gives out a physical number.
func (r *Routing) NewPhysical() Collection {
	r.Numbers++
	return FirstPhysical + Collection(r.Numbers-1)
}

func routingKey(space Space) Key { return NewKey(space, KindMeta).Name("routing") }

// WriteRouting stores the row, with a version that it never had.
func WriteRouting(tx Tx, space Space, r *Routing) error {
	r.Version++
	return tx.Put(routingKey(space), r.appendBinary(nil))
}

// ErrGone says that what the space held was given up: its database was deleted, or flushed and is somewhere else now. Only a node that
// has not heard of it yet meets it.
var ErrGone = tidegate.Errorf(tidegate.Unavailable, "the database was replaced or deleted, try again later")

// routingGone stands in the place of the format in the row of a space that was given up.
const routingGone = 0xff

// GiveUp marks, in a transaction, that a space was given up. From its commit on nobody reads or writes what is routed there: they get ErrGone.
func GiveUp(tx Tx, space Space) error { return tx.Put(routingKey(space), []byte{routingGone}) }

// ReadRouting reads the row; nil if there is none.
func ReadRouting(r Reader, space Space) (*Routing, error) {
	b, err := r.Get(routingKey(space))
	if err != nil || b == nil {
		return nil, err
	}
	return parseRouting(b)
}

// RoutingCache reads the row of a space again and again, and takes it apart only when it has changed. It is safe for
// concurrent use.
type RoutingCache struct {
	key  Key
	last atomic.Pointer[cachedRouting]
}

type cachedRouting struct {
	raw     string
	routing *Routing
}

// NewRoutingCache returns the cache of a space.
func NewRoutingCache(space Space) *RoutingCache { return &RoutingCache{key: routingKey(space)} }

// Key is the key of the row.
func (c *RoutingCache) Key() Key { return c.key }

// Read returns the routing as of the reader's snapshot. The same row gives the same pointer, unless another was read
// in between.
func (c *RoutingCache) Read(r Reader) (*Routing, error) {
	if p, ok := r.(pinned); ok {
		return p.pinnedRouting(), nil
	}
	b, err := r.Get(c.key)
	if err != nil || b == nil {
		return nil, err
	}
	if last := c.last.Load(); last != nil && last.raw == string(b) {
		return last.routing, nil
	}
	routing, err := parseRouting(b)
	if err != nil {
		return nil, err
	}
	c.last.Store(&cachedRouting{string(b), routing})
	return routing, nil
}

// Last returns the routing as it was read last, to guess by; nil: none was read, or there is no row.
func (c *RoutingCache) Last() *Routing {
	if last := c.last.Load(); last != nil {
		return last.routing
	}
	return nil
}

// Pin returns the reader with its routing read already, for those who ask for it many times.
func (c *RoutingCache) Pin(r Reader) (Reader, error) {
	routing, err := c.Read(r)
	if err != nil {
		return nil, err
	}
	return Pin(r, routing), nil
}

// Pin returns the reader with what was read of its routing.
func Pin(r Reader, routing *Routing) Reader { return pinnedReader{r, routing} }

// pinned is a Reader that knows its routing.
type pinned interface{ pinnedRouting() *Routing }

type pinnedReader struct {
	Reader
	routing *Routing
}

// Fetch implements Fetcher.
func (p pinnedReader) Fetch(keys [][]byte) (Reader, error) {
	r, err := Fetch(p.Reader, keys)
	return pinnedReader{r, p.routing}, err
}

func (p pinnedReader) pinnedRouting() *Routing { return p.routing }

// SameRouting reports whether two routings are the same state of the row.
func SameRouting(a, b *Routing) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Version == b.Version
}

// routingFormat is the first byte of a stored routing.
const routingFormat = 1

var errRouting = tidegate.Errorf(tidegate.Corrupt, "a stored routing does not make sense")

func (r *Routing) appendBinary(b []byte) []byte {
	b = append(b, routingFormat)
	for _, n := range []uint64{
		r.Version, uint64(r.Numbers), uint64(r.Runs), uint64(r.Run), uint64(r.Base), uint64(r.Marks), uint64(r.Switched), uint64(r.Dropped),
		uint64(len(r.Generations)),
	} {
		b = binary.AppendUvarint(b, n)
	}
	for _, g := range r.Generations {
		b = binary.AppendUvarint(b, uint64(g.Collection))
		b = binary.AppendUvarint(b, uint64(g.Live))
		next := uint64(0)
		if g.HasNext {
			next = uint64(g.Next) + 1
		}
		b = binary.AppendUvarint(b, next)
		b = binary.AppendUvarint(b, uint64(g.Function))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Old)))
	for _, o := range r.Old {
		b = binary.AppendUvarint(b, uint64(o.Collection))
		b = binary.AppendUvarint(b, uint64(o.Physical))
	}
	return b
}

func parseRouting(b []byte) (*Routing, error) {
	if len(b) == 1 && b[0] == routingGone {
		return nil, ErrGone
	}
	if len(b) == 0 || b[0] != routingFormat {
		return nil, errRouting
	}
	failed := false
	rest := b[1:]
	number := func() uint64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			failed, rest = true, nil
			return 0
		}
		rest = rest[size:]
		return n
	}
	count := func() int {
		n := number()
		if n > uint64(len(rest)) {
			failed = true
			return 0
		}
		return int(n)
	}
	r := &Routing{
		Version: number(), Numbers: uint32(number()), Runs: uint32(number()), Run: uint32(number()),
		Base: tidegate.Seq(number()), Marks: uint32(number()), Switched: uint32(number()), Dropped: uint32(number()),
	}
	for range count() {
		g := Generation{Collection: Collection(number()), Live: Collection(number())}
		if next := number(); next > 0 {
			g.Next, g.HasNext = Collection(next-1), true
		}
		g.Function = uint32(number())
		r.Generations = append(r.Generations, g)
	}
	for range count() {
		r.Old = append(r.Old, OldGeneration{Collection(number()), Collection(number())})
	}
	if failed || len(rest) > 0 {
		return nil, errRouting
	}
	return r, nil
}
