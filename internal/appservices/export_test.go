package appservices

import (
	"context"
	"encoding/binary"

	"github.com/tidegate/tidegate/internal/store"
)

// Interrupt makes a stored deployment one that was begun and not ended, for a number of days that clients may be away.
func Interrupt(ctx context.Context, st store.Store, appID, id string, days int) error {
	d, err := readRow[deployment](ctx, st, rowKey(rowDeployment, appID, id))
	if err != nil {
		return err
	}
	d.Status, d.Error = statusPending, ""
	d.Next.Config.ClientMaxOfflineDays = &days
	w, err := putRow(d, rowDeployment, appID, id)
	if err != nil {
		return err
	}
	return st.Update(ctx, func(tx store.Tx) error {
		if err := tx.Put(rowKey(rowPending), []byte(id)); err != nil {
			return err
		}
		return tx.Put(w.key, w.value)
	})
}

// Change takes the right to make a change; store stores one by it.
func (s *Server) Change(ctx context.Context) (store func() error, release func(), err error) {
	within, release, err := s.change(ctx)
	return func() error { return s.store(within, write{rowKey("appservices.test"), []byte("x")}) }, release, err
}

// Fence makes the fence that of a lease's epoch.
func Fence(ctx context.Context, st store.Store, epoch uint64) error {
	return st.Update(ctx, func(tx store.Tx) error { return tx.Put(rowKey(rowFence), binary.BigEndian.AppendUint64(nil, epoch)) })
}
