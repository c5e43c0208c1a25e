package appservices

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/gateway"
)

// This file is tidegate's additions to the endpoints about sync (device-sync.md §5.1).

// deviceSync returns the device sync of the app's database. It needs one.
func (c *call) deviceSync() (*gateway.DeviceSync, error) {
	r := c.s.running(c.app)
	if r == nil {
		return nil, fail(http.StatusNotFound, codeBadRequest, "the app has no database: sync was never enabled")
	}
	return r.DeviceSync(), nil
}

func (c *call) handleLifecycle() error {
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	status, err := ds.Status(c.Context())
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, status)
}

// clientsPerPage bounds a page of clients or of quarantined bodies.
const clientsPerPage = 1000

// page reads the parameters limit and after.
func (c *call) page() (limit int, after string, err error) {
	q := c.URL.Query()
	limit = 100
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > clientsPerPage {
			return 0, "", invalid("limit: expected a number from 1 to %d", clientsPerPage)
		}
	}
	return limit, q.Get("after"), nil
}

// clientView is a client record as it is answered.
type clientView struct {
	FileIdent    int64                `json:"file_ident"`
	Kind         database.ClientKind  `json:"kind"`
	Peer         bool                 `json:"peer,omitempty"`
	User         string               `json:"user"`
	CheckpointID string               `json:"checkpoint_id"`
	Epoch        uint64               `json:"epoch"`
	FirstSeen    time.Time            `json:"first_seen"`
	LastSeen     time.Time            `json:"last_seen"`
	LastSince    string               `json:"last_since"`
	Reset        *database.ResetState `json:"reset"`
	Reason       devicesync.Reason    `json:"reason"`
}

func viewOfClient(r *database.ClientRecord) clientView {
	v := clientView{
		r.FileIdent, r.Kind, r.Peer, r.User, r.Checkpoint, r.Epoch, r.FirstSeen, r.LastSeen, r.LastSince, nil, r.Reason,
	}
	if r.Reset != database.ResetNone {
		v.Reset = &r.Reset
	}
	return v
}

// resetStates are the values of the parameter state.
var resetStates = map[string]database.ResetState{
	"pending": database.ResetPending, "running": database.ResetRunning, "done": database.ResetDone, "wipe": database.ResetWiping,
}

func (c *call) handleClients() error {
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	f := database.ClientFilter{}
	var after string
	if f.Limit, after, err = c.page(); err != nil {
		return err
	}
	if text := c.URL.Query().Get("state"); text != "" {
		state, ok := resetStates[text]
		if !ok {
			return invalid("state: expected pending, running, done or wipe")
		}
		f.Reset = &state
	}
	if after != "" {
		if f.After, err = strconv.ParseInt(after, 10, 64); err != nil {
			return invalid("after: expected a file_ident")
		}
	}
	clients, err := ds.Clients(c.Context(), f)
	if err != nil {
		return err
	}
	views := []clientView{}
	for i := range clients {
		views = append(views, viewOfClient(&clients[i]))
	}
	return c.reply(http.StatusOK, views)
}

// handleSessions lists the replications that are open, the oldest first.
func (c *call) handleSessions() error {
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, ds.Sessions())
}

// handleForceReset makes one client reset at its next connection.
func (c *call) handleForceReset() error {
	var body struct {
		FileIdent *int64 `json:"file_ident"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.FileIdent == nil {
		return missing("file_ident")
	}
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	err = ds.ForceReset(c.Context(), *body.FileIdent)
	if err != nil && tidegate.ErrorCode(err) == tidegate.NotFound {
		return fail(http.StatusNotFound, codeUserNotFound, "there is no client with file_ident %d", *body.FileIdent)
	}
	return c.afterNoContent(err)
}

// handleResetAll begins a new epoch: every client resets, configuration and state stay.
func (c *call) handleResetAll() error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if len(body.Reason) > 500 {
		return invalid("reason: at most 500 bytes")
	}
	ds, err := c.deviceSync()
	if err == nil {
		err = ds.ResetAll(c.Context(), body.Reason, c.who.by())
	}
	return c.afterNoContent(err)
}

func (c *call) handleTrim() error {
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	if err := ds.Trim(c.Context()); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// quarantinedView is a quarantined body as it is answered.
type quarantinedView struct {
	database.Quarantined
	// CollectionName is where the document is, as scope.collection; "" if the collection is gone.
	CollectionName string `json:"collection_name"`
}

func (c *call) handleQuarantine() error {
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	limit, after, err := c.page()
	if err != nil {
		return err
	}
	all, err := ds.Quarantine(c.Context(), after, limit)
	if err != nil {
		return err
	}
	views := []quarantinedView{}
	for _, one := range all {
		one.Body = nil // told of one that is asked for by itself
		views = append(views, quarantinedView{one, ds.CollectionName(one.Collection)})
	}
	return c.reply(http.StatusOK, views)
}

func (c *call) handleQuarantined() error {
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	one, err := ds.Quarantined(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, quarantinedView{*one, ds.CollectionName(one.Collection)})
}

func (c *call) handleRestoreQuarantined() error {
	ds, err := c.deviceSync()
	if err != nil {
		return err
	}
	rev, err := ds.RestoreQuarantined(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]string{"rev": rev.String()})
}

func (c *call) handleDropQuarantined() error {
	ds, err := c.deviceSync()
	if err == nil {
		err = ds.DropQuarantined(c.Context(), c.vars["id"])
	}
	return c.afterNoContent(err)
}
