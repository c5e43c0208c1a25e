package script

import "bytes"

// keyID numbers the member names that a program spells out (doc.type): one pass over a document finds them all.
type keyID uint8

// keyTable is those names.
type keyTable struct {
	names   []string
	lengths uint64 // bit n is set if a name has n bytes, up to 63
}

// id gives the number of a name. ok is false if there are too many.
func (t *keyTable) id(name string) (id keyID, ok bool) {
	for i, n := range t.names {
		if n == name {
			return keyID(i), true
		}
	}
	if len(t.names) == maxDirectKeys {
		return 0, false
	}
	t.names = append(t.names, name)
	t.lengths |= 1 << min(len(name), 63)
	return keyID(len(t.names) - 1), true
}

// find looks up a key as it stands in JSON text, without quotes.
func (t *keyTable) find(key []byte) (keyID, bool) {
	if bytes.IndexByte(key, '\\') >= 0 {
		decoded, ok := unescape(key)
		if !ok {
			return 0, false
		}
		key = decoded
	}
	if t.lengths&(1<<min(len(key), 63)) == 0 {
		return 0, false
	}
	for i, name := range t.names {
		if string(key) == name {
			return keyID(i), true
		}
	}
	return 0, false
}
