package tidegate

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
)

// Attachment is the metadata of one attachment of a revision (gateway-rest.md §12.1). Its name is the key
// of the map it is kept in.
type Attachment struct {
	ContentType string
	Digest      string // "sha1-" and the base64 of the SHA-1 of the content as stored
	Length      int64  // bytes, decoded
	RevPos      uint64 // generation of the revision that brought it
	// Encoding is "gzip" if the content is stored encoded, else ""; EncodedLength is the stored length then.
	Encoding      string
	EncodedLength int64
	Key           [32]byte // blob key; never on the wire
}

// AppendStubJSON appends the attachment's metadata as an object with "stub":true: the content is not sent.
func (a *Attachment) AppendStubJSON(b []byte) []byte {
	return a.appendRest(append(a.appendHead(b), `"stub":true`...))
}

// AppendFollowsJSON appends the metadata as an object with "follows":true: the content comes in a MIME part.
func (a *Attachment) AppendFollowsJSON(b []byte) []byte {
	return a.appendRest(append(a.appendHead(b), `"follows":true`...))
}

// AppendInlineJSON appends the metadata as an object with the content, as stored, in base64.
func (a *Attachment) AppendInlineJSON(b, content []byte) []byte {
	b = append(a.appendHead(b), `"data":"`...)
	b = append(base64.StdEncoding.AppendEncode(b, content), '"')
	return a.appendRest(b)
}

func (a *Attachment) appendHead(b []byte) []byte {
	b = append(b, '{')
	if a.ContentType != "" {
		b = append(AppendJSONString(append(b, `"content_type":`...), a.ContentType), ',')
	}
	b = AppendJSONString(append(b, `"digest":`...), a.Digest)
	b = strconv.AppendInt(append(b, `,"length":`...), a.Length, 10)
	b = strconv.AppendUint(append(b, `,"revpos":`...), a.RevPos, 10)
	return append(b, ',')
}

func (a *Attachment) appendRest(b []byte) []byte {
	if a.Encoding != "" {
		b = AppendJSONString(append(b, `,"encoding":`...), a.Encoding)
		b = strconv.AppendInt(append(b, `,"encoded_length":`...), a.EncodedLength, 10)
	}
	return append(b, '}')
}

// AppendStubsJSON appends the value of _attachments with every attachment as a stub, in order of names.
func AppendStubsJSON(b []byte, attachments map[string]Attachment) []byte {
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(attachments)) {
		if i > 0 {
			b = append(b, ',')
		}
		a := attachments[name]
		b = a.AppendStubJSON(append(AppendJSONString(b, name), ':'))
	}
	return append(b, '}')
}

// attachmentsFormat is the first byte of the binary form.
const attachmentsFormat = 1

// AppendAttachments appends the stored form of a revision's attachments. It is the same for equal maps.
func AppendAttachments(b []byte, attachments map[string]Attachment) []byte {
	b = append(b, attachmentsFormat)
	b = binary.AppendUvarint(b, uint64(len(attachments)))
	for _, name := range slices.Sorted(maps.Keys(attachments)) {
		a := attachments[name]
		b = appendBinaryString(b, name)
		b = appendBinaryString(b, a.ContentType)
		b = appendBinaryString(b, a.Digest)
		b = binary.AppendUvarint(b, uint64(a.Length))
		b = binary.AppendUvarint(b, a.RevPos)
		b = appendBinaryString(b, a.Encoding)
		b = binary.AppendUvarint(b, uint64(a.EncodedLength))
		b = append(b, a.Key[:]...)
	}
	return b
}

// ParseAttachments reads what AppendAttachments wrote and returns what follows it. The map is nil if there
// is no attachment. Corrupt: the bytes make no sense.
func ParseAttachments(b []byte) (map[string]Attachment, []byte, error) {
	r := binaryReader{rest: b}
	if r.byte() != attachmentsFormat {
		return nil, nil, errCorrupt
	}
	const smallest = 6 + len(Attachment{}.Key) + 1
	n := r.count(smallest)
	var attachments map[string]Attachment
	if n > 0 {
		attachments = make(map[string]Attachment, n)
	}
	last := ""
	for i := range n {
		name, a := r.string(), Attachment{ContentType: r.string(), Digest: r.string()}
		length, revPos := r.uvarint(), r.uvarint()
		a.Encoding = r.string()
		encodedLength := r.uvarint()
		copy(a.Key[:], r.bytes(len(a.Key)))
		a.Length, a.RevPos, a.EncodedLength = int64(length), revPos, int64(encodedLength)
		if r.failed || a.Length < 0 || a.EncodedLength < 0 || (i > 0 && name <= last) {
			return nil, nil, errCorrupt
		}
		attachments[name], last = a, name
	}
	if r.failed {
		return nil, nil, errCorrupt
	}
	return attachments, r.rest, nil
}
