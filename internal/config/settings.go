package config

import (
	"math"
	"net/http"
	"runtime"
	"time"
)

// Settings are the values in force for a database: what was given, and the defaults for the rest.
type Settings struct {
	AllowConflicts    bool
	RevsLimit         int // generations kept in a branch
	OldRevExpiry      time.Duration
	LocalDocExpiry    time.Duration // 0 = never
	TombstoneAge      time.Duration // metadata purge interval
	CompactInterval   time.Duration // 0 = never
	HistoryWindow     time.Duration // how long channel history is kept for revocations
	JavaScriptTimeout time.Duration

	SessionCookieName     string
	SessionCookieSecure   *bool // nil: iff the connection is TLS
	SessionCookieHTTPOnly bool
	SameSite              http.SameSite // 0: no attribute
	AllowEmptyPassword    bool
	DisablePasswordAuth   bool
	SendWWWAuthenticate   bool
	ServeInsecureTypes    bool // serve_insecure_attachment_types
	GuestReadOnly         bool
	ForceAPIForbidden     bool // force_api_forbidden_errors
	EnableFlush           bool
	ChangesRequestPlus    bool
	DisablePublicAllDocs  bool
	Offline               bool // starts offline
	ReadOnly              bool
	ResyncConcurrency     int // documents at once
	MaxAttachmentBytes    int64
	DeltaSync             bool          // deltas are sent and taken
	DeltaMaxAge           time.Duration // how old a revision may be that a delta is made from; 0 = no deltas
	CORS                  *CORS         // nil: the server's

	WarnChannelsPerDoc  int
	WarnGrantsPerDoc    int
	WarnChannelsPerUser int
	WarnChannelNameSize int

	RemoteConfigTLSSkipVerify bool // for script settings that are URLs

	Replications ReplicationSettings
}

// ReplicationSettings are the values in force for a database's replications with other gateways (inter-gateway.md).
type ReplicationSettings struct {
	Enabled            bool          // this node may run them
	Heartbeat          time.Duration // between pings of their connections
	SkipTLSVerify      bool          // certificates of remotes are not checked
	SeedShapes         bool          // answers have the forms of 2.8
	UpdateRequiresStop bool          // a definition that is running cannot be changed
}

// Defaults of a database (gateway-rest.md §23.2, hardening.md).
const (
	DefaultRevsLimit          = 50
	DefaultRevsLimitConflicts = 100
	DefaultSessionCookieName  = "SyncGatewaySession"
	DefaultMaxAttachmentBytes = 20 << 20

	defaultLocalDocExpirySecs = 90 * 24 * 3600
	defaultHistorySecs        = 30 * 24 * 3600

	defaultReplicationHeartbeatSecs = 300

	defaultRevMaxAge      = 24 * 3600
	defaultJavaScriptSecs = 5
	defaultConfigUpdate   = Duration(10 * time.Second)

	day = 24 * time.Hour
)

// Settings fills in the defaults.
func (d *Database) Settings() Settings {
	u := value(d.Unsupported)
	warn := value(u.WarningThresholds)
	conflicts := value(d.AllowConflicts)
	revs := DefaultRevsLimit
	if conflicts {
		revs = DefaultRevsLimitConflicts
	}
	return Settings{
		AllowConflicts:    conflicts,
		RevsLimit:         or(d.RevsLimit, revs),
		OldRevExpiry:      time.Duration(or(d.OldRevExpirySeconds, d.defaultOldRevExpiry())) * time.Second,
		LocalDocExpiry:    time.Duration(or(d.LocalDocExpirySecs, defaultLocalDocExpirySecs)) * time.Second,
		TombstoneAge:      days(d.MetadataPurgeIntervalDays, 3),
		CompactInterval:   days(d.CompactIntervalDays, 1),
		HistoryWindow:     time.Duration(or(d.ClientPartitionWindowSecs, defaultHistorySecs)) * time.Second,
		JavaScriptTimeout: time.Duration(or(d.JavaScriptTimeout, defaultJavaScriptSecs)) * time.Second,

		SessionCookieName:     orString(d.SessionCookieName, DefaultSessionCookieName),
		SessionCookieSecure:   d.SessionCookieSecure,
		SessionCookieHTTPOnly: value(d.SessionCookieHTTPOnly),
		SameSite:              sameSite[u.SameSiteCookie],
		AllowEmptyPassword:    value(d.AllowEmptyPassword),
		DisablePasswordAuth:   value(d.DisablePasswordAuth),
		SendWWWAuthenticate:   or(d.SendWWWAuthenticate, true),
		ServeInsecureTypes:    value(d.ServeInsecureTypes),
		GuestReadOnly:         value(u.GuestReadOnly),
		ForceAPIForbidden:     value(u.ForceAPIForbiddenErrors),
		EnableFlush:           value(value(u.APIEndpoints).EnableBucketFlush),
		ChangesRequestPlus:    value(d.ChangesRequestPlus),
		DisablePublicAllDocs:  value(d.DisablePublicAllDocs),
		Offline:               value(d.Offline),
		ReadOnly:              value(d.ReadOnly),
		ResyncConcurrency:     or(d.ResyncConcurrency, runtime.NumCPU()),
		MaxAttachmentBytes:    or(d.MaxAttachmentBytes, DefaultMaxAttachmentBytes),
		DeltaSync:             value(value(d.DeltaSync).Enabled),
		DeltaMaxAge:           time.Duration(or(value(d.DeltaSync).RevMaxAgeSeconds, defaultRevMaxAge)) * time.Second,
		CORS:                  d.CORS,

		WarnChannelsPerDoc:  or(warn.ChannelsPerDoc, 50),
		WarnGrantsPerDoc:    or(warn.GrantsPerDoc, 50),
		WarnChannelsPerUser: or(warn.ChannelsPerUser, 50000),
		WarnChannelNameSize: or(warn.ChannelNameSize, 250),

		RemoteConfigTLSSkipVerify: value(u.RemoteConfigTLSSkipVerify),

		Replications: ReplicationSettings{
			Enabled:            d.SGReplicateEnabled.True(true),
			Heartbeat:          time.Duration(or(d.SGReplicateHeartbeatSecs, defaultReplicationHeartbeatSecs)) * time.Second,
			SkipTLSVerify:      value(u.SGRTLSSkipVerify),
			SeedShapes:         value(u.ReplicationSeedShapes),
			UpdateRequiresStop: value(u.ReplicationUpdateRequiresStop),
		},
	}
}

// defaultOldRevExpiry is in seconds: with delta sync, bodies of old revisions are what deltas are made from.
func (d *Database) defaultOldRevExpiry() int {
	if delta := value(d.DeltaSync); value(delta.Enabled) {
		return or(delta.RevMaxAgeSeconds, defaultRevMaxAge)
	}
	return 300
}

// sameSite are the values of unsupported.same_site_cookie.
var sameSite = map[string]http.SameSite{
	"Default": http.SameSiteDefaultMode, "Lax": http.SameSiteLaxMode,
	"None": http.SameSiteNoneMode, "Strict": http.SameSiteStrictMode,
}

// Bounds of auth.refresh_token_expiry.
const (
	MinRefreshTokenExpiry = 30 * time.Minute
	MaxRefreshTokenExpiry = 5 * 365 * 24 * time.Hour
)

// ServerSettings are the values in force for the process.
type ServerSettings struct {
	PublicAddr, AdminAddr, MetricsAddr, ProfileAddr string // "" = off

	AdminAuth, MetricsAuth *bool // nil: by the listener's address (gateway-rest.md §5.2)

	ReadTimeout, WriteTimeout      time.Duration // 0 = none
	ReadHeaderTimeout, IdleTimeout time.Duration

	Pretty             bool
	CompressResponses  bool
	HideProductVersion bool
	CompatVersion      string // product/version that clients parse; "" = the default
	MaxConnections     int    // 0 = by the limit on file descriptors
	MaxFileDescriptors uint64
	CORS               CORS
	BcryptCost         int
	RefreshTokenExpiry time.Duration

	MaxHeartbeat              time.Duration // 0 = none
	MaxConcurrentReplications int           // 0 = none
	MaxReplicationsPerUser    int           // feeds included, of one user of one database
	BLIP                      BLIPSettings
	StatsLogFrequency         time.Duration // 0 = never
	HTTP2                     bool
}

// Defaults of the listeners (gateway-rest.md §1).
const (
	DefaultPublicAddr  = ":4984"
	DefaultAdminAddr   = "127.0.0.1:4985"
	DefaultMetricsAddr = "127.0.0.1:4986"
)

// Settings fills in the defaults.
func (s *Startup) Settings() ServerSettings {
	a := s.API
	return ServerSettings{
		PublicAddr:  or(a.PublicInterface, DefaultPublicAddr),
		AdminAddr:   or(a.AdminInterface, DefaultAdminAddr),
		MetricsAddr: or(a.MetricsInterface, DefaultMetricsAddr),
		ProfileAddr: value(a.ProfileInterface),

		AdminAuth: a.AdminAuth, MetricsAuth: a.MetricsAuth,

		ReadTimeout:       time.Duration(a.ServerReadTimeout),
		WriteTimeout:      time.Duration(a.ServerWriteTimeout),
		ReadHeaderTimeout: orDuration(a.ReadHeaderTimeout, 5*time.Second),
		IdleTimeout:       orDuration(a.IdleTimeout, 90*time.Second),

		Pretty:             value(a.Pretty),
		CompressResponses:  or(a.CompressResponses, true),
		HideProductVersion: value(a.HideProductVersion),
		CompatVersion:      a.CompatVersionString,
		MaxConnections:     value(a.MaxConnections),
		MaxFileDescriptors: or(s.MaxFileDescriptors, 5000),
		CORS:               value(a.CORS),
		BcryptCost:         or(s.Auth.BcryptCost, 10),
		RefreshTokenExpiry: orDuration(s.Auth.RefreshTokenExpiry, 60*24*time.Hour),

		MaxHeartbeat:              time.Duration(s.Replicator.MaxHeartbeat),
		MaxConcurrentReplications: value(s.Replicator.MaxConcurrentReplications),
		MaxReplicationsPerUser:    or(s.Replicator.MaxReplicationsPerUser, DefaultReplicationsPerUser),
		BLIP:                      s.Replicator.blip(),
		StatsLogFrequency:         orDuration(s.Unsupported.StatsLogFrequency, time.Minute),
		HTTP2:                     value(value(s.Unsupported.HTTP2).Enabled),
	}
}

// value returns what p points to, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// or returns what p points to, or def.
func or[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

func orString(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func orDuration(d Duration, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// days turns a number of days into a duration.
func days(n *Number, def float64) time.Duration {
	if n == nil {
		return time.Duration(def * float64(day))
	}
	return time.Duration(math.Round(n.Float() * float64(day)))
}
