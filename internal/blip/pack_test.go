package blip

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// unpack decompresses frames with the standard library, which knows nothing of ours.
func unpack(t interface {
	Helper()
	Fatalf(string, ...any)
}, packed [][]byte) []byte {
	t.Helper()
	var stream []byte
	for _, p := range packed {
		stream = append(append(stream, p...), syncMarker...)
	}
	stream = append(stream, 1, 0, 0, 0xff, 0xff) // the end, which BLIP never sends
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	if err != nil {
		t.Fatalf("the standard library cannot read what was packed: %v", err)
	}
	return out
}

// checkPacked packs frames and unpacks them with the standard library and with our own inflater.
func checkPacked(t *rapid.T, z *packer, frames [][]byte) {
	var in inflater
	var win window
	var raw []byte
	var packed [][]byte
	for i, frame := range frames {
		p := z.pack(nil, frame[:len(frame)/3], frame[len(frame)/3:])
		if len(p) > len(frame)+7 {
			t.Fatalf("frame %d: %d bytes became %d", i, len(frame), len(p))
		}
		out, err := in.inflate(nil, bytes.Clone(p), &win, func(out []byte, more int) ([]byte, error) {
			return append(make([]byte, 0, len(out)+more), out...), nil
		})
		if err != nil || !bytes.Equal(out, frame) {
			t.Fatalf("frame %d of %d bytes: our inflater made %d bytes of it: %v", i, len(frame), len(out), err)
		}
		packed, raw = append(packed, p), append(raw, frame...)
	}
	if !bytes.Equal(unpack(t, packed), raw) {
		t.Fatalf("the standard library read something else")
	}
}

// TestPackedFramesCanBeRead: frames of all kinds of content and sizes, some packers being used for a second stream.
func TestPackedFramesCanBeRead(t *testing.T) {
	z := new(packer)
	rapid.Check(t, func(t *rapid.T) {
		z.reset()
		n := rapid.IntRange(1, 60).Draw(t, "frames")
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1))
		var frames [][]byte
		for range n {
			frames = append(frames, frameOf(r, rapid.IntRange(0, 5).Draw(t, "kind")))
		}
		checkPacked(t, z, frames)
	})
}

// frameOf makes a frame of a kind.
func frameOf(r *rand.Rand, kind int) []byte {
	size := 1 + r.IntN([]int{60, 1500, maxFrame - 1}[r.IntN(3)])
	b := make([]byte, 0, size+200)
	for len(b) < size {
		switch kind {
		case 0: // random bytes
			b = append(b, byte(r.Uint32()))
		case 1: // one byte over and over
			b = append(b, 'a')
		case 2: // letters that never repeat as four
			b = append(b, byte('a'+r.IntN(26)))
		case 3: // JSON
			doc, _ := json.Marshal(map[string]any{"n": r.IntN(1000), "text": fmt.Sprint(r.Float64()), "tags": []string{"a", "b"}})
			b = append(b, doc...)
		case 4: // repeats with long distances
			at := max(len(b)-1-r.IntN(max(len(b), 1)), 0)
			b = append(append(b, byte(r.Uint32())), b[at:min(at+r.IntN(300), len(b))]...)
		default: // ever rarer bytes: 2, 4, 8 … times
			c := 0
			for r.IntN(2) == 0 && c < 200 {
				c++
			}
			b = append(b, byte(c))
		}
	}
	return b[:size]
}

// TestCodeLengths: codes are complete and bounded, whatever was counted.
func TestCodeLengths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, maxLitLen).Draw(t, "symbols")
		limit := maxBits
		if n <= 19 {
			limit = 7
		}
		counts, lengths := make([]uint32, n), make([]uint8, n)
		steep := rapid.Bool().Draw(t, "steep")
		for i := range counts {
			counts[i] = uint32(rapid.IntRange(0, 1000).Draw(t, "count"))
			if steep {
				counts[i] = 1 << min(i, 31)
			}
		}
		counts[0], counts[n-1] = max(counts[0], 1), max(counts[n-1], 1)
		codeLengths(lengths, counts, limit)
		room := 0
		for i, l := range lengths {
			if (l == 0) != (counts[i] == 0) || int(l) > limit {
				t.Fatalf("symbol %d, counted %d, has a code of %d bits", i, counts[i], l)
			}
			if l > 0 {
				room += 1 << (limit - int(l))
			}
		}
		if room != 1<<limit {
			t.Fatalf("the codes fill %d of %d", room, 1<<limit)
		}
	})
}

func FuzzPack(f *testing.F) {
	f.Add([]byte(`{"type":"order","type":"order"}`), uint16(20))
	f.Add(bytes.Repeat([]byte{0xff, 0}, 300), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		z := new(packer)
		var raw []byte
		var packed [][]byte
		for rest := data[:min(len(data), 1<<18)]; len(rest) > 0; {
			n := min(int(cut)%maxFrame+1, len(rest))
			packed, raw = append(packed, z.pack(nil, nil, rest[:n])), append(raw, rest[:n]...)
			rest = rest[n:]
		}
		if !bytes.Equal(unpack(t, packed), raw) {
			t.Fatal("the standard library read something else")
		}
	})
}
