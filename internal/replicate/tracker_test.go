package replicate

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// TestTracker compares the tracker with the definition: the last sequence before which all are done.
func TestTracker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stats := &ReplicatorStats{}
		tr := tracker{stats: stats}
		var all []*expected
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if len(all) == 0 || rapid.Bool().Draw(t, "expect") {
				var seqs []string
				for range rapid.IntRange(0, 4).Draw(t, "more") {
					seqs = append(seqs, strconv.Itoa(len(all)+len(seqs)))
				}
				all = append(all, tr.expect(seqs...)...)
			} else {
				tr.finish(all[rapid.IntRange(0, len(all)-1).Draw(t, "finish")])
			}
			safe, undone, n := "", 0, 0
			for n < len(all) && all[n].done {
				safe = all[n].seq
				n++
			}
			for _, e := range all {
				if !e.done {
					undone++
				}
			}
			if got, left := tr.position(); got != safe || left != undone {
				t.Fatalf("position %q, %d left; want %q, %d", got, left, safe, undone)
			}
			if stats.Expected.Load() != int64(len(all)-n) || stats.Processed.Load() != int64(len(all)-n-undone) {
				t.Fatalf("%d expected and %d of them done, want %d and %d", stats.Expected.Load(), stats.Processed.Load(), len(all)-n, len(all)-n-undone)
			}
			select {
			case <-tr.wait():
				if undone > 0 {
					t.Fatal("quiet too early")
				}
			default:
				if undone == 0 {
					t.Fatal("not quiet")
				}
			}
		}
	})
}
