package database

import (
	"encoding/binary"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// bodyFormat is the first byte of a stored body.
const bodyFormat = 1

// Flags of a body's header.
const (
	bodyDeleted     byte = 1 << iota // a tombstone
	bodyAttachments                  // there are attachments
	bodyClosed                       // kept although its branch was closed (Write.BulkPush)
	bodyVersion                      // the header names the version that the revision was as the current one
	bodyAll         = bodyDeleted | bodyAttachments | bodyClosed | bodyVersion
)

// emptyBody is the JSON of a document without members.
var emptyBody = []byte("{}")

// body is what is stored about one revision.
type body struct {
	deleted     bool
	closed      bool
	channels    tidegate.ChannelSet // right for revisions that are no leaves; see DESIGN.md
	version     tidegate.Version    // likewise; zero for a revision that never was the current one, or before vectors
	attachments map[string]tidegate.Attachment
	json        []byte
}

// appendBinary appends the stored form.
func (y *body) appendBinary(b []byte) []byte {
	var flags byte
	if y.deleted {
		flags |= bodyDeleted
	}
	if len(y.attachments) > 0 {
		flags |= bodyAttachments
	}
	if y.closed {
		flags |= bodyClosed
	}
	if !y.version.IsZero() {
		flags |= bodyVersion
	}
	b = append(b, bodyFormat, flags)
	b = binary.AppendUvarint(b, uint64(len(y.channels)))
	for _, c := range y.channels {
		b = appendString(b, c)
	}
	if !y.version.IsZero() {
		b = binary.AppendUvarint(b, y.version.Time)
		b = appendString(b, y.version.Source)
	}
	if len(y.attachments) > 0 {
		b = tidegate.AppendAttachments(b, y.attachments)
	}
	return append(b, y.json...)
}

// parseBody reads a stored body. json points into b.
func parseBody(b []byte) (body, error) {
	r := reader{rest: b}
	version, flags := r.byte(), r.byte()
	if r.failed || version == 0 {
		return body{}, errBody
	}
	if version > bodyFormat || flags > bodyAll {
		return body{}, errNewer
	}
	y := body{deleted: flags&bodyDeleted != 0, closed: flags&bodyClosed != 0}
	if n := r.count(1); n > 0 {
		y.channels = make(tidegate.ChannelSet, n)
		for i := range y.channels {
			y.channels[i] = r.string()
		}
	}
	if flags&bodyVersion != 0 {
		y.version = tidegate.Version{Time: r.uvarint()}
		if y.version.Source = r.string(); y.version.IsZero() {
			r.fail()
		}
	}
	if r.failed {
		return body{}, errBody
	}
	if flags&bodyAttachments != 0 {
		var err error
		if y.attachments, r.rest, err = tidegate.ParseAttachments(r.rest); err != nil {
			return body{}, err
		}
	}
	if len(r.rest) < 2 || r.rest[0] != '{' {
		return body{}, errBody
	}
	y.json = r.rest
	return y, nil
}

// errBody is answered to bytes that are no stored body.
var errBody = tidegate.Errorf(tidegate.Corrupt, "a stored revision does not make sense")

// hasAttachments reports whether a stored body has attachments, without decoding it.
func hasAttachments(b []byte) bool { return len(b) > 1 && b[1]&bodyAttachments != 0 }

// The keys of a collection's bodies and local documents.
func (c *collection) bodyKey(id string, rev tidegate.RevID) store.Key {
	k := c.bodyPrefix(id)
	var text [tidegate.MaxRevIDLen + 1]byte
	return k.Name(string(rev.Append(text[:0])))
}

// bodyPrefix is the beginning of the keys of all bodies of a document.
func (c *collection) bodyPrefix(id string) store.Key {
	return store.NewKey(c.space, store.KindBody).Collection(c.id).Name(id)
}

func (c *collection) localKey(id string) store.Key {
	return store.NewKey(c.space, store.KindLocal).Collection(c.id).Name(id)
}
