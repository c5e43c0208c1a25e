package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/websocket"
)

// replicationBatch is how many rows a list of changes has: what Couchbase Lite sends and asks for.
const replicationBatch = 200

// errReplicationEnded says that the server ended a replication that was not over.
var errReplicationEnded = errors.New("the server closed the replication")

// wire makes the connections of replications and counts what goes over them.
type wire struct {
	target  *target
	version int
	blip    blip.Options
	buffers websocket.Buffers
	bytes   atomic.Int64 // both ways, WebSocket heads included
}

// newWire prepares for connections of the run's version and compression.
func (b *run) newWire() *wire {
	return &wire{
		target: b.target, version: b.opts.Version,
		blip: blip.Options{Compression: b.opts.Compression, Pool: blip.NewPool(0)},
	}
}

// replicator is a replication client.
type replicator struct {
	conn  *blip.Conn
	ended chan error // why the connection ended
}

// dial connects as the target's user; handle gets what the server asks for.
func (w *wire) dial(ctx context.Context, handle func(*blip.Request)) (*replicator, error) {
	o := websocket.DialOptions{
		Options:      websocket.Options{Buffers: &w.buffers},
		Header:       http.Header{"Authorization": {w.target.auth}},
		Subprotocols: []string{"BLIP_3+CBMobile_" + strconv.Itoa(w.version)},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &countingConn{c, &w.bytes}, err
		},
	}
	ws, _, err := websocket.Dial(ctx, "ws://"+w.target.host()+w.target.path+"/_blipsync", o)
	if err != nil {
		return nil, err
	}
	options := w.blip
	options.Handle = handle
	r := &replicator{conn: blip.NewConn(ws, options), ended: make(chan error, 1)}
	go func() { r.ended <- r.conn.Run() }()
	return r, nil
}

// close says goodbye.
func (r *replicator) close() { r.conn.Close(websocket.CloseNormal, "") }

// subscribe asks for changes after a position.
func (r *replicator) subscribe(ctx context.Context, since string, continuous bool) error {
	m := request("subChanges")
	m.Properties.Add("since", since)
	m.Properties.AddInt("batch", replicationBatch)
	if continuous {
		m.Properties.Add("continuous", "true")
	}
	reply, err := r.conn.Call(ctx, m)
	if err != nil {
		return err
	}
	defer reply.Release()
	return reply.Err()
}

func request(profile string) *blip.Message {
	m := &blip.Message{}
	m.Properties.Add("Profile", profile)
	return m
}

// wantAll answers a list of so many changes: that all are wanted, and nothing of them is known.
func wantAll(r *blip.Request, rows int) {
	m := &blip.Message{Compress: true, Body: make([]byte, 0, 3*rows+1)}
	m.Properties.AddInt("maxHistory", 50)
	for i := range rows {
		m.Body = append(m.Body, "[,"[min(i, 1)], '[', ']')
	}
	m.Body = append(m.Body, ']')
	r.Respond(m)
}

// countingConn counts the bytes of a connection, both ways.
type countingConn struct {
	net.Conn
	bytes *atomic.Int64
}

// Read implements net.Conn.
func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

// transfer runs each replication at the same time and reports what they did together: docs documents in all.
func (b *run) transfer(name string, w *wire, docs int, replications []func() error) error {
	bytes, cpu, start := w.bytes.Load(), processesCPU(b.opts.PIDs), time.Now()
	failed := make(chan error, len(replications))
	for _, replicate := range replications {
		go func() { failed <- replicate() }()
	}
	var err error
	for range replications {
		if e := <-failed; e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	row := Row{
		Name: fmt.Sprintf("%s, CBMobile_%d", name, w.version), Clients: len(replications),
		Value: float64(docs) / time.Since(start).Seconds(), Unit: "docs/s",
		Wire: float64(w.bytes.Load()-bytes) / float64(docs),
	}
	if len(b.opts.PIDs) > 0 {
		row.CPU = (processesCPU(b.opts.PIDs) - cpu) / time.Duration(docs)
	}
	b.add(row)
	return nil
}

// median sorts d.
func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
