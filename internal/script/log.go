package script

import (
	"context"
	"log/slog"
)

// scriptLog writes what scripts log, under the key that operators know from the product
// (sync-function.md §2: "at info with key Javascript").
type scriptLog struct{ logger *slog.Logger }

func newScriptLog(l *slog.Logger) scriptLog {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return scriptLog{l.With("key", "Javascript")}
}

// write writes what one run logged and the warnings about it. Both are bounded (outcome).
func (l scriptLog) write(ctx context.Context, docID string, o *outcome) {
	for _, line := range o.lines {
		l.logger.LogAttrs(ctx, line.level, line.text, slog.String("doc", docID))
	}
	for _, w := range o.warnings {
		l.logger.LogAttrs(ctx, slog.LevelWarn, w, slog.String("doc", docID))
	}
	if o.dropped > 0 {
		l.logger.LogAttrs(ctx, slog.LevelWarn, "more warnings", slog.String("doc", docID), slog.Int("count", o.dropped))
	}
}
