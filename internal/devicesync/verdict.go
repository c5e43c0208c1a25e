package devicesync

import "github.com/tidegate/tidegate"

// VerdictKind is what becomes of a client that comes (device-sync.md §12.5).
type VerdictKind string

// The verdicts.
const (
	Fresh        VerdictKind = "fresh"         // never seen, and holds no token
	OK           VerdictKind = "ok"            // goes on where it was
	ResetRecover VerdictKind = "reset_recover" // starts again, and offers what it has
	ResetWipe    VerdictKind = "reset_wipe"    // must discard its local database
)

// Reset reports whether the client must start again.
func (k VerdictKind) Reset() bool { return k == ResetRecover || k == ResetWipe }

// Reason is why a client must reset.
type Reason string

// The reasons.
const (
	EpochChanged   Reason = "epoch_changed"
	HistoryTrimmed Reason = "history_trimmed"
	ServerBehind   Reason = "server_behind"
	Forced         Reason = "forced"
)

// RealmCode is the code, and its name, that a client of the original would be told for this reason (§11.2); 0 for none.
func (r Reason) RealmCode() (int, string) {
	switch r {
	case EpochChanged, Forced:
		return 208, "BadClientFileIdent"
	case HistoryTrimmed:
		return 222, "ClientFileExpired"
	case ServerBehind:
		return 209, "BadServerVersion"
	default:
		return 0, ""
	}
}

// Verdict is what becomes of a client, and why.
type Verdict struct {
	Kind   VerdictKind
	Reason Reason // "" unless it resets
}

// Claim is what is known of a client that comes.
type Claim struct {
	// Token is the position that the client holds, of a checkpoint or of a since; zero: none.
	Token tidegate.Since
	// Known: there is a client record or a checkpoint of its id.
	Known bool
	// Retired: its id is among the retired clients, with the position it was last seen at.
	Retired     bool
	RetiredLast tidegate.Seq
	// Forced: an operator asked for its reset.
	Forced bool
	// Peer: a gateway or a CouchDB, which is never told to wipe itself.
	Peer bool
}

// Judge returns the verdict on a client. last is the last sequence of the database.
func (r *Row) Judge(c Claim, last tidegate.Seq) Verdict {
	pos := Position(c.Token)
	reason := r.Record.resetReason(c, pos, last)
	switch {
	case reason == "" && pos == 0 && !c.Known:
		return Verdict{Kind: Fresh}
	case reason == "":
		return Verdict{Kind: OK}
	case c.Peer:
		return Verdict{ResetRecover, reason}
	}
	covered := pos
	if c.Retired {
		covered = c.RetiredLast
		if pos > 0 {
			covered = min(covered, pos)
		}
	}
	if r.Config.IsRecoveryModeDisabled || covered < r.Record.LedgerFloor {
		return Verdict{ResetWipe, reason}
	}
	return Verdict{ResetRecover, reason}
}

// resetReason returns why a client must reset; "" if it need not.
func (r *Record) resetReason(c Claim, pos, last tidegate.Seq) Reason {
	switch {
	case c.Forced:
		return Forced
	case Ahead(pos, last):
		return ServerBehind
	case r.Stale(pos):
		return r.lostBy(pos)
	case c.Retired:
		return r.lostBy(c.RetiredLast)
	default:
		return ""
	}
}

// lostBy says how the history after pos was lost.
func (r *Record) lostBy(pos tidegate.Seq) Reason {
	if pos < r.Epoch.Base {
		return EpochChanged
	}
	return HistoryTrimmed
}
