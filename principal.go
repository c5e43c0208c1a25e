package tidegate

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// PrincipalKind tells users from roles.
type PrincipalKind uint8

// The kinds of principals. A user logs in and may have roles; a role only carries channels.
const (
	User PrincipalKind = iota
	Role
)

// String returns "user" or "role".
func (k PrincipalKind) String() string {
	if k == Role {
		return "role"
	}
	return "user"
}

// GuestName is the user that stands for nobody logged in (gateway-rest.md §16.1).
const GuestName = "GUEST"

// MaxPrincipalNameLen is the longest name of a user or role, in bytes.
const MaxPrincipalNameLen = 239

// ValidPrincipalName returns nil if name may be a user's or role's: UTF-8 of at most MaxPrincipalNameLen
// bytes with at least one letter or digit and none of / : , ` nor a control character. Otherwise an
// Invalid error that names the rule.
//
// GuestName passes: it is a user like others except that it is not created but configured.
func ValidPrincipalName(name string) error {
	switch {
	case len(name) > MaxPrincipalNameLen:
		return Errorf(Invalid, "Invalid name: longer than %d bytes", MaxPrincipalNameLen)
	case !utf8.ValidString(name):
		return Errorf(Invalid, "Invalid name: not UTF-8")
	case strings.ContainsAny(name, "/:,`\x00"):
		return Errorf(Invalid, "Invalid name %q: must not contain / : , or `", name)
	case strings.IndexFunc(name, isLetterOrDigit) < 0:
		return Errorf(Invalid, "Invalid name %q: must contain a letter or digit", name)
	}
	return nil
}

func isLetterOrDigit(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
