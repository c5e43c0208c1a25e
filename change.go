package tidegate

// Change is one entry of a changes feed (gateway-rest.md §14.2).
type Change struct {
	Seq  Since
	ID   string
	Revs []RevID // the current revision, or all leaves, winner first; empty in a user's pseudo-entry
	// Deleted: the current revision (all leaves, if all are listed) is a tombstone.
	Deleted bool
	// Revoked: the reader lost access to the document.
	Revoked bool
	// Left: by this revision the document left every channel by which the reader had it. It is not part of the JSON
	// form, where Removed says the same less plainly.
	Left bool
	// Removed are the channels visible to the reader that the document left by this revision.
	Removed ChannelSet
	Doc     []byte // the document's JSON if asked for, else nil
}

// AppendJSON appends the entry in the wire's form and member order. Members that are false or empty are
// left out.
func (c *Change) AppendJSON(b []byte) []byte {
	b = c.Seq.AppendJSON(append(b, `{"seq":`...))
	b = AppendJSONString(append(b, `,"id":`...), c.ID)
	b = append(b, `,"changes":[`...)
	for i, rev := range c.Revs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"rev":"`...) // a RevID holds nothing that needs an escape
		b = append(rev.Append(b), `"}`...)
	}
	b = append(b, ']')
	if c.Deleted {
		b = append(b, `,"deleted":true`...)
	}
	if len(c.Removed) > 0 {
		b = append(b, `,"removed":`...)
		b = c.Removed.AppendJSON(b)
	}
	if c.Doc != nil {
		b = append(append(b, `,"doc":`...), c.Doc...)
	}
	if c.Revoked {
		b = append(b, `,"revoked":true`...)
	}
	return append(b, '}')
}
