package fakemongo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Operation codes and limits of the wire protocol.
const (
	opReply    = 1
	opQuery    = 2004 // only for the first hello of a connection
	opMsg      = 2013
	maxMessage = 48_000_000
	moreToCome = 2
)

// message is a request: its command, with document sequences put back into it.
type message struct {
	id, code int32
	body     bson.Raw
}

func readMessage(r io.Reader) (message, error) {
	var header [16]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return message{}, err
	}
	size := int32(binary.LittleEndian.Uint32(header[:4]))
	if size < 16 || size > maxMessage+1024 {
		return message{}, errors.New("message size")
	}
	m := message{id: int32(binary.LittleEndian.Uint32(header[4:8])), code: int32(binary.LittleEndian.Uint32(header[12:16]))}
	payload := make([]byte, size-16)
	if _, err := io.ReadFull(r, payload); err != nil {
		return message{}, err
	}
	switch m.code {
	case opMsg:
		return m, m.readSections(payload)
	case opQuery:
		rest := payload[4:]
		for i, b := range rest {
			if b == 0 {
				m.body = rest[i+1+8:]
				break
			}
		}
		m.body = m.body[:binary.LittleEndian.Uint32(m.body)]
		return m, nil
	}
	return message{}, fmt.Errorf("operation %d", m.code)
}

// readSections reads the parts of an OP_MSG.
func (m *message) readSections(payload []byte) error {
	if binary.LittleEndian.Uint32(payload)&moreToCome != 0 {
		return errors.New("unacknowledged writes are not played")
	}
	var sequences []bson.E
	for rest := payload[4:]; len(rest) > 0; {
		kind := rest[0]
		rest = rest[1:]
		size := int(binary.LittleEndian.Uint32(rest))
		switch kind {
		case 0:
			m.body = rest[:size]
		case 1:
			section := rest[4:size]
			end := 0
			for section[end] != 0 {
				end++
			}
			var docs bson.A
			for docsLeft := section[end+1:]; len(docsLeft) > 0; {
				n := binary.LittleEndian.Uint32(docsLeft)
				docs = append(docs, bson.Raw(docsLeft[:n]))
				docsLeft = docsLeft[n:]
			}
			sequences = append(sequences, bson.E{Key: string(section[:end]), Value: docs})
		default:
			return fmt.Errorf("section %d", kind)
		}
		rest = rest[size:]
	}
	if len(sequences) > 0 {
		m.body = extend(m.body, sequences...)
	}
	return nil
}

// reply writes the answer in the protocol of the request.
func (m message) reply(w io.Writer, answer bson.Raw) error {
	var head []byte
	code := int32(opMsg)
	if m.code == opQuery {
		code = opReply
		head = make([]byte, 20)
		binary.LittleEndian.PutUint32(head, 8)      // await capable
		binary.LittleEndian.PutUint32(head[16:], 1) // one document
	} else {
		head = make([]byte, 5) // no flags, a body section
	}
	out := make([]byte, 16, 16+len(head)+len(answer))
	binary.LittleEndian.PutUint32(out, uint32(cap(out)))
	binary.LittleEndian.PutUint32(out[8:], uint32(m.id))
	binary.LittleEndian.PutUint32(out[12:], uint32(code))
	_, err := w.Write(append(append(out, head...), answer...))
	return err
}
