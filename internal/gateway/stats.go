package gateway

import (
	"sync/atomic"

	"github.com/tidegate/tidegate/internal/access"
)

// HTTPStats counts requests for a database on the public listener. Counters only grow.
type HTTPStats struct {
	Requests     atomic.Int64
	BytesRead    atomic.Int64 // of bodies, as declared
	BytesWritten atomic.Int64 // of bodies, before compression
}

// HTTP are the counters of requests; whoever serves them counts.
func (r *Running) HTTP() *HTTPStats { return &r.http }

// AuthStats are the counters of logins; they go on counting over reloads.
func (r *Running) AuthStats() access.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := r.auth
	if r.inst != nil {
		total = addAuth(total, r.inst.db.Access().Stats())
	}
	return total
}

func addAuth(a, b access.Stats) access.Stats {
	a.AuthSuccess += b.AuthSuccess
	a.AuthFailed += b.AuthFailed
	a.AuthTime += b.AuthTime
	return a
}
