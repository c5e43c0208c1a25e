// Package job holds the table of legal moves of background work: what state a piece of work is in, and where an event
// takes it. It is pure: no clock, no store, no goroutine. Whoever runs the work asks [Next] and does what follows.
//
// The work is replications (inter-gateway.md §5) and cluster syncs (cluster-sync.md §4), each with a table of its own.
// [Distribute] spreads replications over the nodes that may run them.
package job
