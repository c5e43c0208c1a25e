package replicate

import (
	"errors"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
)

// handleGetRev answers getRev with the current revision of a document (replication.md §5.12). Its attachments may be asked
// for as long as the connection has others on their way, no longer: getRev has no end that could be waited for.
func (coll *collection) handleGetRev(r *blip.Request) error {
	id, ok := r.Property("id")
	if !ok {
		return errNoRevID
	}
	h, err := coll.principal(coll.c.ctx())
	if err != nil {
		return err
	}
	doc, err := h.Get(coll.c.ctx(), id, database.GetOptions{})
	if errors.Is(err, tidegate.ErrDeleted) || coll.c.peer.HideMissing && errors.Is(err, tidegate.ErrMissing) {
		return tidegate.ErrForbidden
	}
	if err != nil {
		return err
	}
	rev, _ := coll.history(doc, nil, 1)
	if have, ok := r.Property("ifNotRev"); ok && have == rev {
		return errNotModified
	}
	m := &blip.Message{Body: revBody(doc), Compress: true}
	m.Properties.Add("rev", rev)
	coll.c.respond(r, m)
	return nil
}
