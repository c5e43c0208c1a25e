// Package storetest holds what every engine must pass: Run is the conformance suite, Work is a crowd of
// writers that keeps account of what it was promised, for tests that crash the engine under it.
package storetest

import (
	"fmt"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Run runs the conformance suite. open gives a new, empty store each time it is called; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"Values", testValues},
		{"ValuesAreCopied", testValuesAreCopied},
		{"Ranges", testRanges},
		{"RangesInTx", testRangesInTx},
		{"SeekGE", testSeekGE},
		{"IteratorEnds", testIteratorEnds},
		{"ReadYourWrites", testReadYourWrites},
		{"FailedLeavesNothing", testFailedLeavesNothing},
		{"PanicLeavesNothing", testPanicLeavesNothing},
		{"RefusedKeys", testRefusedKeys},
		{"DeleteRange", testDeleteRange},
		{"DeleteRangeTakesSequence", testDeleteRangeTakesSequence},
		{"Sequences", testSequences},
		{"AdvanceSequence", testAdvanceSequence},
		{"SnapshotStays", testSnapshotStays},
		{"UpdateIsVisible", testUpdateIsVisible},
		{"LoserSeesWinner", testLoserSeesWinner},
		{"WritersAreSerial", testWritersAreSerial},
		{"ReadersSeeNoGap", testReadersSeeNoGap},
		{"Wait", testWait},
		{"WaitIsWoken", testWaitIsWoken},
		{"WaitEnds", testWaitEnds},
		{"CanceledBeforeBegin", testCanceledBeforeBegin},
		{"CanceledAfterBegin", testCanceledAfterBegin},
		{"Lease", testLease},
		{"LeaseIsExclusive", testLeaseIsExclusive},
		{"LeaseWaiterGivesUp", testLeaseWaiterGivesUp},
		{"LeaseLostOnClose", testLeaseLostOnClose},
		{"Closed", testClosed},
		{"CloseWaits", testCloseWaits},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test.run(t, s)
		})
	}
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
}

// key makes a key of the tests' own space.
func key(name string) []byte {
	return store.NewKey(testSpace, store.KindLocal).Collection(0).Name(name)
}

const testSpace store.Space = 7

// update and view fail the test on an error.
func update(t testing.TB, s store.Store, fn func(tx store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func view(t testing.TB, s store.Store, fn func(r store.Reader) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

// put stores name → value pairs in one transaction.
func put(t testing.TB, s store.Store, pairs ...string) {
	t.Helper()
	update(t, s, func(tx store.Tx) error { return putAll(tx, pairs...) })
}

func putAll(tx store.Tx, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if err := tx.Put(key(pairs[i]), []byte(pairs[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// dump returns "name=value" of all keys of the range, in its order.
func dump(r store.Reader, rng store.Range) (out []string, err error) {
	it := r.Scan(rng)
	defer it.Close()
	for it.Next() {
		name, err := nameOf(it.Key())
		if err != nil {
			return nil, err
		}
		out = append(out, name+"="+string(it.Value()))
	}
	return out, it.Err()
}

// all is the range of the tests' keys.
func all() store.Range { return store.Prefix(store.NewKey(testSpace, store.KindLocal).Collection(0)) }

func nameOf(k []byte) (string, error) {
	if len(k) < store.Header+4 {
		return "", fmt.Errorf("key %x is too short", k)
	}
	name, rest, err := store.CutName(k[store.Header+4:])
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("key %x has a tail", k)
	}
	return name, err
}

// contents is the whole of the tests' keys as a View sees them.
func contents(t testing.TB, s store.Store) (out []string) {
	t.Helper()
	view(t, s, func(r store.Reader) (err error) {
		out, err = dump(r, all())
		return err
	})
	return out
}

func lastSequence(t testing.TB, s store.Store, space store.Space) (last tidegate.Seq) {
	t.Helper()
	view(t, s, func(r store.Reader) (err error) {
		last, err = r.LastSequence(space)
		return err
	})
	return last
}
