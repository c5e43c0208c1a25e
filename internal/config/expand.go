package config

import (
	"fmt"
	"strings"
)

// expander replaces the environment variables in a text.
type expander func(text string) (string, error)

// newExpander makes an expander over the environment.
func newExpander(getenv func(string) (string, bool)) expander {
	return func(text string) (string, error) {
		var b strings.Builder
		for {
			i := strings.IndexByte(text, '$')
			if i < 0 {
				b.WriteString(text)
				return b.String(), nil
			}
			b.WriteString(text[:i])
			text = text[i:]
			if strings.HasPrefix(text, "$$") {
				b.WriteByte('$')
				text = text[2:]
				continue
			}
			length := variableLen(text)
			if length == 0 {
				return "", fmt.Errorf("a single '$' that begins no environment variable; write '$$' for a dollar")
			}
			value, err := lookup(text[:length], getenv)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			text = text[length:]
		}
	}
}

// variableLen returns the length of the $NAME or ${…} that text begins with; 0 if it begins with none.
func variableLen(text string) int {
	if strings.HasPrefix(text, "${") {
		end := strings.IndexByte(text, '}')
		if end < 0 {
			return 0
		}
		name, _, _ := strings.Cut(text[2:end], ":-")
		if name == "" || nameLen(name) != len(name) {
			return 0
		}
		return end + 1
	}
	if n := nameLen(text[1:]); n > 0 {
		return 1 + n
	}
	return 0
}

// nameLen returns how many bytes of text can be the name of a variable.
func nameLen(text string) int {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}

// lookup returns the value of a reference as variableLen delimits it.
func lookup(ref string, getenv func(string) (string, bool)) (string, error) {
	name, def, hasDefault := ref[1:], "", false
	if strings.HasPrefix(ref, "${") {
		name, def, hasDefault = strings.Cut(ref[2:len(ref)-1], ":-")
	}
	value, ok := getenv(name)
	if hasDefault && value == "" { // as the shell does: also when set but empty
		return def, nil
	}
	if !ok {
		return "", fmt.Errorf("the environment variable %s is not set and has no default", name)
	}
	return value, nil
}
