package clustersync

import "log/slog"

// Levels of mongosync's logs that slog has no names for (spec §21.1).
const (
	LevelTrace = slog.LevelDebug - 4
	LevelFatal = slog.LevelError + 4
	LevelPanic = slog.LevelError + 8
)
