package database

import (
	"encoding/binary"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// What an expiry row is about. The values are part of the stored format.
const (
	expireBody  byte = 'b' // the body of a revision that is no leaf may go
	expireDoc   byte = 'd' // the document becomes a tombstone
	expireLocal byte = 'l' // the local document goes
)

// expiryKey is the row that something is due at t. rev is for bodies only.
func (c *collection) expiryKey(t time.Time, what byte, id string, rev tidegate.RevID) store.Key {
	k := store.NewKey(c.space, store.KindExpiry).Uint64(uint64(max(t.UnixMilli(), 0)))
	k = append(k, what).Collection(c.id).Name(id)
	if what == expireBody {
		k = k.Name(rev.String())
	}
	return k
}

// dueRow is an expiry row taken apart.
type dueRow struct {
	key  store.Key
	at   time.Time
	what byte
	coll store.Collection
	id   string
	rev  tidegate.RevID
}

// errExpiryKey is answered to an expiry row that makes no sense.
var errExpiryKey = tidegate.Errorf(tidegate.Corrupt, "a stored expiry does not make sense")

// parseDue takes an expiry row's key apart. The result shares no memory with key.
func parseDue(key []byte) (dueRow, error) {
	row := dueRow{key: append(store.Key(nil), key...)}
	rest := row.key[store.Header:]
	if len(rest) < 9 {
		return row, errExpiryKey
	}
	row.at = time.UnixMilli(int64(binary.BigEndian.Uint64(rest))).UTC()
	row.what = rest[8]
	var err error
	if row.coll, rest, err = store.CutCollection(rest[9:]); err != nil {
		return row, errExpiryKey
	}
	if row.id, rest, err = store.CutName(rest); err != nil {
		return row, errExpiryKey
	}
	if row.what == expireBody {
		var text string
		if text, rest, err = store.CutName(rest); err != nil {
			return row, errExpiryKey
		}
		if row.rev, err = tidegate.ParseRevID(text); err != nil {
			return row, errExpiryKey
		}
	}
	if len(rest) > 0 || (row.what != expireBody && row.what != expireDoc && row.what != expireLocal) {
		return row, errExpiryKey
	}
	return row, nil
}
