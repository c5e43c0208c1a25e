package database

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// WriteFromDoc makes a Write of a document as a REST client sent it (gateway-rest.md §11.1, §11.4). The ID may
// be empty: the caller fills it in. Parent is _rev. Without newEdits the history comes from _revisions, whose head _rev must
// equal if it is there; a document without _revisions has an empty History. Attachments that follow in MIME
// parts have Follows set.
//
// Errors: NotFound for _removed; Invalid for _purged, for members that begin with an underscore and are not
// known, and for malformed _rev, _revisions or _attachments.
func WriteFromDoc(doc *jsondoc.Doc, newEdits bool) (*Write, error) {
	switch {
	case doc.Removed:
		return nil, tidegate.Errorf(tidegate.NotFound, "Document revision is not accessible")
	case doc.Purged:
		return nil, tidegate.Errorf(tidegate.Invalid, "user defined top-level property '_purged' is not allowed in document body")
	case len(doc.Unknown) > 0:
		return nil, tidegate.Errorf(tidegate.Invalid, "Bad special document member: %s", doc.Unknown[0])
	}
	w := &Write{ID: doc.ID, Body: doc.Body, Deleted: doc.Deleted, NewEdits: newEdits, Exp: doc.Exp}
	var rev tidegate.RevID
	var err error
	if doc.Rev != "" {
		if rev, err = tidegate.ParseRevID(doc.Rev); err != nil {
			return nil, err
		}
	}
	w.Parent = rev
	if !newEdits && doc.Revisions != nil {
		if w.History, err = parseRevisions(doc.Revisions, rev); err != nil {
			return nil, err
		}
	}
	w.Attachments, err = ParseAttachments(doc.Attachments)
	return w, err
}

// parseRevisions reads a _revisions member; its head must be rev unless that is zero.
func parseRevisions(raw []byte, rev tidegate.RevID) ([]tidegate.RevID, error) {
	var revisions tidegate.Revisions
	if err := json.Unmarshal(raw, &revisions); err != nil {
		return nil, tidegate.ErrBadRevisions
	}
	history, err := revisions.RevIDs()
	if err != nil {
		return nil, err
	}
	if !rev.IsZero() && history[0] != rev {
		return nil, tidegate.ErrBadRevisions
	}
	return history, nil
}

// errAttachments is answered to an _attachments member of the wrong type.
var errAttachments = tidegate.Errorf(tidegate.Invalid, "Invalid _attachments")

// ParseAttachments reads the raw value of a checked _attachments member. Members that it does not know are
// left aside. nil and {} give nil. Invalid: something in it has the wrong type or is no base64.
func ParseAttachments(raw []byte) (map[string]AttachmentInput, error) {
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '{' {
		return nil, errAttachments
	}
	var attachments map[string]AttachmentInput
	for name, value := range jsondoc.Members(raw) {
		if value[0] != '{' {
			return nil, errAttachments
		}
		in, err := parseAttachment(name, value)
		if err != nil {
			return nil, err
		}
		if attachments == nil {
			attachments = map[string]AttachmentInput{}
		}
		attachments[name] = in
	}
	return attachments, nil
}

// parseAttachment reads one entry of _attachments.
func parseAttachment(name string, raw []byte) (AttachmentInput, error) {
	in := AttachmentInput{Length: -1, EncodedLength: -1}
	ok := true
	for member, value := range jsondoc.Members(raw) {
		good := true
		switch member {
		case "content_type":
			in.ContentType, good = jsondoc.Unquote(value)
		case "encoding":
			in.Encoding, good = jsondoc.Unquote(value)
		case "digest":
			in.Digest, good = jsondoc.Unquote(value)
		case "length":
			in.Length, good = size(value)
		case "encoded_length":
			in.EncodedLength, good = size(value)
		case "revpos":
			var n int64
			n, good = size(value)
			in.RevPos = uint64(max(n, 0))
		case "stub":
			in.Stub = string(value) == "true"
		case "follows":
			in.Follows = string(value) == "true"
		case "data":
			in.Data, good = decodeBase64(value)
		}
		ok = ok && (good || string(value) == "null")
	}
	if !ok {
		return in, tidegate.Errorf(tidegate.Invalid, "Invalid attachment %q", name)
	}
	if in.Data != nil {
		in.Stub, in.Follows = false, false
	}
	if in.Encoding != "" && in.EncodedLength < 0 && in.Data != nil && in.Length == int64(len(in.Data)) {
		in.EncodedLength = in.Length
	}
	return in, nil
}

// size reads a whole number that is not negative; anything else gives -1.
func size(raw []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 0 {
		return -1, false
	}
	return n, true
}

// decodeBase64 reads a JSON string of base64, padded or not. The result is never nil if ok.
func decodeBase64(raw []byte) ([]byte, bool) {
	text, ok := jsondoc.Unquote(raw)
	if !ok {
		return nil, false
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, false
	}
	if data == nil {
		data = []byte{}
	}
	return data, true
}
