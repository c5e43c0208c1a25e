package delta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
)

const (
	sixty   = "0123456789012345678901234567890123456789012345678901234567890"
	autumn  = "to wound the autumnal city. So howled out for the world to give him a name. The wind in the dark gave answer. Th"
	eternal = "To wound the eternal city. So he howled out for the world to give him its name.The wind in the dark gave ar. Th"
)

// table is that of replication.md §8. made is what Diff makes, where it is not delta.
var table = []struct{ old, new, delta, made string }{
	{`{"a":1,"b":2}`, `{"a":1}`, `{"b":[]}`, ""},
	{`{"a":1}`, `{"a":null}`, `{"a":null}`, ""},
	{`{"a":1}`, `{"a":[]}`, `{"a":[[]]}`, ""},
	{`{"a":1}`, `{"a":{}}`, `{"a":[{}]}`, ""},
	{`{}`, `{"a":{"x":[1]},"b":"s"}`, `{"a":[{"x":[1]}],"b":"s"}`, ""},
	{`{"a":{"x":1,"y":2}}`, `{"a":{"x":1,"y":3,"z":4}}`, `{"a":{"y":3,"z":4}}`, ""},
	{`{"a":[1,2,3]}`, `{"a":[1,9,3]}`, `{"a":{"1":9}}`, ""},
	{`{"a":[1,2,3]}`, `{"a":[1,2,3,4,5]}`, `{"a":{"3-":[4,5]}}`, ""},
	{`{"a":[1,2,3,4]}`, `{"a":[1,2]}`, `{"a":{"2-":[]}}`, `{"a":[[1,2]]}`},
	{`{"a":[1,2,3]}`, `{"a":[2,3]}`, `{"a":{"0":2,"1":3,"2-":[]}}`, `{"a":[[2,3]]}`},
	{`{"a":[1]}`, `{"a":[[]]}`, `{"a":{"0":[[]]}}`, `{"a":[[[]]]}`},
	{`{"a":[]}`, `{"a":[1]}`, `{"a":[[1]]}`, ""},
	{`{"s":"` + sixty + `"}`, `{"s":"` + sixty + `x"}`, `{"s":["61=1+x|",0,2]}`, ""},
	{`{"a":{"b":[1,"x"]}}`, `{"a":{"b":[1,"x"]}}`, `{}`, ""},
	// Attachments, from the same section.
	{`{}`, `{"_attachments":{"h.txt":{"stub":true}}}`, `{"_attachments":[{"h.txt":{"stub":true}}]}`, ""},
	{`{"_attachments":{"x":1,"y":2}}`, `{"_attachments":{"y":2}}`, `{"_attachments":{"x":[]}}`, ""},
}

func TestTable(t *testing.T) {
	for _, c := range table {
		if got, err := Apply([]byte(c.old), []byte(c.delta), Limits{}); err != nil || string(got) != c.new {
			t.Errorf("%s on %s: got %s, %v", c.delta, c.old, got, err)
		}
		want := c.made
		if want == "" {
			want = c.delta
		}
		if got, ok := diff([]byte(c.old), []byte(c.new)); !ok || string(got) != want {
			t.Errorf("from %s to %s: got %s, %v, want %s", c.old, c.new, got, ok, want)
		}
	}
}

// TestApply applies what others may make.
func TestApply(t *testing.T) {
	for _, c := range []struct{ old, delta, want string }{
		{`{"s":"to wound the autumnal city"}`, `{"s":["1-1+T|12=5-4+eter|8=",0,2]}`, `{"s":"To wound the eternal city"}`},
		{`{"s":"` + autumn + `"}`, `{"s":["1-1+T|12=5-4+eter|13=3+he |37=1-3+its|6=1-27=4-5=",0,2]}`, `{"s":"` + eternal + `"}`},
		{`{"s":"hello"}`, `{"s":["5-",0,2]}`, `{"s":""}`},
		{`{"s":""}`, `{"s":["3+a|b|",0,2]}`, `{"s":"a|b"}`},
		{`{"s":"a\nb"}`, `{"s":["2=2+\"\n|1=",0,2]}`, `{"s":"a\n\"\nb"}`},
		{`{"s":"\u00e9x"}`, `{"s":["2=1-1+y|",0,2]}`, `{"s":"éy"}`},
		{`{"a":1}`, `{"a":[1,2]}`, `{"a":2}`},
		{`{"a":1}`, `{"a":[1,{"x":[]}]}`, `{"a":{"x":[]}}`},
		{`{"a":1,"b":2}`, `{"a":[1,0,0]}`, `{"b":2}`},
		{`{"a":1}`, `{"b":[2],"c":"x"}`, `{"a":1,"b":2,"c":"x"}`},
		{`{"a":1}`, `{"a":{}}`, `{"a":1}`},
		{`{"a":[1,2]}`, `{"a":{}}`, `{"a":[1,2]}`},
		{`{"a":[1,2]}`, `{"a":{"0":[[]],"0-":[7]}}`, `{"a":[[],2]}`},
		{`{"a":[1,2]}`, `{"a":{"0-":[7,8,9,10,11]}}`, `{"a":[7,8,9,10,11]}`},
		{`{"a":[1,2]}`, `{"a":{"2":5,"3-":[6],"01":7,"x":8,"-":[9]}}`, `{"a":[1,2]}`},
		{`{"a":[1,2]}`, `{"a":{"2":5,"2-":[6]}}`, `{"a":[1,2,6]}`},
		{`{"a":[1,{"x":1},3]}`, `{"a":{"1":{"x":2},"2-":[]}}`, `{"a":[1,{"x":2}]}`},
		{`{"a":[]}`, `{"a":{"0-":[1]}}`, `{"a":[1]}`},
		{`{"a\u0062":1,"z":1.0}`, `{"ab":{},"c":1e400}`, `{"a\u0062":1,"z":1.0,"c":1e400}`},
		{`{"a\u0062":1}`, `{"\u0061b":1.00}`, `{"a\u0062":1.00}`},
		{" { \"a\" : [ 1 , 2 ] , \"b\" : { } } ", ` { "a" : { "1" : 3 } } `, `{"a":[1,3],"b":{ }}`},
		{`{"0-":1}`, `{"0-":5}`, `{"0-":5}`},
	} {
		if got, err := Apply([]byte(c.old), []byte(c.delta), Limits{}); err != nil || string(got) != c.want {
			t.Errorf("%s on %s: got %s, %v, want %s", c.delta, c.old, got, err, c.want)
		}
	}
}

// invalidDeltas are refused.
var invalidDeltas = []struct{ old, delta string }{
	{`{"a":1}`, `{"b":{"c":1}}`}, {`{"a":1}`, `{"a":{"c":1}}`}, {`{"a":1}`, `{"b":[]}`}, {`{"a":1}`, `{"b":[1,0,0]}`},
	{`{"a":1}`, `{"b":{}}`}, {`{"a":1}`, `{"b":["1+x|",0,2]}`}, {`{"a":1}`, `{"a":["1+x|",0,2]}`},
	{`{"a":"hello"}`, `{"a":["4=1+p|",0,2]}`}, {`{"a":"hello"}`, `{"a":["9=",0,2]}`}, {`{"a":"hello"}`, `{"a":["5=1+pp|",0,2]}`},
	{`{"a":"hello"}`, `{"a":["5=3+p|",0,2]}`}, {`{"a":"hello"}`, `{"a":["5=1+p",0,2]}`}, {`{"a":"hello"}`, `{"a":["=5=",0,2]}`},
	{`{"a":"hello"}`, `{"a":["5",0,2]}`}, {`{"a":"hello"}`, `{"a":["5*",0,2]}`}, {`{"a":"hello"}`, `{"a":["99999999999999999999=",0,2]}`},
	{`{"a":"hello"}`, `{"a":["5=",0,3]}`}, {`{"a":"hello"}`, `{"a":[5,0,2]}`}, {`{"a":"hello"}`, `{"a":["5=",0,2.0]}`},
	{`{"a":"é"}`, `{"a":["1=1-",0,2]}`}, {`{"a":1}`, `{"a":[1,2,3,4]}`}, {`{"a":1}`, `{"a":[1,2,3,4,5]}`},
	{`{"a":[1,2,3]}`, `{"a":{"2-":5}}`}, {`{"a":[1,2,3]}`, `{"a":{"3-":{}}}`}, {`{"a":[1,2,3]}`, `{"a":{"1":[]}}`},
	{`{"a":[1,2,3]}`, `{"a":{"1":{"x":1}}}`}, {`{"a":1}`, `{"a":1,"a":2}`}, {`{"a":1}`, `{"a":1,"\u0061":2}`},
	{`{"a":1}`, `{"b":[{"x":1,"x":2}]}`}, {`{"a":1}`, `5`}, {`{"a":1}`, `[]`}, {`{"a":1}`, `[{"b":1}]`}, {`{"a":1}`, ``},
	{`{"a":1}`, `{"a":1}}`}, {`{"a":1}`, `{"a":01}`}, {`{"a":1}`, `{"a":1.}`}, {`{"a":1}`, `{"a":1e}`}, {`{"a":1}`, `{"a":-}`},
	{`{"a":1}`, `{"a":tru}`}, {`{"a":1}`, `{"a":"\ud800"}`}, {`{"a":1}`, `{"a":"\x"}`}, {`{"a":1}`, "{\"a\":\"\xff\"}"},
	{`{"a":1}`, "{\"a\":\"\n\"}"}, {`{"a":1}`, `{"a":"x`}, {`{"a":1}`, `{"a":"\`}, {`{"a":1}`, `{"a"}`}, {`{"a":1}`, `{"a":}`},
	{`{"a":1}`, `{"a":1,}`}, {`{"a":1}`, `{"a":[1,]}`}, {`{"a":1}`, `{,}`}, {`{"a":1}`, `{1:1}`}, {`{"a":1}`, `{"a":[1}`},
	{`{"a":1}`, `{"a":["x\ud800"]}`}, {`{"a":1}`, `{"a":[`}, {`{"a":1}`, `{"a":[{"b":["\q"]}]}`},
}

func TestInvalid(t *testing.T) {
	for _, c := range invalidDeltas {
		got, err := Apply([]byte(c.old), []byte(c.delta), Limits{})
		if !errors.Is(err, ErrDelta) || tidegate.ErrorCode(err) != tidegate.Invalid || !strings.HasPrefix(tidegate.ErrorReason(err), "invalid delta: ") {
			t.Errorf("%s on %s: got %s, %v", c.delta, c.old, got, err)
		}
	}
}

func TestLimits(t *testing.T) {
	nest := func(inner string, n int) string { return strings.Repeat(`{"a":`, n) + inner + strings.Repeat(`}`, n) }
	for _, c := range []struct {
		old, delta string
		lim        Limits
		want       error
	}{
		{`{"a":1}`, nest("1", 2), Limits{Depth: 2}, ErrDelta}, // it does not fit
		{nest("1", 2), nest("2", 2), Limits{Depth: 2}, nil},
		{nest("1", 2), nest("[[2]]", 2), Limits{Depth: 3}, nil}, // the brackets of a literal do not count
		{nest("1", 2), nest("[[2]]", 2), Limits{Depth: 2}, ErrDelta},
		{nest("1", 128), nest("2", 128), Limits{}, nil},
		{nest("1", 127), nest("[[2]]", 127), Limits{}, nil},
		{nest("1", 128), nest("[[2]]", 128), Limits{}, ErrDelta},
		{nest("[1]", 127), nest(`{"1-":[2]}`, 127), Limits{}, nil},
		{nest("[1]", 127), nest(`{"1-":[[2]]}`, 127), Limits{}, ErrDelta},
		{`{"a":1}`, `{"bb":123456}`, Limits{Bytes: 13}, ErrTooLarge},
		{`{"a":1}`, `{"bb":123456}`, Limits{Bytes: 19}, nil},
		{`{"a":1}`, `{"bb":123456}`, Limits{Bytes: 18}, ErrTooLarge},
		{`{"a":12}`, `{}`, Limits{Bytes: 7}, ErrTooLarge},
		{``, `{}`, Limits{}, ErrBase}, {`[1]`, `{}`, Limits{}, ErrBase}, {`{"a":1`, `{}`, Limits{}, ErrBase},
		{`{"a":[1,`, `{"a":{"0-":[]}}`, Limits{}, ErrBase}, {`{"a":1}x`, `{}`, Limits{}, ErrBase}, {`{"a`, `{}`, Limits{}, ErrBase},
		{`{"a\`, `{}`, Limits{}, ErrBase}, {`{"a":}`, `{}`, Limits{}, ErrBase}, {`{"a":[}`, `{"a":{"0":1}}`, Limits{}, ErrBase},
	} {
		got, err := Apply([]byte(c.old), []byte(c.delta), c.lim)
		if (c.want == nil) != (err == nil) || !errors.Is(err, c.want) {
			t.Errorf("%.40s on %.40s within %v: got %.40s, %v", c.delta, c.old, c.lim, got, err)
		}
	}
}

// TestNotWorth has documents without a delta.
func TestNotWorth(t *testing.T) {
	many := `{"a":[` + strings.Repeat("0,", maxValues) + `0]}`
	deep := `{"a":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`
	for _, c := range [][2]string{
		{`{"a":1}`, `{"a":2}`}, {`{}`, `{}`}, {`{"a":1,"b":2}`, `{"c":3}`}, {`[1,2,3]`, `[1,2,4]`}, {`{"a":1,"b":2`, `{"a":1,"b":3}`},
		{`{"a":1,"b":2}`, `{"a":1,"b":3,"b":4}`}, {`{"a":1,"a":2,"b":3}`, `{"a":1,"b":3}`}, {"{\"a\":\"\xff\",\"b\":1}", `{"a":1,"b":"x"}`},
		{many, `{"a":1,"b":2}`}, {deep, `{"b":1}`}, {``, ``},
		{`{"a":"` + strings.Repeat("x", defaultBytes) + `"}`, `{"a":"xxxxxxxxxxxxxxxxxxxxxxx"}`},
	} {
		if got, ok := Diff([]byte(c[0]), []byte(c[1])); ok {
			t.Errorf("from %.40s to %.40s: got %.40s", c[0], c[1], got)
		}
	}
}

// TestText patches long strings.
func TestText(t *testing.T) {
	quote := func(s string) string { b, _ := json.Marshal(map[string]string{"s": s}); return string(b) }
	long := strings.Repeat("the quick brown fox jumps over the lazy dog. ", 20_000)
	umlauts := strings.Repeat("äöü€😀", 20)
	for _, c := range []struct {
		name, old, new string
		most           int // bytes of the delta
	}{
		{"autumn", autumn, eternal, 90},
		{"escapes", strings.Repeat("\"\n", 40), strings.Repeat("\"\n", 40) + "\\", 40},
		{"a byte of a character", umlauts + "ä" + umlauts, umlauts + "ö" + umlauts, 40},
		{"a character in the middle of bytes alike", umlauts + "\u20ac" + umlauts, umlauts + "\u20ad\u20ac" + umlauts, 40},
		{"long", long + "x" + long, long + "yy" + long, 60},
		{"long, two places", long + "x" + long + "y" + long, long + "zz" + long + long, 60},
		{"long, too far apart", long[:len(long)/2] + "x" + long, long + "yy" + long, 2*len(long) + 20},
		{"nothing in common", strings.Repeat("a", 500_000), strings.Repeat("b", 500_000), 500_010},
		{"periods", strings.Repeat("ab", 500_000), strings.Repeat("ba", 500_100), 1_000_300},
		{"bar", umlauts + "|" + umlauts, umlauts + "|3+|" + umlauts, 40},
	} {
		old, new := []byte(quote(c.old)), []byte(quote(c.new))
		d, ok := diff(old, new)
		if !ok || len(d) > c.most {
			t.Errorf("%s: %d bytes, %v: %.100s", c.name, len(d), ok, d)
		}
		if got, err := Apply(old, d, Limits{}); err != nil || !equal(got, new) {
			t.Errorf("%s: applied %.80s: %.80s, %v", c.name, d, got, err)
		}
	}
}

// TestLarge meets inputs on which a careless algorithm takes hours.
func TestLarge(t *testing.T) {
	array := func(n int, put func(i int) string) string {
		var b bytes.Buffer
		b.WriteString(`{"a":[`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(put(i))
		}
		return b.String() + "]}"
	}
	object := func(n int, put func(i int) string) string {
		return strings.NewReplacer(`{"a":[`, "{", "]}", "}").Replace(array(n, put))
	}
	const n = 20_000
	const many = 100_000
	plain := func(i int) string { return fmt.Sprint(i) }
	member := func(i int) string { return fmt.Sprintf(`"k%d":%d`, i, i) }
	for _, c := range []struct {
		name, old, new string
		most           int
	}{
		{"no JSON", array(n, plain), strings.Replace(array(n, plain), ",5000,", ",x,", 1), -1},
		{"one element", array(many, plain), strings.Replace(array(many, plain), ",50000,", ",7,", 1), 30},
		{"an element before all", array(n, plain), strings.Replace(array(n, plain), "[", "[7,", 1), 120_000},
		{"each element", array(n, plain), array(n, func(i int) string { return fmt.Sprint(i + 1) }), 120_000},
		{"elements gone", array(n, plain), array(n/2, plain), 30},
		{"reversed keys", object(n, member), object(n, func(i int) string { return member(n - 1 - i) }), 2},
		{"keys gone", object(n, member), object(n/2, member), n * 8},
		{"keys new", object(n/2, member), object(n, member), n * 8},
		{"every second key new", object(n, func(i int) string { return member(2 * i) }), object(n, member), n * 16},
		{"escapes", `{"a":"` + strings.Repeat(`\n`, 200_000) + `","b":1}`, `{"a":"` + strings.Repeat(`\n`, 200_000) + `","b":2}`, 10},
	} {
		d, ok := diff([]byte(c.old), []byte(c.new))
		if c.most < 0 {
			if ok {
				t.Errorf("%s: got a delta to what is no JSON", c.name)
			}
			continue
		}
		if !ok || len(d) > c.most {
			t.Errorf("%s: %d bytes, %v: %.60s", c.name, len(d), ok, d)
		}
		if got, err := Apply([]byte(c.old), d, Limits{}); err != nil || !equal(got, []byte(c.new)) {
			t.Errorf("%s: applied %.60s: %v", c.name, d, err)
		}
	}
}
