package tidegate_test

import (
	"cmp"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

func TestParseSince(t *testing.T) {
	for in, want := range map[string]Since{
		"": {}, `""`: {}, "0": {}, "17": {Seq: 17}, `"17"`: {Seq: 17}, "007": {Seq: 7},
		"5:3": {Trigger: 5, Seq: 3}, `"5:3"`: {Trigger: 5, Seq: 3}, "0:3": {Seq: 3},
		"2:5:3": {Low: 2, Trigger: 5, Seq: 3}, "2::3": {Low: 2, Seq: 3}, "0::3": {Seq: 3}, "9:5:3": {Low: 9, Trigger: 5, Seq: 3},
		"18446744073709551615": {Seq: 1<<64 - 1},
	} {
		got, err := ParseSince(in)
		if err != nil || got != want {
			t.Errorf("ParseSince(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"x", "1x", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_0", ":", "1:", ":1", "::", "::1", ":1:2", "1:2:", "1::", "1:2:3:4",
		`"`, `"1`, `1"`, `""1""`, "18446744073709551616", "now", "null", "١", `{"seq":1}`,
	} {
		if got, err := ParseSince(in); err != ErrInvalidSequence || got != (Since{}) {
			t.Errorf("ParseSince(%q) = %+v, %v", in, got, err)
		}
	}
	if ErrorReason(ErrInvalidSequence) != "Invalid sequence" || ErrorCode(ErrInvalidSequence) != Invalid {
		t.Error("the wire asks for 400 Invalid sequence")
	}
}

func TestSinceForms(t *testing.T) {
	for _, c := range []struct {
		since      Since
		text, json string
		safe       Seq
	}{
		{Since{}, "0", "0", 0},
		{Since{Seq: 17}, "17", "17", 17},
		{Since{Trigger: 20, Seq: 17}, "20:17", `"20:17"`, 17},
		{Since{Low: 5, Trigger: 20, Seq: 17}, "5:20:17", `"5:20:17"`, 5},
		{Since{Low: 5, Seq: 17}, "5::17", `"5::17"`, 5},
		{Since{Low: 17, Seq: 17}, "17", "17", 17},
		{Since{Low: 18, Trigger: 20, Seq: 17}, "20:17", `"20:17"`, 17},
	} {
		if got := c.since.String(); got != c.text {
			t.Errorf("%+v: text %s, want %s", c.since, got, c.text)
		}
		if got := string(c.since.AppendJSON([]byte("x"))); got != "x"+c.json {
			t.Errorf("%+v: JSON %s, want %s", c.since, got[1:], c.json)
		}
		if got := c.since.Safe(); got != c.safe {
			t.Errorf("%+v: safe %d, want %d", c.since, got, c.safe)
		}
		back, err := ParseSince(c.json)
		if err != nil || back.String() != c.text || back.Compare(c.since) != 0 {
			t.Errorf("%s came back as %+v, %v", c.json, back, err)
		}
	}
}

// TestSinceOrder holds the order of a feed: backfill of a grant at 20 comes just before entry 20.
func TestSinceOrder(t *testing.T) {
	var positions []Since
	for _, s := range []string{"0", "1", "2", "2::9", "19", "20:0", "20:1", "3:20:17", "20:19", "20", "21:5", "21", "22"} {
		since, err := ParseSince(s)
		if err != nil {
			t.Fatal(err)
		}
		positions = append(positions, since)
	}
	for i, a := range positions {
		for k, b := range positions {
			if got, want := a.Compare(b), cmp.Compare(i, k); got != want {
				t.Errorf("%v against %v: %d, want %d", a, b, got, want)
			}
		}
	}
}

// TestSinceTotalOrder compares with the rule of gateway-rest.md §14.3, word by word, and checks that it is an
// order.
func TestSinceTotalOrder(t *testing.T) {
	number := rapid.Uint64Range(0, 6)
	position := rapid.Custom(func(t *rapid.T) Since {
		return Since{Low: Seq(number.Draw(t, "L")), Trigger: Seq(number.Draw(t, "T")), Seq: Seq(number.Draw(t, "S"))}
	})
	before := func(a, b Since) bool {
		switch {
		case a.Trigger == b.Trigger && a.Safe() == b.Safe():
			return a.Seq < b.Seq
		case a.Trigger == b.Trigger:
			return a.Safe() < b.Safe()
		case a.Trigger == 0:
			return a.Safe() < b.Trigger
		case b.Trigger == 0:
			return a.Trigger <= b.Safe()
		default:
			return a.Trigger < b.Trigger
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := position.Draw(t, "a"), position.Draw(t, "b"), position.Draw(t, "c")
		if got := a.Compare(b) < 0; got != before(a, b) {
			t.Fatalf("%+v before %+v: %v", a, b, got)
		}
		if a.Compare(b) != -b.Compare(a) || a.Compare(a) != 0 {
			t.Fatalf("%+v against %+v: %d, the other way %d", a, b, a.Compare(b), b.Compare(a))
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("%+v ≤ %+v ≤ %+v, but not the first before the last", a, b, c)
		}
	})
}

func FuzzParseSince(f *testing.F) {
	for _, s := range []string{"", "0", "12", "12:7", "3:12:7", "3::7", `"12:7"`, "::", "1:2:3:4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		since, err := ParseSince(s)
		if err != nil {
			if ErrorCode(err) != Invalid || since != (Since{}) {
				t.Fatalf("ParseSince(%q) = %+v, %v", s, since, err)
			}
			return
		}
		for _, form := range []string{since.String(), string(since.AppendJSON(nil))} {
			back, err := ParseSince(form)
			if err != nil || back.Compare(since) != 0 || back.String() != since.String() {
				t.Fatalf("%q is %+v, sent as %s, read back as %+v, %v", s, since, form, back, err)
			}
		}
		if since.Safe() > since.Seq {
			t.Fatalf("safe %d is above %d", since.Safe(), since.Seq)
		}
	})
}
