package changes

import (
	"slices"

	"github.com/tidegate/tidegate"
)

// cursor is where a feed stands in the walk of DESIGN.md: all plain positions up to plain are done. If slot
// is not 0 then plain is below it and of that slot the rows up to after are done; all of them if after is
// maxSeq.
//
// If floor is not 0 it is a floor marker, and the feed is before everything else in the slot of that: plain is all that is done of
// it, and slot is 0.
type cursor struct {
	plain, slot, after tidegate.Seq
	floor              tidegate.Seq
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

// findFloor puts a cursor that starts at nothing into the slot of the newest marker, and one whose position is in the slot of a marker
// into that.
func (c *cursor) findFloor(since tidegate.Since, markers []tidegate.Seq) {
	switch {
	case len(markers) == 0:
	case since == tidegate.Since{}:
		*c = cursor{floor: markers[len(markers)-1]}
	case since.Trigger > 0 && slices.Contains(markers, since.Trigger):
		*c = cursor{floor: since.Trigger, plain: since.Safe()}
	}
}

// passed is the latest sequence of which the reader may have seen something.
func (c cursor) passed() tidegate.Seq {
	if c.floor > 0 && c.plain > 0 {
		return c.floor
	}
	return max(c.plain, c.slot)
}

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
