// Package fakemongo is a scripted mongod for tests (shared/spec/cluster-sync.md §24): ordered maps behind the wire protocol. It is there for what
// no test server at hand shows: write blocking, sharded clusters, corners of collMod, privileges, split events, and every fault at
// every call. What it does not need to know it refuses, so that a test notices.
package fakemongo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Options say what server is played. They may be changed between calls with [Server.Script].
type Options struct {
	Version    [4]int          // 8.0.12 if zero
	Wire       int32           // 25 if zero
	SetName    string          // of a replica set; "fake" if empty and neither Sharded nor Standalone
	Standalone bool            // no change streams
	Sharded    bool            // answers as a mongos
	Shards     int             // of a sharded cluster
	Lacks      map[string]bool // commands, stages and options of change streams that it does not have
	Ignores    map[string]bool // options of find and collMod that it takes and forgets
	SplitBytes int             // events larger than this are split; 0: none is
	Status     bson.D          // authInfo of connectionStatus; nil: access control is off
	ShardKeys  map[string]bson.D
	Balancer   string // mode; "off" if empty
	MaxReply   int    // bytes of a batch; 16 MB if 0

	Election   bson.ObjectID    // that made it the primary
	Members    []string         // of the replica set, besides itself
	ShardHosts []string         // as listShards gives them, in place of invented ones
	Formats    map[string]int32 // of indexes, by name, as $collStats tells them
	Warnings   []string         // of validate
}

// BypassApp is the application name whose connections bypass the write block.
const BypassApp = "tidegate clustersync"

// Server is a fake mongod.
type Server struct {
	URI string

	listener net.Listener
	mu       sync.Mutex
	opts     Options
	state    state
	cursors  map[int64]*cursor
	nextID   int64
	changed  chan struct{} // closed and made anew with each event
	conns    map[net.Conn]bool
	calls    map[string]int
	fault    Fault
}

// Start starts a fake and ends it with the test.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{URI: "mongodb://" + l.Addr().String() + "/", listener: l, opts: opts, cursors: map[int64]*cursor{}, changed: make(chan struct{}),
		conns: map[net.Conn]bool{}, calls: map[string]int{}}
	s.state.init()
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		s.accept(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		s.dropConnections()
		<-done
	})
	return s
}

// Script changes how the server behaves.
func (s *Server) Script(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.opts)
}

// Calls returns how often a command came.
func (s *Server) Calls(command string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[command]
}

func (s *Server) accept(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		all.Go(func() {
			defer func() {
				_ = conn.Close()
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			}()
			s.serve(ctx, conn)
		})
	}
}

func (s *Server) dropConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// session is what a connection knows.
type session struct {
	app string
}

// serve answers the messages of a connection until it ends.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	var who session
	for {
		m, err := readMessage(conn)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				return
			}
			return
		}
		answer, drop := s.answer(ctx, &who, m.body)
		if drop {
			return
		}
		if err := m.reply(conn, answer); err != nil {
			return
		}
	}
}

// answer runs a command, through the fault if there is one.
func (s *Server) answer(ctx context.Context, who *session, cmd bson.Raw) (answer bson.Raw, drop bool) {
	elements, err := cmd.Elements()
	if err != nil || len(elements) == 0 {
		return failure(9, "no command"), false
	}
	name := elements[0].Key()
	s.mu.Lock()
	s.calls[name]++
	action := Pass
	if s.fault != nil && !handshake[name] {
		action = s.fault(name, s.calls[name])
	}
	if action.kill {
		s.cursors = map[int64]*cursor{}
	}
	s.mu.Unlock()
	if action.pause(ctx) != nil {
		return nil, true
	}
	switch {
	case action.dropBefore:
		return nil, true
	case action.code != 0:
		return s.withTime(failure(action.code, "injected", action.labels...)), false
	case action.reply != nil:
		return s.withTime(success(action.reply...)), false
	}
	result := s.run(ctx, who, name, cmd)
	if action.dropAfter {
		return nil, true
	}
	return s.withTime(result), false
}

// handshake are the commands of drivers, which no fault hits.
var handshake = map[string]bool{"hello": true, "isMaster": true, "ismaster": true, "endSessions": true}

// withTime adds what every reply of a replica set carries.
func (s *Server) withTime(answer bson.Raw) bson.Raw {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opts.Standalone {
		return answer
	}
	return extend(answer, bson.E{Key: "operationTime", Value: s.state.clock}, bson.E{Key: "$clusterTime", Value: bson.D{{Key: "clusterTime", Value: s.state.clock}}})
}

func extend(doc bson.Raw, more ...bson.E) bson.Raw {
	var d bson.D
	if err := bson.Unmarshal(doc, &d); err != nil {
		panic(err)
	}
	return marshal(append(d, more...))
}

func marshal(v any) bson.Raw {
	raw, err := bson.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("fakemongo: %v", err))
	}
	return raw
}

func failure(code int, message string, labels ...string) bson.Raw {
	d := bson.D{{Key: "ok", Value: 0.0}, {Key: "code", Value: int32(code)}, {Key: "codeName", Value: fmt.Sprintf("Code%d", code)}, {Key: "errmsg", Value: message}}
	if len(labels) > 0 {
		d = append(d, bson.E{Key: "errorLabels", Value: labels})
	}
	return marshal(d)
}

func success(more ...bson.E) bson.Raw {
	return marshal(append(bson.D{{Key: "ok", Value: 1.0}}, more...))
}
