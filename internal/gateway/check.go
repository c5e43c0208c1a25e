package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Checked is what checking one database found.
type Checked struct {
	Name     string
	Detached bool // deleted, its data kept
	Report   *database.CheckReport
}

// Check checks the databases of a store, those of the given names or all of them, deleted ones whose data are
// kept included. No gateway needs to run on the store, and nothing is changed. NotFound: there is none of a
// given name.
func Check(ctx context.Context, st store.Store, blobs blob.Store, opts database.CheckOptions, names ...string) ([]Checked, error) {
	found, err := readStored(ctx, st, nil)
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(found.definitions, func(d *definition) bool { return d.Name == name }) {
			return nil, notFound(name)
		}
	}
	var all []Checked
	for _, d := range found.definitions {
		if len(names) > 0 && !slices.Contains(names, d.Name) {
			continue
		}
		report, err := checkOne(ctx, st, blobs, opts, d)
		if err != nil {
			return nil, fmt.Errorf("check database %s: %w", d.Name, err)
		}
		all = append(all, Checked{Name: d.Name, Detached: d.Detached != "", Report: report})
	}
	return all, nil
}

// checkOne opens a database without its scripts, which checking does not need, and without running it.
func checkOne(ctx context.Context, st store.Store, blobs blob.Store, opts database.CheckOptions, d *definition) (_ *database.CheckReport, err error) {
	g := &Gateway{log: discard, passwords: access.NewPasswords(access.PasswordsConfig{})}
	o := g.databaseOptions(d, d.Config.WithoutJavaScript(), nil, nil)
	o.Collections = allCollections(d)
	db, err := database.Open(ctx, st, blobs, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Check(ctx, opts)
}

// allCollections lists every collection that has, or once had, a number: what is stored in one that was taken
// out of the config is checked too.
func allCollections(d *definition) []database.CollectionOptions {
	list := []database.CollectionOptions{{Scope: config.DefaultName, Name: config.DefaultName}}
	for key, id := range d.Collections {
		scope, name, _ := cutCollection(key)
		list = append(list, database.CollectionOptions{Scope: scope, Name: name, ID: id})
	}
	return list
}
