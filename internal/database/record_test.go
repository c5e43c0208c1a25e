package database

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
)

// drawRecord makes some record as a write would leave it.
func drawRecord(t *rapid.T) *record {
	rec := &record{seq: tidegate.Seq(rapid.Uint64Range(10, 1<<53).Draw(t, "seq")), tree: &tidegate.RevTree{}}
	rec.saved = time.UnixMilli(rapid.Int64Range(1, 1<<41).Draw(t, "saved")).UTC()
	for i := range rapid.IntRange(1, 5).Draw(t, "revisions") {
		r := tidegate.Rev{ID: tidegate.RevID{Generation: uint64(i + 1), Digest: fmt.Sprintf("%x", i)}}
		if rapid.Bool().Draw(t, "deleted") {
			r.Flags |= tidegate.RevDeleted
		}
		parent := rapid.IntRange(-1, i-1).Draw(t, "parent")
		if _, err := rec.tree.Add(parent, r); err != nil {
			t.Fatal(err)
		}
	}
	if rapid.Bool().Draw(t, "vector") {
		v, err := tidegate.ParseVersionVector("18ea@AAAAAAAAAAAAAAAAAAAAAA")
		if err != nil {
			t.Fatal(err)
		}
		rec.vector = v
	}
	if rapid.Bool().Draw(t, "expires") {
		rec.expiry = time.UnixMilli(rapid.Int64Range(1, 1<<41).Draw(t, "expiry")).UTC()
	}
	seq := rapid.SampledFrom([]tidegate.Seq{1, 5, 9, rec.seq})
	rec.channels = []channelState{}
	for i := range rapid.IntRange(0, 3).Draw(t, "channels") {
		c := channelState{name: fmt.Sprintf("c%d", i), member: rapid.Bool().Draw(t, "member")}
		if !c.member {
			c.rev, c.deleted = tidegate.RevID{Generation: 3, Digest: "abc"}, rapid.Bool().Draw(t, "by tombstone")
		}
		for range rapid.IntRange(1, 3).Draw(t, "periods") {
			c.periods = append(c.periods, changes.Period{Start: seq.Draw(t, "start"), End: seq.Draw(t, "end")})
		}
		if c.member {
			c.periods[len(c.periods)-1].End = 0
		}
		rec.channels = append(rec.channels, c)
	}
	if rapid.Bool().Draw(t, "grants") {
		rec.grants = access.DocGrants{
			Access: map[string]tidegate.Grants{"bob": {"x": seq.Draw(t, "since")}, "role:r": {"y": 1}},
			Roles:  map[string]tidegate.Grants{"amy": {"r": seq.Draw(t, "since")}},
		}
	}
	return rec
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawRecord(t)
		stored := rec.appendBinary(nil)
		got, err := parseRecord(stored)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.tree.AppendBinary(nil), rec.tree.AppendBinary(nil)) {
			t.Fatal("trees differ")
		}
		got.tree, rec.tree = nil, nil
		if !reflect.DeepEqual(got, rec) {
			t.Fatalf("%+v, want %+v", got, rec)
		}
		for n := range stored {
			if _, err := parseRecord(stored[:n]); err == nil {
				t.Fatalf("the first %d of %d bytes are a record", n, len(stored))
			}
		}
	})
}

// A record encoded before its sequence is known is, once it has it, the one encoded with it.
func TestRecordBeforeItsSequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawRecord(t)
		want := rec.appendBinary(nil)
		own := rec.seq
		wait := func(seq *tidegate.Seq) {
			if *seq == own {
				*seq = pending
			}
		}
		wait(&rec.seq)
		for i := range rec.channels {
			for k := range rec.channels[i].periods {
				wait(&rec.channels[i].periods[k].Start)
				wait(&rec.channels[i].periods[k].End)
			}
		}
		for _, m := range []map[string]tidegate.Grants{rec.grants.Access, rec.grants.Roles} {
			for _, g := range m {
				for name, seq := range g {
					wait(&seq)
					g[name] = seq
				}
			}
		}
		got := rec.appendBinary(nil)
		setRecordSeq(got, own)
		if !bytes.Equal(got, want) {
			t.Fatalf("%x, want %x", got, want)
		}
	})
}

// TestRecordFormat pins the stored bytes: a database written by this version must open for ever (I15).
func TestRecordFormat(t *testing.T) {
	rec := &record{seq: 300, saved: time.UnixMilli(1_700_000_000_000), tree: &tidegate.RevTree{}, expiry: time.UnixMilli(1_800_000_000_000)}
	a, err := tidegate.ParseRevID("1-0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	i, err := rec.tree.Add(-1, tidegate.Rev{ID: a})
	if err != nil {
		t.Fatal(err)
	}
	b, err := tidegate.ParseRevID("2-x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rec.tree.Add(i, tidegate.Rev{ID: b, Channels: tidegate.ChannelSet{"a"}}); err != nil {
		t.Fatal(err)
	}
	rec.channels = []channelState{
		{name: "a", member: true, periods: []changes.Period{{Start: 3, End: 5}, {Start: 300}}},
		{name: "b", rev: b, deleted: true, periods: []changes.Period{{Start: 3, End: 300}}},
	}
	rec.grants.Access = map[string]tidegate.Grants{"bob": {"x": 300, "y": 7}}
	const want = "01" + "18" + "000000000000012c" + "80d095ffbc31" + // format, flags, sequence, saved
		"0100020" + "0c0020178010161" + "30010123456789abcdef0123456789abcdef00" + // tree
		"02" + "016101" + "02" + "0305" + "00" + "016202" + "020178" + "01" + "0300" + // channels
		"80a0f1c2b134" + "0103626f62" + "02" + "017800" + "017907" + "00" // expiry, grants
	if got := fmt.Sprintf("%x", rec.appendBinary(nil)); got != want {
		t.Errorf("record\n%s, want\n%s", got, want)
	}
	y := body{deleted: true, channels: tidegate.ChannelSet{"a"}, json: []byte(`{"v":1}`)}
	if got, want := fmt.Sprintf("%x", y.appendBinary(nil)), "0101010161"+fmt.Sprintf("%x", `{"v":1}`); got != want {
		t.Errorf("body %s, want %s", got, want)
	}
	y.version = tidegate.Version{Time: 5, Source: "AAAAAAAAAAAAAAAAAAAAAA"}
	source := strings.Repeat("41", 22)
	versioned := "0109010161" + "0516" + source
	if got, want := fmt.Sprintf("%x", y.appendBinary(nil)), versioned+fmt.Sprintf("%x", `{"v":1}`); got != want {
		t.Errorf("body with a version %s, want %s", got, want)
	}
	rec.vector = tidegate.VersionVector{Current: y.version}
	head, rest := "011c000000000000012c80d095ffbc31", "010516"+source+"0000"+"02016101020305"
	if got := fmt.Sprintf("%x", rec.appendBinary(nil)); !strings.HasPrefix(got, head) || !strings.Contains(got, rest) {
		t.Errorf("record with a vector %s", got)
	}
	l := local{n: 2, expiry: time.UnixMilli(1000), body: []byte(`{}`)}
	if got, want := fmt.Sprintf("%x", l.appendBinary(nil)), "0102e8077b7d"; got != want {
		t.Errorf("local %s, want %s", got, want)
	}
}

func TestBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := body{deleted: rapid.Bool().Draw(t, "deleted"), closed: rapid.Bool().Draw(t, "closed"), json: []byte(`{"a":[1]}`)}
		for i := range rapid.IntRange(0, 3).Draw(t, "channels") {
			y.channels = append(y.channels, fmt.Sprintf("c%d", i))
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "attachments") {
			y.version = tidegate.Version{Time: uint64(i + 1), Source: "AAAAAAAAAAAAAAAAAAAAAA"}
			if y.attachments == nil {
				y.attachments = map[string]tidegate.Attachment{}
			}
			y.attachments[fmt.Sprint(i)] = tidegate.Attachment{Digest: "sha1-x", Length: int64(i), RevPos: 1, Key: contentKey([]byte{byte(i)})}
		}
		stored := y.appendBinary(nil)
		got, err := parseBody(stored)
		if err != nil || !reflect.DeepEqual(got, y) {
			t.Fatalf("%+v %v, want %+v", got, err, y)
		}
		if hasAttachments(stored) != (len(y.attachments) > 0) {
			t.Fatal("the header is wrong about attachments")
		}
	})
}

// Stored rows that make no sense are refused without a panic and without much memory.
func FuzzStored(f *testing.F) {
	rec := &record{seq: 3, saved: time.UnixMilli(5), tree: &tidegate.RevTree{}}
	if _, err := rec.tree.Add(-1, tidegate.Rev{ID: tidegate.RevID{Generation: 1, Digest: "a"}, Channels: tidegate.ChannelSet{"c"}}); err != nil {
		f.Fatal(err)
	}
	rec.channels = []channelState{{name: "c", member: true, periods: []changes.Period{{Start: 3}}}}
	f.Add(rec.appendBinary(nil))
	f.Add((&body{channels: tidegate.ChannelSet{"c"}, json: emptyBody}).appendBinary(nil))
	f.Add((&local{n: 1, body: emptyBody}).appendBinary(nil))
	c := &collection{space: 1}
	f.Add([]byte(c.expiryKey(time.UnixMilli(9), expireBody, "d", tidegate.RevID{Generation: 1, Digest: "a"})))
	f.Add([]byte(c.refKey(contentKey(nil), "d")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rec, err := parseRecord(b); err == nil {
			if again, err := parseRecord(rec.appendBinary(nil)); err != nil || again.seq != rec.seq {
				t.Errorf("a record does not survive: %v", err)
			}
			_, _, _ = rec.docState(), rec.memberSet(), newRaw("d", rec)
		}
		if y, err := parseBody(b); err == nil {
			if _, err := parseBody(y.appendBinary(nil)); err != nil {
				t.Errorf("a body does not survive: %v", err)
			}
		}
		if l, err := parseLocal(b); err == nil {
			if _, err := parseLocal(l.appendBinary(nil)); err != nil {
				t.Errorf("a local document does not survive: %v", err)
			}
		}
		if len(b) >= 5 {
			_, _ = parseDue(b)
			_, _ = parseBlobRow(b)
		}
	})
}
