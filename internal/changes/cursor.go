package changes

import "github.com/tidegate/tidegate"

// cursor is where a feed stands in the walk of DESIGN.md: all plain positions up to plain are done. If slot
// is not 0 then plain is below it and of that slot the rows up to after are done; all of them if after is
// maxSeq.
type cursor struct {
	plain, slot, after tidegate.Seq
}

// newCursor is the cursor of a client's position. A position with L resumes from L (gateway-rest.md §14.3).
func newCursor(since tidegate.Since) cursor {
	if since.Trigger == 0 {
		return cursor{plain: since.Safe()}
	}
	c := cursor{plain: since.Trigger - 1, slot: since.Trigger, after: since.Seq}
	if since.Low > 0 {
		c.plain, c.after = min(c.plain, since.Low), min(c.after, since.Low)
	}
	return c
}

// passed is the latest sequence of which the reader may have seen something.
func (c cursor) passed() tidegate.Seq { return max(c.plain, c.slot) }

// inSlot returns from where on to read the slot.
func (c cursor) inSlot(seq tidegate.Seq) (from tidegate.Seq) {
	if c.slot == seq {
		return c.after + 1
	}
	return 1
}

// didSlot reports whether the slot is behind the cursor.
func (c cursor) didSlot(seq tidegate.Seq) bool {
	return seq <= c.plain || (seq == c.slot && c.after == maxSeq)
}

// moveTo notes that all plain positions up to seq are done.
func (c *cursor) moveTo(seq tidegate.Seq) {
	if seq <= c.plain {
		return
	}
	c.plain = seq
	if c.slot <= seq {
		c.slot, c.after = 0, 0
	}
}
