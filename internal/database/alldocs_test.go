package database_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

func TestAllDocs(t *testing.T) {
	e := open(t, database.Options{})
	for _, raw := range []string{
		`{"_id":"a","channels":["x"]}`, `{"_id":"b","channels":["y"]}`, `{"_id":"c","channels":["x","y"],"grant":[["bob","z"]]}`,
		`{"_id":"d"}`, `{"_id":"e","channels":["x"]}`, `{"_id":"f","channels":["!"]}`,
	} {
		e.put(raw)
	}
	r := e.raw("e").Rev
	e.put(`{"_id":"e","_rev":"` + r.String() + `","_deleted":true}`)
	x := e.user("x", "x")
	for _, tt := range []struct {
		name string
		h    *database.Handle
		o    database.AllDocsOptions
		want []string
	}{
		{"all", e.admin, database.AllDocsOptions{}, []string{"a", "b", "c", "d", "f"}},
		{"visible", x, database.AllDocsOptions{}, []string{"a", "c", "f"}},
		{"limit", x, database.AllDocsOptions{Limit: 2}, []string{"a", "c"}},
		{"skip", x, database.AllDocsOptions{Skip: 1, Limit: 1}, []string{"c"}},
		{"start", e.admin, database.AllDocsOptions{HasStartKey: true, StartKey: "b"}, []string{"b", "c", "d", "f"}},
		{"end", e.admin, database.AllDocsOptions{HasEndKey: true, EndKey: "c"}, []string{"a", "b", "c"}},
		{"exclusive end", e.admin, database.AllDocsOptions{HasEndKey: true, EndKey: "c", ExclusiveEnd: true}, []string{"a", "b"}},
		{"between", e.admin, database.AllDocsOptions{HasStartKey: true, StartKey: "aa", HasEndKey: true, EndKey: "cc"}, []string{"b", "c"}},
		{"nothing", e.admin, database.AllDocsOptions{HasStartKey: true, StartKey: "c", HasEndKey: true, EndKey: "b"}, nil},
		{"descending", e.admin, database.AllDocsOptions{Descending: true, Limit: 3}, []string{"f", "d", "c"}},
		{"descending range", e.admin, database.AllDocsOptions{Descending: true, HasStartKey: true, StartKey: "d", HasEndKey: true, EndKey: "b"}, []string{"d", "c", "b"}},
		{"descending exclusive", e.admin, database.AllDocsOptions{Descending: true, HasStartKey: true, StartKey: "d", HasEndKey: true, EndKey: "b", ExclusiveEnd: true}, []string{"d", "c"}},
		{"keys", x, database.AllDocsOptions{Keys: []string{"c", "nope", "b", "e", "a", "a"}}, []string{"c", "nope!missing", "b!forbidden", "e!deleted", "a", "a"}},
		{"keys limit", x, database.AllDocsOptions{Keys: []string{"c", "nope", "b"}, Limit: 2}, []string{"c", "nope!missing"}},
		{"no keys", x, database.AllDocsOptions{Keys: []string{}}, nil},
	} {
		var got []string
		err := tt.h.AllDocs(t.Context(), tt.o, func(row *database.AllDocsRow) error {
			s := row.ID
			if row.Err != nil {
				s += "!" + tidegate.ErrorReason(row.Err)
				if !row.Rev.IsZero() || row.Channels != nil || row.Doc != nil {
					t.Errorf("%s: a refused row says too much: %+v", tt.name, row)
				}
			}
			got = append(got, s)
			return nil
		})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v %v, want %v", tt.name, got, err, tt.want)
		}
	}
	rows := map[string]database.AllDocsRow{}
	o := database.AllDocsOptions{IncludeDocs: true, Channels: true, Access: true}
	collect := func(row *database.AllDocsRow) error { rows[row.ID] = *row; return nil }
	if err := x.AllDocs(t.Context(), o, collect); err != nil {
		t.Fatal(err)
	}
	if c := rows["c"]; !slices.Equal(c.Channels, []string{"x"}) || c.Access != nil || string(c.Doc.Body) == "" {
		t.Errorf("%+v", c)
	}
	if err := e.admin.AllDocs(t.Context(), o, collect); err != nil {
		t.Fatal(err)
	}
	if c := rows["c"]; !slices.Equal(c.Channels, []string{"x", "y"}) || c.Access["bob"]["z"] != 3 {
		t.Errorf("%+v", c)
	}
}

// A listing longer than a page is complete and in order, both ways.
func TestAllDocsPages(t *testing.T) {
	e := open(t, database.Options{})
	const n = 1100
	ws := make([]*database.Write, n)
	for i := range ws {
		ws[i] = &database.Write{ID: fmt.Sprintf("d%04d", i), NewEdits: true}
	}
	e.admin.PutAll(t.Context(), ws)
	for _, descending := range []bool{false, true} {
		i := 0
		err := e.admin.AllDocs(t.Context(), database.AllDocsOptions{Descending: descending}, func(row *database.AllDocsRow) error {
			want := ws[i].ID
			if descending {
				want = ws[n-1-i].ID
			}
			if row.ID != want {
				return fmt.Errorf("row %d is %s, want %s", i, row.ID, want)
			}
			i++
			return nil
		})
		if err != nil || i != n {
			t.Fatalf("%d rows: %v", i, err)
		}
	}
}
