package config

import "runtime"

// FillDefaults sets every field that was not given and has a default to that default (gateway-rest.md §23.2),
// for include_runtime=true.
func (d *Database) FillDefaults() {
	s := d.Settings()
	fill(&d.RevsLimit, s.RevsLimit)
	fill(&d.AllowConflicts, false)
	fill(&d.ImportDocs, "true")
	fill(&d.ImportPartitions, 16)
	fill(&d.ImportBackupOldRev, false)
	fill(&d.SharedBucketAccess, true)
	fill(&d.OldRevExpirySeconds, d.defaultOldRevExpiry())
	fill(&d.LocalDocExpirySecs, defaultLocalDocExpirySecs)
	fill(&d.ViewQueryTimeoutSecs, 75)
	fill(&d.JavaScriptTimeout, defaultJavaScriptSecs)
	d.SessionCookieName = s.SessionCookieName
	fill(&d.SessionCookieHTTPOnly, false)
	fill(&d.AllowEmptyPassword, false)
	fill(&d.DisablePasswordAuth, false)
	fill(&d.SendWWWAuthenticate, true)
	fill(&d.ServeInsecureTypes, false)
	fill(&d.CompactIntervalDays, "1")
	fill(&d.SGReplicateEnabled, "true")
	fill(&d.SGReplicateHeartbeatSecs, defaultReplicationHeartbeatSecs)
	fill(&d.SGReplicateConfigured, true)
	fill(&d.QueryPaginationLimit, 5000)
	fill(&d.ClientPartitionWindowSecs, defaultHistorySecs)
	fill(&d.ChangesRequestPlus, false)
	fill(&d.DisablePublicAllDocs, false)
	fill(&d.Offline, false)
	fill(&d.Suspendable, false)
	fill(&d.ReadOnly, false)
	fill(&d.ResyncConcurrency, runtime.NumCPU())
	fill(&d.MaxAttachmentBytes, DefaultMaxAttachmentBytes)
	fill(&d.MetadataPurgeIntervalDays, "3")
	fill(&d.SlowQueryWarningThreshold, 500)
	delta := fill(&d.DeltaSync, DeltaSync{})
	fill(&delta.Enabled, false)
	fill(&delta.RevMaxAgeSeconds, defaultRevMaxAge)
	fill(&d.Guest, Principal{})
	fill(&d.Guest.Disabled, true)
	d.fillCache()
	d.fillWarnings()
}

func (d *Database) fillCache() {
	cache := fill(&d.Cache, Cache{})
	revs := fill(&cache.RevCache, RevCache{})
	fill(&revs.Size, 5000)
	fill(&revs.MaxMemoryCountMB, 0)
	fill(&revs.ShardCount, 16)
	channels := fill(&cache.ChannelCache, ChannelCache{})
	fill(&channels.MaxNumber, 50000)
	fill(&channels.HighWatermarkPercent, 80)
	fill(&channels.LowWatermarkPercent, 60)
	fill(&channels.MaxWaitPending, 5000)
	fill(&channels.MaxNumPending, 10000)
	fill(&channels.MaxWaitSkipped, 3600000)
	fill(&channels.EnableStarChannel, true)
	fill(&channels.MaxLength, 500)
	fill(&channels.MinLength, 50)
	fill(&channels.ExpirySeconds, 60)
}

func (d *Database) fillWarnings() {
	s := d.Settings()
	u := fill(&d.Unsupported, Unsupported{})
	fill(&u.GuestReadOnly, false)
	fill(&u.ForceAPIForbiddenErrors, false)
	fill(&u.SGRTLSSkipVerify, false)
	fill(&u.ReplicationSeedShapes, false)
	fill(&u.ReplicationUpdateRequiresStop, false)
	w := fill(&u.WarningThresholds, WarningThresholds{})
	fill(&w.ChannelsPerDoc, s.WarnChannelsPerDoc)
	fill(&w.GrantsPerDoc, s.WarnGrantsPerDoc)
	fill(&w.ChannelsPerUser, s.WarnChannelsPerUser)
	fill(&w.ChannelNameSize, s.WarnChannelNameSize)
}

// FillDefaults sets every field that was not given and has a default to that default (gateway-rest.md §23.1).
func (s *Startup) FillDefaults() {
	set := s.Settings()
	s.Bootstrap.GroupID = orString(s.Bootstrap.GroupID, "default")
	s.Bootstrap.ConfigUpdateFrequency = fillDuration(s.Bootstrap.ConfigUpdateFrequency, defaultConfigUpdate)
	fill(&s.API.PublicInterface, set.PublicAddr)
	fill(&s.API.AdminInterface, set.AdminAddr)
	fill(&s.API.MetricsInterface, set.MetricsAddr)
	fill(&s.API.AdminAuth, !IsLoopback(set.AdminAddr))
	fill(&s.API.MetricsAuth, !IsLoopback(set.MetricsAddr))
	s.API.ReadHeaderTimeout = Duration(set.ReadHeaderTimeout)
	s.API.IdleTimeout = Duration(set.IdleTimeout)
	fill(&s.API.Pretty, false)
	fill(&s.API.MaxConnections, 0)
	fill(&s.API.CompressResponses, true)
	fill(&s.API.HideProductVersion, false)
	s.API.HTTPS.TLSMinimumVersion = orString(s.API.HTTPS.TLSMinimumVersion, "tlsv1.2")
	s.Logging.RedactionLevel = orString(s.Logging.RedactionLevel, "partial")
	console := fill(&s.Logging.Console, Console{})
	fill(&console.Enabled, true)
	console.LogLevel = orString(console.LogLevel, "info")
	fill(&s.Auth.BcryptCost, set.BcryptCost)
	s.Auth.RefreshTokenExpiry = Duration(set.RefreshTokenExpiry)
	s.Replicator.fillDefaults()
	fill(&s.MaxFileDescriptors, set.MaxFileDescriptors)
	s.Unsupported.StatsLogFrequency = Duration(set.StatsLogFrequency)
	h := fill(&s.Unsupported.HTTP2, HTTP2{})
	fill(&h.Enabled, false)
	fill(&s.Unsupported.AllowDBConfigEnvVars, true)
}

// fill sets *p to def if it is nil and returns it.
func fill[T any](p **T, def T) *T {
	if *p == nil {
		*p = &def
	}
	return *p
}

func fillDuration(d, def Duration) Duration {
	if d == 0 {
		return def
	}
	return d
}
