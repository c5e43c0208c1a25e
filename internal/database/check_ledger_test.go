package database_test

import (
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// Check finds what is wrong with the ledger, with clients and with the quarantine.
func TestCheckFindsFaultsOfDeviceSync(t *testing.T) {
	put := func(kind store.Kind, rest, value string) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.Put(append(store.NewKey(space, kind), rest...), []byte(value)) }
	}
	for name, tt := range map[string]struct {
		fault func(store.Tx) error
		kind  string
	}{
		"counter": {func(tx store.Tx) error { return tx.Delete(store.NewKey(space, store.KindMeta).Name("ledger")) }, database.CheckLedger},
		"guard": {func(tx store.Tx) error {
			return tx.Put(store.NewKey(space, store.KindGuard).Collection(0).Name("g"), []byte("x"))
		}, database.CheckLedger},
		"client":     {put(store.KindClient, "\x00\x00\x00\x00x\x00\x01", "\x01{}"), database.CheckClient},
		"retired":    {put(store.KindRetired, "short", "12345678"), database.CheckClient},
		"quarantine": {put(store.KindQuarantine, strings.Repeat("x", 16), "\x01{}"), database.CheckClient},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, database.Options{})
			e.deleteDoc("d", 1)
			e.remember()
			e.check()
			if err := e.st.Update(t.Context(), tt.fault); err != nil {
				t.Fatal(err)
			}
			report, err := e.db.Check(t.Context(), database.CheckOptions{})
			if err != nil || len(report.Problems) != 1 || report.Problems[0].Kind != tt.kind {
				t.Errorf("%+v %v", report, err)
			}
		})
	}
}
