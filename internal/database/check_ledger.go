package database

import (
	"github.com/tidegate/tidegate/internal/store"
)

// checkClients checks what is stored of clients, and the bodies in quarantine.
func (c *checker) checkClients() error {
	idents := map[int64]bool{}
	err := c.scan(store.KindClient, func(_, value []byte) error {
		c.report.Clients++
		rec, err := parseClient(value)
		if err != nil {
			c.problem(CheckClient, "%v", err)
			return nil
		}
		if rec.FileIdent <= 0 || idents[rec.FileIdent] {
			c.problem(CheckClient, "client %q has number %d, which is another's or none", rec.Checkpoint, rec.FileIdent)
		}
		idents[rec.FileIdent] = true
		return nil
	})
	if err != nil {
		return err
	}
	err = c.scan(store.KindRetired, func(rest, value []byte) error {
		if len(rest) != retiredLen || len(value) != 8 {
			c.problem(CheckClient, "the row of a retired client does not make sense")
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.scan(store.KindQuarantine, func(rest, value []byte) error {
		c.report.Quarantined++
		if _, err := parseQuarantined(append(store.NewKey(c.db.space, store.KindQuarantine), rest...), value); err != nil {
			c.problem(CheckClient, "%v", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	counted, err := readQuarantineCount(c.r, c.db.space)
	if err != nil || counted != int64(c.report.Quarantined) {
		c.problem(CheckClient, "%d bodies are in quarantine, %d are counted: %v", c.report.Quarantined, counted, err)
	}
	return nil
}

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
