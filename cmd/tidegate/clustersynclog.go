package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// The log of a cluster sync (cluster-sync.md §21.1): JSON lines, on standard output or in a file that is rotated.
const (
	syncLogFile     = "mongosync.log"
	syncMetricsFile = "mongosync_metrics.log"
	rotatedTime     = "2006-01-02T15-04-05.000"
	maxLogField     = 1024 // characters of a field
	metricsEvery    = 30 * time.Second
)

// syncLog is the log.
type syncLog struct {
	*slog.Logger
	file    *rotatingFile // nil: standard output
	metrics *rotatingFile // nil: none
}

func openSyncLog(o *clusterSyncOptions, out io.Writer) (*syncLog, error) {
	level, err := parseSyncLevel(o.verbosity)
	if err != nil {
		return nil, err
	}
	l := &syncLog{}
	if o.logPath != "" {
		if l.file, err = openRotating(o.logPath, syncLogFile); err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		out = l.file
	}
	if o.metricsLogPath != "" && !o.disableMetricsLog {
		if l.metrics, err = openRotating(o.metricsLogPath, syncMetricsFile); err != nil {
			return nil, errors.Join(fmt.Errorf("open metrics log: %w", err), l.Close())
		}
	}
	l.Logger = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: syncAttr})).
		With("mongosyncID", clustersync.Coordinator, "pid", os.Getpid())
	return l, nil
}

// syncAttr names things as mongosync does, cuts long texts and masks secrets.
func syncAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.LevelKey:
			return slog.String(a.Key, syncLevelName(a.Value.Any()))
		case slog.MessageKey:
			return slog.String("message", cut(a.Value.String()))
		}
	}
	a = telemetry.Redact(groups, a)
	if a.Value.Kind() == slog.KindString {
		return slog.String(a.Key, cut(a.Value.String()))
	}
	return a
}

func cut(s string) string {
	if utf8.RuneCountInString(s) <= maxLogField {
		return s
	}
	return string([]rune(s)[:maxLogField]) + "…"
}

// syncLevels are mongosync's levels, from the lowest on.
var syncLevels = []struct {
	name  string
	level slog.Level
}{
	{"trace", clustersync.LevelTrace}, {"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError},
	{"fatal", clustersync.LevelFatal}, {"panic", clustersync.LevelPanic},
}

func parseSyncLevel(name string) (slog.Level, error) {
	for _, l := range syncLevels {
		if strings.EqualFold(l.name, name) {
			return l.level, nil
		}
	}
	return 0, errors.New("the level must be TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC")
}

func syncLevelName(v any) string {
	level, _ := v.(slog.Level)
	name := syncLevels[0].name
	for _, l := range syncLevels {
		if level >= l.level {
			name = l.name
		}
	}
	return name
}

// rotateOnSignal rotates with SIGUSR1 until the function that it returns is called.
func (l *syncLog) rotateOnSignal() (stop func()) {
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-usr1:
				if l.file != nil {
					if err := l.file.rotate(); err != nil {
						l.Error("The log could not be rotated", "error", err)
					}
				}
			}
		}
	})
	return func() { signal.Stop(usr1); close(done); wg.Wait() }
}

// keepMetrics writes the metrics into their file now and then.
func (l *syncLog) keepMetrics(ctx context.Context, from prometheus.Gatherer) error {
	if l.metrics == nil {
		return nil
	}
	tick := time.NewTicker(metricsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := writeMetrics(l.metrics, from, now); err != nil {
				l.Warn("The metrics could not be written", "error", err)
			}
		}
	}
}

// writeMetrics writes one line with all metrics that are single numbers.
func writeMetrics(w io.Writer, from prometheus.Gatherer, now time.Time) error {
	families, err := from.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case len(m.GetLabel()) > 0:
			case m.GetGauge() != nil:
				values[f.GetName()] = m.GetGauge().GetValue()
			case m.GetCounter() != nil:
				values[f.GetName()] = m.GetCounter().GetValue()
			case m.GetHistogram() != nil:
				values[f.GetName()+"_sum"] = m.GetHistogram().GetSampleSum()
				values[f.GetName()+"_count"] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	line, err := json.Marshal(struct {
		Time    string             `json:"time"`
		Metrics map[string]float64 `json:"metrics"`
	}{now.Format(time.RFC3339), values}, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("write down metrics: %w", err)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// Close closes the files.
func (l *syncLog) Close() error {
	var err error
	for _, f := range []*rotatingFile{l.file, l.metrics} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// rotatingFile is a file whose contents so far are put aside, compressed, when it is opened and when rotate is called.
type rotatingFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

func openRotating(dir, name string) (*rotatingFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r := &rotatingFile{path: filepath.Join(dir, name)}
	return r, r.rotate()
}

// rotate puts what is there aside and begins a new file.
func (r *rotatingFile) rotate() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f != nil {
		_ = r.f.Close() // what was written is written
	}
	aside := strings.TrimSuffix(r.path, ".log") + "-" + time.Now().UTC().Format(rotatedTime) + ".log"
	err := os.Rename(r.path, aside)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := err == nil
	if r.f, err = os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	if there {
		return compress(aside)
	}
	return nil
}

// compress replaces a file by its compressed form.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path+".gz", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err := errors.Join(err, z.Close(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".gz"))
	}
	return os.Remove(path)
}

func (r *rotatingFile) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.f.Write(b)
}

// Close closes the file.
func (r *rotatingFile) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.f.Close()
}
