package access

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

func TestRecordCodec(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123).UTC()
	full := newRecord(now)
	full.deleted, full.disabled, full.email, full.hash, full.sessions = true, true, "a@b.c", []byte("$2a$…"), 1<<63+5
	full.seq, full.since = 7, 9
	full.explicit[0] = tidegate.Grants{"x": 7, "": 0}
	full.explicit[3] = tidegate.Grants{"\x00": 1 << 52}
	full.explicitRoles = tidegate.Grants{"r": 7}
	full.channels[0] = holding{grants: tidegate.Grants{"x": 7}, earlier: tidegate.Grants{"x": 3}}
	full.roles = holding{grants: tidegate.Grants{"r": 7}}
	full.lost[3] = history{"old": {updated: now, spans: []Span{{1, 2}, {4, 5}}}}
	full.lostRoles = history{"s": {updated: now, spans: []Span{{2, 6}}}}
	for name, rec := range map[string]*record{"full": full, "empty": newRecord(time.Time{})} {
		b := rec.encode()
		got, err := decodeRecord(b)
		if err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, rec)
		}
		for i := range b {
			if _, err := decodeRecord(b[:i]); tidegate.ErrorCode(err) != tidegate.Corrupt {
				t.Fatalf("%s cut to %d bytes: %v", name, i, err)
			}
		}
		if _, err := decodeRecord(append(b, 0)); tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("%s with a byte more: %v", name, err)
		}
		b[0]++
		if _, err := decodeRecord(b); tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("%s of a newer version: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	rec := newRecord(time.UnixMilli(5))
	rec.explicit[1] = tidegate.Grants{"x": 1}
	rec.lostRoles = history{"s": {updated: rec.created, spans: []Span{{2, 6}}}}
	f.Add(rec.encode())
	f.Add(grantSet{channels: tidegate.Grants{"a": 1}}.encode())
	f.Add(storedSession{user: "bob", expires: rec.created}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if rec, err := decodeRecord(b); err == nil {
			again, err := decodeRecord(rec.encode())
			if err != nil || !reflect.DeepEqual(again, rec) {
				t.Fatalf("%v: %+v, %+v", err, rec, again)
			}
		}
		if set, err := decodeGrants(b); err == nil {
			if again, err := decodeGrants(set.encode()); err != nil || !again.equal(set) {
				t.Fatalf("%v: %v, %v", err, set, again)
			}
		}
		if s, err := decodeSession(b); err == nil {
			if _, err := decodeSession(s.encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A corrupt principal is loud, not a user without channels.
func TestCorruptRowsAreLoud(t *testing.T) {
	for _, kind := range []store.Kind{store.KindPrincipal, store.KindInvalid, store.KindGrant} {
		r := open(t, openStore(t), noPasswords)
		put(t, r, "bob", UserUpdate{})
		docs{}.write(t, r, 0, "D", lists{"bob": {"x"}}, nil)
		err := r.cfg.Store.Update(t.Context(), func(tx store.Tx) error {
			keys, err := firstKeys(tx, store.Prefix(store.NewKey(testSpace, kind)), 10)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				t.Fatal("no row")
			}
			for _, key := range keys {
				b, err := tx.Get(key)
				if err != nil {
					return err
				}
				if err := tx.Put(key, bytes.Clone(b[:len(b)-1])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.User(t.Context(), "bob"); tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("kind %x: %v", kind, err)
		}
	}
}
