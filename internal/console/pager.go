package console

import (
	"net/url"
	"strings"
)

// pager leads through a long list. Empty addresses are left out.
type pager struct {
	First, Next string
	Text        string
}

// queryOf makes a query of pairs of names and values; empty values are left out.
func queryOf(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// address makes an address below Base of segments and a query.
func address(query url.Values, segments ...string) string {
	a := Base + pathOf(segments...)
	if len(query) > 0 {
		a += "?" + query.Encode()
	}
	return a
}

// words splits what somebody typed as a list: one in each line, or separated by commas.
func words(text string) []string {
	list := []string{}
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ',' || r == '\r' }) {
		if w = strings.TrimSpace(w); w != "" {
			list = append(list, w)
		}
	}
	return list
}
