package gateway

import (
	"context"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/script"
)

// errNoReplicator is for gateways that run no replications.
var errNoReplicator = tidegate.Errorf(tidegate.Unavailable, "this node runs no replications")

// replicator makes the replicator of the definition. release lets go of what it uses, after its last use.
func (p *replication) replicator(ctx context.Context, onChange func()) (r Replicator, release func(), err error) {
	g := p.m.r.g
	if g.opts.NewReplicator == nil {
		return nil, nil, errNoReplicator
	}
	db, err := p.m.database()
	if err != nil {
		return nil, nil, err
	}
	o, err := p.options(db)
	if err != nil {
		return nil, nil, err
	}
	if o.Resolver, release, err = p.resolver(ctx); err != nil {
		return nil, nil, err
	}
	o.OnChange, o.Claim = onChange, p.claim()
	if r, err = g.opts.NewReplicator(o); err != nil {
		release()
		return nil, nil, err
	}
	return r, release, nil
}

// forgetCheckpoints deletes the local checkpoints. Nothing runs.
func (p *replication) forgetCheckpoints(ctx context.Context) error {
	g := p.m.r.g
	db, err := p.m.database()
	if err != nil || g.opts.NewReplicator == nil {
		return err
	}
	o, err := p.options(db)
	if err != nil && o.Remote == nil {
		return err
	}
	r, err := g.opts.NewReplicator(o) // which needs no password for this
	if err != nil {
		return err
	}
	return r.Reset(ctx)
}

// options are what the definition asks for, without the resolver. With an error about credentials alone everything else is there.
func (p *replication) options(db *database.Database) (replicate.ActiveOptions, error) {
	p.mu.Lock()
	cfg, stats := p.def.Config, p.stats
	p.mu.Unlock()
	s := p.m.r.Settings().Replications
	remote, username, password, err := cfg.Endpoint()
	return replicate.ActiveOptions{
		ID: p.id, DB: db, Remote: remote, Username: username, Password: password,
		Push: cfg.Push(), Pull: cfg.Pull(), Continuous: cfg.IsContinuous(),
		Channels: cfg.Channels(), CollectionsChannels: cfg.CollectionsChannels(), BatchSize: orZero(cfg.BatchSize), PurgeOnRemoval: isTrue(cfg.PurgeOnRemoval), Deltas: isTrue(cfg.EnableDeltaSync),
		RunAs: cfg.RunAs, Collections: collectionPairs(cfg, db),
		MaxBackoff: time.Duration(orZero(cfg.MaxBackoffTime)) * time.Minute, SkipTLSVerify: s.SkipTLSVerify, Heartbeat: s.Heartbeat,
		CheckpointPrefix: p.m.r.g.ClusterUUID() + ":", Stats: stats, Logger: p.m.r.g.log.With("database", p.m.r.name),
	}, err
}

// resolver makes what decides conflicts of a pull.
func (p *replication) resolver(ctx context.Context) (r database.Resolver, release func(), err error) {
	cfg, nothing := p.definition().Config, func() {}
	switch cfg.ConflictResolutionType {
	case "localWins":
		return database.LocalWins, nothing, nil
	case "remoteWins":
		return database.RemoteWins, nothing, nil
	case "custom":
	default:
		return database.DefaultPolicy, nothing, nil
	}
	if !cfg.Pull() {
		return database.DefaultPolicy, nothing, nil
	}
	settings := p.m.r.Settings()
	source := string(cfg.CustomConflictResolver)
	if cfg.CustomConflictResolver.IsURL() {
		text, err := newFetcher(settings.RemoteConfigTLSSkipVerify)(ctx, source)
		if err != nil {
			return nil, nil, tidegate.Errorf(tidegate.Unavailable, "fetch custom_conflict_resolver: %w", err)
		}
		source = string(text)
	}
	f, err := script.CompileResolver(source, script.Options{Limits: script.Limits{Time: settings.JavaScriptTimeout}, Logger: p.m.r.g.log})
	if err != nil {
		return nil, nil, err
	}
	return database.ScriptResolver(f, jsondoc.Limits{}), f.Close, nil
}

// collectionPairs maps the local collections of a definition to remote ones; nil: collections are not named.
func collectionPairs(cfg *config.Replication, db *database.Database) []replicate.CollectionPair {
	if !isTrue(cfg.CollectionsEnabled) {
		return nil
	}
	local := cfg.CollectionsLocal
	if local == nil {
		for _, c := range db.Collections() {
			local = append(local, c.Scope+"."+c.Name)
		}
	}
	pairs := make([]replicate.CollectionPair, len(local))
	for i, name := range local {
		pairs[i] = replicate.CollectionPair{Local: name, Remote: name}
		if cfg.CollectionsRemote != nil {
			pairs[i].Remote = cfg.CollectionsRemote[i]
		}
	}
	return pairs
}

func isTrue(b *bool) bool { return b != nil && *b }

func orZero(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}
