// Package replicate speaks the replication protocol of Couchbase Mobile (replication.md) over a BLIP connection.
//
// A [Server] serves connections; each is a [database.Database] seen by one principal. Two engines do the work, and
// neither knows which end of the connection dialled: a sender offers what the feed of a collection brings and sends
// what the peer asks for; a receiver decides what it wants of what the peer offers and stores what comes.
// DESIGN.md in this folder says how they are put together and what bounds them.
package replicate
