package jsondoc

import (
	"testing"

	"pgregory.net/rapid"
)

// TestWords compares the functions that look at eight bytes at a time with loops over bytes.
func TestWords(t *testing.T) {
	odd := rapid.SampledFrom([]byte{'"', '\\', 0, 0x1f, ' ', '!', '#', '[', ']', 0x7f, 0x80, 0xa2, 0xdc, 0xff, 'a'})
	text := rapid.SliceOfN(rapid.OneOf(odd, rapid.Just(byte('x')), rapid.Just(byte('x')), rapid.Byte()), 0, 40)
	rapid.Check(t, func(t *rapid.T) {
		raw := text.Draw(t, "text")
		start := rapid.IntRange(0, len(raw)).Draw(t, "start")
		plain, quote := start, start
		for plain < len(raw) && raw[plain] >= ' ' && raw[plain] < 0x80 && raw[plain] != '"' && raw[plain] != '\\' {
			plain++
		}
		for quote < len(raw) && raw[quote] != '"' && raw[quote] != '\\' {
			quote++
		}
		if got := skipPlain(raw, start); got != plain {
			t.Fatalf("skipPlain(%q, %d) = %d, want %d", raw, start, got, plain)
		}
		if got := skipToQuote(raw, start); got != quote {
			t.Fatalf("skipToQuote(%q, %d) = %d, want %d", raw, start, got, quote)
		}
	})
}
