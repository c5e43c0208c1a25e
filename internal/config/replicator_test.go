package config

import (
	"testing"
	"time"
)

// What was given is in force, and the defaults for the rest.
func TestReplicatorSettings(t *testing.T) {
	settings := func(src string) ServerSettings {
		s, _, err := ParseStartup([]byte(src), env())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		return s.Settings()
	}
	got := settings(`{}`)
	want := BLIPSettings{
		Compression: 6, ChangesBatches: 2, Revs: 5, MessageBytes: 32 << 20, ReceiveBytes: 64 << 20, ReceiveBytesTotal: 512 << 20,
		SendQueueBytes: 256 << 10, SlowReaderTimeout: 2 * time.Minute, PingInterval: 5 * time.Minute,
	}
	if got.BLIP != want || got.MaxReplicationsPerUser != 1000 {
		t.Errorf("defaults %+v, %d for each user", got.BLIP, got.MaxReplicationsPerUser)
	}
	got = settings(`{"replicator":{"blip_compression":0,"max_concurrent_changes_batches":5,"max_concurrent_revs":200,"max_replications_per_user":7,
		"max_message_bytes":30000000,"max_receive_bytes":40000000,"max_receive_bytes_total":50000000,"max_send_queue_bytes":70000,
		"slow_reader_timeout":"3s","websocket_ping_interval":"0s"}}`)
	want = BLIPSettings{
		ChangesBatches: 5, Revs: 200, MessageBytes: 30000000, ReceiveBytes: 40000000, ReceiveBytesTotal: 50000000,
		SendQueueBytes: 70000, SlowReaderTimeout: 3 * time.Second,
	}
	if got.BLIP != want || got.MaxReplicationsPerUser != 7 {
		t.Errorf("given %+v, %d for each user", got.BLIP, got.MaxReplicationsPerUser)
	}
}

func TestDeltaSyncSettings(t *testing.T) {
	for src, want := range map[string]struct {
		on  bool
		age time.Duration
	}{
		`{}`:                              {false, 24 * time.Hour},
		`{"delta_sync":{"enabled":true}}`: {true, 24 * time.Hour},
		`{"delta-sync":{"enabled":true,"rev_max_age_seconds":60}}`: {true, time.Minute},
	} {
		s := fileDatabase(t, src).Settings()
		if s.DeltaSync != want.on || s.DeltaMaxAge != want.age {
			t.Errorf("%s: %v, %v", src, s.DeltaSync, s.DeltaMaxAge)
		}
	}
}
