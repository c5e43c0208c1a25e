package move

import (
	"context"
	"errors"
	"testing"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// TestNothingBeginsAfterTheEnd: a step that was asked for before a move ended, and gets its turn after that, neither records for ever nor refuses
// writes.
func TestNothingBeginsAfterTheEnd(t *testing.T) {
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	rec := NewRecorder(st)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	rec.end()
	err = rec.snapshot(over, func(store.Reader, archive.Changed) error { return nil })
	if !errors.Is(err, context.Canceled) || rec.recording {
		t.Errorf("snapshot: %v; recording: %v", err, rec.recording)
	}
	rec.stop(over)
	if err := rec.Update(t.Context(), func(tx store.Tx) error { return tx.Put([]byte("\x00\x00\x00\x01a"), nil) }); err != nil {
		t.Error(err)
	}
	if len(rec.changed.Keys) > 0 {
		t.Errorf("recorded: %v", rec.changed.Keys)
	}
}
