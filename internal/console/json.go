package console

import (
	"bytes"
	"encoding/json"
	"strings"
)

// indent writes JSON with two spaces for each level.
func indent(b *strings.Builder, raw []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	b.Write(out.Bytes())
	return nil
}

// compact writes a value as JSON in one line.
func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
