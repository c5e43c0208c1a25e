package rest

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/websocket"
)

// ReplicateServer makes what speaks the replication protocol for all connections of a process, whoever dialled them. stats,
// if not nil, are the framing's counters.
func ReplicateServer(b config.BLIPSettings, stats *blip.Stats, log *slog.Logger) *replicate.Server {
	return replicate.NewServer(replicate.Options{
		Blip: blip.Options{
			Compression: b.Compression, MaxMessage: b.MessageBytes, MaxPending: b.ReceiveBytes,
			Budget: blip.NewBudget(b.ReceiveBytesTotal), SendQueue: int(b.SendQueueBytes), Pool: blip.NewPool(0), Stats: stats,
		},
		ChangesBatches: b.ChangesBatches, Revs: b.Revs, Logger: log,
	})
}

// Replicator serves the connections of /{db}/_blipsync.
func Replicator(server *replicate.Server, b config.BLIPSettings) ReplicateFunc {
	buffers := new(websocket.Buffers)
	return func(ctx context.Context, conn net.Conn, r Replication) error {
		ws := websocket.Server(websocket.NewStream(conn, nil), websocket.Options{
			ReadLimit: blip.MaxFrame, WriteTimeout: b.SlowReaderTimeout, PingAfter: b.PingInterval, PongTimeout: pongTimeout, Buffers: buffers,
		})
		p := replicate.Peer{
			DB: r.DB, Admin: r.User == nil, ReadOnly: r.ReadOnly, HideMissing: r.HideMissing,
			Version: replicate.Version(r.Version), Gateway: r.Peer != "", Deltas: r.DeltaSync, Needs: r.Needs, Admit: r.Admit,
		}
		if r.User != nil {
			p.User = r.User.PrincipalName()
		}
		return server.Serve(ctx, ws, p)
	}
}

// pongTimeout is how long a pinged client may be silent.
const pongTimeout = 20 * time.Second
