package database

import (
	"github.com/tidegate/tidegate/internal/store"
)

// checkLedger checks the counter of the ledger, and what is remembered of purged documents.
func (c *checker) checkLedger() error {
	counted, err := readLedger(c.r, c.db.space)
	if err != nil {
		c.problem(CheckLedger, "%v", err)
	} else if counted.Rows != int64(c.report.Ledger) {
		c.problem(CheckLedger, "%d deletions are remembered, %d are counted", c.report.Ledger, counted.Rows)
	}
	return c.scan(store.KindGuard, func(rest, value []byte) error {
		coll, id, after := c.cutDoc("purged document", rest)
		if coll == nil {
			return nil
		}
		c.report.Guards++
		if rec, err := parseRecord(value); err != nil || len(after) > 0 || !rec.compact() || len(rec.channels) > 0 {
			c.problem(CheckLedger, "what is remembered of the purged document %q does not make sense", id)
		}
		return nil
	})
}
