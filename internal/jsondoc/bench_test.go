package jsondoc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// sample is a document of about 1.1 KB as apps write them: members in the order of the code that made them.
const sample = `{"_id":"order:2024-11-03:000017","_rev":"3-67a06e8ba083e88a8b4a9ad87b73ca37","type":"order","channels":["store:17","region:emea"],` +
	`"customer":{"id":"c-99871","name":"Grażyna Müller","email":"grazyna@example.com","address":{"street":"Lange Straße 5","zip":"10115","city":"Berlin","country":"DE"}},` +
	`"created":"2024-11-03T09:41:22.117Z","updated":1730626882117,"status":"paid","total":129.95,"currency":"EUR","vip":false,"coupon":null,` +
	`"lines":[{"sku":"A-1001","title":"Espresso cups, set of six","qty":2,"price":24.5,"tax":0.19},{"sku":"B-2040","title":"Grinder \"Mk II\"","qty":1,"price":79.95,"tax":0.19},` +
	`{"sku":"Z-9","title":"Gift wrap","qty":1,"price":1.0,"tax":0.19}],"notes":"Leave at the door; ring twice, please. The dog is friendly but loud, and the garden gate sticks a little.",` +
	`"shipping":{"carrier":"dhl","tracking":"00340434161094042557","eta":"2024-11-05","events":[{"t":1730630000,"e":"label"},{"t":1730640000,"e":"pickup"},{"t":1730650000,"e":"sorted"}]},` +
	`"flags":{"gift":true,"fragile":true,"insured":false},"tags":["kitchen","gift","repeat"],"meta":{"app":"4.2.1","os":"iOS 18.1","locale":"de-DE"}}`

func BenchmarkSplit(b *testing.B) {
	raw := []byte(sample)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jsondoc.Split(raw, jsondoc.Limits{}, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplitIndented(b *testing.B) {
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(sample), "", "  "); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(indented.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jsondoc.Split(indented.Bytes(), jsondoc.Limits{}, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	raw := []byte(sample)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if err := jsondoc.Check(raw, jsondoc.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPeers is what others take for the same, to compare with.
func BenchmarkPeers(b *testing.B) {
	raw := []byte(sample)
	b.Run("encoding/json.Valid", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			json.Valid(raw)
		}
	})
	b.Run("jsontext.IsValid", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			jsontext.Value(raw).IsValid()
		}
	})
}

func BenchmarkAppendCanonical(b *testing.B) {
	d, err := jsondoc.Split([]byte(sample), jsondoc.Limits{}, false)
	if err != nil {
		b.Fatal(err)
	}
	for name, body := range map[string][]byte{"unsorted": d.Body, "sorted": jsondoc.AppendCanonical(nil, d.Body, false)} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 2*len(body))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				buf = jsondoc.AppendCanonical(buf[:0], body, false)
			}
		})
	}
}

func BenchmarkAppendDoc(b *testing.B) {
	d, err := jsondoc.Split([]byte(sample), jsondoc.Limits{}, false)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 2*len(sample))
	id, rev := jsondoc.AppendString(nil, d.ID), jsondoc.AppendString(nil, d.Rev)
	b.ReportAllocs()
	for b.Loop() {
		buf = jsondoc.AppendDoc(buf[:0], d.Body, jsondoc.Member{Name: "_id", Value: id}, jsondoc.Member{Name: "_rev", Value: rev})
	}
}

func BenchmarkGet(b *testing.B) {
	raw := []byte(sample)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := jsondoc.Get(raw, "flags"); !ok {
			b.Fatal("not found")
		}
	}
}

// BenchmarkManyKeys grows by ten: the time per key must stay about the same.
func BenchmarkManyKeys(b *testing.B) {
	for _, n := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			raw := manyKeys(n)
			b.ReportAllocs()
			for b.Loop() {
				if err := jsondoc.Check(raw, jsondoc.Limits{Bytes: 1 << 30}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/key")
		})
	}
}

func manyKeys(n int) []byte {
	raw := []byte("{")
	for i := range n {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = fmt.Appendf(raw, `"key%d":1`, i)
	}
	return append(raw, '}')
}
