package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

func TestLogRing(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ring := NewLogRing(3)
	log := slog.New(ring.Tee(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	if got := ring.Entries(0, slog.LevelDebug, "", 10); got != nil || ring.Last() != 0 {
		t.Errorf("empty: %v", got)
	}
	log.Debug("below the level")
	log.With("a", 1, "session_token", "s3cret").WithGroup("g").Info("one", "b", "two words", "password", "s3cret", slog.Group("h", "c", errors.New("e")))
	log.Warn("two")
	log.Error("three")
	entries := ring.Entries(0, slog.LevelDebug, "", 10)
	if len(entries) != 3 || entries[0].Number != 1 || entries[0].Attrs != `a=1 session_token=xxxxx g.b="two words" g.password=xxxxx g.h.c=e` {
		t.Errorf("kept: %+v", entries)
	}
	log.Info("four")
	log.Info("five")
	for _, c := range []struct {
		after uint64
		level slog.Level
		text  string
		limit int
		want  string
	}{
		{0, slog.LevelDebug, "", 10, "three four five"},
		{0, slog.LevelDebug, "", 2, "four five"},
		{4, slog.LevelDebug, "", 10, "five"},
		{5, slog.LevelDebug, "", 10, ""},
		{0, slog.LevelWarn, "", 10, "three"},
		{0, slog.LevelDebug, "FO", 10, "four"},
	} {
		var got []string
		for _, e := range ring.Entries(c.after, c.level, c.text, c.limit) {
			got = append(got, e.Message)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if ring.Last() != 5 || strings.Count(out.String(), "\n") != 5 {
		t.Errorf("%d kept, passed on: %s", ring.Last(), out.String())
	}
}

func TestLogRingBoundsText(t *testing.T) {
	t.Parallel()
	ring := NewLogRing(1)
	handler := ring.Tee(slog.NewTextHandler(new(bytes.Buffer), nil))
	slog.New(handler).Info(strings.Repeat("ä", maxLogText), "a", strings.Repeat("x", 2*maxLogText))
	e := ring.Entries(0, slog.LevelDebug, "", 1)[0]
	if len(e.Message) > maxLogText+8 || len(e.Attrs) > maxLogText+8 || strings.ContainsRune(e.Message, '\uFFFD') {
		t.Errorf("%d and %d bytes", len(e.Message), len(e.Attrs))
	}
}

func TestLogRingConcurrently(t *testing.T) {
	t.Parallel()
	ring := NewLogRing(50)
	log := slog.New(ring.Tee(slog.NewTextHandler(new(lockedBuffer), nil)))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				log.LogAttrs(context.Background(), slog.LevelInfo, fmt.Sprint(i, j))
				entries := ring.Entries(0, slog.LevelInfo, "", 50)
				for k := 1; k < len(entries); k++ {
					if entries[k].Number != entries[k-1].Number+1 {
						t.Errorf("%d after %d", entries[k].Number, entries[k-1].Number)
					}
				}
			}
		})
	}
	wg.Wait()
	if ring.Last() != 800 {
		t.Errorf("%d records", ring.Last())
	}
}

// lockedBuffer takes what is written.
type lockedBuffer struct {
	mu sync.Mutex
	n  int
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n += len(p)
	return len(p), nil
}
