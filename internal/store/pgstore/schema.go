package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// schemaVersion is that of the tables below. A later one adds a step to migrations. Version 2 has the tables of version 1, and is used by several
// processes at once; those that know version 1 alone must not start beside them.
const schemaVersion = 2

// statements are the texts of all SQL, with the schema's name in them.
type statements struct {
	lock, generation, addGeneration, fence       string
	get, fetch, upsert, remove, removeRange      string
	last, lasts, spaces, setLast, dropSpaces     string
	wrote, written                               string
	lease, renew, release                        string
	scanUp, scanDown                             string
	notify, begin                                string
	createSchema, createTables, version, noteVer string
}

// channel is the LISTEN/NOTIFY channel of a schema. Payloads: "s SPACE SEQUENCE" and "l LEASE NAME".
func channel(schema string) string { return pgx.Identifier{"tidegate_" + schema}.Sanitize() }

func statementsFor(schema string) statements {
	in := func(text string) string {
		return fmt.Sprintf(text, pgx.Identifier{schema}.Sanitize())
	}
	return statements{
		// Who has this row locked is alone in writing, on all nodes, until its transaction has ended and can be seen.
		lock:       in(`SELECT generation FROM %s.writer WHERE id = 1 FOR UPDATE`),
		generation: in(`SELECT generation FROM %s.writer WHERE id = 1`),
		fence: in(`UPDATE %s.writer SET generation = greatest(generation + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
			WHERE id = 1 AND generation = $1 RETURNING generation`),
		get: in(`SELECT k, v FROM %s.kv WHERE k = ANY($1)`),
		// Values beyond the first so many bytes are left out, and said to be.
		fetch:       in(`SELECT k, total <= $2, CASE WHEN total <= $2 THEN v END FROM (SELECT k, v, sum(octet_length(v)) OVER (ORDER BY k) AS total FROM %s.kv WHERE k = ANY($1)) AS f`),
		upsert:      in(`INSERT INTO %s.kv (k, v) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (k) DO UPDATE SET v = excluded.v`),
		remove:      in(`DELETE FROM %s.kv WHERE k = ANY($1)`),
		removeRange: in(`DELETE FROM %s.kv WHERE k >= $1 AND k < $2`),
		last:        in(`SELECT last FROM %s.sequences WHERE space = $1`),
		lasts:       in(`SELECT space, last FROM %s.sequences WHERE space = ANY($1)`),
		spaces:      in(`SELECT space FROM %s.sequences WHERE last > 0 ORDER BY space`),
		setLast:     in(`INSERT INTO %s.sequences (space, last) SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT (space) DO UPDATE SET last = excluded.last`),
		dropSpaces:  in(`DELETE FROM %s.sequences WHERE space >= $1 AND space < $2`),
		wrote:       in(`INSERT INTO %s.writers (node, groups, at) VALUES ($1, $2, now()) ON CONFLICT (node) DO UPDATE SET groups = excluded.groups, at = now()`),
		written:     in(`SELECT groups FROM %s.writers WHERE node = $1`),
		// Epochs of a new row begin with the time in microseconds: rows of leases are in no backup, and what was restored from one may be fenced by
		// epochs that were given out before.
		lease: in(`INSERT INTO %s.leases AS l (name, holder, epoch, expires) VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, clock_timestamp() + $3::bigint * interval '1 microsecond')
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = l.epoch + 1, expires = excluded.expires
			WHERE l.holder = '' OR l.expires < clock_timestamp() RETURNING epoch`),
		renew: in(`UPDATE %s.leases SET expires = clock_timestamp() + $4::bigint * interval '1 microsecond'
			WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires > clock_timestamp()`),
		release:       in(`UPDATE %s.leases SET holder = '' WHERE name = $1 AND holder = $2 AND epoch = $3`),
		scanUp:        in(`SELECT k, v FROM %s.kv WHERE k >= $1 AND ($2::bytea IS NULL OR k < $2) ORDER BY k LIMIT $3`),
		scanDown:      in(`SELECT k, v FROM %s.kv WHERE k >= $1 AND ($2::bytea IS NULL OR k < $2) ORDER BY k DESC LIMIT $3`),
		notify:        `SELECT pg_notify($1, $2)`,
		begin:         `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`,
		createSchema:  in(`CREATE SCHEMA IF NOT EXISTS %s`),
		version:       in(`SELECT max(version) FROM %s.versions`),
		noteVer:       in(`INSERT INTO %s.versions (version) VALUES ($1) ON CONFLICT DO NOTHING`),
		addGeneration: in(`ALTER TABLE %s.writer ADD COLUMN IF NOT EXISTS generation bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`),
		createTables:  fmt.Sprintf(tables, pgx.Identifier{schema}.Sanitize()),
	}
}

// tables are those of versions 1 and 2. The generation of the writer, which version 1 has not, says since when those who opened the store may write (Fence); it
// begins with the time in microseconds, so that a schema that was dropped and made anew has another one. Values are often compressed JSON or small; toasting is left to the server.
const tables = `
CREATE TABLE IF NOT EXISTS %[1]s.versions  (version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS %[1]s.kv        (k bytea PRIMARY KEY, v bytea NOT NULL);
CREATE TABLE IF NOT EXISTS %[1]s.sequences (space bigint PRIMARY KEY, last bigint NOT NULL);
CREATE TABLE IF NOT EXISTS %[1]s.writer    (id bigint PRIMARY KEY, generation bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
CREATE TABLE IF NOT EXISTS %[1]s.writers   (node text PRIMARY KEY, groups bigint NOT NULL, at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS %[1]s.leases    (name text PRIMARY KEY, holder text NOT NULL, epoch bigint NOT NULL, expires timestamptz NOT NULL);
INSERT INTO %[1]s.writer (id) VALUES (1) ON CONFLICT DO NOTHING;
`

// migrationTries is how often two nodes that start at once may get into each other's way.
const migrationTries = 20

// migrate makes the tables. Everything is IF NOT EXISTS, and what PostgreSQL refuses when two do that at once is done again. A schema
// of a later version is refused.
func (s *Store) migrate(ctx context.Context) error {
	for try := 1; ; try++ {
		err := s.tryMigrate(ctx)
		if try == migrationTries || !hasState(err, stateUniqueViolation, stateDuplicateTable, stateDuplicateSchema) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Store) tryMigrate(ctx context.Context) error {
	if _, err := s.others.Exec(ctx, s.sql.createSchema); err != nil {
		return err
	}
	if _, err := s.others.Exec(ctx, s.sql.createTables, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	var version *int64
	if err := s.others.QueryRow(ctx, s.sql.version).Scan(&version); err != nil {
		return err
	}
	if version != nil && *version > schemaVersion {
		return tidegate.Errorf(tidegate.Invalid, "the schema %q was made by a newer version of tidegate (%d; this one knows %d)", s.opts.Schema, *version, schemaVersion)
	}
	err := s.others.QueryRow(ctx, s.sql.generation).Scan(&s.generation)
	if hasState(err, stateUndefinedColumn) { // version 1. Not IF NOT EXISTS at every start: that would wait for all writers
		if _, err = s.others.Exec(ctx, s.sql.addGeneration); err == nil {
			err = s.others.QueryRow(ctx, s.sql.generation).Scan(&s.generation)
		}
	}
	if err != nil {
		return err
	}
	_, err = s.others.Exec(ctx, s.sql.noteVer, schemaVersion)
	return err
}

var _ store.Fencer = (*Store)(nil)

// Fence implements store.Fencer. It waits for a transaction that is under way.
func (s *Store) Fence(ctx context.Context) error {
	err := s.others.QueryRow(ctx, s.sql.fence, s.generation).Scan(&s.generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.ErrFenced
	}
	return translate("fence the store", err)
}
