package script

import (
	"bytes"
	"math"
	"strconv"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// A JavaScript engine does not keep the digits of numbers, nor long integers at all (they are shown as strings). So
// what a resolver returns is compared with what it was given, value by value, and bytes of what it did not change are
// taken from there.

// sameContent reports whether a document that the function returned has the content of one that it was given: all
// members but _id, _rev and _exp; attachments by their digests; _deleted absent is the same as false.
func sameContent(d *ConflictDoc, doc []byte) bool {
	body := membersOf(d.Body)
	var attachments []byte
	deleted, same := false, 0
	for name, value := range jsondoc.Members(doc) {
		switch name {
		case "_id", "_rev", "_exp":
		case "_deleted":
			if deleted = string(value) == "true"; !deleted && string(value) != "false" {
				return false
			}
		case "_attachments":
			attachments = value
		default:
			was, ok := body[name]
			if !ok || !sameValue(was, value) {
				return false
			}
			same++
		}
	}
	return deleted == d.Deleted && same == len(body) && sameAttachments(d.Attachments, attachments)
}

// sameAttachments compares names and digests.
func sameAttachments(was, is []byte) bool {
	if len(is) > 0 && is[0] != '{' && string(is) != "null" {
		return false
	}
	digests := func(raw []byte) map[string]string {
		m := map[string]string{}
		for name, value := range jsondoc.Members(raw) {
			digest, _ := jsondoc.Get(value, "digest")
			m[name] = string(digest)
		}
		return m
	}
	a, b := digests(was), digests(is)
	for name, digest := range a {
		if got, ok := b[name]; !ok || got != digest {
			return false
		}
	}
	return len(a) == len(b)
}

func membersOf(obj []byte) map[string][]byte {
	m := map[string][]byte{}
	for name, value := range jsondoc.Members(obj) {
		m[name] = value
	}
	return m
}

// sameValue reports whether is, as the engine wrote it, is the value was that the function was given.
func sameValue(was, is []byte) bool {
	if len(was) == 0 || len(is) == 0 {
		return false
	}
	switch was[0] {
	case '{':
		return is[0] == '{' && sameObject(was, is)
	case '[':
		return is[0] == '[' && sameArray(was, is)
	case '"':
		a, okA := jsondoc.Unquote(was)
		b, okB := jsondoc.Unquote(is)
		return okA && okB && a == b
	case 't', 'f', 'n':
		return bytes.Equal(was, is)
	default:
		return sameNumber(was, is)
	}
}

func sameObject(was, is []byte) bool {
	members, same := membersOf(was), 0
	for name, value := range jsondoc.Members(is) {
		old, ok := members[name]
		if !ok || !sameValue(old, value) {
			return false
		}
		same++
	}
	return same == len(members)
}

func sameArray(was, is []byte) bool {
	var elements [][]byte
	for e := range jsondoc.Elements(was) {
		elements = append(elements, e)
	}
	i := 0
	for e := range jsondoc.Elements(is) {
		if i == len(elements) || !sameValue(elements[i], e) {
			return false
		}
		i++
	}
	return i == len(elements)
}

// sameNumber knows what the engine makes of numbers: long integers come as strings, those beyond its range as null.
func sameNumber(was, is []byte) bool {
	if isUnsafeInteger(was) {
		text, ok := jsondoc.Unquote(is)
		return ok && is[0] == '"' && text == string(was)
	}
	a, _ := strconv.ParseFloat(string(was), 64) // an error is a value out of range
	if math.IsInf(a, 0) {
		return string(is) == "null"
	}
	b, err := strconv.ParseFloat(string(is), 64)
	return err == nil && a == b
}

// appendRestored appends obj, an object that the engine wrote, with the values that are as in one of two objects
// in their bytes from there.
func appendRestored(b, obj, local, remote []byte) []byte {
	from := [...]map[string][]byte{membersOf(local), membersOf(remote)}
	b = append(b, '{')
	for name, value := range jsondoc.Members(obj) {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(jsondoc.AppendString(b, name), ':')
		var nested [len(from)][]byte
		restored := false
		for i, members := range from {
			was := members[name]
			if restored = sameValue(was, value); restored {
				b = append(b, was...)
				break
			}
			if len(was) > 0 && was[0] == '{' {
				nested[i] = was
			}
		}
		switch {
		case restored:
		case value[0] == '{':
			b = appendRestored(b, value, nested[0], nested[1])
		default:
			b = append(b, value...)
		}
	}
	return append(b, '}')
}
