// Package clustertest is for tests of cluster sync: a cluster in memory with faults at every call ([Memory]), and the suite that every
// implementation of clustersync.Cluster passes ([Run]).
package clustertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// Memory is a connection to a cluster in memory, as the sync has one: it may do everything, also while users' writes are blocked. [Memory.User]
// is for everybody else, [Memory.Connect] gives another connection to the same cluster, with faults of its own, as a restarted
// sync process has one.
type Memory struct {
	server *server
	faults
}

var _ clustersync.Cluster = (*Memory)(nil)

// Options of a cluster in memory. The zero value is like a MongoDB replica set.
type Options struct {
	Name    string // host; "" is "memory"
	Kind    clustersync.Kind
	History int  // changes kept; 0: all
	NoUUIDs bool // collections are known by name only
	// OplogStyle has every write told as touched and every deletion as maybe, as from a server without change streams.
	OplogStyle bool
	// NoIndexChanges has ModifyIndex and Modify answer ErrUnsupported.
	NoIndexChanges bool
	NoDelta        bool
	NoKeyOrder     bool // RandomKeys answers ErrUnsupported
	NoRename       bool // Rename answers ErrUnsupported, as with tidegate
	NoBlock        bool // BlockWrites answers ErrUnsupported
	// OldIndexes has OldUniqueIndexes find these, and Unchecked nodes it could not look at.
	OldIndexes []clustersync.OldIndex
	Unchecked  []string
	// Info changes what Inspect says.
	Info func(*clustersync.Info)
}

// NewMemory makes an empty cluster.
func NewMemory(opts Options) *Memory {
	if opts.Name == "" {
		opts.Name = "memory"
	}
	if opts.Kind == "" {
		opts.Kind = clustersync.MongoDB
	}
	return &Memory{server: &server{
		opts: opts, collections: map[clustersync.Namespace]*collection{}, changed: make(chan struct{}),
		metadata: metadata{records: map[string]map[string]record{}, leases: map[string]lease{}, leaseOf: map[int64]string{}},
	}}
}

// Connect returns another connection to the same cluster.
func (m *Memory) Connect() *Memory { return &Memory{server: m.server} }

// server is the cluster itself.
type server struct {
	opts Options

	mu          sync.Mutex
	collections map[clustersync.Namespace]*collection
	history     []change
	forgotten   int64          // changes up to this one are not in history any more
	seq         int64          // of the last change or mark
	clock       bson.Timestamp // of the last change or mark
	changed     chan struct{}  // closed and made anew with each of them
	blocked     bool
	uuids       int
	lives       int64 // places of natural reads count in one of them
	metadata    metadata
}

type change struct {
	seq   int64
	at    time.Time
	event clustersync.Event
}

// collection is one namespace. Documents are kept in the order of insertion.
type collection struct {
	uuid    string
	view    bool
	capped  bool
	options bson.Raw
	indexes []bson.Raw
	docs    []clustersync.Document
	where   map[string]int // key's ID → place in docs

	numbers map[string]int64 // key's ID → number of its record, which grows with each insertion
	last    int64
}

func (s *server) now() bson.Timestamp {
	t := uint32(time.Now().Unix())
	if t > s.clock.T {
		s.clock = bson.Timestamp{T: t}
	}
	s.clock.I++
	return s.clock
}

// emit writes an event into the history. The lock is held.
func (s *server) emit(e clustersync.Event) {
	s.seq++
	e.Time = s.now()
	e.At = s.position(s.seq, e.Time)
	e.Bytes = len(e.Doc.Body) + len(e.Delta) + len(e.Doc.Key.Raw)
	if e.Op < clustersync.OpCreate && s.opts.OplogStyle {
		switch e.Op {
		case clustersync.OpDelete:
			e.Maybe = true
		default:
			e.Op, e.Doc.Body, e.Delta = clustersync.OpTouched, nil, nil
		}
	}
	s.history = append(s.history, change{s.seq, time.Now(), e})
	if n := len(s.history) - s.opts.History; s.opts.History > 0 && n > 0 {
		s.forgotten = s.history[n-1].seq
		s.history = slices.Clone(s.history[n:])
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) position(seq int64, t bson.Timestamp) clustersync.Position {
	token, err := bson.Marshal(bson.D{{Key: "seq", Value: seq}})
	if err != nil {
		panic(err) // one integer can be marshalled
	}
	return clustersync.Position{Token: token, Time: t}
}

func (s *server) newCollection(c clustersync.Collection) *collection {
	s.uuids++
	out := &collection{view: c.Type == clustersync.View, options: c.Options, capped: c.Capped, where: map[string]int{}, numbers: map[string]int64{}}
	if capped, ok := c.Options.Lookup("capped").BooleanOK(); ok && capped {
		out.capped = true
	}
	if !out.view && !s.opts.NoUUIDs {
		out.uuid = fmt.Sprintf("%s-%06d", s.opts.Name, s.uuids)
	}
	return out
}

// find returns the collection that ref means: by UUID inside its database if it has one, else by name.
func (s *server) find(ref clustersync.Ref) (clustersync.Namespace, *collection) {
	if ref.UUID == "" {
		c := s.collections[ref.Namespace]
		if c != nil && c.view {
			return ref.Namespace, nil
		}
		return ref.Namespace, c
	}
	for ns, c := range s.collections {
		if c.uuid == ref.UUID && ns.Database == ref.Database {
			return ns, c
		}
	}
	return ref.Namespace, nil
}

func (s *server) ref(ns clustersync.Namespace) clustersync.Ref {
	ref := clustersync.Ref{Namespace: ns}
	if c := s.collections[ns]; c != nil {
		ref.UUID = c.uuid
	}
	return ref
}

// Kind implements clustersync.Cluster.
func (m *Memory) Kind() clustersync.Kind { return m.server.opts.Kind }

// Inspect implements clustersync.Cluster.
func (m *Memory) Inspect(ctx context.Context) (clustersync.Info, error) {
	if _, err := m.begin(ctx, Call{Name: "Inspect"}); err != nil {
		return clustersync.Info{}, err
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	host := s.opts.Name + ":27017"
	info := clustersync.Info{
		Hosts: []string{host}, ID: s.opts.Name, Name: host, Version: "8.0.5", Major: 8,
		Topology: clustersync.ReplicaSet, MongoDB: s.opts.Kind == clustersync.MongoDB, ChangeSource: "changeStream", CanBlock: !s.opts.NoBlock,
	}
	switch {
	case s.opts.Kind == clustersync.Tidegate:
		info.Topology, info.ChangeSource = clustersync.Gateways, "feed"
	case s.opts.OplogStyle:
		info.ChangeSource = "oplog"
	}
	seen := map[string]bool{}
	for ns := range s.collections {
		if !seen[ns.Database] {
			seen[ns.Database] = true
			info.UserDatabases = append(info.UserDatabases, ns.Database)
		}
	}
	slices.Sort(info.UserDatabases)
	if len(s.metadata.records) > 0 {
		info.MetadataDatabases = []string{"mongosync_reserved_for_internal_use"}
	}
	if s.opts.Info != nil {
		s.opts.Info(&info)
	}
	return info, nil
}

// OldUniqueIndexes implements clustersync.IndexFormats: those of the options that it is asked about.
func (m *Memory) OldUniqueIndexes(ctx context.Context, unique map[clustersync.Namespace][]string) (old []clustersync.OldIndex, unchecked []string, err error) {
	if _, err := m.begin(ctx, Call{Name: "OldUniqueIndexes"}); err != nil {
		return nil, nil, err
	}
	for _, x := range m.server.opts.OldIndexes {
		if slices.Contains(unique[x.Namespace], x.Index) {
			old = append(old, x)
		}
	}
	return old, m.server.opts.Unchecked, nil
}

// Ping implements clustersync.Cluster.
func (m *Memory) Ping(ctx context.Context) (time.Duration, error) {
	_, err := m.begin(ctx, Call{Name: "Ping"})
	return time.Millisecond, err
}

// List implements clustersync.Cluster.
func (m *Memory) List(ctx context.Context) ([]clustersync.Collection, error) {
	if _, err := m.begin(ctx, Call{Name: "List"}); err != nil {
		return nil, err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	var out []clustersync.Collection
	for ns, c := range m.server.collections {
		out = append(out, c.listing(ns))
	}
	slices.SortFunc(out, func(a, b clustersync.Collection) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

func (c *collection) listing(ns clustersync.Namespace) clustersync.Collection {
	out := clustersync.Collection{
		Ref: clustersync.Ref{Namespace: ns, UUID: c.uuid}, Type: clustersync.Plain, Options: slices.Clone(c.options),
		Indexes: slices.Clone(c.indexes), Capped: c.capped, Count: int64(len(c.docs)),
	}
	if c.view {
		out.Type = clustersync.View
	} else if _, err := c.options.LookupErr("timeseries"); err == nil {
		out.Type = clustersync.TimeSeries
	}
	for _, d := range c.docs {
		out.Bytes += int64(len(d.Body))
	}
	return out
}

// Metadata implements clustersync.Cluster.
func (m *Memory) Metadata() clustersync.Metadata { return memoryMetadata{m} }

// Close implements clustersync.Cluster. Nothing is to be given back.
func (m *Memory) Close(context.Context) error { return nil }
