package jsondoc_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// TestManyKeys puts a duplicate at each place of objects around the sizes at which the way of finding it
// changes, alone and inside others.
func TestManyKeys(t *testing.T) {
	for _, n := range []int{1, 2, 23, 24, 25, 26, 47, 48, 49, 100, 1000} {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"some key %d":{"some key %d":[]}`, i, i))
		}
		good := "{" + strings.Join(members, ",") + "}"
		for _, wrap := range []string{`%s`, `{"a":[%s,{"some key 0":1}],"b":2}`, `{"some key 0":%s,"a":{"b":1}}`} {
			in := fmt.Sprintf(wrap, good)
			if err := jsondoc.Check([]byte(in), jsondoc.Limits{}); err != nil {
				t.Fatalf("%d keys in %s: %v", n, wrap, err)
			}
			for _, i := range []int{0, 1, n / 2, n - 1} {
				for _, dup := range []string{`,"some key %d":1}`, `,"some\u0020key %d":1}`} {
					bad := strings.TrimSuffix(good, "}") + fmt.Sprintf(dup, min(i, n-1))
					err := jsondoc.Check(fmt.Appendf(nil, wrap, bad), jsondoc.Limits{})
					if err == nil || !strings.HasPrefix(err.Error(), "Bad JSON: duplicate key") {
						t.Fatalf("%d keys, the duplicate of key %d in %s: %v", n, i, wrap, err)
					}
				}
			}
		}
	}
}

// TestNestedManyKeys: big objects inside each other, each with a table of its own.
func TestNestedManyKeys(t *testing.T) {
	in := "{}"
	for range 20 {
		var b strings.Builder
		b.WriteString("{")
		for i := range 40 {
			if i == 20 {
				fmt.Fprintf(&b, `"inner":%s,`, in)
			}
			fmt.Fprintf(&b, `"k\u0065y%d":1,`, i)
		}
		in = b.String() + `"last":1}`
	}
	if err := jsondoc.Check([]byte(in), jsondoc.Limits{}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		strings.TrimSuffix(in, "}") + `,"key0":1}`,
		strings.TrimSuffix(in, "}") + `,"inner":1}`,
		strings.Replace(in, `"last":1`, `"last":1,"key39":1`, 1),
	} {
		if err := jsondoc.Check([]byte(bad), jsondoc.Limits{}); err == nil {
			t.Errorf("a duplicate key was not noticed")
		}
	}
}

// TestVeryManyKeys: what would take minutes if every key were compared with every other; see also
// TestTableIsSpread.
func TestVeryManyKeys(t *testing.T) {
	raw := manyKeys(200_000)
	if err := jsondoc.Check(raw, jsondoc.Limits{}); err != nil {
		t.Fatal(err)
	}
	raw = append(bytes.TrimSuffix(raw, []byte("}")), `,"key0":1}`...)
	if err := jsondoc.Check(raw, jsondoc.Limits{}); err == nil {
		t.Error("the duplicate was not noticed")
	}
}
