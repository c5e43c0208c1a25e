package gateway

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/script"
)

// open opens the database of a definition, without running it. Invalid: a script does not compile.
func (g *Gateway) open(ctx context.Context, d *definition, stats *database.Stats, live *devicesync.Live) (*database.Database, error) {
	cfg, err := g.loadScripts(ctx, d)
	if err != nil {
		return nil, err
	}
	return database.Open(ctx, g.opts.Store, g.opts.Blobs, g.databaseOptions(d, cfg, stats, live))
}

// openNew is open for a config that somebody wants to put in force, instead of before or, if that is nil, as the first:
// what is new of its functions is tried. Invalid: a script does not compile, or makes no sense.
func (g *Gateway) openNew(ctx context.Context, before *config.Database, d *definition, stats *database.Stats, live *devicesync.Live) (*database.Database, error) {
	cfg, err := g.loadScripts(ctx, d)
	if err != nil {
		return nil, err
	}
	db, err := database.Open(ctx, g.opts.Store, g.opts.Blobs, g.databaseOptions(d, cfg, stats, live))
	if err != nil {
		return nil, err
	}
	if err := g.smoke(ctx, before, cfg); err != nil {
		return nil, joinClose(err, db)
	}
	return db, nil
}

// loadScripts returns the config of a definition with scripts that are URLs fetched. Invalid: a script does not compile.
func (g *Gateway) loadScripts(ctx context.Context, d *definition) (*config.Database, error) {
	cfg := d.Config.Clone()
	fetch := newFetcher(cfg.Settings().RemoteConfigTLSSkipVerify)
	if err := cfg.LoadURLs(func(url string) ([]byte, error) { return fetch(ctx, url) }); err != nil {
		return nil, err
	}
	return cfg, compileScripts(cfg)
}

// databaseOptions maps a config to what package database takes.
func (g *Gateway) databaseOptions(d *definition, cfg *config.Database, stats *database.Stats, live *devicesync.Live) database.Options {
	s := cfg.Settings()
	return database.Options{
		Name: d.Name, Space: d.Space, Source: sourceOf(d.ServerUUID),
		AllowConflicts: s.AllowConflicts, RevsLimit: s.RevsLimit,
		OldRevExpiry: orNever(s.OldRevExpiry), LocalDocExpiry: orNever(s.LocalDocExpiry),
		TombstoneAge: s.TombstoneAge, CompactInterval: orNever(s.CompactInterval),
		MaxAttachmentBytes: s.MaxAttachmentBytes,
		Collections:        routedBy(live, collections(d, cfg)),
		Script:             script.Limits{Time: s.JavaScriptTimeout},
		Access: access.Config{
			AllowEmptyPassword: s.AllowEmptyPassword,
			AllowGuestStar:     cfg.Unsupported != nil && cfg.Unsupported.AllowGuestStar != nil && *cfg.Unsupported.AllowGuestStar,
			HistoryWindow:      s.HistoryWindow,
			Passwords:          g.passwords,
			WarnChannels:       s.WarnChannelsPerUser,
		},
		ReadOnly:   s.ReadOnly,
		DeviceSync: live,
		Nodes:      g.others(),
		Now:        g.opts.Now,
		Logger:     g.log.With("database", d.Name),
		Stats:      stats,
	}
}

// others are the nodes as a database sees them; nil: nothing runs, as in a check of a store that is at rest.
func (g *Gateway) others() database.Nodes {
	if g.nodes == nil {
		return nil
	}
	return g.nodes
}

// sourceOf makes a database's server UUID, 32 hex digits, its source in version vectors; "" for anything else.
func sourceOf(uuid string) string {
	var id [16]byte
	if len(uuid) != hex.EncodedLen(len(id)) {
		return ""
	}
	if _, err := hex.Decode(id[:], []byte(uuid)); err != nil {
		return ""
	}
	return tidegate.NewSource(id)
}

// orNever turns a setting whose 0 means never, or not at all, into the form of database.Options.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// collections lists the collections of a config, the default one first.
func collections(d *definition, cfg *config.Database) []database.CollectionOptions {
	var list []database.CollectionOptions
	if cfg.HasDefaultCollection() {
		sync := cfg.Sync
		if inScope := cfg.Scopes[config.DefaultName].Collections[config.DefaultName].Sync; inScope != "" {
			sync = inScope
		}
		list = append(list, database.CollectionOptions{
			Scope: config.DefaultName, Name: config.DefaultName, Sync: string(sync),
		})
	}
	for _, scope := range slices.Sorted(maps.Keys(cfg.Scopes)) {
		colls := cfg.Scopes[scope].Collections
		for _, name := range slices.Sorted(maps.Keys(colls)) {
			if id, ok := d.Collections[scope+"."+name]; ok {
				list = append(list, database.CollectionOptions{Scope: scope, Name: name, ID: id, Sync: string(colls[name].Sync)})
			}
		}
	}
	return list
}

// Bounds of fetching a script.
const (
	fetchTimeout = 30 * time.Second
	fetchBytes   = 1 << 20
)

// newFetcher returns what loads script settings that are URLs.
func newFetcher(skipVerify bool) func(ctx context.Context, url string) ([]byte, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	if skipVerify { // asked for by name: unsupported.remote_config_tls_skip_verify
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	client := &http.Client{Transport: transport, Timeout: fetchTimeout}
	return func(ctx context.Context, url string) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the server answered %s", resp.Status)
		}
		src, err := io.ReadAll(io.LimitReader(resp.Body, fetchBytes+1))
		if len(src) > fetchBytes {
			err = errors.Join(err, fmt.Errorf("the source is larger than %d bytes", fetchBytes))
		}
		return src, err
	}
}

// compileScripts compiles the scripts that package database does not: those of later versions, so that a
// mistake in them shows when it is made.
func compileScripts(cfg *config.Database) error {
	for path, source := range cfg.Scripts() {
		if source == "" || strings.HasSuffix(path, "sync") {
			continue
		}
		if strings.HasSuffix(path, "custom_conflict_resolver") {
			if source.IsURL() {
				continue // fetched when the replication starts: a database does not wait for it
			}
			if err := checkResolver(string(source)); err != nil {
				return tidegate.Errorf(tidegate.Invalid, "%s: %s", path, tidegate.ErrorReason(err))
			}
			continue
		}
		fn, err := script.CompileSync(string(source), "", script.Options{})
		if err != nil {
			return tidegate.Errorf(tidegate.Invalid, "%s: %s", path, tidegate.ErrorReason(err))
		}
		fn.Close()
	}
	return nil
}
