package blip

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// oracle inflates with the standard library, as blip.md §13 tells: each frame with the last 32 KiB as dictionary.
type oracle struct{ dict []byte }

func (o *oracle) inflate(payload []byte) ([]byte, error) {
	in := append(append([]byte(nil), payload...), "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...)
	out, err := io.ReadAll(flate.NewReaderDict(bytes.NewReader(in), o.dict))
	if err != nil {
		return nil, err
	}
	o.dict = append(o.dict, out...)
	o.dict = o.dict[max(0, len(o.dict)-windowSize):]
	return out, nil
}

// grow is what extendBuffer does, with a limit.
func grow(limit int) func([]byte, int) ([]byte, error) {
	return func(out []byte, more int) ([]byte, error) {
		if len(out)+more > limit {
			return out, errTooBig
		}
		return append(make([]byte, 0, 2*len(out)+more), out...), nil
	}
}

// writeFrames deflates frames with one writer, as a peer does.
func writeFrames(t testing.TB, level int, frames [][]byte) [][]byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, level)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, f := range frames {
		buf.Reset()
		_, _ = w.Write(f)
		_ = w.Flush()
		out = append(out, bytes.TrimSuffix(bytes.Clone(buf.Bytes()), []byte(syncMarker)))
	}
	return out
}

func TestInflate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.IntRange(-2, 9).Draw(t, "level")
		frames := rapid.SliceOfN(rapid.Custom(drawText), 1, 4).Draw(t, "frames")
		var buf bytes.Buffer
		w, _ := flate.NewWriter(&buf, level)
		var z inflater
		var win window
		var seen []byte
		for i, f := range frames {
			buf.Reset()
			_, _ = w.Write(f)
			_ = w.Flush()
			payload := bytes.TrimSuffix(buf.Bytes(), []byte(syncMarker))
			out, err := z.inflate([]byte("before"), payload, &win, grow(1<<20))
			if err != nil || string(out[6:]) != string(f) {
				t.Fatalf("frame %d: %d bytes, %v, want %d", i, len(out)-6, err, len(f))
			}
			seen = append(seen, f...)
			if want := seen[max(0, len(seen)-windowSize):]; !bytes.Equal(win.appendFrom(nil, win.n, win.n), want) {
				t.Fatalf("the window holds something else after frame %d", i)
			}
			if len(win.b) > windowSize || len(win.b) > max(minWindow, 2*win.n) {
				t.Fatalf("a window of %d bytes for %d", len(win.b), win.n)
			}
		}
	})
}

// drawText draws data that deflate treats in all its ways: random, repetitive, text, long or empty.
func drawText(t *rapid.T) []byte {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	alphabet := rapid.SampledFrom([]int{1, 2, 10, 256}).Draw(t, "alphabet")
	size := rapid.SampledFrom([]int{0, 1, 5, 300, 300, 5000, 5000, 16374, 40000}).Draw(t, "size")
	b := make([]byte, size)
	for i := range b {
		if i > 32768 && i%3 == 0 {
			b[i] = b[i-random.IntN(32768)-1]
			continue
		}
		b[i] = byte(random.IntN(alphabet))
	}
	return b
}

// TestDeflateForOthers has the standard library decode what we compress, with compressors that come and go.
func TestDeflateForOthers(t *testing.T) {
	pool := NewPool(4)
	var o oracle
	for i := range 300 {
		level := 1 + i%9
		d := pool.deflater(level)
		for j := range 1 + i%4 {
			size := []int{0, 70, 300, 5000, room(maxFrame, true)}[(i+j)%5]
			raw := make([]byte, size)
			if i%3 == 0 { // cannot be compressed
				random := rand.New(rand.NewPCG(uint64(i), uint64(j)))
				for k := range raw {
					raw[k] = byte(random.Uint32())
				}
			} else {
				copy(raw, bytes.Repeat([]byte(`{"id":"doc`+number(i)+`","n":`+number(j)+`}`), size/12))
			}
			packed := d.deflate(nil, raw[:size/3], raw[size/3:])
			if len(packed) == 0 || len(packed)+frameHead+crcSize+1 > maxFrame {
				t.Fatalf("%d bytes of %d", len(packed), size)
			}
			got, err := o.inflate(packed)
			if err != nil || !bytes.Equal(got, raw) {
				t.Fatalf("level %d: %d bytes, %v, want %d", level, len(got), err, size)
			}
		}
		pool.putDeflater(d)
	}
}

func TestPoolIsBounded(t *testing.T) {
	pool := NewPool(2)
	a, b := pool.deflater(1), pool.deflater(6)
	if a == nil || b == nil || pool.deflater(1) != nil {
		t.Fatal("the bound does not hold")
	}
	pool.putDeflater(b)
	if pool.deflater(9) == nil {
		t.Error("what was given back is not to be had")
	}
}

func TestInflateBad(t *testing.T) {
	for name, payload := range map[string]string{
		"reserved block":        "\x06",
		"final block":           "\x01\x00\x00\xff\xff",
		"stored, bad length":    "\x00\x01\x00\x00\x00a",
		"stored, cut":           "\x00\x05\x00\xfa\xffab",
		"no end":                "\x02",
		"back before the start": "\x4b\x04\x42\x00",
		"dynamic, cut":          "\x04",
	} {
		var z inflater
		var win window
		if _, err := z.inflate(nil, []byte(payload), &win, grow(1<<20)); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bomb := writeFrames(t, 9, [][]byte{make([]byte, 1<<20)})[0]
	var z inflater
	var win window
	out, err := z.inflate(nil, bomb, &win, grow(100<<10))
	if !errors.Is(err, errTooBig) || cap(out) > 200<<10 {
		t.Errorf("bomb: %v, %d bytes", err, cap(out))
	}
}

// FuzzInflate: we agree with the standard library about everything.
func FuzzInflate(f *testing.F) {
	for _, frames := range [][][]byte{{nil}, {[]byte("hello, hello, hello")}, {make([]byte, 5000), []byte("abcabc")}} {
		for _, level := range []int{-2, 0, 1, 9} {
			packed := writeFrames(f, level, frames)
			f.Add(packed[0], packed[len(packed)-1])
		}
	}
	for _, g := range goldens(f) {
		if g.Flags&flagCompressed != 0 {
			fr, err := parseFrame(g.bytes(f))
			if err == nil {
				f.Add(fr.payload, fr.payload)
			}
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var z inflater
		var win window
		var o oracle
		for _, payload := range [][]byte{first, second} {
			if len(payload) == 0 {
				return
			}
			got, err := z.inflate(nil, payload, &win, grow(1<<26))
			want, wantErr := o.inflate(payload)
			if err != nil {
				// The library also takes streams that end by themselves or are cut elsewhere; we need not.
				return
			}
			if wantErr != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, the library says %d, %v", len(got), len(want), wantErr)
			}
		}
	})
}
