package database_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// TestConcurrentWriters: 32 writers on a few documents, single and in batches. Every acknowledged revision is in its
// document's tree (I3), every write has its own sequence and there is no gap, and all that is stored twice agrees (I13).
func TestConcurrentWriters(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	const writers, each, docs = 32, 12, 4
	var mu sync.Mutex
	acked := map[string][]tidegate.RevID{}
	seqs := map[tidegate.Seq]string{}
	ack := func(res database.Written) {
		mu.Lock()
		defer mu.Unlock()
		acked[res.ID] = append(acked[res.ID], res.Rev)
		if other, taken := seqs[res.Seq]; taken && !res.Existed {
			t.Errorf("%s %s and %s both have sequence %d", res.ID, res.Rev, other, res.Seq)
		}
		seqs[res.Seq] = res.Rev.String()
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range each {
				id := fmt.Sprintf("d%d", rnd.IntN(docs))
				body := fmt.Appendf(nil, `{"channels":"c%d","w":%d,"i":%d,"grant":[["u%d","c"]]}`, rnd.IntN(3), w, i, rnd.IntN(3))
				switch w % 3 {
				case 0: // an editor, who takes conflicts as they come
					doc, err := e.admin.Get(t.Context(), id, database.GetOptions{})
					write := &database.Write{ID: id, Body: body, NewEdits: true, Deleted: rnd.IntN(4) == 0}
					if err == nil {
						write.Parent = doc.Rev
					}
					res, err := e.admin.Put(t.Context(), write)
					if err == nil {
						ack(res)
					} else if tidegate.ErrorCode(err) != tidegate.Conflict {
						t.Errorf("edit: %v", err)
					}
				case 1: // a peer
					res, err := e.admin.Put(t.Context(), foreign(id, body, w, i))
					if err != nil {
						t.Errorf("push: %v", err)
						continue
					}
					ack(res)
				default: // a peer with batches, the same document more than once
					ws := []*database.Write{
						foreign("d0", body, w, 100+2*i), foreign("d1", body, w, 100+2*i),
						foreign("d0", body, w, 101+2*i), foreign(fmt.Sprintf("own%d", w), body, w, 100+i),
					}
					for _, res := range e.admin.PutAll(t.Context(), ws) {
						if res.Err != nil {
							t.Errorf("batch: %v", res.Err)
							continue
						}
						ack(res.Written)
					}
				}
			}
		})
	}
	wg.Wait()
	for id, revs := range acked {
		tree := e.raw(id).Tree
		for _, r := range revs {
			if _, ok := tree.Find(r); !ok {
				t.Errorf("%s: acknowledged revision %s is lost", id, r)
			}
		}
	}
	last, err := e.db.LastSequence(t.Context())
	if err != nil || int(last) != len(seqs) {
		t.Errorf("%d acknowledged writes, last sequence %d (%v)", len(seqs), last, err)
	}
	e.check()
}

// foreign is revision 2-wW-iI of a document, child of 1-wW.
func foreign(id string, body []byte, w, i int) *database.Write {
	return &database.Write{ID: id, Body: body, History: []tidegate.RevID{
		{Generation: 2, Digest: fmt.Sprintf("w%d-i%d", w, i)},
		{Generation: 1, Digest: fmt.Sprintf("w%d", w)},
	}}
}

// Of writers who all replace the same revision exactly one wins, whatever way they come.
func TestOneWinner(t *testing.T) {
	e := open(t, database.Options{})
	r := e.put(`{"_id":"d"}`)
	results := make([]error, 32)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			w := &database.Write{ID: "d", Body: fmt.Appendf(nil, `{"i":%d}`, i), NewEdits: true, Parent: r}
			if i%2 == 0 {
				_, results[i] = e.admin.Put(t.Context(), w)
			} else {
				results[i] = e.admin.PutAll(t.Context(), []*database.Write{w})[0].Err
			}
		})
	}
	wg.Wait()
	var got []string
	for _, err := range results {
		got = append(got, reason(err))
	}
	slices.Sort(got)
	got = slices.Compact(got)
	if !slices.Equal(got, []string{"", "Document revision conflict"}) {
		t.Errorf("%q", got)
	}
	if raw := e.raw("d"); raw.Seq != 2 || raw.Tree.Len() != 2 {
		t.Errorf("%+v", raw)
	}
	e.check()
}
