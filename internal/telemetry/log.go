package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Format is how log lines look.
type Format string

// The formats of log lines.
const (
	Text Format = "text"
	JSON Format = "json"
)

// NewLogger returns a logger that writes lines to w in the format, from level on. Attributes whose key names
// a secret are masked whatever their value; types that are secrets mask themselves (slog.LogValuer).
func NewLogger(w io.Writer, format Format, level slog.Leveler) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: Redact}
	switch format {
	case Text:
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case JSON:
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	default:
		return nil, fmt.Errorf("unknown log format %q: text or json", format)
	}
}

// ParseLevel reads a level by name: error, warn, info, debug; trace counts as debug and none as above error.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "none":
		return slog.LevelError + 4, nil
	case "error":
		return slog.LevelError, nil
	case "warn":
		return slog.LevelWarn, nil
	case "info":
		return slog.LevelInfo, nil
	case "debug", "trace":
		return slog.LevelDebug, nil
	}
	return 0, fmt.Errorf("unknown log level %q: none, error, warn, info, debug or trace", name)
}

// Mask stands in logs for what must not be seen.
const Mask = "xxxxx"

// secretKeys are parts of attribute keys that say that the value is a secret.
var secretKeys = [...]string{"password", "secret", "session", "cookie", "authorization", "token", "private_key", "credential"}

// Redact is for slog.HandlerOptions.ReplaceAttr: it masks the value of an attribute whose key names a secret.
func Redact(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindGroup {
		return a
	}
	key := strings.ToLower(a.Key)
	for _, s := range secretKeys {
		if strings.Contains(key, s) {
			return slog.String(a.Key, Mask)
		}
	}
	return a
}
