// Command aged makes a gateway believe that days have passed: it notes, in the store of a gateway that is not running, that the present last
// sequence of a database (or -seq) was the last one that long ago, as the hourly samples of device sync would. Tests of trims use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

func main() {
	data := flag.String("data", "", "data directory of the gateway")
	database := flag.String("db", "", "database; its device sync was configured")
	days := flag.Int("days", 0, "how many days pass")
	seq := flag.Uint64("seq", 0, "the sequence that was the last one then; 0: the present one")
	flag.Parse()
	if err := run(*data, *database, *days, tidegate.Seq(*seq)); err != nil {
		fmt.Fprintln(os.Stderr, "aged:", err)
		os.Exit(1)
	}
}

func run(data, database string, days int, seq tidegate.Seq) error {
	st, err := pebblestore.Open(filepath.Join(data, "store"), pebblestore.Options{})
	if err != nil {
		return err
	}
	err = st.Update(context.Background(), func(tx store.Tx) error {
		return age(tx, database, devicesync.Sample{At: time.Now().AddDate(0, 0, -days).Unix(), Seq: seq})
	})
	return errors.Join(err, st.Close())
}

// spaces is more than any test has.
const spaces = 1000

// age gives the row of a database the sample.
func age(tx store.Tx, database string, sample devicesync.Sample) error {
	for space := store.Space(1); space < spaces; space++ {
		key := store.NewKey(space, store.KindMeta).Name(devicesync.RowName)
		value, err := tx.Get(key)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		row, err := devicesync.DecodeRow(value)
		if err != nil {
			return err
		}
		if row.Config.DatabaseName != database {
			continue
		}
		if sample.Seq == 0 {
			if sample.Seq, err = tx.LastSequence(space); err != nil {
				return err
			}
		}
		row.Record.Samples = []devicesync.Sample{sample}
		if value, err = row.Encode(); err != nil {
			return err
		}
		return tx.Put(key, value)
	}
	return fmt.Errorf("device sync of %q was never configured", database)
}
