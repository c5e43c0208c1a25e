// Package devicesync holds the rules of a database's device sync: the states it can be in and the moves between them, its
// configuration, the window of history, what a client's position is worth, and what clients are told while it does not run
// (device-sync.md). It is pure: no clock, no store, no goroutine. The gateway keeps the one row of a database and acts on what
// is decided here; the database, the replicators and the REST API read that row through a [Live].
package devicesync
