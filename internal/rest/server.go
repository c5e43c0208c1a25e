package rest

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/websocket"
)

// Limits bound what one client can make the server do. Zero values mean the defaults.
type Limits struct {
	// RequestBytes is the longest request body other than a raw attachment, decompressed.
	RequestBytes int64
	// BodyMemoryBytes is the most memory that large request bodies may take together.
	BodyMemoryBytes int64
	// DocumentBytes is the longest document.
	DocumentBytes int64
	// JSONDepth is the deepest nesting of JSON taken from a client.
	JSONDepth int
	// BulkDocs is the most documents in one _bulk_docs, _bulk_get, _revs_diff or list of keys.
	BulkDocs int
	// MultipartParts is the most parts of a multipart body.
	MultipartParts int
	// FeedBatch is the most entries a feed loads at a time.
	FeedBatch int
	// WriteTimeout is how long a feed or a long answer waits for a client that does not read.
	WriteTimeout time.Duration
}

// The defaults of Limits (hardening.md).
const (
	DefaultRequestBytes    = 64 << 20
	DefaultBodyMemoryBytes = 512 << 20
	DefaultDocumentBytes   = 20 << 20
	DefaultJSONDepth       = 128
	DefaultBulkDocs        = 100_000
	DefaultMultipartParts  = 1000
	DefaultFeedBatch       = 500

	DefaultWriteTimeout = 2 * time.Minute
)

func (l Limits) withDefaults() Limits {
	l.RequestBytes = orDefault(l.RequestBytes, DefaultRequestBytes)
	l.BodyMemoryBytes = orDefault(l.BodyMemoryBytes, DefaultBodyMemoryBytes)
	l.DocumentBytes = orDefault(l.DocumentBytes, DefaultDocumentBytes)
	l.JSONDepth = orDefault(l.JSONDepth, DefaultJSONDepth)
	l.BulkDocs = orDefault(l.BulkDocs, DefaultBulkDocs)
	l.MultipartParts = orDefault(l.MultipartParts, DefaultMultipartParts)
	l.FeedBatch = orDefault(l.FeedBatch, DefaultFeedBatch)
	l.WriteTimeout = orDefault(l.WriteTimeout, DefaultWriteTimeout)
	return l
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Deps are what a Server is made of.
type Deps struct {
	Gateway *gateway.Gateway
	Config  *config.Startup
	Logger  *slog.Logger // discards if nil
	Version string       // of the product, without the name
	Limits  Limits
	Admins  *access.AdminAccounts // who may log in to the admin and metrics listeners; nil: nobody
	// Replicate serves the connections of /{db}/_blipsync; nil: there is no such URL.
	Replicate ReplicateFunc
	AdminDeps
}

// Server answers HTTP requests for a gateway. It holds no connections: the handlers are mounted by who
// listens.
type Server struct {
	gateway  *gateway.Gateway
	settings config.ServerSettings
	limits   Limits
	log      *slog.Logger
	version  string
	deps     AdminDeps
	backups  chan struct{} // holds one for each backup that is being written
	authn    authState
	diag     *diagnostics

	serverHeader []string // value of the Server header
	jsonHeader   []string // value of Content-Type for JSON

	buffers     bufferPool
	chunks      sync.Pool // of *chunk
	wsBuffers   websocket.Buffers
	heldOutputs atomic.Int64 // outputs not closed yet
	gzips       gzipPool
	bodyMemory  memoryBudget
	feeds       feedSet
	logins      *logins
	replicate   ReplicateFunc
	workers     feedWorkers
	watch       connWatch
}

// NewServer makes a Server.
func NewServer(deps Deps) *Server {
	s := &Server{
		gateway:  deps.Gateway,
		settings: deps.Config.Settings(),
		limits:   deps.Limits.withDefaults(),
		log:      deps.Logger,
		version:  deps.Version,
		deps:     deps.AdminDeps,

		serverHeader: []string{"tidegate/" + deps.Version},
		jsonHeader:   []string{jsonType},
		logins:       newLogins(),
		replicate:    deps.Replicate,
	}
	s.feeds = feedSet{max: s.settings.MaxConcurrentReplications, perUsr: s.settings.MaxReplicationsPerUser, byUser: make(map[feedOwner]int)}
	s.backups = make(chan struct{}, backupsAtOnce)
	s.authn = newAuthState(s.settings, deps.Admins)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.bodyMemory.max = s.limits.BodyMemoryBytes
	s.diag = newDiagnostics(s, deps.Config)
	return s
}

// Public is the handler of the public listener.
func (s *Server) Public() http.Handler { return s.serve(public) }

// Admin is the handler of the admin listener.
func (s *Server) Admin() http.Handler { return s.serve(admin) }

// Metrics is the handler of the metrics listener.
func (s *Server) Metrics() http.Handler { return s.serve(metrics) }
