package archive

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// The row that stands in a store that is being filled says how far that is.
const (
	markUnderWay = "1"
	markComplete = "2" // everything is there; the store that it is from was asked to give way and may or may not have done so
)

// ErrUnconfirmed: the last step of a move was cut off.
var ErrUnconfirmed = tidegate.Errorf(tidegate.Corrupt,
	"everything was moved into this store, but not whether the old one has given way: if that refuses to be started, take the mark off this one with tidegate move --confirm")

// Moved says where everything in a store was moved to. Such a store is not served from any more.
type Moved struct {
	To string    `json:"to"` // without a password
	At time.Time `json:"at"`
}

func movedRow() store.Key { return store.NewKey(0, store.KindMeta).Name("moved") }

// MarkMoved notes where everything was moved to.
func MarkMoved(ctx context.Context, st store.Store, m Moved) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return st.Update(ctx, func(tx store.Tx) error { return tx.Put(movedRow(), b) })
}

// MovedTo returns where everything was moved to; nil: it was not.
func MovedTo(ctx context.Context, st store.Store) (m *Moved, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		b, err := r.Get(movedRow())
		if err != nil || b == nil {
			return err
		}
		m = new(Moved)
		if err := json.Unmarshal(b, m); err != nil {
			return tidegate.Errorf(tidegate.Corrupt, "the note about where the store was moved to makes no sense: %v", err)
		}
		return nil
	})
	return m, err
}

// Complete notes, on a store that is being filled, that everything is there (or, after all, is not), and that its old place was asked to give way.
func Complete(ctx context.Context, st store.Store, complete bool) error {
	mark := markUnderWay
	if complete {
		mark = markComplete
	}
	return st.Update(ctx, func(tx store.Tx) error { return tx.Put(restoring(), []byte(mark)) })
}

// Confirm takes the mark off a store for which Complete was the last that happened. Conflict: it has no such mark.
func Confirm(ctx context.Context, st store.Store) error {
	return st.Update(ctx, func(tx store.Tx) error {
		v, err := tx.Get(restoring())
		if err != nil {
			return err
		}
		if string(v) != markComplete {
			return tidegate.Errorf(tidegate.Conflict, "no move into this store waits to be confirmed")
		}
		return tx.Delete(restoring())
	})
}
