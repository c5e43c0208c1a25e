package database

import (
	"context"
	"fmt"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// ChannelNames returns the names of at most limit channels of the handle's collection that documents are in or have
// left, in byte order: those that begin with prefix and come after the name after. It costs one step in the index for
// each name, however many documents a channel has. Forbidden: the handle is not an administrator's.
func (h *Handle) ChannelNames(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if !h.IsAdmin() {
		return nil, tidegate.ErrForbidden
	}
	var names []string
	err := h.db.st.View(ctx, func(r store.Reader) error {
		names = nil
		physical, err := h.coll.physical(r)
		if err != nil {
			return err
		}
		base := store.NewKey(h.db.space, store.KindChannel).Collection(physical)
		it := r.Scan(store.Prefix(base))
		defer it.Close()
		at := base.Clone().Name(max(prefix, after))
		if after >= prefix && after != "" {
			at = store.PrefixEnd(at) // behind all rows of that channel
		}
		for it.SeekGE(at) && len(names) < limit {
			name, _, err := store.CutName(it.Key()[len(base):])
			if err != nil {
				return err
			}
			if !strings.HasPrefix(name, prefix) && name > prefix {
				break
			}
			if name != tidegate.AllChannels && strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
			at = store.PrefixEnd(base.Clone().Name(name))
		}
		return it.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list channels: %w", err)
	}
	return names, nil
}
