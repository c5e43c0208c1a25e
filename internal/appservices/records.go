package appservices

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// What this package stores is in space 0, as JSON rows of KindMeta:
//
//	appservices.server                       the default group and the domain
//	appservices.app           app            an app with its services and schemas
//	appservices.appless       database       the database's automatic app was deleted and is not to come again
//	appservices.draft         app, user      the draft of a user
//	appservices.deployment    app, id        a deployment and the configuration that it put in force
//	appservices.session       id             a login
//	appservices.signing                      the key that tokens are signed with (token.go)
//	appservices.pending                      a deployment is being made (changing.go)
//	appservices.fence                        under which lease changes were made last (changing.go)
const (
	rowServer     = "appservices.server"
	rowApp        = "appservices.app"
	rowAppless    = "appservices.appless"
	rowDraft      = "appservices.draft"
	rowDeployment = "appservices.deployment"
	rowSession    = "appservices.session"
)

// rowFormat is the version of all these rows.
const rowFormat = 1

type formatted[T any] struct {
	Format int `json:"format"`
	Row    T   `json:"row"`
}

func rowKey(kind string, names ...string) store.Key {
	k := store.NewKey(0, store.KindMeta).Name(kind)
	for _, n := range names {
		k = k.Name(n)
	}
	return k
}

func encodeRow[T any](row T) ([]byte, error) {
	b, err := json.Marshal(formatted[T]{rowFormat, row})
	if err != nil {
		return nil, fmt.Errorf("encode row: %w", err)
	}
	return b, nil
}

func decodeRow[T any](b []byte) (*T, error) {
	var f formatted[T]
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "a stored record of the App Services API does not make sense: %w", err)
	}
	if f.Format != rowFormat {
		return nil, tidegate.Errorf(tidegate.Corrupt, "a stored record of the App Services API has format %d; this version reads %d", f.Format, rowFormat)
	}
	return &f.Row, nil
}

// readRow returns a row; nil if there is none.
func readRow[T any](ctx context.Context, st store.Store, key store.Key) (*T, error) {
	var row *T
	err := st.View(ctx, func(r store.Reader) error {
		row = nil
		b, err := r.Get(key)
		if err == nil && b != nil {
			row, err = decodeRow[T](b)
		}
		return err
	})
	return row, err
}

// readRows returns all rows whose key begins with a prefix, in its order; at most limit, unless that is 0. With newest it is the
// other order.
func readRows[T any](ctx context.Context, st store.Store, prefix store.Key, limit int, newest bool) ([]*T, error) {
	var rows []*T
	err := st.View(ctx, func(r store.Reader) error {
		rows = nil
		rng := store.Prefix(prefix)
		rng.Reverse = newest
		it := r.Scan(rng)
		defer it.Close()
		for it.Next() && (limit == 0 || len(rows) < limit) {
			row, err := decodeRow[T](it.Value())
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return it.Err()
	})
	return rows, err
}

// A write is a row to put, or to delete if its value is nil.
type write struct {
	key   store.Key
	value []byte
}

func putRow[T any](row T, kind string, names ...string) (write, error) {
	value, err := encodeRow(row)
	return write{rowKey(kind, names...), value}, err
}

// store makes writes durable, all or none. It is carried to its end once it has begun.
func (s *Server) store(ctx context.Context, writes ...write) error {
	err := s.opts.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		if err := fenced(ctx, tx); err != nil {
			return err
		}
		for _, w := range writes {
			var err error
			if w.value == nil {
				err = tx.Delete(w.key)
			} else {
				err = tx.Put(w.key, w.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store records of the App Services API: %w", err)
	}
	return nil
}

// put stores one row.
func put[T any](ctx context.Context, s *Server, row T, kind string, names ...string) error {
	w, err := putRow(row, kind, names...)
	return cmp.Or(err, s.storeIf(ctx, err, w))
}

func (s *Server) storeIf(ctx context.Context, err error, writes ...write) error {
	if err != nil {
		return err
	}
	return s.store(ctx, writes...)
}

// serverRecord is what the server is to its clients.
type serverRecord struct {
	GroupID  string `json:"group_id"`
	DomainID string `json:"domain_id"`
}

// openServerRecord reads the server's ids, and makes them at the first start.
func openServerRecord(ctx context.Context, st store.Store, ids *idGenerator) (*serverRecord, error) {
	fresh := serverRecord{ids.next(), ids.next()}
	value, err := encodeRow(fresh)
	if err != nil {
		return nil, err
	}
	rec := &fresh
	err = st.Update(ctx, func(tx store.Tx) error {
		stored, err := tx.Get(rowKey(rowServer))
		if err != nil {
			return err
		}
		if stored != nil {
			rec, err = decodeRow[serverRecord](stored)
			return err
		}
		rec = &fresh
		return tx.Put(rowKey(rowServer), value)
	})
	if err != nil {
		return nil, fmt.Errorf("read the ids of the App Services API: %w", err)
	}
	return rec, nil
}
