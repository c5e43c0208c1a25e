package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"

	"github.com/tidegate/tidegate/internal/config"
)

// checkFile checks the databases of a config file. All problems are reported together.
func checkFile(dbs map[string]*config.Database) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(dbs)) {
		if err := config.ValidDatabaseName(name); err != nil {
			errs = append(errs, err)
		}
		if err := cmp.Or(dbs[name].KeepSecrets(nil), dbs[name].Check()); err != nil {
			errs = append(errs, config.Under("databases."+name, err))
		}
	}
	return errors.Join(errs...)
}

// reconcile brings the stored definitions and the databases of the config file together and returns those to
// load, sorted by name. The later edit wins:
//
//   - in the file and not in the store: it is created;
//   - in both, and the file's section is not the one it was last taken from: the file's is taken;
//   - in both, and the section is the same: what is stored stays, with changes made over the API, which may
//     have deleted it;
//   - only in the store, and made over the API, or in the file of another node: it stays;
//   - only in the store, and once made from a file: it is no longer served; its data are kept.
//
// Files of nodes may differ: "the one it was last taken from" is the one that this node had when it started last, or the one that the
// stored config came from.
//
// With disable_persistent_config the file alone counts.
func (g *Gateway) reconcile(ctx context.Context, defs []*definition) ([]*definition, error) {
	active := map[string]*definition{}
	detached := map[string]*definition{} // by name and storage id
	for _, d := range defs {
		if d.Detached == "" && g.Persistent() {
			active[d.Name] = d
		} else {
			detached[d.Name+"\x00"+d.StorageID] = d
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.opts.FileDatabases)) {
		cfg := g.opts.FileDatabases[name]
		d, err := g.reconcileOne(ctx, name, cfg, active[name], detached[name+"\x00"+storageID(name, cfg)])
		if err != nil {
			return nil, err
		}
		if d == nil {
			delete(active, name)
		} else {
			active[name] = d
		}
	}
	for _, d := range active {
		if _, inFile := g.opts.FileDatabases[d.Name]; inFile || d.FileHash == "" {
			continue
		}
		if elsewhere, err := g.noLongerHere(ctx, d); elsewhere || err != nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		g.log.Warn("the database is no longer in the config file and is not served; its data are kept", "database", d.Name)
		if err := g.detach(ctx, d, detachedByFile); err != nil {
			return nil, err
		}
		delete(active, d.Name)
	}
	return slices.SortedFunc(maps.Values(active), func(a, b *definition) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}), nil
}

// reconcileOne decides what a database of the file becomes; nil: it stays deleted.
func (g *Gateway) reconcileOne(ctx context.Context, name string, cfg *config.Database, active, detached *definition) (*definition, error) {
	hash := fileHash(cfg)
	same := active != nil && (active.FileHash == hash || active.FileHashes[g.opts.NodeID] == hash)
	if own := g.own[name]; active != nil && own != nil { // taken while one node had the store: the whole section
		same = same || active.FileHash == own.fileHash
	}
	if same {
		return g.noteFile(ctx, active, hash)
	}
	if detached != nil && detached.FileHash == hash && detached.Detached == detachedByAPI && g.Persistent() {
		g.log.Warn("the database is in the config file but was deleted over the admin API since the file was last edited; it stays deleted",
			"database", name)
		return nil, nil
	}
	if active != nil && active.StorageID != storageID(name, cfg) {
		if err := g.detach(ctx, active, detachedByFile); err != nil {
			return nil, err
		}
		active = nil
	}
	var d *definition
	switch old := cmp.Or(active, detached); {
	case old != nil:
		g.log.Info("database config taken from the config file", "database", name)
		d = old.withConfig(cfg, g.opts.Now())
	default:
		space, err := newSpace(ctx, g.opts.Store)
		if err != nil {
			return nil, err
		}
		d = newDefinition(name, space, g.opts.Now())
		d.StorageID = storageID(name, cfg)
		d = d.withConfig(cfg, g.opts.Now())
	}
	d.FileHash, d.Detached = hash, ""
	d.noteFile(g.opts.NodeID, hash)
	return d, g.replace(ctx, d, cmp.Or(active, detached))
}

// noteFile notes the section that a node's file has.
func (d *definition) noteFile(node, hash string) {
	d.FileHashes = maps.Clone(d.FileHashes)
	if d.FileHashes == nil {
		d.FileHashes = map[string]string{}
	}
	d.FileHashes[node] = hash
}

// noteFile stores what this node's file has of a database whose config stays as it is.
func (g *Gateway) noteFile(ctx context.Context, d *definition, hash string) (*definition, error) {
	if d.FileHashes[g.opts.NodeID] == hash || g.nodes.Alone() && len(d.FileHashes) == 0 {
		return d, nil // one node alone needs no list
	}
	c := *d
	c.noteFile(g.opts.NodeID, hash)
	return &c, g.replace(ctx, &c, d)
}

// noLongerHere notes that this node's file has a database no more, and reports whether another node's has it.
func (g *Gateway) noLongerHere(ctx context.Context, d *definition) (elsewhere bool, err error) {
	if _, had := d.FileHashes[g.opts.NodeID]; !had {
		return len(d.FileHashes) > 0, nil
	}
	if len(d.FileHashes) == 1 {
		return false, nil
	}
	old := *d
	d.FileHashes = maps.Clone(d.FileHashes)
	delete(d.FileHashes, g.opts.NodeID)
	return true, g.replace(ctx, d, &old)
}

// detach stores that a database is not served any more.
func (g *Gateway) detach(ctx context.Context, d *definition, why string) error {
	c := *d
	c.Detached = why
	return g.replace(ctx, &c, d)
}

// fileHash identifies the section of a file that a config was read from, after files and variables were put
// in. Users and roles do not count: they are made when they are missing, whatever the rest.
func fileHash(cfg *config.Database) string {
	sum := sha256.Sum256(strip(cfg).Encode())
	return hex.EncodeToString(sum[:])
}
