package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Work is a crowd of writers that keeps account of every write it was promised (invariant I1: an
// acknowledged write survives SIGKILL and power loss). Let it run against a store, crash the store, and
// have Check compare what was promised with what is there.
//
// Each write is one transaction of a row under the next sequence of a space, and a few cells that name the
// row, so that half a write and a lost sequence both show. Cells are small, and now and then large.
type Work struct {
	mu       sync.Mutex
	promised []write
	grown    chan struct{} // closed when promised grows; nil while nobody waits
}

// write is what one acknowledged Update did.
type write struct {
	space store.Space
	seq   tidegate.Seq
	id    string
	cells int
	bytes int // of each cell
}

// Spaces that the work writes to.
const (
	firstWorkSpace store.Space = 100
	workSpaces     store.Space = 2
)

// Run lets n writers write until ctx ends, an Update fails, or each has written so often. It returns when
// all have stopped. The errors of Updates are not its business; only successes are accounted for.
func (w *Work) Run(ctx context.Context, s store.Store, n, each int, seed uint64) {
	var writers sync.WaitGroup
	for i := range n {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			for j := range each {
				if ctx.Err() != nil || w.write(s, fmt.Sprintf("%d.%d.%d", seed, i, j), rnd) != nil {
					return
				}
			}
		})
	}
	writers.Wait()
}

// write does one Update and records it once it was acknowledged.
func (w *Work) write(s store.Store, id string, rnd *rand.Rand) error {
	x := write{space: firstWorkSpace + store.Space(rnd.IntN(int(workSpaces))), id: id, cells: 1 + rnd.IntN(4), bytes: rnd.IntN(300)}
	if rnd.IntN(100) == 0 {
		x.bytes = 20 << 10
	}
	refuse := rnd.IntN(8) == 0 // a transaction that fails must leave no trace, after a crash neither
	err := s.Update(context.Background(), func(tx store.Tx) error {
		var err error
		if x.seq, err = tx.NextSequence(x.space); err != nil {
			return err
		}
		if err := tx.Put(rowKey(x.space, x.seq), []byte(x.row())); err != nil {
			return err
		}
		for i := range x.cells {
			if err := tx.Put(cellPrefix(x.space).Name(id).Uint64(uint64(i)), []byte(x.cell())); err != nil {
				return err
			}
		}
		if refuse {
			return errRefused
		}
		return nil
	})
	if refuse && err == errRefused {
		return nil
	}
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.promised = append(w.promised, x)
		if w.grown != nil {
			close(w.grown)
			w.grown = nil
		}
	}
	return err
}

func (x write) row() string { return fmt.Sprintf("%s %d %d", x.id, x.cells, x.bytes) }

// cell is the content of each cell: its write's sequence, drawn out to its length.
func (x write) cell() string {
	s := strconv.FormatUint(uint64(x.seq), 10) + " "
	return strings.Repeat(s, 1+x.bytes/len(s))
}

func cellPrefix(space store.Space) store.Key {
	return store.NewKey(space, store.KindDoc).Collection(0)
}

// Promised returns an account of what is promised now. Taken before a crash, it is what must survive it.
func (w *Work) Promised() *Work {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &Work{promised: w.promised[:len(w.promised):len(w.promised)]}
}

// Len returns the number of promised writes.
func (w *Work) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.promised)
}

// Await waits until n writes are promised; it returns false if ctx ends first.
func (w *Work) Await(ctx context.Context, n int) bool {
	for {
		w.mu.Lock()
		enough := len(w.promised) >= n
		if w.grown == nil {
			w.grown = make(chan struct{})
		}
		grown := w.grown
		w.mu.Unlock()
		if enough {
			return true
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return false
		}
	}
}

// Check reads a store and returns what is wrong with it: a promised write that is missing or changed, a
// write that is there in part, a sequence that is missing or given out twice. Writes that were not
// promised may be there.
func (w *Work) Check(ctx context.Context, s store.Store) error {
	return s.View(ctx, func(r store.Reader) error {
		found := make(map[store.Space]*found)
		for space := firstWorkSpace; space < firstWorkSpace+workSpaces; space++ {
			var err error
			if found[space], err = find(r, space); err != nil {
				return fmt.Errorf("space %d: %w", space, err)
			}
		}
		for _, x := range w.promised {
			if err := x.check(found[x.space]); err != nil {
				return fmt.Errorf("promised write %s (sequence %d of space %d): %w", x.id, x.seq, x.space, err)
			}
		}
		for space, f := range found {
			if err := f.checkWhole(space); err != nil {
				return fmt.Errorf("space %d: %w", space, err)
			}
		}
		return nil
	})
}

// found is what a space holds.
type found struct {
	rows  []string            // of sequences 1, 2, 3 …
	cells map[string][]string // by id
}

// find reads a space, whose sequences must be dense.
func find(r store.Reader, space store.Space) (*found, error) {
	f := &found{cells: make(map[string][]string)}
	if _, err := walkDense(r, space, func(row []byte) { f.rows = append(f.rows, string(row)) }); err != nil {
		return nil, err
	}
	prefix := cellPrefix(space)
	it := r.Scan(store.Prefix(prefix))
	defer it.Close()
	for it.Next() {
		id, rest, err := store.CutName(it.Key()[len(prefix):])
		if err != nil {
			return nil, err
		}
		if want := store.Key(nil).Uint64(uint64(len(f.cells[id]))); string(rest) != string(want) {
			return nil, fmt.Errorf("cell %x of write %s where %x is due", rest, id, want)
		}
		f.cells[id] = append(f.cells[id], string(it.Value()))
	}
	return f, it.Err()
}

// check compares one write with what is there.
func (x write) check(f *found) error {
	if n := tidegate.Seq(len(f.rows)); x.seq > n {
		return fmt.Errorf("its row is missing: there are %d", n)
	}
	if row := f.rows[x.seq-1]; row != x.row() {
		return fmt.Errorf("its row is %q, want %q", row, x.row())
	}
	cells := f.cells[x.id]
	if len(cells) != x.cells {
		return fmt.Errorf("%d cells, want %d", len(cells), x.cells)
	}
	for i, cell := range cells {
		if want := x.cell(); cell != want {
			return fmt.Errorf("its cell %d has %d bytes or others than the %d it should have", i, len(cell), len(want))
		}
	}
	return nil
}

// checkWhole checks every write that is there, promised or not.
func (f *found) checkWhole(space store.Space) error {
	for i, row := range f.rows {
		x := write{space: space, seq: tidegate.Seq(i + 1)}
		if _, err := fmt.Sscanf(row, "%s %d %d", &x.id, &x.cells, &x.bytes); err != nil {
			return fmt.Errorf("row %d is %q: %w", x.seq, row, err)
		}
		if err := x.check(f); err != nil {
			return fmt.Errorf("write %s (sequence %d): %w", x.id, x.seq, err)
		}
	}
	if n := len(f.cells) - len(f.rows); n > 0 {
		return fmt.Errorf("the cells of %d writes have no row", n)
	}
	return nil
}
