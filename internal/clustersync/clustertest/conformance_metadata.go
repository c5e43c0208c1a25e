package clustertest

import (
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

type note struct {
	ID    any    `bson:"_id"`
	Text  string `bson:"text"`
	Bytes []byte `bson:"bytes,omitempty"`
}

func testMetadata(t *testing.T, s suite) {
	md := s.Cluster.Metadata()
	if exists, err := md.Exists(s.ctx()); err != nil || exists {
		t.Fatalf("records of a sync in a new cluster: %v, %v", exists, err)
	}
	fence, err := md.Acquire(s.ctx(), "coordinator", "me", time.Minute)
	s.ok(err)
	compound := bson.D{{Key: "srcUUID", Value: "abc"}, {Key: "id", Value: int32(3)}}
	s.ok(md.Put(s.ctx(), fence, "partitions", note{ID: compound, Text: "one"}, note{ID: "plain", Text: "two"}))
	s.ok(md.Put(s.ctx(), fence, "partitions", note{ID: compound, Text: "three"}))
	var got note
	s.ok(md.Get(s.ctx(), "partitions", compound, &got))
	if got.Text != "three" {
		t.Errorf("record %+v", got)
	}
	s.is(md.Get(s.ctx(), "partitions", "missing", &got), clustersync.ErrNotFound)
	s.is(md.Get(s.ctx(), "nothing", "plain", &got), clustersync.ErrNotFound)

	seen := 0
	s.ok(md.All(s.ctx(), "partitions", func(bson.Raw) error { seen++; return nil }))
	if seen != 2 {
		t.Errorf("%d records, want 2", seen)
	}
	s.ok(md.All(s.ctx(), "nothing", func(bson.Raw) error { t.Error("a record of nothing"); return nil }))
	s.ok(md.Delete(s.ctx(), fence, "partitions", "plain", "missing"))
	s.is(md.Get(s.ctx(), "partitions", "plain", &got), clustersync.ErrNotFound)
	if exists, err := md.Exists(s.ctx()); err != nil || !exists {
		t.Errorf("Exists: %v, %v", exists, err)
	}
	for _, c := range s.mustList() {
		t.Errorf("metadata is listed as %s", c.Namespace)
	}
	s.ok(md.Erase(s.ctx()))
	if exists, err := md.Exists(s.ctx()); err != nil || exists {
		t.Errorf("Exists after Erase: %v, %v", exists, err)
	}
}

func (s suite) mustList() []clustersync.Collection {
	s.t.Helper()
	all, err := s.Cluster.List(s.ctx())
	s.ok(err)
	return all
}

// testMetadataSurvives: what one connection has written another one reads, also a thousand records and binary.
func testMetadataSurvives(t *testing.T, s suite) {
	md := s.Cluster.Metadata()
	fence, err := md.Acquire(s.ctx(), "coordinator", "me", time.Minute)
	s.ok(err)
	var records []any
	for i := range 1000 {
		records = append(records, note{ID: int64(i), Text: padding, Bytes: []byte{0, byte(i), 255}})
	}
	s.ok(md.Put(s.ctx(), fence, "spool", records...))
	if s.Connect != nil {
		again := s.Connect()
		defer func() { s.ok(again.Close(s.ctx())) }()
		md = again.Metadata()
	}
	seen := map[int64]bool{}
	s.ok(md.All(s.ctx(), "spool", func(raw bson.Raw) error {
		var n note
		if err := bson.Unmarshal(raw, &n); err != nil {
			return err
		}
		id, _ := n.ID.(int64)
		seen[id] = n.Text == padding && len(n.Bytes) == 3 && n.Bytes[1] == byte(id)
		return nil
	}))
	if len(seen) != 1000 {
		t.Fatalf("%d records, want 1,000", len(seen))
	}
	for id, intact := range seen {
		if !intact {
			t.Errorf("record %d is not what was written", id)
		}
	}
}

func testLease(t *testing.T, s suite) {
	md := s.Cluster.Metadata()
	acquire := func(name, owner string, ttl time.Duration) (int64, error) {
		return md.Acquire(s.ctx(), name, owner, ttl)
	}
	mine, err := acquire("coordinator", "me", time.Minute)
	s.ok(err)
	again, err := acquire("coordinator", "me", time.Minute)
	if err != nil || again != mine {
		t.Errorf("renewed with fence %d, %v; want %d", again, err, mine)
	}
	_, err = acquire("coordinator", "you", time.Minute)
	s.is(err, clustersync.ErrLeaseHeld)
	_, err = acquire("another", "you", time.Minute)
	s.ok(err)
	s.ok(md.Release(s.ctx(), "coordinator", "you")) // not theirs
	_, err = acquire("coordinator", "you", time.Minute)
	s.is(err, clustersync.ErrLeaseHeld)
	s.ok(md.Release(s.ctx(), "coordinator", "me"))
	theirs, err := acquire("coordinator", "you", time.Minute)
	if err != nil || theirs <= mine {
		t.Errorf("fence %d after %d, %v", theirs, mine, err)
	}
	if _, err := acquire("short", "me", 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(within); ; <-poll.C {
		if _, err = acquire("short", "you", time.Minute); err == nil {
			break
		}
		s.is(err, clustersync.ErrLeaseHeld)
		if time.Now().After(deadline) {
			t.Fatal("an expired lease is not given")
		}
	}
}

// testFence: who has lost the lease cannot write what the new owner has written.
func testFence(t *testing.T, s suite) {
	md := s.Cluster.Metadata()
	old, err := md.Acquire(s.ctx(), "coordinator", "zombie", time.Minute)
	s.ok(err)
	s.ok(md.Put(s.ctx(), old, "resumeData", note{ID: "coordinator", Text: "old"}))
	s.ok(md.Release(s.ctx(), "coordinator", "zombie"))
	young, err := md.Acquire(s.ctx(), "coordinator", "successor", time.Minute)
	s.ok(err)
	s.ok(md.Put(s.ctx(), young, "resumeData", note{ID: "coordinator", Text: "young"}))
	s.is(md.Put(s.ctx(), old, "resumeData", note{ID: "coordinator", Text: "zombie"}), clustersync.ErrFenced)
	s.is(md.Delete(s.ctx(), old, "resumeData", "coordinator"), clustersync.ErrFenced)
	var got note
	s.ok(md.Get(s.ctx(), "resumeData", "coordinator", &got))
	if got.Text != "young" {
		t.Errorf("record %+v", got)
	}
	s.ok(md.Put(s.ctx(), young, "resumeData", note{ID: "coordinator", Text: "younger"}))
}
