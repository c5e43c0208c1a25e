package rest

import (
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/move"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// AdminDeps are what the statistics, logging and support endpoints need besides Deps. All are optional.
type AdminDeps struct {
	StoreStats func() store.Stats     // figures of the storage engine
	BLIPStats  *blip.Stats            // figures of the framing of replications
	LogCounts  *telemetry.LogCounts   // how many errors and warnings were logged
	LogRing    *telemetry.LogRing     // the newest records of the log
	LogLevel   *slog.LevelVar         // what the log level is changed by
	DataDir    string                 // where profiles and support archives are put; "": they are refused
	Collectors []prometheus.Collector // further metrics
	Backup     Backup                 // writes backups
	Move       *move.Source           // moves everything to another store; nil: it cannot be done from this one
	APIKeys    *access.APIKeys        // of the App Services API and the console
	// AppDatabase finds the databases of apps; nil: there are no addresses under /_app.
	AppDatabase AppDatabase
}

// diagnostics is what these endpoints keep.
type diagnostics struct {
	startup    *config.Startup
	process    *telemetry.Process
	prometheus http.Handler
	traffic    traffic
	logging    *logging
	profiles   profiles
	support    support

	mu              sync.Mutex // guards what follows
	maxReplications *int       // set by PUT /_config
	level           string     // set by PUT /_config
}

// newDiagnostics is called once the other fields of s are set.
func newDiagnostics(s *Server, startup *config.Startup) *diagnostics {
	var keys []string
	if c := startup.Logging.Console; c != nil {
		keys = c.LogKeys
	}
	return &diagnostics{
		startup: startup,
		process: telemetry.NewProcess(), prometheus: newMetricsHandler(s.newMetrics()),
		logging:  newLogging(s.deps.LogLevel, keys),
		profiles: profiles{dir: s.deps.DataDir}, support: support{dir: s.deps.DataDir},
	}
}

// routesDiagnostics are the rows of statistics, logging and support (gateway-rest.md §9.4–§9.7, §10.8).
func (s *Server) routesDiagnostics() []route {
	const stats = admin | metrics
	return []route{
		{"GET", "/_expvar", stats, needServerRead, 0, s.handleExpvar},
		{"GET", "/_expvars", stats, needServerRead, 0, s.handleExpvar},
		{"GET", "/_stats", stats, needServerRead, 0, s.handleMemStats},
		{"GET HEAD", "/metrics", stats, needServerRead, anyType, s.handleMetrics},
		{"GET HEAD", "/_metrics", stats, needServerRead, anyType, s.handleMetrics},

		{"GET", "/_config", admin, needServerRead, 0, s.handleServerConfig},
		{"PUT", "/_config", admin, needServerWrite, 0, s.handleSetServerConfig},
		{"GET", "/_logging", admin, needServerRead, 0, s.handleGetLogging},
		{"PUT POST", "/_logging", admin, needServerWrite, 0, s.handleSetLogging},

		{"GET", "/_log", admin, needServerRead, 0, s.handleLogTail},
		{"GET", "/_cluster_info", admin, needServerRead, 0, s.handleClusterInfo},
		{"GET", "/_nodes", admin, needServerRead, 0, s.handleNodes},
		{"POST", "/_post_upgrade", admin, needServerWrite, 0, s.handlePostUpgrade},
		{"GET", "/_sgcollect_info", admin, needServerRead, 0, s.handleSupportStatus},
		{"POST", "/_sgcollect_info", admin, needServerWrite, 0, s.handleSupportStart},
		{"DELETE", "/_sgcollect_info", admin, needServerWrite, 0, s.handleSupportCancel},

		{"POST", "/_profile", admin, needServerWrite, 0, s.handleCPUProfile},
		{"POST", "/_profile/{name}", admin, needServerWrite, 0, s.handleProfile},
		{"POST", "/_heap", admin, needServerWrite, 0, s.handleHeapProfile},
		{"GET POST", "/_debug/pprof", admin, needServerWrite, anyType, s.handlePprof},
		{"GET POST", "/_debug/pprof/{name...}", admin, needServerWrite, anyType, s.handlePprof},
		{"GET POST", "/debug/pprof", metrics, needServerRead, anyType, s.handlePprof},
		{"GET POST", "/debug/pprof/{name...}", metrics, needServerRead, anyType, s.handlePprof},

		{"GET", "/{db}/_config/audit", admin, needDatabase, anyState, s.handleGetAudit},
		{"PUT POST", "/{db}/_config/audit", admin, needDatabase, anyState, s.handleSetAudit},
	}
}
