package blip

import (
	"bytes"
	"testing"
)

func TestCall(t *testing.T) {
	for _, level := range []int{0, 1, 6, 9} {
		x, y := connect(t, Options{Compression: level}, Options{Compression: level, Handle: echo})
		for _, size := range []int{0, 1, 63, 64, 100, 4000, 16374, 16384, 40000, 1 << 20} {
			m := message("echo", bytes.Repeat([]byte("abcdefg"), size/7+1)[:size])
			m.Compress = size%2 == 0
			r, err := x.Call(t.Context(), m)
			if err != nil || r.Err() != nil {
				t.Fatal(err, r)
			}
			if !bytes.Equal(r.Body(), m.Body) {
				t.Errorf("size %d: got %d bytes", size, len(r.Body()))
			}
			if p, _ := r.Property("Profile"); p != "echo" {
				t.Errorf("profile %q", p)
			}
			r.Release()
		}
		if n := y.pending.Load() + x.pending.Load(); n != 0 {
			t.Errorf("level %d: %d bytes are still held", level, n)
		}
	}
}
