package mapping

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// attachmentsField is where a MongoDB document has the attachments of a tidegate document:
//
//	_attachments: {<name>: {content_type: <string>?, encoding: <string>?, length: <int64, with encoding>?, data: <binary>}, …}
//
// A member of that name which is anything else is an ordinary member, and so is ~_attachments in tidegate.
const attachmentsField = "_attachments"

// maxAttachmentBytes is how many bytes of attachments go along with a document, which has to fit into 16 MiB.
const maxAttachmentBytes = 12 << 20

// attachment is one entry.
type attachment struct {
	contentType, encoding       string
	hasContentType, hasEncoding bool
	length                      int64
	data                        []byte
}

// isAttachments reports whether a member of that name stands for attachments: whether it is exactly what we would write.
func isAttachments(v bson.RawValue) bool {
	doc, ok := v.DocumentOK()
	if !ok {
		return false
	}
	elements, err := doc.Elements()
	if err != nil || len(elements) == 0 {
		return false
	}
	seen := map[string]bool{}
	for _, e := range elements {
		if _, ok := attachmentOf(e.Value()); !ok || seen[e.Key()] {
			return false
		}
		seen[e.Key()] = true
	}
	return true
}

// attachmentOf reads an entry that has just the members that it may have, in order.
func attachmentOf(v bson.RawValue) (a attachment, ok bool) {
	doc, ok := v.DocumentOK()
	if !ok {
		return a, false
	}
	elements, err := doc.Elements()
	if err != nil {
		return a, false
	}
	take := func(name string) (bson.RawValue, bool) {
		if len(elements) == 0 || elements[0].Key() != name {
			return bson.RawValue{}, false
		}
		v := elements[0].Value()
		elements = elements[1:]
		return v, true
	}
	if v, found := take("content_type"); found {
		if a.contentType, a.hasContentType = v.StringValueOK(); !a.hasContentType {
			return a, false
		}
	}
	if v, found := take("encoding"); found {
		if a.encoding, a.hasEncoding = v.StringValueOK(); !a.hasEncoding {
			return a, false
		}
		length, _ := take("length")
		if a.length, ok = length.Int64OK(); !ok || a.length < 0 {
			return a, false
		}
	}
	data, _ := take("data")
	subtype, bytes, ok := data.BinaryOK()
	a.data = bytes
	return a, ok && subtype == 0 && len(elements) == 0
}

// attachments writes the member for attachments that were checked.
func (w *jsonWriter) attachments(doc bson.Raw) {
	w.b = append(w.b, `,"`+attachmentsField+`":{`...)
	elements, _ := doc.Elements()
	for i, e := range elements {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		a, _ := attachmentOf(e.Value())
		w.b = append(jsondoc.AppendString(w.b, e.Key()), `:{`...)
		if a.hasContentType {
			w.b = append(jsondoc.AppendString(append(w.b, `"content_type":`...), a.contentType), ',')
		}
		if a.hasEncoding {
			w.b = append(jsondoc.AppendString(append(w.b, `"encoding":`...), a.encoding), ',')
			w.b = fmt.Appendf(w.b, `"length":%d,"encoded_length":%d,`, a.length, len(a.data))
		}
		w.b = append(base64.StdEncoding.AppendEncode(append(w.b, `"data":"`...), a.data), `"}`...)
	}
	w.b = append(w.b, '}')
}

// attachments appends the member for a document's attachments.
func (r *bsonReader) attachments(out, raw []byte) ([]byte, error) {
	if raw[0] != '{' {
		return out, unmappable(attachmentsField, "no object")
	}
	doc, total := beginDocument(nil), 0
	n := 0
	for name, entry := range jsondoc.Members(raw) {
		v, size, err := attachmentToBSON(name, entry)
		if err != nil {
			return out, err
		}
		if total += size; total > maxAttachmentBytes {
			return out, unmappable(attachmentsField, fmt.Sprintf("attachments of more than %d bytes", maxAttachmentBytes))
		}
		doc = appendElement(doc, name, v)
		n++
	}
	if n == 0 {
		return out, nil
	}
	return appendElement(out, attachmentsField, valueOf(bson.TypeEmbeddedDocument, endDocument(doc, 0))), nil
}

// attachmentToBSON writes an entry with its data down; its digest, length and revpos are the server's to make.
func attachmentToBSON(name string, raw []byte) (v bson.RawValue, size int, err error) {
	where := attachmentsField + "." + name
	if len(name) > 0 && containsNUL(name) {
		return v, 0, unmappable(attachmentsField, "NUL in the name of an attachment")
	}
	if raw[0] != '{' {
		return v, 0, unmappable(where, "no object")
	}
	doc := beginDocument(nil)
	if t, ok := textMember(raw, "content_type"); ok {
		doc = appendElement(doc, "content_type", text(t))
	}
	if e, ok := textMember(raw, "encoding"); ok {
		length, _ := jsondoc.Get(raw, "length")
		n, err := strconv.ParseInt(string(length), 10, 64)
		if err != nil || n < 0 {
			return v, 0, unmappable(where, "an encoding without a length")
		}
		doc = appendElement(appendElement(doc, "encoding", text(e)), "length", long(n))
	}
	encoded, ok := textMember(raw, "data")
	if !ok {
		return v, 0, unmappable(where, "the data is not there")
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return v, 0, unmappable(where, "damaged data")
	}
	doc = appendElement(doc, "data", valueOf(bson.TypeBinary, appendBinary(nil, 0, data)))
	return valueOf(bson.TypeEmbeddedDocument, endDocument(doc, 0)), len(data), nil
}

func textMember(obj []byte, name string) (string, bool) {
	raw, ok := jsondoc.Get(obj, name)
	if !ok {
		return "", false
	}
	return jsondoc.Unquote(raw)
}
