package tidegate_test

import (
	"bytes"
	"encoding/hex"
	"maps"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

func TestAttachmentJSON(t *testing.T) {
	plain := Attachment{ContentType: "text/plain; charset=\"utf-8\"", Digest: "sha1-abc=", Length: 5, RevPos: 2, Key: [32]byte{1}}
	gzipped := Attachment{ContentType: "text/css", Digest: "sha1-def=", Length: 100, RevPos: 1, Encoding: "gzip", EncodedLength: 40}
	for _, c := range []struct{ got, want string }{
		{string(plain.AppendStubJSON(nil)), `{"content_type":"text/plain; charset=\"utf-8\"","digest":"sha1-abc=","length":5,"revpos":2,"stub":true}`},
		{string(plain.AppendFollowsJSON(nil)), `{"content_type":"text/plain; charset=\"utf-8\"","digest":"sha1-abc=","length":5,"revpos":2,"follows":true}`},
		{string(plain.AppendInlineJSON(nil, []byte("hello"))), `{"content_type":"text/plain; charset=\"utf-8\"","digest":"sha1-abc=","length":5,"revpos":2,"data":"aGVsbG8="}`},
		{string(gzipped.AppendStubJSON(nil)), `{"content_type":"text/css","digest":"sha1-def=","length":100,"revpos":1,"stub":true,"encoding":"gzip","encoded_length":40}`},
		{string((&Attachment{Digest: "sha1-x"}).AppendStubJSON(nil)), `{"digest":"sha1-x","length":0,"revpos":0,"stub":true}`},
		{string(AppendStubsJSON(nil, nil)), `{}`},
		{string(AppendStubsJSON(nil, map[string]Attachment{"b\"": {Digest: "2"}, "a": {Digest: "1"}})),
			`{"a":{"digest":"1","length":0,"revpos":0,"stub":true},"b\"":{"digest":"2","length":0,"revpos":0,"stub":true}}`},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func drawAttachments(t *rapid.T) map[string]Attachment {
	attachment := rapid.Custom(func(t *rapid.T) Attachment {
		a := Attachment{
			ContentType: rapid.String().Draw(t, "type"), Digest: rapid.String().Draw(t, "digest"), Length: rapid.Int64Min(0).Draw(t, "length"),
			RevPos: rapid.Uint64().Draw(t, "revpos"), Encoding: rapid.SampledFrom([]string{"", "gzip"}).Draw(t, "encoding"),
			EncodedLength: rapid.Int64Min(0).Draw(t, "encoded length"),
		}
		copy(a.Key[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		return a
	})
	return rapid.MapOfN(rapid.String(), attachment, 0, 5).Draw(t, "attachments")
}

func TestAttachmentsBinary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawAttachments(t)
		b := AppendAttachments([]byte("x"), want)[1:]
		got, rest, err := ParseAttachments(append(bytes.Clone(b), "rest"...))
		if err != nil || !maps.Equal(got, want) || string(rest) != "rest" {
			t.Fatalf("%v came back as %v, %q, %v", want, got, rest, err)
		}
		if again := AppendAttachments(nil, maps.Clone(want)); !bytes.Equal(again, b) {
			t.Fatalf("written as %x and %x", b, again)
		}
		if got, _, err := ParseAttachments(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil || ErrorCode(err) != Corrupt {
			t.Fatalf("cut short: %v, %v", got, err)
		}
	})
}

// TestAttachmentsFormat holds the stored format still (hardening.md, I15).
func TestAttachmentsFormat(t *testing.T) {
	b := AppendAttachments(nil, map[string]Attachment{"a": {ContentType: "t", Digest: "d", Length: 300, RevPos: 2, Encoding: "gzip", EncodedLength: 7, Key: [32]byte{0xaa}}})
	want := "01" + "01" + "0161" + "0174" + "0164" + "ac02" + "02" + "04677a6970" + "07" + "aa" + hex.EncodeToString(make([]byte, 31))
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("the format changed:\n got %s\nwant %s", got, want)
	}
}

func FuzzParseAttachments(f *testing.F) {
	f.Add(AppendAttachments(nil, nil))
	f.Add(AppendAttachments(nil, map[string]Attachment{"a": {ContentType: "t", Length: 300}, "b": {Encoding: "gzip", EncodedLength: 7}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		attachments, rest, err := ParseAttachments(b)
		if err != nil {
			return
		}
		if again := AppendAttachments(nil, attachments); !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatalf("%x written again as %x", b[:len(b)-len(rest)], again)
		}
	})
}
