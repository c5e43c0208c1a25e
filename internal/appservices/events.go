package appservices

import (
	"context"
	"log/slog"
	"strings"
)

// What the gateway, the replicators and the REST API log about the device sync of a database begins so, and has the database among its
// attributes. It is what the log of the database's app holds beside the requests of this API.
const eventPrefix = "device sync: "

// databaseKey is the attribute that names the database.
const databaseKey = "database"

// Journal is a slog.Handler that passes records on and keeps those about device sync for the logs of apps, until a Server takes them
// from it. It is made before the gateway is, and given to the Server in Options.
type Journal struct {
	next   slog.Handler
	events chan journalled
	// attrs are those of a logger that was made with some.
	attrs []slog.Attr
	group bool // they are in a group: attributes that follow are not looked at
}

// journalled is a record about the device sync of a database.
type journalled struct {
	database string
	record   slog.Record
}

// journalSize is how many records wait at most for a Server to take them; more are only logged.
const journalSize = 1024

// NewJournal returns a Journal in front of a handler.
func NewJournal(next slog.Handler) *Journal {
	return &Journal{next: next, events: make(chan journalled, journalSize)}
}

// Enabled implements slog.Handler: what is about device sync is kept whatever the level of the log is, from Info on.
func (j *Journal) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || j.next.Enabled(ctx, level)
}

// Handle implements slog.Handler. It does not wait.
func (j *Journal) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, eventPrefix) {
		kept := r.Clone()
		kept.AddAttrs(j.attrs...)
		if name := databaseOf(kept); name != "" {
			select {
			case j.events <- journalled{name, kept}:
			default:
			}
		}
	}
	if !j.next.Enabled(ctx, r.Level) {
		return nil
	}
	return j.next.Handle(ctx, r)
}

func databaseOf(r slog.Record) (name string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == databaseKey {
			name = a.Value.String()
		}
		return name == ""
	})
	return name
}

// WithAttrs implements slog.Handler.
func (j *Journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *j
	c.next = j.next.WithAttrs(attrs)
	if !j.group {
		c.attrs = append(append([]slog.Attr(nil), j.attrs...), attrs...)
	}
	return &c
}

// WithGroup implements slog.Handler.
func (j *Journal) WithGroup(name string) slog.Handler {
	c := *j
	c.next, c.group = j.next.WithGroup(name), true
	return &c
}

// Run writes what the Journal keeps into the logs of apps, until ctx ends.
func (s *Server) Run(ctx context.Context) {
	if s.opts.Journal == nil {
		return
	}
	for {
		select {
		case e := <-s.opts.Journal.events:
			s.report(ctx, e)
		case <-ctx.Done():
			return
		}
	}
}

// report writes a record into the log of the database's app.
func (s *Server) report(ctx context.Context, e journalled) {
	all, err := s.apps(ctx)
	if err != nil {
		s.log.Error("an event of device sync is not in the log of its app", "error", err)
		return
	}
	for _, a := range all {
		if a.Database == e.database {
			s.logs.add(s.entry(a, entryOf(e.record)))
			return
		}
	}
}

// Attributes of records that have a place of their own in an entry.
const (
	userKey  = "user"
	codeKey  = "code"
	errorKey = "error"
	realmKey = "realm_code"
)

// entryOf makes a record an entry: its text with the attributes that have no place of their own.
func entryOf(r slog.Record) LogEntry {
	e := LogEntry{Type: LogOther, Started: r.Time.UTC()}
	text := strings.TrimPrefix(r.Message, eventPrefix)
	if r.Level >= slog.LevelError {
		e.Type = LogError
	}
	r.Attrs(func(a slog.Attr) bool {
		switch v := a.Value.Resolve().String(); a.Key {
		case databaseKey:
		case userKey:
			e.UserID = v
		case codeKey:
			e.ErrorCode = v
		case errorKey:
			e.Error = v
		case realmKey:
			e.Type = LogError // what a client of the original would be told as an error
			text += " " + a.Key + "=" + v
		default:
			text += " " + a.Key + "=" + v
		}
		return true
	})
	e.Messages = []string{text}
	if e.ErrorCode != "" {
		e.Type = LogError
	}
	if e.Type == LogError && e.Error == "" {
		e.Error = text
	}
	return e
}
