package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// docOptions say how a revision is shown (gateway-rest.md §11.3).
type docOptions struct {
	revs             bool
	revsLimit        int // of _revisions; 0 = none
	revsFrom         []tidegate.RevID
	attachments      bool // send contents
	attsSince        []tidegate.RevID
	showExp          bool
	conflicts        bool
	deletedConflicts bool
	revsInfo         bool
}

// docOptionsOf reads the query parameters.
func (r *request) docOptions() (docOptions, error) {
	o := docOptions{
		revs:             r.q.boolean("revs", false),
		revsLimit:        int(r.q.integer("revs_limit", 0)),
		attachments:      r.q.boolean("attachments", false),
		showExp:          r.q.boolean("show_exp", false),
		conflicts:        r.q.boolean("conflicts", false),
		deletedConflicts: r.q.boolean("deleted_conflicts", false),
		revsInfo:         r.q.boolean("revs_info", false),
	}
	var err error
	if o.revsFrom, err = r.q.revs("revs_from"); err != nil {
		return o, err
	}
	o.attsSince, err = r.q.revs("atts_since")
	return o, err
}

// A renderer writes revisions as JSON.
type renderer struct {
	ctx    context.Context
	handle *database.Handle
	opts   docOptions
	// follow: contents are not put into the JSON; they come in MIME parts.
	follow bool
}

// contents returns the names of the attachments of doc whose content is to be sent, in order.
func (d *renderer) contents(doc *database.Document) []string {
	if !d.opts.attachments || len(doc.Attachments) == 0 {
		return nil
	}
	var since uint64
	if len(d.opts.attsSince) > 0 {
		since = doc.AttachmentsSince(d.opts.attsSince)
	}
	var names []string
	for name, a := range doc.Attachments {
		if a.RevPos > since {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// document writes doc as a JSON object. send are the attachments from contents.
func (d *renderer) document(o *output, doc *database.Document, send []string) error {
	b := tidegate.AppendJSONString(append(o.b, `{"_id":`...), doc.ID)
	b = append(doc.Rev.Append(append(b, `,"_rev":"`...)), '"')
	switch {
	case doc.Deleted:
		b = append(b, `,"_deleted":true`...)
	case doc.Removed:
		b = append(b, `,"_removed":true`...)
	}
	if d.opts.revs {
		b = appendRevisions(append(b, `,"_revisions":`...), doc.Revisions(d.opts.revsLimit, d.opts.revsFrom))
	}
	if o.b = b; doc.Removed {
		return o.object(nil)
	}
	if err := d.attachments(o, doc, send); err != nil {
		return err
	}
	if err := d.extras(o, doc); err != nil {
		return err
	}
	return o.object(doc.Body)
}

// bytes returns doc as JSON in memory of its own.
func (d *renderer) bytes(s *Server, doc *database.Document) ([]byte, error) {
	var buf bytes.Buffer
	o := s.newOutputTo(&buf)
	defer o.close()
	if err := d.document(o, doc, d.contents(doc)); err != nil {
		return nil, err
	}
	if err := o.finish(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// attachments writes the member _attachments.
func (d *renderer) attachments(o *output, doc *database.Document, send []string) error {
	if len(doc.Attachments) == 0 {
		return nil
	}
	if len(send) == 0 {
		o.b = tidegate.AppendStubsJSON(append(o.b, `,"_attachments":`...), doc.Attachments)
		return o.spill()
	}
	sep := `,"_attachments":{`
	for _, name := range slices.Sorted(maps.Keys(doc.Attachments)) {
		a := doc.Attachments[name]
		o.b = append(tidegate.AppendJSONString(append(o.b, sep...), name), ':')
		sep = ","
		_, sent := slices.BinarySearch(send, name)
		switch {
		case !sent:
			o.b = a.AppendStubJSON(o.b)
		case d.follow:
			o.b = a.AppendFollowsJSON(o.b)
		default:
			if err := d.inline(o, doc, name, a); err != nil {
				return err
			}
		}
	}
	o.b = append(o.b, '}')
	return o.spill()
}

// inline writes an attachment with its content in base64, streamed.
func (d *renderer) inline(o *output, doc *database.Document, name string, a tidegate.Attachment) error {
	content, _, err := d.handle.OpenAttachment(d.ctx, doc, name)
	if err != nil {
		return err
	}
	defer content.Close()
	b := append(o.b, '{')
	if a.ContentType != "" {
		b = append(tidegate.AppendJSONString(append(b, `"content_type":`...), a.ContentType), ',')
	}
	b = tidegate.AppendJSONString(append(b, `"digest":`...), a.Digest)
	b = strconv.AppendInt(append(b, `,"length":`...), a.Length, 10)
	b = strconv.AppendUint(append(b, `,"revpos":`...), a.RevPos, 10)
	if a.Encoding != "" {
		b = tidegate.AppendJSONString(append(b, `,"encoding":`...), a.Encoding)
		b = strconv.AppendInt(append(b, `,"encoded_length":`...), a.EncodedLength, 10)
	}
	o.b = append(b, `,"data":"`...)
	enc := base64.NewEncoder(base64.StdEncoding, o)
	if _, err := io.Copy(enc, content); err != nil {
		return fmt.Errorf("send attachment: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("send attachment: %w", err)
	}
	o.b = append(o.b, `"}`...)
	return nil
}

// extras writes the members that are only there when asked for.
func (d *renderer) extras(o *output, doc *database.Document) error {
	if d.opts.conflicts {
		o.b = appendRevs(o.b, `,"_conflicts":`, doc.Conflicts())
	}
	if d.opts.deletedConflicts {
		o.b = appendRevs(o.b, `,"_deleted_conflicts":`, doc.DeletedConflicts())
	}
	if d.opts.revsInfo {
		infos, err := d.handle.RevsInfo(d.ctx, doc)
		if err != nil {
			return err
		}
		sep := `,"_revs_info":[`
		for _, info := range infos {
			o.b = info.Rev.Append(append(append(o.b, sep...), `{"rev":"`...))
			o.b = append(append(append(o.b, `","status":"`...), info.Status...), `"}`...)
			sep = ","
		}
		if len(infos) > 0 {
			o.b = append(o.b, ']')
		}
	}
	if d.opts.showExp && !doc.Expiry.IsZero() {
		o.b = append(o.b, `,"_exp":"`...)
		o.b = append(doc.Expiry.UTC().AppendFormat(o.b, time.RFC3339), '"')
	}
	return nil
}

// appendRevs appends a member that is an array of revisions, unless there are none.
func appendRevs(b []byte, member string, revs []tidegate.RevID) []byte {
	if len(revs) == 0 {
		return b
	}
	b = append(append(b, member...), '[')
	for i, rev := range revs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(rev.Append(append(b, '"')), '"') // a RevID holds nothing that needs an escape
	}
	return append(b, ']')
}

// appendRevisions appends the value of _revisions.
func appendRevisions(b []byte, revs tidegate.Revisions) []byte {
	b = strconv.AppendUint(append(b, `{"start":`...), revs.Start, 10)
	b = append(b, `,"ids":[`...)
	for i, id := range revs.IDs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), id...), '"')
	}
	return append(b, `]}`...)
}
