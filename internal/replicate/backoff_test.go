package replicate

import (
	"testing"
	"time"
)

// TestBackoff is inter-gateway.md §7: delays double up to the cap, and there are two ways to give up.
func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		name  string
		max   time.Duration
		login bool
		tries int           // until it gives up; 0: never (30 are tried)
		last  time.Duration // the last delay
	}{
		{"five minutes at the most", 5 * time.Minute, false, 0, 5 * time.Minute},
		{"a minute at the most", time.Minute, false, 0, time.Minute},
		{"gives up", 0, false, 10, 256 * time.Second}, // 1+2+4+…+128 = 255 s, +256 > 300 s
		{"gives up on refused logins", 5 * time.Minute, true, 15, 5 * time.Minute},
		{"gives up on refused logins sooner", 0, true, 10, 256 * time.Second},
	} {
		b := backoff{max: tt.max}
		now := time.Unix(0, 0)
		tries, last, delay := 0, time.Duration(0), time.Second
		for range 30 {
			wait, ok := b.failed(now, tt.login)
			tries++
			if !ok {
				break
			}
			limit := tt.max
			if limit == 0 {
				limit = unlimitedCap
			}
			if want := min(delay, limit); wait != want {
				t.Errorf("%s: try %d waits %v, want %v", tt.name, tries, wait, want)
			}
			last = wait
			delay *= 2
			now = now.Add(wait)
		}
		if want := tt.tries; want == 0 && tries != 30 || want != 0 && tries != want {
			t.Errorf("%s: %d tries, want %d", tt.name, tries, want)
		}
		if last != tt.last {
			t.Errorf("%s: the last delay is %v, want %v", tt.name, last, tt.last)
		}
	}
	// A success begins anew; so does another failure in a row of refused logins.
	b := backoff{max: time.Minute}
	b.failed(time.Unix(0, 0), true)
	b.failed(time.Unix(1700, 0), true)
	b.failed(time.Unix(1750, 0), false)
	if _, ok := b.failed(time.Unix(1900, 0), true); !ok {
		t.Error("gave up though the logins were not refused in a row")
	}
	b.connected()
	if wait, ok := b.failed(time.Unix(10_000, 0), true); !ok || wait != time.Second {
		t.Errorf("after a success: %v %v", wait, ok)
	}
	for range 1000 {
		if d := jittered(time.Minute); d < 54*time.Second || d > 66*time.Second {
			t.Fatalf("jitter: %v", d)
		}
	}
}
