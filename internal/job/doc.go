// Package job holds the table of legal moves of background work: what state a piece of work is in, and where an event
// takes it. It is pure: no clock, no store, no goroutine. Whoever runs the work asks [Next] and does what follows.
//
// So far the work is replications (inter-gateway.md §5).
package job
