package database_test

import (
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/script"
)

// TestReadOnlyDatabaseKeepsWhatIsDue: documents do not expire while a database is read-only: that would be writes, and a copy that is
// served meanwhile must have no sequence that the original has not (resync.md §3.8). They do once it is not any more.
func TestReadOnlyDatabaseKeepsWhatIsDue(t *testing.T) {
	fn, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	opts := func(readOnly bool, fn script.SyncFunction) database.Options {
		return database.Options{ReadOnly: readOnly, Collections: []database.CollectionOptions{{Function: fn}}}
	}
	e, done := openIdle(t, nil, opts(false, fn))
	defer e.st.Close()
	e.put(`{"_id":"due","_exp":100,"channels":["a"]}`)
	last := e.last()
	done()
	for _, readOnly := range []bool{true, false} {
		e, done = openIdle(t, e.st, opts(readOnly, fn))
		e.clock.add(time.Hour)
		e.sweep()
		_, err := e.admin.Get(t.Context(), "due", database.GetOptions{})
		if gone := err != nil; gone == readOnly || (e.last() == last) != readOnly {
			t.Errorf("read-only %v: %v, last sequence %d after %d", readOnly, err, e.last(), last)
		}
		done()
	}
}
