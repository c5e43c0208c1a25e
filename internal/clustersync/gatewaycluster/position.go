package gatewaycluster

import (
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// place is a position: for each collection the sequence up to which its feed was followed. It also says which databases and collections
// there were when they were last looked for, so that a stream that goes on from it tells which were made and dropped since.
type place struct {
	// Listed is when that was, in ns since 1970.
	Listed    int64              `bson:"listed"`
	Databases map[string]dbPlace `bson:"databases"`
	// Gone are collections whose database is no more, or is another one now, which is still to be told.
	Gone []goneCollection `bson:"gone,omitempty"`
}

type goneCollection struct {
	Database   string `bson:"db"`
	Collection string `bson:"collection"`
	UUID       string `bson:"uuid"`
}

func (g goneCollection) ref() clustersync.Ref {
	return clustersync.Ref{Namespace: clustersync.Namespace{Database: g.Database, Collection: g.Collection}, UUID: g.UUID}
}

// dbPlace is a place in one database. Its collections are those that it had.
type dbPlace struct {
	Instance    string            `bson:"instance"`
	Collections map[string]uint64 `bson:"collections"`
}

// clone copies what a stream changes.
func (p place) clone() place {
	out := place{Listed: p.Listed, Databases: make(map[string]dbPlace, len(p.Databases)), Gone: slices.Clone(p.Gone)}
	for db, at := range p.Databases {
		colls := make(map[string]uint64, len(at.Collections))
		for name, seq := range at.Collections {
			colls[name] = seq
		}
		out.Databases[db] = dbPlace{at.Instance, colls}
	}
	return out
}

// position writes a place down. Its time is that of the last look, or now if that is known to be good.
func (p place) position(at time.Time) (clustersync.Position, error) {
	raw, err := bson.Marshal(p)
	if err != nil {
		return clustersync.Position{}, fmt.Errorf("encode a position: %w", err)
	}
	return clustersync.Position{Token: raw, Time: timestamp(at)}, nil
}

// timestamp is a time of this machine's clock, in the form of MongoDB's: fractions of a second go into the ordinal.
func timestamp(t time.Time) bson.Timestamp {
	return bson.Timestamp{T: uint32(t.Unix()), I: uint32(t.Nanosecond()/int(time.Microsecond)) + 1}
}

func placeOf(p clustersync.Position) (place, error) {
	var out place
	if p.Token == nil {
		return out, fmt.Errorf("a position without a place: %w", clustersync.ErrHistoryLost)
	}
	if err := bson.Unmarshal(p.Token, &out); err != nil {
		return out, fmt.Errorf("decode a position: %w", err)
	}
	return out, nil
}

// Reached reports whether a stream that came to at has given all up to mark: it looked for databases and collections since then, and has
// followed those that were there, and still are, far enough.
func (c *Cluster) Reached(at, mark clustersync.Position) bool {
	a, err := placeOf(at)
	m, err2 := placeOf(mark)
	if err != nil || err2 != nil || a.Listed < m.Listed {
		return false
	}
	for db, want := range m.Databases {
		have := a.Databases[db]
		if have.Instance != want.Instance {
			continue // it was dropped, which was told
		}
		for name, seq := range want.Collections {
			if got, ok := have.Collections[name]; ok && got < seq {
				return false
			}
		}
	}
	return true
}
