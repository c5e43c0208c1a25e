package database_test

import (
	"slices"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

func TestChannelNames(t *testing.T) {
	t.Parallel()
	e := open(t, database.Options{})
	ctx := t.Context()
	for id, channels := range map[string]string{"1": `["b","a","a:1"]`, "2": `["a"]`, "3": `["c"]`, "4": `["a:2","ab"]`} {
		e.put(`{"_id":"` + id + `","channels":` + channels + `}`)
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 10, []string{"a", "a:1", "a:2", "ab", "b", "c"}},
		{"", "", 2, []string{"a", "a:1"}},
		{"", "a:1", 2, []string{"a:2", "ab"}},
		{"", "a", 1, []string{"a:1"}},
		{"a:", "", 10, []string{"a:1", "a:2"}},
		{"a:", "a:1", 10, []string{"a:2"}},
		{"b", "", 10, []string{"b"}},
		{"", "c", 10, nil},
		{"x", "", 10, nil},
	} {
		got, err := e.admin.ChannelNames(ctx, c.prefix, c.after, c.limit)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("prefix %q after %q, %d: %v, %v; want %v", c.prefix, c.after, c.limit, got, err, c.want)
		}
	}
	if _, err := e.user("bob").ChannelNames(ctx, "", "", 1); tidegate.ErrorCode(err) != tidegate.Forbidden {
		t.Errorf("for a user: %v", err)
	}
}
