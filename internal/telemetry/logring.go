package telemetry

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LogRing keeps the newest log records for whoever looks at the log of a running process. It is safe for concurrent use.
type LogRing struct {
	mu      sync.Mutex // guards what follows
	entries []LogEntry // a ring; the oldest is at next once it is full
	next    int
	last    uint64 // number of the newest entry; 0: none
}

// LogEntry is a log record as text.
type LogEntry struct {
	Number  uint64    `json:"number"` // 1, 2, … without gaps
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // "DEBUG", "INFO", "WARN" or "ERROR"
	Message string    `json:"message"`
	Attrs   string    `json:"attrs,omitempty"` // key=value …, secrets masked
}

// maxLogText bounds the message and the attributes of an entry, in bytes each.
const maxLogText = 4 << 10

// NewLogRing returns a ring for size entries.
func NewLogRing(size int) *LogRing { return &LogRing{entries: make([]LogEntry, 0, size)} }

// Tee returns a handler that keeps in the ring what it passes on to h.
func (r *LogRing) Tee(h slog.Handler) slog.Handler { return ringHandler{next: h, ring: r} }

// Entries returns the newest entries that fit, at most limit and the oldest first: those numbered above after, of
// level or above, that hold text in message or attributes, in any case.
func (r *LogRing) Entries(after uint64, level slog.Level, text string, limit int) []LogEntry {
	text = strings.ToLower(text)
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []LogEntry
	for i := range r.entries { // the newest first
		e := r.entries[(r.next-1-i+2*len(r.entries))%len(r.entries)]
		if e.Number <= after || len(found) == limit {
			break
		}
		var l slog.Level
		_ = l.UnmarshalText([]byte(e.Level)) // it was made of one
		if l < level || text != "" && !strings.Contains(strings.ToLower(e.Message+" "+e.Attrs), text) {
			continue
		}
		found = append(found, e)
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found
}

// Last returns the number of the newest entry; 0: there is none.
func (r *LogRing) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *LogRing) add(e LogEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	e.Number = r.last
	if len(r.entries) < cap(r.entries) {
		r.entries = append(r.entries, e)
		r.next = len(r.entries) % cap(r.entries)
		return
	}
	r.entries[r.next] = e
	r.next = (r.next + 1) % len(r.entries)
}

// ringHandler keeps records in a ring and passes them on.
type ringHandler struct {
	next  slog.Handler
	ring  *LogRing
	attrs string // of WithAttrs, as text
	group string // of WithGroup, with a dot at the end
}

// Enabled implements slog.Handler.
func (h ringHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h ringHandler) Handle(ctx context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		writeAttr(&b, h.group, a)
		return b.Len() < maxLogText
	})
	h.ring.add(LogEntry{Time: r.Time, Level: r.Level.String(), Message: cut(r.Message), Attrs: cut(strings.TrimSpace(b.String()))})
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h ringHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		writeAttr(&b, h.group, a)
	}
	h.attrs, h.next = b.String(), h.next.WithAttrs(attrs)
	return h
}

// WithGroup implements slog.Handler.
func (h ringHandler) WithGroup(name string) slog.Handler {
	h.group, h.next = h.group+name+".", h.next.WithGroup(name)
	return h
}

// writeAttr writes " key=value", quoted where it has to be. Secrets are masked as they are in the log.
func writeAttr(b *strings.Builder, group string, a slog.Attr) {
	a = Redact(nil, a)
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range value.Group() {
			writeAttr(b, group, inner)
		}
		return
	}
	text := value.String()
	if text == "" || strings.ContainsAny(text, " \"=\n\t") {
		text = strconv.Quote(text)
	}
	b.WriteString(" " + group + a.Key + "=" + text)
}

// cut bounds a text, at a whole character.
func cut(s string) string {
	if len(s) <= maxLogText {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogText], "") + " …"
}
