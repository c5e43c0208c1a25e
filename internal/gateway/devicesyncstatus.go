package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// DeviceSyncStats counts what the gate does. Counters only grow.
type DeviceSyncStats struct {
	Paused, Terminated, NotReady, Failed atomic.Int64 // refusals, by what they say
}

// refused counts a refusal.
func (s *DeviceSyncStats) refused(code devicesync.GateCode) {
	switch code {
	case devicesync.SyncPaused:
		s.Paused.Add(1)
	case devicesync.SyncTerminated:
		s.Terminated.Add(1)
	case devicesync.SyncNotReady:
		s.NotReady.Add(1)
	default:
		s.Failed.Add(1)
	}
}

// Stats are the counters of the gate.
func (s *DeviceSync) Stats() *DeviceSyncStats { return &s.stats }

// clientCounts are numbers of clients, which are counted seldom since there may be many.
type clientCounts struct {
	at           time.Time
	epoch        uint64
	all, pending int
}

// countsFor is how long numbers of clients are good.
const countsFor = 2 * time.Second

// Status is everything about the database's device sync (device-sync.md §5.1, sync/lifecycle). Samples and warnings, which are of no
// use to anybody, are left out.
func (s *DeviceSync) Status(ctx context.Context) (devicesync.Status, error) {
	row := s.live.Row()
	st := devicesync.Status{Record: row.Record}
	st.Samples, st.Warned = nil, nil
	if active := time.UnixMilli(s.active.Load()).UTC(); active.After(st.LastActivity) {
		st.LastActivity = active
	}
	st.Sessions = s.devices()
	others, err := s.others(ctx)
	if err != nil {
		return st, err
	}
	for _, p := range others {
		st.Sessions += p.Sessions
		if active := time.Unix(p.Active, 0).UTC(); active.After(st.LastActivity) {
			st.LastActivity = active
		}
	}
	st.ResumeDeadline, st.MustTerminate = row.ResumeDeadline(), row.MustTerminate(s.r.g.opts.Now())
	keeper := s.keeper()
	if st.LastSequence, err = keeper.LastSequence(ctx); err != nil {
		return st, err
	}
	if st.Clients, st.PendingResetClients, err = s.clientCounts(ctx, keeper); err != nil {
		return st, err
	}
	ledger, err := keeper.Ledger(ctx)
	if err != nil {
		return st, err
	}
	st.Ledger.Rows = ledger.Rows
	if !ledger.Oldest.IsZero() {
		st.Ledger.Oldest = &ledger.Oldest
	}
	st.Quarantine.Rows, err = keeper.QuarantineRows(ctx)
	return st, err
}

// clientCounts returns how many clients are known, and how many of them have not ended a reset.
func (s *DeviceSync) clientCounts(ctx context.Context, keeper *database.Keeper) (all, pending int, err error) {
	now, epoch := s.r.g.opts.Now(), s.live.Row().Record.Epoch.No
	known := s.counted.Load()
	if known != nil && known.epoch == epoch && now.Sub(known.at) < countsFor {
		return known.all, known.pending, nil
	}
	clients, err := keeper.Clients(ctx, database.ClientFilter{})
	if err != nil {
		return 0, 0, err
	}
	c := &clientCounts{at: now, epoch: epoch, all: len(clients)}
	for _, one := range clients {
		if one.Reset != database.ResetNone && one.Reset != database.ResetDone {
			c.pending++
		}
	}
	s.counted.CompareAndSwap(known, c) // not if they were forgotten while they were counted
	return c.all, c.pending, nil
}

// recount forgets the numbers of clients, also those that are being counted now.
func (s *DeviceSync) recount() { s.counted.Store(new(clientCounts)) }

// Clients lists client records in order of their file_ident.
func (s *DeviceSync) Clients(ctx context.Context, f database.ClientFilter) ([]database.ClientRecord, error) {
	return s.keeper().Clients(ctx, f)
}

// ForceReset makes one client reset at its next connection; nobody else is affected. NotFound.
func (s *DeviceSync) ForceReset(ctx context.Context, fileIdent int64) error {
	if err := s.keeper().ForceReset(ctx, fileIdent); err != nil {
		return err
	}
	s.recount()
	s.log().Info("device sync: a client must reset", "file_ident", fileIdent)
	return nil
}

// Quarantine lists bodies that were taken and not made current, in the order in which they came, after an ID; "" is from the first.
func (s *DeviceSync) Quarantine(ctx context.Context, after string, limit int) ([]database.Quarantined, error) {
	return s.keeper().Quarantine(ctx, after, limit)
}

// CollectionName is the name of one of the database's collections, as scope.collection; "" if it is not there any more.
func (s *DeviceSync) CollectionName(id store.Collection) string {
	if scope, name := s.r.definition().collectionName(id); scope != "" {
		return scope + "." + name
	}
	return ""
}

// Quarantined returns one of them. NotFound.
func (s *DeviceSync) Quarantined(ctx context.Context, id string) (*database.Quarantined, error) {
	return s.keeper().Quarantined(ctx, id)
}

// DropQuarantined removes one of them for good. NotFound.
func (s *DeviceSync) DropQuarantined(ctx context.Context, id string) error {
	return s.keeper().DropQuarantined(ctx, id)
}

// RestoreQuarantined makes one of them the current revision of its document, and takes it out. NotFound. Unavailable: the database is
// not online.
func (s *DeviceSync) RestoreQuarantined(ctx context.Context, id string) (tidegate.RevID, error) {
	db, _, release, err := s.r.Acquire(ctx)
	if err != nil {
		return tidegate.RevID{}, err
	}
	defer release()
	written, err := db.RestoreQuarantined(ctx, id)
	return written.Rev, err
}
