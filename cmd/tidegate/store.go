package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/rest"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/move"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
	"github.com/tidegate/tidegate/internal/store/pgstore"
)

// storeEnv names the store where no flag does: a URL may hold a password, which does not belong on a command line.
const storeEnv = "TIDEGATE_STORE"

// engine is an open store and what comes with it.
type engine struct {
	store.Store
	stats  func() store.Stats
	blobs  blob.Store
	nodeID string
	moves  *move.Source     // of a data directory that is served from
	nodes  *cluster.Cluster // nil: the store is this process's alone
	end    func()           // gives up the right to have it alone; nil if that takes nothing
}

// Close gives the store up and closes it.
func (e *engine) Close() error {
	if e.end != nil {
		e.end()
	}
	return e.Store.Close()
}

// storeURL is the store that is to be used: "" is the one in the data directory.
func storeURL(flag string, getenv env) string {
	if flag == "" {
		flag, _ = getenv(storeEnv)
	}
	return flag
}

// storeOf is the store that a command works on whose --data names another: "" is the one in the data directory. What is on the command line counts before
// the environment.
func storeOf(fs *flag.FlagSet, store string, getenv env) (string, error) {
	data := false
	fs.Visit(func(f *flag.Flag) { data = data || f.Name == "data" })
	switch {
	case data && store != "":
		return "", errTwoStores
	case data:
		return "", nil
	}
	return storeURL(store, getenv), nil
}

var errTwoStores = usageErrorf("say one of --data and --store")

// isPostgres reports whether a store's URL is one of PostgreSQL.
func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// openStore opens the store that serve uses. With PostgreSQL it joins the processes that serve from it.
func (g *gatewayServer) openStore(ctx context.Context) (*engine, error) {
	url := storeURL(g.store, g.getenv)
	switch {
	case url == "":
		return g.openEmbedded(ctx)
	case !isPostgres(url):
		return nil, usageErrorf("--store: a store is named by a URL that begins with postgres://")
	}
	node, err := ownNodeID(g.data)
	if err != nil {
		return nil, err
	}
	e, err := g.openPostgres(ctx, url, node)
	if errors.Is(err, store.ErrFenced) { // fsck, say, was there first, and has ended
		e, err = g.openPostgres(ctx, url, node)
	}
	return e, err
}

func (g *gatewayServer) openPostgres(ctx context.Context, url, node string) (*engine, error) {
	st, err := pgstore.Open(ctx, url, pgstore.Options{Schema: g.storeSchema, Connections: g.storeConnections, Logger: g.log})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := archive.Unfinished(ctx, st); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	nodes, err := g.join(ctx, st, node)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &engine{Store: st, stats: st.Stats, blobs: blob.NewInStore(st, nil), nodeID: node, nodes: nodes}, nil
}

// join makes this process one of those that serve from a store.
func (g *gatewayServer) join(ctx context.Context, st store.Store, node string) (*cluster.Cluster, error) {
	if err := awaitOlder(ctx, st, g.takeover, g.log); err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // for the eyes of an operator
	nodes, err := cluster.Join(ctx, st, cluster.Options{
		NodeID: node, DeadAfter: g.takeover, Beat: min(cluster.DefaultBeat, g.takeover/5), Logger: g.log,
		About: cluster.About{Version: productVersion(), Host: host, PID: os.Getpid(), Public: g.settings.PublicAddr, Admin: g.settings.AdminAddr},
	})
	if err == nil {
		g.log.Info("joined the nodes that serve from the store", "node", node, "nodes", len(nodes.Nodes()))
	}
	return nodes, err
}

func (g *gatewayServer) openEmbedded(ctx context.Context) (*engine, error) {
	st, err := pebblestore.Open(filepath.Join(g.data, storeDir), pebblestore.Options{
		CacheBytes: int64(g.cacheMiB) << 20, MemTableBytes: uint64(g.memTableMiB) << 20, MinFreeBytes: g.minFreeMiB << 20, Logger: g.log,
	})
	if err != nil {
		return nil, err
	}
	blobs, err := blob.OpenFiles(filepath.Join(g.data, blobDir), blob.Options{MinFreeBytes: g.minFreeMiB << 20})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := archive.Unfinished(ctx, st); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := refuseMoved(ctx, st, g.data); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	rec := move.NewRecorder(st)
	e := &engine{Store: rec, stats: st.Stats, blobs: blobs, nodeID: st.NodeID()}
	e.moves = move.NewSource(rec, blobs, func() archive.Header { return header(e.nodeID) }, g.log)
	return e, nil
}

// refuseMoved refuses a data directory whose databases are elsewhere now.
func refuseMoved(ctx context.Context, st store.Store, data string) error {
	m, err := archive.MovedTo(ctx, st)
	if err == nil && m != nil {
		err = fmt.Errorf("everything in %s was moved to %s at %s: start with %s", data, m.To, m.At.Format(time.RFC3339), startFrom(m.To))
	}
	return err
}

// olderLease is held by a process of a version that serves alone. It knows nothing of others, so nobody serves beside it.
const olderLease = "serving"

const defaultTakeover = cluster.DefaultDeadAfter

// awaitOlder waits until no process of a version that serves alone serves from the store. None can start any more: the schema is one of
// this version.
func awaitOlder(ctx context.Context, st store.Store, ttl time.Duration, log *slog.Logger) error {
	soon, cancel := context.WithTimeout(ctx, time.Second)
	lease, err := st.Lease(soon, olderLease, ttl)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		log.Info("a process of an older version serves from the store; standing by until it ends")
		lease, err = st.Lease(ctx, olderLease, ttl)
	}
	if err != nil {
		return err
	}
	lease.Release()
	return nil
}

// backupOf writes an archive of the store for a client. It ends when the process begins to stop, too: it holds a snapshot.
func backupOf(serving context.Context, e *engine) rest.Backup {
	return func(ctx context.Context, w io.Writer) (any, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(serving, cancel)()
		sum, err := archive.Write(ctx, w, header(e.nodeID), e.Store, e.blobs, nil)
		return describe(sum), err
	}
}

// nodeFile holds the id of this node where the store has none of its own.
const nodeFile = "node-id"

// ownNodeID reads the id of this node from the data directory, and makes it at the first start.
func ownNodeID(dir string) (string, error) {
	path := filepath.Join(dir, nodeFile)
	text, err := readLimited(path, 1024)
	if errors.Is(err, fs.ErrNotExist) {
		var id [16]byte
		_, _ = rand.Read(id[:])
		text = hex.AppendEncode(nil, id[:])
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = os.WriteFile(path, append(text, '\n'), 0o600)
		}
	}
	if err != nil {
		return "", fmt.Errorf("read the node's id: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 {
		return "", fmt.Errorf("%s does not hold the id of a node (32 hexadecimal digits)", path)
	}
	return id, nil
}

// openForCheck opens the store that fsck reads: the embedded one read-only, under the lock of its directory; one in PostgreSQL as it
// is, when nobody serves from it.
func openForCheck(ctx context.Context, url, schema, data string, log *slog.Logger) (*engine, error) {
	if url == "" {
		st, err := pebblestore.OpenReadOnly(filepath.Join(data, storeDir), pebblestore.Options{Logger: log})
		if err != nil {
			return nil, err
		}
		files, err := blob.OpenFiles(filepath.Join(data, blobDir), blob.Options{})
		if err != nil {
			return nil, errors.Join(err, st.Close())
		}
		return &engine{Store: st, blobs: files}, nil
	}
	if !isPostgres(url) {
		return nil, usageErrorf("--store: a store is named by a URL that begins with postgres://")
	}
	st, err := pgstore.Open(ctx, url, pgstore.Options{Schema: schema, Connections: 4, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lease, err := cluster.Exclusive(ctx, st)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &engine{Store: st, blobs: blob.NewInStore(st, nil), end: lease.Release}, nil
}
