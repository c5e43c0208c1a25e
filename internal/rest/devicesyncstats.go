package rest

import (
	"context"
	"log/slog"
	"time"

	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// statusTimeout is how long a scrape waits for what has to be looked up.
const statusTimeout = 2 * time.Second

// syncFigures are the statistics of a database's device sync (device-sync.md §14.2).
func (s *Server) syncFigures(r *gateway.Running) []telemetry.Own {
	d := r.DeviceSync()
	row := d.Live().Row()
	label := [2]string{"db", r.Name()}
	gauge := func(name, help string, value float64, labels ...[2]string) telemetry.Own {
		return telemetry.Own{Name: "device_sync_" + name, Help: help, Value: value, Labels: append([][2]string{label}, labels...)}
	}
	own := []telemetry.Own{
		gauge("state", "0 terminated, 1 paused, 2 enabled, 3 error.", stateFigure(&row.Record)),
		gauge("epoch", "The number of the sync epoch.", float64(row.Record.Epoch.No)),
		gauge("history_floor", "Positions up to this are not honoured any more.", float64(row.Record.HistoryFloor)),
		gauge("resume_deadline_seconds", "Until when a pause can be resumed, Unix time; 0: no limit, or not paused.", deadlineFigure(row)),
		gauge("termination_progress", "How much of the present step of a termination is done, 0 to 1; 0: none is under way.", progressFigure(&row.Record)),
	}
	kinds := map[string]int{"blip": 0, "changes": 0, "replication": 0}
	for _, one := range d.Sessions() {
		kinds[one.Kind]++
	}
	for _, kind := range []string{"blip", "changes", "replication"} {
		own = append(own, gauge("sessions", "Open sessions.", float64(kinds[kind]), [2]string{"kind", kind}))
	}
	stats := d.Stats()
	for _, c := range []struct {
		code  devicesync.GateCode
		count int64
	}{
		{devicesync.SyncError, stats.Failed.Load()}, {devicesync.SyncNotReady, stats.NotReady.Load()},
		{devicesync.SyncPaused, stats.Paused.Load()}, {devicesync.SyncTerminated, stats.Terminated.Load()},
	} {
		one := gauge("refused_total", "Clients refused by the gate.", float64(c.count), [2]string{"code", string(c.code)})
		one.Counter = true
		own = append(own, one)
	}
	for _, c := range r.Stats().Resets.Counts() {
		one := gauge("client_resets_total", "Times that clients were told to reset.", float64(c.Times),
			[2]string{"verdict", string(c.Verdict.Kind)}, [2]string{"reason", string(c.Verdict.Reason)}, [2]string{"kind", string(c.Kind)})
		one.Counter = true
		own = append(own, one)
	}
	return append(own, s.syncStored(r, gauge)...)
}

// syncStored are the figures that have to be looked up in the store; none if that cannot be read.
func (s *Server) syncStored(r *gateway.Running, gauge func(string, string, float64, ...[2]string) telemetry.Own) []telemetry.Own {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	st, err := r.DeviceSync().Status(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "figures of device sync could not be read", slog.String("database", r.Name()), slog.Any("error", err))
		return nil
	}
	return []telemetry.Own{
		gauge("resets_pending", "Clients whose reset has not ended.", float64(st.PendingResetClients)),
		gauge("ledger_rows", "Deletions that are remembered beyond their history.", float64(st.Ledger.Rows)),
		gauge("quarantine_rows", "Bodies in quarantine.", float64(st.Quarantine.Rows)),
	}
}

func stateFigure(rec *devicesync.Record) float64 {
	switch {
	case rec.Phase == devicesync.Faulty:
		return 3
	case rec.State == devicesync.Enabled:
		return 2
	case rec.State == devicesync.Disabled:
		return 1
	default:
		return 0
	}
}

func deadlineFigure(row *devicesync.Row) float64 {
	if at := row.ResumeDeadline(); at != nil {
		return float64(at.Unix())
	}
	return 0
}

func progressFigure(rec *devicesync.Record) float64 {
	t := rec.Termination
	if t == nil || t.Total == 0 {
		return 0
	}
	return min(1, float64(t.Done)/float64(t.Total))
}
