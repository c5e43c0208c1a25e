package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/store"
)

// definition is what is stored about a database. It is not changed once made; changes go through with.
type definition struct {
	Name string
	// Space is where its data are; StorageID, the configured bucket or else the name, is what a later
	// database of the same name must have to get them.
	Space     store.Space
	StorageID string

	ServerUUID string    // of the data, 32 hex digits
	SyncEpoch  string    // UUID
	EpochStart time.Time // to the µs

	Created, Updated time.Time
	Generation       uint64 // counts the versions of the config

	// FileHash is the hash of the config file's section that the config was last taken from; "" for one made
	// over the API.
	FileHash string
	// FileHashes are the sections that the nodes had in their files when they last started, by node: files may differ, and the one
	// that was edited last counts.
	FileHashes map[string]string
	// Detached is why the database is not served any more though its data are kept: "" for one that is.
	Detached string

	Collections map[string]store.Collection // by "scope.collection"; numbers are never given twice

	// ResyncDue are the collections, as "scope.collection" and sorted, whose sync function has changed since all of their
	// documents were last routed by one.
	ResyncDue []string

	Config *config.Database // without users and roles, which are in the file alone
}

// Values of definition.Detached.
const (
	detachedByAPI  = "api"  // deleted over the API
	detachedByFile = "file" // no longer in the config file that it came from
)

// record is the stored form of a definition.
type record struct {
	Format      int                         `json:"format"`
	Name        string                      `json:"name"`
	Space       store.Space                 `json:"space"`
	StorageID   string                      `json:"storage_id"`
	ServerUUID  string                      `json:"server_uuid"`
	SyncEpoch   string                      `json:"sync_epoch"`
	EpochStart  int64                       `json:"epoch_start"` // µs since 1970
	Created     time.Time                   `json:"created"`
	Updated     time.Time                   `json:"updated"`
	Generation  uint64                      `json:"generation"`
	FileHash    string                      `json:"file_hash,omitempty"`
	FileHashes  map[string]string           `json:"file_hashes,omitempty"`
	Detached    string                      `json:"detached,omitempty"`
	Collections map[string]store.Collection `json:"collections,omitempty"`
	ResyncDue   []string                    `json:"resync_due,omitempty"`
	Config      json.RawMessage             `json:"config"`
}

// recordFormat is the version of record that this code writes. It reads that and the one before, in which secrets of the
// config stand in the clear.
const (
	recordFormat      = 2
	recordFormatPlain = 1
)

// encode returns the stored form, secrets encrypted unless keys is nil.
func (d *definition) encode(keys *config.Keyring) ([]byte, error) {
	return json.Marshal(record{
		recordFormat, d.Name, d.Space, d.StorageID, d.ServerUUID, d.SyncEpoch, d.EpochStart.UnixMicro(),
		d.Created, d.Updated, d.Generation, d.FileHash, d.FileHashes, d.Detached, d.Collections, d.ResyncDue, d.Config.Seal(keys),
	})
}

// decodeDefinition reads what encode made. Secrets that no key decrypts come locked.
func decodeDefinition(b []byte, keys *config.Keyring) (*definition, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored definition of a database does not make sense: %w", err)
	}
	if r.Format != recordFormat && r.Format != recordFormatPlain {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the definition of database %q has format %d; this version reads %d", r.Name, r.Format, recordFormat)
	}
	cfg, err := config.Decode(r.Config, keys)
	if err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored config of database %q does not make sense: %w", r.Name, err)
	}
	return &definition{
		r.Name, r.Space, r.StorageID, r.ServerUUID, r.SyncEpoch, time.UnixMicro(r.EpochStart).UTC(),
		r.Created, r.Updated, r.Generation, r.FileHash, r.FileHashes, r.Detached, r.Collections, r.ResyncDue, cfg,
	}, nil
}

// version is the config's ETag: it changes with every change of the config.
func (d *definition) version() string {
	sum := sha256.Sum256(d.Config.Masked())
	return fmt.Sprintf("%d-%x", d.Generation, sum[:4])
}

// sameData reports whether two versions of a definition are of the same data.
func (d *definition) sameData(o *definition) bool {
	return d.Space == o.Space && d.SyncEpoch == o.SyncEpoch
}

// sameVersion reports whether two definitions are the same version of one.
func (d *definition) sameVersion(o *definition) bool {
	return d.Generation == o.Generation && d.Detached == o.Detached && d.sameData(o) && slices.Equal(d.ResyncDue, o.ResyncDue) &&
		maps.Equal(d.FileHashes, o.FileHashes)
}

// withConfig returns a copy of the next version with another config. Collections that are new get numbers.
func (d *definition) withConfig(cfg *config.Database, now time.Time) *definition {
	c := *d
	c.Config = strip(cfg)
	c.Config.Name = d.Name
	c.Generation++
	c.Updated = now.UTC().Truncate(time.Millisecond)
	c.Collections = maps.Clone(d.Collections)
	c.numberCollections()
	c.ResyncDue = c.dueAfter(d)
	return &c
}

// dueAfter lists the collections that are due for a resync when d takes the place of old. A collection that comes back
// may hold documents that were routed by any function.
func (d *definition) dueAfter(old *definition) []string {
	was, is := syncSources(old.Config), syncSources(d.Config)
	var due []string
	for key, source := range is {
		before, there := was[key]
		_, back := old.Collections[key]
		if slices.Contains(old.ResyncDue, key) || there && before != source || !there && back {
			due = append(due, key)
		}
	}
	slices.Sort(due)
	return due
}

// syncSources are the sync functions as configured, by collection.
func syncSources(cfg *config.Database) map[string]config.JavaScript {
	sources := map[string]config.JavaScript{}
	if cfg == nil {
		return sources
	}
	for scope, s := range cfg.Scopes {
		for name, c := range s.Collections {
			sources[scope+"."+name] = c.Sync
		}
	}
	const def = config.DefaultName + "." + config.DefaultName
	if cfg.HasDefaultCollection() && sources[def] == "" {
		sources[def] = cfg.Sync
	}
	return sources
}

// strip returns a copy without what is not stored: output-only fields and the principals of a file.
func strip(cfg *config.Database) *config.Database {
	c := cfg.Clone()
	c.CreatedAt, c.UpdatedAt, c.Version, c.SGVersion, c.MetadataID = "", "", "", "", ""
	c.Users, c.Roles = nil, nil
	return c
}

// numberCollections gives numbers to the named collections that have none. A collection keeps its number when
// it is taken out of the config, and has it again when it comes back.
func (d *definition) numberCollections() {
	last := store.Collection(0)
	for _, id := range d.Collections {
		last = max(last, id)
	}
	for _, scope := range slices.Sorted(maps.Keys(d.Config.Scopes)) {
		for _, coll := range slices.Sorted(maps.Keys(d.Config.Scopes[scope].Collections)) {
			if scope == config.DefaultName && coll == config.DefaultName {
				continue // always 0
			}
			key := scope + "." + coll
			if _, known := d.Collections[key]; known {
				continue
			}
			if d.Collections == nil {
				d.Collections = map[string]store.Collection{}
			}
			last++
			d.Collections[key] = last
		}
	}
}

// cutCollection splits a key of definition.Collections: neither name holds a dot.
func cutCollection(key string) (scope, name string, ok bool) { return strings.Cut(key, ".") }

// storageID is what identifies the data of a database besides its name: the bucket of the product.
func storageID(name string, cfg *config.Database) string {
	if cfg.Bucket != "" {
		return cfg.Bucket
	}
	return name
}

// The keys of the gateway in space 0. Detached definitions stand beside the one in use, told apart by their
// storage id.
func definitionKey(name, storageID string) store.Key {
	return store.NewKey(0, store.KindMeta).Name("gateway.database").Name(name).Name(storageID)
}

func definitionPrefix() store.Key { return store.NewKey(0, store.KindMeta).Name("gateway.database") }
func spacesKey() store.Key        { return store.NewKey(0, store.KindMeta).Name("gateway.spaces") }
func clusterKey() store.Key       { return store.NewKey(0, store.KindMeta).Name("gateway.cluster") }
func purgePrefix() store.Key      { return store.NewKey(0, store.KindMeta).Name("gateway.purge") }
func purgeKey(space store.Space) store.Key {
	return purgePrefix().Uint64(uint64(space))
}

// stored is what the store holds about databases.
type stored struct {
	definitions []*definition
	purges      []store.Space // spaces that are being destroyed
	cluster     string        // cluster UUID; "" on the first start
}

// readStored reads the definitions of all databases.
func readStored(ctx context.Context, st store.Store, keys *config.Keyring) (stored, error) {
	var s stored
	err := st.View(ctx, func(r store.Reader) error {
		s = stored{}
		cluster, err := r.Get(clusterKey())
		if err != nil {
			return err
		}
		s.cluster = string(cluster)
		err = scan(r, definitionPrefix(), func(_, value []byte) error {
			d, err := decodeDefinition(value, keys)
			s.definitions = append(s.definitions, d)
			return err
		})
		if err != nil {
			return err
		}
		return scan(r, purgePrefix(), func(rest, _ []byte) error {
			if len(rest) != 8 {
				return tidegate.Errorf(tidegate.Corrupt, "a stored key does not make sense")
			}
			s.purges = append(s.purges, store.Space(binary.BigEndian.Uint64(rest)))
			return nil
		})
	})
	return s, err
}

// scan calls fn with each key under prefix, less the prefix, and its value.
func scan(r store.Reader, prefix store.Key, fn func(rest, value []byte) error) error {
	it := r.Scan(store.Prefix(prefix))
	defer it.Close()
	for it.Next() {
		if err := fn(it.Key()[len(prefix):], it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// newSpace takes a storage id that was never used.
func newSpace(ctx context.Context, st store.Store) (store.Space, error) {
	var space store.Space
	err := st.Update(ctx, func(tx store.Tx) error {
		last, err := tx.Get(spacesKey())
		if err != nil {
			return err
		}
		n := uint32(1)
		if len(last) == 4 {
			n = binary.BigEndian.Uint32(last) + 1
		}
		space = store.Space(n)
		return tx.Put(spacesKey(), binary.BigEndian.AppendUint32(nil, n))
	})
	if err != nil {
		return 0, fmt.Errorf("take a storage id: %w", err)
	}
	return space, nil
}

// newHex returns 32 random hex digits.
func newHex() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
