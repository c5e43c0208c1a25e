package appservices

import (
	"context"
	"net/http"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// draft is a user's private copy of an app's configuration (device-sync.md §6.1).
type draft struct {
	ID      string `json:"id"`
	AppID   string `json:"app_id"`
	UserID  string `json:"user_id"`
	Created int64  `json:"created"` // Unix s
	// Base is what was live when the draft was made, and Next what is to be.
	Base snapshot `json:"base"`
	Next snapshot `json:"next"`
	// ThroughTerminated: in the course of the draft sync was terminated.
	ThroughTerminated bool `json:"through_terminated"`
}

// take makes a snapshot what the draft would put in force.
func (d *draft) take(next snapshot) { d.Next = next }

// cancelsOut reports whether sync was terminated and configured again within the draft, of which nothing comes.
func (d *draft) cancelsOut() bool {
	return d.ThroughTerminated && d.Base.State != devicesync.Terminated && d.Next.State != devicesync.Terminated
}

// cancelNotice says so, in the diff and in the deployment.
const cancelNotice = "sync was terminated and enabled again within this draft: the two cancel out, and deploying it terminates nothing; " +
	"to start anew, deploy the termination first, then configure and enable sync"

// draftOf returns the draft of a user; nil if there is none.
func (s *Server) draftOf(ctx context.Context, appID, userID string) (*draft, error) {
	return readRow[draft](ctx, s.opts.Store, rowKey(rowDraft, appID, userID))
}

func (s *Server) saveDraft(ctx context.Context, d *draft) error {
	return put(ctx, s, d, rowDraft, d.AppID, d.UserID)
}

// newDraft makes the caller's draft, which is not stored yet.
func (c *call) newDraft() (*draft, error) {
	keys, err := keysOf(c.Context(), c.s.opts.Store, rowKey(rowDraft, c.app.ID))
	if err != nil {
		return nil, err
	}
	if len(keys) >= MaxDrafts {
		return nil, invalid("the app has %d drafts already", len(keys))
	}
	now := c.s.current(c.app)
	return &draft{ID: c.s.ids.next(), AppID: c.app.ID, UserID: c.who.UserID, Created: c.s.now().Unix(), Base: now, Next: now}, nil
}

// ownDraft returns the caller's draft, which the path names. DraftNotFound: it is not there, or is somebody else's.
func (c *call) ownDraft() (*draft, error) {
	d, err := c.s.draftOf(c.Context(), c.app.ID, c.who.UserID)
	if err != nil {
		return nil, err
	}
	if d == nil || d.ID != c.vars["draft"] {
		return nil, fail(http.StatusNotFound, codeDraftNotFound, "draft not found: %q", printable(c.vars["draft"]))
	}
	return d, nil
}

// stale reports whether something else than the draft's base is live by now.
func (s *Server) stale(a *app, d *draft) bool {
	now := s.current(a)
	return d.Base.App.Generation != a.Generation || !sameSync(&now, &d.Base)
}

type draftView struct {
	ID     string  `json:"_id"`
	UserID string  `json:"user_id"`
	App    appJSON `json:"app"`
}

func (d *draft) view() draftView { return draftView{d.ID, d.UserID, d.Next.export()} }

func (c *call) handleListDrafts() error {
	d, err := c.s.draftOf(c.Context(), c.app.ID, c.who.UserID)
	if err != nil {
		return err
	}
	views := []draftView{}
	if d != nil {
		views = append(views, d.view())
	}
	return c.reply(http.StatusOK, views)
}

func (c *call) handleCreateDraft() error {
	d, err := c.s.draftOf(c.Context(), c.app.ID, c.who.UserID)
	if err != nil {
		return err
	}
	if d != nil {
		return fail(http.StatusConflict, codeDraftExists, "you have a draft of this app already: %s", d.ID)
	}
	if d, err = c.newDraft(); err != nil {
		return err
	}
	if err := c.s.saveDraft(c.Context(), d); err != nil {
		return err
	}
	return c.reply(http.StatusCreated, d.view())
}

func (c *call) handleGetDraft() error {
	d, err := c.ownDraft()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, d.view())
}

func (c *call) handleDeleteDraft() error {
	d, err := c.ownDraft()
	if err == nil {
		err = c.s.store(c.Context(), write{rowKey(rowDraft, d.AppID, d.UserID), nil})
	}
	return c.afterNoContent(err)
}

func (c *call) handleDraftDiff() error {
	d, err := c.ownDraft()
	if err != nil {
		return err
	}
	view := newDiffView(diffSnapshots(&d.Base, &d.Next))
	if d.cancelsOut() {
		view.Notices = append(view.Notices, cancelNotice)
	}
	if c.s.stale(c.app, d) {
		view.Notices = append(view.Notices, errStale.Error())
	}
	return c.reply(http.StatusOK, view)
}

var errStale = fail(http.StatusConflict, codeDraftConflict,
	"the app was changed after this draft was made: it cannot be deployed any more; export what it holds, discard it and make it anew")

// handleDeployDraft puts the caller's draft in force. The answer shows the deployment as it was made; how it ended is to be asked for.
func (c *call) handleDeployDraft() error {
	d, err := c.ownDraft()
	if err != nil {
		return err
	}
	var body struct {
		Name string `json:"name"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if len(body.Name) > maxNameChars {
		return invalid("name: at most %d characters", maxNameChars)
	}
	if c.s.stale(c.app, d) {
		return errStale
	}
	meta := deployment{ID: c.s.ids.next(), Name: body.Name, DraftID: d.ID}
	if d.cancelsOut() {
		meta.Notice = cancelNotice
	}
	made, err := c.deploy(&d.Next, meta)
	if made == nil {
		return err
	}
	view := made.view()
	view.Status, view.Error = statusCreated, ""
	return c.reply(http.StatusCreated, view)
}
