package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// lifecycle is what sync/lifecycle answers.
type lifecycle struct {
	State string `json:"state"` // "enabled", "disabled" or ""
	Phase string `json:"phase"`
	Epoch struct {
		No        uint64    `json:"no"`
		ID        string    `json:"id"`
		Base      uint64    `json:"base"`
		StartedAt time.Time `json:"started_at"`
		Reason    string    `json:"reason"`
	} `json:"epoch"`
	HistoryFloor uint64       `json:"history_floor"`
	LedgerFloor  uint64       `json:"ledger_floor"`
	LastDisabled int64        `json:"last_disabled"`
	DisabledBy   string       `json:"disabled_by"`
	EnabledAt    time.Time    `json:"enabled_at"`
	LastActivity time.Time    `json:"last_activity"`
	LastTrim     time.Time    `json:"last_trim"`
	Termination  *termination `json:"termination"`
	Error        *syncFault   `json:"error"`

	Sessions            int        `json:"sessions"`
	Clients             int        `json:"clients"`
	PendingResetClients int        `json:"pending_reset_clients"`
	ResumeDeadline      *time.Time `json:"resume_deadline"`
	MustTerminate       bool       `json:"must_terminate"`
	LastSequence        uint64     `json:"last_sequence"`
	Ledger              struct {
		Rows   int64      `json:"rows"`
		Oldest *time.Time `json:"oldest"`
	} `json:"ledger"`
	Quarantine struct {
		Rows int64 `json:"rows"`
	} `json:"quarantine"`
}

// termination is how far a termination has come.
type termination struct {
	From  string `json:"from"`
	Step  string `json:"step"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	By    string `json:"by"`
}

// syncFault is why clients are refused.
type syncFault struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}

// readLifecycle reads what is live of an app's device sync. For an app without a database, or whose database is gone, there is nothing
// configured.
func (rq *request) readLifecycle(ctx context.Context, a *app) (*lifecycle, error) {
	var l lifecycle
	err := rq.apps.get(ctx, a.Path("sync", "lifecycle"), nil, &l)
	if statusOf(err) == http.StatusNotFound {
		return &lifecycle{Phase: "steady"}, nil
	}
	return &l, err
}

// Label is the state in words.
func (l *lifecycle) Label() string {
	switch l.Phase {
	case "error":
		return "Error"
	case "terminating":
		return "Terminating"
	case "pausing":
		return "Pausing"
	case "building":
		return "Preparing"
	}
	return stateLabel(l.State, l.LastDisabled != 0)
}

// stateLabel is a state of the service config in words.
func stateLabel(state string, known bool) string {
	switch {
	case state == "enabled":
		return "Sync on"
	case state == "disabled":
		return "Paused"
	case known:
		return "Terminated"
	}
	return "Not configured"
}

// Since is the beginning of the state.
func (l *lifecycle) Since() time.Time {
	if l.State == "enabled" {
		return l.EnabledAt
	}
	return unixTime(l.LastDisabled)
}

// deadlineWarning is the part of the history window after which its end is a warning.
const deadlineWarning = 0.8

// DeadlineNear reports whether most of the time in which sync can be resumed is over.
func (l *lifecycle) DeadlineNear(now time.Time) bool {
	if l.ResumeDeadline == nil || l.LastDisabled == 0 {
		return false
	}
	window := l.ResumeDeadline.Sub(unixTime(l.LastDisabled))
	return now.Sub(unixTime(l.LastDisabled)) > time.Duration(deadlineWarning*float64(window))
}

// terminationSteps are the steps of a termination in order, with the words for them.
var terminationSteps = []struct{ id, words string }{
	{"sessions", "Ending sessions"}, {"epoch", "Beginning a new epoch"}, {"clients", "Forgetting clients and checkpoints"},
	{"ledger", "Writing deletions to the ledger"}, {"bodies", "Dropping history"}, {"finish", "Erasing the configuration"},
}

// stepWords says what a step of a termination does.
func stepWords(step string) string {
	for i, s := range terminationSteps {
		if s.id == step {
			return fmt.Sprintf("Step %d of %d: %s", i+1, len(terminationSteps), s.words)
		}
	}
	return step
}

// Percent is how far a termination is, each step counting the same.
func (t *termination) Percent() int {
	for i, s := range terminationSteps {
		if s.id == t.Step {
			part := 0.0
			if t.Total > 0 {
				part = min(1, float64(t.Done)/float64(t.Total))
			}
			return int(100 * (float64(i) + part) / float64(len(terminationSteps)))
		}
	}
	return 0
}

// Words says what the step does.
func (t *termination) Words() string { return stepWords(t.Step) }

// figures are the numbers of the Device Sync page by their keys.
func (l *lifecycle) figures(now time.Time) map[string]any {
	f := map[string]any{
		"state": l.Label(), "epoch": count(int64(l.Epoch.No)), "epochReason": epochReason(l.Epoch.Reason),
		"sessions": counti(l.Sessions), "clients": counti(l.Clients), "pending": counti(l.PendingResetClients), "others": counti(max(0, l.Clients-l.Sessions)),
		"sequence": count(int64(l.LastSequence)), "floor": count(int64(l.HistoryFloor)), "ledger": count(l.Ledger.Rows),
		"ledgerFloor": count(int64(l.LedgerFloor)), "quarantine": count(l.Quarantine.Rows), "activity": ago(now, l.LastActivity), "trim": ago(now, l.LastTrim),
		"anyClients": l.Clients+l.Sessions > 0, "noClients": l.Clients+l.Sessions == 0,
		"terminating": l.Phase == "terminating", "pausing": l.Phase == "pausing", "step": "", "percent": 0, "deadline": "",
	}
	if l.Ledger.Oldest != nil {
		f["ledgerOldest"] = "since " + l.Ledger.Oldest.UTC().Format(time.DateOnly)
	} else {
		f["ledgerOldest"] = ""
	}
	if t := l.Termination; t != nil {
		f["step"], f["percent"] = t.Words(), t.Percent()
	}
	if l.ResumeDeadline != nil {
		f["deadline"] = ago(now, *l.ResumeDeadline)
	}
	f["version"] = strings.Join([]string{l.State, l.Phase, boolText(l.MustTerminate), boolText(l.DeadlineNear(now)), l.Epoch.ID}, "/")
	return f
}

func counti(n int) string { return count(n) }

// epochReason says why an epoch began.
func epochReason(reason string) string {
	switch reason {
	case "created":
		return "since the database was made"
	case "reenabled":
		return "since sync was enabled"
	case "restored":
		return "since a restore from a backup"
	case "forced":
		return "since all clients were reset"
	}
	return reason
}

// appOfTopic is the app that a topic's argument names, "group/app".
func appOfTopic(arg string) *app {
	group, id, _ := strings.Cut(arg, "/")
	return &app{Group: group, ID: id}
}

// openSyncTopic keeps the pages of an app's device sync up to date; arg is "group/app". A draft that comes or goes counts as a change.
func (c *Console) openSyncTopic(rq *request, arg string) (sampler, error) {
	a := appOfTopic(arg)
	var listed listedApp
	if err := rq.apps.get(rq.Context(), a.Path(), nil, &listed); err != nil {
		return nil, err
	}
	a.Database = listed.Database
	return func(ctx context.Context) (any, error) {
		l, err := rq.readLifecycle(ctx, a)
		if err != nil {
			return nil, err
		}
		draft, err := rq.draftID(ctx, a)
		if err != nil {
			return nil, err
		}
		f := l.figures(c.o.Now())
		f["version"] = f["version"].(string) + "/" + draft
		return f, nil
	}, nil
}
