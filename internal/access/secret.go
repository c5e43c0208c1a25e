package access

import (
	"fmt"
	"io"
	"log/slog"
)

// mask is what takes a secret's place wherever one would be shown.
const mask = "xxxxx"

// A Secret is a password or a session id. However it is printed, logged or encoded it shows a mask; only
// Reveal gives its text.
//
// The text hangs on a pointer so that not even a %v of an enclosing struct's unexported field shows it.
type Secret struct{ text *string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns the mask, or "" if there is no text.
func (s Secret) String() string {
	if s.Reveal() == "" {
		return ""
	}
	return mask
}

// Format prints the mask for every verb: fmt would go around String for those that do not fit a string.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is what slog gets.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON encodes the mask.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalText encodes the mask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
