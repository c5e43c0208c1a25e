package database

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// Handle is a collection seen by one principal as it stood when the Handle was made. It is made for one
// request and safe for concurrent use.
type Handle struct {
	db   *Database
	coll *collection
	user *access.User // nil: an administrator, who sees and may do everything
	blip bool         // counts as BLIP
	// bypass: an administrator whom the write block lets through.
	bypass   bool
	seen     *seen      // nil: an administrator
	admitted *admission // by device sync; nil: it has nothing to do with it
}

// seen is what a user sees and is in a collection, looked up once it is needed.
type seen struct {
	once   sync.Once
	grants tidegate.Grants

	writerOnce sync.Once
	writer     script.User

	// renewed is the Handle of the same principal as it was read again, since an online resync became visible; nil: it
	// was not.
	renewed atomic.Pointer[Handle]
}

// As returns the collection as the user sees it. user must not be nil and the collection must be one of the
// database's.
func (db *Database) As(user *access.User, coll store.Collection) *Handle {
	return &Handle{db: db, coll: db.byID[coll], user: user, seen: new(seen)}
}

// grants are the channels of the user; nil for an administrator.
func (h *Handle) grants() tidegate.Grants {
	if h.user == nil {
		return nil
	}
	if r := h.seen.renewed.Load(); r != nil {
		return r.grants()
	}
	h.seen.once.Do(func() { h.seen.grants = h.user.Channels(h.coll.id) })
	return h.seen.grants
}

// writer is who the sync function is told that writes.
func (h *Handle) writer() script.User {
	if h.user == nil {
		return script.User{Admin: true}
	}
	if r := h.seen.renewed.Load(); r != nil {
		return r.writer()
	}
	h.seen.writerOnce.Do(func() {
		h.seen.writer = script.User{
			Name:     h.user.PrincipalName(),
			Roles:    h.user.RoleNames(),
			Channels: slices.Sorted(maps.Keys(h.grants())),
		}
	})
	return h.seen.writer
}

// view reads a snapshot as the principal. What a Handle knows of its principal is as old as the Handle. If an online resync
// became visible since, that and what the snapshot says of documents do not belong together: the one is by the old sync
// function and the other by the new one. Then the principal is read again.
func (h *Handle) view(ctx context.Context, fn func(store.Reader) error) error {
	return h.viewThrough(ctx, func(fn func(store.Reader) error) error { return h.db.st.View(ctx, fn) }, fn)
}

// viewDocs is view for a function that will read the records of documents.
func (h *Handle) viewDocs(ctx context.Context, docIDs []string, fn func(store.Reader) error) error {
	keys := func() [][]byte {
		live := h.coll.routes.Last().Live(h.coll.id)
		keys := make([][]byte, 0, len(docIDs)+1)
		for _, id := range docIDs {
			keys = append(keys, h.coll.docKey(live, id))
		}
		return append(keys, h.coll.routes.Key())
	}
	return h.viewThrough(ctx, func(fn func(store.Reader) error) error { return store.ViewReading(ctx, h.db.st, keys, fn) }, fn)
}

// viewThrough is view by one of the ways that the store has.
func (h *Handle) viewThrough(ctx context.Context, view func(func(store.Reader) error) error, fn func(store.Reader) error) error {
	if h.user == nil {
		return view(fn)
	}
	for {
		outdated := false
		err := view(func(r store.Reader) error {
			routing, err := h.coll.routes.Read(r)
			if err != nil {
				return err
			}
			if outdated = h.lastSwitch() != routing.LastSwitch(); outdated {
				return nil
			}
			return fn(store.Pin(r, routing))
		})
		if err != nil || !outdated {
			return err
		}
		fresh, err := h.Fresh(ctx)
		if err != nil {
			return err
		}
		h.seen.renewed.Store(fresh)
	}
}

// lastSwitch is the online resync as of which the principal's grants are known.
func (h *Handle) lastSwitch() uint32 {
	if r := h.seen.renewed.Load(); r != nil {
		return r.lastSwitch()
	}
	return h.user.LastSwitch()
}

// Admin returns the collection as an administrator sees it.
func (db *Database) Admin(coll store.Collection) *Handle {
	return &Handle{db: db, coll: db.byID[coll]}
}

// ForBLIP returns the Handle with its reads and writes counted as those of BLIP clients.
func (h *Handle) ForBLIP() *Handle {
	blip := *h
	blip.blip = true
	return &blip
}

// Fresh returns the collection as the same principal sees it now. Errors: those of access.Registry.User, so
// NotFound if the user was deleted.
func (h *Handle) Fresh(ctx context.Context) (*Handle, error) {
	if h.user == nil {
		return h, nil
	}
	user, err := h.db.access.User(ctx, h.user.PrincipalName())
	if err != nil {
		return nil, err
	}
	fresh := h.db.As(user, h.coll.id)
	fresh.blip, fresh.admitted = h.blip, h.admitted
	return fresh, nil
}

// Database returns the database.
func (h *Handle) Database() *Database { return h.db }

// Collection returns the collection's number.
func (h *Handle) Collection() store.Collection { return h.coll.id }

// User returns the principal; nil for an administrator.
func (h *Handle) User() *access.User { return h.user }

// IsAdmin reports whether the Handle is an administrator's.
func (h *Handle) IsAdmin() bool { return h.user == nil }

// canSee reports whether the principal may read a revision in these channels (sync-function.md §6).
func (h *Handle) canSee(channels tidegate.ChannelSet) bool {
	return h.user == nil || h.grants().CanSee(channels)
}

// visible returns those of the channels that the principal may know of.
func (h *Handle) visible(channels tidegate.ChannelSet) tidegate.ChannelSet {
	if h.user == nil {
		return channels
	}
	grants := h.grants()
	if _, all := grants[tidegate.AllChannels]; all {
		return channels
	}
	var seen []string
	for _, c := range channels {
		if _, ok := grants[c]; ok || c == tidegate.PublicChannel {
			seen = append(seen, c)
		}
	}
	return tidegate.NewChannelSet(seen...)
}
