package config

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
)

// check collects problems of values; it has no places in a text.
type check struct{ problems }

func (c *check) fail(path, format string, args ...any) { c.add(pos{}, path, format, args...) }

// between checks a number that is given.
func between[T int | int64 | uint64](c *check, path string, v *T, low, high T) {
	switch {
	case v == nil:
	case *v < low:
		c.fail(path, "must be at least %d", low)
	case *v > high:
		c.fail(path, "must be at most %d", high)
	}
}

// oneOf checks a word that is given.
func (c *check) oneOf(path, v string, words ...string) {
	if v != "" && !slices.Contains(words, v) {
		c.fail(path, "expected one of %s; the nearest is %q", strings.Join(words, ", "), nearest(v, words))
	}
}

var databaseName = regexp.MustCompile(`^[a-z][-a-z0-9_$()+/]*$`)

// maxNameBytes bounds database names; they are parts of keys and paths of URLs.
const maxNameBytes = 200

// ValidDatabaseName checks a database's name (gateway-rest.md §2); the error is Invalid.
func ValidDatabaseName(name string) error {
	if len(name) > maxNameBytes || !databaseName.MatchString(name) {
		return tidegate.Errorf(tidegate.Invalid, "Illegal database name: %s", shorten(name))
	}
	return nil
}

// Validate checks the values of all settings. Each error is one problem; Join makes one error of them.
func (d *Database) Validate() []error {
	c := &check{}
	d.checkScopes(c)
	d.checkScripts(c)
	d.checkPrincipals(c)
	d.checkLimits(c)
	d.checkAuth(c)
	d.checkLater(c)
	d.checkReplications(c)
	return c.errors()
}

// Check is Validate as one *Error, or nil.
func (d *Database) Check() error { return Join(d.Validate()) }

// errors returns one error for each problem.
func (c *check) errors() []error {
	errs := make([]error, len(c.problems))
	for i := range c.problems {
		errs[i] = &Error{Problems: c.problems[i : i+1]}
	}
	return errs
}

// Join makes one *Error of the errors of Validate; nil of none.
func Join(errs []error) error {
	var ps problems
	for _, err := range errs {
		ps = append(ps, Problems(err)...)
	}
	return ps.err()
}

// DefaultName is the name of the default scope and of the default collection.
const DefaultName = "_default"

// HasDefaultCollection reports whether the default collection is configured.
func (d *Database) HasDefaultCollection() bool {
	if d.Scopes == nil {
		return true
	}
	_, ok := d.Scopes[DefaultName].Collections[DefaultName]
	return ok
}

func (d *Database) checkScopes(c *check) {
	if d.Scopes == nil {
		return
	}
	if len(d.Scopes) == 0 {
		c.fail("scopes", "at least one scope is needed; leave scopes out for the default collection")
	}
	named := 0
	for _, scope := range slices.Sorted(maps.Keys(d.Scopes)) {
		path := join("scopes", scope)
		if scope != DefaultName {
			named++
		}
		checkCollectionName(c, path, scope)
		if len(d.Scopes[scope].Collections) == 0 {
			c.fail(path+".collections", "at least one collection is needed")
		}
		for coll := range d.Scopes[scope].Collections {
			checkCollectionName(c, join(path+".collections", coll), coll)
			if coll == DefaultName && scope != DefaultName {
				c.fail(join(path+".collections", coll), "only the scope _default has the collection _default")
			}
		}
	}
	if named > 1 {
		c.fail("scopes", "a database has at most one named scope")
	}
	if d.HasDefaultCollection() {
		if inScope := d.Scopes[DefaultName].Collections[DefaultName]; inScope.Sync != "" && d.Sync != "" {
			c.fail("sync", "the sync function of the default collection is given here and under scopes")
		}
		return
	}
	if d.Sync != "" {
		c.fail("sync", "this is for the default collection, which scopes leaves out")
	}
	if d.ImportFilter != "" {
		c.fail("import_filter", "this is for the default collection, which scopes leaves out")
	}
}

var collectionName = regexp.MustCompile(`^[A-Za-z0-9-][A-Za-z0-9_%-]{0,250}$`)

// checkCollectionName applies gateway-rest.md §2 to the name of a scope or collection.
func checkCollectionName(c *check, path, name string) {
	if name != DefaultName && !collectionName.MatchString(name) {
		c.fail(path, "the name must be 1 to 251 characters of A-Z a-z 0-9 _ %% -, and not begin with _ or %%")
	}
}

// checkScripts refuses values that are neither source nor URL: files have been read by now (§10.3).
func (d *Database) checkScripts(c *check) {
	d.Clone().eachScript(func(j *JavaScript, path string) {
		switch {
		case *j == "" || j.IsSource():
		case j.IsURL():
			if u, err := url.Parse(string(*j)); err != nil || u.Host == "" {
				c.fail(path, "the URL does not parse")
			}
		default:
			c.fail(path, "neither a JavaScript function nor an http(s) URL")
		}
	})
}

func (d *Database) checkLimits(c *check) {
	minRevs := 1
	if value(d.AllowConflicts) {
		minRevs = 20
	}
	const maxInt = math.MaxInt32
	between(c, "revs_limit", d.RevsLimit, minRevs, maxInt)
	between(c, "import_partitions", d.ImportPartitions, 1, 1024)
	between(c, "old_rev_expiry_seconds", d.OldRevExpirySeconds, 0, maxInt)
	between(c, "local_doc_expiry_secs", d.LocalDocExpirySecs, 0, maxInt)
	between(c, "view_query_timeout_secs", d.ViewQueryTimeoutSecs, 0, maxInt)
	between(c, "javascript_timeout_secs", d.JavaScriptTimeout, 1, 3600)
	between(c, "kv_tls_port", d.KVTLSPort, 1, 65535)
	between(c, "max_concurrent_query_ops", d.MaxConcurrentQueryOps, 0, maxInt)
	between(c, "sgreplicate_websocket_heartbeat_secs", d.SGReplicateHeartbeatSecs, 0, maxInt)
	between(c, "query_pagination_limit", d.QueryPaginationLimit, 2, maxInt)
	between(c, "client_partition_window_secs", d.ClientPartitionWindowSecs, 0, maxInt)
	between(c, "resync_concurrency", d.ResyncConcurrency, 1, 256)
	between(c, "max_attachment_bytes", d.MaxAttachmentBytes, 1, 1<<30)
	between(c, "slow_query_warning_threshold", d.SlowQueryWarningThreshold, 0, maxInt)
	between(c, "bucket_op_timeout_ms", d.BucketOpTimeoutMS, 0, maxInt)
	between(c, "num_index_replicas", d.NumIndexReplicas, 0, 16)
	if d.Index != nil {
		between(c, "index.num_replicas", d.Index.NumReplicas, 0, 16)
		between(c, "index.num_partitions", d.Index.NumPartitions, 1, 1024)
		if d.NumIndexReplicas != nil && d.Index.NumReplicas != nil {
			c.fail("num_index_replicas", "is the older spelling of index.num_replicas, which is given too")
		}
	}
	if days := d.CompactIntervalDays.Float(); days != 0 && (days < 0.04 || days > 60) {
		c.fail("compact_interval_days", "must be 0 (never) or from 0.04 to 60")
	}
	if days := d.MetadataPurgeIntervalDays; days != nil && (days.Float() < 0.04 || days.Float() > 36500) {
		c.fail("metadata_purge_interval_days", "must be from 0.04 to 36500")
	}
	if delta := d.DeltaSync; delta != nil {
		between(c, "delta_sync.rev_max_age_seconds", delta.RevMaxAgeSeconds, 0, maxInt)
	}
	d.checkCache(c)
	if u := d.Unsupported; u != nil && u.WarningThresholds != nil {
		w, path := u.WarningThresholds, "unsupported.warning_thresholds."
		between(c, path+"xattr_size_bytes", w.XattrSizeBytes, 0, maxInt)
		between(c, path+"channels_per_doc", w.ChannelsPerDoc, 0, maxInt)
		between(c, path+"access_and_role_grants_per_doc", w.GrantsPerDoc, 0, maxInt)
		between(c, path+"channels_per_user", w.ChannelsPerUser, 0, maxInt)
		between(c, path+"channel_name_size", w.ChannelNameSize, 0, maxInt)
	}
}

func (d *Database) checkCache(c *check) {
	const maxInt = math.MaxInt32
	if d.Cache == nil {
		return
	}
	if r := d.Cache.RevCache; r != nil {
		between(c, "cache.rev_cache.size", r.Size, 0, maxInt)
		between(c, "cache.rev_cache.max_memory_count_mb", r.MaxMemoryCountMB, 0, maxInt)
		between(c, "cache.rev_cache.shard_count", r.ShardCount, 1, 4096)
	}
	ch := d.Cache.ChannelCache
	if ch == nil {
		return
	}
	const path = "cache.channel_cache."
	between(c, path+"max_number", ch.MaxNumber, 100, maxInt)
	between(c, path+"compact_high_watermark_pct", ch.HighWatermarkPercent, 1, 100)
	between(c, path+"compact_low_watermark_pct", ch.LowWatermarkPercent, 1, 100)
	if or(ch.LowWatermarkPercent, 60) >= or(ch.HighWatermarkPercent, 80) {
		c.fail(path+"compact_low_watermark_pct", "must be below compact_high_watermark_pct")
	}
	between(c, path+"max_wait_pending", ch.MaxWaitPending, 1, maxInt)
	between(c, path+"max_num_pending", ch.MaxNumPending, 1, maxInt)
	between(c, path+"max_wait_skipped", ch.MaxWaitSkipped, 1, maxInt)
	between(c, path+"max_length", ch.MaxLength, 1, maxInt)
	between(c, path+"min_length", ch.MinLength, 1, maxInt)
	between(c, path+"expiry_seconds", ch.ExpirySeconds, 1, maxInt)
	between(c, path+"query_limit", ch.QueryLimit, 1, maxInt)
}

var cookieName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func (d *Database) checkAuth(c *check) {
	if d.SessionCookieName != "" && !cookieName.MatchString(d.SessionCookieName) {
		c.fail("session_cookie_name", "is not the name of a cookie")
	}
	if key := d.UserXattrKey; len(key) > 15 || strings.HasPrefix(key, "_sync") {
		c.fail("user_xattr_key", "must be at most 15 characters and not begin with _sync")
	}
	if d.CORS != nil {
		d.CORS.check(c, "cors")
	}
	if u := d.Unsupported; u != nil && u.SameSiteCookie != "" {
		c.oneOf("unsupported.same_site_cookie", u.SameSiteCookie, "Default", "Lax", "None", "Strict")
	}
	if console := value(d.Logging).Console; console != nil {
		c.oneOf("logging.console.log_level", console.LogLevel, logLevels...)
	}
}

// check looks for origins that can match nothing: the usual mistake is a path or a slash at the end.
func (o *CORS) check(c *check, path string) {
	lists := []struct {
		key  string
		list []string
	}{{"origin", o.Origin}, {"login_origin", o.LoginOrigin}}
	for _, l := range lists {
		for i, origin := range l.list {
			u, err := url.Parse(origin)
			if origin == "*" || origin == "null" || err == nil && u.Scheme != "" && (u.Host != "" && u.Path == "" || u.Opaque != "") {
				continue
			}
			c.fail(fmt.Sprintf("%s.%s[%d]", path, l.key, i), `expected "*" or scheme://host[:port] without a path`)
		}
	}
	for i, h := range o.Headers {
		if !cookieName.MatchString(h) { // the same alphabet: RFC 9110 token
			c.fail(fmt.Sprintf("%s.headers[%d]", path, i), "is not the name of a header")
		}
	}
	between(c, path+".max_age", o.MaxAge, 0, math.MaxInt32)
}

// logLevels are the levels of logs, from nothing to everything.
var logLevels = []string{"none", "error", "warn", "info", "debug", "trace"}
