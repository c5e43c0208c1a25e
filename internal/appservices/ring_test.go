package appservices

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLogRingKeepsTheNewest(t *testing.T) {
	t.Parallel()
	l := newLogRing(10)
	for i := range 95 {
		l.add(LogEntry{AppID: "a", Status: i})
	}
	l.add(LogEntry{AppID: "b"})
	got := l.newest("a", func(*LogEntry) bool { return true })
	if len(got) != 10 || got[0].Status != 94 || got[9].Status != 85 {
		t.Errorf("kept: %d, %+v", len(got), got)
	}
	if n := cap(l.apps["a"]); n > 40 {
		t.Errorf("memory for %d entries", n)
	}
	l.drop("a")
	if got := l.newest("a", func(*LogEntry) bool { return true }); len(got) != 0 {
		t.Errorf("dropped: %+v", got)
	}
}

// The journal keeps what is about the device sync of a database, and passes everything on.
func TestJournal(t *testing.T) {
	t.Parallel()
	var passed strings.Builder
	j := NewJournal(slog.NewTextHandler(&passed, &slog.HandlerOptions{Level: slog.LevelWarn}))
	log := slog.New(j)
	db := log.With("database", "todo")
	db.Info("device sync: state changed", "from", "enabled", "to", "disabled")
	log.Info("device sync: of no database")
	db.Info("something else")
	db.Error("device sync: it failed", "error", errors.New("why"), "code", "X")
	db.Info("device sync: a client is told to reset", "user", "eve", "realm_code", 208)
	db.WithGroup("g").Warn("device sync: in a group", "database", "other")
	if len(j.events) != 4 {
		t.Fatalf("%d events", len(j.events))
	}
	first := entryOf((<-j.events).record)
	if first.Type != LogOther || first.Messages[0] != "state changed from=enabled to=disabled" || first.Error != "" {
		t.Errorf("first: %+v", first)
	}
	second := <-j.events
	if e := entryOf(second.record); second.database != "todo" || e.Type != LogError || e.Error != "why" || e.ErrorCode != "X" {
		t.Errorf("second: %+v of %s", e, second.database)
	}
	if e := entryOf((<-j.events).record); e.Type != LogError || e.UserID != "eve" || e.Error != "a client is told to reset realm_code=208" {
		t.Errorf("third: %+v", e)
	}
	if text := passed.String(); strings.Contains(text, "state changed") || !strings.Contains(text, "it failed") {
		t.Errorf("passed on: %s", text)
	}
	for range 2 * journalSize { // it does not wait
		db.Info("device sync: much")
	}
}

func TestUnifiedDiff(t *testing.T) {
	t.Parallel()
	var old, next []string
	for i := range 40 {
		line := strings.Repeat("x", i)
		old = append(old, line)
		if i != 5 {
			next = append(next, line)
		}
		if i == 30 {
			next = append(next, "new")
		}
	}
	got := unified("f", strings.Join(old, "\n"), strings.Join(next, "\n"))
	if strings.Count(got, "@@ -") != 2 || !strings.Contains(got, "\n-xxxxx\n") || !strings.Contains(got, "\n+new\n") ||
		!strings.Contains(got, "@@ -3,7 +3,6 @@") {
		t.Errorf("diff:\n%s", got)
	}
	if unified("f", "a\n", "a\n") != "" {
		t.Error("a difference of the same")
	}
	if got := unified("f", "", "a\nb\n"); got != "--- f\n+++ f\n@@ -1,0 +1,2 @@\n+a\n+b\n" {
		t.Errorf("a new file: %q", got)
	}
	big := strings.Repeat("a\n", 5000)
	if got := unified("f", big, strings.Repeat("b\n", 5000)); strings.Count(got, "\n+b") != 5000 {
		t.Error("a large file is not shown")
	}
}

func TestTokensOfAnotherKey(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	a, b := &signer{make([]byte, 32)}, &signer{[]byte(strings.Repeat("k", 32))}
	token, err := a.sign(claims{Subject: "s", Expires: 1001, Type: typAccess})
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := a.verify(token, now); !ok || c.Subject != "s" {
		t.Error("its own token is refused")
	}
	if _, ok := b.verify(token, now); ok {
		t.Error("a token of another key is taken")
	}
	if _, ok := a.verify(token, now.Add(time.Second)); ok {
		t.Error("an expired token is taken")
	}
	if _, ok := a.verify(strings.Repeat("x", maxTokenBytes+1), now); ok {
		t.Error("a huge token is taken")
	}
}

func FuzzVerify(f *testing.F) {
	s := &signer{make([]byte, 32)}
	token, err := s.sign(claims{Subject: "s", Expires: 1 << 40})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add(token + ".")
	f.Add(tokenHeader + "..")
	f.Fuzz(func(t *testing.T, text string) {
		if c, ok := s.verify(text, time.Unix(0, 0)); ok && text != token {
			t.Errorf("%q is taken for %+v", text, c)
		}
	})
}

var _ slog.Handler = (*Journal)(nil)

func TestJournalEnabled(t *testing.T) {
	t.Parallel()
	j := NewJournal(slog.DiscardHandler)
	if !j.Enabled(context.Background(), slog.LevelInfo) || j.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("the journal wants Info and above, whatever the log wants")
	}
}
