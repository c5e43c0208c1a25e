// Package telemetry sets up what tells people how a gateway is doing: logs (slog, with secrets masked) and
// statistics (Prometheus and _expvar).
package telemetry
