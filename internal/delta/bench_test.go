package delta

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// sample makes a document of about size bytes and one in which a field in the middle is different.
func sample(size int) (old, new []byte) {
	var b bytes.Buffer
	b.WriteString(`{"type":"order","items":[`)
	for i := 0; b.Len() < size-200; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"item-%06d","name":"Kaffeemühle Nr. %d","price":%d.50,"tags":["a","b"],"stock":{"there":%d}}`, i, i, i, i)
	}
	b.WriteString(`],"status":"open","note":"` + strings.Repeat("lorem ipsum ", 8) + `"}`)
	half := bytes.Index(b.Bytes()[b.Len()/2:], []byte(`"price":`)) + b.Len()/2 + len(`"price":`)
	new = append(append(bytes.Clone(b.Bytes()[:half]), '9'), b.Bytes()[half:]...)
	return b.Bytes(), new
}

func TestOneField(t *testing.T) {
	for _, size := range []int{1 << 10, 100 << 10} {
		old, new := sample(size)
		if d, ok := Diff(old, new); !ok || len(d) >= 200 {
			t.Errorf("%d bytes: a delta of %d bytes, %v", len(new), len(d), ok)
		}
	}
}

func Benchmark(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		old, new := sample(size)
		d, ok := Diff(old, new)
		if !ok {
			b.Fatal("no delta")
		}
		b.Run(fmt.Sprintf("Diff/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(new)))
			b.ReportAllocs()
			b.ReportMetric(float64(len(d)), "delta-bytes")
			for b.Loop() {
				Diff(old, new)
			}
		})
		b.Run(fmt.Sprintf("Apply/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(new)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Apply(old, d, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
