package devicesync

import (
	"encoding/json"
	"time"

	"github.com/tidegate/tidegate"
)

// RowName names the row of KindMeta in a database's own space that holds a [Row]: it goes wherever the database goes, into backups
// too. A database without it is as [Automatic] says.
const RowName = "device_sync"

// Epoch is one life of the sync history (device-sync.md §12.1).
type Epoch struct {
	No uint64 `json:"no"`
	ID string `json:"id"` // UUID
	// Base is the sequence that the epoch begins after. It belongs to no document, and every token of an older epoch is below it.
	Base      tidegate.Seq `json:"base"`
	StartedAt time.Time    `json:"started_at"`
	Reason    EpochReason  `json:"reason"`
}

// EpochReason is why an epoch began.
type EpochReason string

// The reasons.
const (
	EpochCreated   EpochReason = "created"
	EpochReenabled EpochReason = "reenabled" // terminated, and then perhaps enabled again
	EpochRestored  EpochReason = "restored"  // from a backup
	EpochForced    EpochReason = "forced"    // reset_all
)

// Repeats reports whether a client's reset in this epoch ends only when the client has offered all it has (§12.9), and not with
// the first checkpoint it stores.
func (e Epoch) Repeats() bool { return e.Reason == EpochRestored || e.Reason == EpochForced }

// NextBase returns the base of an epoch that begins when last is the last sequence: greater than every number that a token of an
// older epoch can hold, also after a restore that lost the newest 2³² sequences.
func NextBase(last tidegate.Seq) tidegate.Seq { return (last>>32 + 1) << 32 }

// Step is a step of a termination (§8.2). Each may be repeated.
type Step string

// The steps, in order.
const (
	StepSessions Step = "sessions" // wait until no session is open
	StepEpoch    Step = "epoch"    // allocate the next epoch
	StepClients  Step = "clients"  // retire clients: checkpoints and client records
	StepLedger   Step = "ledger"   // tombstones become ledger rows
	StepBodies   Step = "bodies"   // drop bodies that are not current, collapse channel history
	StepFinish   Step = "finish"   // floor, config, state
)

// Steps lists the steps of a termination, in order.
func Steps() []Step {
	return []Step{StepSessions, StepEpoch, StepClients, StepLedger, StepBodies, StepFinish}
}

// After returns the step that follows; "" after the last one.
func (s Step) After() Step {
	all := Steps()
	for i, step := range all[:len(all)-1] {
		if step == s {
			return all[i+1]
		}
	}
	return ""
}

// Termination is how far a termination has come.
type Termination struct {
	From      State     `json:"from"` // the state before it, which sync/state answers until it has ended
	Step      Step      `json:"step"`
	Done      int64     `json:"done"`  // items of this step
	Total     int64     `json:"total"` // 0: not known
	StartedAt time.Time `json:"started_at"`
	By        string    `json:"by,omitempty"`
}

// Fault is why clients are refused in phase error.
type Fault struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
	// Collections are those, as "scope.collection", whose loss it is: it is over when they are back.
	Collections []string `json:"collections,omitempty"`
}

// Sample says which sequence was the last one at a time.
type Sample struct {
	At  int64        `json:"t"` // Unix s
	Seq tidegate.Seq `json:"s"`
}

// Record is the stored lifecycle of a database's device sync (§2.3).
type Record struct {
	// Version counts the changes of the row: who changes it says which one it has read.
	Version uint64 `json:"version"`

	State State `json:"state"`
	Phase Phase `json:"phase"`
	Epoch Epoch `json:"epoch"`

	// HistoryFloor is the position up to which tokens are not honoured any more. LedgerFloor is the position up to which even
	// deletions are forgotten.
	HistoryFloor tidegate.Seq `json:"history_floor"`
	LedgerFloor  tidegate.Seq `json:"ledger_floor"`
	// Markers are the floor markers above HistoryFloor, ascending: sequences that belong to no document.
	Markers []tidegate.Seq `json:"markers,omitempty"`

	LastDisabled int64     `json:"last_disabled,omitempty"` // Unix s; of the last pause or termination
	DisabledBy   string    `json:"disabled_by,omitempty"`   // "user:<id>", "auto", "system" or ""
	EnabledAt    time.Time `json:"enabled_at"`              // the last enabling or resuming
	LastActivity time.Time `json:"last_activity"`           // of a device or peer

	Termination *Termination `json:"termination,omitempty"`
	Error       *Fault       `json:"error"`

	// TerminatedClients is what clients are told once the config is erased; "" is wait.
	TerminatedClients string `json:"terminated_clients,omitempty"`

	Samples  []Sample  `json:"samples,omitempty"` // ascending
	LastTrim time.Time `json:"last_trim,omitzero"`
	// Trim is a trim that has not ended; nil: none.
	Trim *TrimRun `json:"trim,omitempty"`
	// HeldSince is since when a trim that was due has been held back by a session that still needs history; zero: none is.
	HeldSince time.Time `json:"held_since,omitzero"`
	// Warned are the warnings given about the present state, so that each is given once.
	Warned []string `json:"warned,omitempty"`
}

// Marker is the newest floor marker; 0 if there is none.
func (r *Record) Marker() tidegate.Seq {
	if len(r.Markers) == 0 {
		return 0
	}
	return r.Markers[len(r.Markers)-1]
}

// Place is where the database's device sync is.
func (r *Record) Place() Place { return Place{r.State, r.Phase} }

// LiveState is what sync/state answers: the state before a termination until that has ended (§2.3).
func (r *Record) LiveState() State {
	if r.Phase == Terminating && r.Termination != nil {
		return r.Termination.From
	}
	return r.State
}

// Row is what is stored about a database's device sync: one value, changed by compare-and-set of Record.Version. A Row that was
// given out is not changed any more.
type Row struct {
	Record  Record  `json:"record"`
	Config  Config  `json:"config"`
	Service Service `json:"service"`
}

// rowFormat is the version of the stored form that this code writes and reads.
const rowFormat = 1

type storedRow struct {
	Format int `json:"format"`
	Row
}

// Encode returns the stored form.
func (r *Row) Encode() ([]byte, error) { return json.Marshal(storedRow{rowFormat, *r}) }

// DecodeRow reads what Encode made. Corrupt: it is not that.
func DecodeRow(b []byte) (*Row, error) {
	var s storedRow
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored device sync record does not make sense: %w", err)
	}
	if s.Format != rowFormat {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored device sync record has format %d; this version reads %d", s.Format, rowFormat)
	}
	if _, known := moves[s.Record.Place()]; !known {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored device sync record is in no legal place: %q, %q", s.Record.State, s.Record.Phase)
	}
	return &s.Row, nil
}

// Automatic is the row of a database that nobody has configured: sync enabled, history never trimmed, never paused by itself (§1).
// epoch is the id, and started the start, of the database's data.
func Automatic(database, epoch string, started time.Time) *Row {
	row := &Row{
		Record: Record{
			State: Enabled, Phase: Steady, EnabledAt: started, LastActivity: started,
			Epoch: Epoch{ID: epoch, StartedAt: started, Reason: EpochCreated},
		},
		Config: DefaultConfig(),
	}
	row.Config.Mode = Flexible
	row.Config.DatabaseName = database
	row.Config.ClientMaxOfflineDays = nil
	row.Config.AutoPauseDays = 0
	row.Config.Automatic = true
	return row
}
