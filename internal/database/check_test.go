package database_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// TestCheckFindsDamage plants each kind of damage and wants it reported, and nothing reported before.
func TestCheckFindsDamage(t *testing.T) {
	type plant func(t *testing.T, tx store.Tx)
	set := func(key store.Key, value string) plant {
		return func(t *testing.T, tx store.Tx) {
			if err := tx.Put(key, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := func(tx store.Tx, kind store.Kind, contains string) (key, value []byte) {
		it := tx.Scan(store.Prefix(store.NewKey(space, kind)))
		defer it.Close()
		for it.Next() {
			if bytes.Contains(it.Key(), []byte(contains)) || bytes.Contains(it.Value(), []byte(contains)) {
				return bytes.Clone(it.Key()), bytes.Clone(it.Value())
			}
		}
		t.Fatalf("no row of kind %x with %q", kind, contains)
		return nil, nil
	}
	remove := func(kind store.Kind, contains string) plant {
		return func(t *testing.T, tx store.Tx) {
			key, _ := first(tx, kind, contains)
			if err := tx.Delete(key); err != nil {
				t.Fatal(err)
			}
		}
	}
	change := func(kind store.Kind, contains string, at int, to byte) plant {
		return func(t *testing.T, tx store.Tx) {
			key, value := first(tx, kind, contains)
			if at < 0 {
				at += len(value)
			}
			value[at] = to
			if err := tx.Put(key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(kind store.Kind, contains, old, new string) plant {
		return func(t *testing.T, tx store.Tx) {
			key, value := first(tx, kind, contains)
			damaged := bytes.Replace(value, []byte(old), []byte(new), 1)
			if bytes.Equal(damaged, value) {
				t.Fatalf("no %q in the row with %q", old, contains)
			}
			if err := tx.Put(key, damaged); err != nil {
				t.Fatal(err)
			}
		}
	}
	named := sha256.Sum256([]byte("test 7"))
	source := tidegate.NewSource([16]byte(named[:16])) // of test databases
	copyTo := func(kind store.Kind, contains string, to store.Key) plant {
		return func(t *testing.T, tx store.Tx) {
			_, value := first(tx, kind, contains)
			if err := tx.Put(to, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	key := func(kind store.Kind) store.Key { return store.NewKey(space, kind) }
	doc := func(id string) store.Key { return key(store.KindDoc).Collection(0).Name(id) }
	sum := sha256.Sum256([]byte("x"))
	for _, tt := range []struct {
		name, kind string
		plant      plant
	}{
		{"record is garbage", database.CheckRecord, set(doc("plain"), "garbage")},
		{"record of a newer version", database.CheckRecord, change(store.KindDoc, "plain", 0, 99)},
		{"record cut short", database.CheckRecord, func(t *testing.T, tx store.Tx) {
			k, v := first(tx, store.KindDoc, "plain")
			set(k, string(v[:len(v)-1]))(t, tx)
		}},
		{"record says deleted", database.CheckRecord, change(store.KindDoc, "plain", 1, 1)},
		{"channel of record and tree differ", database.CheckRecord, func(t *testing.T, tx store.Tx) {
			k, v := first(tx, store.KindDoc, "plain")
			i := bytes.LastIndex(v, []byte("chan"))
			v[i] = 'x'
			set(k, string(v))(t, tx)
		}},
		{"sequence in the future", database.CheckSequence, change(store.KindDoc, "plain", 2, 1)},
		{"source that is none", database.CheckRecord, replace(store.KindDoc, "plain", source, "*"+source[1:])},
		{"sequence twice", database.CheckSequence, copyTo(store.KindDoc, "plain", doc("twin"))},
		{"leaf without body", database.CheckBody, remove(store.KindBody, "plain")},
		{"body is garbage", database.CheckBody, change(store.KindBody, "plain", 2, 0xff)},
		{"body says deleted", database.CheckBody, change(store.KindBody, "plain", 1, 1)},
		{"body of no document", database.CheckBody, copyTo(store.KindBody, "plain", key(store.KindBody).Collection(0).Name("none").Name("1-a"))},
		{"body of a bad revision", database.CheckKey, copyTo(store.KindBody, "plain", key(store.KindBody).Collection(0).Name("plain").Name("x"))},
		{"old body that never goes", database.CheckBody, remove(store.KindExpiry, "old")},
		{"index entry missing", database.CheckIndex, remove(store.KindChannel, "plain")},
		{"index entry of * missing", database.CheckIndex, func(t *testing.T, tx store.Tx) {
			k, _ := first(tx, store.KindChannel, "*")
			if err := tx.Delete(k); err != nil {
				t.Fatal(err)
			}
		}},
		{"index entry changed", database.CheckIndex, change(store.KindChannel, "plain", -1, 'z')},
		{"index entry of nothing", database.CheckIndex, copyTo(store.KindChannel, "plain", key(store.KindChannel).Collection(0).Name("ghost").Seq(3))},
		{"grant missing", database.CheckGrant, remove(store.KindGrant, "granter")},
		{"grant changed", database.CheckGrant, change(store.KindGrant, "granter", -2, 9)},
		{"grant of nothing", database.CheckGrant, set(key(store.KindGrant).Name("user:amy").Collection(0).Name("plain"), "x")},
		{"expiry missing", database.CheckExpiry, remove(store.KindExpiry, "mortal")},
		{"expiry of nothing", database.CheckExpiry, set(append(key(store.KindExpiry).Uint64(5), 'd').Collection(0).Name("plain"), "")},
		{"expiry makes no sense", database.CheckKey, set(append(key(store.KindExpiry).Uint64(5), 'q'), "")},
		{"reference missing", database.CheckBlob, remove(store.KindBlobRef, "")},
		{"reference of nothing", database.CheckBlob, set(append(key(store.KindBlobRef), sum[:]...).Collection(0).Name("plain"), "")},
		{"reference makes no sense", database.CheckKey, set(append(key(store.KindBlobRef), 1, 2), "")},
		{"content missing", database.CheckBlob, remove(store.KindBlob, "")},
		{"content damaged", database.CheckBlob, change(store.KindBlob, "", 0, '?')},
		{"content without reference", database.CheckBlob, set(append(key(store.KindBlob), sum[:]...), "x")},
		{"local document is garbage", database.CheckLocal, set(key(store.KindLocal).Collection(0).Name("cp"), "?")},
		{"local document that never goes", database.CheckLocal, func(t *testing.T, tx store.Tx) {
			it := tx.Scan(store.Prefix(key(store.KindExpiry)))
			var found []byte
			for it.Next() {
				if it.Key()[store.Header+8] == 'l' {
					found = bytes.Clone(it.Key())
				}
			}
			it.Close()
			if err := tx.Delete(found); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := open(t, database.Options{})
			r := e.put(`{"_id":"old","channels":["chan"]}`)
			e.put(`{"_id":"old","_rev":"` + r.String() + `"}`)
			e.put(`{"_id":"plain","channels":["chan"],"v":1}`)
			e.put(`{"_id":"granter","grant":[["bob","x"]]}`)
			e.put(`{"_id":"mortal","_exp":100}`)
			e.put(`{"_id":"att","_attachments":{"f":{"data":"aGVsbG8="}}}`)
			if _, err := e.admin.PutLocal(t.Context(), "cp", "", []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			e.check()
			err := e.st.Update(t.Context(), func(tx store.Tx) error {
				tt.plant(t, tx)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			report, err := e.db.Check(t.Context(), database.CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range report.Problems {
				if p.Kind == tt.kind {
					return
				}
			}
			t.Errorf("not found: %+v", report.Problems)
		})
	}
}

// Files that vanish or rot are found too.
func TestCheckFindsDamagedFiles(t *testing.T) {
	e := open(t, database.Options{InlineAttachmentBytes: -1})
	e.put(`{"_id":"att","_attachments":{"f":{"data":"aGVsbG8="}}}`)
	e.check()
	if err := e.blobs.Remove(t.Context(), space, sha256.Sum256([]byte("hello"))); err != nil {
		t.Fatal(err)
	}
	report, err := e.db.Check(t.Context(), database.CheckOptions{MaxProblems: 1})
	if err != nil || report.OK() || len(report.Problems) != 1 || report.Problems[0].Kind != database.CheckBlob {
		t.Fatalf("%+v %v", report, err)
	}
}
