package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// LogCounts counts log records that are worth somebody's attention.
type LogCounts struct{ errors, warnings atomic.Int64 }

// Errors is how many records of level error there were, Warnings how many of level warn.
func (c *LogCounts) Errors() int64 { return c.errors.Load() }

// Warnings is how many records of level warn there were.
func (c *LogCounts) Warnings() int64 { return c.warnings.Load() }

// Count returns a logger that counts into c what it passes on to log.
func (c *LogCounts) Count(log *slog.Logger) *slog.Logger {
	return slog.New(countingHandler{log.Handler(), c})
}

// countingHandler counts records on their way.
type countingHandler struct {
	slog.Handler
	counts *LogCounts
}

func (h countingHandler) Handle(ctx context.Context, r slog.Record) error {
	switch {
	case r.Level >= slog.LevelError:
		h.counts.errors.Add(1)
	case r.Level >= slog.LevelWarn:
		h.counts.warnings.Add(1)
	}
	return h.Handler.Handle(ctx, r)
}

func (h countingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return countingHandler{h.Handler.WithAttrs(attrs), h.counts}
}

func (h countingHandler) WithGroup(name string) slog.Handler {
	return countingHandler{h.Handler.WithGroup(name), h.counts}
}
