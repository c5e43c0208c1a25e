// Package upgrade holds what earlier versions wrote, and the tests that this version opens it and finds everything (invariant I15).
//
// A fixture is testdata/NAME.tar.gz: a data directory (data/), for a store in PostgreSQL its schema as SQL (dump.sql), and what was to be found
// there by the version that made it (found.json). README.md says how they are made.
package upgrade
