package telemetry

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLoggerMasksSecrets(t *testing.T) {
	for _, format := range []Format{Text, JSON} {
		var out bytes.Buffer
		log, err := NewLogger(&out, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello", "password", "hunter2", "Authorization", []string{"hunter2"},
			slog.Group("request", "session_id", "hunter2", "path", "/db"), "user", "bob")
		if strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s: a secret was logged: %s", format, out.String())
		}
		for _, want := range []string{"bob", "/db", Mask} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is missing: %s", format, want, out.String())
			}
		}
	}
}

func TestUnknownFormatAndLevel(t *testing.T) {
	if _, err := NewLogger(nil, "xml", slog.LevelInfo); err == nil {
		t.Error("an unknown format was taken")
	}
	if _, err := ParseLevel("loud"); err == nil {
		t.Error("an unknown level was taken")
	}
	for name, want := range map[string]slog.Level{"warn": slog.LevelWarn, "TRACE": slog.LevelDebug} {
		if got, err := ParseLevel(name); err != nil || got != want {
			t.Errorf("ParseLevel(%q) = %v, %v", name, got, err)
		}
	}
}
