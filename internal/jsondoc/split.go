package jsondoc

import (
	"bytes"

	"github.com/tidegate/tidegate"
)

// Doc is a document as a client sent it, with the underscore members apart (gateway-rest.md §11.1).
type Doc struct {
	ID      string // value of _id
	HasID   bool
	Rev     string // value of _rev; "" if it is null
	HasRev  bool
	Deleted bool // _deleted is true
	// HasDeleted: _deleted is there, whatever its value.
	HasDeleted bool
	Removed    bool // _removed is there, whatever its value
	Purged     bool // _purged is there, whatever its value
	// Exp, Attachments and Revisions are the raw values of _exp, _attachments and _revisions; nil when absent.
	// They share memory with the input.
	Exp, Attachments, Revisions []byte
	// Unknown are the other underscore members, in order. Their values stay in Body if keepUnknown was asked
	// for, and are dropped otherwise.
	Unknown []string
	// Body is a compact object of the other members in their original order. It has memory of its own.
	Body []byte
}

// Split reads a document and takes its underscore members apart, in one pass. Errors: ErrTooLarge, ErrEmpty,
// ErrNotObject, or Invalid with a reason that begins with "Bad JSON: ", or that names the member whose type is
// wrong.
func Split(raw []byte, lim Limits, keepUnknown bool) (*Doc, error) {
	s := newScanner(raw, lim)
	if err := s.begin(); err != nil {
		return nil, err
	}
	start := s.space(0)
	if raw[start] != '{' {
		if err := s.end(s.value(start, 0)); err != nil {
			return nil, err
		}
		return nil, ErrNotObject
	}
	d := splitter{keepUnknown: keepUnknown, doc: &Doc{}}
	s.out = make([]byte, 0, min(len(raw), firstBody))
	if err := s.end(d.members(&s, start)); err != nil {
		return nil, err
	}
	if d.wrongType != "" {
		return nil, tidegate.Errorf(tidegate.Invalid, "Bad %s: wrong type", d.wrongType)
	}
	if cap(s.out) > 2*len(s.out)+spareBody {
		s.out = bytes.Clone(s.out)
	}
	d.doc.Body = s.out
	return d.doc, nil
}

// A document may be a small body with megabytes of attachments inline. So a body begins with firstBody bytes at
// most, and keeps no more than spareBody bytes more memory than twice its length.
const (
	firstBody = 64 << 10
	spareBody = 1 << 10
)

// splitter is the state of one Split beside its scanner.
type splitter struct {
	doc         *Doc
	keepUnknown bool
	wrongType   string // the first member whose type is wrong
}

// members reads the top-level object at i: its underscore members into the doc, the others into s.out.
func (d *splitter) members(s *scanner, i int) int {
	if s.lim.Depth < 1 {
		return s.fail(i, faultDeep)
	}
	s.out = append(s.out, '{')
	i = s.space(i + 1)
	if i < len(s.raw) && s.raw[i] == '}' {
		s.out = append(s.out, '}')
		return i + 1
	}
	frame := s.keys.open()
	pending := false // raw[s.mark:last] belongs into s.out and is not there yet
	last := 0        // behind the last value
	for {
		end, name := s.keyText(i, &frame)
		if end == failed {
			return failed
		}
		ours := d.takes(name)
		if pending && (ours || i != last+1) {
			s.out = append(s.out, s.raw[s.mark:last]...)
			pending = false
		}
		if !ours && !pending {
			if len(s.out) > 1 {
				s.out = append(s.out, ',')
			}
			s.mark, pending = i, true
		}
		s.compacting = !ours
		value := s.colon(end)
		if value == failed {
			return failed
		}
		if last = s.value(value, 1); last == failed {
			return failed
		}
		s.compacting = false
		if len(name) > 0 && name[0] == '_' {
			d.note(name, s.raw[value:last])
		}
		i = s.space(last)
		if i >= len(s.raw) || (s.raw[i] != ',' && s.raw[i] != '}') {
			return s.unexpected(i, faultObject)
		}
		if s.raw[i] == '}' {
			break
		}
		i = s.space(i + 1)
	}
	s.keys.close(frame)
	if pending {
		s.out = append(s.out, s.raw[s.mark:last]...)
	}
	s.out = append(s.out, '}')
	return i + 1
}

// takes reports whether the member does not go into the body.
func (d *splitter) takes(name []byte) bool {
	if len(name) == 0 || name[0] != '_' {
		return false
	}
	if !d.keepUnknown {
		return true
	}
	switch string(name) {
	case "_id", "_rev", "_deleted", "_removed", "_purged", "_exp", "_attachments", "_revisions":
		return true
	}
	return false
}

// note records an underscore member.
func (d *splitter) note(name, value []byte) {
	ok := true
	switch string(name) {
	case "_id":
		d.doc.ID, ok = Unquote(value)
		d.doc.HasID = true
	case "_rev":
		d.doc.Rev, ok = Unquote(value)
		ok = ok || string(value) == "null"
		d.doc.HasRev = true
	case "_deleted":
		d.doc.HasDeleted = true
		d.doc.Deleted = string(value) == "true"
		ok = d.doc.Deleted || string(value) == "false"
	case "_removed":
		d.doc.Removed = true
	case "_purged":
		d.doc.Purged = true
	case "_exp":
		d.doc.Exp = value
	case "_attachments":
		d.doc.Attachments = value
	case "_revisions":
		d.doc.Revisions = value
	default:
		d.doc.Unknown = append(d.doc.Unknown, string(name))
	}
	if !ok && d.wrongType == "" {
		d.wrongType = string(name)
	}
}
