package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Mask is what takes a secret's place wherever one would be shown.
const Mask = "xxxxx"

// masks are the forms that mean "unchanged" in input: ours, and those of replication definitions and older
// versions (inter-gateway.md §3, §4).
var masks = [...]string{Mask, "****", "*****"}

// IsMask reports whether s is one of the masks that stand for a secret in output. In input they mean "keep
// the one that is stored".
func IsMask(s string) bool {
	for _, m := range masks {
		if s == m {
			return true
		}
	}
	return false
}

// A Secret is a password or key. However it is printed, logged or encoded it shows [Mask]; only Reveal gives
// its text. The zero Secret is "none" and prints as nothing.
//
// The text hangs on a pointer so that not even a %v of an enclosing struct's unexported field shows it.
type Secret struct {
	text   *string
	locked bool // text is sealed, and the key is not there
}

// NewSecret wraps text; "" gives the zero Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text; "" if it is Locked.
func (s Secret) Reveal() string {
	if s.text == nil || s.locked {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// String returns Mask, or "" for the zero Secret.
func (s Secret) String() string { return s.masked(Mask) }

func (s Secret) masked(mask string) string {
	if s.text == nil {
		return ""
	}
	return mask
}

// Format prints the mask for every verb: fmt would go around String for those that do not fit a string.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, "%q", s.String())
		return
	}
	_, _ = io.WriteString(f, s.String())
}

// LogValue is what slog gets.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON encodes the mask. Storing a config goes through [Database.Seal], which encrypts.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalText encodes the mask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
